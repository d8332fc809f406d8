//! The books: a record is recorded, or counted under exactly one name.
//!
//! No counter is touched per record on the fast path: records are counted in the low bits
//! of `committed`, taken by the deliverer once per packet; `kept` and `overwritten` are
//! derived.

use super::{
    BYTES_MASK, COMMITTED, DELIVERED, Frontend, LOST, Line, RECORD_BITS, RECORDED, RECORDS,
};
use crate::sync::{AtomicU64, Ordering, Primitives, fence};

/// Why a record was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The ring was full (discard and block mode).
    Full,
    /// A writer was still inside the sub-buffer to be overwritten (overwrite mode), or
    /// never came out of the sub-buffer that the record lies in until the stream ended.
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
    /// Delivered and still in the ring. What is lent to a snapshot is not while it is away (the
    /// seam adds it).
    pub kept: u64,
    /// Lost before they came here, as their source says: never offered, but told by packets.
    pub before: u64,
}

impl Books {
    /// What was offered: the sum of all that became of it.
    #[must_use]
    pub fn offered(&self) -> u64 {
        [self.recorded, self.full, self.wrap, self.too_big, self.aborted]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

const ABORTED: (usize, usize) = (LOST, 3);
const DECIDING: (usize, usize) = (LOST, 4);
const BEFORE: (usize, usize) = (LOST, 5);

/// A writer that the fast path refused: it will have a grant, or count its loss. Until this
/// is dropped the end of the stream waits for it, so that its last packet tells every loss.
#[must_use = "held until the loss is counted"]
#[derive(Debug)]
pub struct Deciding<'a>(&'a AtomicU64);

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        // Release: with the Acquire in `nobody_decides`; the loss was counted before it.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

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

    /// Counts records that their source lost before they came here.
    ///
    /// They are counted among the full ones, and how many of those they are in a word of its
    /// own: the sum that closers take inside their retry loops (`lost_sum`) stays three loads.
    #[cold]
    pub fn count_lost_before(&self, records: u64) {
        self.count_lost(Lost::Full, records);
        self.word(BEFORE).fetch_add(records, Ordering::Relaxed);
    }

    /// Counts a reservation that was given up.
    #[cold]
    pub fn count_aborted(&self) {
        self.word(ABORTED).fetch_add(1, Ordering::Relaxed);
    }

    /// Says that a loss may be counted; `None`: the stream is finalised, nothing more is.
    pub fn deciding(&self) -> Option<Deciding<'_>> {
        // Who comes after the end must not keep it waiting.
        if self.is_finalised() {
            return None;
        }
        let word = self.word(DECIDING);
        word.fetch_add(1, Ordering::Relaxed);
        // SeqCst: with the fence in `nobody_decides`, over this word and `write_pos`: the
        // writer sees that the stream is finalised, or the finaliser sees the writer.
        fence(Ordering::SeqCst);
        Some(Deciding(word))
    }

    /// Whether no loss is about to be counted (once finalised).
    pub(super) fn nobody_decides(&self) -> bool {
        // SeqCst: with the fence in `deciding`; `write_pos` was finalised before it.
        fence(Ordering::SeqCst);
        // Acquire: with the Release of the last one that was.
        self.word(DECIDING).load(Ordering::Acquire) == 0
    }

    /// Records in sub-buffers that were given up at the end (see `give_up`): those that were
    /// committed by then, and those that come too late.
    pub(super) fn given_up(&self) -> u64 {
        if !self.is_finalised() {
            return 0;
        }
        let g = self.geometry;
        (0..g.subbuf_count() as usize)
            .filter_map(|i| {
                // Relaxed: exact once `get`, `is_settled` or `pass_over` has acquired what there
                // is. Odd only says who may deliver it.
                let delivered = self.cold(i, DELIVERED).load(Ordering::Relaxed) & !1;
                let word = self.hot(i, COMMITTED).load(Ordering::Relaxed);
                let bytes = (word >> RECORD_BITS).wrapping_sub(delivered) & BYTES_MASK;
                // More than a lap can have: `give_up` added that. As much: its deliverer did not
                // get as far as to hand it over.
                (bytes >= g.subbuf_size()).then_some(word & RECORDS)
            })
            .fold(0, u64::saturating_add)
    }

    /// All losses there are, once the stream has ended: what its last packet tells.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.lost_sum().wrapping_add(self.given_up())
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

    /// Records and bytes that are committed and not delivered yet: what a live display adds to
    /// what was recorded. Not part of the books; while writers run, as exact as a look at one
    /// word after the other can be.
    pub fn underway(&self) -> (u64, u64) {
        let g = self.geometry;
        (0..g.subbuf_count() as usize).fold((0, 0), |(records, bytes), i| {
            let delivered = self.cold(i, DELIVERED).load(Ordering::Relaxed);
            let word = self.hot(i, COMMITTED).load(Ordering::Relaxed);
            let more = (word >> RECORD_BITS).wrapping_sub(delivered) & BYTES_MASK;
            let open = more < g.subbuf_size() && delivered.is_multiple_of(2);
            (records + (word & RECORDS), bytes + if open { more } else { 0 })
        })
    }

    /// The books as they stand. While writers run the words are read one after another;
    /// once the stream is finalised and drained they agree exactly.
    pub fn books(&self) -> Books {
        let load = |at| self.word(at).load(Ordering::Relaxed);
        let mut kept = 0;
        for i in 0..self.geometry.subbuf_count() as usize {
            let id = self.table(i);
            let is_delivered = self.cold(i, DELIVERED).load(Ordering::Relaxed).is_multiple_of(2);
            if id.is_noref() && !id.is_taken() && is_delivered {
                let records = &self.packet(self.memory(id))[super::commit::RECORDS_IN];
                // Saturating: somebody may have scribbled there.
                kept = u64::saturating_add(kept, records.load(Ordering::Relaxed));
            }
        }
        let before = load(BEFORE);
        Books {
            recorded: load(RECORDED),
            // Saturating: somebody may have scribbled there.
            full: load(Lost::Full.word()).saturating_sub(before),
            wrap: load(Lost::Wrap.word()).saturating_add(self.given_up()),
            too_big: load(Lost::TooBig.word()),
            aborted: load(ABORTED),
            kept,
            before,
        }
    }
}
