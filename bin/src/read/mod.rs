//! `rbpipe read`: prints a trace, its streams merged by time.
//!
//! What it knows of events it takes from the trace's metadata. Packets are read one by one
//! into a buffer for each stream, so memory has a bound whatever the trace's length.

mod print;
mod stream;
mod tsdl;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use rbpipe_core::decode::Record;

use print::Printer;
pub use stream::StreamReader;
pub use tsdl::Metadata;

/// Arguments of `rbpipe read`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// A trace directory
    pub path: PathBuf,
    /// How events are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Print only how many events there are, and how many are missing
    #[arg(long)]
    pub count: bool,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One readable line for each event; times are UTC
    Text,
    /// One JSON object a line: time (ns since the epoch), stream, cpu, name, fields
    Json,
}

/// The metadata of the trace in this directory.
///
/// # Errors
/// There is no trace, or none that rbpipe reads.
pub fn metadata(path: &Path) -> anyhow::Result<Metadata> {
    let shown = path.display();
    if path == Path::new("-") || path.is_file() {
        bail!("{shown}: a trace is a directory; others are not read yet");
    }
    let file = path.join("metadata");
    let bytes = fs::read(&file).with_context(|| format!("{shown}: no trace here (no metadata)"))?;
    let text = String::from_utf8_lossy(&bytes);
    tsdl::parse(&text).with_context(|| format!("{}", file.display()))
}

/// The stream files of a trace, in the order of their names.
///
/// # Errors
/// The directory cannot be listed.
pub fn stream_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = path.display();
    let mut out = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("{shown}: cannot be listed"))? {
        let entry = entry.with_context(|| format!("{shown}: cannot be listed"))?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if name != "metadata" && !hidden && entry.file_type().is_ok_and(|t| t.is_file()) {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

/// Runs the command.
///
/// # Errors
/// There is no trace, or `out` cannot be written.
pub fn run(args: &ReadArgs, out: &mut impl Write) -> anyhow::Result<()> {
    ensure!(!args.count || args.format == Format::Text, "--count has no format");
    let metadata = metadata(&args.path)?;
    let mut streams = stream_files(&args.path)?
        .iter()
        .map(|f| StreamReader::open(f, &metadata))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut aborted = 0;
    if args.count {
        let mut events = 0u64;
        for s in &mut streams {
            while s.next_packet() {
                while let Some(r) = s.next_record() {
                    events += u64::from(r.class.is_some());
                    aborted += u64::from(r.class.is_none());
                }
            }
        }
        let discarded: u64 = streams.iter().map(|s| s.discarded).sum();
        let lost: u64 = streams.iter().map(|s| s.packets_lost).sum();
        write!(out, "events {events}\ndiscarded {discarded}\npackets_lost {lost}\n")?;
        out.flush()?;
    } else {
        let mut printer = Printer::new(args.format, metadata.clock_offset);
        merge(&mut streams, out, &mut printer, &mut aborted)?;
        printer.flush(out)?;
    }
    for s in streams.iter().filter(|s| s.damage.is_some()) {
        let damage = s.damage.as_deref().unwrap_or_default();
        eprintln!("rbpipe read: {}: {damage}", s.path.display());
    }
    if aborted > 0 {
        eprintln!("rbpipe read: {aborted} aborted records are not shown");
    }
    Ok(())
}

/// Goes through all streams in the order of time; ties in the order of streams.
fn merge(
    streams: &mut [StreamReader<'_>],
    out: &mut impl Write,
    printer: &mut Printer,
    aborted: &mut u64,
) -> anyhow::Result<()> {
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut current: Vec<Option<Record>> = vec![None; streams.len()];
    for (i, s) in streams.iter_mut().enumerate() {
        if let Some(time) = advance(s, &mut current[i], out, printer, aborted)? {
            heap.push(Reverse((time, i)));
        }
    }
    while let Some(Reverse((_, i))) = heap.pop() {
        let limit = heap.peek().map(|Reverse(next)| *next);
        // As long as this stream is the earliest, the heap need not be asked.
        loop {
            if let Some(record) = &current[i] {
                printer.event(out, &streams[i], record)?;
            }
            match advance(&mut streams[i], &mut current[i], out, printer, aborted)? {
                None => break,
                Some(time) if limit.is_some_and(|l| l < (time, i)) => {
                    heap.push(Reverse((time, i)));
                    break;
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// To the stream's next event; gives its time.
fn advance(
    s: &mut StreamReader<'_>,
    current: &mut Option<Record>,
    out: &mut impl Write,
    printer: &mut Printer,
    aborted: &mut u64,
) -> anyhow::Result<Option<u64>> {
    loop {
        match s.next_record() {
            Some(record) if record.class.is_some() => {
                *current = Some(record);
                return Ok(Some(record.time));
            }
            Some(_) => *aborted += 1,
            None => {
                if !s.next_packet() {
                    *current = None;
                    return Ok(None);
                }
                printer.lost(out, s)?;
            }
        }
    }
}
