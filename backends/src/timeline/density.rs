//! How many events each column has, by search: for entries that are sorted by time.

use super::{Entry, Window};

/// Events in each column. The entries must be sorted by time (else the counts mean nothing);
/// only those near the edges are looked at.
#[must_use]
pub fn density(entries: &[Entry], window: &Window) -> Vec<u32> {
    let mut before = density_before(entries, window.from);
    let mut bins = Vec::with_capacity(window.columns as usize);
    for i in 0..window.columns {
        let next = before + near(&entries[before..], window.edge(i + 1));
        bins.push((next - before) as u32);
        before = next;
    }
    bins
}

/// The same of entries that lie in several places, one after the other in time.
#[must_use]
pub fn density_parts(parts: &[&[Entry]], window: &Window) -> Vec<u32> {
    let parts: Vec<&[Entry]> = parts.iter().filter(|p| !p.is_empty()).copied().collect();
    // Entries before each part.
    let mut all = vec![0usize];
    for part in &parts {
        all.push(all[all.len() - 1] + part.len());
    }
    let before = |edge: u64| {
        let part = parts.partition_point(|p| p.last().is_some_and(|e| e.time() < edge));
        all[part] + parts.get(part).map_or(0, |p| density_before(p, edge))
    };
    let ranks: Vec<usize> = window.edges().into_iter().map(before).collect();
    ranks.windows(2).map(|r| (r[1] - r[0]) as u32).collect()
}

/// How many of these entries, sorted by time, are earlier than `edge`.
#[must_use]
pub fn density_before(entries: &[Entry], edge: u64) -> usize {
    entries.partition_point(|e| e.time() < edge)
}

/// The same where it is likely that they are few: looks at twice as many until one is later.
fn near(entries: &[Entry], edge: u64) -> usize {
    let mut reach = 16;
    while entries.get(reach).is_some_and(|e| e.time() < edge) {
        reach *= 2;
    }
    let from = reach / 2;
    let from = if from < 16 { 0 } else { from };
    from + density_before(&entries[from..entries.len().min(reach)], edge)
}
