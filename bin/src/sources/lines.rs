//! `lines`: lines of text from stdin or from a file that may grow.
//!
//! Nothing that comes in is fatal: a long line is cut at a stated limit and marked, bytes
//! that are not UTF-8 and NUL are escaped. It polls (a file that grows tells nobody), and
//! ends within its poll interval when told to stop.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rbpipe_backends::units::Size;
use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::class::{EventClass, Field, FieldType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::payload::Payload;
use super::{Channels, Class, Source, Stop};

/// Keys of `type = "lines"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where lines come from.
    pub from: String,
    /// Wait for more at the end of a file.
    #[serde(default)]
    pub follow: bool,
    /// Longest line.
    #[serde(default = "max_line")]
    pub max_line: Size,
}

fn max_line() -> Size {
    Size(4096)
}

/// The source.
pub struct Lines;

enum From {
    Stdin,
    File(PathBuf),
}

fn parse_from(text: &str) -> Result<From, String> {
    match text.split_once(':') {
        _ if text == "stdin" => Ok(From::Stdin),
        Some(("file", path)) if !path.is_empty() => Ok(From::File(path.into())),
        Some((kind @ ("unix" | "tcp" | "udp"), _)) => Err(format!(
            "\"{kind}:…\" is not in this build yet; accepted: \"stdin\", \"file:PATH\""
        )),
        _ => Err(format!("{text:?} is neither \"stdin\" nor \"file:PATH\"")),
    }
}

impl Source for Lines {
    const TYPE: &'static str = "lines";
    const ABOUT: &'static str = "lines of text from stdin or a file";
    const SAMPLE: &'static str = "\
# Lines of text (`rbpipe:line`). Bytes that are not UTF-8 become \\xNN; cut lines end in `…`.
type = \"lines\"
from = \"stdin\"          # stdin | file:PATH (a named pipe, too)
follow = false          # at the end of a file wait for more (also when it is replaced)
max_line = \"4 KiB\"
";
    type Config = Config;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if let Err(message) = parse_from(&config.from) {
            problems.push(ConfigProblem { key: "from", message });
        }
        if config.follow && config.from == "stdin" {
            let message = "a pipe is followed anyway: only files need it".into();
            problems.push(ConfigProblem { key: "follow", message });
        }
        if !(16..=1 << 20).contains(&config.max_line.0) {
            let message = "a line has at least 16 bytes and at most 1 MiB".into();
            problems.push(ConfigProblem { key: "max_line", message });
        }
        problems
    }

    fn claims(config: &Config) -> Option<(&'static str, String)> {
        // Two readers would tear lines apart.
        (config.from == "stdin").then(|| ("from", config.from.clone()))
    }

    type Opened = Config;

    fn open(config: Config) -> anyhow::Result<Config> {
        Ok(config)
    }
    fn run(config: Config, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let class = to.class(&EventClass::new(
            "rbpipe:line",
            vec![Field::new("line", FieldType::String), Field::new("origin", FieldType::String)],
        ))?;
        let mut lines = Splitter::new(config.max_line.0 as usize);
        let mut out = Out { to, class, origin: config.from.clone(), payload: Payload::default() };
        match parse_from(&config.from).map_err(anyhow::Error::msg)? {
            From::Stdin => {
                read_waiting(io::stdin().as_fd(), &mut lines, &mut out, stop).context("stdin")?;
            }
            From::File(path) => {
                read_file(&path, config.follow, &mut lines, &mut out, stop)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
            }
        }
        // What there is without an end of line is a line.
        lines.finish(|line| out.line(line));
        Ok(())
    }
}

struct Out<'a> {
    to: &'a Channels,
    class: Class,
    origin: String,
    payload: Payload,
}

impl Out<'_> {
    fn line(&mut self, line: &str) -> bool {
        self.payload.clear().text(line).text(&self.origin);
        self.to.record(&self.class, self.payload.bytes())
    }
}

/// How long a source that waits for bytes may be deaf to `stop`.
const POLL: Duration = Duration::from_millis(50);

/// Reads what may keep a reader waiting (a pipe, a terminal, a device) to its end. False: it
/// was told to stop, or the channels are closed.
fn read_waiting(
    from: BorrowedFd<'_>,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    while !stop.is_stopped() {
        if !readable(from, POLL) {
            continue;
        }
        match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                if !lines.push(&buffer[..n], |line| out.line(line)) {
                    return Ok(false);
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

fn readable(fd: BorrowedFd<'_>, wait: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0)
}

/// Opens without waiting: a named pipe would keep the source waiting for its writer, deaf to
/// `stop`. Reading it waits for one, as others would.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn read_file(
    path: &Path,
    follow: bool,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<()> {
    let mut file = open(path)?;
    loop {
        if file.metadata()?.is_file() {
            match read_regular(path, file, follow, lines, out, stop)? {
                Some(next) => file = next,
                None => return Ok(()),
            }
        } else {
            if !read_waiting(file.as_fd(), lines, out, stop)? || !follow {
                return Ok(());
            }
            // The next writer of a pipe may come; what has no writers ends again at once.
            if stop.wait(POLL) {
                return Ok(());
            }
            file = open(path)?;
        }
        // What the old one ended with was its last line.
        lines.finish(|line| out.line(line));
    }
}

/// Reads a file to its end; gives the one that took its place, if it is followed.
fn read_regular(
    path: &Path,
    mut file: File,
    follow: bool,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<Option<File>> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut next) = (0, None);
    while !stop.is_stopped() {
        let n = file.read(&mut buffer)?;
        at += n as u64;
        if n > 0 {
            if !lines.push(&buffer[..n], |line| out.line(line)) {
                return Ok(None);
            }
        } else if !follow {
            break;
        } else if next.is_some() {
            return Ok(next);
        } else {
            // Another file has its place: once more to the end of the old one, which may
            // have grown before that.
            next = successor(path, &file, at);
            if next.is_none() && stop.wait(POLL) {
                break;
            }
        }
    }
    Ok(None)
}

/// The file that took this one's place: another one under its name, or itself, cut short.
fn successor(path: &Path, file: &File, at: u64) -> Option<File> {
    let (known, now) = (file.metadata().ok()?, std::fs::metadata(path).ok()?);
    let other = (known.dev(), known.ino()) != (now.dev(), now.ino());
    (other || now.len() < at).then(|| open(path).ok()).flatten()
}

/// Cuts bytes into lines that can be recorded.
struct Splitter {
    max: usize,
    bytes: Vec<u8>,
    cut: bool,
}

const MARK: &str = "…";

impl Splitter {
    fn new(max: usize) -> Self {
        Self { max, bytes: Vec::new(), cut: false }
    }

    /// Takes bytes; gives each line that ends in them. False: `line` said so.
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str) -> bool) -> bool {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.add(&bytes[..end]);
            if !self.give(&mut line) {
                return false;
            }
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
        true
    }

    /// The end: what is left is a line.
    fn finish(&mut self, mut line: impl FnMut(&str) -> bool) {
        if !self.bytes.is_empty() || self.cut {
            self.give(&mut line);
        }
    }

    /// Keeps no more than can be recorded, however long the line is.
    fn add(&mut self, bytes: &[u8]) {
        let room = (self.max + 4).saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn give(&mut self, line: &mut impl FnMut(&str) -> bool) -> bool {
        let mut text = escape(&self.bytes);
        if self.cut || text.len() > self.max {
            let mut end = self.max - MARK.len();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str(MARK);
        }
        self.bytes.clear();
        self.cut = false;
        line(&text)
    }
}

/// Text as it is; other bytes and NUL as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().contains('\0') {
            out.push_str(&chunk.valid().replace('\0', "\\x00"));
        } else {
            out.push_str(chunk.valid());
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(max: usize, parts: &[&[u8]]) -> Vec<String> {
        let (mut s, mut out) = (Splitter::new(max), Vec::new());
        for p in parts {
            assert!(s.push(p, |l| {
                out.push(l.to_owned());
                true
            }));
        }
        s.finish(|l| {
            out.push(l.to_owned());
            true
        });
        out
    }

    #[test]
    fn lines_over_several_reads() {
        assert_eq!(split(64, &[b"a\nb", b"c\n", b"\nlast"]), ["a", "bc", "", "last"]);
        assert_eq!(split(64, &[b"a\n"]), ["a"]);
        assert!(split(64, &[b""]).is_empty());
    }

    #[test]
    fn other_bytes_are_escaped() {
        assert_eq!(split(64, &[b"a\xFFb\0c\n"]), ["a\\xFFb\\x00c"]);
        // A character cut in two by a read is still one.
        assert_eq!(split(64, &["é\n".as_bytes().split_at(1).0, b"\xA9\n"]), ["é"]);
    }

    #[test]
    fn long_lines_are_cut_and_marked_within_the_limit() {
        let long = vec![b'x'; 10 << 20];
        let out = split(64, &[&long, b"\nshort\n"]);
        assert_eq!(out[0], "x".repeat(61) + "…");
        assert_eq!(out[1], "short");
        // Never inside a character, escapes counted.
        let out = split(16, &["ééééééééééé\n".as_bytes(), &[0xFF; 9], b"\n"]);
        assert!(out.iter().all(|l| l.len() <= 16 && l.ends_with('…')), "{out:?}");
        assert_eq!(split(16, &[b"exactly 16 bytes\n"]), ["exactly 16 bytes"]);
    }
}
