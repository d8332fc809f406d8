//! Which states a lane was in, in each column, and how long: who ran on a CPU.

use std::collections::HashMap;

use super::{Window, halves, whole};

/// From this time on a lane is in this state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// The low half of the time.
    pub low: u32,
    /// The high half of the time.
    pub high: u32,
    /// The state; 0: it is not known from here on. (See [`Transition::known`].)
    pub state: u32,
    /// What it tells beside it, of a process: see [`Transition::told`]; 0: nothing.
    pub told: u32,
}

impl Transition {
    /// To `state` at this time.
    #[must_use]
    pub const fn new(time: u64, state: u32) -> Self {
        let (low, high) = halves(time);
        Self { low, high, state, told: 0 }
    }
    /// Its time in nanoseconds.
    #[inline]
    #[must_use]
    pub const fn time(&self) -> u64 {
        whole(self.low, self.high)
    }
}

/// So many states of a column are told apart.
pub const APART: usize = 3;

/// What a lane was in in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The states that held longest, and how long, in nanoseconds, all their times in the
    /// column added up. The longest first, of those that are as long the smaller; state 0:
    /// there are no more.
    pub longest: [(u32, u64); APART],
    /// How long all other states held, together.
    pub others: u64,
}

/// What one lane was in in each column. The transitions are sorted by time; each holds until
/// the next, the last until `until`: from then on nothing is known. Time without a known state
/// counts for nothing. A column without any time in it has the state at its edge, for no time.
#[must_use]
pub fn states(transitions: &[Transition], window: &Window, until: u64) -> Vec<Held> {
    let edges = window.edges();
    let mut held: HashMap<u32, u64> = HashMap::new();
    // The first transition that is later than the column's beginning.
    let mut next = 0;
    let mut out = Vec::with_capacity(window.columns as usize);
    for edge in edges.windows(2) {
        let (begin, end) = (edge[0], edge[1]);
        next += transitions[next..].partition_point(|t| t.time() <= begin);
        let mut state = next.checked_sub(1).map_or(0, |i| transitions[i].known());
        let mut column = Held::default();
        if begin >= until {
            out.push(column);
            continue;
        }
        if begin == end {
            column.longest[0].0 = state;
            out.push(column);
            continue;
        }
        let known = |t: u64| t.min(until);
        held.clear();
        let mut since = begin;
        while let Some(t) = transitions.get(next).filter(|t| t.time() < end) {
            *held.entry(state).or_default() += known(t.time()) - since;
            (since, state) = (known(t.time()), t.known());
            next += 1;
        }
        *held.entry(state).or_default() += known(end) - since;
        for (state, time) in held.iter().filter(|(state, time)| **state != 0 && **time != 0) {
            column.add(*state, *time);
        }
        out.push(column);
    }
    out
}

impl Held {
    /// One more state, that is not in it yet.
    fn add(&mut self, state: u32, time: u64) {
        let mut one = (state, time);
        for place in &mut self.longest {
            // (0, 0) is less than all.
            if one.1 > place.1 || (one.1 == place.1 && one.0 < place.0) {
                std::mem::swap(place, &mut one);
            }
        }
        self.others += one.1;
    }
}
