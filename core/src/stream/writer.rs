//! The writer's side of the seam: a grant is written forward, then committed. It knows no
//! memory's type.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Nested, StreamCore};
use crate::class::ClassId;
use crate::clock;
use crate::frontend::{Grant, Layout, Lost, Measure};
use crate::packet::{self, RecordHeader};

/// Why a record was not recorded. It has been counted, but for `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The channel has been closed; the record counts as not offered.
    #[error("the channel is closed")]
    Closed,
    /// Lost, and counted under this name.
    #[error("the record is lost: {0:?}")]
    Lost(Lost),
}

/// Writes into one stream, from any thread. See `channel::Writer` for one that chooses.
#[derive(Clone)]
pub struct StreamWriter {
    pub(crate) core: Arc<StreamCore>,
}

impl StreamWriter {
    /// Reserves a record of class `class` with `payload` bytes.
    ///
    /// # Errors
    /// See [`WriteError`].
    #[inline]
    pub fn reserve(&self, class: ClassId, payload: usize) -> Result<Reservation<'_>, WriteError> {
        self.core.reserve_record(class, payload)
    }

    /// Leaves the part-filled sub-buffer.
    pub fn switch(&self) {
        self.core.switch();
    }
}

/// A record being written: an exclusive range of a sub-buffer.
///
/// Written forward, then committed. Given up (dropped, as by a panic in between), it becomes
/// an `rbpipe:aborted` record of the same size, counted as `aborted`.
#[must_use = "a reservation that is dropped is recorded as aborted"]
pub struct Reservation<'a> {
    core: &'a StreamCore,
    /// The grant's bytes.
    to: *mut u8,
    /// How many of them are written.
    at: u32,
    header: RecordHeader,
    grant: Grant,
    _nested: Nested,
}

impl Reservation<'_> {
    /// Its timestamp: CLOCK_MONOTONIC, nanoseconds.
    #[inline]
    #[must_use]
    pub fn time(&self) -> u64 {
        self.grant.time()
    }

    /// Payload bytes not written yet.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.grant.len() as usize - self.at as usize
    }

    /// The next bytes of the payload.
    ///
    /// # Panics
    /// With more bytes than were reserved. The record is then aborted.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "more bytes than were reserved");
        // SAFETY: just checked against the grant's length; the grant is exclusive until its
        // commit, and the reader cannot hold this memory before that.
        unsafe {
            copy(bytes.as_ptr(), self.to.add(self.at as usize), bytes.len());
        }
        self.at += bytes.len() as u32;
    }

    /// Commits it. Payload bytes that were not written become zero.
    // Inlined, and taken apart at once, so that no drop of it remains on any way out: else it is
    // moved, in larger pieces than it was stored in, and the CPU waits for each.
    #[inline(always)]
    pub fn commit(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the reservation is not dropped, and nothing reads either of them from it again.
        let (grant, _nested) =
            unsafe { (ptr::read(&raw const this.grant), ptr::read(&raw const this._nested)) };
        let rest = grant.len() as usize - this.at as usize;
        if rest > 0 {
            // SAFETY: the bytes of the grant behind those that are written.
            unsafe { zero(this.to.add(this.at as usize), rest) };
        }
        this.core.commit(grant);
    }
}

/// Stores zeros.
///
/// # Safety
/// `n` bytes of an exclusive grant.
#[cold]
unsafe fn zero(to: *mut u8, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_bytes(to, 0, n) };
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // What is read out of it here is not to be dropped once more with it.
        const { assert!(!std::mem::needs_drop::<Grant>()) };
        // SAFETY: dropped, and not committed: nothing reads the grant after this.
        let grant = unsafe { ptr::read(&raw const self.grant) };
        // SAFETY: `to` and `header` are those of the grant.
        unsafe { give_up(self.core, self.to, self.header, grant) };
    }
}

/// CTF 1.8 has no padding inside a packet: what was given up is told as an event.
///
/// # Safety
/// `to` is where the grant's bytes are, `header` the one that it was measured with.
#[cold]
unsafe fn give_up(core: &StreamCore, to: *mut u8, header: RecordHeader, mut grant: Grant) {
    let size = header.size();
    let payload = grant.len() as u32 - size;
    let (class, n, length) = packet::aborted(payload);
    // SAFETY: `aborted` gives no more bytes than the payload has, and the header is as
    // long as the one that it is stored over; the grant is still exclusive.
    unsafe {
        put_header(to, header, class, grant.time());
        ptr::copy_nonoverlapping(length.as_ptr(), to.add(size as usize), n);
    }
    // The bytes behind may be what the memory held before: readers hide them.
    core.frontend.count_aborted();
    grant.give_up();
    core.commit(grant);
}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl StreamCore {
    #[inline(always)]
    pub(crate) fn reserve_record(
        &self,
        class: ClassId,
        payload: usize,
    ) -> Result<Reservation<'_>, WriteError> {
        // Before the reserve: a handler that comes in right after the compare-and-swap must
        // find this thread inside.
        let nested = Nested::enter();
        let (grant, header) = self.reserve_one(class, payload)?;
        let to = self.address(&grant);
        // SAFETY: a grant is at least as long as the header that it was measured with.
        unsafe { put_header(to, header, class.number(), grant.time()) };
        let at = header.size();
        Ok(Reservation { core: self, to, at, header, grant, _nested: nested })
    }

    /// Reserves, writes and commits a payload that lies ready, without a [`Reservation`] in
    /// between: nothing can panic there, so nothing needs to be given up.
    #[inline(always)]
    pub(crate) fn record(&self, class: ClassId, payload: &[u8]) -> Result<(), WriteError> {
        let _nested = Nested::enter();
        if payload.len() as u64 >= self.frontend.geometry().subbuf_size() {
            return Err(self.too_big());
        }
        let mut layout = One::new(class, payload.len() as u32, &self.origin);
        match self.frontend.reserve_fast(&mut layout) {
            Some(grant) => {
                self.store_record(grant, layout.header, class, payload);
                Ok(())
            }
            // To its end by itself: where the two ways meet again, a grant would have to lie in
            // memory, for every record.
            None => self.record_slow(class, payload),
        }
    }

    #[cold]
    fn record_slow(&self, class: ClassId, payload: &[u8]) -> Result<(), WriteError> {
        let (grant, header) = self.reserve_one_slow(class, payload.len() as u32)?;
        self.store_record(grant, header, class, payload);
        Ok(())
    }

    /// Header, payload, commit.
    #[inline(always)]
    fn store_record(&self, grant: Grant, header: RecordHeader, class: ClassId, payload: &[u8]) {
        let to = self.address(&grant);
        // SAFETY: the grant is as long as the header and the payload that it was measured
        // with, and exclusive until its commit.
        unsafe {
            put_header(to, header, class.number(), grant.time());
            copy(payload.as_ptr(), to.add(header.size() as usize), payload.len());
        }
        self.commit(grant);
    }

    /// A record whose size no arithmetic of positions is asked about.
    #[cold]
    fn too_big(&self) -> WriteError {
        let Some(_deciding) = self.frontend.deciding() else { return WriteError::Closed };
        if self.frontend.is_finalised() {
            return WriteError::Closed;
        }
        self.frontend.count_lost(Lost::TooBig, 1);
        WriteError::Lost(Lost::TooBig)
    }

    #[inline(always)]
    fn reserve_one(
        &self,
        class: ClassId,
        payload: usize,
    ) -> Result<(Grant, RecordHeader), WriteError> {
        if payload as u64 >= self.frontend.geometry().subbuf_size() {
            return Err(self.too_big());
        }
        let mut layout = One::new(class, payload as u32, &self.origin);
        match self.frontend.reserve_fast(&mut layout) {
            Some(grant) => Ok((grant, layout.header)),
            // With a layout of its own: this one's address goes nowhere, so that it lives in
            // registers.
            None => self.reserve_one_slow(class, payload as u32),
        }
    }

    #[cold]
    fn reserve_one_slow(
        &self,
        class: ClassId,
        payload: u32,
    ) -> Result<(Grant, RecordHeader), WriteError> {
        let mut layout = One::new(class, payload, &self.origin);
        let grant = self.reserve_slow(&mut layout)?;
        Ok((grant, layout.header))
    }
}

/// The layout of one record made here.
struct One<'a> {
    class: ClassId,
    payload: u32,
    header: RecordHeader,
    origin: &'a AtomicU32,
}

impl<'a> One<'a> {
    #[inline(always)]
    fn new(class: ClassId, payload: u32, origin: &'a AtomicU32) -> Self {
        Self { class, payload, header: RecordHeader::Compact, origin }
    }
}

impl Layout for One<'_> {
    #[inline]
    fn now(&mut self) -> u64 {
        clock::now()
    }
    #[inline]
    fn measure(&mut self, now: u64, last: Option<u64>, _room: u64) -> Measure {
        self.header = RecordHeader::choose(self.class, now, last);
        Measure { size: (self.header.size() + self.payload).into(), records: 1, end: now }
    }
    fn origin(&self) -> u64 {
        self.origin.load(Ordering::Relaxed).into()
    }
}

/// Copies `n` bytes; short payloads, the most of them, without the call of a `memcpy`: as two
/// words that may overlap.
///
/// # Safety
/// As for [`ptr::copy_nonoverlapping`].
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    /// The first and the last `size_of::<T>()` of `n` bytes.
    #[inline(always)]
    unsafe fn ends<T: Copy>(from: *const u8, to: *mut u8, n: usize) {
        // SAFETY: the caller's promise, and `n` is at least the word's size and at most twice
        // that: both words lie in the `n` bytes, and cover them.
        unsafe {
            let last = n - size_of::<T>();
            let (a, b) =
                (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(a);
            to.add(last).cast::<T>().write_unaligned(b);
        }
    }
    // SAFETY: the caller's promise; the arms' bounds are those that `ends` asks for.
    unsafe {
        match n {
            8..=16 => ends::<u64>(from, to, n),
            17..=32 => ends::<u128>(from, to, n),
            4..=7 => ends::<u32>(from, to, n),
            _ => ptr::copy_nonoverlapping(from, to, n),
        }
    }
}

/// Stores a record header.
///
/// # Safety
/// `to` is the beginning of a grant (or of a part of it that no other record has) of at
/// least `header.size()` bytes: exclusive until its commit, because the reader cannot hold
/// the memory before that (noref is off, or `consumed` has not passed).
#[inline(always)]
pub(super) unsafe fn put_header(to: *mut u8, header: RecordHeader, class: u32, time: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match header {
            RecordHeader::Compact => {
                to.cast::<[u8; 4]>().write_unaligned(RecordHeader::compact(class, time));
            }
            RecordHeader::Extended => {
                to.cast::<[u8; 13]>().write_unaligned(RecordHeader::extended(class, time));
            }
        }
    }
}
