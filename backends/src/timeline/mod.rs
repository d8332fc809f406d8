//! What a picture of a trace is counted from, on the processor: events in columns of time,
//! the states that held longest, what processes did, the least, greatest and mean value of a
//! field.
//!
//! Plain functions on slices. Each is the twin of a compute shader: the same numbers, bit for
//! bit, so it is the shader's test, and what takes its place where there is no adapter. Times
//! are nanoseconds and may be any `u64`; as shaders have no integers of 64 bits they lie in
//! memory as two of 32. Not here: drawing, and what an event means.

mod aggregate;
mod count;
mod density;
mod pick;
mod states;
mod switches;
mod threads;
mod walk;
mod window;

pub use aggregate::{Aggregate, FRACTION_BITS, Value, aggregate, quantise};
pub use count::{Filter, Rows, count, count_parts, count_rows, count_rows_parts, count_threads};
pub use density::{density, density_before, density_parts};
pub use pick::{Field, Label, Name, pick};
pub use states::{APART, Held, Transition, states};
pub use switches::{Kind, Scheduler, Switch, TASK, Wake, settle, switches};
pub use threads::{Doing, MOST_WOKEN, Threads, Woken, threads};
pub use walk::{Place, Stop, Walk, walk};
pub use window::Window;

/// The class of an entry that is none: where a damaged packet has fewer records than were
/// recorded. Nothing counts it but [`density`], which counts whatever lies in time.
pub const NO_CLASS: u32 = u32::MAX;

/// A record in the index: when it was, what it is, and where it lies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The low half of its time.
    pub low: u32,
    /// The high half of its time.
    pub high: u32,
    /// Its class id, as in record headers (`ClassId::number`), or [`NO_CLASS`].
    pub class: u32,
    /// Where its header begins, in bytes: from where, whoever makes the entry says.
    pub offset: u32,
}

impl Entry {
    /// One at this time.
    #[must_use]
    pub const fn new(time: u64, class: u32, offset: u32) -> Self {
        let (low, high) = halves(time);
        Self { low, high, class, offset }
    }
    /// Its time in nanoseconds.
    #[inline]
    #[must_use]
    pub const fn time(&self) -> u64 {
        whole(self.low, self.high)
    }
}

/// A number as its low and its high half.
#[inline]
pub(crate) const fn halves(v: u64) -> (u32, u32) {
    (v as u32, (v >> 32) as u32)
}

/// The number of these halves.
#[inline]
pub(crate) const fn whole(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[cfg(test)]
pub(crate) mod tests;
