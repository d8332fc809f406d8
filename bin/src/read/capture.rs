//! `rbpipe read CAPTURE`: the raw bytes of a serial line, from a file or stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rbpipe_backends::link::{Decoder, LinkStream, Missing, Session, Totals};
use rbpipe_core::class::EventClass;
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::{MAGIC, StreamClass};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::{Show, Text};
use super::moment::{Extent, Moment};
use super::tsdl::{Metadata, Stream};
use super::{Csv, Format, Printers, ReadArgs, Selection, wanted};
use crate::sources::serial::hearing::{Hearing, Take};
use crate::sources::serial::line::seen;
use crate::status::say;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// stdin has nothing more for so many milliseconds: what there is is printed …
const SOON: i64 = 20;
/// … and after so many, text that waits for its end.
const IDLE: i64 = 100;

/// Whether a path is to be read as a capture: what is no directory.
pub fn is_capture(path: &Path) -> bool {
    path == Path::new("-") || path.metadata().is_ok_and(|m| !m.is_dir())
}

/// Runs the command on a capture.
///
/// # Errors
/// It is none, cannot be read, or `out` cannot be written.
pub fn run(args: &ReadArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let [path] = &args.paths[..] else {
        bail!("a capture of a serial line is read alone: name one, or trace directories");
    };
    let shown = path.display();
    let stdin = path == Path::new("-");
    ensure!(
        !args.follow,
        "{shown}: --follow is for traces; a line is followed with `rbpipe receive --print`, and \
         stdin is printed as it comes"
    );
    let relative = [args.from, args.to].into_iter().flatten().any(Moment::is_relative);
    let mut survey = Survey::default();
    if stdin {
        ensure!(
            !relative,
            "stdin cannot be read twice: give --from and --to as dates, or read a file"
        );
    } else {
        check(path)?;
        let selects = !args.events.is_empty() || args.filter.is_some();
        // Twice, only if it has to be known what there is.
        if path.is_file() && (relative || selects || args.format == Some(Format::Csv)) {
            survey = read(path, Hearing::new(survey), |_| true)?.0.to;
        }
    }
    let wanted = Arc::new(wanted(args, || Ok(vec![survey.any.then_some(survey.extent)]))?);
    let mut select = Selection::new(&args.events, args.filter.clone(), wanted);
    let described = survey.described();
    if !survey.classes.is_empty() {
        select.in_vain(&described).iter().for_each(|words| say!("rbpipe read: {words}"));
    }
    let format = args.format.unwrap_or(Format::Text);
    let csv = || Csv::new(&args.fields, &select.classes(&described));
    let printer = (!args.count).then(|| Printers::new(format, csv));
    let text = if io::stdout().is_terminal() { Text::Harmless } else { Text::Plain };
    let all = select.is_all();
    let show = Show::new(out, format, printer, std::mem::take(&mut select), (text, stdin));
    let (mut hearing, decoder) = if stdin {
        listen(Hearing::new(show))?
    } else {
        read(path, Hearing::new(show), |show| show.failed.is_none())?
    };
    let health = *decoder.health();
    if let Some(e) = hearing.to.failed.take() {
        return Err(e.into());
    }
    if health.frames == 0 {
        bail!(
            "{shown}: no frame in {} bytes: it is no capture of a line that rbpipe sends on, or \
             was captured at another rate",
            health.bytes
        );
    }
    hearing.to.finish();
    if let Some(e) = hearing.to.failed.take() {
        return Err(e.into());
    }
    let (events, books) = (hearing.to.events, hearing.books);
    drop(hearing);
    let Missing { ring, line, before } = books.missing;
    if args.count {
        let discarded = ring.saturating_add(line);
        write!(
            out,
            "events {events}\ndiscarded {discarded}\npackets_lost 0\nlost_ring {ring}\n\
             lost_line {line}\n"
        )?;
        out.flush()?;
        if !all {
            say!("rbpipe read: `events` are those selected; losses are the streams' in all");
        }
    } else if format != Format::Text && ring.saturating_add(line) > 0 {
        say!("rbpipe read: missing: {ring} events lost at the sender, {line} on the line");
    }
    if before > 0 {
        say!("rbpipe read: the capture begins after {before} events that are not in it");
    }
    if health.damaged + health.strange + health.given_up + books.refused > 0 {
        let left_out = match books.refused {
            0 => String::new(),
            n => format!("; {n} events left out (too many streams or classes)"),
        };
        say!("rbpipe read: {shown}: {}{left_out}", seen(&health));
    }
    Ok(())
}

/// Files that are something else.
fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    // A named pipe's first bytes are not to be taken from it.
    if !path.is_file() {
        return Ok(());
    }
    let mut begin = [0; 8];
    let mut file = File::open(path).with_context(|| format!("{shown}: cannot be opened"))?;
    let n = file.read(&mut begin).with_context(|| format!("{shown}: cannot be read"))?;
    let is_stream = begin.first_chunk::<4>().is_some_and(|b| *b == MAGIC.to_le_bytes());
    ensure!(
        !(is_stream || begin[..n].starts_with(b"/* CTF")),
        "{shown}: is a part of a trace; name the trace's directory"
    );
    Ok(())
}

/// Reads a file to its end, or for as long as `on` says.
fn read<T: Take>(
    path: &Path,
    mut hearing: Hearing<T>,
    on: impl Fn(&T) -> bool,
) -> anyhow::Result<(Hearing<T>, Decoder)> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("{shown}: cannot be opened"))?;
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; PIECE]);
    while on(&hearing.to) {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => decoder.feed(&buffer[..n], &mut hearing),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(|| format!("{shown}: cannot be read")),
        }
    }
    decoder.end(&mut hearing);
    Ok((hearing, decoder))
}

/// Reads stdin, and prints what comes when it comes.
fn listen<W: Write>(
    mut hearing: Hearing<Show<'_, W>>,
) -> anyhow::Result<(Hearing<Show<'_, W>>, Decoder)> {
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; PIECE]);
    let (stdin, mut waited) = (io::stdin(), 0);
    while hearing.to.failed.is_none() {
        let timeout = Timespec { tv_sec: 0, tv_nsec: SOON * 1_000_000 };
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let ready = poll(&mut fds, (waited <= IDLE).then_some(&timeout));
        if ready == Ok(0) {
            waited += SOON;
            if waited >= IDLE {
                decoder.idle(&mut hearing);
                // Nothing more is to be done until something comes.
                waited = IDLE + 1;
            }
            hearing.to.flush();
            continue;
        }
        match rustix::io::read(stdin.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => decoder.feed(&buffer[..n], &mut hearing),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e)).context("stdin: cannot be read"),
        }
        waited = 0;
    }
    decoder.end(&mut hearing);
    Ok((hearing, decoder))
}

/// What there is in a capture.
#[derive(Default)]
struct Survey {
    offset: u64,
    extent: Extent,
    any: bool,
    classes: Vec<Arc<EventClass>>,
}

impl Survey {
    /// As a trace would describe it.
    fn described(&self) -> Vec<Arc<Metadata>> {
        let link = crate::sources::serial::events::classes().into_iter().map(Arc::new);
        let classes = Classes::new(self.classes.iter().cloned().chain(link));
        let stream = Arc::new(Stream { class: StreamClass::Plain, classes });
        vec![Arc::new(Metadata { clock_offset: 0, streams: [(0, stream)].into() })]
    }
}

impl Take for Survey {
    fn session(&mut self, session: &Session, _: bool) {
        self.offset = session.clock_offset;
    }
    fn stream(&mut self, _: usize, _: &LinkStream) {}
    fn class(&mut self, _: usize, class: &Arc<EventClass>) {
        self.classes.push(Arc::clone(class));
    }
    fn record(&mut self, _: usize, _: usize, time: u64, _: &[u8]) -> bool {
        let time = time.saturating_add(self.offset);
        let Extent { begin, end } = &mut self.extent;
        *begin = if self.any { (*begin).min(time) } else { time };
        *end = (*end).max(time);
        self.any = true;
        true
    }
    fn missing(&mut self, _: usize, _: Missing) {}
    fn end(&mut self, _: usize, _: &Totals) {}
    fn text(&mut self, _: &[u8]) {}
}
