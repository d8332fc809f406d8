//! Records that bring their own time, in runs: the one writer of a stream of its own.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::writer::{copy, put_header};
use super::{Nested, StreamCore, WriteError};
use crate::class::ClassId;
use crate::frontend::{Grant, Layout, Lost, Measure, Mode};
use crate::packet::RecordHeader;

/// How many records of a run are lost together where there is no room for the first of them.
const LOST_TOGETHER: usize = 64;

/// A record that brings its own time.
#[derive(Clone, Copy, Debug)]
pub struct GivenRecord<'a> {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// Its class.
    pub class: ClassId,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Writes records that bring their own timestamps: the one writer of a stream of its own.
pub struct ImportWriter {
    core: Arc<StreamCore>,
    // One at a time: not shared between threads by reference.
    _one: PhantomData<std::cell::Cell<()>>,
}

impl std::fmt::Debug for ImportWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportWriter").field("stream", &self.core.info.id).finish()
    }
}

impl ImportWriter {
    pub(crate) fn new(core: Arc<StreamCore>) -> Self {
        Self { core, _one: PhantomData }
    }

    /// The stream's number in its channel.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.core.info.id
    }

    /// Writes records in their order, as many as fit at once under one compare-and-swap and
    /// one commit. A time before the last one is raised to it, and counted. Gives how many
    /// were recorded; the others have been counted as lost: where there is no room for one, so
    /// have some behind it been that came with it.
    ///
    /// # Errors
    /// The channel is closed; what was not written was not offered.
    pub fn write_run(&mut self, records: &[GivenRecord<'_>]) -> Result<usize, WriteError> {
        self.write_run_of(records.len(), |i| records[i])
    }

    /// The same for `count` records that `record` gives by their place in the run: for a source
    /// whose records lie in a form of its own. It is asked twice for most of them, and must
    /// answer the same.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Panics
    /// It answered with a longer payload the second time.
    pub fn write_run_of<'a>(
        &mut self,
        count: usize,
        record: impl Fn(usize) -> GivenRecord<'a>,
    ) -> Result<usize, WriteError> {
        let (mut at, mut recorded) = (0, 0);
        while at < count {
            let mut layout =
                Run { record: &record, at, count, taken: 0, first: None, lifetime: PhantomData };
            let _nested = Nested::enter();
            match self.core.reserve_slow(&mut layout) {
                Ok(grant) => {
                    let (taken, first) = (layout.taken, layout.first);
                    let first = first.unwrap_or(RecordHeader::Compact);
                    self.store_run(grant, (at..at + taken).map(&record), first);
                    recorded += taken;
                    at += taken;
                }
                Err(WriteError::Closed) => return Err(WriteError::Closed),
                // It alone is lost; the next one may fit.
                Err(WriteError::Lost(Lost::TooBig)) => at += 1,
                // So are those behind it: they were offered at the same moment. Not all the
                // rest: the reader may have made room by then.
                Err(WriteError::Lost(lost)) => {
                    let together = (count - at).min(LOST_TOGETHER);
                    self.core.frontend.count_lost(lost, together as u64 - 1);
                    at += together;
                }
            }
        }
        Ok(recorded)
    }

    /// Whether there is room for a run of so many bytes, or as much as there can be: half the
    /// ring. In overwrite mode there always is. A source that can leave its records where they
    /// are asks before it takes them.
    pub fn has_room(&self, bytes: u64) -> bool {
        let f = &self.core.frontend;
        let (count, size) = (u64::from(f.geometry().subbuf_count()), f.geometry().subbuf_size());
        // One more: it may begin in the middle of a sub-buffer.
        let needed = (bytes.div_ceil(size) + 1).min(count / 2);
        f.mode() == Mode::Overwrite || f.is_finalised() || f.fill() + needed <= count
    }

    /// Bytes of its ring.
    pub fn ring(&self) -> u64 {
        self.core.frontend.geometry().buffer_size()
    }

    /// Counts records that the source lost before it could bring them, at this place: what was
    /// written so far goes into a packet of its own, the next one tells the loss.
    pub fn lost_before(&mut self, records: u64) {
        if records > 0 {
            self.core.switch();
            self.core.frontend.count_lost_before(records);
        }
    }

    fn store_run<'a>(
        &mut self,
        grant: Grant,
        records: impl Iterator<Item = GivenRecord<'a>>,
        first: RecordHeader,
    ) {
        let to = self.core.address(&grant);
        // The grant's time is the first record's, or the stream's last one, if that is later.
        let (mut at, mut time, mut last) = (0, grant.time(), None);
        for record in records {
            if record.time < time {
                self.core.delivered.raised.fetch_add(1, Ordering::Relaxed);
            }
            time = time.max(record.time);
            let header = match last {
                None => first,
                Some(_) => RecordHeader::choose(record.class, time, last),
            };
            last = Some(time);
            let (size, payload) = (header.size() as usize, record.payload);
            // In every build: what follows leans on it.
            assert!((at + size + payload.len()) as u64 <= grant.len(), "measured as written");
            // SAFETY: just checked against the grant, which is exclusive until its commit.
            unsafe {
                put_header(to.add(at), header, record.class.number(), time);
                at += size;
                copy_longer(payload.as_ptr(), to.add(at), payload.len());
            }
            at += payload.len();
        }
        debug_assert_eq!(at as u64, grant.len());
        self.core.commit(grant);
    }

    /// Leaves the part-filled sub-buffer.
    pub fn switch(&self) {
        self.core.switch();
    }
}

/// Copies `n` bytes, without a call up to what most of the kernel's events have: in pieces of 32
/// bytes, the last of which may overlap the one before.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy_longer(from: *const u8, to: *mut u8, n: usize) {
    const PIECE: usize = size_of::<[u128; 2]>();
    // SAFETY: the caller's promise; `n` is more than a piece, so each piece lies in the `n` bytes.
    unsafe {
        if !(PIECE + 1..=4 * PIECE).contains(&n) {
            return copy(from, to, n);
        }
        let piece = |at: usize| {
            let bytes = from.add(at).cast::<[u128; 2]>().read_unaligned();
            to.add(at).cast::<[u128; 2]>().write_unaligned(bytes);
        };
        let mut at = 0;
        while at + PIECE < n {
            piece(at);
            at += PIECE;
        }
        piece(n - PIECE);
    }
}

/// The layout of a run of given records: as many as fit.
struct Run<'f, 'a, F: Fn(usize) -> GivenRecord<'a>> {
    record: &'f F,
    /// The first one's place, and the end of all there are.
    at: usize,
    count: usize,
    taken: usize,
    first: Option<RecordHeader>,
    lifetime: PhantomData<&'a ()>,
}

impl<'a, F: Fn(usize) -> GivenRecord<'a>> Layout for Run<'_, 'a, F> {
    fn now(&mut self) -> u64 {
        (self.record)(self.at).time
    }
    fn measure(&mut self, now: u64, last: Option<u64>, room: u64) -> Measure {
        let (mut size, mut time, mut before) = (0, now, last);
        self.taken = 0;
        for record in (self.at..self.count).map(self.record) {
            time = time.max(record.time);
            let header = RecordHeader::choose(record.class, time, before);
            let more = u64::from(header.size()) + record.payload.len() as u64;
            if self.taken > 0 && size + more > room {
                break;
            }
            if self.taken == 0 {
                self.first = Some(header);
            }
            size += more;
            self.taken += 1;
            before = Some(time);
            // The counter of records in `committed` has 24 bits for a whole sub-buffer.
            if size >= room {
                break;
            }
        }
        // `time` may have moved on with a record that did not fit any more.
        let end = before.unwrap_or(now);
        Measure { size, records: self.taken as u32, end }
    }
}
