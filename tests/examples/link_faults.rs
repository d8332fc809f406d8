//! How do a link's books stand after thousands of faults, and is a damaged frame ever taken for a
//! whole one? Runs what tests/link_faults.rs runs, as often as asked, and prints the figures.

use std::time::Instant;

use clap::Parser;
use rbpipe_tests::link::damage::{Damage, check, cost};
use rbpipe_tests::link::mixed::mixed;
use rbpipe_tests::link::{runs, simulate};

#[derive(Parser)]
struct Arguments {
    /// Runs of a whole link with faults.
    #[arg(long, default_value_t = 0)]
    runs: u64,
    /// The first run's seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// This one run alone.
    #[arg(long)]
    only: Option<u64>,
    /// New senders' frames look like the last one's.
    #[arg(long)]
    alike: bool,
    /// Damaged frames that a receiver is asked about.
    #[arg(long, default_value_t = 0)]
    frames: u64,
    /// Errors of each kind: how many frames they cost.
    #[arg(long, default_value_t = 0)]
    errors: usize,
    /// Frames and a third as many lines of text on one line.
    #[arg(long, default_value_t = 0)]
    mixed: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() {
    let a = Arguments::parse();
    if let Some(seed) = a.only {
        match simulate(seed, a.alike) {
            Ok(figures) => println!("{figures:#?}"),
            Err(wrong) => println!("seed {seed}: {wrong}"),
        }
    }
    if a.runs > 0 {
        let begin = Instant::now();
        let (figures, wrong) = runs((a.seed, a.runs), a.alike, a.threads);
        println!("{figures:#?}\n{:.1} s", begin.elapsed().as_secs_f64());
        for (seed, what) in wrong.iter().take(10) {
            println!("seed {seed}: {what}");
        }
        assert!(wrong.is_empty(), "{} of {} runs were wrong", wrong.len(), a.runs);
    }
    if a.frames > 0 {
        let begin = Instant::now();
        let (mut damaged, mut taken) = (0, 0);
        println!("{:<10} {:>12} {:>8}", "damage", "frames", "taken");
        for damage in Damage::ALL {
            let share = a.frames / Damage::ALL.len() as u64 / a.threads as u64 + 1;
            let (mut d, mut t) = (0, 0);
            std::thread::scope(|scope| {
                let of = |n: usize| scope.spawn(move || check(a.seed + n as u64, damage, share));
                for thread in (0..a.threads).map(of).collect::<Vec<_>>() {
                    let (more, wrong) = thread.join().expect("checked");
                    (d, t) = (d + more, t + wrong);
                }
            });
            println!("{:<10} {d:>12} {t:>8}", format!("{damage:?}"));
            (damaged, taken) = (damaged + d, taken + t);
        }
        let time = begin.elapsed().as_secs_f64();
        println!("{damaged} damaged frames, {taken} taken for whole ones; {time:.1} s");
    }
    if a.errors > 0 {
        println!("{:<10} {:>8} {:>8}", "one error", "binary", "mixed");
        for damage in [Damage::Flips(1), Damage::Drop, Damage::Double, Damage::Burst] {
            let [binary, mixed] = [false, true].map(|m| cost(a.seed, damage, m, a.errors));
            println!("{:<10} {binary:>8.3} {mixed:>8.3}", format!("{damage:?}"));
        }
    }
    if a.mixed > 0 {
        for (width, flip) in [(20, 0.0), (20, 1e-5), (20, 1e-4), (80, 1e-5), (80, 1e-4)] {
            let m = mixed(a.seed, (a.mixed, a.mixed / 3), width, flip);
            println!("lines of {width} bytes, bit error rate {flip:e}: {m:?}");
        }
    }
}
