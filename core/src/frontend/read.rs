//! The reader's side: get, by exchange. One reader at a time for each stream.
//!
//! The reader owns the memories that the table does not name. Get swaps one of them in for
//! a delivered packet: the compare-and-swap is the move of ownership, in every mode. Put
//! touches nothing that writers see, so it is not here: a memory simply becomes spare again.

use super::subbuf_id::SubBufferId;
use super::{
    COMMITTED, CONSUMED, DELIVERED, Frontend, Line, Lost, MemoryIndex, Mode, PacketFacts, Position,
    RECORDS, TABLE,
};
use crate::sync::{Ordering, Primitives};

/// A packet that the reader owns: its memory and its facts.
#[must_use = "the memory must become spare again"]
#[derive(Debug)]
pub struct Held {
    memory: MemoryIndex,
    facts: PacketFacts,
}

impl Held {
    /// The memory, now the reader's.
    pub fn memory(&self) -> MemoryIndex {
        self.memory
    }
    /// What its header says.
    pub fn facts(&self) -> &PacketFacts {
        &self.facts
    }
}

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// All that was reserved is taken.
    Empty,
    /// The next sub-buffer is not delivered yet, or writers are passing it just now.
    NotDelivered,
}

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// Takes the oldest delivered packet and puts `spare`, a memory of the reader's own, in
    /// its place. On error `spare` is still the reader's.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn get(&self, spare: MemoryIndex) -> Result<Held, NotNow> {
        let g = self.geometry;
        let buffer = g.buffer_size().cast_signed();
        // In overwrite mode a get can be refused because writers pass; each time they do,
        // the cursor moves on. A bounded number of turns, so that a fast writer cannot
        // keep the reader here.
        for _ in 0..16 {
            let end = self.write_position();
            let mut at = Position::new(self.word(CONSUMED).load(Ordering::Relaxed));
            if self.mode == Mode::Overwrite && end.from(at) > buffer {
                // The oldest that is not being overwritten.
                at = g.start(end.minus(1)).plus(g.subbuf_size()).minus(g.buffer_size());
                self.set_consumed(at);
            }
            if end.from(at) <= 0 {
                return Err(NotNow::Empty);
            }
            let j = g.index(at);
            // Acquire: with the deliverer's Release.
            if self.cold(j, DELIVERED).load(Ordering::Acquire) != g.complete(at) {
                if self.mode == Mode::Overwrite && self.write_position() != end {
                    continue;
                }
                return Err(NotNow::NotDelivered);
            }
            let id = self.table(j);
            if id.is_taken() && id.is_noref() {
                // A reader died between its exchange and its store to `consumed`.
                self.set_consumed(at.plus(g.subbuf_size()));
                continue;
            }
            if !id.is_noref() || id.lap() != g.lap(at) {
                continue;
            }
            let fresh = SubBufferId::taken(spare).word();
            // AcqRel. Release: our last use of the spare memory comes before a writer's
            // first byte in it. Acquire: the packet's header, bytes and facts.
            let exchange = self.cold(j, TABLE).compare_exchange(
                id.word(),
                fresh,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if exchange.is_err() {
                continue;
            }
            step!("get: exchanged");
            // At once: the place is free, and the memory is ours however long it is needed.
            self.set_consumed(at.plus(g.subbuf_size()));
            let memory = id.memory();
            return Ok(Held { memory, facts: self.packet_facts(memory) });
        }
        Err(NotNow::NotDelivered)
    }

    /// Whether `get` would find a packet.
    pub fn has_packet(&self) -> bool {
        let g = self.geometry;
        let end = self.write_position();
        let mut at = Position::new(self.word(CONSUMED).load(Ordering::Relaxed));
        if self.mode == Mode::Overwrite && end.from(at) > g.buffer_size().cast_signed() {
            at = g.start(end.minus(1)).plus(g.subbuf_size()).minus(g.buffer_size());
        }
        end.from(at) > 0
            && self.cold(g.index(at), DELIVERED).load(Ordering::Acquire) == g.complete(at)
    }

    /// Whether everything reserved so far is delivered: no grant is open. Meaningful once
    /// the stream is finalised.
    pub fn is_settled(&self) -> bool {
        self.oldest_open().is_none()
    }

    /// The oldest sub-buffer in the ring, not taken yet, that is reserved but not delivered.
    fn oldest_open(&self) -> Option<Position> {
        let g = self.geometry;
        let end = self.write_position();
        let mut at = Position::new(self.word(CONSUMED).load(Ordering::Relaxed));
        if end.from(at) > g.buffer_size().cast_signed() {
            at = g.start(end.minus(1)).plus(g.subbuf_size()).minus(g.buffer_size());
        }
        while end.from(at) > 0 {
            // Acquire: with the deliverer's Release.
            if self.cold(g.index(at), DELIVERED).load(Ordering::Acquire) != g.complete(at) {
                return Some(at);
            }
            at = at.plus(g.subbuf_size());
        }
        None
    }

    /// The oldest sub-buffer that was left by everybody who may still reserve in it and is
    /// not delivered all the same: a writer stands in it. Seen twice, a `switch_timer`
    /// apart, it is a stall and worth a word.
    pub fn oldest_undelivered(&self) -> Option<Position> {
        let at = self.oldest_open()?;
        (self.write_position().from(at) >= self.geometry.subbuf_size().cast_signed()).then_some(at)
    }

    /// On a finalised stream: passes over a sub-buffer that a writer never came out of.
    /// Its packet is not written; the records that were committed in it are counted as
    /// lost, `wrap`. Gives their number and the bytes still open; `None`: the next
    /// sub-buffer is delivered, or there is none.
    pub fn pass_over_stalled(&self) -> Option<(u64, u64)> {
        let g = self.geometry;
        let at = Position::new(self.word(CONSUMED).load(Ordering::Relaxed));
        if !self.is_finalised() || self.oldest_open() != Some(at) {
            return None;
        }
        let word = self.hot(g.index(at), COMMITTED).load(Ordering::Relaxed);
        let records = word & RECORDS;
        let bytes = (word >> super::RECORD_BITS).wrapping_sub(g.before(at)) & super::BYTES_MASK;
        self.count_lost(Lost::Wrap, records);
        self.set_consumed(at.plus(g.subbuf_size()));
        Some((records, g.subbuf_size().saturating_sub(bytes)))
    }

    fn set_consumed(&self, at: Position) {
        // Release: with the writers' Acquire in `may_open`; the exchange before it.
        self.word(CONSUMED).store(at.get(), Ordering::Release);
        step!("get: consumed");
    }
}
