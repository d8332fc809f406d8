//! The reader's side: get, by exchange. One reader at a time for each stream.
//!
//! The reader owns the memories that the table does not name. Get swaps one of them in for
//! a delivered packet: the compare-and-swap is the move of ownership, in every mode. Put
//! touches nothing that writers see, so it is not here: a memory simply becomes spare again.

use super::subbuf_id::SubBufferId;
use super::{
    BYTES_MASK, COMMITTED, CONSUMED, DELIVERED, Frontend, Line, MemoryIndex, Mode, PacketFacts,
    Position, RECORD_BITS, RECORDS, TABLE,
};
use crate::sync::{Ordering, Primitives, load_to_change};

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
        // In overwrite mode a get can be refused because writers pass; each time they do,
        // the cursor moves on. A bounded number of turns, so that a fast writer cannot
        // keep the reader here. (A model explores every stale look in every turn.)
        for _ in 0..if cfg!(loom) { 2 } else { 16 } {
            let end = self.write_position();
            let at = self.oldest(end);
            if at != self.cursor() {
                self.set_consumed(at);
            }
            if end.from(at) <= 0 {
                return Err(NotNow::Empty);
            }
            let j = g.index(at);
            if !self.is_delivered(at) {
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
            if let Some(held) = self.exchange(at, spare) {
                // At once: the place is free, and the memory is ours however long it is needed.
                self.set_consumed(at.plus(g.subbuf_size()));
                return Ok(held);
            }
        }
        Err(NotNow::NotDelivered)
    }

    /// The exchange: takes the packet of the lap that `at` lies in, which is delivered, and
    /// leaves `spare` in its place. `None`: a writer was faster.
    pub(super) fn exchange(&self, at: Position, spare: MemoryIndex) -> Option<Held> {
        let g = self.geometry;
        let id = self.table(g.index(at));
        if !id.is_noref() || id.is_taken() || id.lap() != g.lap(at) {
            return None;
        }
        let fresh = SubBufferId::taken(spare).word();
        // Release: with the Acquire in `table`; our last use of the spare memory comes before a
        // writer's first byte in it. The packet's header, bytes and facts came with `delivered`.
        self.cold(g.index(at), TABLE)
            .compare_exchange(id.word(), fresh, Ordering::Release, Ordering::Relaxed)
            .ok()?;
        step!("get: exchanged");
        let memory = self.memory(id);
        Some(Held { memory, facts: self.packet_facts(memory) })
    }

    /// Whether `get` would find a packet.
    pub fn has_packet(&self) -> bool {
        let end = self.write_position();
        let at = self.oldest(end);
        end.from(at) > 0 && self.is_delivered(at)
    }

    /// Whether everything reserved so far is delivered, and every writer that was refused has
    /// counted its loss: nothing is open. Meaningful once the stream is finalised.
    pub fn is_settled(&self) -> bool {
        self.nobody_decides() && self.oldest_open().is_none()
    }

    fn cursor(&self) -> Position {
        Position::new(load_to_change(self.word(CONSUMED), Ordering::Relaxed))
    }

    /// The oldest sub-buffer that the reader has not taken and that is not being overwritten,
    /// when `end` is reserved. In discard and block mode nothing is overwritten; positions that
    /// are further apart than the ring is long are somebody's scribbles, and bounded like this.
    pub(super) fn oldest(&self, end: Position) -> Position {
        let (g, at) = (self.geometry, self.cursor());
        if end.from(at) > g.buffer_size().cast_signed() {
            return g.start(end.minus(1)).plus(g.subbuf_size()).minus(g.buffer_size());
        }
        at
    }

    pub(super) fn is_delivered(&self, at: Position) -> bool {
        let g = self.geometry;
        // Acquire: with the deliverer's Release.
        self.cold(g.index(at), DELIVERED).load(Ordering::Acquire) == g.complete(at)
    }

    /// The oldest sub-buffer in the ring, not taken yet, that is reserved but not delivered.
    fn oldest_open(&self) -> Option<Position> {
        let end = self.write_position();
        let mut at = self.oldest(end);
        while end.from(at) > 0 {
            if !self.is_delivered(at) {
                return Some(at);
            }
            at = at.plus(self.geometry.subbuf_size());
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

    /// On a finalised stream: passes over the next sub-buffer, which a writer never came out
    /// of. Its packet is not written; the records that are committed in it, by now or later,
    /// count as lost, `wrap`. Gives how many there are by now; `None`: the next sub-buffer is
    /// delivered, or there is none.
    pub fn pass_over(&self) -> Option<u64> {
        let (at, end) = (self.oldest(self.write_position()), self.write_position());
        if !self.is_finalised() || end.from(at) <= 0 || self.is_delivered(at) {
            return None;
        }
        let records = self.give_up(at);
        // The place is free for nobody: no writer enters a finalised stream.
        self.set_consumed(at.plus(self.geometry.subbuf_size()));
        Some(records)
    }

    /// The same for a stream that nobody reads: all of its open sub-buffers.
    pub fn pass_over_all(&self) -> Option<u64> {
        let end = self.write_position();
        let (mut at, mut records) = (self.oldest(end), None);
        while self.is_finalised() && end.from(at) > 0 {
            if !self.is_delivered(at) {
                records = Some(records.unwrap_or(0) + self.give_up(at));
            }
            at = at.plus(self.geometry.subbuf_size());
        }
        records
    }

    /// Makes sure that no commit completes the sub-buffer at `at` any more: with two laps'
    /// worth of bytes added, no sum of what is still to come is a complete one. What is in the
    /// counter of records stays there, and late commits add to it: `given_up` reads it.
    fn give_up(&self, at: Position) -> u64 {
        let g = self.geometry;
        let word = self.hot(g.index(at), COMMITTED);
        // The newest value that there is: one of the lap before would look as if it had been
        // given up already.
        let mut found = word.fetch_add(0, Ordering::Relaxed);
        loop {
            let bytes = (found >> RECORD_BITS).wrapping_sub(g.before(at)) & BYTES_MASK;
            if bytes >= g.subbuf_size() {
                // It was given up before. Or it is complete, and its deliverer has stood still
                // for as long as the others: what it may still deliver is `kept` then.
                return found & RECORDS;
            }
            let more = (2 * g.subbuf_size()) << RECORD_BITS;
            // Relaxed: nothing is read on the strength of it but the number.
            match word.compare_exchange(
                found,
                found.wrapping_add(more),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return found & RECORDS,
                Err(now) => found = now,
            }
        }
    }

    pub(super) fn set_consumed(&self, at: Position) {
        // Release: with the writers' Acquire in `may_open`; the exchange before it.
        self.word(CONSUMED).store(at.get(), Ordering::Release);
        step!("get: consumed");
    }
}
