//! What no order-0 coder of `sched_switch` gets below: the order-0 bound, computed from a
//! recording.
//!
//! It is the sum of three empirical entropies, each with the recording's own counts as its model,
//! which costs nothing here and would have to be sent in truth:
//!
//! - **next**, given prev: a task is its pid, comm and prio; what is switched to, given what is
//!   switched from;
//! - **dt**: ticks since the event before on the same CPU, as a value (each CPU's first left out);
//! - **state**: of what is switched from, by itself.
//!
//! Not in it: which CPU it was, that prev is what was next before (a coder that knows it needs
//! nothing, but where comm or prio have changed), the common fields, frames, checks, names,
//! announcements, and what is sent again. So it is below what any link can reach that has no
//! model of higher order.

use std::collections::HashMap;
use std::hash::Hash;

use rbpipe_core::decode::value;

use super::Recording;

/// Bits per event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Of the next task, given the previous one.
    pub next: f64,
    /// Of the ticks since the event before on the CPU.
    pub dt: f64,
    /// Of the previous task's state.
    pub state: f64,
}

impl Bound {
    /// Of a recording of `sched:sched_switch`, where time goes in steps of `tick` nanoseconds.
    ///
    /// # Panics
    /// It is a recording of something else.
    #[must_use]
    pub fn of(recording: &Recording, tick: u64) -> Self {
        let [prev, next] = ["prev", "next"].map(|who| {
            ["comm", "pid", "prio"].map(|what| span(recording, &format!("{who}_{what}")))
        });
        let state = span(recording, "prev_state");
        let mut tasks = Numbers::default();
        let (mut pairs, mut prevs, mut dts, mut states) =
            (Counts::default(), Counts::default(), Counts::default(), Counts::default());
        let mut last = HashMap::new();
        for event in recording.events() {
            let mut task = |spans: &[(usize, usize)]| {
                tasks.of(spans.iter().flat_map(|s| &event.payload[s.0..s.1]).copied().collect())
            };
            let (from, to) = (task(&prev), task(&next));
            pairs.add((from, to));
            prevs.add(from);
            states.add(event.payload[state.0..state.1].to_vec());
            let ticks = event.time / tick;
            if let Some(before) = last.insert(event.cpu, ticks) {
                dts.add(ticks - before);
            }
        }
        // H(next | prev) = H(prev, next) − H(prev).
        Self { next: pairs.entropy() - prevs.entropy(), dt: dts.entropy(), state: states.entropy() }
    }

    /// Bytes per event.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        (self.next + self.dt + self.state) / 8.0
    }
}

/// Where a field lies in the payload.
fn span(recording: &Recording, name: &str) -> (usize, usize) {
    let mut at = 0;
    for field in &recording.class.fields {
        let size = field.ty.fixed_size().expect("a recording's have one");
        if field.name == name {
            let whole = recording.events().next().map(|e| value(&field.ty, &e.payload[at..]));
            assert!(whole.is_none_or(|v| v.is_some()), "{name} lies in the payload");
            return (at, at + size);
        }
        at += size;
    }
    panic!("{} has no field {name}: no recording of sched_switch", recording.class.name);
}

/// A number for each value.
#[derive(Default)]
struct Numbers(HashMap<Vec<u8>, u32>);

impl Numbers {
    fn of(&mut self, value: Vec<u8>) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(value).or_insert(next)
    }
}

/// How often each value was there.
struct Counts<T>(HashMap<T, u64>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Counts<T> {
    fn add(&mut self, value: T) {
        *self.0.entry(value).or_default() += 1;
    }

    /// Bits per value: Σ p log2(1/p).
    fn entropy(&self) -> f64 {
        let all: u64 = self.0.values().sum();
        if all == 0 {
            return 0.0;
        }
        // In an order that does not change from run to run, so that the sum does not.
        let mut counts: Vec<u64> = self.0.values().copied().collect();
        counts.sort_unstable();
        let sum: f64 = counts.iter().map(|n| *n as f64 * (*n as f64).log2()).sum();
        (all as f64).log2() - sum / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Recorded, sched_switch};

    #[test]
    fn entropies_of_what_is_known() {
        let mut counts = Counts::default();
        assert_eq!(counts.entropy(), 0.0);
        (0..8).for_each(|n| counts.add(n));
        assert_eq!(counts.entropy(), 3.0);
        (0..8).for_each(|_| counts.add(0));
        // 0 nine times of sixteen, seven others once each.
        let expected = 9.0 / 16.0 * (16.0f64 / 9.0).log2() + 7.0 / 16.0 * 4.0;
        assert!((counts.entropy() - expected).abs() < 1e-12);
    }

    /// Goal: the bound counts what it says. Method: events of the recording's class, made by
    /// hand: two tasks that follow each other in turn, so that next is known from prev, with
    /// four distances and two states as likely as each other.
    #[test]
    fn a_recording_made_by_hand() {
        let real = sched_switch();
        let mut made = real.clone();
        made.events.clear();
        made.payloads.clear();
        let [a, b] = ["prev_pid", "next_pid"].map(|name| span(&real, name));
        let state = span(&real, "prev_state");
        let mut time = 0;
        for i in 0..4097u64 {
            let mut payload = vec![0; real.size];
            payload[a.0] = (i % 2) as u8;
            payload[b.0] = ((i + 1) % 2) as u8;
            payload[state.0] = (i / 2 % 2) as u8;
            made.push(Recorded { cpu: 0, time, payload: &payload }).expect("in order");
            time += 1000 * (1 + i % 4);
        }
        let bound = Bound::of(&made, 1000);
        assert_eq!(bound.dt, 2.0, "{bound:?}");
        assert!(bound.next.abs() < 1e-9, "{bound:?}");
        assert!((bound.state - 1.0).abs() < 1e-6, "{bound:?}");
    }

    /// The committed recording's, so that figures which lean on it do not change in silence.
    #[test]
    fn of_the_committed_recording() {
        let bound = Bound::of(&sched_switch(), 1000);
        println!("{bound:?} {}", bound.bytes());
        assert!((1.0..2.0).contains(&bound.bytes()), "{bound:?}");
        let bound = Bound::of(&crate::recording::chosen(), 1000);
        println!("{bound:?} {}", bound.bytes());
    }
}
