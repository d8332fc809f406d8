//! `rbpipe bench`: what each backend of this build costs its writers, and what comes out of it,
//! beside what this machine could do without a ring.
//!
//! One body for all backends (`run`), through the registry (`subject`): a backend says with which
//! configurations, and against what, it is benched, and nothing of how. `case`: what is measured;
//! `session`: in which order; `writer`, `histogram`: at the writer; `limits`, `machine`: what it is
//! held against; `report`: what was found; `table`, `csv`, `plot`, `growth`, `compare`: how it is
//! shown. `scale`, `reads`: how costs grow.

mod args;
mod case;
mod compare;
mod csv;
mod growth;
mod histogram;
mod limits;
mod machine;
mod plot;
mod progress;
mod reads;
mod report;
mod run;
mod scale;
mod session;
mod subject;
mod svg;
mod table;
mod words;
mod writer;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use args::BenchArgs;
use report::Report;
use session::Session;

/// Why it did not end well.
pub enum Error {
    /// What was asked for cannot be meant.
    Usage(String),
    /// Something failed.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(e: anyhow::Error) -> Self {
        Self::Failed(e)
    }
}

/// Runs the command; gives whether it was ended before its time.
///
/// # Errors
/// See [`Error`].
pub fn run(args: &BenchArgs, out: &mut impl Write) -> Result<bool, Error> {
    let usage = Error::Usage;
    if let Some(trace) = &args.read_once {
        reads::walk(trace, out)?;
        return Ok(false);
    }
    let (payloads, modes) = (args.payloads().map_err(usage)?, args.modes().map_err(usage)?);
    let (time, most) = (args.time().map_err(usage)?, args.most_writers().map_err(usage)?);
    let subjects = args.subjects().map_err(usage)?;
    let read = |option, path: &Option<PathBuf>| {
        path.as_deref().map(|p| compare::read(option, p)).transpose().map_err(Error::Usage)
    };
    let (old, earlier) = (read("--compare", &args.compare)?, read("--from", &args.from)?);
    if !args.dir.is_dir() {
        let message = format!("--dir {}: there is no such directory", args.dir.display());
        return Err(Error::Usage(message));
    }
    // What cannot be written is better known now than in a minute.
    let mut files = Vec::new();
    for (path, make) in [
        (&args.json, json as fn(&Report) -> String),
        (&args.csv, csv::csv),
        (&args.plot, plot::plot),
    ] {
        if let Some(path) = path {
            let file = File::create(path)
                .map_err(|e| Error::Usage(format!("{}: cannot be written: {e}", path.display())))?;
            files.push((path.clone(), file, make));
        }
    }
    let report = if let Some(earlier) = earlier {
        earlier
    } else if args.scale {
        // Traces are what a file backend makes.
        let reads = subjects.iter().any(|s| s.backend() == "file");
        let cases = scale::cases(subjects, !args.backend.is_empty(), most.max(8));
        let session = Session::new(cases, &[scale::PAYLOAD], time, &args.dir)?;
        session.and_read(reads).run("scale")?
    } else {
        let cases = subjects.into_iter().map(|s| (s, case::all(&payloads, &modes, most)));
        Session::new(cases.collect(), &payloads, time, &args.dir)?.run("bench")?
    };
    for (path, mut file, make) in files {
        write(&mut file, &path, &make(&report))?;
    }
    let mut text = table::table(&report, room());
    if let Some(old) = old {
        text.push('\n');
        text.push_str(&compare::changes(&old, &report));
    }
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(anyhow::Error::from)?;
    if report.rows.is_empty() && !report.interrupted {
        return Err(Error::Failed(anyhow::anyhow!("nothing could be benched")));
    }
    if let Some(failed) = report.absent.iter().find(|a| a.failed) {
        let name = report::named(&failed.backend, &failed.variant);
        return Err(Error::Failed(anyhow::anyhow!("{name}: {}", failed.why)));
    }
    Ok(report.interrupted)
}

/// Columns of the terminal that the table goes to, if it is one that says.
fn room() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| stdout.is_terminal());
    size.map(|s| usize::from(s.ws_col)).filter(|n| *n > 0)
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).map_or_else(|e| e.to_string(), |text| text + "\n")
}

fn write(file: &mut File, path: &Path, text: &str) -> anyhow::Result<()> {
    file.write_all(text.as_bytes())
        .with_context(|| format!("{}: cannot be written", path.display()))
}
