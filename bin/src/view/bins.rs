//! Columns of time, and states that are gathered into them as they change.

use rbpipe_backends::picture::{Cell, Range, Share};

/// A time, cut into columns: column `i` begins at `from + (to - from) * i / columns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: u64,
    /// The moment after its last one; at least a nanosecond for each column.
    pub to: u64,
    /// How many.
    pub columns: u32,
}

impl Window {
    /// A window; longer than asked for if a column would be shorter than a nanosecond.
    pub fn new(from: u64, to: u64, columns: u32) -> Self {
        let columns = columns.max(1);
        Self { from, to: to.max(from.saturating_add(columns.into())), columns }
    }

    fn span(&self) -> u128 {
        u128::from(self.to - self.from)
    }

    /// Where a column begins.
    pub fn edge(&self, column: u32) -> u64 {
        self.from + (self.span() * u128::from(column) / u128::from(self.columns)) as u64
    }

    /// The column that a moment is in.
    #[inline]
    pub fn column(&self, time: u64) -> Option<u32> {
        if time < self.from || time >= self.to {
            return None;
        }
        let inside = time - self.from;
        let guess = match inside.checked_mul(self.columns.into()) {
            Some(product) => product / (self.to - self.from),
            None => (u128::from(inside) * u128::from(self.columns) / self.span()) as u64,
        } as u32;
        // Edges are rounded down: the last moment before one may already be behind it.
        let next = guess + 1 < self.columns && self.edge(guess + 1) <= time;
        Some(guess + u32::from(next))
    }
}

/// States that all lanes know: nothing is known …
pub const UNKNOWN: u16 = 0;
/// … it is there and does nothing …
pub const IDLE: u16 = 1;
/// … several that are not told apart. The lane's own come after them.
pub const OTHERS: u16 = 2;

/// A lane of states that is being gathered. Changes come in the order of time.
#[derive(Debug)]
pub struct StateLane {
    cells: Vec<Cell>,
    window: Window,
    /// The column that is open, and what there is in it.
    open: u32,
    parts: Vec<(u16, u64)>,
    /// States from this one on are one in a column that has several; drawn lowest.
    alike: u16,
    /// The state of the moment.
    pub state: u16,
    /// Since when.
    pub since: u64,
}

impl StateLane {
    /// Nothing is known yet.
    pub fn new(window: Window, alike: u16) -> Self {
        Self {
            cells: vec![Cell::default(); window.columns as usize],
            window,
            open: 0,
            parts: Vec::new(),
            alike,
            state: UNKNOWN,
            since: window.from,
        }
    }

    /// From this moment on it is another state; until then it was the one before.
    pub fn change(&mut self, time: u64, state: u16) {
        let time = time.clamp(self.since, self.window.to);
        if self.state != UNKNOWN && time > self.since {
            self.add(self.since.max(self.window.from), time);
        }
        self.since = time;
        self.state = state;
    }

    /// It turns out that it is in this state since `from`: what it was thought to be is not so.
    pub fn correct(&mut self, from: u64, state: u16) {
        self.since = self.since.max(from);
        self.state = state;
    }

    fn add(&mut self, from: u64, to: u64) {
        let Some(mut column) = self.window.column(from) else { return };
        if column != self.open {
            self.close();
            self.open = column;
        }
        let mut at = from;
        loop {
            let end = self.window.edge(column + 1);
            let until = end.min(to);
            self.part(until - at);
            if to < end {
                return;
            }
            self.close();
            column += 1;
            self.open = column;
            if to == end || column >= self.window.columns {
                return;
            }
            at = end;
        }
    }

    fn part(&mut self, time: u64) {
        let alike = |s: u16| s.min(self.alike);
        let known = self.parts.iter_mut().find(|(s, _)| alike(*s) == alike(self.state));
        match known {
            Some((_, sum)) => *sum += time,
            None => self.parts.push((self.state, time)),
        }
    }

    /// The open column is done: its largest parts are kept, the others are one.
    fn close(&mut self) {
        let Some(cell) = self.cells.get_mut(self.open as usize) else {
            self.parts.clear();
            return;
        };
        if self.parts.is_empty() {
            return;
        }
        let whole = self.window.edge(self.open + 1) - self.window.edge(self.open);
        let most = cell.shares.len();
        self.parts.sort_by_key(|(state, time)| (u64::MAX - *time, *state));
        if self.parts.len() > most {
            let rest = self.parts[most - 1..].iter().map(|(_, t)| t).sum();
            self.parts.truncate(most - 1);
            self.parts.push((OTHERS, rest));
        }
        // What all know is above what is the lane's own.
        let alike = self.alike;
        self.parts.sort_by_key(|(state, _)| match *state {
            s if s > OTHERS && s < alike => (1, s),
            s if s > OTHERS => (0, s),
            s => (2, u16::MAX - s),
        });
        for (share, (state, time)) in cell.shares.iter_mut().zip(self.parts.drain(..)) {
            let part = u128::from(time) * u128::from(Cell::WHOLE) / u128::from(whole.max(1));
            *share = Share { state, part: part as u16 };
        }
    }

    /// All of it; what it is at the end it is until `time`.
    pub fn finish(mut self, time: u64) -> Vec<Cell> {
        self.change(time, UNKNOWN);
        self.close();
        self.cells
    }
}

/// Values that are gathered into columns.
#[derive(Clone, Debug)]
pub struct ValueLane(Vec<Option<(f64, f64, f64, u64)>>);

impl ValueLane {
    /// None yet.
    pub fn new(columns: u32) -> Self {
        Self(vec![None; columns as usize])
    }

    /// Adds one.
    pub fn add(&mut self, column: u32, value: f64) {
        let Some(cell) = self.0.get_mut(column as usize) else { return };
        let (min, max, sum, count) = cell.get_or_insert((value, value, 0.0, 0));
        *min = min.min(value);
        *max = max.max(value);
        *sum += value;
        *count += 1;
    }

    /// As they are drawn.
    pub fn finish(self) -> Vec<Option<Range>> {
        let one = |(min, max, sum, count): (f64, f64, f64, u64)| {
            // A sum is rounded: the mean is between them all the same.
            Range { min, max, mean: (sum / count as f64).clamp(min, max) }
        };
        self.0.into_iter().map(|c| c.map(one)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(cell: &Cell) -> Vec<(u16, u16)> {
        let found = cell.shares.iter().filter(|s| s.part > 0);
        found.map(|s| (s.state, (u32::from(s.part) * 100).div_ceil(65535) as u16)).collect()
    }

    #[test]
    fn columns_and_edges_are_each_other_s() {
        for (from, to, columns) in [(0, 10, 3), (7, 1_000_000_007, 1401), (u64::MAX - 9000, u64::MAX, 8192)] {
            let w = Window::new(from, to, columns);
            for i in (0..columns).step_by(7) {
                assert_eq!(w.column(w.edge(i)), Some(i));
                assert_eq!(w.column(w.edge(i + 1) - 1), Some(i));
            }
            assert_eq!((w.edge(0), w.edge(columns)), (from, to));
            assert_eq!(w.column(to), None);
        }
        assert_eq!(Window::new(5, 5, 100).to, 105, "a nanosecond each");
    }

    #[test]
    fn states_have_the_part_of_a_column_that_they_had_of_its_time() {
        let mut lane = StateLane::new(Window::new(0, 1000, 10), 100);
        lane.correct(0, 3);
        lane.change(150, 4);
        lane.change(160, IDLE);
        lane.change(400, UNKNOWN);
        lane.change(450, 5);
        let cells = lane.finish(900);
        let all: Vec<_> = cells.iter().map(shares).collect();
        assert_eq!(all[0], [(3, 100)]);
        assert_eq!(all[1], [(3, 50), (4, 10), (IDLE, 40)]);
        assert_eq!(all[3], [(IDLE, 100)]);
        assert_eq!(all[4], [(5, 50)], "what is not known has no part");
        assert_eq!(all[8], [(5, 100)]);
        assert_eq!(all[9], []);
    }

    #[test]
    fn many_states_in_a_column_are_the_largest_and_the_others() {
        let mut lane = StateLane::new(Window::new(0, 100, 1), 100);
        for (n, t) in [(3, 0), (4, 40), (5, 70), (6, 80), (7, 90)] {
            lane.change(t, n);
        }
        assert_eq!(shares(&lane.finish(100)[0]), [(3, 40), (4, 30), (5, 10), (OTHERS, 20)]);
        // Of a process: on whatever CPU it ran, it ran.
        let mut lane = StateLane::new(Window::new(0, 100, 1), 5);
        for (n, t) in [(5, 0), (3, 10), (6, 30), (7, 40), (IDLE, 60)] {
            lane.change(t, n);
        }
        assert_eq!(shares(&lane.finish(100)[0]), [(5, 40), (3, 20), (IDLE, 40)]);
    }

    #[test]
    fn values_have_their_least_mean_and_largest() {
        let mut lane = ValueLane::new(2);
        [3.0, -1.0, 4.0].into_iter().for_each(|v| lane.add(1, v));
        assert_eq!(lane.finish(), [None, Some(Range { min: -1.0, mean: 2.0, max: 4.0 })]);
    }
}
