//! A snapshot at the seam: what a stream holds, copied while its writers go on.
//!
//! Each packet is lent to the sink, looked at where it lies, and given back, however the sink
//! ends. With as many memories as the ring has sub-buffers (`reader_subbufs`) all are lent before
//! the first is copied, and the whole ring is caught, whatever writers do. What makes it one run that ends at the newest packet is the frontend's
//! (`frontend/snapshot.rs`); what happens when writers are faster is here: it is tried again
//! with half as many packets, down to the newest one.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::packet::bytes_in;
use super::{Stream, lock};
use crate::backend::StreamInfo;
use crate::frontend::{self, MemoryIndex, PacketFacts};
use crate::memory::{Memory, ReadMemory};
use crate::packet;

/// A packet that a snapshot may read. The ring has it back afterwards.
pub struct LentPacket<'a, M: Memory> {
    facts: PacketFacts,
    info: &'a Arc<StreamInfo>,
    memory: MutexGuard<'a, Option<M>>,
}

impl<M: Memory> LentPacket<'_, M> {
    /// What its header says.
    #[must_use]
    pub fn facts(&self) -> &PacketFacts {
        &self.facts
    }
    /// Its stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<StreamInfo> {
        self.info
    }
    /// Bytes that it takes in a trace: the content rounded up to 8.
    #[must_use]
    pub fn size(&self) -> usize {
        packet::packet_size(self.facts.content) as usize
    }
    /// Its memory; `None` cannot be seen from outside.
    #[must_use]
    pub fn memory(&self) -> Option<&M> {
        self.memory.as_ref()
    }
}

impl<M: ReadMemory> LentPacket<'_, M> {
    /// Header and content, rounded up to 8 bytes: what a trace file holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let Some(memory) = self.memory.as_ref() else { return &[] };
        // SAFETY: the exchange made the memory the reader's own: no writer stores into it
        // before it is given back, which `Loan` does, after this value is gone.
        unsafe { bytes_in(memory, &self.facts) }
    }
}

/// What a snapshot tells its sink.
pub enum Gathered<'a, M: Memory> {
    /// The packets so far are to be forgotten: a newer run begins.
    BeginAgain,
    /// The next packet, in order.
    Packet(LentPacket<'a, M>),
}

/// What a snapshot of a stream came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct Run {
    pub packets: u64,
    pub records: u64,
    /// As they are in a trace: with headers, rounded up.
    pub bytes: u64,
    /// When the first packet begins and the last one ends.
    pub begin: u64,
    pub end: u64,
    /// Sequence number of the last packet.
    pub last: u64,
    /// Writers came round to the newest packet each time that it was tried: what was gathered,
    /// if anything, does not end there.
    pub outrun: bool,
}

impl Run {
    fn add(&mut self, facts: &PacketFacts) {
        if self.packets == 0 {
            self.begin = facts.begin;
        }
        self.packets += 1;
        self.records += facts.records;
        self.bytes += packet::packet_size(facts.content);
        (self.end, self.last) = (facts.end, facts.sequence);
    }
}

/// Gives a packet back to the ring when it is dropped.
struct Loan<'a, M: Memory> {
    stream: &'a Stream<M>,
    facts: PacketFacts,
    memory: MemoryIndex,
    begins_again: bool,
    /// `None` only while it is dropped.
    lent: Option<frontend::Lent>,
}

impl<'a, M: Memory> Loan<'a, M> {
    fn new(stream: &'a Stream<M>, lent: frontend::Lent) -> Self {
        let (facts, memory) = (*lent.facts(), lent.memory());
        stream.core.lent.fetch_add(facts.records, Ordering::Relaxed);
        Self { stream, facts, memory, begins_again: lent.begins_again(), lent: Some(lent) }
    }
}

impl<M: Memory> Drop for Loan<'_, M> {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let spare = self.stream.core.frontend.give_back(lent);
        self.stream.core.lent.fetch_sub(self.facts.records, Ordering::Relaxed);
        lock(&self.stream.memories.spare).ready.push(spare);
    }
}

impl<M: Memory> Stream<M> {
    /// Copies what the stream holds, after a switch: one run of packets without a gap, oldest
    /// first, which ends at the newest one. Nothing is taken, writers are not stopped. `None`:
    /// the reader has no memory to put in a packet's place.
    ///
    /// # Errors
    /// The sink's: the snapshot ends there.
    pub fn snapshot<E>(
        &mut self,
        mut sink: impl FnMut(Gathered<'_, M>) -> Result<(), E>,
    ) -> Result<Option<Run>, E> {
        let mut most = u64::from(self.core.frontend.geometry().subbuf_count());
        // Down to the newest packet alone, and that one a few times.
        let tries = most.ilog2() + 4;
        let mut run = Run::default();
        for _ in 0..tries {
            if run.packets > 0 {
                sink(Gathered::BeginAgain)?;
            }
            let Some(once) = self.gather(most, &mut sink)? else { return Ok(None) };
            run = once;
            if !run.outrun {
                break;
            }
            most = (most / 2).max(1);
        }
        Ok(Some(run))
    }

    /// One try, for the `most` newest packets. As many are lent ahead as the reader has memories
    /// to put in their places: out of the ring, no writer comes upon them while they wait.
    fn gather<E>(
        &self,
        most: u64,
        sink: &mut impl FnMut(Gathered<'_, M>) -> Result<(), E>,
    ) -> Result<Option<Run>, E> {
        let core = &*self.core;
        core.switch();
        let mut gathering = core.frontend.gather(most);
        let mut run = Run::default();
        let mut loans: VecDeque<Loan<'_, M>> = VecDeque::new();
        loop {
            let ended = loop {
                let Some(spare) = lock(&self.memories.spare).ready.pop() else { break false };
                let Some(lent) = core.frontend.lend(&mut gathering, spare) else {
                    lock(&self.memories.spare).ready.push(spare);
                    break true;
                };
                loans.push_back(Loan::new(self, lent));
            };
            // Given back at the end of this turn, after the sink has let go of it.
            let Some(loan) = loans.pop_front() else {
                if ended {
                    break;
                }
                return Ok(None);
            };
            if loan.begins_again {
                run = Run::default();
                sink(Gathered::BeginAgain)?;
            }
            run.add(&loan.facts);
            let memory = lock(&self.memories.slots[loan.memory.get()]);
            let (facts, info) = (loan.facts, &core.info);
            sink(Gathered::Packet(LentPacket { facts, info, memory }))?;
        }
        run.outrun = !gathering.is_whole() && core.frontend.is_passed(&gathering);
        Ok(Some(run))
    }
}
