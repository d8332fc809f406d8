//! THE SEAM: where a grant becomes a pointer. The crate's unsafe code is here.
//!
//! The writer's side ([`StreamWriter`], [`Reservation`]) knows no backend type: a writer
//! needs a pointer, nothing else. It finds it in a table of base addresses by memory index
//! (the seam's own, not a shared word: addresses are a process's own), stored when the
//! stream is made and at every put before the memory becomes spare again; and it keeps the
//! memories alive through a type-erased `Arc`. The reader's side ([`Stream`], [`Packet`]) is
//! generic over the memory: a packet is given by value, the compare-and-swap is a move of
//! ownership, so an output may unmap, copy and remap in safe code.

use std::any::Any;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::{BackendError, StreamInfo};
use crate::class::ClassId;
use crate::clock;
use crate::frontend::{
    Books, Closing, Frontend, Geometry, Grant, Layout, Line, Lost, Measure, MemoryIndex, Mode,
    NotNow, PacketFacts, Position, Refused, StateError, Timestamps,
};
use crate::memory::{Memory, Publish, ReadMemory};
use crate::packet::{self, PacketHeader, RecordHeader};
use crate::wake::Wake;

mod nesting;
pub use nesting::{Nested, is_nested};

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

/// What writers and reader share of a stream.
pub(crate) struct StreamCore {
    frontend: Frontend<Lines>,
    /// By memory index; what is stored here was checked to have a sub-buffer's length.
    bases: Box<[AtomicPtr<u8>]>,
    publish: Publish,
    pub(crate) info: Arc<StreamInfo>,
    block_timeout: Option<Duration>,
    wake_reader: WakeReader,
    /// Where the reader of the channel sleeps.
    reader: Arc<Wake>,
    /// Where writers in block mode sleep.
    space: Wake,
    /// The thread that has the stream (per-thread streams), as packets name it.
    pub(crate) origin: AtomicU32,
    counts: OutputCounts,
    /// Content bytes and packets delivered.
    bytes: AtomicU64,
    packets: AtomicU64,
    raised: AtomicU64,
    /// Keeps every memory that `bases` points into alive for as long as a writer lives.
    #[expect(dead_code, reason = "held, never looked at")]
    memories: Arc<dyn Any + Send + Sync>,
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

/// The reader's side of a stream: one value, one reader.
pub struct Stream<M: Memory> {
    core: Arc<StreamCore>,
    memories: Arc<Memories<M>>,
    retired_said: bool,
    /// What the last packet that was taken told: losses, and its end.
    told: (u64, u64),
}

/// Why a stream could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The backend has no memory for it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A memory that is not ready or has another length.
    #[error("the backend gave a memory of {found} bytes (ready: {ready}), not {needed}")]
    #[expect(missing_docs, reason = "named by the message")]
    Memory { found: usize, needed: usize, ready: bool },
    /// The frontend's state.
    #[error(transparent)]
    State(#[from] StateError),
}

impl<M: Memory> Stream<M> {
    /// Makes a stream; `memory` is asked once for each of its memories.
    ///
    /// # Errors
    /// No memory, or memory of another length than the geometry's.
    pub fn new(
        info: Arc<StreamInfo>,
        options: &StreamOptions,
        reader: Arc<Wake>,
        mut memory: impl FnMut() -> Result<M, BackendError>,
    ) -> Result<Self, StreamError> {
        let g = options.geometry;
        let needed = Frontend::<Lines>::lines_needed(g);
        let lines: Lines = std::iter::repeat_with(Line::default).take(needed).collect();
        let frontend = Frontend::new(lines, g, options.mode, options.timestamps)?;
        let mut bases = Vec::with_capacity(g.memories() as usize);
        let mut slots = Vec::with_capacity(g.memories() as usize);
        for _ in 0..g.memories() {
            let made = memory()?;
            let base = usable(&made, g).ok_or_else(|| StreamError::Memory {
                found: made.len(),
                needed: g.subbuf_size() as usize,
                ready: made.base().is_some(),
            })?;
            if info.prefault {
                prefault(&made, base);
            }
            bases.push(AtomicPtr::new(base));
            slots.push(Mutex::new(Some(made)));
        }
        let ready = (g.subbuf_count()..g.memories()).map(MemoryIndex::new).rev().collect();
        let memories = Arc::new(Memories {
            slots: slots.into(),
            spare: Mutex::new(Spare { ready, empty: Vec::new() }),
        });
        let core = Arc::new(StreamCore {
            frontend,
            bases: bases.into(),
            publish: M::PUBLISH,
            info,
            block_timeout: options.block_timeout,
            wake_reader: options.wake_reader,
            reader,
            space: Wake::new(),
            origin: AtomicU32::new(0),
            counts: OutputCounts::default(),
            bytes: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            memories: Arc::clone(&memories) as Arc<dyn Any + Send + Sync>,
        });
        Ok(Self { core, memories, retired_said: false, told: (0, 0) })
    }

    pub(crate) fn core(&self) -> &Arc<StreamCore> {
        &self.core
    }

    /// Who it is.
    pub fn info(&self) -> &Arc<StreamInfo> {
        &self.core.info
    }

    /// A writer that uses this stream whatever thread it runs on.
    pub fn writer(&self) -> StreamWriter {
        StreamWriter { core: Arc::clone(&self.core) }
    }

    /// The books as they stand.
    pub fn books(&self) -> StreamBooks {
        self.core.books()
    }

    /// Takes the oldest delivered packet, if there is one and a memory to put in its place.
    pub fn get(&mut self) -> Option<Packet<M>> {
        let spare = lock(&self.memories.spare).ready.pop()?;
        match self.core.frontend.get(spare) {
            Ok(held) => {
                self.core.space.wake();
                self.told = (held.facts().lost, held.facts().end);
                Some(self.packet(held.memory(), *held.facts()))
            }
            Err(NotNow::Empty | NotNow::NotDelivered) => {
                lock(&self.memories.spare).ready.push(spare);
                None
            }
        }
    }

    /// The packet in the memory of this index, which is the reader's.
    fn packet(&self, index: MemoryIndex, facts: PacketFacts) -> Packet<M> {
        let memory = lock(&self.memories.slots[index.get()]).take();
        debug_assert!(memory.is_some(), "a packet's memory is in its slot");
        Packet {
            memory,
            index,
            facts,
            core: Arc::clone(&self.core),
            memories: Arc::clone(&self.memories),
            written: None,
        }
    }

    /// On a finalised and drained stream: one more packet, without records, if losses have
    /// not been told yet. It lies in a memory of the reader's and never was in the ring.
    pub fn last_words(&mut self) -> Option<Packet<M>> {
        let (lost, end) = self.told;
        let facts = self.core.frontend.last_words(lost, end, clock::now)?;
        let index = lock(&self.memories.spare).ready.pop()?;
        let base = self.core.bases[index.get()].load(Ordering::Relaxed);
        // SAFETY: the memory is spare: the table does not name it, so no writer has it, and no
        // packet holds it; this value is the stream's one reader.
        unsafe { self.core.write_header(&facts, base) };
        self.told = (facts.lost, facts.end);
        Some(self.packet(index, facts))
    }

    /// The end of what is reserved by now, to be asked about later with [`Stream::is_past`].
    pub fn mark(&self) -> Position {
        self.core.frontend.write_position()
    }

    /// Whether all up to a mark has been taken or overwritten.
    pub fn is_past(&self, mark: Position) -> bool {
        mark.from(self.core.frontend.consumed()) <= 0
    }

    /// Whether there is a packet, but no memory to put in its place.
    pub fn wants_memory(&self) -> bool {
        lock(&self.memories.spare).ready.is_empty() && self.core.frontend.has_packet()
    }

    /// Whether `get` would find a packet and a memory to put in its place.
    pub fn has_packet(&self) -> bool {
        !lock(&self.memories.spare).ready.is_empty() && self.core.frontend.has_packet()
    }

    /// Leaves the part-filled sub-buffer, so that its packet can be taken.
    pub fn switch(&self) {
        self.core.switch();
    }

    /// Ends the stream: no record after this. Waiting writers are woken and lose, `full`.
    pub fn finalise(&self) {
        if let Some(closing) = self.core.frontend.finalise(clock::now) {
            self.core.deliver(closing);
        }
        self.core.space.wake();
    }

    /// See [`Frontend::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.core.frontend.is_settled()
    }

    /// See [`Frontend::oldest_undelivered`].
    pub fn oldest_undelivered(&self) -> Option<Position> {
        self.core.frontend.oldest_undelivered()
    }

    /// See [`Frontend::pass_over`].
    pub fn pass_over(&mut self) -> Option<u64> {
        self.core.frontend.pass_over()
    }

    /// See [`Frontend::pass_over_all`].
    pub fn pass_over_all(&mut self) -> Option<u64> {
        self.core.frontend.pass_over_all()
    }

    /// See [`Frontend::empty_packet`]; true: there is one to be taken.
    pub fn empty_packet(&self) -> bool {
        let Some(closing) = self.core.frontend.empty_packet(clock::now) else { return false };
        self.core.deliver(closing);
        true
    }

    /// How many memories were retired and have not been replaced yet.
    pub fn missing(&self) -> usize {
        lock(&self.memories.spare).empty.len()
    }

    /// Replaces retired memories. Gives what the first one that fails says; asked again
    /// later. `said`: whether a retirement has been told before.
    ///
    /// # Errors
    /// No memory to be had.
    pub fn refill(
        &mut self,
        mut memory: impl FnMut() -> Result<M, BackendError>,
    ) -> Result<bool, StreamError> {
        let g = self.core.frontend.geometry();
        loop {
            let Some(index) = lock(&self.memories.spare).empty.pop() else { break };
            let made = memory().map_err(StreamError::from).and_then(|m| match usable(&m, g) {
                Some(base) => Ok((m, base)),
                None => Err(StreamError::Memory {
                    found: m.len(),
                    needed: g.subbuf_size() as usize,
                    ready: m.base().is_some(),
                }),
            });
            match made {
                Ok((made, base)) => {
                    self.core.bases[index.get()].store(base, Ordering::Relaxed);
                    *lock(&self.memories.slots[index.get()]) = Some(made);
                    lock(&self.memories.spare).ready.push(index);
                }
                Err(e) => {
                    lock(&self.memories.spare).empty.push(index);
                    return Err(e);
                }
            }
        }
        Ok(std::mem::replace(&mut self.retired_said, true))
    }
}

impl<M: Memory> Drop for Stream<M> {
    /// Nobody will read any more (the drain ended, or panicked): writers are told, and those
    /// that wait for room are let go.
    fn drop(&mut self) {
        self.finalise();
    }
}

/// The base address, if the memory is ready and has a sub-buffer's length.
fn usable<M: Memory>(memory: &M, g: Geometry) -> Option<*mut u8> {
    let base = memory.base()?;
    (memory.len() as u64 == g.subbuf_size()).then_some(base.as_ptr())
}

/// Writes one byte on each page, so that no writer meets a page fault. (`fallocate` and
/// `madvise` do not map pages in; LTTng found that out in 2025.)
fn prefault<M: Memory>(memory: &M, base: *mut u8) {
    for at in (0..memory.len()).step_by(4096) {
        // SAFETY: `Memory` allows stores to `len()` bytes from `base`; the stream is being
        // made, nobody else has the memory.
        unsafe { base.add(at).write_volatile(0) };
    }
}

impl StreamCore {
    pub(crate) fn books(&self) -> StreamBooks {
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
        StreamBooks {
            engine: self.frontend.books(),
            bytes: load(&self.bytes),
            packets: load(&self.packets),
            output_packets: load(&self.counts.packets),
            output_records: load(&self.counts.records),
            output_bytes: load(&self.counts.bytes),
            failed: load(&self.counts.failed),
            failed_records: load(&self.counts.failed_records),
            raised: load(&self.raised),
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
        self.frontend.publish(claimed, self.publish);
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
        let size = packet::packet_size(facts.content);
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
        self.bytes.fetch_add(facts.content, Ordering::Relaxed);
        self.packets.fetch_add(1, Ordering::Relaxed);
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
            self.space.prepare();
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
            self.space.sleep(left);
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

    #[inline(always)]
    pub(crate) fn reserve_record(
        &self,
        class: ClassId,
        payload: usize,
    ) -> Result<Reservation<'_>, WriteError> {
        // Before the reserve: a handler that comes in right after the compare-and-swap must
        // find this thread inside.
        let nested = Nested::enter();
        let (grant, header) = self.reserve_one(class, payload)?;
        let to = self.address(&grant);
        // SAFETY: a grant is at least as long as the header that it was measured with.
        unsafe { put_header(to, header, class.number(), grant.time()) };
        let at = header.size();
        Ok(Reservation { core: self, to, at, header, grant, done: false, _nested: nested })
    }
}

impl StreamCore {
    /// Reserves, writes and commits a payload that lies ready, without a [`Reservation`] in
    /// between: nothing can panic there, so nothing needs to be given up.
    #[inline(always)]
    pub(crate) fn record(&self, class: ClassId, payload: &[u8]) -> Result<(), WriteError> {
        let _nested = Nested::enter();
        let (grant, header) = self.reserve_one(class, payload.len())?;
        let to = self.address(&grant);
        // SAFETY: the grant is as long as the header and the payload that it was measured
        // with, and exclusive until its commit.
        unsafe {
            put_header(to, header, class.number(), grant.time());
            copy(payload.as_ptr(), to.add(header.size() as usize), payload.len());
        }
        self.commit(grant);
        Ok(())
    }

    /// A record whose size no arithmetic of positions is asked about.
    #[cold]
    fn too_big(&self) -> WriteError {
        let Some(_deciding) = self.frontend.deciding() else { return WriteError::Closed };
        if self.frontend.is_finalised() {
            return WriteError::Closed;
        }
        self.frontend.count_lost(Lost::TooBig, 1);
        WriteError::Lost(Lost::TooBig)
    }

    #[inline(always)]
    fn reserve_one(
        &self,
        class: ClassId,
        payload: usize,
    ) -> Result<(Grant, RecordHeader), WriteError> {
        if payload as u64 >= self.frontend.geometry().subbuf_size() {
            return Err(self.too_big());
        }
        let mut layout = One::new(class, payload as u32, &self.origin);
        match self.frontend.reserve_fast(&mut layout) {
            Some(grant) => Ok((grant, layout.header)),
            // With a layout of its own: this one's address goes nowhere, so that it lives in
            // registers.
            None => self.reserve_one_slow(class, payload as u32),
        }
    }

    #[cold]
    fn reserve_one_slow(
        &self,
        class: ClassId,
        payload: u32,
    ) -> Result<(Grant, RecordHeader), WriteError> {
        let mut layout = One::new(class, payload, &self.origin);
        let grant = self.reserve_slow(&mut layout)?;
        Ok((grant, layout.header))
    }
}

/// Copies `n` bytes; short payloads, the most of them, without the call of a `memcpy`: as two
/// words that may overlap.
///
/// # Safety
/// As for [`ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    /// The first and the last `size_of::<T>()` of `n` bytes.
    #[inline(always)]
    unsafe fn ends<T: Copy>(from: *const u8, to: *mut u8, n: usize) {
        // SAFETY: the caller's promise, and `n` is at least the word's size and at most twice
        // that: both words lie in the `n` bytes, and cover them.
        unsafe {
            let last = n - size_of::<T>();
            let (a, b) =
                (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(a);
            to.add(last).cast::<T>().write_unaligned(b);
        }
    }
    // SAFETY: the caller's promise; the arms' bounds are those that `ends` asks for.
    unsafe {
        match n {
            8..=16 => ends::<u64>(from, to, n),
            17..=32 => ends::<u128>(from, to, n),
            4..=7 => ends::<u32>(from, to, n),
            _ => ptr::copy_nonoverlapping(from, to, n),
        }
    }
}

/// Stores a record header.
///
/// # Safety
/// `to` is the beginning of a grant (or of a part of it that no other record has) of at
/// least `header.size()` bytes: exclusive until its commit, because the reader cannot hold
/// the memory before that (noref is off, or `consumed` has not passed).
#[inline(always)]
unsafe fn put_header(to: *mut u8, header: RecordHeader, class: u32, time: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match header {
            RecordHeader::Compact => {
                to.cast::<[u8; 4]>().write_unaligned(RecordHeader::compact(class, time));
            }
            RecordHeader::Extended => {
                to.cast::<[u8; 13]>().write_unaligned(RecordHeader::extended(class, time));
            }
        }
    }
}

/// The layout of one record made here.
struct One<'a> {
    class: ClassId,
    payload: u32,
    header: RecordHeader,
    origin: &'a AtomicU32,
}

impl<'a> One<'a> {
    #[inline(always)]
    fn new(class: ClassId, payload: u32, origin: &'a AtomicU32) -> Self {
        Self { class, payload, header: RecordHeader::Compact, origin }
    }
}

impl Layout for One<'_> {
    #[inline]
    fn now(&mut self) -> u64 {
        clock::now()
    }
    #[inline]
    fn measure(&mut self, now: u64, last: Option<u64>, _room: u64) -> Measure {
        self.header = RecordHeader::choose(self.class, now, last);
        Measure { size: (self.header.size() + self.payload).into(), records: 1, end: now }
    }
    fn origin(&self) -> u64 {
        self.origin.load(Ordering::Relaxed).into()
    }
}

/// Why a record was not recorded. It has been counted, but for `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The channel has been closed; the record counts as not offered.
    #[error("the channel is closed")]
    Closed,
    /// Lost, and counted under this name.
    #[error("the record is lost: {0:?}")]
    Lost(Lost),
}

/// A record being written: an exclusive range of a sub-buffer.
///
/// Written forward, then committed. Given up (dropped, as by a panic in between), it becomes
/// an `rbpipe:aborted` record of the same size, counted as `aborted`.
#[must_use = "a reservation that is dropped is recorded as aborted"]
pub struct Reservation<'a> {
    core: &'a StreamCore,
    /// The grant's bytes.
    to: *mut u8,
    /// How many of them are written.
    at: u32,
    header: RecordHeader,
    grant: Grant,
    /// The grant has been committed.
    done: bool,
    _nested: Nested,
}

impl Reservation<'_> {
    /// Its timestamp: CLOCK_MONOTONIC, nanoseconds.
    #[inline]
    #[must_use]
    pub fn time(&self) -> u64 {
        self.grant.time()
    }

    /// Payload bytes not written yet.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.grant.len() as usize - self.at as usize
    }

    /// The next bytes of the payload.
    ///
    /// # Panics
    /// With more bytes than were reserved. The record is then aborted.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "more bytes than were reserved");
        // SAFETY: just checked against the grant's length; the grant is exclusive until its
        // commit, and the reader cannot hold this memory before that.
        unsafe {
            let to = self.to.add(self.at as usize);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.at += bytes.len() as u32;
    }

    /// Commits it. Payload bytes that were not written become zero.
    #[inline]
    pub fn commit(mut self) {
        if self.remaining() > 0 {
            self.zero_rest();
        }
        // Moved out before the drop at this function's end, which then only ends the nesting:
        // the reservation itself is not moved once more on the way of every record.
        self.done = true;
        // SAFETY: `done` says that the grant is gone; nothing reads it after this.
        let grant = unsafe { ptr::read(&raw const self.grant) };
        self.core.commit(grant);
    }

    #[cold]
    fn zero_rest(&mut self) {
        while self.remaining() > 0 {
            let n = self.remaining().min(64);
            self.write(&[0; 64][..n]);
        }
    }
}

impl Drop for Reservation<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.done {
            self.give_up();
        }
    }
}

impl Reservation<'_> {
    /// CTF 1.8 has no padding inside a packet: what was given up is told as an event.
    #[cold]
    fn give_up(&mut self) {
        let header = self.header.size();
        let payload = self.grant.len() as u32 - header;
        let (class, n, length) = packet::aborted(payload);
        // SAFETY: `aborted` gives no more bytes than the payload has, and the header is as
        // long as the one that it is stored over; the grant is still exclusive.
        unsafe {
            put_header(self.to, self.header, class, self.grant.time());
            ptr::copy_nonoverlapping(length.as_ptr(), self.to.add(header as usize), n);
        }
        // The bytes behind may be what the memory held before: readers hide them.
        self.core.frontend.count_aborted();
        self.done = true;
        // SAFETY: `done` says that the grant is gone; nothing reads it after this.
        let mut grant = unsafe { ptr::read(&raw const self.grant) };
        grant.give_up();
        self.core.commit(grant);
    }
}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// Writes into one stream, from any thread. See `channel::Writer` for one that chooses.
#[derive(Clone)]
pub struct StreamWriter {
    pub(crate) core: Arc<StreamCore>,
}

impl StreamWriter {
    /// Reserves a record of class `class` with `payload` bytes.
    ///
    /// # Errors
    /// See [`WriteError`].
    #[inline]
    pub fn reserve(&self, class: ClassId, payload: usize) -> Result<Reservation<'_>, WriteError> {
        self.core.reserve_record(class, payload)
    }

    /// Leaves the part-filled sub-buffer.
    pub fn switch(&self) {
        self.core.switch();
    }
}

/// A record that brings its own time.
#[derive(Clone, Copy, Debug)]
pub struct GivenRecord<'a> {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// Its class.
    pub class: ClassId,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Writes records that bring their own timestamps: the one writer of a stream of its own.
pub struct ImportWriter {
    core: Arc<StreamCore>,
    // One at a time: not shared between threads by reference.
    _one: PhantomData<std::cell::Cell<()>>,
}

impl ImportWriter {
    pub(crate) fn new(core: Arc<StreamCore>) -> Self {
        Self { core, _one: PhantomData }
    }

    /// Writes records in their order, as many as fit at once under one compare-and-swap and
    /// one commit. A time before the last one is raised to it, and counted. Gives how many
    /// were recorded; the others have been counted as lost.
    ///
    /// # Errors
    /// The channel is closed; what was not written was not offered.
    pub fn write_run(&mut self, records: &[GivenRecord<'_>]) -> Result<usize, WriteError> {
        let mut rest = records;
        let mut recorded = 0;
        while !rest.is_empty() {
            let mut layout = Run { records: rest, taken: 0, first: None };
            let _nested = Nested::enter();
            match self.core.reserve_slow(&mut layout) {
                Ok(grant) => {
                    let taken = layout.taken;
                    let (now, later) = rest.split_at(taken);
                    self.store_run(grant, now, layout.first.unwrap_or(RecordHeader::Compact));
                    recorded += taken;
                    rest = later;
                }
                Err(WriteError::Closed) => return Err(WriteError::Closed),
                // One record is lost and counted; the next one may fit.
                Err(WriteError::Lost(_)) => rest = &rest[1..],
            }
        }
        Ok(recorded)
    }

    fn store_run(&mut self, grant: Grant, records: &[GivenRecord<'_>], first: RecordHeader) {
        let to = self.core.address(&grant);
        // The grant's time is the first record's, or the stream's last one, if that is later.
        let (mut at, mut time, mut last) = (0, grant.time(), None);
        for record in records {
            if record.time < time {
                self.core.raised.fetch_add(1, Ordering::Relaxed);
            }
            time = time.max(record.time);
            let header = match last {
                None => first,
                Some(_) => RecordHeader::choose(record.class, time, last),
            };
            last = Some(time);
            let (size, payload) = (header.size() as usize, record.payload);
            // In every build: what follows leans on it.
            assert!((at + size + payload.len()) as u64 <= grant.len(), "measured as written");
            // SAFETY: just checked against the grant, which is exclusive until its commit.
            unsafe {
                put_header(to.add(at), header, record.class.number(), time);
                at += size;
                ptr::copy_nonoverlapping(payload.as_ptr(), to.add(at), payload.len());
            }
            at += payload.len();
        }
        debug_assert_eq!(at as u64, grant.len());
        self.core.commit(grant);
    }

    /// Leaves the part-filled sub-buffer.
    pub fn switch(&self) {
        self.core.switch();
    }
}

/// The layout of a run of given records: as many as fit.
struct Run<'a> {
    records: &'a [GivenRecord<'a>],
    taken: usize,
    first: Option<RecordHeader>,
}

impl Layout for Run<'_> {
    fn now(&mut self) -> u64 {
        self.records[0].time
    }
    fn measure(&mut self, now: u64, last: Option<u64>, room: u64) -> Measure {
        let (mut size, mut time, mut before) = (0, now, last);
        self.taken = 0;
        for record in self.records {
            time = time.max(record.time);
            let header = RecordHeader::choose(record.class, time, before);
            let more = u64::from(header.size()) + record.payload.len() as u64;
            if self.taken > 0 && size + more > room {
                break;
            }
            if self.taken == 0 {
                self.first = Some(header);
            }
            size += more;
            self.taken += 1;
            before = Some(time);
            // The counter of records in `committed` has 24 bits for a whole sub-buffer.
            if size >= room {
                break;
            }
        }
        // `time` may have moved on with a record that did not fit any more.
        let end = before.unwrap_or(now);
        Measure { size, records: self.taken as u32, end }
    }
}

/// A delivered sub-buffer, given by value: whoever has it has the memory.
///
/// Dropped, it is put back, in any order: its place in the ring has been free since it was
/// taken. Dropped without [`Packet::written`], it counts as failed.
pub struct Packet<M: Memory> {
    /// `None` only while it is dropped.
    memory: Option<M>,
    index: MemoryIndex,
    facts: PacketFacts,
    core: Arc<StreamCore>,
    memories: Arc<Memories<M>>,
    written: Option<u64>,
}

impl<M: Memory> Packet<M> {
    /// What its header says.
    #[must_use]
    pub fn facts(&self) -> &PacketFacts {
        &self.facts
    }
    /// Its stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<StreamInfo> {
        &self.core.info
    }
    /// Bytes that it takes in a trace: the content rounded up to 8.
    #[must_use]
    pub fn size(&self) -> usize {
        packet::packet_size(self.facts.content) as usize
    }
    /// Its memory; `None` cannot be seen from outside.
    pub fn memory(&self) -> Option<&M> {
        self.memory.as_ref()
    }
    /// Its memory, to unmap and map again. At put it must be ready again, and of the same
    /// length; else it is retired and another one is made.
    pub fn memory_mut(&mut self) -> Option<&mut M> {
        self.memory.as_mut()
    }
    /// It is where it belongs: counts it as written, with the bytes that it took there.
    pub fn written(mut self, bytes: u64) {
        self.written = Some(bytes);
    }
}

impl<M: ReadMemory> Packet<M> {
    /// Header and content, rounded up to 8 bytes: what a trace file holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let Some((base, len)) = self.memory.as_ref().and_then(|m| Some((m.base()?, m.len())))
        else {
            return &[];
        };
        let size = self.size().min(len);
        // SAFETY: the exchange made the memory this packet's own: no writer stores into it
        // before it is put, which takes the packet by value and so ends this borrow.
        // `ReadMemory` promises that its bytes are initialised and may be read.
        unsafe { std::slice::from_raw_parts(base.as_ptr(), size) }
    }
}

impl<M: Memory> Drop for Packet<M> {
    fn drop(&mut self) {
        let counts = &self.core.counts;
        if let Some(bytes) = self.written {
            counts.packets.fetch_add(1, Ordering::Relaxed);
            counts.records.fetch_add(self.facts.records, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            counts.failed_records.fetch_add(self.facts.records, Ordering::Relaxed);
        }
        // put
        let memory = self.memory.take();
        let base = memory.as_ref().and_then(|m| usable(m, self.core.frontend.geometry()));
        match (memory, base) {
            (Some(memory), Some(base)) => {
                // Before the index is spare again: who finds it there finds the base. The
                // lock below releases it to the reader, whose exchange hands it to writers.
                self.core.bases[self.index.get()].store(base, Ordering::Relaxed);
                *lock(&self.memories.slots[self.index.get()]) = Some(memory);
                let mut spare = lock(&self.memories.spare);
                let none = spare.ready.is_empty();
                spare.ready.push(self.index);
                drop(spare);
                if none {
                    // The reader may wait for a memory; elsewhere it does not wait for a put.
                    self.core.reader.wake();
                }
            }
            // Retired: not ready or another length. The reader makes another one.
            _ => {
                lock(&self.memories.spare).empty.push(self.index);
                self.core.reader.wake();
            }
        }
    }
}

impl<M: Memory> std::fmt::Debug for Packet<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet").field("facts", &self.facts).finish_non_exhaustive()
    }
}
