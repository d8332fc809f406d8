//! The frontend: synchronisation of writers and reader of one stream. Integers and atomics
//! only: no pointer, no clock, no format; the seam (`stream.rs`) turns its grants into
//! pointers, and a [`Layout`] tells it times and sizes.
//!
//! Source: M. Desnoyers, "Low-Impact Operating System Tracing" (2009), chapter 5, and
//! lttng-ust's `src/common/ringbuffer`, changed where models showed a simpler or safer way:
//! `consumed` is written by the reader alone in every mode, the deliverer alone writes a
//! packet's header, every reservation (not only the opener's) clears noref, K memories may
//! be with the reader at once.
//!
//! ```text
//!  write_pos ──reserve──▶ grant ──▶ record bytes ──commit──▶ committed[i]
//!                                                              │ the add that completes
//!                                                              ▼
//!   reader ◀──get (exchange table[i])── delivered[i] ◀── claim, header, publish
//! ```
//!
//! # State
//! A slice of 64-byte [`Line`]s, so that it can lie in the heap, a memfd or a mapped file:
//!
//! | line | words | written by |
//! |---|---|---|
//! | 0 | `write_pos`, `last_timestamp` | writers |
//! | 1 | `consumed` | the reader |
//! | 2 | `lost.full`, `.wrap`, `.too_big`, `aborted`, `deciding`, `before` | writers, when it happens |
//! | 3 | `recorded` | deliverers, once per packet |
//! | 4+2i | `committed[i]` and facts of i | writers |
//! | 5+2i | `delivered[i]`, `table[i]` | deliverer, reader; writers load |
//! | 4+2N+m | `packet[m]` | deliverer |
//!
//! Of the lines that a record's fast path writes a polling reader loads `write_pos` alone.
//!
//! # Orderings: who pairs with whom
//! | word | writers | reader | publishes |
//! |---|---|---|---|
//! | `write_pos` | load Acquire; CAS Release | Relaxed | the opener's view to later writers in the sub-buffer |
//! | `consumed` | discard: load Acquire | store Release, after the exchange | the new table word to who enters the sub-buffer |
//! | `table[j]` | load Acquire; noref CAS Acquire, also where it fails; deliverer's store Relaxed | CAS Release; a snapshot's CAS back Release | the reader's last use of the memory that it puts in |
//! | `committed[i]` | add AcqRel | | record bytes and facts to the deliverer |
//! | `delivered[i]` | deliverer's store Release; opener's load Acquire | load Acquire | header, bytes, table, facts, `packet[m]` |
//! | `deciding` | add, fence SeqCst, then `write_pos`; sub Release | finalise, fence SeqCst, load Acquire | a refused writer's loss to the last packet |
//! | facts, `packet[m]`, counters | Relaxed: ride on the above | Relaxed | |
//!
//! Each of them, weakened by itself, fails a model: `models/orderings`, whose last table is
//! docs/orderings.md.

// The models have loom's cells, which are reached by pointer.
#![cfg_attr(not(loom), forbid(unsafe_code))]
#![cfg_attr(loom, allow(unsafe_code, reason = "the models' cells"))]

mod commit;
mod loss;
mod position;
mod read;
mod reserve;
mod snapshot;
mod subbuf_id;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(any(loom, sim))))]
mod oracle;
#[cfg(all(test, sim))]
pub(crate) mod sim;
#[cfg(all(test, not(loom)))]
mod tests;

pub use commit::{Claimed, Closing, PacketFacts};
pub use loss::{Books, Deciding, Lost};
pub use position::{Geometry, GeometryError, Mode, Position};
pub use read::{Held, NotNow};
pub use reserve::{Grant, Layout, Measure, Refused, Reserved};
pub use snapshot::{Gathering, Lent};
pub use subbuf_id::MemoryIndex;

use std::marker::PhantomData;

use crate::sync::{AtomicU64, Locked, Ordering, Primitives};
use position::FINALISED;
use subbuf_id::SubBufferId;

/// Eight words on a cache line of their own.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line([AtomicU64; 8]);

impl Line {
    /// Its words, as they lie in memory.
    pub fn words(&self) -> &[AtomicU64; 8] {
        &self.0
    }
}

/// Whose clock a stream's timestamps come from. A stream never mixes the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// Taken inside the reserve loop.
    Clock,
    /// Brought by the source; one writer at a time.
    Given,
}

/// State that is not what it says it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Too few lines for the geometry.
    #[error("the ring's state has {found} lines, {needed} are needed")]
    #[expect(missing_docs, reason = "named by the message")]
    Lines { found: usize, needed: usize },
    /// A table that names a memory twice, or one that does not exist.
    #[error("sub-buffer {0} uses a memory that does not exist or that another one uses")]
    Table(usize),
    /// Positions that cannot be.
    #[error("the ring's positions contradict each other")]
    Positions,
}

/// The synchronisation of one stream: a view over its words, wherever they lie.
#[derive(Debug)]
pub struct Frontend<L, P = Locked> {
    lines: L,
    geometry: Geometry,
    mode: Mode,
    timestamps: Timestamps,
    primitives: PhantomData<P>,
}

// Where the words are. Names are those of the table above.
const WRITE_POS: (usize, usize) = (0, 0);
const LAST_TIMESTAMP: (usize, usize) = (0, 1);
const CONSUMED: (usize, usize) = (1, 0);
const LOST: usize = 2;
const RECORDED: (usize, usize) = (3, 0);
const SUBBUFS: usize = 4;
const COMMITTED: usize = 0;
const FACT_CONTENT_END: usize = 1;
const FACT_END: usize = 2;
const FACT_LOST: usize = 3;
const FACT_BEGIN: usize = 4;
const FACT_ORIGIN: usize = 5;
const DELIVERED: usize = 0;
const TABLE: usize = 1;

/// Bits of `committed` that count records; the bytes lie above them.
const RECORD_BITS: u32 = 24;
const RECORDS: u64 = (1 << RECORD_BITS) - 1;
/// Bytes in `committed` are compared modulo this.
const BYTES_MASK: u64 = (1 << (64 - RECORD_BITS)) - 1;

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// Lines that a stream of this geometry needs.
    #[must_use]
    pub fn lines_needed(geometry: Geometry) -> usize {
        SUBBUFS + 2 * geometry.subbuf_count() as usize + geometry.memories() as usize
    }

    /// A new stream over zeroed lines.
    ///
    /// # Errors
    /// Too few lines.
    pub fn new(
        lines: L,
        geometry: Geometry,
        mode: Mode,
        timestamps: Timestamps,
    ) -> Result<Self, StateError> {
        Self::new_at(lines, geometry, mode, timestamps, 0)
    }

    /// A new stream whose positions begin with lap `lap` (tests begin near the wraps).
    pub(crate) fn new_at(
        lines: L,
        geometry: Geometry,
        mode: Mode,
        timestamps: Timestamps,
        lap: u64,
    ) -> Result<Self, StateError> {
        let this = Self { lines, geometry, mode, timestamps, primitives: PhantomData };
        this.check_lines()?;
        let start = Position::new(lap.wrapping_mul(geometry.buffer_size()));
        this.word(WRITE_POS).store(start.get(), Ordering::Relaxed);
        this.word(CONSUMED).store(start.get(), Ordering::Relaxed);
        for i in 0..geometry.subbuf_count() {
            let before = geometry.before(start);
            this.hot(i as usize, COMMITTED).store(before << RECORD_BITS, Ordering::Relaxed);
            this.cold(i as usize, DELIVERED).store(before, Ordering::Relaxed);
            let id = SubBufferId::taken(MemoryIndex::new(i));
            this.cold(i as usize, TABLE).store(id.word(), Ordering::Relaxed);
        }
        Ok(this)
    }

    /// A view over lines that hold a stream already, checked before they are trusted.
    ///
    /// # Errors
    /// Which word cannot be right.
    pub fn attach(
        lines: L,
        geometry: Geometry,
        mode: Mode,
        timestamps: Timestamps,
    ) -> Result<Self, StateError> {
        let this = Self { lines, geometry, mode, timestamps, primitives: PhantomData };
        this.check_lines()?;
        let consumed = this.word(CONSUMED).load(Ordering::Relaxed);
        let ahead = this.write_position().from(Position::new(consumed));
        let in_ring = mode == Mode::Overwrite || ahead <= geometry.buffer_size().cast_signed();
        if consumed & FINALISED != 0
            || geometry.offset(Position::new(consumed)) != 0
            || ahead < 0
            || !in_ring
        {
            return Err(StateError::Positions);
        }
        let mut seen = vec![false; geometry.memories() as usize];
        for i in 0..geometry.subbuf_count() as usize {
            let memory = this.table(i).memory().get();
            match seen.get_mut(memory) {
                Some(used) if !*used => *used = true,
                _ => return Err(StateError::Table(i)),
            }
        }
        Ok(this)
    }

    /// The memories that the table does not name: the reader's, also the one's that comes after
    /// a reader that died. Meaningful while no reader is at work, to a caller who has
    /// synchronised with the end of the one before (joined it, locked what it held, or seen its
    /// process's end).
    pub fn unnamed(&self) -> Vec<MemoryIndex> {
        let count = self.geometry.subbuf_count() as usize;
        let named: Vec<_> = (0..count).map(|i| self.memory(self.table(i))).collect();
        (0..self.geometry.memories()).map(MemoryIndex::new).filter(|m| !named.contains(m)).collect()
    }

    fn check_lines(&self) -> Result<(), StateError> {
        let (found, needed) = (self.lines.as_ref().len(), Self::lines_needed(self.geometry));
        if found < needed { Err(StateError::Lines { found, needed }) } else { Ok(()) }
    }

    /// Its sizes.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
    /// What a full ring does.
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// Whose clock.
    pub fn timestamps(&self) -> Timestamps {
        self.timestamps
    }
    /// The end of what is reserved.
    pub fn write_position(&self) -> Position {
        // Relaxed: what lies before it is read after `delivered` was acquired.
        Position::new(self.word(WRITE_POS).load(Ordering::Relaxed))
    }
    /// The reader's cursor.
    pub fn consumed(&self) -> Position {
        Position::new(self.word(CONSUMED).load(Ordering::Relaxed))
    }
    /// Whether no record will come any more.
    pub fn is_finalised(&self) -> bool {
        // Relaxed: who must not miss it has a fence of its own (`deciding`).
        self.word(WRITE_POS).load(Ordering::Relaxed) & FINALISED != 0
    }
    /// Sub-buffers between the reader's cursor and the end of what is reserved, a
    /// part-filled one counted as one. In overwrite mode this may be more than there are.
    pub fn fill(&self) -> u64 {
        let ahead = self.write_position().from(self.consumed()).max(0).cast_unsigned();
        ahead.div_ceil(self.geometry.subbuf_size())
    }

    #[inline]
    fn word(&self, (line, word): (usize, usize)) -> &AtomicU64 {
        &self.lines.as_ref()[line].0[word]
    }
    #[inline]
    fn hot(&self, i: usize, word: usize) -> &AtomicU64 {
        &self.lines.as_ref()[SUBBUFS + 2 * i].0[word]
    }
    #[inline]
    fn cold(&self, i: usize, word: usize) -> &AtomicU64 {
        &self.lines.as_ref()[SUBBUFS + 2 * i + 1].0[word]
    }
    /// The memory that a table word names. What somebody else may have scribbled into is never
    /// used as an index before it is checked (I12).
    #[inline]
    fn memory(&self, id: SubBufferId) -> MemoryIndex {
        let last = self.geometry.memories() - 1;
        MemoryIndex::new((id.memory().get() as u32).min(last))
    }
    fn packet(&self, m: MemoryIndex) -> &[AtomicU64; 8] {
        let first = SUBBUFS + 2 * self.geometry.subbuf_count() as usize;
        &self.lines.as_ref()[first + m.get()].0
    }
    #[inline]
    fn table(&self, i: usize) -> SubBufferId {
        // Acquire: with the reader's exchange (its last use of the memory that it put in).
        SubBufferId::from_word(self.cold(i, TABLE).load(Ordering::Acquire))
    }
}
