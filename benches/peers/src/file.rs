//! From records of 256 bytes to a file, beside plain writes of as many bytes in the same run:
//! block mode, so that nothing is lost; one writer, 256 KiB × 8, the file backend as it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rbpipe_backends::file;
use rbpipe_core::channel::Streams;
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;

use crate::measure::{noise, payload};
use crate::ours;
use crate::session::{Spread, spread};

const PIECE: usize = 256 << 10;
const PAYLOAD: usize = 256;

/// GB/s, and ratios of one round.
#[derive(Clone, Debug, Serialize)]
pub struct Files {
    /// Plain writes of 256 KiB by one thread.
    pub pwrite: Spread,
    /// The same into room that was asked for ahead, as the file backend asks.
    pub pwrite_ahead: Spread,
    /// rbpipe.
    pub ours: Spread,
    /// rbpipe ÷ plain writes.
    pub by_pwrite: Spread,
    /// rbpipe ÷ plain writes into room ahead.
    pub by_pwrite_ahead: Spread,
    /// Records that were lost, of so many.
    pub lost: u64,
    /// See `lost`.
    pub records: u64,
}

fn plain(path: &Path, bytes: u64, ahead: bool) -> anyhow::Result<f64> {
    let piece = vec![7; PIECE];
    let begin = Instant::now();
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut at = 0;
    while at < bytes {
        if ahead && at.is_multiple_of(64 << 20) {
            // Where the file system cannot, it is a plain write.
            let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, at, 64 << 20);
        }
        let piece = &piece[..piece.len().min((bytes - at) as usize)];
        file.write_all_at(piece, at).with_context(|| format!("cannot write {}", path.display()))?;
        at += piece.len() as u64;
    }
    drop(file);
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(bytes as f64 / seconds / 1e9)
}

/// GB/s, records lost, bytes in the file.
fn rbpipe(path: &Path, records: u64, noise: &[u8]) -> anyhow::Result<(f64, u64, u64)> {
    let (mode, config) = (Mode::Block, file::Config::new(path));
    let (channel, class) =
        ours::channel::<PAYLOAD, file::File>(config, mode, Streams::PerThread(1));
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let begin = Instant::now();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(10), &mut |n| eprintln!("{n}"))
    });
    for i in 0..records {
        let _ = writer.record(class, payload::<PAYLOAD>(noise, i as usize));
    }
    control.stop();
    match drain.join() {
        Ok(end) => end?,
        Err(_) => bail!("the drain has panicked"),
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (mut bytes, mut written) = (0, 0);
    for stream in monitor.streams() {
        bytes += stream.books.output_bytes;
        written += stream.books.output_records;
    }
    std::fs::remove_dir_all(path)?;
    Ok((bytes as f64 / seconds / 1e9, records - written, bytes))
}

/// So many rounds of so many bytes each, in a directory of its own under `dir`.
///
/// # Errors
/// It cannot be written.
pub fn run(dir: &Path, rounds: usize, bytes: u64) -> anyhow::Result<Files> {
    let place = tempfile::tempdir_in(dir)
        .with_context(|| format!("cannot make a directory in {}", dir.display()))?;
    let (plain_path, trace) = (place.path().join("plain"), place.path().join("trace"));
    let (noise, records) = (noise(), bytes / (PAYLOAD as u64 + 4));
    let (mut plains, mut aheads, mut found, mut all_lost) = (vec![], vec![], vec![], 0);
    for _ in 0..rounds {
        let (speed, lost, out) = rbpipe(&trace, records, &noise)?;
        found.push(speed);
        all_lost += lost;
        plains.push(plain(&plain_path, out, false)?);
        aheads.push(plain(&plain_path, out, true)?);
    }
    let by = |of: &[f64]| found.iter().zip(of).map(|(a, b)| a / b).collect::<Vec<_>>();
    let (by_plain, by_ahead) = (by(&plains), by(&aheads));
    let of = |v: Vec<f64>| spread(v).context("no round was run");
    Ok(Files {
        by_pwrite: of(by_plain)?,
        by_pwrite_ahead: of(by_ahead)?,
        pwrite: of(plains)?,
        pwrite_ahead: of(aheads)?,
        ours: of(found)?,
        lost: all_lost,
        records: records * rounds as u64,
    })
}
