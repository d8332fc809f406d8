//! The reader's side of the seam: one value for each stream, generic over its memory.

use std::any::Any;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{
    Apart, Lines, Memories, Packet, Spare, StreamBooks, StreamCore, StreamOptions, StreamWriter,
    lock,
};
use crate::backend::{BackendError, StreamInfo};
use crate::clock;
use crate::frontend::{
    Frontend, Geometry, Line, MemoryIndex, NotNow, PacketFacts, Position, StateError,
};
use crate::memory::Memory;
use crate::wake::Wake;

/// The reader's side of a stream: one value, one reader.
pub struct Stream<M: Memory> {
    pub(super) core: Arc<StreamCore>,
    pub(super) memories: Arc<Memories<M>>,
    retired_said: bool,
    /// The last packet that was taken: its sequence number and its end.
    last: (u64, u64),
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
        let start = info.start;
        let core = Arc::new(StreamCore {
            frontend,
            bases: bases.into(),
            publish: M::PUBLISH,
            info,
            block_timeout: options.block_timeout,
            wake_reader: options.wake_reader,
            reader,
            space: Apart::default(),
            origin: AtomicU32::new(0),
            delivered: Apart::default(),
            counts: Apart::default(),
            told: Mutex::new((0, 0)),
            lent: AtomicU64::new(0),
            memories: Arc::clone(&memories) as Arc<dyn Any + Send + Sync>,
        });
        Ok(Self { core, memories, retired_said: false, last: (0, start) })
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
                self.last = (held.facts().sequence, held.facts().end);
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

    /// What one more packet would tell, once the stream is finalised and drained and all
    /// packets are where they belong or have failed: losses that no written packet told, or
    /// only that the last packets are missing.
    fn last_facts(&self) -> Option<PacketFacts> {
        let (sequence, lost) = *lock(&self.core.told);
        let (taken, ended) = self.last;
        let told = (sequence == taken).then_some(lost);
        self.core.frontend.last_words(told, ended, clock::now)
    }

    /// Losses that no written packet has told: there are last words.
    pub fn untold(&self) -> Option<u64> {
        let (_, told) = *lock(&self.core.told);
        self.last_facts().map(|facts| facts.lost.saturating_sub(told))
    }

    /// Whether the reader has a memory to give.
    pub fn has_spare(&self) -> bool {
        !lock(&self.memories.spare).ready.is_empty()
    }

    /// On a finalised and drained stream: one more packet, without records, if losses have
    /// not been told yet. It lies in a memory of the reader's and never was in the ring.
    pub fn last_words(&mut self) -> Option<Packet<M>> {
        let facts = self.last_facts()?;
        let index = lock(&self.memories.spare).ready.pop()?;
        let base = self.core.bases[index.get()].load(Ordering::Relaxed);
        // SAFETY: the memory is spare: the table does not name it, so no writer has it, and no
        // packet holds it; this value is the stream's one reader.
        unsafe { self.core.write_header(&facts, base) };
        self.last = (facts.sequence, facts.end);
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
        !self.has_spare() && self.core.frontend.has_packet()
    }

    /// Whether `get` would find a packet and a memory to put in its place.
    pub fn has_packet(&self) -> bool {
        self.has_spare() && self.core.frontend.has_packet()
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
                    if self.core.info.prefault {
                        prefault(&made, base);
                    }
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
    /// Nobody will read any more (the drain ended, or panicked): writers are told, those that
    /// wait for room are let go, and what others do not bring to an end is in the books.
    fn drop(&mut self) {
        self.finalise();
        self.pass_over_all();
    }
}

/// The base address, if the memory is ready and has a sub-buffer's length.
pub(super) fn usable<M: Memory>(memory: &M, g: Geometry) -> Option<*mut u8> {
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
