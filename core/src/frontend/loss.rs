//! The books: a record is recorded, or counted under exactly one name.
//!
//! No counter is touched per record on the fast path: records are counted in the low bits
//! of `committed`, taken by the deliverer once per packet; `kept` and `overwritten` are
//! derived.

use super::{Frontend, LOST, Line, RECORDED};
use crate::sync::{Ordering, Primitives};

/// Why a record was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The ring was full (discard and block mode).
    Full,
    /// A writer was still inside the sub-buffer to be overwritten (overwrite mode), or
    /// never came out of it until the stream ended.
    Wrap,
    /// The record does not fit a sub-buffer.
    TooBig,
}

/// The books of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct Books {
    /// In packets that were delivered.
    pub recorded: u64,
    pub full: u64,
    pub wrap: u64,
    pub too_big: u64,
    pub aborted: u64,
    /// Delivered and still in the ring.
    pub kept: u64,
}

impl Books {
    /// What was offered: the sum of all that became of it.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.recorded + self.full + self.wrap + self.too_big + self.aborted
    }
}

const ABORTED: (usize, usize) = (LOST, 3);

impl Lost {
    const fn word(self) -> (usize, usize) {
        match self {
            Self::Full => (LOST, 0),
            Self::Wrap => (LOST, 1),
            Self::TooBig => (LOST, 2),
        }
    }
}

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// Counts a loss of `records`.
    #[cold]
    pub fn count_lost(&self, lost: Lost, records: u64) {
        self.word(lost.word()).fetch_add(records, Ordering::Relaxed);
    }

    /// Counts a reservation that was given up.
    #[cold]
    pub fn count_aborted(&self) {
        self.word(ABORTED).fetch_add(1, Ordering::Relaxed);
    }

    /// Records lost so far, whatever the cause: what packets carry as events_discarded.
    /// Sampled inside the retry loop, so that it never runs backwards from packet to
    /// packet: whoever closes the next sub-buffer has acquired this one's compare-and-swap.
    pub(super) fn lost_sum(&self) -> u64 {
        [Lost::Full, Lost::Wrap, Lost::TooBig]
            .into_iter()
            .map(|lost| self.word(lost.word()).load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// The books as they stand. While writers run the words are read one after another;
    /// once the stream is finalised and drained they agree exactly.
    pub fn books(&self) -> Books {
        let load = |at| self.word(at).load(Ordering::Relaxed);
        let mut kept = 0;
        for i in 0..self.geometry.subbuf_count() as usize {
            let id = self.table(i);
            if id.is_noref() && !id.is_taken() {
                kept += self.packet(id.memory())[super::commit::RECORDS_IN].load(Ordering::Relaxed);
            }
        }
        Books {
            recorded: load(RECORDED),
            full: load(Lost::Full.word()),
            wrap: load(Lost::Wrap.word()),
            too_big: load(Lost::TooBig.word()),
            aborted: load(ABORTED),
            kept,
        }
    }
}
