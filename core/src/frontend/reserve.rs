//! Reserve: how a writer gets a range of bytes that is its own.
//!
//! Fast path: one clock, one compare-and-swap. Slow path, decided before the same
//! compare-and-swap: close the current sub-buffer and open the next one. A reservation has
//! at most one part in each sub-buffer: padding in the old, header room and record in the
//! new, so each step can be finished by somebody else.

use super::commit::{Closing, PacketFacts};
use super::position::FINALISED;
use super::subbuf_id::SubBufferId;
use super::{CONSUMED, DELIVERED};
use super::{
    FACT_BEGIN, FACT_CONTENT_END, FACT_END, FACT_LOST, FACT_ORIGIN, Frontend, Geometry,
    LAST_TIMESTAMP, Line, Lost, MemoryIndex, Mode, Position, TABLE, Timestamps, WRITE_POS,
};
use crate::sync::{Ordering, Primitives, load_to_change};

/// What the seam knows and the frontend does not: times and sizes. Asked inside the retry
/// loop; the last answers are those that hold.
pub trait Layout {
    /// The time of the record: the clock's, or the given one. Once per turn.
    fn now(&mut self) -> u64;
    /// The record's size with its header (and alignment, had we any) when it is made at
    /// `now` after a record made at `last` or later (`None`: first in its packet). A run
    /// of records takes as many as fit `room`, at least one.
    fn measure(&mut self, now: u64, last: Option<u64>, room: u64) -> Measure;
    /// What the packet says of its origin (a thread id), when this record opens it.
    fn origin(&self) -> u64 {
        0
    }
}

/// How much a reservation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Bytes; never 0.
    pub size: u64,
    /// Records, 1 or more.
    pub records: u32,
    /// The time of the last of them.
    pub end: u64,
}

/// A range to write: exclusive until it is committed, which its holder owes.
///
/// Kept small: it is moved through the fast path of every record.
#[must_use = "a grant that is not committed stops its stream"]
#[derive(Debug)]
pub struct Grant {
    pub(super) start: Position,
    /// Bytes from `start`, header room included (a sub-buffer has at most 64 MiB).
    pub(super) size: u32,
    pub(super) records: u32,
    /// Header room at the beginning.
    skip: u32,
    memory: MemoryIndex,
    time: u64,
}

impl Grant {
    /// The memory that it lies in.
    #[inline]
    pub fn memory(&self) -> MemoryIndex {
        self.memory
    }
    /// The offset of the record in its sub-buffer (header room left out).
    #[inline]
    pub fn offset(&self, geometry: Geometry) -> u64 {
        geometry.offset(self.start) + u64::from(self.skip)
    }
    /// Bytes of the record, from `offset`.
    #[inline]
    pub fn len(&self) -> u64 {
        (self.size - self.skip).into()
    }
    /// Never: a record has a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The record's time (of a run: the first one's).
    #[inline]
    pub fn time(&self) -> u64 {
        self.time
    }
    /// Its records count as none: it is committed as aborted.
    pub fn give_up(&mut self) {
        self.records = 0;
    }
}

/// A grant, and perhaps the duty to deliver the sub-buffer that it closed: to be done
/// before the record is written.
#[must_use]
#[derive(Debug)]
pub struct Reserved {
    /// The range.
    pub grant: Grant,
    /// The old sub-buffer, if this reservation's padding completed it.
    pub closing: Option<Closing>,
}

/// Why there is no grant. Nothing has been counted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The stream is finalised; the record was not offered.
    Closed,
    /// Lost, unless the writer waits (block mode).
    Lost(Lost),
}

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// One attempt at the fast path: one clock, one compare-and-swap. `None`: anything
    /// else, for [`Frontend::reserve`] to find out.
    #[inline(always)]
    pub fn reserve_fast(&self, layout: &mut impl Layout) -> Option<Grant> {
        let g = self.geometry;
        // Acquire: with the CAS of the writer before; what it saw, this one sees.
        let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);
        let old = Position::new(word);
        let offset = g.offset(old);
        if word & FINALISED != 0 || offset == 0 {
            return None;
        }
        // Loaded after write_pos: if the CAS below succeeds, then whoever stored it has
        // its record before this one. A race makes it older, and a full timestamp more.
        let last = self.word(LAST_TIMESTAMP).load(Ordering::Relaxed);
        let now = self.time(layout);
        let room = g.subbuf_size() - offset;
        let m = layout.measure(now, Some(last), room);
        // Strictly less: a record that ends at the boundary is its own closer.
        if m.size >= room || !self.advance(old, old.plus(m.size), &m) {
            return None;
        }
        Some(self.grant(old, 0, now, &m))
    }

    /// Reserves room for what `layout` describes.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn reserve(&self, layout: &mut impl Layout) -> Result<Reserved, Refused> {
        loop {
            if let Some(grant) = self.reserve_fast(layout) {
                return Ok(Reserved { grant, closing: None });
            }
            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);
            if word & FINALISED != 0 {
                return Err(Refused::Closed);
            }
            let last = self.word(LAST_TIMESTAMP).load(Ordering::Relaxed);
            let now = self.time(layout);
            if let Some(result) = self.reserve_slow(layout, Position::new(word), now, last) {
                return result;
            }
        }
    }

    /// One turn of the slow path: the record ends at, or goes beyond, the current
    /// sub-buffer's end, or begins at its start. `None`: somebody was faster, or it does
    /// fit after all.
    #[cold]
    fn reserve_slow(
        &self,
        layout: &mut impl Layout,
        old: Position,
        now: u64,
        last: u64,
    ) -> Option<Result<Reserved, Refused>> {
        let g = self.geometry;
        let (size, offset) = (g.subbuf_size(), g.offset(old));
        let lost = self.lost_sum();
        if offset != 0 {
            let room = size - offset;
            let m = layout.measure(now, Some(last), room);
            if m.size < room {
                return None;
            }
            if m.size == room {
                if !self.advance(old, old.plus(room), &m) {
                    return None;
                }
                // The closer's facts, before its one add.
                self.close(g.index(old), old.plus(room), Some(m.end), lost);
                return Some(Ok(Reserved { grant: self.grant(old, 0, now, &m), closing: None }));
            }
        }
        let m = layout.measure(now, None, size - g.header());
        if m.size > size - g.header() {
            return Some(Err(Refused::Lost(Lost::TooBig)));
        }
        let begin = if offset == 0 { old } else { g.start(old).plus(size) };
        if let Err(lost) = self.may_open(begin) {
            // Without this second look records are lost that nobody stands in the way of.
            // For `full` a stale position errs on the other side: `consumed` only grows.
            if self.word(WRITE_POS).load(Ordering::Relaxed) != old.get() {
                return None;
            }
            return Some(Err(Refused::Lost(lost)));
        }
        let end = begin.plus(g.header() + m.size);
        if !self.advance(old, end, &m) {
            return None;
        }
        step!("reserve: opened");
        let index = g.index(begin);
        // The opener's facts. Nobody else has anything to do with them: the deliverer of
        // the lap before touched nothing of i any more once `delivered` was complete.
        self.hot(index, FACT_BEGIN).store(now, Ordering::Relaxed);
        self.hot(index, FACT_ORIGIN).store(layout.origin(), Ordering::Relaxed);
        if g.offset(end) == 0 {
            self.close(index, end, Some(m.end), lost);
        }
        let whole = Measure { size: g.header() + m.size, ..m };
        let grant = self.grant(begin, g.header() as u32, now, &whole);
        let closing = if begin == old {
            None
        } else {
            self.close(g.index(old), old, Some(now), lost);
            self.add(g.index(old), old, begin.from(old).cast_unsigned(), 0)
        };
        Some(Ok(Reserved { grant, closing }))
    }

    /// Whether the sub-buffer at `begin` may be opened.
    pub(super) fn may_open(&self, begin: Position) -> Result<(), Lost> {
        let g = self.geometry;
        if self.mode == Mode::Overwrite {
            // Acquire: with the deliverer's Release; facts and table of j are as it left them.
            let delivered = self.cold(g.index(begin), DELIVERED).load(Ordering::Acquire);
            if delivered == g.before(begin) { Ok(()) } else { Err(Lost::Wrap) }
        } else {
            // Acquire: with the reader's Release; who enters j sees the new table word.
            let consumed = Position::new(self.word(CONSUMED).load(Ordering::Acquire));
            if begin.from(consumed) >= g.buffer_size().cast_signed() {
                Err(Lost::Full)
            } else {
                Ok(())
            }
        }
    }

    /// The record's time; a given one is never before the last.
    #[inline(always)]
    fn time(&self, layout: &mut impl Layout) -> u64 {
        match self.timestamps {
            Timestamps::Clock => layout.now(),
            Timestamps::Given => {
                layout.now().max(self.word(LAST_TIMESTAMP).load(Ordering::Relaxed))
            }
        }
    }

    /// The compare-and-swap.
    #[inline(always)]
    fn advance(&self, old: Position, new: Position, m: &Measure) -> bool {
        if P::compare_exchange(self.word(WRITE_POS), old.get(), new.get()).is_err() {
            return false;
        }
        step!("reserve: write_pos moved");
        // After the CAS: a failed attempt would make it too new, and a needed full
        // timestamp would be missed in silence.
        self.word(LAST_TIMESTAMP).store(m.end, Ordering::Relaxed);
        true
    }

    #[inline(always)]
    fn grant(&self, start: Position, skip: u32, time: u64, m: &Measure) -> Grant {
        let index = self.geometry.index(start);
        if self.timestamps == Timestamps::Given {
            // Before its commit: see `close`.
            self.hot(index, FACT_END).store(m.end, Ordering::Relaxed);
        }
        let memory = self.enter(index);
        Grant { start, size: m.size as u32, records: m.records, skip, memory, time }
    }

    /// The memory of sub-buffer `j`, safe from the reader: every reservation does this, not
    /// only the opener's (only the opener doing it gives the reader torn data), and uses
    /// the memory in the word finally seen, never one loaded before.
    #[inline(always)]
    pub(super) fn enter(&self, j: usize) -> MemoryIndex {
        let mut id = self.table(j);
        if self.mode == Mode::Overwrite {
            while id.is_noref() {
                let word = self.cold(j, TABLE);
                // Acquire where it succeeds: the word that was loaded may have been away and come
                // back, lent to a snapshot, whose last look at the memory comes before our first
                // byte. Acquire where it fails, as the load in `table`: the same for the memory
                // that the reader put in.
                match word.compare_exchange(
                    id.word(),
                    id.referred().word(),
                    Ordering::Acquire,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        step!("reserve: noref off");
                        break;
                    }
                    Err(found) => id = SubBufferId::from_word(found),
                }
            }
        }
        self.memory(id)
    }

    /// The closer's facts of sub-buffer `i`, before its commit.
    ///
    /// Where timestamps are given, `end` is not the closer's to say: the stream's one writer
    /// stores the time of its last record with each reservation, before it commits, so that
    /// the deliverer finds it. A switch that races with the writer then can neither end a
    /// packet before its last record nor push a time up that it never saw recorded.
    pub(super) fn close(&self, i: usize, content_end: Position, end: Option<u64>, lost: u64) {
        self.hot(i, FACT_CONTENT_END).store(content_end.get(), Ordering::Relaxed);
        self.hot(i, FACT_LOST).store(lost, Ordering::Relaxed);
        if let (Timestamps::Clock, Some(end)) = (self.timestamps, end) {
            self.hot(i, FACT_END).store(end, Ordering::Relaxed);
        }
    }

    /// Leaves a part-filled sub-buffer: pads it to its end and opens nothing. An empty one
    /// is skipped. Races with writers like any writer. `now` is the clock, not used where
    /// timestamps are given.
    pub fn switch(&self, now: impl FnMut() -> u64) -> Option<Closing> {
        self.seal(now, 0)
    }

    /// Ends the stream: no grant after this. Sets the top bit by the same compare-and-swap
    /// that pads the last sub-buffer.
    pub fn finalise(&self, now: impl FnMut() -> u64) -> Option<Closing> {
        self.seal(now, FINALISED)
    }

    fn seal(&self, mut now: impl FnMut() -> u64, bit: u64) -> Option<Closing> {
        let g = self.geometry;
        loop {
            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);
            let old = Position::new(word);
            let offset = g.offset(old);
            if word & FINALISED != 0 || (offset == 0 && bit == 0) {
                return None;
            }
            // Inside the loop and before the CAS, or times and sums run backwards.
            let end = (self.timestamps == Timestamps::Clock).then(&mut now);
            let lost = self.lost_sum();
            let padding = if offset == 0 { 0 } else { g.subbuf_size() - offset };
            let new = old.plus(padding).get() | bit;
            if P::compare_exchange(self.word(WRITE_POS), word, new).is_err() {
                continue;
            }
            step!("switch: write_pos moved");
            if padding == 0 {
                return None;
            }
            self.close(g.index(old), old, end, lost);
            return self.add(g.index(old), old, padding, 0);
        }
    }

    /// An empty packet, if records were lost since the last closed sub-buffer: it carries
    /// their sum. For the reader, after draining. `None`: nothing to tell, or no room now
    /// (the reader tries again after its next get); no loss is counted for it.
    /// Once the stream is finalised: see [`Frontend::last_words`].
    pub fn empty_packet(&self, mut now: impl FnMut() -> u64) -> Option<Closing> {
        let g = self.geometry;
        loop {
            // Relaxed: what lies before it is acquired with `delivered`, below.
            let word = load_to_change(self.word(WRITE_POS), Ordering::Relaxed);
            let old = Position::new(word);
            if word & FINALISED != 0 || g.offset(old) != 0 {
                return None;
            }
            let before = old.minus(g.subbuf_size());
            let i = g.index(before);
            // Acquire: with the deliverer's Release; facts of i are whole. Still open: its
            // closer is on its way and carries the sum, or we are asked again.
            if self.cold(i, DELIVERED).load(Ordering::Acquire) != g.complete(before) {
                return None;
            }
            let told = self.hot(i, FACT_LOST).load(Ordering::Relaxed);
            let lost = self.lost_sum();
            if lost == told || self.may_open(old).is_err() {
                return None;
            }
            let time = match self.timestamps {
                Timestamps::Clock => now(),
                // The last record's, which came before what was just seen delivered.
                Timestamps::Given => match self.word(LAST_TIMESTAMP).load(Ordering::Relaxed) {
                    // There was none: it has no time yet.
                    0 => return None,
                    last => last,
                },
            };
            let new = old.plus(g.subbuf_size()).get();
            if P::compare_exchange(self.word(WRITE_POS), word, new).is_err() {
                continue;
            }
            let j = g.index(old);
            self.hot(j, FACT_BEGIN).store(time, Ordering::Relaxed);
            self.hot(j, FACT_END).store(time, Ordering::Relaxed);
            self.hot(j, FACT_ORIGIN).store(0, Ordering::Relaxed);
            let _memory = self.enter(j);
            self.close(j, old.plus(g.header()), None, lost);
            return self.add(j, old, g.subbuf_size(), 0);
        }
    }
    /// The facts of one more packet, behind all there are, for a finalised stream whose last
    /// packet told `told` losses (`None`: it did not get to where it belongs) and ended at
    /// `ended`; `None`: there is nothing more to tell. It is no reservation: the ring may be
    /// full, and a writer may stand where it would go. The reader puts it into a memory of its
    /// own.
    pub fn last_words(
        &self,
        told: Option<u64>,
        ended: u64,
        now: impl FnOnce() -> u64,
    ) -> Option<PacketFacts> {
        let g = self.geometry;
        let lost = self.lost_in_all();
        if !self.is_finalised() || told == Some(lost) {
            return None;
        }
        let time = match self.timestamps {
            Timestamps::Clock => now(),
            Timestamps::Given => self.word(LAST_TIMESTAMP).load(Ordering::Relaxed),
        };
        let time = time.max(ended);
        Some(PacketFacts {
            sequence: g.sequence(self.write_position()),
            content: g.header(),
            begin: time,
            end: time,
            lost,
            ..PacketFacts::default()
        })
    }
}
