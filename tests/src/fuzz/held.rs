//! How much memory a call holds at once: an allocator that counts, for each thread by itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes held at the moment by what this thread allocated, and the most since `peak` began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting: for `#[global_allocator]`.
pub struct Counting;

fn count(bytes: isize) {
    // A thread that ends may free after its counter is gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now + bytes;
        held.set((now, most.max(now)));
    });
}

// SAFETY: every call goes to `System` as it came, and its answer back; counting allocates
// nothing (the counter is constant-initialised and has no destructor) and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is copied both are held.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// What `f` gives, and the most that it held at once beyond what was held before.
///
/// # Panics
/// [`Counting`] is not the allocator.
pub fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    drop(std::hint::black_box(Box::new([0u8; 64])));
    assert!(HELD.get().1 >= before + 64, "the counting allocator is not in place");
    HELD.set((before, before));
    let out = f();
    (out, (HELD.get().1 - before).max(0).cast_unsigned())
}
