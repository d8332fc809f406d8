//! One sub-buffer of the kernel's ring buffer, as a `read` of `trace_pipe_raw` gives it: its
//! header, and where its events are. It knows no event formats (`decoder.rs`).
//!
//! ```text
//! u64 time | u64 commit | events …                 | u64 count of lost events, if bit 30
//!            bits 0-26: bytes of events; bit 31: events were lost before the first one
//!
//! event: u32 = 5 bits of type, 27 bits of time since the entry before
//!   1-28  an event of 4 × type bytes
//!   0     a u32 follows: bytes from there on, its own four with them
//!   29    padding. No time: to the end. Else a u32 follows: bytes behind it
//!   30    a u32 follows: bits 27 and up of the time since the entry before
//!   31    a u32 follows: bits 27 to 58 of the time itself; the 27 are its lowest
//! ```
//!
//! Nothing is believed: each step stays in the page and goes on by four bytes at least. All is
//! little-endian, as the kernels are that rbpipe runs on.

/// Bytes before the first event.
pub const HEADER: usize = 16;

const LENGTH: u64 = (1 << 27) - 1;
const MISSED: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// What an absolute time does not carry: the clock's highest five bits.
const ABSENT: u64 = 0xF8 << 56;

/// Events that the kernel overwrote before a page's first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// It does not say how many.
    Some,
    /// So many.
    Exactly(u64),
}

/// What is wrong with a page, and where; the events before it are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of a kernel page: {what}")]
pub struct PageError {
    /// The byte, from the page's first on.
    pub at: usize,
    /// What.
    pub what: Problem,
}

/// See [`PageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Shorter than a header.
    #[error("it ends in its header")]
    Header,
    /// Cut, or no page at all.
    #[error("it ends before its {0} bytes of events do")]
    Cut(usize),
    /// An event or a time without its second word.
    #[error("an event's head goes beyond the last event's end")]
    Head,
    /// An event that is longer than what is left.
    #[error("an event of {0} bytes goes beyond the last event's end")]
    Beyond(u32),
    /// A length that no event has.
    #[error("{0} is no length of an event")]
    Length(u32),
}

/// An event: its time and its bytes, as a range of the page. They begin with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of the instance's clock.
    pub time: u64,
    /// First byte.
    pub from: usize,
    /// Behind the last one.
    pub to: usize,
}

/// Goes through a page's events: positions only.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    at: usize,
    end: usize,
    /// Where the events end by the header, if the page does not reach so far.
    cut: Option<usize>,
    time: u64,
    missed: Option<Missed>,
}

#[inline]
fn word(page: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*page.get(at..)?.first_chunk()?))
}

fn long(page: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*page.get(at..)?.first_chunk()?))
}

impl Cursor {
    /// At a page's first event.
    ///
    /// # Errors
    /// It is shorter than a header.
    pub fn new(page: &[u8]) -> Result<Self, PageError> {
        let (Some(time), Some(commit)) = (long(page, 0), long(page, 8)) else {
            return Err(PageError { at: page.len(), what: Problem::Header });
        };
        let length = (commit & LENGTH) as usize;
        let end = HEADER + length;
        let missed = (commit & MISSED != 0).then(|| {
            // Behind the events, as far as the page reaches.
            let stored = (commit & MISSED_STORED != 0).then(|| long(page, end)).flatten();
            stored.map_or(Missed::Some, Missed::Exactly)
        });
        let cut = (end > page.len()).then_some(length);
        Ok(Self { at: HEADER, end: end.min(page.len()), cut, time, missed })
    }

    /// What was lost before the first event.
    #[must_use]
    pub fn missed(&self) -> Option<Missed> {
        self.missed
    }
    /// The time so far; of a new cursor: the page's.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The next event.
    ///
    /// # Errors
    /// What is wrong with the rest; there is no going on after it.
    #[inline]
    pub fn next(&mut self, page: &[u8]) -> Result<Option<Event>, PageError> {
        // No later step looks behind the events.
        let page = &page[..self.end];
        loop {
            let at = self.at;
            let Some(head) = word(page, at) else { return self.ends() };
            let delta = u64::from(head >> 5);
            let (from, bytes) = match head & 31 {
                n @ 1..=28 => (at + 4, n * 4),
                0 => {
                    let length = self.second(page)?;
                    if length < 4 || length % 4 != 0 {
                        return self.broken(Problem::Length(length));
                    }
                    (at + 8, length - 4)
                }
                29 => {
                    if delta == 0 {
                        self.at = self.end;
                        continue;
                    }
                    let length = self.second(page)?;
                    if length % 4 != 0 {
                        return self.broken(Problem::Length(length));
                    }
                    if length as usize > page.len() - at - 4 {
                        return self.broken(Problem::Beyond(length));
                    }
                    // An event that was taken back keeps its time, which the next one counts
                    // from; 1 stands for none (the kernel never leaves it at 0).
                    if delta != 1 {
                        self.time = self.time.wrapping_add(delta);
                    }
                    // The length counts from the second word on; none at all would be the
                    // first word alone.
                    self.at = at + 4 + length as usize;
                    continue;
                }
                30 => {
                    let high = u64::from(self.second(page)?) << 27;
                    self.time = self.time.wrapping_add(high + delta);
                    self.at = at + 8;
                    continue;
                }
                _ => {
                    let time = u64::from(self.second(page)?) << 27 | delta;
                    self.time = absolute(time, self.time);
                    self.at = at + 8;
                    continue;
                }
            };
            if bytes as usize > page.len() - from {
                return self.broken(Problem::Beyond(bytes));
            }
            self.time = self.time.wrapping_add(delta);
            self.at = from + bytes as usize;
            return Ok(Some(Event { time: self.time, from, to: self.at }));
        }
    }

    #[inline]
    fn second(&self, page: &[u8]) -> Result<u32, PageError> {
        word(page, self.at + 4).ok_or(PageError { at: self.at, what: Problem::Head })
    }

    #[cold]
    fn broken<T>(&self, what: Problem) -> Result<T, PageError> {
        Err(PageError { at: self.at, what })
    }

    #[cold]
    fn ends(&self) -> Result<Option<Event>, PageError> {
        match self.cut {
            Some(length) => self.broken(Problem::Cut(length)),
            None if self.at < self.end => self.broken(Problem::Head),
            None => Ok(None),
        }
    }
}

/// An absolute time with the five bits that it lacks: those of the time before it, and one
/// more where it would lie before that one. A clock that has none of the five loses nothing;
/// there it is taken as it is, as the kernel's own reader does.
fn absolute(time: u64, before: u64) -> u64 {
    if before & ABSENT == 0 {
        return time;
    }
    let time = time | before & ABSENT;
    if time < before { time.wrapping_add(1 << 59) } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(time: u64, flags: u64, words: &[u32]) -> Vec<u8> {
        let mut out = time.to_le_bytes().to_vec();
        out.extend(((words.len() as u64 * 4) | flags).to_le_bytes());
        words.iter().for_each(|w| out.extend(w.to_le_bytes()));
        out
    }

    const fn head(ty: u32, delta: u32) -> u32 {
        ty | delta << 5
    }

    /// Times, and places behind the header.
    fn read(page: &[u8]) -> (Vec<(u64, usize, usize)>, Option<PageError>) {
        let mut out = Vec::new();
        let mut cursor = match Cursor::new(page) {
            Ok(cursor) => cursor,
            Err(e) => return (out, Some(e)),
        };
        loop {
            match cursor.next(page) {
                Ok(Some(e)) => out.push((e.time, e.from - HEADER, e.to - HEADER)),
                Ok(None) => return (out, None),
                Err(e) => return (out, Some(e)),
            }
        }
    }

    #[test]
    fn every_kind_of_entry() {
        let words = [
            head(1, 5), // 0: four bytes
            7,
            head(0, 1), // 8: a length of its own, with its four bytes
            12,
            8,
            9,
            head(30, 3), // 24: a long time
            2,
            head(1, 0),
            7,
            head(29, 1), // 40: padding: its time is none
            4,
            head(29, 50), // 48: an event that was taken back: its time counts
            8,
            0,
            head(2, 1), // 60
            7,
            7,
            head(31, 4), // 72: a time by itself
            100,
            head(1, 1), // 80
            7,
            head(29, 0), // to the end, whatever is there
            0xFFFF_FFFF,
        ];
        let long = 1000 + 6 + 3 + (2 << 27);
        let events = [
            (1005, 4, 8),
            (1006, 16, 24),
            (long, 36, 40),
            (long + 51, 64, 72),
            (4 + (100 << 27) + 1, 84, 88),
        ];
        assert_eq!(read(&page(1000, 0, &words)), (events.to_vec(), None));
    }

    #[test]
    fn an_absolute_time_lacks_five_bits() {
        let below = (1u64 << 59) - 10;
        // Its words: 27 bits in the head, 32 above.
        let at = |time: u64| [head(31, time as u32 & 0x7FF_FFFF), (time >> 27) as u32];
        let time = |begin, words: [u32; 2]| {
            let (events, error) = read(&page(begin, 0, &[words[0], words[1], head(1, 0), 7]));
            assert_eq!(error, None);
            events[0].0
        };
        let high = 0b10110u64 << 59;
        assert_eq!(time(5, at(77)), 77);
        assert_eq!(time(high | 5, at(77)), high | 77);
        // It passed a multiple of 2^59 since the page's time.
        assert_eq!(time(high | below, at(3)), high + (1 << 59) + 3);
        assert_eq!(time(u64::MAX - 9, at(3)), 3, "and of 2^64");
        // No clock but one of more than 18 years has the five; the kernel takes it as it is.
        assert_eq!(time(50, at(20)), 20);
    }

    #[test]
    fn missed_events() {
        let words = [head(1, 0), 7];
        let missed = |bytes: &[u8]| Cursor::new(bytes).unwrap().missed();
        let mut bytes = page(0, MISSED | MISSED_STORED, &words);
        assert_eq!(missed(&bytes), Some(Missed::Some), "the page ends before the count");
        bytes.extend(1736u64.to_le_bytes());
        assert_eq!(missed(&bytes), Some(Missed::Exactly(1736)));
        assert_eq!(read(&bytes).0.len(), 1);
        assert_eq!(missed(&page(0, MISSED, &words)), Some(Missed::Some));
        assert_eq!(missed(&page(0, MISSED_STORED, &words)), None);
        assert_eq!(missed(&page(0, 0, &words)), None);
    }

    #[test]
    fn what_is_wrong_and_where() {
        let good = [head(1, 0), 7];
        let with = |more: &[u32]| {
            let (events, error) = read(&page(0, 0, &[&good[..], more].concat()));
            assert_eq!(events.len(), 1, "the event before it counts");
            error.map(|e| (e.at - HEADER, e.what))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[head(2, 0), 7]), Some((8, Problem::Beyond(8))));
        for ty in [0, 30, 31] {
            assert_eq!(with(&[head(ty, 0)]), Some((8, Problem::Head)), "{ty}");
        }
        assert_eq!(with(&[head(29, 1)]), Some((8, Problem::Head)));
        for length in [0, 1, 3, 5, 7] {
            assert_eq!(with(&[head(0, 0), length, 7]), Some((8, Problem::Length(length))));
        }
        assert_eq!(with(&[head(0, 0), 12, 7]), Some((8, Problem::Beyond(8))));
        assert_eq!(with(&[head(0, 0), u32::MAX - 3, 7]), Some((8, Problem::Beyond(u32::MAX - 7))));
        assert_eq!(with(&[head(29, 1), 6, 7]), Some((8, Problem::Length(6))));
        assert_eq!(with(&[head(29, 1), 12, 7]), Some((8, Problem::Beyond(12))));
        assert_eq!(with(&[head(29, 1), u32::MAX - 3]), Some((8, Problem::Beyond(u32::MAX - 3))));

        let whole = page(0, 0, &[good, good].concat());
        for n in 0..16 {
            let error = PageError { at: n, what: Problem::Header };
            assert_eq!(read(&whole[..n]), (vec![], Some(error)));
        }
        for n in 16..whole.len() {
            let (events, error) = read(&whole[..n]);
            assert_eq!(events.len(), (n - 16) / 8, "{n}");
            assert!(error.is_some(), "{n}");
        }
        let error = read(&whole[..24]).1.unwrap();
        assert_eq!(error, PageError { at: 24, what: Problem::Cut(16) });
        assert_eq!(
            error.to_string(),
            "byte 24 of a kernel page: it ends before its 16 bytes of events do"
        );
    }
}
