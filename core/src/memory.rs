//! The contract between the engine and a backend's memory: one sub-buffer's bytes.
//!
//! A backend owns bytes, nothing else. No atomic, lock or counter of the ring lies here:
//! the engine stores records and one header per packet, forward, and never reads back what
//! it wrote (mapped GPU memory is write-only and promises no atomics).

use std::ptr::NonNull;

/// What makes a writer's stores into a memory visible to whoever takes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Ordinary memory: the release in the commit orders them.
    Release,
    /// Write-combining memory: a full fence on the writer's own CPU before its commit, and
    /// before the deliverer's hand-over.
    Fence,
}

/// One sub-buffer's bytes.
///
/// # Safety
/// The engine stores through `base()` from any thread, so for as long as a value lives and
/// is in the engine's hands (from `Backend::memory`, or from a packet's put, until the next
/// packet that holds it):
///
/// * `base()`, once `Some`, stays the same address, and `len()` bytes from there may be
///   written by any thread; moving the value itself does not move the bytes. (So a `Box` is no
///   memory, but a pointer is: moving a box says that nobody else has a pointer into it);
/// * nobody else reads or writes these bytes. Only the output that holds the packet may,
///   through the value it was given.
///
/// In return the engine never loads from this memory, never writes outside `len()` bytes,
/// and never writes while a packet holds the value. At put it looks at `base()` and `len()`
/// again: not ready, or another length, and the value is dropped (*retired*), never used.
pub unsafe trait Memory: Send + 'static {
    /// How stores become visible.
    const PUBLISH: Publish = Publish::Release;
    /// The first byte; `None`: not mapped at the moment.
    fn base(&self) -> Option<NonNull<u8>>;
    /// Bytes.
    fn len(&self) -> usize;
    /// Never true for a memory that is in use; here because a length asks for it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory whose bytes may also be read by whoever holds the packet.
///
/// # Safety
/// While no writer stores into it, `len()` bytes from `base()` may be read, and all of
/// them have been initialised (zeroed memory will do).
pub unsafe trait ReadMemory: Memory {}
