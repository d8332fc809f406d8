//! A stretch of time, cut into columns.

/// The times from `from` up to, but not with, `to`, cut into `columns` columns.
///
/// Column `i` has the times from `edge(i)` up to `edge(i + 1)`. Where the window is shorter
/// than it has columns, some of them are empty. A window whose `to` is not after its `from`
/// has no times at all, and one without columns no column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first time in it.
    pub from: u64,
    /// The first time behind it.
    pub to: u64,
    /// Into how many columns it is cut.
    pub columns: u32,
}

impl Window {
    /// Nanoseconds in it.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// Where column `i` begins: `from + span · i / columns`, rounded down; `i` up to
    /// `columns`, where the last one ends.
    #[must_use]
    pub fn edge(&self, i: u32) -> u64 {
        let columns = u64::from(self.columns.max(1));
        let i = u64::from(i).min(columns);
        // Whole columns and what is over, apart: no number of more than 64 bits.
        let (whole, over) = (self.span() / columns, self.span() % columns);
        self.from + whole * i + over * i / columns
    }

    /// All edges, from that of the first column to the end of the last: one more than there
    /// are columns.
    #[must_use]
    pub fn edges(&self) -> Vec<u64> {
        (0..=self.columns).map(|i| self.edge(i)).collect()
    }

    /// The column of a time; `None` outside.
    #[must_use]
    pub fn column(&self, time: u64) -> Option<u32> {
        if time < self.from || time >= self.to || self.columns == 0 {
            return None;
        }
        // The last i with edge(i) <= time: span·i/columns, rounded down, is at most the
        // distance where span·i < (distance + 1)·columns. The span is not 0 here.
        let past = (u128::from(time - self.from) + 1) * u128::from(self.columns) - 1;
        Some((past / u128::from(self.span())) as u32)
    }
}
