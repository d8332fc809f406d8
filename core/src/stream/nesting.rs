//! How deep a thread is inside reservations, over all streams.
//!
//! A signal handler may trace while its thread is between reserve and commit. Such a nested
//! writer must never wait (what it waits for may be behind the writer that it interrupted),
//! and reader and output threads, which hold it raised for life, must never wait for
//! themselves. A plain count per thread: whoever interrupts puts back what it found.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    // const and without a destructor: may be touched first from a signal handler.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// One level of nesting, for as long as it lives.
#[derive(Debug)]
pub struct Nested {
    // The count is this thread's.
    _here: PhantomData<*const ()>,
}

impl Nested {
    /// One deeper.
    #[inline]
    #[must_use]
    pub fn enter() -> Self {
        DEPTH.with(|d| d.set(d.get().wrapping_add(1)));
        Self { _here: PhantomData }
    }
}

impl Drop for Nested {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|d| d.set(d.get().wrapping_sub(1)));
    }
}

/// Whether this thread, which has entered once for what it does now, was inside already:
/// then it must not wait.
#[inline]
#[must_use]
pub fn is_nested() -> bool {
    DEPTH.with(Cell::get) > 1
}
