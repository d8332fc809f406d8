//! Commit and delivery: the one whose add completes a lap delivers the packet.
//!
//! `committed[i]` counts bytes (free-running, in the high 40 bits) and this lap's records
//! (in the low 24) in one add. Whoever's add *returned* "lap complete" is the deliverer:
//! exactly one, no further compare-and-swap (a load of its own would make two). It is alone
//! on `i` until `delivered` is complete, and touches nothing of `i` after that.

use super::reserve::Grant;
use super::subbuf_id::SubBufferId;
use super::{
    COMMITTED, DELIVERED, FACT_BEGIN, FACT_CONTENT_END, FACT_END, FACT_LOST, FACT_ORIGIN, Frontend,
    Line, MemoryIndex, Position, RECORD_BITS, RECORDED, RECORDS, TABLE,
};
use crate::sync::{Ordering, Primitives, load_to_change};

/// The duty to deliver a sub-buffer: the one moment of exclusive access to it. Taken up by
/// [`Frontend::claim`].
#[must_use = "a sub-buffer that is not delivered stops its stream"]
#[derive(Debug)]
pub struct Closing {
    start: Position,
}

/// A sub-buffer being delivered: its memory may be given its header, then
/// [`Frontend::publish`].
#[must_use = "a sub-buffer that is not delivered stops its stream"]
#[derive(Debug)]
pub struct Claimed {
    facts: PacketFacts,
    memory: MemoryIndex,
    start: Position,
}

impl Claimed {
    /// What the header is to say.
    pub fn facts(&self) -> &PacketFacts {
        &self.facts
    }
    /// Where it goes.
    pub fn memory(&self) -> MemoryIndex {
        self.memory
    }
}

/// What is known of a packet, in control words: whoever owns its memory may read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketFacts {
    /// Data packets count from 1.
    pub sequence: u64,
    /// Bytes with header.
    pub content: u64,
    /// The first record's time.
    pub begin: u64,
    /// The closer's time: no record is later, no record of the next packet earlier.
    pub end: u64,
    /// Cumulative records lost in this stream.
    pub lost: u64,
    /// Records in it.
    pub records: u64,
    /// What the opener said of its origin (a thread id).
    pub origin: u64,
}

/// The word of `packet[m]` that holds `records`.
pub(super) const RECORDS_IN: usize = 5;

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// Commits a grant whose bytes are all written. Gives the duty to deliver to whoever
    /// completes the lap.
    #[inline(always)]
    pub fn commit(&self, grant: Grant) -> Option<Closing> {
        let index = self.geometry.index(grant.start);
        self.add(index, grant.start, grant.size.into(), grant.records)
    }

    /// The add. `at` is any position in the part that is committed.
    #[inline(always)]
    pub(super) fn add(&self, i: usize, at: Position, size: u64, records: u32) -> Option<Closing> {
        let value = (size << RECORD_BITS) + u64::from(records);
        let after = P::fetch_add(self.hot(i, COMMITTED), value).wrapping_add(value);
        step!("commit: added");
        // The bytes are those of a complete lap, modulo 2^40, whatever the records are. (No
        // need to wrap as `Geometry::complete` does: that is at a multiple of 2^40.)
        let g = self.geometry;
        let complete = (g.before(at) + g.subbuf_size()) << RECORD_BITS;
        let beyond = after.wrapping_sub(complete);
        (beyond <= RECORDS).then(|| Closing { start: g.start(at) })
    }

    /// Takes up a delivery: marks the sub-buffer as claimed and gathers the facts.
    pub fn claim(&self, closing: Closing) -> Claimed {
        let (g, start) = (self.geometry, closing.start);
        let i = g.index(start);
        // Whole: nobody else adds before `delivered` is complete. The records stay there until
        // the packet is handed over: who gives the stream up meanwhile finds them (but for the
        // moment between the counter's store and the books' add in `publish`).
        let word = load_to_change(self.hot(i, COMMITTED), Ordering::Relaxed);
        // Odd: claimed, never complete.
        self.cold(i, DELIVERED).store(g.before(start) | 1, Ordering::Relaxed);
        let fact = |f| self.hot(i, f).load(Ordering::Relaxed);
        let content_end = Position::new(fact(FACT_CONTENT_END));
        let content = content_end.from(start);
        let facts = PacketFacts {
            sequence: g.sequence(start),
            // A fact of this lap; checked, as all that is used as a length.
            content: content.clamp(0, g.subbuf_size().cast_signed()).cast_unsigned(),
            begin: fact(FACT_BEGIN),
            end: fact(FACT_END),
            lost: fact(FACT_LOST),
            records: word & RECORDS,
            origin: fact(FACT_ORIGIN),
        };
        // Relaxed: the opener acquired this word, and we the opener's add.
        let id = SubBufferId::from_word(self.cold(i, TABLE).load(Ordering::Relaxed));
        let memory = self.memory(id);
        let words = self.packet(memory);
        let values = [
            facts.sequence,
            facts.content,
            facts.begin,
            facts.end,
            facts.lost,
            facts.records,
            facts.origin,
        ];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        Claimed { facts, memory, start }
    }

    /// Hands the packet over: table, counter and books, then `delivered`.
    pub fn publish(&self, claimed: Claimed) {
        let (g, start) = (self.geometry, claimed.start);
        let i = g.index(start);
        let id = SubBufferId::delivered(g.lap(start), claimed.memory).word();
        // Relaxed: who looks at this word for this packet has acquired `delivered`, below.
        self.cold(i, TABLE).store(id, Ordering::Relaxed);
        step!("deliver: table");
        // The records move from the counter to the books. Done after `delivered`, this store
        // would undo the next lap's adds.
        let committed = (g.before(start) + g.subbuf_size()) << RECORD_BITS;
        self.hot(i, COMMITTED).store(committed, Ordering::Relaxed);
        step!("deliver: records taken");
        // Before the packet can be seen: what was read is never more than what was recorded.
        self.word(RECORDED).fetch_add(claimed.facts.records, Ordering::Relaxed);
        // Release: with the Acquire in `get` and in `may_open`. The last that is touched of i.
        self.cold(i, DELIVERED).store(g.complete(start), Ordering::Release);
        step!("deliver: delivered");
    }

    /// The facts of a packet whose memory the caller owns.
    pub(super) fn packet_facts(&self, memory: MemoryIndex) -> PacketFacts {
        let word = |w: usize| self.packet(memory)[w].load(Ordering::Relaxed);
        PacketFacts {
            sequence: word(0),
            // Checked, as all that is read from shared words and used as a length.
            content: word(1).min(self.geometry.subbuf_size()),
            begin: word(2),
            end: word(3),
            lost: word(4),
            records: word(RECORDS_IN),
            origin: word(6),
        }
    }
}
