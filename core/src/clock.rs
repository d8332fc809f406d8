//! CLOCK_MONOTONIC in nanoseconds, and where its zero lies.

use rustix::time::{ClockId, clock_gettime};

#[inline]
fn read(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    t.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec.cast_unsigned())
}

/// Now, on CLOCK_MONOTONIC, in nanoseconds. Reads the vDSO: no system call.
///
/// ```
/// let a = rbpipe_core::clock::now();
/// assert!(rbpipe_core::clock::now() >= a);
/// ```
#[inline]
#[must_use]
pub fn now() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds from CLOCK_MONOTONIC's zero to the epoch, so that two traces of one machine
/// line up: the tightest of a few readings of one clock between two of the other.
#[must_use]
pub fn epoch_offset() -> u64 {
    (0..8)
        .map(|_| {
            let before = now();
            let real = read(ClockId::Realtime);
            let after = now();
            (after - before, real.wrapping_sub(before + (after - before) / 2))
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}
