//! A snapshot at the seam: what a stream holds, copied while its writers go on.
//!
//! Each packet is lent to the sink, looked at where it lies, and given back, however the sink
//! ends. What makes it one run that ends at the newest packet is the frontend's
//! (`frontend/snapshot.rs`); what happens when writers are faster is here: it is tried again
//! with half as many packets, down to the newest one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::packet::bytes_in;
use super::{Stream, lock};
use crate::backend::StreamInfo;
use crate::frontend::{self, PacketFacts};
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
    lent: Option<frontend::Lent>,
}

impl<M: Memory> Drop for Loan<'_, M> {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let spare = self.stream.core.frontend.give_back(lent);
        self.stream.core.lent.store(0, Ordering::Relaxed);
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

    /// One try, for the `most` newest packets.
    fn gather<E>(
        &self,
        most: u64,
        sink: &mut impl FnMut(Gathered<'_, M>) -> Result<(), E>,
    ) -> Result<Option<Run>, E> {
        let core = &*self.core;
        core.switch();
        let mut gathering = core.frontend.gather(most);
        let mut run = Run::default();
        loop {
            let Some(spare) = lock(&self.memories.spare).ready.pop() else { return Ok(None) };
            let Some(lent) = core.frontend.lend(&mut gathering, spare) else {
                lock(&self.memories.spare).ready.push(spare);
                break;
            };
            let (facts, begins_again) = (*lent.facts(), lent.begins_again());
            let index = lent.memory();
            core.lent.store(facts.records, Ordering::Relaxed);
            // Given back at the end of this turn, after the sink has let go of it.
            let _loan = Loan { stream: self, lent: Some(lent) };
            if begins_again {
                run = Run::default();
                sink(Gathered::BeginAgain)?;
            }
            run.add(&facts);
            let memory = lock(&self.memories.slots[index.get()]);
            sink(Gathered::Packet(LentPacket { facts, info: &core.info, memory }))?;
        }
        run.outrun = !gathering.is_whole() && core.frontend.is_passed(&gathering);
        Ok(Some(run))
    }
}
