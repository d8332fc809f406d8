//! What the kernel lost on one CPU: each record told once, where the kernel tells the place.
//!
//! In overwrite mode a page that comes after a loss says how many records it was; only if its
//! last bytes were taken does it say no more than that there was one. In discard mode pages
//! say nothing: only `stats` counts. So these are two books: what was overwritten (told by
//! pages, `stats` has the sum) and what was refused (told by `stats` alone).

use super::decoder::Missed;

/// A CPU's `stats`, as far as they concern losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records in the ring.
    pub entries: u64,
    /// Bytes in the ring.
    pub bytes: u64,
    /// Records overwritten, so far.
    pub overrun: u64,
    /// Records refused, so far: the ring was full, or too many interrupts came at once.
    pub refused: u64,
}

impl Stats {
    /// Reads the kernel's text.
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
            line.and_then(|v| v.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        Self {
            entries: value("entries"),
            bytes: value("bytes"),
            overrun: value("overrun"),
            refused: value("dropped events").saturating_add(value("commit overrun")),
        }
    }
}

/// What has been told.
#[derive(Debug, Default)]
pub struct Losses {
    overwritten: u64,
    refused: u64,
    /// Once a page could not say how many: pages are asked no more, `stats` tells.
    by_stats: bool,
    /// Refused records that are to be told when so many more records have been read: a ring is
    /// full of what came before them.
    waiting: Option<(u64, u64)>,
}

impl Losses {
    /// A page says that records before it are missing. `stats` is asked only if it does not say
    /// how many. Gives what is to be told before the page.
    pub fn page(&mut self, missed: Missed, stats: impl FnOnce() -> Option<Stats>) -> u64 {
        match missed {
            Missed::Exactly(n) if !self.by_stats => {
                self.overwritten += n;
                n
            }
            _ => {
                self.by_stats = true;
                stats().map_or(0, |s| self.overwritten_by(s.overrun))
            }
        }
    }

    /// `stats`, before what is in the ring is read.
    pub fn look(&mut self, stats: Stats) {
        if self.waiting.is_none() {
            let more = stats.refused.saturating_sub(self.refused);
            self.waiting = (more > 0).then_some((stats.entries, more));
        }
    }

    /// So many records have been read. Gives what is to be told after them.
    pub fn read(&mut self, records: u64) -> u64 {
        let Some((left, lost)) = &mut self.waiting else { return 0 };
        *left = left.saturating_sub(records);
        if *left > 0 {
            return 0;
        }
        let lost = *lost;
        self.waiting = None;
        self.refused += lost;
        lost
    }

    /// The last `stats`, when nothing more will come: what has not been told yet.
    pub fn end(&mut self, stats: Stats) -> u64 {
        self.waiting = None;
        let refused = stats.refused.saturating_sub(self.refused);
        self.refused += refused;
        refused + self.overwritten_by(stats.overrun)
    }

    fn overwritten_by(&mut self, overrun: u64) -> u64 {
        let more = overrun.saturating_sub(self.overwritten);
        self.overwritten += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(entries: u64, overrun: u64, refused: u64) -> Stats {
        Stats { entries, bytes: 0, overrun, refused }
    }

    #[test]
    fn the_kernels_text_is_read() {
        let text = "entries: 7\noverrun: 1736\ncommit overrun: 2\nbytes: 4\n\
                    oldest event ts:  1.5\nnow ts: 2.5\ndropped events: 3\nread events: 9\n";
        assert_eq!(Stats::parse(text), Stats { bytes: 4, ..stats(7, 1736, 5) });
        assert_eq!(Stats::parse("garbage\nentries: x\n"), Stats::default());
    }

    #[test]
    fn what_pages_told_is_not_told_again() {
        let mut losses = Losses::default();
        assert_eq!(losses.page(Missed::Exactly(10), || None), 10);
        assert_eq!(losses.page(Missed::Exactly(5), || None), 5);
        assert_eq!(losses.end(stats(0, 15, 0)), 0);
        assert_eq!(losses.end(stats(0, 18, 0)), 3, "lost after the last page");
    }

    #[test]
    fn a_page_that_says_no_number_leaves_it_to_stats() {
        let mut losses = Losses::default();
        assert_eq!(losses.page(Missed::Exactly(10), || None), 10);
        assert_eq!(losses.page(Missed::Some, || Some(stats(0, 25, 0))), 15);
        // `stats` may have been ahead of that page: what this one says may be told already.
        assert_eq!(losses.page(Missed::Exactly(4), || Some(stats(0, 27, 0))), 2);
        assert_eq!(losses.end(stats(0, 27, 0)), 0);
    }

    #[test]
    fn refused_records_are_told_after_those_that_filled_the_ring() {
        let mut losses = Losses::default();
        losses.look(stats(100, 0, 7));
        assert_eq!(losses.read(60), 0);
        losses.look(stats(40, 0, 9));
        assert_eq!(losses.read(40), 7);
        assert_eq!(losses.read(10), 0);
        assert_eq!(losses.end(stats(0, 0, 9)), 2);
        losses.look(stats(5, 0, 9));
        assert_eq!(losses.end(stats(0, 0, 9)), 0);
    }
}
