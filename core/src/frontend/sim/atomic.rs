//! Atomics of a simulation: a scheduling point before each operation, a look at its effect
//! after it. Outside of a run they are the standard library's.
//!
//! One thread runs all actors, so every operation is sequentially consistent here: orderings
//! are loom's business.

#![expect(missing_docs, reason = "names and meanings are the standard library's")]

use std::sync::atomic as real;
pub use std::sync::atomic::Ordering;

use super::{point, seen};

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changed nothing: a load, or a compare-and-swap that failed.
    Load,
    Store,
    /// A swap, or a compare-and-swap that did it.
    Exchange,
    Add,
}

/// One operation, as the ghosts see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    pub kind: Kind,
    pub before: u64,
    pub after: u64,
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(real::$name);

        impl $name {
            pub fn load(&self, order: Ordering) -> $int {
                point();
                let value = self.0.load(order);
                self.seen(Kind::Load, value, value);
                value
            }
            pub fn store(&self, value: $int, order: Ordering) {
                point();
                let before = self.0.load(Ordering::Relaxed);
                self.0.store(value, order);
                self.seen(Kind::Store, before, value);
            }
            pub fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                point();
                let result = self.0.compare_exchange(current, new, success, failure);
                match result {
                    Ok(before) => self.seen(Kind::Exchange, before, new),
                    Err(found) => self.seen(Kind::Load, found, found),
                }
                result
            }
            /// Without a scheduling point: what a ghost reads.
            pub(crate) fn peek(&self) -> $int {
                self.0.load(Ordering::Relaxed)
            }
            fn update(&self, kind: Kind, f: impl FnOnce(&real::$name) -> $int) -> $int {
                point();
                let before = f(&self.0);
                self.seen(kind, before, self.peek());
                before
            }
            pub fn swap(&self, value: $int, order: Ordering) -> $int {
                self.update(Kind::Exchange, |a| a.swap(value, order))
            }
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                self.update(Kind::Add, |a| a.fetch_add(value, order))
            }
            pub fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                self.update(Kind::Add, |a| a.fetch_sub(value, order))
            }
            pub fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                self.update(Kind::Add, |a| a.fetch_or(value, order))
            }
            fn seen(&self, kind: Kind, before: $int, after: $int) {
                seen(
                    std::ptr::from_ref(self).addr(),
                    Effect { kind, before: before.into(), after: after.into() },
                );
            }
        }
    };
}

atomic!(AtomicU64, u64);
atomic!(AtomicU32, u32);

pub fn fence(order: Ordering) {
    point();
    real::fence(order);
}
