//! The process that reads a trace: its files first as they are, which is what reading costs at
//! least; then as `rbpipe read` does, into nowhere. It says what it found in a line of JSON.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::bench::machine;
use crate::bench::writer::process_seconds;
use crate::read::event::{Event, Lost};
use crate::read::merge::{Print, merge};
use crate::read::{Csv, Format, Printers, Selection, StreamReader, Trace, stream_files};

/// What it found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Walked {
    pub events: u64,
    /// Of the stream files.
    pub bytes: u64,
    /// Until all was printed.
    pub seconds: f64,
    /// … of them of the CPU.
    pub cpu_seconds: f64,
    /// The CPU's for all that the process did.
    pub all_cpu_seconds: f64,
    /// To read the same files as they are.
    pub plain_seconds: f64,
    /// The most memory that the process had, in bytes.
    pub peak: u64,
}

/// Reads a trace and says what that took.
///
/// # Errors
/// It cannot be read, or `out` not be written.
pub fn run(path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let begin = Instant::now();
    let bytes = plain(path)?;
    let plain_seconds = begin.elapsed().as_secs_f64();
    let (begin, cpu) = (Instant::now(), process_seconds());
    let trace = Trace::open(path)?;
    let mut streams = trace.streams().collect::<anyhow::Result<Vec<StreamReader>>>()?;
    let mut select = Selection::new(&[], None, Arc::default());
    let printer = Printers::new(Format::Text, || Csv::new(&[], &[]));
    let mut counting = Counting { printer, events: 0 };
    merge(&mut streams, &mut io::sink(), &mut counting, &mut select, &mut 0)?;
    counting.flush(&mut io::sink())?;
    let walked = Walked {
        events: counting.events,
        bytes,
        seconds: begin.elapsed().as_secs_f64(),
        cpu_seconds: process_seconds() - cpu,
        all_cpu_seconds: process_seconds(),
        plain_seconds,
        peak: machine::most_resident(),
    };
    writeln!(out, "{}", serde_json::to_string(&walked)?)?;
    Ok(out.flush()?)
}

fn plain(path: &Path) -> anyhow::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0);
    for name in stream_files(path)? {
        let mut read = || {
            let mut file = File::open(&name)?;
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok::<_, io::Error>(()),
                    n => bytes += n as u64,
                }
            }
        };
        read().with_context(|| format!("{}: cannot be read", name.display()))?;
    }
    Ok(bytes)
}

/// Prints and counts.
struct Counting {
    printer: Printers,
    events: u64,
}

impl Print for Counting {
    fn event(&mut self, out: &mut impl Write, event: &Event<'_>) -> io::Result<()> {
        self.events += 1;
        self.printer.event(out, event)
    }
    fn lost(&mut self, out: &mut impl Write, lost: &Lost) -> io::Result<()> {
        self.printer.lost(out, lost)
    }
    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.printer.flush(out)
    }
}
