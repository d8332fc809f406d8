//! What do writers that share one stream cost each other, beside writers with a stream each? One to
//! four threads write records of 32 bytes (overwrite, pages, no reader) into one stream, into one
//! for each CPU, into one for each thread; CPU time of a record (which waiting for a CPU is no part
//! of), and the ratio to one writer in the same run.

use std::hint::black_box;

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_benches::{channel, cpu_seconds, measuring, payload, spread};
use rbpipe_core::channel::{Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::frontend::Mode;

/// ns of CPU time a record.
fn write(writer: &Writer, class: ClassId, threads: usize, n: usize) -> f64 {
    let bytes = payload(32);
    let begin = std::sync::Barrier::new(threads);
    let used: f64 = std::thread::scope(|s| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                s.spawn(|| {
                    writer.register();
                    begin.wait();
                    cpu_seconds(|| {
                        for _ in 0..n {
                            let _ = black_box(writer.record(class, black_box(&bytes)));
                        }
                    })
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().expect("it writes")).sum()
    });
    used * 1e9 / (threads * n) as f64
}

fn main() {
    let (rounds, n) = if measuring() { (11, 300_000) } else { (1, 1000) };
    let kinds = [Streams::Single, Streams::PerCpu, Streams::PerThread(4)];
    let channels: Vec<_> = kinds
        .iter()
        .map(|k| channel::<Pages>(Config::default(), Mode::Overwrite, *k, (256 << 10, 8)))
        .collect();
    let mut found = vec![vec![Vec::new(); 4]; kinds.len()];
    for _ in 0..rounds {
        for ((channel, class), found) in channels.iter().zip(&mut found) {
            for (i, out) in found.iter_mut().enumerate() {
                out.push(write(&channel.writer(), *class, i + 1, n));
            }
        }
    }
    println!("ns of CPU time a record: median [min max], ratio to one writer");
    for (kind, found) in kinds.iter().zip(found) {
        let mut one = None;
        for (i, out) in found.into_iter().enumerate() {
            let (low, mid, high) = spread(out);
            let one = *one.get_or_insert(mid);
            let (kind, writers) = (format!("{kind:?}"), i + 1);
            println!(
                "{kind:13} {writers} writers {mid:7.1} [{low:.1} {high:.1}]  × {:.2}",
                mid / one
            );
        }
    }
}
