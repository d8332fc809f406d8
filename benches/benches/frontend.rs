//! What does a record cost at the writer, beside its parts: a clock read, a locked
//! compare-and-swap, a locked add and the copy of its bytes? One thread, no reader
//! (overwrite, pages), 256 KiB × 8; CPU time in interleaved rounds, medians with spread.
//!
//! The parts are measured twice: each alone, added up (what a part costs when the next waits
//! for it, as it does in a record), and all in one loop, where the CPU overlaps them (a
//! floor that no record with a dependency between its steps can reach). The copy alone goes
//! round a ring of the same 2 MiB.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_benches::{channel, cpu_seconds, measuring, payload, spread};
use rbpipe_core::channel::Streams;
use rbpipe_core::clock;
use rbpipe_core::frontend::Mode;

const PAYLOADS: [usize; 4] = [8, 32, 256, 1024];

fn main() {
    let (rounds, n) = if measuring() { (15, 400_000) } else { (1, 1000) };
    let kinds = [Streams::Single, Streams::PerThread(2), Streams::PerCpu];
    let channels: Vec<_> = kinds
        .iter()
        .map(|k| channel::<Pages>(Config::default(), Mode::Overwrite, *k, (256 << 10, 8)))
        .collect();
    let writers: Vec<_> = channels.iter().map(|(c, class)| (c.writer(), *class)).collect();
    let mut ring = vec![0u8; 2 << 20];
    let (one, n_parts) = (AtomicU64::new(0), f64::from(n));
    let mut alone: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        alone[0]
            .push(cpu_seconds(|| (0..n).for_each(|_| _ = black_box(clock::now()))) * 1e9 / n_parts);
        let t = cpu_seconds(|| {
            for _ in 0..n {
                let old = one.load(Ordering::Acquire);
                let (set, fail) = (Ordering::AcqRel, Ordering::Acquire);
                let _ = black_box(one.compare_exchange(old, old + 1, set, fail));
            }
        });
        alone[1].push(t * 1e9 / n_parts);
        let t = cpu_seconds(|| {
            for _ in 0..n {
                black_box(one.fetch_add(1, Ordering::AcqRel));
            }
        });
        alone[2].push(t * 1e9 / n_parts);
    }
    let alone: Vec<f64> = alone.into_iter().map(|v| spread(v).1).collect();
    let sum: f64 = alone.iter().sum();
    println!(
        "parts alone: clock {:.1} + locked cmpxchg {:.1} + locked xadd {:.1} = {sum:.1} ns",
        alone[0], alone[1], alone[2]
    );
    println!("ns per record: median [min max], ratio to the parts alone, to the parts in one loop");
    for len in PAYLOADS {
        let bytes = payload(len);
        let (position, committed) = (Box::new(AtomicU64::new(0)), Box::new(AtomicU64::new(0)));
        let (mut parts, mut copies) = (Vec::new(), Vec::new());
        let mut records: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
        for _ in 0..rounds {
            let t = cpu_seconds(|| {
                let mut at = 0;
                for _ in 0..n {
                    ring[at..at + bytes.len()].copy_from_slice(black_box(&bytes));
                    // Somebody may look at it: the copy cannot be left out.
                    black_box(&mut ring);
                    at += 4 + len;
                    if at > ring.len() - 2048 {
                        at = 0;
                    }
                }
            });
            copies.push(t * 1e9 / f64::from(n));
            let t = cpu_seconds(|| {
                for _ in 0..n {
                    let old = position.load(Ordering::Acquire);
                    black_box(clock::now());
                    let new = old + 4 + len as u64;
                    let _ =
                        position.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
                    let at = (old as usize & (ring.len() - 1)).min(ring.len() - 2048);
                    ring[at..at + bytes.len()].copy_from_slice(black_box(&bytes));
                    black_box(&mut ring);
                    committed.fetch_add(len as u64, Ordering::AcqRel);
                }
            });
            parts.push(t * 1e9 / f64::from(n));
            for ((writer, class), out) in writers.iter().zip(&mut records) {
                let t = cpu_seconds(|| {
                    for _ in 0..n {
                        let _ = black_box(writer.record(*class, black_box(&bytes)));
                    }
                });
                out.push(t * 1e9 / f64::from(n));
            }
        }
        let (_, copy, _) = spread(copies);
        let all = sum + copy;
        println!("{len:5} B  parts alone    {all:6.1} (copy {copy:.1})");
        let (low, parts, high) = spread(parts);
        println!("{len:5} B  parts in a loop{parts:6.1} [{low:.1} {high:.1}]");
        for (kind, out) in kinds.iter().zip(records) {
            let (low, mid, high) = spread(out);
            let kind = format!("{kind:?}");
            println!(
                "{len:5} B  {kind:14} {mid:6.1} [{low:.1} {high:.1}]  × {:.2}  × {:.2}",
                mid / all,
                mid / parts
            );
        }
    }
}
