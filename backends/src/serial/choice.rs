//! Which records go on the line, when not all do: `newest` and `oldest`, and important ones first.

use std::time::{Duration, Instant};

use super::config::Keep;
use super::lane::Lane;
use super::output::{LEAVE, SerialOutput};

/// Where records were given up so recently, more is recorded than the line carries.
const OVERLOAD: Duration = Duration::from_millis(500);

impl SerialOutput {
    /// New records have come.
    pub(super) fn came_at(&mut self, now: Instant) {
        let gave_up = self.gave_up_at.is_some_and(|at| now - at < OVERLOAD);
        let starved = gave_up && self.in_hand() == 0;
        self.bursts.came(now, self.o.line.idle(now), starved);
    }

    /// Whether older records give way to newer ones just now. At the end there are no newer ones,
    /// but where more was recorded than the line carries the end is as all before it.
    pub(super) fn chooses(&self) -> bool {
        let overload = || self.gave_up_at.is_some_and(|at| at.elapsed() < OVERLOAD);
        let ends = self.ending.is_some() && !overload();
        self.o.keep == Keep::Newest && self.dump.is_none() && !ends
    }

    /// Records of this lane that are kept for its next frame.
    pub(super) fn most(&self, lane: &Lane) -> usize {
        let typical = self.o.encode.typical(lane);
        (typical + typical / 4 + 1).max(lane.fits)
    }

    /// Lets older records of a lane go that newer ones have come for, and makes room for the next
    /// packet.
    pub(super) fn choose(&mut self, place: usize) {
        // Sub-buffers are left no more often than that: until then nothing newer comes.
        let most = self.fits(LEAVE + self.bursts.ahead(), place) as usize;
        let lane = &mut self.lanes[place];
        if lane.in_hand() > most as u64 {
            self.gave_up_at = Some(Instant::now());
        }
        if self.filter.is_active() {
            // What is worth it may be anywhere among what is not.
            while lane.packets() > 0 {
                lane.copy_oldest(&self.decode, self.filter.worths(), most);
            }
            return;
        }
        lane.keep_newest(most as u64, &self.decode);
        while lane.packets() > 0 && lane.packets() >= self.o.memories {
            lane.copy_oldest(&self.decode, self.filter.worths(), most);
        }
    }

    /// At the end: lets go what the line does not carry in the time that is left.
    pub(super) fn choose_last(&mut self, place: usize, left: Duration) {
        let most = self.fits(left, place);
        let lane = &mut self.lanes[place];
        if self.o.keep == Keep::Newest && !self.filter.is_active() {
            lane.keep_newest(most, &self.decode);
        } else if self.o.keep == Keep::Newest {
            while lane.packets() > 0 {
                lane.copy_oldest(&self.decode, self.filter.worths(), most as usize);
            }
        } else if self.o.config.reserve_for.is_some()
            && lane.in_hand() + lane.monitor.books().engine.kept > most
        {
            while lane.packets() > 0 {
                lane.copy_oldest(&self.decode, self.filter.worths(), 0);
            }
        }
    }

    /// In `oldest` the ring loses whatever comes when it is full; so where some records are to
    /// come first, the last quarter of it is theirs: the others are given up until it is free.
    pub(super) fn relieve(&mut self) {
        if !self.reserves() {
            return;
        }
        for lane in &mut self.lanes {
            let (fill, of) = lane.monitor.fill();
            while fill * 4 >= of * 3 && lane.packets() > 0 {
                lane.copy_oldest(&self.decode, self.filter.worths(), 0);
            }
        }
    }

    pub(super) fn reserves(&self) -> bool {
        self.o.keep == Keep::Oldest && self.o.config.reserve_for.is_some()
    }

    /// How many records of a lane the line carries in a time, at a guess.
    pub(super) fn fits(&self, time: Duration, place: usize) -> u64 {
        let lanes = self.lanes.iter().filter(|l| l.in_hand() > 0).count().max(1);
        let bytes = time.as_secs_f64() * self.o.config.bytes_per_second() / lanes as f64;
        let least = self.most(&self.lanes[place]) as u64;
        ((bytes / self.bytes_per_record()) as u64).max(least)
    }

    pub(super) fn bytes_per_record(&self) -> f64 {
        let (records, bytes) = self.carried;
        if records == 0 { 32.0 } else { bytes as f64 / records as f64 }
    }
}
