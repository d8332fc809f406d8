//! One run of one peer in one case.
//!
//! Records go as fast as they can, in slices; the first ones, until the ring has been gone round
//! once, do not count. Three of four slices are timed as a whole: a run's figure is their median.
//! In the fourth each record is timed alone. A slice in which a record was lost tells nothing of
//! what a record costs; nor does one in which a consumer that polls took nothing: it did not run.
//! Such slices are left out where a tenth of them or more are better; where fewer are, all count.

use std::hint::{black_box, spin_loop};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rbpipe_core::clock;

use crate::machine;
use crate::peer::{Case, Kind, Opened, Put, ROOM, Sink, Take, Taken};

/// Records of a slice.
const SLICE: usize = 1024;
/// Payloads come from this many bytes, each from another place.
const NOISE: usize = 16 << 10;

/// Bytes that payloads are taken from: text, since one peer takes nothing else.
#[must_use]
pub fn noise() -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        // xorshift, Marsaglia 2003.
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b' ' + (x >> 32) as u8 % 95
    };
    (0..NOISE + 256).map(|_| next()).collect()
}

/// The payload of record `i`.
#[inline(always)]
#[must_use]
pub fn payload<const N: usize>(noise: &[u8], i: usize) -> &[u8; N] {
    noise[(i * 64) & (NOISE - 1)..].first_chunk().expect("there is more noise than that")
}

/// What a run has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Nanoseconds of a record.
    pub ns: f64,
    /// Of single records: the median.
    pub median: f64,
    /// Of single records; none where there are too few.
    pub p999: Option<f64>,
    /// Part of all records that were lost.
    pub lost: f64,
}

/// What one writer has found.
#[derive(Default)]
struct Written {
    /// Nanoseconds of a record, and whether it counts.
    slices: Vec<(f64, bool)>,
    single: Vec<u32>,
    offered: u64,
    kept: u64,
}

/// Runs it for so long, on the first two CPUs that this process may use.
///
/// # Panics
/// A peer did not pass on what it had taken.
pub fn run<const N: usize, P: Put<N> + 'static>(
    (name, kind, case): (&str, Kind, Case),
    open: impl Fn(Case) -> Opened<P>,
    time: Duration,
    noise: &[u8],
) -> Found {
    let Opened { puts, takes, taken, room } = open(case);
    let puts = puts.into_iter().map(|p| Box::new(Slices(p)) as Box<dyn Writer>).collect();
    let run =
        Run { case, polls: kind == Kind::Queue, time, noise, warm: ROOM / ((N + 4) * SLICE) + 1 };
    run.run(name, Opened { puts, takes, taken, room })
}

/// The only part that is made anew for each peer: there are many, and they take long to compile.
struct Slices<P, const N: usize>(P);

trait Writer: Send {
    /// Slice number `turn`; when it ended.
    fn slice(&mut self, noise: &[u8], turn: usize, counts: bool, out: &mut Written) -> u64;
}

impl<P: Put<N>, const N: usize> Writer for Slices<P, N> {
    fn slice(&mut self, noise: &[u8], turn: usize, counts: bool, out: &mut Written) -> u64 {
        let (mut kept, from) = (0, turn * SLICE);
        let begin = clock::now();
        let end = if turn % 4 == 3 {
            let single = &mut out.single;
            self.0.slice(|put| {
                let mut now = clock::now();
                for i in from..from + SLICE {
                    kept += u64::from(put.put(payload(noise, i)));
                    let then = std::mem::replace(&mut now, clock::now());
                    if counts {
                        single.push((now - then).min(u64::from(u32::MAX)) as u32);
                    }
                }
            });
            clock::now()
        } else {
            self.0.slice(|put| {
                for i in from..from + SLICE {
                    kept += u64::from(put.put(payload(noise, i)));
                }
            });
            let end = clock::now();
            if counts {
                out.slices.push(((end - begin) as f64 / SLICE as f64, kept == SLICE as u64));
            }
            end
        };
        out.kept += kept;
        out.offered += SLICE as u64;
        end
    }
}

#[derive(Clone, Copy)]
struct Run<'a> {
    case: Case,
    /// Its consumer polls.
    polls: bool,
    time: Duration,
    noise: &'a [u8],
    /// Slices until the ring has been gone round once.
    warm: usize,
}

impl Run<'_> {
    fn run(self, name: &str, opened: Opened<Box<dyn Writer>>) -> Found {
        let Opened { mut puts, mut takes, taken, room } = opened;
        let (ended, before) = (AtomicBool::new(false), taken.records());
        let drained = matches!(self.case, Case::Drained | Case::Flooded);
        let both = Both { barrier: Barrier::default(), takes: Mutex::new(Vec::new()) };
        let last = AtomicBool::new(false);
        let written: Vec<Written> = thread::scope(|scope| {
            if drained {
                let enders: Vec<_> = takes.iter().map(|t| t.ender()).collect();
                let (take, ended, taken) = (&mut takes[0], &ended, &*taken);
                let mut put = puts.pop().expect("a writer");
                let consumer = scope.spawn(|| {
                    machine::pin(1);
                    take.all(ended, taken);
                });
                let writer = scope.spawn(move || {
                    machine::pin(0);
                    let most = (room - room / 4) as u64;
                    let mut then = before;
                    self.alone(&mut *put, &mut |kept| {
                        let now = taken.records();
                        let ran = now != std::mem::replace(&mut then, now);
                        if self.case == Case::Drained {
                            wait_for(taken, (before + kept).saturating_sub(most));
                            then = taken.records();
                        }
                        ran || !self.polls
                    })
                });
                let written = writer.join().expect("the writer");
                ended.store(true, Ordering::Release);
                enders.iter().for_each(|end| end());
                consumer.join().expect("the consumer");
                vec![written]
            } else if self.case == Case::Alone {
                let (put, takes) = (&mut puts[0], &mut takes);
                let writer = scope.spawn(move || {
                    machine::pin(0);
                    self.alone(&mut **put, &mut |_| {
                        empty(takes);
                        true
                    })
                });
                vec![writer.join().expect("the writer")]
            } else {
                *both.takes.lock().expect("nobody has it") = std::mem::take(&mut takes);
                let (both, last) = (&both, &last);
                let threads = puts.iter_mut().enumerate();
                let threads: Vec<_> = threads
                    .map(|(i, put)| scope.spawn(move || self.both(i, &mut **put, both, last)))
                    .collect();
                threads.into_iter().map(|t| t.join().expect("a writer")).collect()
            }
        });
        if drained {
            let kept: u64 = written.iter().map(|w| w.kept).sum();
            let gave = taken.records() - before;
            assert_eq!(gave, kept, "{name} took {kept} records and gave {gave}");
            black_box(taken.sum());
        }
        found(written)
    }

    /// One writer; `between` is told how many were kept, and tells whether the slice counts.
    fn alone(self, put: &mut dyn Writer, between: &mut dyn FnMut(u64) -> bool) -> Written {
        let mut out = Written::default();
        let (end, mut turn, mut now) = (clock::now() + self.time.as_nanos() as u64, 0, 0);
        // Four slices at least: one of each kind.
        while now < end || turn < self.warm + 4 {
            let slices = out.slices.len();
            now = put.slice(self.noise, turn, turn >= self.warm, &mut out);
            let counts = between(out.kept);
            out.slices[slices..].iter_mut().for_each(|slice| slice.1 &= counts);
            turn += 1;
        }
        out
    }

    /// One of two writers whose slices begin together.
    fn both(self, i: usize, put: &mut dyn Writer, both: &Both, last: &AtomicBool) -> Written {
        machine::pin(i);
        let mut out = Written::default();
        let (end, mut turn) = (clock::now() + self.time.as_nanos() as u64, 0);
        loop {
            both.barrier.wait();
            // Told by the first one before the barrier that the other has passed.
            if last.load(Ordering::Acquire) {
                return out;
            }
            let now = put.slice(self.noise, turn, turn >= self.warm, &mut out);
            turn += 1;
            both.barrier.wait();
            if i == 0 {
                empty(&mut both.takes.lock().expect("nobody else empties"));
                last.store(now >= end && turn >= self.warm + 4, Ordering::Release);
            }
        }
    }
}

/// Waits until so many have been taken.
fn wait_for(taken: &Taken, records: u64) {
    let mut spins = 0u32;
    while taken.records() < records {
        spins += 1;
        if spins.is_multiple_of(1 << 12) {
            thread::yield_now();
        }
        spin_loop();
    }
}

fn empty(takes: &mut [Box<dyn Take>]) {
    let mut sink = Sink::default();
    for take in takes {
        while take.some(&mut sink) > 0 {}
    }
    black_box(sink.sum);
}

/// What two writers share.
struct Both {
    barrier: Barrier,
    takes: Mutex<Vec<Box<dyn Take>>>,
}

/// Two threads meet, without a system call while the other one runs.
#[derive(Default)]
struct Barrier {
    come: AtomicUsize,
}

impl Barrier {
    fn wait(&self) {
        let mine = self.come.fetch_add(1, Ordering::AcqRel);
        let both = (mine | 1) + 1;
        let mut spins = 0u32;
        while self.come.load(Ordering::Acquire) < both {
            spins += 1;
            if spins.is_multiple_of(1 << 12) {
                thread::yield_now();
            }
            spin_loop();
        }
    }
}

fn found(written: Vec<Written>) -> Found {
    let offered: u64 = written.iter().map(|w| w.offered).sum();
    let kept: u64 = written.iter().map(|w| w.kept).sum();
    let all: Vec<_> = written.iter().flat_map(|w| &w.slices).collect();
    let mut slices: Vec<f64> = all.iter().filter(|s| s.1).map(|s| s.0).collect();
    if slices.len() * 10 < all.len() {
        slices = all.iter().map(|s| s.0).collect();
    }
    slices.sort_by(f64::total_cmp);
    let mut single: Vec<u32> = written.into_iter().flat_map(|w| w.single).collect();
    single.sort_unstable();
    let clock = machine::clock_ns();
    let single_at = |part: f64| {
        let ns = f64::from(single[(single.len() as f64 * part) as usize]);
        (ns - clock).max(0.0)
    };
    Found {
        ns: slices[slices.len() / 2],
        median: single_at(0.5),
        // Ten that are longer, at least.
        p999: (single.len() >= 10_000).then(|| single_at(0.999)),
        lost: 1.0 - kept as f64 / offered as f64,
    }
}
