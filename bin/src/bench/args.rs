//! What can be asked for, and what cannot.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use rbpipe_core::frontend::Mode;

use super::subject::{self, Subject};
use crate::config::problem::suggest;

/// Arguments of `rbpipe bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only this backend, as `rbpipe backends` names it, or those of its kinds that this is a part
    /// of: `pages`, `pages:huge`, `gpu:staged`, `serial:text`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub backend: Vec<String>,
    /// Only records with so many bytes, instead of 8, 32, 256 and 1024
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    pub payload: Vec<usize>,
    /// Only channels in this mode: discard, overwrite or block
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    pub mode: Vec<String>,
    /// At most so many threads write; left out: as many as there are cores, at most 8
    #[arg(long, value_name = "N")]
    pub writers: Option<u32>,
    /// How long all of it takes, about
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    pub seconds: f64,
    /// Where files are written (and removed)
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// How the cost of a record grows with writers, channels, sub-buffers, their size, and event
    /// classes; and that of reading an event with the size of the trace (up to 10 GB, as far as
    /// there is time and room)
    #[arg(long)]
    pub scale: bool,
    /// A process that reads a trace for `--scale`
    #[arg(long, value_name = "DIR", hide = true)]
    pub read_once: Option<PathBuf>,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write all figures as CSV, a line for each row
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw them
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Measure nothing: show (write, draw, compare) what an earlier run wrote as JSON
    #[arg(long, value_name = "FILE.json")]
    pub from: Option<PathBuf>,
    /// Say what has changed beyond the noise since an earlier run's JSON
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
}

/// The usual sizes of records.
const PAYLOADS: [usize; 4] = [8, 32, 256, 1024];
/// A record has to fit into the usual sub-buffer, several times.
const LONGEST: usize = 64 << 10;

impl BenchArgs {
    /// The payloads to be used.
    ///
    /// # Errors
    /// One cannot be.
    pub fn payloads(&self) -> Result<Vec<usize>, String> {
        let mut payloads =
            if self.payload.is_empty() { PAYLOADS.into() } else { self.payload.clone() };
        if let Some(wrong) = payloads.iter().find(|p| !(1..=LONGEST).contains(*p)) {
            return Err(format!("--payload {wrong}: a record has 1 to {LONGEST} bytes here"));
        }
        payloads.sort_unstable();
        payloads.dedup();
        Ok(payloads)
    }

    /// The modes to be used.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn modes(&self) -> Result<Vec<Mode>, String> {
        if self.mode.is_empty() {
            return Ok(Mode::ALL.into());
        }
        for name in &self.mode {
            if !Mode::ALL.iter().any(|m| m.name() == name) {
                let help = suggest(name, Mode::ALL.iter().map(|m| m.name()));
                return Err(format!("--mode {name}: there is no such mode; {help}"));
            }
        }
        let named = |m: &Mode| self.mode.iter().any(|n| n == m.name());
        Ok(Mode::ALL.into_iter().filter(named).collect())
    }

    /// The subjects to be used.
    ///
    /// # Errors
    /// There is no such backend, or it has no such kind.
    pub fn subjects(&self) -> Result<Vec<Box<dyn Subject>>, String> {
        let all = subject::all();
        for name in &self.backend {
            if !all.iter().any(|s| is_meant(&**s, name)) {
                let mut names: Vec<_> = all.iter().map(|s| s.backend().to_owned()).collect();
                let parts = |s: &dyn Subject| {
                    let kinds = s.variant().split(", ").filter(|kind| !kind.is_empty());
                    kinds.map(|kind| format!("{}:{kind}", s.backend())).collect::<Vec<_>>()
                };
                names.extend(all.iter().flat_map(|s| parts(&**s)));
                let mut seen = HashSet::new();
                names.retain(|name| seen.insert(name.clone()));
                let help = suggest(name, names.iter().map(String::as_str));
                return Err(format!("--backend {name}: there is none in this build; {help}"));
            }
        }
        let named = |s: &dyn Subject| {
            self.backend.is_empty() || self.backend.iter().any(|n| is_meant(s, n))
        };
        Ok(all.into_iter().filter(|s| named(&**s)).collect())
    }

    /// The most threads that write.
    ///
    /// # Errors
    /// None, or too many.
    pub fn most_writers(&self) -> Result<u32, String> {
        match self.writers {
            None => Ok((super::machine::cores() as u32).min(8)),
            Some(n @ 1..=64) => Ok(n),
            Some(n) => Err(format!("--writers {n}: 1 to 64 threads can write here")),
        }
    }

    /// How long it may take.
    ///
    /// # Errors
    /// No such time.
    pub fn time(&self) -> Result<std::time::Duration, String> {
        if (0.1..=86_400.0).contains(&self.seconds) {
            Ok(std::time::Duration::from_secs_f64(self.seconds))
        } else {
            Err(format!("--seconds {}: 0.1 to 86400 can be meant", self.seconds))
        }
    }
}

/// Whether a subject is meant by `backend`, `backend:kind` or, where a kind has several parts, by
/// `backend:part`.
fn is_meant(s: &dyn Subject, name: &str) -> bool {
    let kind = name.strip_prefix(s.backend()).and_then(|rest| rest.strip_prefix(':'));
    let is_it = |kind: &str| s.variant() == kind || s.variant().split(", ").any(|p| p == kind);
    s.backend() == name || kind.is_some_and(is_it)
}
