//! `rbpipe read`: prints traces, their streams merged by time.
//!
//! What it knows of events it takes from the trace's metadata. Packets are read one by one
//! into a buffer for each stream, so memory has a bound whatever the trace's length.

pub mod capture;
mod csv;
pub mod event;
mod filter;
mod follow;
mod harmless;
pub mod line;
pub mod merge;
pub mod moment;
mod print;
mod select;
pub mod stream;
mod tsdl;
mod watch;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::status::say;

pub use csv::Csv;
use event::{Event, Lost};
pub use filter::{Filter, parse as parse_filter};
use merge::{Print, merge};
use moment::{Extent, Moment};
use print::Printer;
pub use select::Selection;
pub use stream::StreamReader;
use stream::Wanted;
pub use tsdl::{Metadata, parse};

/// Arguments of `rbpipe read`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Trace directories: several (the pieces of a rotated trace) are merged by time. Or a file
    /// with the raw bytes of a serial line that rbpipe sends on; `-`: stdin
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How events are printed [default: text]
    #[arg(long, value_enum, conflicts_with = "count")]
    pub format: Option<Format>,
    /// Print only how many events there are, and how many are missing. With filters `events`
    /// counts what they select; losses are those of the whole streams
    #[arg(long)]
    pub count: bool,
    /// Only events of this name; globs (`sched:*`), `!GLOB` leaves out. May be repeated
    #[arg(long = "event", value_name = "GLOB")]
    pub events: Vec<String>,
    /// Only events that match: `prev_pid != 0 && next_comm ~ "kw*"`
    ///
    /// Comparisons == != < <= > >=, ~ (glob, on text) and & (bits in common) of a field with a
    /// number, a word or text in quotes, joined by && || ! and parentheses. `name`, `cpu` and
    /// `stream` are the event's; a field of such a name is `fields.name`. Labels of enumerations
    /// are compared as text. An event without the field does not match.
    #[arg(long, value_name = "EXPR", value_parser = filter::parse, verbatim_doc_comment)]
    pub filter: Option<filter::Filter>,
    /// Only events from this moment on
    ///
    /// 2026-11-25T10:00:00Z (RFC 3339), seconds since the epoch (1795600000.5), 10:00:00.5 (UTC,
    /// of the trace's first day), +1.5s (after its first event), -2s (before the end of its last
    /// packet), or now. Units: ns us ms s min h d.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, verbatim_doc_comment)]
    pub from: Option<Moment>,
    /// Only events up to this moment (see --from)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<Moment>,
    /// Only this stream (its id, as JSON has it). May be repeated
    #[arg(long = "stream", value_name = "N")]
    pub streams: Vec<u64>,
    /// Only this CPU's streams. May be repeated
    #[arg(long = "cpu", value_name = "N")]
    pub cpus: Vec<u32>,
    /// The columns of --format csv after time, stream, cpu and name
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub fields: Vec<String>,
    /// Print what there is, then what comes, until the trace is whole
    ///
    /// Begins with what is there (`--from now`: without). A packet is printed when it is whole
    /// in its file. Each stream's events are in order; between streams, those that are found in
    /// one turn are merged by time, and one that is delivered later is printed when it comes. A
    /// rotated trace is followed into its next piece. Ends, 0, when its writer has ended.
    #[arg(short, long, conflicts_with = "count", verbatim_doc_comment)]
    pub follow: bool,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One readable line for each event; times are UTC
    Text,
    /// One JSON object a line: time (ns since the epoch), stream, cpu, name, fields
    Json,
    /// RFC 4180 with a header: time (ns since the epoch), stream, cpu, name, then a column for
    /// each field if one event is selected (--event) or --fields names them, else `fields` (JSON)
    Csv,
}

impl ReadArgs {
    /// Says what cannot be meant.
    ///
    /// # Errors
    /// A key that does nothing with the others.
    pub fn check(&self) -> Result<(), String> {
        if !self.fields.is_empty() && self.format != Some(Format::Csv) {
            return Err("--fields names the columns of --format csv".into());
        }
        if let Some(empty) = self.fields.iter().find(|f| f.trim() != *f || f.is_empty()) {
            return Err(format!("--fields: {empty:?} is no field's name"));
        }
        Ok(())
    }
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

/// A trace that is read from beginning to end.
pub struct Trace {
    /// What describes it.
    pub metadata: Arc<Metadata>,
    files: Vec<PathBuf>,
}

impl Trace {
    /// Reads its metadata, and what files it has.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let metadata = Arc::new(metadata(path)?);
        Ok(Self { metadata, files: stream_files(path)? })
    }

    /// Its streams, each at its beginning.
    pub fn streams(&self) -> impl Iterator<Item = anyhow::Result<StreamReader>> {
        self.files.iter().map(|f| StreamReader::open(f, &self.metadata))
    }
}

/// Runs the command.
///
/// # Errors
/// There is no trace, or `out` cannot be written.
pub fn run(args: &ReadArgs, out: &mut impl Write) -> anyhow::Result<()> {
    if args.paths.iter().any(|p| capture::is_capture(p)) {
        return capture::run(args, out);
    }
    if args.follow {
        return follow::run(args, out);
    }
    let traces = args.paths.iter().map(|p| Trace::open(p)).collect::<anyhow::Result<Vec<_>>>()?;
    let wanted = Arc::new(wanted(args, || {
        let streams = traces.iter().flat_map(Trace::streams);
        streams.map(|s| Ok(s?.extent())).collect()
    })?);
    let mut select = Selection::new(&args.events, args.filter.clone(), Arc::clone(&wanted));
    let described: Vec<_> = traces.iter().map(|t| Arc::clone(&t.metadata)).collect();
    select.in_vain(&described).iter().for_each(|words| say!("rbpipe read: {words}"));
    let mut total = Total::default();
    let streams = traces.iter().flat_map(Trace::streams).map(|s| {
        let mut s = s?;
        s.want(&wanted);
        Ok(s)
    });
    if args.count {
        // One after the other: no more than one packet is in memory.
        for s in streams {
            let mut s: StreamReader = s?;
            total.count(&mut s, &mut select);
            total.add(&mut s);
        }
        let Total { events, discarded, packets_lost, .. } = total;
        write!(out, "events {events}\ndiscarded {discarded}\npackets_lost {packets_lost}\n")?;
        out.flush()?;
        if !select.is_all() {
            say!("rbpipe read: `events` are those selected; losses are the streams' in all");
        }
    } else {
        let mut streams = streams.collect::<anyhow::Result<Vec<_>>>()?;
        let format = args.format.unwrap_or(Format::Text);
        let columns = || Csv::new(&args.fields, &select.classes(&described));
        let mut printer = Printers::new(format, columns);
        total.aborted = printer.print(&mut streams, &mut select, out)?;
        streams.iter_mut().for_each(|s| total.add(s));
        total.say_missing(format);
    }
    total.say_aborted();
    Ok(())
}

/// Which packets are wanted. `extents` looks when the streams begin and end, which only some
/// moments need.
///
/// # Errors
/// What `extents` says.
pub fn wanted(
    args: &ReadArgs,
    extents: impl FnOnce() -> anyhow::Result<Vec<Option<Extent>>>,
) -> anyhow::Result<Wanted> {
    let mut wanted =
        Wanted { streams: args.streams.clone(), cpus: args.cpus.clone(), ..Wanted::default() };
    let mut trace = Extent::default();
    if [args.from, args.to].into_iter().flatten().any(Moment::is_relative) {
        let one =
            |a: Extent, b: Extent| Extent { begin: a.begin.min(b.begin), end: a.end.max(b.end) };
        trace = extents()?.into_iter().flatten().reduce(one).unwrap_or_default();
    }
    if let Some(from) = args.from {
        wanted.from = from.resolve(trace);
    }
    if let Some(to) = args.to {
        wanted.to = to.resolve(trace);
    }
    Ok(wanted)
}

/// One printer or the other.
pub enum Printers {
    /// Text or JSON.
    Lines(Printer),
    /// CSV.
    Csv(Csv),
}

impl Printers {
    /// For this format.
    pub fn new(format: Format, csv: impl FnOnce() -> Csv) -> Self {
        match format {
            Format::Csv => Self::Csv(csv()),
            Format::Text | Format::Json => Self::Lines(Printer::new(format)),
        }
    }

    /// Prints an event.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn event(&mut self, out: &mut impl Write, event: &Event<'_>) -> io::Result<()> {
        match self {
            Self::Lines(p) => p.event(out, event),
            Self::Csv(p) => p.event(out, event),
        }
    }

    /// Tells, in its place, what is missing.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn lost(&mut self, out: &mut impl Write, lost: &Lost) -> io::Result<()> {
        match self {
            Self::Lines(p) => p.lost(out, lost),
            Self::Csv(p) => p.lost(out, lost),
        }
    }

    /// Prints text of others, where that can stand among events.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn text(&mut self, out: &mut impl Write, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Lines(p) => p.text(out, text),
            Self::Csv(_) => Ok(()),
        }
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Lines(p) => p.flush(out),
            Self::Csv(p) => p.flush(out),
        }
    }

    /// Prints what the streams have now, merged by time; gives how many records were given up
    /// and are not shown.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn print(
        &mut self,
        streams: &mut [StreamReader],
        select: &mut Selection,
        out: &mut impl Write,
    ) -> io::Result<u64> {
        let mut aborted = 0;
        match self {
            Self::Lines(p) => {
                merge(streams, out, p, select, &mut aborted)?;
                p.flush(out)?;
            }
            Self::Csv(p) => {
                merge(streams, out, p, select, &mut aborted)?;
                p.flush(out)?;
            }
        }
        Ok(aborted)
    }
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
    pub fn count(&mut self, s: &mut StreamReader, select: &mut Selection) {
        while s.next_packet() {
            while let Some(r) = s.next_record() {
                if !select.wants(s, &r) {
                    continue;
                }
                self.events += u64::from(r.class.is_some());
                self.aborted += u64::from(r.class.is_none());
            }
        }
    }

    /// A stream has been read to its end; what is wrong with it is said.
    fn add(&mut self, s: &mut StreamReader) {
        self.discarded = self.discarded.saturating_add(s.discarded);
        self.packets_lost = self.packets_lost.saturating_add(s.packets_lost);
        if let Some(damage) = s.new_damage() {
            say!("rbpipe read: {}: {damage}", s.path.display());
        }
    }

    /// What text has in its place and the other formats have not.
    fn say_missing(&self, format: Format) {
        if format != Format::Text && self.discarded.saturating_add(self.packets_lost) > 0 {
            say!(
                "rbpipe read: missing: {} discarded events, {} lost packets",
                self.discarded,
                self.packets_lost
            );
        }
    }

    fn say_aborted(&self) {
        if self.aborted > 0 {
            say!("rbpipe read: {} aborted records are not shown", self.aborted);
        }
    }
}
