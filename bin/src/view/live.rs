//! `rbpipe view --config FILE`: the newest of a running pipeline, again and again.
//!
//! Of a pipeline that writes a trace, from that trace: packets before the time that is shown are
//! passed by their headers. It ends when the pipeline has (it holds a lock on the directory).

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rbpipe_backends::file;
use rbpipe_core::backend::Backend;
use rustix::fs::{FlockOperation, flock};

use super::{ViewArgs, What, show};
use crate::config;
use crate::read::moment::Moment;
use crate::status::say;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Who begins a pipeline and this at once need not wait for the one with the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command until the pipeline has ended.
///
/// # Errors
/// The configuration is none, it writes no trace, or the picture cannot be written.
pub fn run(args: &ViewArgs, path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(
        args.png.is_some() || io::stdout().is_terminal(),
        "stdout is no terminal: name a picture (--png FILE.png), or look at the trace once \
         (rbpipe view DIR)"
    );
    let trace = trace_of(path)?;
    let what = What {
        paths: vec![trace.clone()],
        from: Some(Moment::BeforeEnd(nanoseconds(args.last.0))),
        grows: true,
    };
    let begin = Instant::now();
    let mut drawn = false;
    loop {
        // First: what is there when nobody writes any more is all.
        let over = is_free(&trace);
        let again = if drawn { "\x1b[H" } else { "\x1b[H\x1b[2J" };
        match show(args, &what, out, again) {
            Ok(()) => drawn = true,
            // Nothing has come yet, or its directory is being renamed.
            Err(e) if over.is_none() || over == Some(false) => {
                tracing::debug!("{e:#}");
                ensure!(
                    over.is_some() || drawn || begin.elapsed() < PATIENCE,
                    "{}: no trace here: does the pipeline of {shown} run, and from this directory?",
                    trace.display()
                );
            }
            Err(e) => return Err(e),
        }
        if over == Some(true) {
            // Who rotates a trace lets it go for a moment.
            thread::sleep(PAUSE / 4);
            if is_free(&trace) != Some(false) {
                say!("rbpipe view: {}: nobody writes into it any more", trace.display());
                return Ok(());
            }
        }
        thread::sleep(PAUSE);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The trace that a pipeline writes.
fn trace_of(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let (config, _) = config::read(path, &[]).map_err(|problems| {
        crate::status::tell(&problems.for_stderr());
        anyhow::anyhow!("{shown}: is no configuration that runs")
    })?;
    let files = config.channels.iter().filter(|c| c.backend == file::File::TYPE);
    let mut paths: Vec<PathBuf> =
        files.filter_map(|c| Some(c.config.downcast_ref::<file::Config>()?.path.clone())).collect();
    paths.dedup();
    match &paths[..] {
        [one] => Ok(one.clone()),
        [] => bail!(
            "{shown}: no channel writes a trace (backend `file`): of a flight recorder take a \
             snapshot (rbpipe snapshot --out DIR), and look at that (rbpipe view DIR)"
        ),
        [first, ..] => bail!(
            "{shown}: it writes {} traces: look at one of them (rbpipe view {})",
            paths.len(),
            first.display()
        ),
    }
}

/// Whether nobody writes into a trace; `None`: it is not there.
fn is_free(path: &Path) -> Option<bool> {
    let directory = File::open(path).with_context(|| path.display().to_string()).ok()?;
    let free = flock(&directory, FlockOperation::NonBlockingLockShared).is_ok();
    if free {
        let _ = flock(&directory, FlockOperation::Unlock);
    }
    Some(free)
}
