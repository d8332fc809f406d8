//! How many events each column has, by search: for entries that are sorted by time.

use super::{Entry, Window};

/// Events in each column. The entries must be sorted by time (else the counts mean nothing);
/// only those near the edges are looked at.
#[must_use]
pub fn density(entries: &[Entry], window: &Window) -> Vec<u32> {
    let mut before = density_before(entries, window.from);
    let mut bins = Vec::with_capacity(window.columns as usize);
    for i in 0..window.columns {
        let next = before + density_before(&entries[before..], window.edge(i + 1));
        bins.push((next - before) as u32);
        before = next;
    }
    bins
}

/// How many of these entries, sorted by time, are earlier than `edge`.
#[must_use]
pub fn density_before(entries: &[Entry], edge: u64) -> usize {
    entries.partition_point(|e| e.time() < edge)
}
