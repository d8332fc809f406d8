//! Which state held longest in each column of a lane: who ran on a CPU, what a process did.

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
    /// The state; 0: it is not known from here on.
    pub state: u32,
    /// Nothing: 16 bytes are what a shader reads at once.
    pub pad: u32,
}

impl Transition {
    /// To `state` at this time.
    #[must_use]
    pub const fn new(time: u64, state: u32) -> Self {
        let (low, high) = halves(time);
        Self { low, high, state, pad: 0 }
    }
    /// Its time in nanoseconds.
    #[inline]
    #[must_use]
    pub const fn time(&self) -> u64 {
        whole(self.low, self.high)
    }
}

/// The state of one lane that held longest in each column, all its times in the column added
/// up; the smallest of several. 0: none is known in the column (time without a known state
/// counts for nothing where there is one). A column without any time in it has the state at
/// its edge. The transitions are sorted by time; each holds until the next, the last for ever.
#[must_use]
pub fn states(transitions: &[Transition], window: &Window) -> Vec<u32> {
    let edges = window.edges();
    let mut held: HashMap<u32, u64> = HashMap::new();
    // The first transition that is later than the column's beginning.
    let mut next = 0;
    let mut out = Vec::with_capacity(window.columns as usize);
    for edge in edges.windows(2) {
        let (begin, end) = (edge[0], edge[1]);
        next += transitions[next..].partition_point(|t| t.time() <= begin);
        let mut state = next.checked_sub(1).map_or(0, |i| transitions[i].state);
        if begin == end {
            out.push(state);
            continue;
        }
        held.clear();
        let mut since = begin;
        while let Some(t) = transitions.get(next).filter(|t| t.time() < end) {
            *held.entry(state).or_default() += t.time() - since;
            (since, state) = (t.time(), t.state);
            next += 1;
        }
        *held.entry(state).or_default() += end - since;
        let known = held.iter().filter(|(state, time)| **state != 0 && **time != 0);
        let longest = known.max_by_key(|(state, time)| (**time, u32::MAX - **state));
        out.push(longest.map_or(0, |(state, _)| *state));
    }
    out
}
