//! Columns of time, and states that are gathered into them as they change.
//!
//! What `timeline` counts of events that lie in memory is counted here while they pass by: a
//! trace may be larger than memory. A column keeps how much of it each state had, not only which
//! had most: far out, a CPU that is half busy is half a bar.

use rbpipe_backends::picture::who::{OTHERS, UNKNOWN};
use rbpipe_backends::picture::{Cell, Range, Share};
use rbpipe_backends::timeline::Window;

/// A time in columns; longer than asked for where a column would be shorter than a nanosecond.
pub fn window(from: u64, to: u64, columns: u32) -> Window {
    let columns = columns.max(1);
    Window { from, to: to.max(from.saturating_add(columns.into())), columns }
}

/// The column of times that come in their order.
#[derive(Debug)]
pub struct Columns {
    window: Window,
    column: u32,
    until: u64,
}

impl Columns {
    /// At the first one.
    pub fn new(window: Window) -> Self {
        Self { window, column: 0, until: window.edge(1) }
    }

    /// The column of a time.
    #[inline]
    pub fn of(&mut self, time: u64) -> Option<u32> {
        if time >= self.until {
            self.column = self.window.column(time)?;
            self.until = self.window.edge(self.column + 1);
        }
        // One that comes too late is in the column of those that came before it.
        (time >= self.window.from).then_some(self.column)
    }
}

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
            self.add(self.since, time);
        }
        self.since = time;
        self.state = state;
    }

    /// It turns out that it is in this state since `from`: what it was thought to be is not so.
    pub fn correct(&mut self, from: u64, state: u16) {
        self.since = self.since.max(from).min(self.window.to);
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
            self.part(end.min(to) - at);
            if to <= end {
                return;
            }
            self.close();
            column += 1;
            self.open = column;
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
        let Some(cell) = self.cells.get_mut(self.open as usize) else { return };
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
    use rbpipe_backends::picture::who::IDLE;

    use super::*;

    fn shares(cell: &Cell) -> Vec<(u16, u16)> {
        let found = cell.shares.iter().filter(|s| s.part > 0);
        found.map(|s| (s.state, (u32::from(s.part) * 100).div_ceil(65535) as u16)).collect()
    }

    #[test]
    fn columns_are_those_that_a_search_finds() {
        use rbpipe_backends::timeline::{Entry, density};
        let window = window(1_000, 1_000_000, 77);
        let (mut columns, mut counted) = (Columns::new(window), vec![0u32; 77]);
        let times: Vec<u64> = (0..2_000u64).map(|n| n * n / 3).collect();
        for time in &times {
            if let Some(column) = columns.of(*time) {
                counted[column as usize] += 1;
            }
        }
        let entries: Vec<_> = times.iter().map(|t| Entry::new(*t, 0, 0)).collect();
        assert_eq!(counted, density(&entries, &window));
        assert_eq!(super::window(5, 5, 100).to, 105, "a nanosecond each");
        assert_eq!(super::window(5, 6, 0).columns, 1);
        // At an edge, before the window and behind it.
        let mut columns = Columns::new(super::window(100, 200, 10));
        let found = [99, 100, 109, 110, 150, 149, 199, 200, 300].map(|time| columns.of(time));
        let late = Some(5);
        let expected = [None, Some(0), Some(0), Some(1), Some(5), late, Some(9), None, None];
        assert_eq!(found, expected);
    }

    #[test]
    fn states_have_the_part_of_a_column_that_they_had_of_its_time() {
        let mut lane = StateLane::new(window(0, 1000, 10), 100);
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
        assert_eq!(cells[9], Cell::default(), "up to an edge is not behind it");
    }

    #[test]
    fn a_column_that_is_left_has_what_it_had() {
        let mut lane = StateLane::new(window(0, 1000, 10), 100);
        for (time, state) in [(0, 3), (50, UNKNOWN), (250, 4), (280, UNKNOWN), (950, 5)] {
            lane.change(time, state);
        }
        // Behind the window there is nothing.
        lane.change(5000, 6);
        let all: Vec<_> = lane.finish(6000).iter().map(shares).collect();
        assert_eq!((&all[0], &all[2], &all[9]), (&vec![(3, 50)], &vec![(4, 30)], &vec![(5, 50)]));
        assert_eq!(all.iter().filter(|c| !c.is_empty()).count(), 3);
    }

    #[test]
    fn what_comes_too_late_does_not_change_what_was() {
        let mut lane = StateLane::new(window(0, 100, 1), 100);
        [(50, 3), (40, 4), (60, IDLE)].into_iter().for_each(|(t, s)| lane.change(t, s));
        assert_eq!(shares(&lane.finish(100)[0]), [(4, 10), (IDLE, 40)]);
        // It was not what it was thought to be since 50; what was before, it was.
        for (from, part) in [(20, 50), (60, 40)] {
            let mut lane = StateLane::new(window(0, 100, 1), 100);
            [(10, 4), (50, 3)].into_iter().for_each(|(t, s)| lane.change(t, s));
            lane.correct(from, 5);
            let found = shares(&lane.finish(100)[0]);
            assert_eq!(found, [(4, 40), (5, part)], "since {from}");
        }
        let mut lane = StateLane::new(window(0, 100, 1), 100);
        lane.correct(5000, 3);
        assert_eq!(lane.finish(6000), [Cell::default()]);
    }

    #[test]
    fn many_states_in_a_column_are_the_largest_and_the_others() {
        let mut lane = StateLane::new(window(0, 100, 1), 100);
        for (n, t) in [(3, 0), (4, 40), (5, 70), (6, 80), (7, 90)] {
            lane.change(t, n);
        }
        assert_eq!(shares(&lane.finish(100)[0]), [(3, 40), (4, 30), (5, 10), (OTHERS, 20)]);
        // As many as there is room for.
        let mut lane = StateLane::new(window(0, 100, 1), 100);
        for (n, t) in [(3, 0), (4, 40), (5, 70), (6, 90)] {
            lane.change(t, n);
        }
        assert_eq!(shares(&lane.finish(100)[0]), [(3, 40), (4, 30), (5, 20), (6, 10)]);
        // Nobody is above all.
        let mut lane = StateLane::new(window(0, 100, 1), 100);
        for (n, t) in [(IDLE, 0), (3, 40), (4, 70), (5, 80), (6, 90)] {
            lane.change(t, n);
        }
        assert_eq!(shares(&lane.finish(100)[0]), [(3, 30), (4, 10), (OTHERS, 20), (IDLE, 40)]);
        // Of a process: on whatever CPU it ran, it ran.
        let mut lane = StateLane::new(window(0, 100, 1), 5);
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
        let mut lane = ValueLane::new(2);
        [3.0, 5.0].into_iter().for_each(|v| lane.add(0, v));
        // Their sum is rounded up: a third of it is more than each of them.
        [-0.1; 3].into_iter().for_each(|v| lane.add(1, v));
        let range = |min, mean, max| Some(Range { min, mean, max });
        assert_eq!(lane.finish(), [range(3.0, 4.0, 5.0), range(-0.1, -0.1, -0.1)]);
    }
}
