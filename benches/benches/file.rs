//! How fast do records of 256 bytes get into a file, beside a plain write of the same bytes
//! by one thread in one run, and beside what the drain could do alone (writes of a
//! sub-buffer's size, from as many memories, into room allocated ahead, nobody to wait for)? Block mode (nothing is
//! lost), one writer, from small rings to large ones; and what does a GB cost in CPU seconds?

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rbpipe_backends::file;
use rbpipe_benches::{channel, measuring, payload, seconds, spread};
use rbpipe_core::backend::Backend;
use rbpipe_core::channel::Streams;
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::time::{ClockId, clock_gettime};

fn cpu() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Writes of `size` bytes from `count` memories in turn; with room ahead, as the file backend
/// asks for.
fn plain(path: &Path, bytes: u64, (size, count): (usize, usize), ahead: bool) -> (f64, f64) {
    let chunks = vec![vec![7; size]; count];
    let before = cpu();
    let file = File::create(path).expect("a file");
    let t = seconds(|| {
        let mut at = 0;
        for chunk in chunks.iter().cycle() {
            if at >= bytes {
                break;
            }
            if ahead && at.is_multiple_of(64 << 20) {
                let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, at, 64 << 20);
            }
            file.write_all_at(chunk, at).expect("written");
            at += chunk.len() as u64;
        }
    });
    let used = cpu() - before;
    std::fs::remove_file(path).expect("removed");
    (bytes as f64 / t / 1e9, used / (bytes as f64 / 1e9))
}

fn rbpipe(path: &Path, ring: (u64, u32), bytes: u64) -> (f64, f64) {
    let config = file::Config::new(path);
    let (channel, class) = channel::<file::File>(config, Mode::Block, Streams::Single, ring);
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"))
    });
    let (record, before) = (payload(256), cpu());
    let t = seconds(|| {
        for _ in 0..bytes / 260 {
            writer.record(class, &record).expect("block mode loses nothing");
        }
        control.stop();
        drain.join().expect("the drain").expect("it closes");
    });
    let used = cpu() - before;
    std::fs::remove_dir_all(path).expect("removed");
    (bytes as f64 / t / 1e9, used / (bytes as f64 / 1e9))
}

fn main() {
    let (rounds, bytes) = if measuring() { (7, 512 << 20) } else { (1, 1 << 20) };
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let rings = [(4 << 10, 2), (64 << 10, 8), (256 << 10, 8), (1 << 20, 8)];
    let mut plains = Vec::new();
    let (mut alone, mut found) = (vec![Vec::new(); rings.len()], vec![Vec::new(); rings.len()]);
    let path = dir.path().join("plain");
    for _ in 0..rounds {
        plains.push(plain(&path, bytes, (256 << 10, 1), false));
        for (i, ring) in rings.iter().enumerate() {
            // The smallest ring is measured with less: it is the slowest.
            let bytes = if ring.0 < 64 << 10 { bytes / 8 } else { bytes };
            // As many memories as the ring has, with those that the reader owns.
            let memories = ring.1 as usize + file::File::READER_SUBBUFS as usize;
            alone[i].push(plain(&path, bytes, (ring.0 as usize, memories), true));
            found[i].push(rbpipe(&dir.path().join("trace"), *ring, bytes));
        }
    }
    let of = |v: &[(f64, f64)]| {
        let (low, speed, high) = spread(v.iter().map(|x| x.0).collect());
        let (_, cpu, _) = spread(v.iter().map(|x| x.1).collect());
        (low, speed, high, cpu)
    };
    let (low, base, high, cpu) = of(&plains);
    println!("GB/s: median [min max], ratio to the plain write, to the drain alone; CPU s per GB");
    println!("plain write 256 KiB  {base:5.2} [{low:.2} {high:.2}]         {cpu:.2} s");
    for ((size, count), (v, alone)) in rings.iter().zip(found.iter().zip(&alone)) {
        let (low, drain, high, cpu) = of(alone);
        let size = size >> 10;
        println!(
            "{:20} {drain:5.2} [{low:.2} {high:.2}]         {cpu:.2} s",
            format!("drain alone {size} KiB")
        );
        let (low, speed, high, cpu) = of(v);
        println!(
            "{:20} {speed:5.2} [{low:.2} {high:.2}] × {:.2} × {:.2}  {cpu:.2} s",
            format!("{size} KiB x {count}"),
            speed / base,
            speed / drain
        );
    }
}
