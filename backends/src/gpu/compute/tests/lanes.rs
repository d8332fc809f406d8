//! States and values.

use super::*;
use crate::timeline::tests::{LAST, Random, times, windows};
use crate::timeline::{Aggregate, Transition, Value, Window, aggregate, states};

#[test]
fn states_are_their_twins() {
    let Some(compute) = compute() else { return };
    let mut random = Random(13);
    for round in 0..9 {
        // In the first column states hold for some 2^33, in several pieces.
        let wide = Window { from: 5, to: 5 + (1 << 36), columns: 2 };
        for window in windows(&mut random).into_iter().chain([wide]) {
            let (mut words, mut lanes, mut plain) = (Vec::new(), Vec::new(), Vec::new());
            // Few states (ties), and more than a column has a table for.
            let most = [3, 40, 5000][round % 3];
            let until = [LAST, window.from + window.span() / 2, 0][random.below(3) as usize];
            for _ in 0..1 + random.below(3) {
                let few = [0, 1, 5, 70, 700][random.below(5) as usize];
                let n = if most == 5000 && window == wide { 12_000 } else { few };
                let mut times = times(&mut random, &window, n);
                times.sort_unstable();
                let all: Vec<Transition> =
                    times.iter().map(|t| Transition::new(*t, state(&mut random, most))).collect();
                plain.extend(states(&all, &window, until));
                lanes.push(ring(&mut random, &all, &mut words));
            }
            let buffer = buffer(compute, &words);
            // What lies behind the lanes is none of theirs.
            let found = compute.states(&buffer, &lanes, &window, until).unwrap();
            assert_eq!(found.wait().unwrap(), plain, "{most} states in {window:?}");
        }
    }
}

/// Small ones and large ones.
fn state(random: &mut Random, most: u64) -> u32 {
    (random.below(most) as u32).wrapping_mul(if most == 40 { 0x1000_0001 } else { 1 })
}

#[test]
fn a_lane_outside_its_buffer_is_refused() {
    let Some(compute) = compute() else { return };
    let buffer = buffer(compute, &[0; 40]);
    let window = Window { from: 0, to: 10, columns: 2 };
    for (base, capacity, first, len) in [(0, 11, 0, 0), (6, 5, 0, 0), (0, 5, 0, 6), (0, 5, !0, 1)] {
        let lane = Lane { base, capacity, first, len };
        assert!(compute.states(&buffer, &[lane], &window, LAST).is_err(), "{lane:?}");
    }
}

#[test]
fn values_are_their_twins() {
    let Some(compute) = compute() else { return };
    let mut random = Random(14);
    for round in 0..8 {
        for window in windows(&mut random) {
            let rows = 1 + random.below(2) as u32;
            let mut plain = vec![vec![Aggregate::NONE; window.columns as usize]; rows as usize];
            let (mut words, mut runs) = ([vec![], vec![]], Vec::new());
            for _ in 0..random.below(4) {
                let n = [0, 1, 70, 5000][random.below(4) as usize];
                let mut times = times(&mut random, &window, n);
                times.sort_unstable();
                let value = |random: &mut Random| match random.below(5) {
                    0 => i64::MAX,
                    1 => i64::MIN,
                    2 => random.next() as i64,
                    _ => random.below(100) as i64 - 50,
                };
                let all: Vec<Value> =
                    times.iter().map(|t| Value::new(*t, value(&mut random))).collect();
                let (buffer, row) = (random.below(2) as usize, random.below(rows.into()) as u32);
                let first = words[buffer].len() as u32 / 4;
                words[buffer].extend(value_words(&all));
                let found = aggregate(&all, &window);
                for (sum, a) in plain[row as usize].iter_mut().zip(found) {
                    *sum = sum.and(a);
                }
                let (begin, end) = (times.first().copied(), times.last().copied());
                let (begin, end) = (begin.unwrap_or(0), end.unwrap_or(u64::MAX));
                runs.push(Run { buffer, first, len: n as u32, begin, end, row });
            }
            let buffers = words.map(|w| buffer(compute, &w));
            let found = compute.aggregate(&buffers, &runs, rows, &window).unwrap();
            assert_eq!(found.wait().unwrap(), plain.concat(), "round {round} of {window:?}");
        }
    }
}
