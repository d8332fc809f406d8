//! A delivered sub-buffer in its reader's hands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::reader::usable;
use super::{Memories, StreamBooks, StreamCore, lock};
use crate::backend::StreamInfo;
use crate::frontend::{MemoryIndex, PacketFacts};
use crate::memory::{Memory, ReadMemory};
use crate::packet;

/// A delivered sub-buffer, given by value: whoever has it has the memory.
///
/// Dropped, it is put back, in any order: its place in the ring has been free since it was
/// taken. Dropped without [`Packet::written`], it counts as failed.
pub struct Packet<M: Memory> {
    /// `None` only while it is dropped.
    pub(super) memory: Option<M>,
    pub(super) index: MemoryIndex,
    pub(super) facts: PacketFacts,
    pub(super) core: Arc<StreamCore>,
    pub(super) memories: Arc<Memories<M>>,
    pub(super) written: Option<Written>,
}

/// What was written of a packet.
pub(super) struct Written {
    bytes: u64,
    records: u64,
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
        self.written = Some(Written { bytes, records: self.facts.records });
    }
    /// So many of its records are where they belong; the others were given up by an output that
    /// is slower than what it is given, and count as overwritten. That they, and what the packet
    /// tells of losses, are missing is the output's to tell.
    pub fn written_part(mut self, bytes: u64, records: u64) {
        let records = records.min(self.facts.records);
        self.written = Some(Written { bytes, records });
    }
    /// The same of a packet whose other records the output has copied. What becomes of so many
    /// of them is told to what this gives; what is not counts as overwritten.
    #[must_use = "what becomes of the copies is to be told"]
    pub fn copied(self, bytes: u64, records: u64, copies: u64) -> Copied {
        let left = copies.min(self.facts.records.saturating_sub(records));
        let core = Arc::clone(&self.core);
        self.written_part(bytes, records);
        Copied { core, left }
    }
    /// Its stream's books.
    #[must_use]
    pub fn monitor(&self) -> StreamMonitor {
        StreamMonitor { core: Arc::clone(&self.core) }
    }
}

/// Copies of records whose packet has been put back.
pub struct Copied {
    core: Arc<StreamCore>,
    left: u64,
}

impl Copied {
    /// So many of them are where they belong.
    pub fn written(&mut self, bytes: u64, records: u64) {
        let records = records.min(self.left);
        self.left -= records;
        self.core.counts.records.fetch_add(records, Ordering::Relaxed);
        self.core.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    /// Of how many nothing has been told yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
    /// These, too: of the same stream.
    pub fn and(&mut self, others: Self) {
        debug_assert!(Arc::ptr_eq(&self.core, &others.core), "copies of one stream");
        self.left += others.left;
    }
}

/// Reads a stream's books from outside, as an output does that tells them to somebody.
#[derive(Clone)]
pub struct StreamMonitor {
    core: Arc<StreamCore>,
}

impl StreamMonitor {
    /// The books as they stand.
    #[must_use]
    pub fn books(&self) -> StreamBooks {
        self.core.books()
    }
    /// Sub-buffers in use, of how many.
    #[must_use]
    pub fn fill(&self) -> (u64, u64) {
        self.core.fill()
    }
}

impl<M: ReadMemory> Packet<M> {
    /// Header and content, rounded up to 8 bytes: what a trace file holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let Some(memory) = self.memory.as_ref() else { return &[] };
        // SAFETY: the exchange (of last words: that it was spare) made the memory this packet's
        // own: no writer stores into it before it is put, which takes the packet by value and so
        // ends this borrow.
        unsafe { bytes_in(memory, &self.facts) }
    }
}

/// Header and content of the packet in this memory, rounded up to 8 bytes.
///
/// # Safety
/// No writer stores into the memory for as long as the bytes are borrowed.
pub(super) unsafe fn bytes_in<'a, M: ReadMemory>(memory: &'a M, facts: &PacketFacts) -> &'a [u8] {
    let Some(base) = memory.base() else { return &[] };
    let size = (packet::packet_size(facts.content) as usize).min(memory.len());
    // SAFETY: nobody writes, says the caller; `ReadMemory` promises that its bytes are
    // initialised and may be read.
    unsafe { std::slice::from_raw_parts(base.as_ptr(), size) }
}

impl<M: Memory> Drop for Packet<M> {
    fn drop(&mut self) {
        let counts = &self.core.counts;
        if let Some(Written { bytes, records }) = self.written {
            counts.packets.fetch_add(1, Ordering::Relaxed);
            counts.records.fetch_add(records, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            let mut told = lock(&self.core.told);
            *told = (*told).max((self.facts.sequence, self.facts.lost));
            drop(told);
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
                // Stored only where it is another one: every record loads from that line.
                let known = &self.core.bases[self.index.get()];
                if known.load(Ordering::Relaxed) != base {
                    known.store(base, Ordering::Relaxed);
                }
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
