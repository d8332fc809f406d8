//! What no record can do without: the floor (a clock read and plain stores into a ring), and the
//! parts of a locked record, in one loop and each alone.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use rbpipe_core::clock;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::peer::{Case, HEADER, Opened, Put, ROOM, Sink, header};

/// One for each writer, with nothing to take.
fn own<const N: usize, P: Put<N>>(case: Case, make: impl Fn() -> P) -> Opened<P> {
    Opened::new((0..case.writers()).map(|_| make()).collect(), Vec::new(), usize::MAX)
}

/// Bytes of a piece of the floor's ring.
const PIECE: usize = 256 << 10;

/// The writer's end of the floor.
struct Floor {
    piece: Vec<u8>,
    at: usize,
    full: Producer<(Vec<u8>, usize)>,
    empty: Consumer<Vec<u8>>,
}

impl Floor {
    /// Hands the piece over; whether there was another one.
    #[cold]
    fn next(&mut self) -> bool {
        let Ok(piece) = self.empty.pop() else { return false };
        let piece = std::mem::replace(&mut self.piece, piece);
        let at = std::mem::replace(&mut self.at, 0);
        self.full.push((piece, at)).is_ok()
    }
}

impl<const N: usize> Put<N> for Floor {
    #[inline(always)]
    fn put(&mut self, payload: &[u8; N]) -> bool {
        if self.at + HEADER + N > PIECE && !self.next() {
            return false;
        }
        let place = &mut self.piece[self.at..self.at + HEADER + N];
        place[..HEADER].copy_from_slice(&header());
        place[HEADER..].copy_from_slice(payload);
        // Somebody may look at it: the stores cannot be left out.
        black_box(place.as_mut_ptr());
        self.at += HEADER + N;
        true
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // There is room for all pieces.
        let _ = self.full.push((std::mem::take(&mut self.piece), self.at));
    }
}

/// A clock read, and plain stores of header and payload into a ring of pieces, each of which belongs
/// to the writer until it is full, and then to the consumer: what this machine's memory costs.
pub fn floor<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    crate::items::own::<N, _, _>(case, ROOM / (HEADER + N), || {
        let pieces = ROOM / PIECE;
        let (full, mut taken) = RingBuffer::new(pieces);
        let (mut back, empty) = RingBuffer::new(pieces);
        for _ in 1..pieces {
            let _ = back.push(vec![0; PIECE]);
        }
        let take = move |sink: &mut Sink| {
            let Ok((piece, len)): Result<(Vec<u8>, usize), _> = taken.pop() else { return 0 };
            let records = piece[..len].chunks_exact(HEADER + N);
            records.for_each(|r| sink.add(&r[HEADER..]));
            let _ = back.push(piece);
            sink.records as usize
        };
        (Floor { piece: vec![0; PIECE], at: 0, full, empty }, take)
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
