//! What no record can do without: the floor (a clock read and plain stores into a ring), and the
//! parts of a locked record, in one loop and each alone.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use rbpipe_core::clock;

use crate::peer::{Case, HEADER, Opened, Put, ROOM, header};

/// One for each writer, with nothing to take.
fn own<const N: usize, P: Put<N>>(case: Case, make: impl Fn() -> P) -> Opened<P> {
    Opened::new((0..case.writers()).map(|_| make()).collect(), Vec::new(), usize::MAX)
}

/// A clock read, and plain stores of header and payload into a ring.
pub fn floor<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        let (mut ring, mut at) = (vec![0u8; ROOM], 0);
        move |payload: &[u8; N]| {
            let place = &mut ring[at..at + HEADER + N];
            place[..HEADER].copy_from_slice(&header());
            place[HEADER..].copy_from_slice(payload);
            // Somebody may look at it: the stores cannot be left out.
            black_box(place.as_mut_ptr());
            at += HEADER + N;
            if at > ROOM - HEADER - N {
                at = 0;
            }
            true
        }
    })
}

/// A clock read, a locked compare-and-swap, the copy, a locked add: one after the other, on words
/// on lines of their own.
pub fn parts<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        let (position, committed) = (Line::new(), Line::new());
        let mut ring = vec![0u8; ROOM];
        move |payload: &[u8; N]| {
            let old = position.0.load(Ordering::Acquire);
            black_box(clock::now());
            let new = old + (HEADER + N) as u64;
            let won =
                position.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok();
            let at = (old as usize & (ROOM - 1)).min(ROOM - N);
            let place = &mut ring[at..at + N];
            place.copy_from_slice(payload);
            black_box(place.as_mut_ptr());
            committed.0.fetch_add(N as u64, Ordering::AcqRel);
            won
        }
    })
}

/// A word on a cache line of its own.
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    fn new() -> Box<Self> {
        Box::new(Self(AtomicU64::new(0)))
    }
}

/// The clock alone.
pub fn clock_read<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        |_: &[u8; N]| {
            black_box(clock::now());
            true
        }
    })
}

/// A load and a locked compare-and-swap alone.
pub fn compare_and_swap<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        let word = Line::new();
        move |_: &[u8; N]| {
            let old = word.0.load(Ordering::Acquire);
            black_box(&word.0)
                .compare_exchange(old, old + 1, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        }
    })
}

/// A locked add alone.
pub fn add<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        let word = Line::new();
        move |_: &[u8; N]| {
            black_box(black_box(&word.0).fetch_add(1, Ordering::AcqRel));
            true
        }
    })
}

/// The copy alone, round a ring.
pub fn copy<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, || {
        let (mut ring, mut at) = (vec![0u8; ROOM], 0);
        move |payload: &[u8; N]| {
            let place = &mut ring[at..at + N];
            place.copy_from_slice(payload);
            black_box(place.as_mut_ptr());
            at += 4 + N;
            if at > ROOM - N {
                at = 0;
            }
            true
        }
    })
}
