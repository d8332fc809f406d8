//! When a byte is over: a line's time, in whole bytes.

use std::time::{Duration, Instant};

/// Counts the bytes that a line of some speed can have carried.
///
/// A line that has something to carry is never late: what it carried since it began is counted
/// from there, so an error of one waking is not added to the next.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bytes a second.
    rate: f64,
    /// When the line last began to be busy, and what it has carried since.
    busy: Option<(Instant, u64)>,
    /// Before this it carries nothing.
    held_until: Option<Instant>,
}

impl Bucket {
    /// A line of `baud` bits a second, ten of them for a byte.
    #[must_use]
    pub fn new(baud: u32) -> Self {
        Self { rate: f64::from(baud) / 10.0, busy: None, held_until: None }
    }

    /// There is something to carry, now.
    pub fn begin(&mut self, now: Instant) {
        let from = self.held_until.take().map_or(now, |until| until.max(now));
        self.busy.get_or_insert((from, 0));
    }

    /// How many bytes are over by now, beside those that were taken.
    #[must_use]
    pub fn over(&self, now: Instant) -> u64 {
        self.busy.map_or(0, |(begin, taken)| {
            let time = now.saturating_duration_since(begin).as_secs_f64();
            ((time * self.rate) as u64).saturating_sub(taken)
        })
    }

    /// So many bytes are taken.
    pub fn take(&mut self, bytes: u64) {
        if let Some((_, taken)) = &mut self.busy {
            *taken += bytes;
        }
    }

    /// There is nothing more to carry: the line is idle, and no time is saved for later.
    pub fn idle(&mut self) {
        self.busy = None;
    }

    /// The line stands still until then.
    pub fn hold(&mut self, until: Instant) {
        self.busy = None;
        self.held_until = Some(until);
    }

    /// Whether it is carrying.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// How long until so many bytes are over, beside those that were taken.
    #[must_use]
    pub fn wait(&self, bytes: u64, now: Instant) -> Duration {
        self.busy.map_or(Duration::ZERO, |(begin, taken)| {
            let due = begin + Duration::from_secs_f64((taken + bytes) as f64 / self.rate);
            due.saturating_duration_since(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_line_is_never_late_and_an_idle_one_saves_nothing() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut b = Bucket::new(115_200);
        b.begin(start);
        assert_eq!(b.over(at(1000)), 11_520);
        b.take(11_000);
        assert_eq!((b.over(at(1000)), b.over(at(2000))), (520, 12_040));
        b.idle();
        assert_eq!(b.over(at(5000)), 0);
        b.begin(at(5000));
        assert_eq!(b.over(at(5100)), 1152);
        b.hold(at(6000));
        b.begin(at(5200));
        assert_eq!((b.over(at(6000)), b.over(at(6100))), (0, 1152));
        assert_eq!(b.wait(1152, at(6000)).as_millis(), 100);
    }
}
