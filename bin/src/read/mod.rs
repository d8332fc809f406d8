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

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use rbpipe_core::decode::Record;

use crate::status::say;

use print::Printer;
pub use stream::StreamReader;
pub use tsdl::{Metadata, parse};

/// Arguments of `rbpipe read`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// A trace directory
    pub path: PathBuf,
    /// How events are printed [default: text]
    #[arg(long, value_enum, conflicts_with = "count")]
    pub format: Option<Format>,
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
        bail!("{shown}: is no directory; a trace is one");
    }
    let text = rbpipe_backends::file::read_metadata(path)
        .with_context(|| format!("{shown}: no trace here (no metadata)"))?;
    parse(&text).with_context(|| format!("{}", path.join("metadata").display()))
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
    let metadata = metadata(&args.path)?;
    let files = stream_files(&args.path)?;
    let mut total = Total::default();
    if args.count {
        // One after the other: no more than one packet is in memory.
        for file in &files {
            let mut s = StreamReader::open(file, &metadata)?;
            total.count(&mut s);
            total.add(&s);
        }
        let Total { events, discarded, packets_lost, .. } = total;
        write!(out, "events {events}\ndiscarded {discarded}\npackets_lost {packets_lost}\n")?;
        out.flush()?;
    } else {
        let format = args.format.unwrap_or(Format::Text);
        let open = |f: &PathBuf| StreamReader::open(f, &metadata);
        let mut streams = files.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        total.aborted = print(&mut streams, metadata.clock_offset, format, out)?;
        streams.iter().for_each(|s| total.add(s));
        if format == Format::Json && total.discarded + total.packets_lost > 0 {
            // Text has it in its place.
            say!(
                "rbpipe read: missing: {} discarded events, {} lost packets",
                total.discarded,
                total.packets_lost
            );
        }
    }
    if total.aborted > 0 {
        say!("rbpipe read: {} aborted records are not shown", total.aborted);
    }
    Ok(())
}

/// What there is, and what is missing.
#[derive(Default)]
pub struct Total {
    /// Events, aborted records left out.
    pub events: u64,
    /// Records that were given up.
    pub aborted: u64,
    discarded: u64,
    packets_lost: u64,
}

impl Total {
    /// Counts a stream's records, to its end.
    pub fn count(&mut self, s: &mut StreamReader<'_>) {
        while s.next_packet() {
            while let Some(r) = s.next_record() {
                self.events += u64::from(r.class.is_some());
                self.aborted += u64::from(r.class.is_none());
            }
        }
    }

    /// A stream has been read to its end; what is wrong with it is said.
    fn add(&mut self, s: &StreamReader<'_>) {
        self.discarded = self.discarded.saturating_add(s.discarded);
        self.packets_lost = self.packets_lost.saturating_add(s.packets_lost);
        if let Some(damage) = &s.damage {
            say!("rbpipe read: {}: {damage}", s.path.display());
        }
    }
}

/// Prints the events of all streams; gives how many records were given up and are not shown.
///
/// # Errors
/// `out` cannot be written.
pub fn print(
    streams: &mut [StreamReader<'_>],
    clock_offset: u64,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let mut printer = Printer::new(format, clock_offset);
    let mut aborted = 0;
    merge(streams, out, &mut printer, &mut aborted)?;
    printer.flush(out)?;
    Ok(aborted)
}

/// Goes through all streams in the order of time; ties in the order of streams.
// A function of its own: as a part of `main` it was 1.3 times as slow (registers).
#[inline(never)]
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
