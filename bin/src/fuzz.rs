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

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config;
use crate::read::{self, Format, Metadata, StreamReader, Total};
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

/// Formats of the kernel and pages, as [`EventFormat`] and [`Decoded`] take them. Fixed: a place
/// for each id that there can be. For each byte:
/// the labels of a format (six bytes of text are one of 64, in lists that are copied when they
/// grow, and once more when the class is tried), or an event's place (eight bytes are one of
/// 32) and its payload.
pub const KERNEL: Bound = Bound { fixed: 512 << 10, per_byte: 200 };

/// Reads a trace in every way that there is: as text, as JSON, counted, and as `recover` does.
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
    let files: Vec<File> = streams.iter().map(|bytes| file(bytes)).collect();
    let open = |file: &File| reader(file, &metadata);

    let mut total = Total::default();
    files.iter().for_each(|f| total.count(&mut open(f)));
    for format in [Format::Text, Format::Json] {
        let mut streams: Vec<_> = files.iter().map(open).collect();
        let mut lines = Lines { format, events: 0, begin: Vec::new(), last: b'\n', left: MOST };
        match read::print(&mut streams, metadata.clock_offset, format, &mut lines) {
            Ok(aborted) => assert_eq!((aborted, lines.events), (total.aborted, total.events)),
            Err(_) => assert_eq!(lines.left, 0, "the sink takes so much"),
        }
    }
    for file in files {
        let found = recover::whole(&mut open(&file));
        file.set_len(found.bytes).expect("a file in memory can be cut");
        let mut s = open(&file);
        let again = recover::whole(&mut s);
        assert_eq!((again, s.damage), (found, None));
    }
    Ok(total.events)
}

fn file(bytes: &[u8]) -> File {
    let fd = memfd_create("stream", MemfdFlags::CLOEXEC).expect("a file in memory");
    let file = File::from(fd);
    file.write_all_at(bytes, 0).expect("a file in memory takes all");
    file
}

fn reader<'m>(file: &File, metadata: &'m Metadata) -> StreamReader<'m> {
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
