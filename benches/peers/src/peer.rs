//! What a peer is: something that records are put into by one or two threads, and taken from.
//!
//! A record is the same for all: one clock read, a header (time and id), a payload of `N` bytes.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rbpipe_core::clock;

/// Bytes of each queue or ring, at most.
pub const ROOM: usize = 2 << 20;
/// Bytes of a header where it is stored byte by byte.
pub const HEADER: usize = 12;
/// Which kind of event it is. All are of one.
pub const ID: u32 = 7;

/// Who puts and who takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// One thread; nobody takes meanwhile. What cannot overwrite is emptied by the same thread
    /// between two timed slices.
    Alone,
    /// One thread, and a consumer on the other core that keeps up: where a queue is three quarters
    /// full, the writer waits between two timed slices.
    Drained,
    /// The same, and the writer never waits: what is lost?
    Flooded,
    /// Two threads; nobody takes meanwhile.
    Two,
}

impl Case {
    /// How many threads put.
    #[must_use]
    pub fn writers(self) -> usize {
        if self == Self::Two { 2 } else { 1 }
    }
}

/// A record, for queues of items.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record<const N: usize> {
    time: u64,
    id: u32,
    /// The payload.
    pub payload: [u8; N],
}

impl<const N: usize> Record<N> {
    /// Of now.
    #[inline(always)]
    #[must_use]
    pub fn new(payload: &[u8; N]) -> Self {
        Self { time: clock::now(), id: ID, payload: *payload }
    }
}

impl<const N: usize> Default for Record<N> {
    fn default() -> Self {
        Self { time: 0, id: 0, payload: [0; N] }
    }
}

/// How many items fit into [`ROOM`]; a power of two, which some queues want.
#[must_use]
pub const fn items<const N: usize>() -> usize {
    let n = ROOM / size_of::<Record<N>>();
    1 << n.ilog2()
}

/// The header of a record of now, for queues of bytes.
#[inline(always)]
#[must_use]
pub fn header() -> [u8; HEADER] {
    let mut b = [0; HEADER];
    b[..8].copy_from_slice(&clock::now().to_le_bytes());
    b[8..].copy_from_slice(&ID.to_le_bytes());
    b
}

/// What has been taken: every byte of a payload is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sink {
    /// How many.
    pub records: u64,
    /// Of their payloads.
    pub sum: u64,
}

impl Sink {
    /// A record with this payload.
    #[inline(always)]
    pub fn add(&mut self, payload: &[u8]) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(sum(payload));
    }
}

/// What a consumer has taken, for others to look at now and then; on a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Taken {
    records: AtomicU64,
    sum: AtomicU64,
}

impl Taken {
    /// These, too. Release: who sees the records sees their sum.
    pub fn add(&self, more: Sink) {
        self.sum.fetch_add(more.sum, Ordering::Relaxed);
        self.records.fetch_add(more.records, Ordering::Release);
    }
    /// How many by now.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }
    /// The sum of their payloads.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// The sum of a payload's 64-bit words.
#[inline(always)]
#[must_use]
pub fn sum(payload: &[u8]) -> u64 {
    let (words, _) = payload.as_chunks::<8>();
    words.iter().fold(0, |sum, w| sum.wrapping_add(u64::from_le_bytes(*w)))
}

/// A writer's end.
pub trait Put<const N: usize>: Send {
    /// Puts a record with this payload; whether there was room.
    fn put(&mut self, payload: &[u8; N]) -> bool;
    /// Runs a slice of records; what surrounds many of them belongs to it.
    #[inline(always)]
    fn slice<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R
    where
        Self: Sized,
    {
        body(self)
    }
}

impl<const N: usize, F: FnMut(&[u8; N]) -> bool + Send> Put<N> for F {
    #[inline(always)]
    fn put(&mut self, payload: &[u8; N]) -> bool {
        self(payload)
    }
}

/// A consumer's end.
pub trait Take: Send {
    /// Takes what there is, or some of it; how many.
    fn some(&mut self, sink: &mut Sink) -> usize;
    /// Takes all that comes until it is told to end and nothing is left. A queue is polled.
    fn all(&mut self, ended: &AtomicBool, taken: &Taken) {
        loop {
            // Acquire: what was put before the end is seen below.
            let last = ended.load(Ordering::Acquire);
            let mut sink = Sink::default();
            if self.some(&mut sink) > 0 {
                taken.add(sink);
            } else if last {
                return;
            } else {
                (0..16).for_each(|_| spin_loop());
            }
        }
    }
    /// What else tells it to end.
    fn ender(&self) -> Box<dyn Fn() + Send> {
        Box::new(|| ())
    }
}

impl<F: FnMut(&mut Sink) -> usize + Send> Take for F {
    fn some(&mut self, sink: &mut Sink) -> usize {
        self(sink)
    }
}

/// A peer that has been opened.
pub struct Opened<P> {
    /// One for each writer.
    pub puts: Vec<P>,
    /// What has to be emptied; nothing where new records overwrite old ones.
    pub takes: Vec<Box<dyn Take>>,
    /// What has been taken by a consumer.
    pub taken: Arc<Taken>,
    /// How many records fit in, for each writer.
    pub room: usize,
}

impl<P> Opened<P> {
    /// Of these, for so many records.
    #[must_use]
    pub fn new(puts: Vec<P>, takes: Vec<Box<dyn Take>>, room: usize) -> Self {
        Self { puts, takes, taken: Arc::default(), room }
    }
}

/// What kind of peer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rbpipe.
    Ours,
    /// What memory and a clock read cost, which nothing can do without.
    Floor,
    /// A part of it, which passes nothing on.
    Limit,
    /// A queue.
    Queue,
    /// Has a thread of its own that takes: it is never alone.
    Worker,
}

impl Kind {
    /// Whether it can be measured so.
    #[must_use]
    pub fn has(self, case: Case) -> bool {
        match self {
            Self::Ours | Self::Queue => true,
            Self::Floor => case != Case::Flooded,
            Self::Limit => matches!(case, Case::Alone | Case::Two),
            Self::Worker => matches!(case, Case::Drained | Case::Flooded),
        }
    }
}

/// Goes through the peers.
pub trait Visit<const N: usize> {
    /// Called once for each.
    fn peer<P: Put<N> + 'static>(
        &mut self,
        name: &'static str,
        kind: Kind,
        open: impl Fn(Case) -> Opened<P>,
    );
}
