//! THE SEAM: where a grant becomes a pointer. The crate's unsafe code is here and in the
//! modules below.
//!
//! The writer's side ([`StreamWriter`], [`Reservation`]) knows no backend type: a writer
//! needs a pointer, nothing else. It finds it in a table of base addresses by memory index
//! (the seam's own, not a shared word: addresses are a process's own), stored when the
//! stream is made and at every put before the memory becomes spare again; and it keeps the
//! memories alive through a type-erased `Arc`. The reader's side ([`Stream`], [`Packet`]) is
//! generic over the memory: a packet is given by value, the compare-and-swap is a move of
//! ownership, so an output may unmap, copy and remap in safe code.

use std::any::Any;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::StreamInfo;
use crate::clock;
use crate::frontend::{
    Books, Closing, Frontend, Geometry, Grant, Layout, Line, Lost, MemoryIndex, Mode, PacketFacts,
    Refused, Timestamps,
};
use crate::memory::Publish;
use crate::packet::{PacketHeader, packet_size};
use crate::wake::Wake;

mod import;
#[cfg(all(test, not(any(loom, sim))))]
mod layout;
mod nesting;
mod packet;
mod reader;
mod snapshot;
mod writer;

pub use import::{GivenRecord, ImportWriter};
pub use nesting::{Nested, is_nested};
pub use packet::{Copied, Packet, StreamMonitor};
pub use reader::{Stream, StreamError};
pub use snapshot::{Gathered, LentPacket, Run};
pub use writer::{Reservation, StreamWriter, WriteError};

/// The lines of a stream in the heap.
type Lines = Box<[Line]>;

/// What a stream is made with.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Its sizes; the packet header's is that of `info.class`.
    pub geometry: Geometry,
    /// What a full ring does.
    pub mode: Mode,
    /// Whose clock.
    pub timestamps: Timestamps,
    /// How long a writer waits in block mode; `None`: for ever.
    pub block_timeout: Option<Duration>,
    /// Which deliveries wake the reader.
    pub wake_reader: WakeReader,
}

/// Which deliveries wake a sleeping reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReader {
    /// None: nobody takes packets (a flight recorder).
    Never,
    /// Those that leave the ring half full, not full: the reader has the other half of the
    /// ring as its time. Before that its read timer is soon enough.
    HalfFull,
    /// Every one.
    Always,
}

/// What became of a stream's packets.
#[derive(Debug, Default)]
struct OutputCounts {
    packets: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    failed_records: AtomicU64,
}

/// A stream's books: the engine's and the output's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct StreamBooks {
    pub engine: Books,
    pub bytes: u64,
    pub packets: u64,
    pub output_packets: u64,
    pub output_records: u64,
    pub output_bytes: u64,
    pub failed: u64,
    pub failed_records: u64,
    /// Given timestamps that went back and were raised.
    pub raised: u64,
    /// Records and bytes committed and not delivered yet: for a live display.
    pub underway: (u64, u64),
}

impl StreamBooks {
    /// Records whose packet was overwritten before it was taken: what was recorded and is
    /// neither taken nor kept. Exact once all packets taken have been put back.
    #[must_use]
    pub fn overwritten(&self) -> u64 {
        let taken = self.output_records + self.failed_records;
        self.engine.recorded.saturating_sub(taken + self.engine.kept)
    }
}

/// What deliverers count, once per packet (`raised`: their writer, when it happens).
#[derive(Debug, Default)]
struct Delivered {
    /// Content bytes and packets delivered.
    bytes: AtomicU64,
    packets: AtomicU64,
    raised: AtomicU64,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Apart<T>(T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What writers and reader share of a stream. Each record looks at the first line alone, which
/// nobody writes to while the stream is in use (the counts of the `Arc` that it lies in are on
/// another one); who counts what on the reader's side, and where writers sleep, is apart from it.
#[repr(C, align(64))]
pub(crate) struct StreamCore {
    frontend: Frontend<Lines>,
    /// By memory index; what is stored here was checked to have a sub-buffer's length.
    bases: Box<[AtomicPtr<u8>]>,
    publish: Publish,
    wake_reader: WakeReader,
    /// The thread that has the stream (per-thread streams), as packets name it.
    pub(crate) origin: AtomicU32,
    pub(crate) info: Arc<StreamInfo>,
    block_timeout: Option<Duration>,
    /// Where the reader of the channel sleeps.
    reader: Arc<Wake>,
    /// Keeps every memory that `bases` points into alive for as long as a writer lives.
    memories: Arc<dyn Any + Send + Sync>,
    /// Where writers in block mode sleep.
    space: Apart<Wake>,
    delivered: Apart<Delivered>,
    counts: Apart<OutputCounts>,
    /// The newest packet that is where it belongs: its sequence number, and the losses it tells.
    told: Mutex<(u64, u64)>,
    /// Records in the packets that a snapshot has in its hands just now.
    lent: AtomicU64,
}

/// The memories of a stream, by index: the reader's to take out and put back.
struct Memories<M> {
    slots: Box<[Mutex<Option<M>>]>,
    /// Indices that the table does not name and no packet holds.
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    ready: Vec<MemoryIndex>,
    /// Their memory was retired; they wait for another.
    empty: Vec<MemoryIndex>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StreamCore {
    pub(crate) fn books(&self) -> StreamBooks {
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
        // What a snapshot has in its hands is on its way back: it is kept.
        let lent = load(&self.lent);
        let engine = self.frontend.books();
        StreamBooks {
            engine: Books { kept: engine.kept.saturating_add(lent), ..engine },
            bytes: load(&self.delivered.bytes),
            packets: load(&self.delivered.packets),
            output_packets: load(&self.counts.packets),
            output_records: load(&self.counts.records),
            output_bytes: load(&self.counts.bytes),
            failed: load(&self.counts.failed),
            failed_records: load(&self.counts.failed_records),
            raised: load(&self.delivered.raised),
            underway: self.frontend.underway(),
        }
    }

    pub(crate) fn fill(&self) -> (u64, u64) {
        (self.frontend.fill(), self.frontend.geometry().subbuf_count().into())
    }

    pub(crate) fn switch(&self) {
        // A handler that comes in here must not wait for what is being delivered.
        let _nested = Nested::enter();
        if let Some(closing) = self.frontend.switch(clock::now) {
            self.deliver(closing);
        }
    }

    /// Writes the packet header, whole, and hands the packet over.
    #[cold]
    fn deliver(&self, closing: Closing) {
        let claimed = self.frontend.claim(closing);
        let facts = *claimed.facts();
        let base = self.bases[claimed.memory().get()].load(Ordering::Relaxed);
        // SAFETY: the claim is the one moment of exclusive access to this sub-buffer: all its
        // bytes are committed and it is not delivered yet, so neither a writer nor the reader
        // touches the memory; the header's room was left out of every grant.
        unsafe { self.write_header(&facts, base) };
        self.frontend.publish(claimed);
        let half = || u64::from(self.frontend.geometry().subbuf_count() / 2);
        let wake = match self.wake_reader {
            WakeReader::Never => false,
            WakeReader::HalfFull => self.frontend.fill() >= half(),
            WakeReader::Always => true,
        };
        if wake {
            self.reader.wake();
        }
    }

    /// Stores the header of a packet that is complete, and counts it.
    ///
    /// # Safety
    /// `base` is a memory of this stream's that the caller alone touches.
    unsafe fn write_header(&self, facts: &PacketFacts, base: *mut u8) {
        let size = packet_size(facts.content);
        let info = &*self.info;
        let header = PacketHeader {
            uuid: info.identity.uuid,
            stream_class: info.class,
            stream_class_id: info.identity.first_stream_class + info.class.number(),
            stream_id: info.identity.first_stream + u64::from(info.id),
            begin: facts.begin,
            end: facts.end,
            content_size: facts.content,
            packet_size: size,
            sequence: facts.sequence,
            discarded: facts.lost,
            origin: info.cpu.unwrap_or(facts.origin as u32),
        }
        .encode();
        // SAFETY: the caller's promise; a sub-buffer is larger than its header, and the padding
        // to 8 bytes ends inside it, whose size is a multiple of 8 in all that the seam makes.
        unsafe {
            ptr::copy_nonoverlapping(header.as_ptr(), base, info.class.header_size() as usize);
            let padding = (size - facts.content) as usize;
            ptr::write_bytes(base.add(facts.content as usize), 0, padding);
        }
        self.publish_fence();
        self.delivered.bytes.fetch_add(facts.content, Ordering::Relaxed);
        self.delivered.packets.fetch_add(1, Ordering::Relaxed);
    }

    #[inline(always)]
    fn publish_fence(&self) {
        if self.publish == Publish::Fence {
            std::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    /// What the fast path could not do: reserves, waiting in block mode; counts what is lost:
    /// one record, whatever run it is the first of.
    #[cold]
    fn reserve_slow(&self, layout: &mut impl Layout) -> Result<Grant, WriteError> {
        let Some(_deciding) = self.frontend.deciding() else { return Err(WriteError::Closed) };
        let lost = match self.frontend.reserve(layout) {
            Ok(reserved) => {
                if let Some(closing) = reserved.closing {
                    // Before the record is written: the reader may have it already.
                    self.deliver(closing);
                }
                return Ok(reserved.grant);
            }
            Err(Refused::Closed) => return Err(WriteError::Closed),
            Err(Refused::Lost(lost)) => lost,
        };
        if lost == Lost::Full
            && self.frontend.mode() == Mode::Block
            && !is_nested()
            && let Some(grant) = self.wait_for_space(layout)
        {
            return Ok(grant);
        }
        self.frontend.count_lost(lost, 1);
        Err(WriteError::Lost(lost))
    }

    /// Sleeps until a sub-buffer comes back, at most `block_timeout`.
    fn wait_for_space(&self, layout: &mut impl Layout) -> Option<Grant> {
        // Later than any clock can tell is for ever.
        let deadline = self.block_timeout.and_then(|t| Instant::now().checked_add(t));
        // The reader may sleep with a ring that is not half full by its count.
        self.reader.wake();
        loop {
            let ticket = self.space.prepare();
            match self.frontend.reserve(layout) {
                Ok(reserved) => {
                    if let Some(closing) = reserved.closing {
                        self.deliver(closing);
                    }
                    return Some(reserved.grant);
                }
                // Finalised while it waited: it was offered, so it is lost, `full`.
                Err(Refused::Closed) => return None,
                Err(Refused::Lost(Lost::Full)) => {}
                Err(Refused::Lost(_)) => return None,
            }
            let left = match deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    Some(left)
                }
            };
            self.space.sleep(ticket, left);
        }
    }

    /// Where a grant's bytes go: valid for `grant.len()` bytes until it is committed.
    #[inline(always)]
    fn address(&self, grant: &Grant) -> *mut u8 {
        let base = self.bases[grant.memory().get()].load(Ordering::Relaxed);
        // SAFETY: grants never cross a sub-buffer's end, and `bases` holds memories of a
        // sub-buffer's length only; the table word that named the memory was acquired
        // after its base was stored.
        unsafe { base.add(grant.offset(self.frontend.geometry()) as usize) }
    }

    #[inline(always)]
    fn commit(&self, grant: Grant) {
        self.publish_fence();
        if let Some(closing) = self.frontend.commit(grant) {
            self.deliver(closing);
        }
    }
}
