//! What the line has carried by now, from the clock alone: a token bucket. The kernel would take
//! four kilobytes and more at once, which is a third of a second of 115200 baud in which nothing
//! newer can come; and a pseudo terminal does not even tell how much it holds.

use std::time::{Duration, Instant};

/// Bytes that were handed over and are not on the line yet.
pub(super) struct Bucket {
    bytes_per_second: f64,
    /// As of `at`.
    queue: f64,
    at: Instant,
    limit: usize,
}

/// A frame is handed over so long before the line needs it: a thread may oversleep, and what is
/// handed over later is newer.
const AHEAD: Duration = Duration::from_millis(10);

impl Bucket {
    /// Of a line that carries so much; at most `limit` bytes are handed over ahead of it.
    pub(super) fn new(bytes_per_second: f64, limit: usize, now: Instant) -> Self {
        Self { bytes_per_second, queue: 0.0, at: now, limit }
    }

    fn queue(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.queue - passed * self.bytes_per_second).max(0.0)
    }

    /// What is handed over and not on the line.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.queue(now).ceil() as usize
    }

    /// How long the line has had nothing to carry.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        Duration::from_secs_f64((passed - self.queue / self.bytes_per_second).max(0.0))
    }

    /// How much may be handed over now.
    pub(super) fn room(&self, now: Instant) -> usize {
        self.limit.saturating_sub(self.waiting(now))
    }

    /// So much was handed over.
    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        self.queue = self.queue(now) + bytes as f64;
        self.at = self.at.max(now);
    }

    /// The device says that it holds so much: its clock is slower than it says.
    pub(super) fn at_least(&mut self, bytes: usize, now: Instant) {
        if bytes > self.waiting(now) {
            self.queue = bytes as f64;
            self.at = self.at.max(now);
        }
    }

    /// When so much is to be handed over: there is room for it (or for all that there can be), and
    /// the line needs it soon.
    pub(super) fn when(&self, bytes: usize) -> Instant {
        let ahead = AHEAD.as_secs_f64() * self.bytes_per_second;
        let most = (self.limit.saturating_sub(bytes) as f64).min(ahead);
        let seconds = (self.queue - most).max(0.0) / self.bytes_per_second;
        // Rounded up: a nanosecond too early there is a byte too little.
        self.at + Duration::from_secs_f64(seconds) + Duration::from_nanos(u64::from(seconds > 0.0))
    }

    /// How long so many bytes take.
    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: never more than the limit ahead of the line, and never later than the line is free.
    /// Method: hands over whenever `when` says, in frames, on a clock of its own.
    #[test]
    fn the_line_is_never_idle_and_never_more_than_the_limit_behind() {
        let begin = Instant::now();
        for baud in [9600.0, 115_200.0, 3_000_000.0] {
            let rate = baud / 10.0;
            let mut bucket = Bucket::new(rate, 512, begin);
            let (mut now, mut sent) = (begin, 0usize);
            for frame in [254usize, 12, 254, 200, 512, 254].into_iter().cycle().take(6000) {
                now = now.max(bucket.when(frame));
                assert!(bucket.room(now) >= frame, "{baud} {frame} {}", bucket.room(now));
                bucket.add(frame, now);
                sent += frame;
                assert!(bucket.waiting(now) <= 512);
            }
            let carried = (now - begin).as_secs_f64() * rate;
            assert!((sent as f64) - carried <= 513.0, "{baud}: {sent} {carried}");
            assert!((sent as f64) >= carried, "{baud}: idle");
        }
    }

    #[test]
    fn time_that_was_overslept_is_no_credit_beyond_the_limit() {
        let begin = Instant::now();
        let bucket = Bucket::new(11_520.0, 512, begin);
        assert_eq!(bucket.room(begin + Duration::from_secs(5)), 512);
    }

    #[test]
    fn a_line_is_idle_from_when_it_has_carried_all() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1000.0, 512, begin);
        bucket.add(100, begin);
        assert_eq!(bucket.idle(begin + Duration::from_millis(90)), Duration::ZERO);
        let idle = bucket.idle(begin + Duration::from_millis(130));
        assert!((idle.as_secs_f64() - 0.03).abs() < 1e-6, "{idle:?}");
    }

    #[test]
    fn a_device_that_is_slower_is_believed() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(11_520.0, 512, begin);
        bucket.add(100, begin);
        bucket.at_least(400, begin);
        assert_eq!((bucket.waiting(begin), bucket.room(begin)), (400, 112));
        bucket.at_least(10, begin);
        assert_eq!(bucket.waiting(begin), 400);
    }
}
