//! Atomics: the standard library's, or loom's when a model runs (`--cfg loom`), or the
//! simulator's, which stops before each operation and looks at each (`--cfg sim`).
//!
//! The frontend reaches atomics through here and nowhere else, so that the code that is
//! checked is the code that runs.

#[cfg(all(test, sim))]
pub use crate::frontend::sim::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(all(test, sim))]
pub use std::sync::atomic::Ordering;
#[cfg(not(any(loom, all(test, sim))))]
pub use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Loads a word that the same thread is about to store to, or to compare and swap.
///
/// A plain load. In a loom model it is a read-modify-write that changes nothing: loom (0.7)
/// remembers one last access of a word, so a thread's own load hides another thread's load from
/// it, and the interleavings in which the store comes before that one are left out (loom's
/// issues 166 and 392; one of our models explored 1 of 156).
///
/// What a model does not see for it: a stale value (which the compare-and-swap finds out, or
/// which costs another look), stores older than the last few, and that this is no release: after
/// a SeqCst fence loom's read-modify-write is one. What leans on such a fence has a model with
/// plain loads (`a_loss_that_looks_at_the_end_once_is_told`).
#[inline(always)]
pub fn load_to_change(word: &AtomicU64, order: Ordering) -> u64 {
    #[cfg(loom)]
    return word.fetch_add(0, order);
    #[cfg(not(loom))]
    word.load(order)
}

/// The two read-modify-write operations of a writer's fast path. One algorithm, several
/// kinds of stream: operations without a lock prefix and restartable sequences come as
/// further implementations, each with models of its own.
pub trait Primitives: Send + Sync + 'static {
    /// Compare-and-swap of `write_pos`: Release on success, Relaxed on failure.
    /// The caller has acquired `current`.
    ///
    /// # Errors
    /// The value found, where it is not `current`.
    fn compare_exchange(word: &AtomicU64, current: u64, new: u64) -> Result<u64, u64>;
    /// Add to `committed`, AcqRel; gives the value before.
    fn fetch_add(word: &AtomicU64, value: u64) -> u64;
}

/// Locked operations: any thread, any stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Locked;

impl Primitives for Locked {
    #[inline]
    fn compare_exchange(word: &AtomicU64, current: u64, new: u64) -> Result<u64, u64> {
        // Release: a later writer in a sub-buffer, who acquires this when it loads `write_pos`,
        // sees the table that its opener saw, and what the opener saw before it. Not Acquire:
        // the value was acquired when it was loaded, and no value comes back. Relaxed where it
        // fails: who fails loads again.
        word.compare_exchange(current, new, Ordering::Release, Ordering::Relaxed)
    }
    #[inline]
    fn fetch_add(word: &AtomicU64, value: u64) -> u64 {
        // AcqRel: the completing add acquires the bytes and facts that the others'
        // released; its own are released to whoever completes.
        word.fetch_add(value, Ordering::AcqRel)
    }
}
