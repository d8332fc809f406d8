//! How long the line must do with what it is given: records may come in bursts.

use std::time::{Duration, Instant};

/// A line that is idle for less was waited for by nobody: a thread wakes up late. What comes
/// sooner after the last is of the same burst.
const STARVED: Duration = Duration::from_millis(5);
/// Newer records are not expected later than this.
const LATEST: Duration = Duration::from_millis(250);

/// Bursts, as they come. A kernel's ring is read ten times a second: with the newest frame's
/// worth of each burst alone the line would be idle for most of the time.
pub(super) struct Bursts {
    at: Instant,
    ahead: Duration,
}

impl Bursts {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, ahead: Duration::ZERO }
    }

    /// For how long the next records must last.
    pub(super) fn ahead(&self) -> Duration {
        self.ahead
    }

    /// New records have come, and the line had nothing to carry for so long. Where it `starved`
    /// (nothing was in hand either, though others were given up just before), more of the next
    /// burst is kept. A little is taken back with each, so that what arrives is no older than it
    /// must be.
    pub(super) fn came(&mut self, now: Instant, idle: Duration, starved: bool) {
        if now.saturating_duration_since(self.at) < STARVED {
            return;
        }
        self.at = now;
        self.ahead -= self.ahead / 64;
        if starved && idle > STARVED {
            self.ahead = (self.ahead + idle).min(LATEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Bursts, so far apart, on a line that carries what was kept and is idle then.
    fn after(bursts: &mut Bursts, now: &mut Instant, times: u32, apart: Duration) -> Duration {
        for _ in 0..times {
            *now += apart;
            let idle = apart.saturating_sub(bursts.ahead());
            bursts.came(*now, idle, true);
            // The rest of the burst.
            bursts.came(*now + MS, Duration::ZERO, false);
        }
        bursts.ahead()
    }

    #[test]
    fn as_much_is_kept_as_lasts_until_the_next_burst() {
        let mut now = Instant::now();
        let mut bursts = Bursts::new(now);
        assert!(after(&mut bursts, &mut now, 2, 100 * MS) > 95 * MS);
        let kept = after(&mut bursts, &mut now, 100, 100 * MS);
        assert!((93 * MS..=105 * MS).contains(&kept), "{kept:?}");
    }

    #[test]
    fn late_threads_and_lines_without_overload_are_no_bursts() {
        let mut now = Instant::now();
        let mut bursts = Bursts::new(now);
        assert_eq!(after(&mut bursts, &mut now, 100, 4 * MS), Duration::ZERO);
        bursts.came(now + 100 * MS, 100 * MS, false);
        assert_eq!(bursts.ahead(), Duration::ZERO);
    }

    #[test]
    fn it_is_bounded_and_forgotten() {
        let mut now = Instant::now();
        let mut bursts = Bursts::new(now);
        assert_eq!(after(&mut bursts, &mut now, 3, 3000 * MS), LATEST);
        let kept = after(&mut bursts, &mut now, 400, 6 * MS);
        assert!(kept < 10 * MS, "{kept:?}");
    }
}
