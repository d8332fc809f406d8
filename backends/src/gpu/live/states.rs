//! From what streams were in to lanes of who ran: as `rbpipe view` draws them. Knows no device.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::compute::States;
use crate::picture::who::{IDLE, OTHERS, UNKNOWN, cpu_states};
use crate::picture::{Cell, Key, Share, State};
use crate::timeline::{Held, Window};

/// The state of a CPU that runs the idle process, whose id is 0.
pub(super) const NOBODY: u32 = 1;
/// Names in the legend at most.
const KEYS: usize = 24;

/// Who ran on CPUs.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// By the stream's number: what ran in each column, and for how much of the time somebody
    /// did, in nanoseconds.
    pub(super) lanes: HashMap<u32, (Vec<Cell>, u64)>,
    /// What cells name.
    pub(super) states: Arc<[State]>,
    /// Those that ran longest.
    pub(super) keys: Vec<Key>,
}

impl Ran {
    /// Of all streams that tell it.
    pub(super) fn of(states: &States, window: &Window) -> Self {
        let is_known = |held: &[Held]| held.iter().any(|h| h.longest[0].0 != 0);
        let rows: Vec<_> = states.rows.iter().filter(|(_, held)| is_known(held)).collect();
        if rows.is_empty() {
            return Self::default();
        }
        let order = busiest(states);
        let ranks = order.iter().copied().zip(OTHERS + 1..u16::MAX);
        let ranks: HashMap<u32, u16> = ranks.chain([(NOBODY, IDLE)]).collect();
        let list = cpu_states(order.iter().map(|state| name(states, *state)));
        let mut seen = HashSet::new();
        let named = list[usize::from(OTHERS) + 1..].iter().filter(|s| seen.insert(s.name.clone()));
        let keys = named.take(KEYS).map(|s| Key { ink: s.ink, name: s.name.clone() }).collect();
        let lane = |held: &Vec<Held>| {
            let cells = (0..).zip(held).map(|(column, held)| {
                cell(held, window.edge(column + 1) - window.edge(column), &ranks)
            });
            let busy = |h: &Held| {
                let longest = h.longest.iter().filter(|(state, _)| *state > NOBODY);
                longest.map(|(_, time)| time).sum::<u64>() + h.others
            };
            (cells.collect(), held.iter().map(busy).sum())
        };
        let lanes = rows.into_iter().map(|(stream, held)| (stream.id, lane(held))).collect();
        Self { lanes, states: list, keys }
    }
}

/// Processes (ids and 1), those first that ran longest, as far as they are told apart.
pub(super) fn busiest(states: &States) -> Vec<u32> {
    let mut ran: HashMap<u32, u64> = HashMap::new();
    for (state, time) in states.rows.iter().flat_map(|(_, held)| held).flat_map(|h| h.longest) {
        if state > NOBODY {
            *ran.entry(state).or_default() += time;
        }
    }
    let mut order: Vec<(u64, u32)> = ran.into_iter().map(|(s, t)| (u64::MAX - t, s)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, state)| state).collect()
}

/// What a process is called.
pub(super) fn name(states: &States, state: u32) -> String {
    match states.names.get(&state) {
        Some(name) => shown(name),
        None => format!("pid {}", state - 1),
    }
}

/// What a column of so many nanoseconds is drawn as: processes lowest, those that ran longest in
/// all first; then those that are not told apart, then nobody.
fn cell(held: &Held, width: u64, ranks: &HashMap<u32, u16>) -> Cell {
    let rank = |state: u32| ranks.get(&state).copied().unwrap_or(OTHERS);
    if width == 0 {
        return match held.longest[0].0 {
            0 => Cell::default(),
            state => Cell::all(rank(state)),
        };
    }
    let known = held.longest.iter().filter(|(state, _)| *state != 0);
    let mut parts: Vec<(u16, u64)> = known.map(|(state, time)| (rank(*state), *time)).collect();
    parts.push((OTHERS, held.others));
    parts.sort_by_key(|(state, _)| if *state > OTHERS { *state } else { u16::MAX - *state });
    let mut cell = Cell::default();
    let parts = parts.into_iter().filter(|(state, time)| *state != UNKNOWN && *time > 0);
    for (share, (state, time)) in cell.shares.iter_mut().zip(parts) {
        *share = Share { state, part: part(time, width) };
    }
    cell
}

/// A time's part of a column.
pub(super) fn part(time: u64, width: u64) -> u16 {
    let part = u128::from(time) * u128::from(Cell::WHOLE) / u128::from(width.max(1));
    u16::try_from(part).unwrap_or(Cell::WHOLE)
}

/// A name up to its zero; what is no character is none in a picture.
fn shown(name: &[u8]) -> String {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let text = String::from_utf8_lossy(&name[..end]);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
