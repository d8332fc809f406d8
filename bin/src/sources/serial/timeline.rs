//! The sender's clock on the clock of the channel that its records go into.
//!
//! A sender says where its monotonic clock's zero lies in the time since the epoch; so does the
//! channel. The difference is added to its records' times. Clocks that are of one run of one
//! machine are left as they are; a sender whose idea of the date is wrong by more than a day (a
//! board without a battery lives in 1970) gets its first record at the moment when it comes.

use std::time::{Duration, Instant};

use rbpipe_core::clock;

/// Offsets that differ by less are those of one clock, measured twice.
const SAME: i128 = 50_000_000;
/// A record that is further away than this from when it comes has a wrong date.
const WRONG: u64 = 24 * 3600 * 1_000_000_000;

/// The clock that a channel's records are told on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// This machine's: records of other sources are there, too.
    Ours,
    /// The first sender's: its times are kept as they are.
    Senders,
}

/// Times of a line's records in their channel.
#[derive(Debug)]
pub struct Timeline {
    clock: Clock,
    /// The channel's: nanoseconds from its zero to the epoch.
    offset: u64,
    /// The present sender's.
    sender: Option<u64>,
    /// What is added to its times, once its first record has come.
    shift: Option<i128>,
    /// The last record's time, and when it came.
    last: Option<(u64, Instant)>,
    /// The date was wrong, by so many seconds: to be said.
    wrong: Option<u64>,
}

impl Timeline {
    /// On this clock, whose zero is so many nanoseconds after the epoch.
    #[must_use]
    pub fn new(clock: Clock, offset: u64) -> Self {
        Self { clock, offset, sender: None, shift: None, last: None, wrong: None }
    }

    /// Another sender, or one that has begun anew.
    pub fn session(&mut self, clock_offset: u64) {
        self.sender = Some(clock_offset);
        self.shift = None;
    }

    /// A record's time in the channel; `None`: none that a trace can tell.
    pub fn record(&mut self, time: u64) -> Option<u64> {
        let shift = self.shift.unwrap_or_else(|| self.decide(time));
        self.shift = Some(shift);
        let time = u64::try_from(i128::from(time) + shift).ok()?;
        // Readers count nanoseconds since the epoch in 63 bits.
        i64::try_from(i128::from(time) + i128::from(self.offset)).ok()?;
        let newest = self.last.is_none_or(|(last, _)| last <= time);
        if newest {
            self.last = Some((time, Instant::now()));
        }
        Some(time)
    }

    /// What is to be added to the times of a sender whose first record has this one.
    fn decide(&mut self, time: u64) -> i128 {
        let offsets = i128::from(self.sender.unwrap_or(self.offset)) - i128::from(self.offset);
        let shift = if offsets.abs() < SAME { 0 } else { offsets };
        let reference = match (self.clock, self.last) {
            (Clock::Ours, _) => clock::now(),
            (Clock::Senders, Some(_)) => self.now(),
            // The trace's clock is this sender's.
            (Clock::Senders, None) => return shift,
        };
        let away = (i128::from(time) + shift).abs_diff(reference.into());
        if away > u128::from(WRONG) {
            self.wrong = u64::try_from(away / 1_000_000_000).ok();
            return i128::from(reference) - i128::from(time);
        }
        shift
    }

    /// By how many seconds a sender's date is wrong, if that has not been asked before.
    pub fn wrong_by(&mut self) -> Option<u64> {
        self.wrong.take()
    }

    /// The time in the channel of what is no record, and comes just now: as long after the last
    /// record as it comes after it. `None`: there has been no record.
    pub fn then(&self) -> Option<u64> {
        let (time, came) = self.last?;
        let since: Duration = came.elapsed();
        Some(time.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The same where something has to be said, whatever has come.
    pub fn now(&self) -> u64 {
        self.then().unwrap_or_else(|| match self.clock {
            Clock::Ours => clock::now(),
            Clock::Senders => {
                clock::now().saturating_add(clock::epoch_offset()).saturating_sub(self.offset)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_first_senders_times_are_kept_and_the_next_ones_are_put_beside_them() {
        let mut t = Timeline::new(Clock::Senders, 1_000 * S);
        assert_eq!(t.then(), None);
        t.session(1_000 * S);
        assert_eq!(t.record(5 * S), Some(5 * S));
        // The same machine, whose offset was measured again.
        t.session(1_000 * S + 1000);
        assert_eq!(t.record(6 * S), Some(6 * S));
        // It was started anew 20 s later: its clock began at 0.
        t.session(1_020 * S);
        assert_eq!(t.record(S), Some(21 * S));
        assert_eq!(t.wrong_by(), None);
    }

    #[test]
    fn a_sender_with_a_wrong_date_is_put_where_it_comes() {
        let mut t = Timeline::new(Clock::Senders, 1_000_000 * S);
        t.session(1_000_000 * S);
        assert_eq!(t.record(5 * S), Some(5 * S));
        // Its clock would have to be before the trace's zero.
        t.session(0);
        let first = t.record(3 * S).unwrap();
        assert!((5 * S..6 * S).contains(&first), "{first}");
        assert_eq!(t.record(4 * S), Some(first + S), "and keeps its pace");
        let by = t.wrong_by().expect("said");
        assert!((1_000_000 - 3..1_000_000 + 3).contains(&by), "{by}");
        assert_eq!(t.wrong_by(), None, "once");
    }

    #[test]
    fn on_our_clock_records_are_about_now() {
        let offset = clock::epoch_offset();
        let mut t = Timeline::new(Clock::Ours, offset);
        // A machine that was started 100 s before this one's clock began.
        t.session(offset - 100 * S);
        let now = clock::now();
        assert_eq!(t.record(now + 100 * S - 7), Some(now - 7));
        // One in 1970.
        t.session(0);
        let first = t.record(10).unwrap();
        assert!(first.abs_diff(clock::now()) < S);
        assert!(t.wrong_by().is_some());
    }

    #[test]
    fn times_that_no_trace_can_tell_are_refused() {
        let mut t = Timeline::new(Clock::Senders, 1_000 * S);
        t.session(1_000 * S);
        assert_eq!(t.record(u64::MAX), None);
        assert_eq!(t.record(1 << 63), None);
        assert_eq!(t.record(S), Some(S));
    }
}
