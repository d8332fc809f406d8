//! What does the program do on a serial line, in figures? How full is the line in overload, how old
//! is what arrives, what does an unplugged port cost, how soon is it found again, how soon does a
//! receiver that comes late hear? The program runs as it is used, on the rig's wire.

use std::time::Duration;

use clap::Parser;
use rbpipe_tests::wire::measure::{jitter, late, outage, overload};

#[derive(Parser)]
struct Arguments {
    /// Seconds of each overload.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Outages that are measured.
    #[arg(long, default_value_t = 5)]
    outages: usize,
    /// Receivers that come late, of each kind.
    #[arg(long, default_value_t = 3)]
    late: usize,
}

fn main() {
    let a = Arguments::parse();
    let dir = tempfile::tempdir().expect("a directory");
    let time = Duration::from_secs(a.seconds);
    if a.seconds > 0 {
        println!(
            "{:>8} {:>10} {:>8} {:>10} {:>10} {:>10}",
            "baud", "mode", "use", "age p50", "age p99", "age max"
        );
        for mode in ["overwrite", "discard"] {
            for baud in [9600, 115_200, 460_800, 921_600, 3_000_000] {
                let o = overload(dir.path(), baud, time, mode);
                let [p50, p99, most] = [50, 99, 100].map(|p| o.heard.age(p));
                let line_use = o.line_use * 100.0;
                println!(
                    "{baud:>8} {mode:>10} {line_use:>7.2}% {p50:>10.1?} {p99:>10.1?} {most:>10.1?}"
                );
            }
        }
    }
    if a.outages > 0 {
        println!("{:>8} {:>12} {:>12} {:>12}", "outage", "CPU before", "CPU during", "back after");
        for n in 0..a.outages {
            let o = outage(dir.path(), 115_200, 100, Duration::from_secs(4));
            let (before, cpu) = (o.cpu_before * 100.0, o.cpu * 100.0);
            println!("{n:>8} {before:>11.2}% {cpu:>11.2}% {:>12.0?}", o.back);
        }
    }
    for n in 0..a.outages {
        // Alternately, in one run.
        for port in [false, true] {
            let (p99, most) = jitter(dir.path(), port, Duration::from_secs(4));
            let what = if port { "unplugged" } else { "no port" };
            println!("jitter of another source, {n}, {what:>9}: p99 {p99:.1?}, most {most:.1?}");
        }
    }
    for _ in 0..a.late {
        let every = Duration::from_secs(10);
        let waited = late(dir.path(), 115_200, every, false);
        println!("late, announced every {every:?}: first record after {waited:.2?}");
        let waited = late(dir.path(), 115_200, Duration::from_secs(60), true);
        println!("late, resync: first record after {waited:.3?}");
    }
}
