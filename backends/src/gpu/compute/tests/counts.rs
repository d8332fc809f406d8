//! Density by search, counts by looking at all.

use super::*;
use crate::timeline::tests::{Random, times, windows};
use crate::timeline::{Filter, NO_CLASS, Rows, Window, count, count_rows, density};

/// Entries in runs: `of[row]` are those of a row, run after run.
struct Runs {
    buffers: Vec<wgpu::Buffer>,
    runs: Vec<Run>,
    of: Vec<Vec<Vec<Entry>>>,
}

/// So many entries, each stretch of them in one of two buffers, in one of `rows` rows; with
/// bounds of time that are the run's own, or wider.
fn runs(compute: &Compute, random: &mut Random, entries: &[Entry], rows: u32) -> Runs {
    let mut words = [Vec::new(), Vec::new()];
    let mut all = Runs { buffers: vec![], runs: vec![], of: vec![vec![]; rows as usize] };
    let mut rest = entries;
    while !rest.is_empty() {
        let n = (1 + random.below(rest.len() as u64) as usize).min(rest.len());
        let (mine, later) = rest.split_at(n);
        rest = later;
        let (buffer, row) = (random.below(2) as usize, random.below(rows.into()) as u32);
        let (mut begin, mut end) = (u64::MAX, 0);
        for e in mine {
            (begin, end) = (begin.min(e.time()), end.max(e.time()));
        }
        if random.below(2) == 0 {
            begin = begin.saturating_sub(random.below(1 << 20));
            end = end.saturating_add(random.below(1 << 20));
        }
        let first = words[buffer].len() as u32 / 4;
        words[buffer].extend(entry_words(mine));
        // Something else between them.
        words[buffer].extend(entry_words(&[Entry::new(random.next(), 1, 0)]));
        all.runs.push(Run { buffer, first, len: n as u32, begin, end, row });
        all.of[row as usize].push(mine.to_vec());
    }
    all.buffers = words.iter().map(|w| buffer(compute, w)).collect();
    all
}

fn entries(random: &mut Random, window: &Window, n: usize, sorted: bool) -> Vec<Entry> {
    let mut times = times(random, window, n);
    if sorted {
        times.sort_unstable();
    }
    let class = |random: &mut Random| match random.below(9) {
        0 => 100,
        1 if !sorted => NO_CLASS,
        other => other as u32,
    };
    times.iter().map(|t| Entry::new(*t, class(random), 0)).collect()
}

#[test]
fn density_is_its_twins() {
    let Some(compute) = compute() else { return };
    let mut random = Random(11);
    for round in 0..6 {
        for window in windows(&mut random) {
            let n = [0, 1, 2, 100, 3000, 40_000][round];
            let all = entries(&mut random, &window, n, true);
            let rows = 1 + round as u32 % 3;
            let runs = runs(compute, &mut random, &all, rows);
            let mut plain = Vec::new();
            for row in &runs.of {
                let mut sum = vec![0; window.columns as usize];
                row.iter().for_each(|run| add(&mut sum, &density(run, &window)));
                plain.extend(sum);
            }
            let found = compute.density(&runs.buffers, &runs.runs, rows, &window).unwrap();
            assert_eq!(found.wait().unwrap(), plain, "{n} in {window:?}");
        }
    }
}

#[test]
fn count_is_its_twins() {
    let Some(compute) = compute() else { return };
    let mut random = Random(12);
    for round in 0..6 {
        for window in windows(&mut random) {
            let n = [0, 1, 2, 100, 3000, 40_000][round];
            let all = entries(&mut random, &window, n, round % 2 == 0);
            let rows = 1 + round as u32 % 3;
            let runs = runs(compute, &mut random, &all, rows);
            let each = Rows::each(&[5, 2, 100]);
            let filters =
                [Filter::all(), Filter::of([]), Filter::of([2, 5]), Filter::of([3, 100, NO_CLASS])];
            let run = |wanted: &Wanted| {
                let found = compute.count(&runs.buffers, &runs.runs, rows, &window, wanted);
                found.unwrap().wait().unwrap()
            };
            for filter in &filters {
                let mut plain = Vec::new();
                for row in &runs.of {
                    plain.extend(count(&row.concat(), &window, filter));
                }
                assert_eq!(run(&filter.into()), plain, "{n} in {window:?} {filter:?}");
            }
            let mut plain = Vec::new();
            for row in &runs.of {
                plain.extend(count_rows(&row.concat(), &window, &each));
            }
            assert_eq!(run(&(&each).into()), plain, "{n} in {window:?}");
        }
    }
}

#[test]
fn too_many_bins_are_refused_in_words() {
    let Some(compute) = compute() else { return };
    let window = Window { from: 0, to: 1, columns: u32::MAX };
    let Err(e) = compute.count(&[], &[], u32::MAX, &window, &Wanted::from(&Filter::all())) else {
        panic!("4 billion columns of 4 billion rows")
    };
    assert!(e.to_string().contains("ask for fewer rows or columns"), "{e}");
}
