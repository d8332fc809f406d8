//! How `file` is benched: against a plain write of as many bytes into a file beside it, in one
//! thread, as pieces of a usual sub-buffer's size.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;
use rbpipe_core::bench::{BenchLimit, BenchPlan, BenchRig};
use rustix::fs::statvfs;

use super::Config;

/// A run writes at most so much, which goes again at its end.
const MOST: u64 = 256 << 20;
const PIECE: usize = 256 << 10;

pub(super) fn plans() -> Vec<BenchPlan<Config>> {
    let set_up = |place: &Path| {
        room(place)?;
        let config = Config::new(place.join("trace"));
        Ok(BenchRig { most_bytes: Some(MOST), ..BenchRig::new(config) })
    };
    let limit = BenchLimit { what: "plain write".into(), measure: Box::new(plain_write) };
    vec![BenchPlan { variant: String::new(), limit: Some(limit), set_up: Box::new(set_up) }]
}

/// Whether there is room enough that nobody else runs out of it.
fn room(place: &Path) -> Result<(), BackendError> {
    let stat = statvfs(place)
        .map_err(|e| BackendError::io(format!("{}: cannot be looked at", place.display()), e))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < 2 * MOST {
        return Err(BackendError::new(format!(
            "{}: {} MiB are free, and {} are wanted: name a place with more (--dir)",
            place.display(),
            free >> 20,
            (2 * MOST) >> 20
        )));
    }
    Ok(())
}

fn plain_write(place: &Path, time: Duration) -> Result<f64, BackendError> {
    room(place)?;
    let path = place.join("plain");
    let failed = |e| BackendError::io(format!("{}: cannot be written", path.display()), e);
    let piece: Vec<u8> = (0..PIECE).map(|i| i as u8).collect();
    let mut file = File::create(&path).map_err(failed)?;
    let (begin, mut bytes) = (Instant::now(), 0);
    while bytes == 0 || (begin.elapsed() < time && bytes < MOST) {
        file.write_all(&piece).map_err(failed)?;
        bytes += PIECE as u64;
    }
    let rate = bytes as f64 / begin.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(rate)
}
