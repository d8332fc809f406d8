//! What fuzzers and their tests call: the readers of the program, whole, with nothing around
//! them (no directory, no terminal, no command line).
//!
//! Each function panics where a promise is broken that can be checked from inside. That a
//! call ends in time and holds no more memory than [`TRACE`] or [`CONFIG`] allows is for the
//! caller to watch.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config;
use crate::read::{self, Csv, Format, Metadata, Printers, Selection, StreamReader, Total};
use crate::recover;
pub use crate::sources::ftrace::decoder::{Decoded, EventFormat, Formats, Missed, PageError};
pub use crate::sources::ftrace::page::Cursor;

/// What reading `n` bytes may hold in memory at once: so much, and so many times `n`.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Whatever the input is: buffers.
    pub fixed: usize,
    /// For each byte of input.
    pub per_byte: usize,
}

impl Bound {
    /// For an input of `n` bytes.
    #[must_use]
    pub const fn of(self, n: usize) -> usize {
        self.fixed + self.per_byte * n
    }
}

/// [`trace()`]. Fixed: what is gathered before it is printed, and a second buffer while it grows.
/// For each byte: the event classes that metadata describes (the densest are labels: three
/// bytes of text are one of 64, in a list that is copied when it grows), and a packet of each
/// stream with what its longest text is printed as. Not: the output, which is never kept.
pub const TRACE: Bound = Bound { fixed: 1 << 20, per_byte: 200 };
/// [`config()`]. For each byte: the parsed text (a nested table for each two bytes), a list of
/// what is wrong (each line can be), and the words for the first twenty, each of which may
/// show the whole text if it is one line. What `${NAME}` puts in comes on top.
pub const CONFIG: Bound = Bound { fixed: 1 << 20, per_byte: 400 };

/// Formats of the kernel and pages, as [`EventFormat`] and [`Decoded`] take them. For each byte:
/// the labels of a format (six bytes of text are one of 64, in lists that are copied when they
/// grow, and once more when the class is tried), or an event's place (eight bytes are one of
/// 32) and its payload.
pub const KERNEL: Bound = Bound { fixed: 64 << 10, per_byte: 200 };

/// Reads a trace in every way that there is: as text, JSON and CSV, filtered, counted, while it
/// grows and while it is cut, and as `recover` does.
/// Gives its events, or what is wrong with its metadata.
///
/// # Errors
/// Metadata that cannot be read: the sentence that people see.
///
/// # Panics
/// - The ways do not agree on how many events there are.
/// - A line of JSON is none, or text has a character in it that could drive a terminal.
/// - What `recover` calls whole is not.
pub fn trace(metadata: &[u8], streams: &[&[u8]]) -> Result<u64, String> {
    let metadata = read::parse(&String::from_utf8_lossy(metadata)).map_err(|e| {
        let sentence = format!("{e:#}");
        assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
        sentence
    })?;
    let metadata = Arc::new(metadata);
    let files: Vec<File> = streams.iter().map(|bytes| file(bytes)).collect();
    let open = |file: &File| reader(file, &metadata);

    let mut total = Total::default();
    let mut select = Selection::default();
    files.iter().for_each(|f| total.count(&mut open(f), &mut select));
    for format in [Format::Text, Format::Json, Format::Csv] {
        let mut streams: Vec<_> = files.iter().map(open).collect();
        let mut lines = Lines::new(format);
        match printer(format, &metadata).print(&mut streams, &mut select, &mut lines) {
            Ok(aborted) => assert_eq!((aborted, lines.events), (total.aborted, total.events)),
            Err(_) => assert_eq!(lines.left, 0, "the sink takes so much"),
        }
    }
    filtered(&files, &metadata, total.events);
    grown(&files, &metadata, &total);
    for file in files {
        let found = recover::whole(&mut open(&file));
        file.set_len(found.bytes).expect("a file in memory can be cut");
        let mut s = open(&file);
        let again = recover::whole(&mut s);
        assert_eq!((again, s.damage), (found, None));
    }
    Ok(total.events)
}

fn printer(format: Format, metadata: &Arc<Metadata>) -> Printers {
    let classes = || Selection::default().classes(&[Arc::clone(metadata)]);
    Printers::new(format, || Csv::new(&[], &classes()))
}

/// A filter with some of the trace's own fields, in each way of comparing.
fn filtered(files: &[File], metadata: &Arc<Metadata>, all: u64) {
    let selection = Selection::default();
    let classes = selection.classes(&[Arc::clone(metadata)]);
    let names = classes.iter().flat_map(|c| &c.fields).map(|f| f.name.as_str()).take(16);
    let tests: Vec<String> = names
        .zip(["== 1", "!= \"a\"", "~ *a*", "& 3", "> 1.5", "<= b"].into_iter().cycle())
        .map(|(name, test)| format!("fields.{name} {test}"))
        .collect();
    let text =
        format!("!({}) || name ~ *e*", [&tests[..], &["cpu < 2".into()]].concat().join(" || "));
    let filter = read::parse_filter(&text).unwrap_or_else(|e| panic!("{e}"));
    let mut select = Selection::new(&["!x*".into()], Some(filter), Arc::default());
    for words in select.in_vain(&[Arc::clone(metadata)]) {
        assert!(!words.contains(|c: char| c.is_control() && c != '\n'), "{words:?}");
    }
    let mut total = Total::default();
    for f in files {
        total.count(&mut reader(f, metadata), &mut select);
    }
    assert!(total.events <= all, "{text}");
}

/// As `read --follow` does: the files grow in steps, and what is in them in the end has been
/// printed once; then they are cut while they are read.
fn grown(files: &[File], metadata: &Arc<Metadata>, total: &Total) {
    let lengths: Vec<u64> = files.iter().map(|f| f.metadata().expect("a length").len()).collect();
    let copies: Vec<File> = files
        .iter()
        .map(|f| {
            let mut bytes = vec![0; f.metadata().expect("a length").len() as usize];
            f.read_exact_at(&mut bytes, 0).expect("a file in memory is read");
            file(&bytes)
        })
        .collect();
    for cut in [false, true] {
        copies.iter().for_each(|f| f.set_len(0).expect("a file in memory can be cut"));
        let mut streams: Vec<_> = copies.iter().map(|f| reader(f, metadata)).collect();
        streams.iter_mut().for_each(|s| s.set_growing(true));
        let (mut printer, mut lines) = (printer(Format::Json, metadata), Lines::new(Format::Json));
        let mut aborted = 0;
        // The last but one is shorter than the one before, where files are cut.
        for eighths in [1, 3, 3, 6, if cut { 2 } else { 7 }, 8, 8] {
            for ((from, to), length) in files.iter().zip(&copies).zip(&lengths) {
                let length = length * eighths / 8;
                let mut bytes = vec![0; length as usize];
                from.read_exact_at(&mut bytes, 0).expect("a file in memory is read");
                to.set_len(length).expect("a file in memory can be cut");
                to.write_all_at(&bytes, 0).expect("a file in memory takes all");
            }
            for s in &mut streams {
                s.grow();
                s.describe(metadata);
            }
            match printer.print(&mut streams, &mut Selection::default(), &mut lines) {
                Ok(n) => aborted += n,
                Err(_) => return assert_eq!(lines.left, 0, "the sink takes so much"),
            }
        }
        streams.iter_mut().for_each(|s| s.set_growing(false));
        match printer.print(&mut streams, &mut Selection::default(), &mut lines) {
            Ok(n) => aborted += n,
            Err(_) => return assert_eq!(lines.left, 0, "the sink takes so much"),
        }
        if !cut {
            assert_eq!((aborted, lines.events), (total.aborted, total.events), "while it grew");
        }
    }
}

fn file(bytes: &[u8]) -> File {
    let fd = memfd_create("stream", MemfdFlags::CLOEXEC).expect("a file in memory");
    let file = File::from(fd);
    file.write_all_at(bytes, 0).expect("a file in memory takes all");
    file
}

fn reader(file: &File, metadata: &Arc<Metadata>) -> StreamReader {
    let file = file.try_clone().expect("a second descriptor");
    StreamReader::of(Path::new("stream"), file, metadata).expect("a length")
}

/// A sink that looks at what is printed.
struct Lines {
    format: Format,
    events: u64,
    /// The line so far, not more than [`LOOKED_AT`] of it.
    begin: Vec<u8>,
    last: u8,
    /// What it takes yet.
    left: usize,
    /// CSV: between two quotes; its header was seen.
    quoted: bool,
    header: bool,
}

impl Lines {
    fn new(format: Format) -> Self {
        let begin = Vec::new();
        Self { format, events: 0, begin, last: b'\n', left: MOST, quoted: false, header: false }
    }
}

/// So much is taken, then the sink is a pipe that was closed. (What is printed may be as many
/// times a trace: each event of four bytes can have a name as long as one likes.)
const MOST: usize = 16 << 20;
/// Longer lines of JSON are not parsed.
const LOOKED_AT: usize = 64 << 10;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.saturating_sub(bytes.len());
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.format == Format::Csv {
            for b in bytes {
                self.quoted ^= *b == b'"';
                if *b == b'\n' && !self.quoted {
                    assert_eq!(self.last, b'\r');
                    self.events += u64::from(std::mem::replace(&mut self.header, true));
                }
                self.last = *b;
            }
            return Ok(bytes.len());
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let left = LOOKED_AT - self.begin.len();
            self.begin.extend_from_slice(&part[..part.len().min(left)]);
            if self.format == Format::Text {
                for b in part {
                    // C0, DEL, and C1 as it is in UTF-8.
                    let drives = matches!(b, 0..=9 | 11..=31 | 127)
                        || (self.last == 0xC2 && (0x80..0xA0).contains(b));
                    assert!(!drives, "{}", self.begin.escape_ascii());
                    self.last = *b;
                }
            }
            if part.ends_with(b"\n") {
                self.events += u64::from(!self.begin.starts_with(b"!lost "));
                if self.format == Format::Json && self.begin.len() < LOOKED_AT {
                    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(&self.begin);
                    assert!(parsed.is_ok(), "{parsed:?}: {}", self.begin.escape_ascii());
                }
                self.begin.clear();
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a configuration, both stages, each source's and backend's own keys, `--set`s laid
/// over it, and words all that is wrong. Nothing is opened.
///
/// # Errors
/// What is wrong, as people see it.
///
/// # Panics
/// It is refused without a word, or in words that could drive a terminal.
pub fn config(file: &[u8], sets: &[String]) -> Result<(), String> {
    let (result, problems) = match config::read_bytes("p.toml", file.to_vec(), "p", sets) {
        Ok((_, warnings)) => (Ok(()), warnings),
        Err(problems) => (Err(()), Some(problems)),
    };
    let words = problems.map(|p| p.to_string()).unwrap_or_default();
    assert!(result.is_ok() || !words.is_empty(), "refused without a word");
    let drives = words.find(|c: char| c.is_control() && c != '\n');
    assert_eq!(drives.map(|at| words[at..].chars().take(80).collect::<String>()), None);
    result.map_err(|()| words)
}
