//! What this machine can do without a ring: a clock read, the locked operations that a record
//! needs, and the copying of its bytes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use rbpipe_core::clock;

use super::report::{Limits, PayloadLimit, Spread};
use super::writer::noise;

/// The same size as the usual ring.
const RING: usize = 2 << 20;
/// Operations in a slice; the fastest slice counts, since nothing makes one faster than it is.
const OPERATIONS: u32 = 2000;
const SLICES: usize = 8;

/// Measures them again and again, in turns with everything else.
pub struct Measured {
    payloads: Vec<usize>,
    clock: Vec<f64>,
    locked: Vec<f64>,
    copies: Vec<Vec<f64>>,
    ring: Vec<u8>,
    bytes: Vec<u8>,
}

impl Measured {
    /// For records of these sizes.
    pub fn new(payloads: &[usize]) -> Self {
        let longest = payloads.iter().max().copied().unwrap_or(0);
        Self {
            payloads: payloads.to_vec(),
            clock: Vec::new(),
            locked: Vec::new(),
            copies: vec![Vec::new(); payloads.len()],
            ring: vec![1; RING + longest],
            bytes: noise((16 << 10) + longest),
        }
    }

    /// One round; about two milliseconds.
    pub fn round(&mut self) {
        self.clock.push(fastest(|n| (0..n).for_each(|_| _ = black_box(clock::now()))));
        let word = AtomicU64::new(0);
        let swap = fastest(|n| {
            for _ in 0..n {
                let old = word.load(Ordering::Acquire);
                let (set, fail) = (Ordering::AcqRel, Ordering::Acquire);
                let _ = black_box(word.compare_exchange(old, old + 1, set, fail));
            }
        });
        let add = fastest(|n| {
            for _ in 0..n {
                black_box(word.fetch_add(1, Ordering::AcqRel));
            }
        });
        self.locked.push(swap + add);
        for (payload, copies) in self.payloads.iter().zip(&mut self.copies) {
            let (ring, bytes, len) = (&mut self.ring, &self.bytes, *payload);
            let (mut at, mut i) = (0, 0usize);
            copies.push(fastest(|n| {
                for _ in 0..n {
                    // As writers do: out of 16 KiB, round a ring.
                    let from = (i * 64) & ((16 << 10) - 1);
                    ring[at..at + len].copy_from_slice(black_box(&bytes[from..from + len]));
                    // Somebody may look at it: the copy cannot be left out.
                    black_box(&mut *ring);
                    (at, i) = ((at + len + 4) & (RING - 1), i + 1);
                }
            }));
        }
    }

    /// Nanoseconds of a clock read, as known by now.
    pub fn clock_ns(&self) -> f64 {
        Spread::of(self.clock.iter().copied()).unwrap_or_default().median
    }

    /// What was found.
    pub fn limits(&self) -> Limits {
        let spread = |v: &[f64]| Spread::of(v.iter().copied()).unwrap_or_default();
        let payloads = self.payloads.iter().zip(&self.copies).map(|(payload, copies)| {
            let rates: Vec<_> = copies.iter().map(|ns| *payload as f64 / ns * 1e9).collect();
            let (copy_ns, copy_bytes_per_second) = (spread(copies), spread(&rates));
            PayloadLimit { payload: *payload, copy_ns, copy_bytes_per_second }
        });
        Limits {
            clock_ns: spread(&self.clock),
            locked_ns: spread(&self.locked),
            payloads: payloads.collect(),
        }
    }
}

/// Nanoseconds of one operation in the fastest slice.
fn fastest(mut run: impl FnMut(u32)) -> f64 {
    let slice = |_| {
        let begin = clock::now();
        run(OPERATIONS);
        (clock::now() - begin) as f64 / f64::from(OPERATIONS)
    };
    (0..SLICES).map(slice).fold(f64::INFINITY, f64::min)
}
