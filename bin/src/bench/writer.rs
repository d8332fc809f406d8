//! A writer that is measured: records as fast as they go, in slices.
//!
//! Three of four slices are timed as a whole (two clock reads for each, taken off): their median
//! is what a record costs. In the fourth each record is timed alone: the long ones are seen. A
//! slice in which a record was lost tells nothing of what a record costs, and is left out.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbpipe_core::channel::Writer;
use rbpipe_core::class::ClassId;
use rbpipe_core::clock;
use rbpipe_core::frontend::Mode;
use rustix::time::{ClockId, clock_gettime};

use super::case::Case;
use super::histogram::Histogram;
use super::machine;

/// Records between two looks at the clock.
const SLICE: u64 = 256;
/// In block mode each may wait.
const SLICE_OF_WAITS: u64 = 16;
/// Payloads come from this many bytes, each from another place.
const NOISE: usize = 16 << 10;

/// What all writers of a run share.
pub struct Job<'a> {
    /// One for each channel.
    pub writers: &'a [Writer],
    pub classes: &'a [ClassId],
    pub case: &'a Case,
    /// They begin together.
    pub start: &'a Barrier,
    pub time: Duration,
    /// Bytes of records that this writer may write.
    pub most_bytes: u64,
    /// Nanoseconds that a clock read takes.
    pub clock_ns: f64,
    /// Somebody wants it to end.
    pub stop: &'a AtomicBool,
}

/// What a writer found.
pub struct Written {
    /// Nanoseconds of a record in each slice.
    pub slices: Vec<f64>,
    /// Of records alone.
    pub single: Histogram,
    /// Records that it offered.
    pub offered: u64,
    /// CPU seconds of its thread.
    pub cpu_seconds: f64,
    /// How often another thread got its CPU.
    pub pushed_aside: u64,
}

impl Job<'_> {
    /// Runs it on this thread.
    pub fn run(&self) -> Written {
        let case = self.case;
        let noise = noise(NOISE + case.payload);
        self.writers.iter().for_each(Writer::register);
        let size = if case.mode == Mode::Block { SLICE_OF_WAITS } else { SLICE };
        let clock_ns = self.clock_ns.round() as u64;
        let mut out = Written {
            slices: Vec::with_capacity(1 << 16),
            single: Histogram::new(),
            offered: 0,
            cpu_seconds: 0.0,
            pushed_aside: 0,
        };
        let mut record = Turn { job: self, noise: &noise, i: 0 };
        let (mut left, mut turn) = (self.most_bytes / case.payload as u64, 0u32);
        self.start.wait();
        let aside = machine::pushed_aside();
        let (cpu, mut now) = (thread_seconds(), clock::now());
        let end = now + self.time.as_nanos() as u64;
        while (now < end || turn < 4) && left >= size && !self.stop.load(Ordering::Relaxed) {
            let (begin, mut recorded, mut offered) = (clock::now(), 0, 0);
            if turn % 4 == 3 {
                now = begin;
                while offered < size {
                    let fine = record.one();
                    let then = std::mem::replace(&mut now, clock::now());
                    offered += 1;
                    if fine {
                        out.single.add((now - then).saturating_sub(clock_ns));
                        recorded += 1;
                    } else if case.mode == Mode::Block {
                        break;
                    }
                }
            } else {
                while offered < size {
                    let fine = record.one();
                    offered += 1;
                    recorded += u64::from(fine);
                    // It has waited in vain, long enough for one slice.
                    if !fine && case.mode == Mode::Block {
                        break;
                    }
                }
                now = clock::now();
                if recorded == size {
                    let time = (now - begin) as f64 - self.clock_ns;
                    out.slices.push(time.max(0.0) / size as f64);
                }
            }
            out.offered += offered;
            left -= recorded.min(left);
            turn = turn.checked_add(1).unwrap_or(4);
        }
        out.cpu_seconds = thread_seconds() - cpu;
        out.pushed_aside = machine::pushed_aside().saturating_sub(aside);
        out
    }
}

/// One record after the other.
struct Turn<'a> {
    job: &'a Job<'a>,
    noise: &'a [u8],
    i: usize,
}

impl Turn<'_> {
    /// Whether it was recorded.
    #[inline]
    fn one(&mut self) -> bool {
        let Job { writers, classes, case, .. } = self.job;
        let i = self.i;
        self.i = i.wrapping_add(1);
        let from = (i * 64) & (NOISE - 1);
        let payload = &self.noise[from..from + case.payload];
        // A division costs as much as half a record.
        let writer = if writers.len() == 1 { &writers[0] } else { &writers[i % writers.len()] };
        let class = if classes.len() == 1 { classes[0] } else { classes[i % classes.len()] };
        writer.record(class, payload).is_ok()
    }
}

/// Bytes that nothing can make shorter (xorshift, Marsaglia 2003).
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// CPU seconds of this thread.
fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// CPU seconds of this process.
pub fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(id: ClockId) -> f64 {
    let t = clock_gettime(id);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}
