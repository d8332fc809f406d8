//! How many events of some classes each column has, by looking at all of them: the entries
//! may be in any order, but neighbours in one column are what makes it fast.

use std::thread;

use super::{Entry, NO_CLASS, Window};

/// A set of event classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// A bit for each class; classes beyond are in it if `beyond`.
    bits: Vec<u64>,
    beyond: bool,
}

impl Filter {
    /// All classes.
    #[must_use]
    pub const fn all() -> Self {
        Self { bits: Vec::new(), beyond: true }
    }
    /// These classes, by their ids as in record headers. Takes a bit for each id up to the
    /// greatest: ids come from a registry, whose ids are dense.
    #[must_use]
    pub fn of(classes: impl IntoIterator<Item = u32>) -> Self {
        let mut bits = Vec::new();
        for class in classes.into_iter().filter(|c| *c != NO_CLASS) {
            let word = class as usize / 64;
            if word >= bits.len() {
                bits.resize(word + 1, 0);
            }
            bits[word] |= 1u64 << (class % 64);
        }
        Self { bits, beyond: false }
    }
    /// Up to which id it names classes one by one, and whether those beyond are in it.
    #[must_use]
    pub fn known(&self) -> (u32, bool) {
        (self.bits.len() as u32 * 64, self.beyond)
    }
    /// Whether a class is in it; [`NO_CLASS`] never is.
    #[inline]
    #[must_use]
    pub fn contains(&self, class: u32) -> bool {
        match self.bits.get(class as usize / 64) {
            Some(word) => word >> (class % 64) & 1 == 1,
            None => self.beyond && class != NO_CLASS,
        }
    }
}

/// A row of columns for each event class, or none: several counts in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The row of each class, [`NO_CLASS`]: none.
    of: Vec<u32>,
    rows: u32,
}

impl Rows {
    /// One row for each of these classes, in this order.
    #[must_use]
    pub fn each(classes: &[u32]) -> Self {
        let mut of = Vec::new();
        for (row, class) in (0u32..).zip(classes).filter(|(_, c)| **c != NO_CLASS) {
            if *class as usize >= of.len() {
                of.resize(*class as usize + 1, NO_CLASS);
            }
            of[*class as usize] = row;
        }
        Self { of, rows: classes.len() as u32 }
    }
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.rows
    }
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }
    /// The row of a class.
    #[inline]
    #[must_use]
    pub fn row(&self, class: u32) -> Option<u32> {
        self.of.get(class as usize).copied().filter(|r| *r != NO_CLASS)
    }
    /// The row of each class by its id, [`NO_CLASS`]: none; classes beyond have none.
    #[must_use]
    pub fn table(&self) -> &[u32] {
        &self.of
    }
}

/// Events of these classes in each column.
#[must_use]
pub fn count(entries: &[Entry], window: &Window, filter: &Filter) -> Vec<u32> {
    count_parts([entries], window, filter)
}

/// The same of entries that lie in several places.
#[must_use]
pub fn count_parts<'a>(
    parts: impl IntoIterator<Item = &'a [Entry]>,
    window: &Window,
    filter: &Filter,
) -> Vec<u32> {
    let parts = parts.into_iter();
    if *filter == Filter::all() {
        return scan(parts, window, |c| c != NO_CLASS);
    }
    match filter.bits[..] {
        [] => vec![0; window.columns as usize],
        // The usual case, without a bound to check in the loop.
        [bits] => scan(parts, window, move |c| c < 64 && bits >> (c % 64) & 1 == 1),
        _ => scan(parts, window, |c| filter.contains(c)),
    }
}

/// The same by so many threads.
///
/// # Panics
/// If the system gives no thread.
#[must_use]
pub fn count_threads(
    entries: &[Entry],
    window: &Window,
    filter: &Filter,
    threads: usize,
) -> Vec<u32> {
    let share = entries.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let (first, rest) = entries.split_at(share.min(entries.len()));
        let others: Vec<_> =
            rest.chunks(share).map(|part| scope.spawn(|| count(part, window, filter))).collect();
        let mut bins = count(first, window, filter);
        for other in others {
            let other = other.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
            bins.iter_mut().zip(other).for_each(|(a, b)| *a = a.wrapping_add(b));
        }
        bins
    })
}

/// Events of each class that has a row, in each column: row after row.
#[must_use]
pub fn count_rows(entries: &[Entry], window: &Window, rows: &Rows) -> Vec<u32> {
    count_rows_parts([entries], window, rows)
}

/// The same of entries that lie in several places.
#[must_use]
pub fn count_rows_parts<'a>(
    parts: impl IntoIterator<Item = &'a [Entry]>,
    window: &Window,
    rows: &Rows,
) -> Vec<u32> {
    let columns = window.columns as usize;
    let mut bins = vec![0u32; rows.len() as usize * columns];
    let mut here = Here::new(window);
    for entry in parts.into_iter().flatten() {
        let Some(row) = rows.row(entry.class) else { continue };
        if let Some(column) = here.column(entry.time()) {
            bins[row as usize * columns + column] += 1;
        }
    }
    bins
}

/// How many entries are tested at once for being in one column.
const STEP: usize = 32;

fn scan<'a>(
    parts: impl Iterator<Item = &'a [Entry]>,
    window: &Window,
    wanted: impl Fn(u32) -> bool,
) -> Vec<u32> {
    let mut bins = vec![0u32; window.columns as usize];
    let mut here = Here::new(window);
    for step in parts.flat_map(|part| part.chunks(STEP)) {
        let outside = step.iter().fold(0, |o, e| o | u32::from(!here.holds(e.time())));
        if outside == 0 {
            let found = step.iter().map(|e| u32::from(wanted(e.class))).sum::<u32>();
            if let Some(column) = here.at {
                bins[column] = bins[column].wrapping_add(found);
            }
            continue;
        }
        for entry in step.iter().filter(|e| wanted(e.class)) {
            if let Some(column) = here.column(entry.time()) {
                bins[column] = bins[column].wrapping_add(1);
            }
        }
    }
    bins
}

/// The column that the last time was in, which the next one most often is in, too.
struct Here {
    edges: Vec<u64>,
    /// `None`: outside the window, before or behind it.
    at: Option<usize>,
    first: u64,
    /// The last time in it is `first + beyond`.
    beyond: u64,
}

impl Here {
    fn new(window: &Window) -> Self {
        let mut here = Self { edges: window.edges(), at: None, first: 0, beyond: 0 };
        here.find(0);
        here
    }

    #[inline]
    fn holds(&self, time: u64) -> bool {
        time.wrapping_sub(self.first) <= self.beyond
    }

    #[inline]
    fn column(&mut self, time: u64) -> Option<usize> {
        if !self.holds(time) {
            self.find(time);
        }
        self.at
    }

    #[cold]
    fn find(&mut self, time: u64) {
        // Edges at or before it: 0 is before the window, all of them is behind it.
        let n = self.edges.partition_point(|e| *e <= time);
        self.at = (n > 0 && n < self.edges.len()).then(|| n - 1);
        self.first = if n == 0 { 0 } else { self.edges[n - 1] };
        let last = self.edges.get(n).map_or(u64::MAX, |next| next - 1);
        self.beyond = last - self.first;
    }
}
