//! What is heard on a line, printed: live (`receive --print`) or from a capture.
//!
//! A capture's events are merged by time within a window of so many, which holds much more than
//! a sender has in its hands at once. Live they are merged within what comes together, and
//! nothing waits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rbpipe_backends::link::{LinkStream, Missing, Session, Totals};
use rbpipe_core::class::EventClass;
use rbpipe_core::packet::StreamClass;

use super::event::{Event, Lost, Origin};
use super::harmless::Harmless;
use super::{Format, Printers, Selection};
use crate::sources::lines::split::Splitter;
use crate::sources::payload::Payload;
use crate::sources::serial::events::{self, Told};
use crate::sources::serial::hearing::Take;

/// The window: so many events …
const MOST: usize = 1 << 16;
/// … and bytes of them.
const MOST_BYTES: usize = 16 << 20;
/// Bytes of a line of text.
const MAX_LINE: usize = 4096;
/// What is told of the line itself is of this stream; the sender's come after it.
const LINK: Origin = Origin { stream: 0, class: StreamClass::Plain, number: 0 };

/// How text of others is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// As it came.
    Plain,
    /// As it came, less what could drive a terminal.
    Harmless,
}

/// What is printed, and when.
struct Entry {
    time: u64,
    number: u64,
    what: What,
}

enum What {
    /// Of a stream, of a class.
    Record(usize, usize, Vec<u8>),
    Lost(usize, Missing),
    Told(Told),
    Text(Vec<u8>),
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.time, self.number)
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.what {
                What::Record(.., bytes) | What::Text(bytes) => bytes.len(),
                What::Told(Told::Text(line)) => line.len(),
                What::Told(_) | What::Lost(..) => 0,
            }
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A stream of the sender.
struct Stream {
    from: Origin,
    /// Missing before its next record.
    missing: Missing,
}

/// Prints what is heard, or counts it.
pub struct Show<'a, W> {
    out: &'a mut W,
    /// `None`: events are only counted.
    printer: Option<Printers>,
    format: Format,
    text: Text,
    harmless: Harmless,
    select: Selection,
    /// Nothing waits for what comes later.
    live: bool,
    /// From the sender's clock to the epoch.
    offset: u64,
    streams: Vec<Stream>,
    classes: Vec<Arc<EventClass>>,
    link: Vec<Arc<EventClass>>,
    /// The last record's time.
    last: Option<u64>,
    number: u64,
    window: BinaryHeap<Reverse<Entry>>,
    bytes: usize,
    /// What came before there was a time.
    early: Vec<Entry>,
    lines: Splitter,
    payload: Payload,
    /// Events that are selected.
    pub events: u64,
    /// Why nothing more can be printed.
    pub failed: Option<io::Error>,
}

impl<'a, W: Write> Show<'a, W> {
    /// In this format (`None`: it counts), those that are selected.
    pub fn new(
        out: &'a mut W,
        format: Format,
        printer: Option<Printers>,
        select: Selection,
        (text, live): (Text, bool),
    ) -> Self {
        Self {
            out,
            printer,
            format,
            text,
            harmless: Harmless::default(),
            select,
            live,
            offset: 0,
            streams: Vec::new(),
            classes: Vec::new(),
            link: events::classes().into_iter().map(Arc::new).collect(),
            last: None,
            number: 0,
            window: BinaryHeap::new(),
            bytes: 0,
            early: Vec::new(),
            lines: Splitter::new(MAX_LINE),
            payload: Payload::default(),
            events: 0,
            failed: None,
        }
    }

    /// All that waits is printed.
    pub fn flush(&mut self) {
        for place in 0..self.streams.len() {
            let time = self.now();
            self.lost(place, time);
        }
        for mut entry in std::mem::take(&mut self.early) {
            entry.time = entry.time.max(self.last.unwrap_or(0));
            self.window.push(Reverse(entry));
        }
        self.print_down_to(0);
        if let Some(printer) = &mut self.printer {
            let result = printer.flush(self.out);
            self.fail(result);
        }
    }

    /// There will be no more.
    pub fn finish(&mut self) {
        let mut rest = Vec::new();
        self.lines.finish(|line| {
            rest.push(line.to_owned());
            true
        });
        rest.into_iter().for_each(|line| self.line(line));
        self.flush();
    }

    /// The time of what has none of its own.
    fn now(&self) -> u64 {
        match self.last {
            Some(last) => last,
            None if self.live => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
            }
            None => 0,
        }
    }

    fn push(&mut self, time: u64, what: What) {
        if self.printer.is_none() {
            return;
        }
        self.number += 1;
        let entry = Entry { time, number: self.number, what };
        self.bytes += entry.bytes();
        let early = self.last.is_none() && !self.live && matches!(entry.what, What::Told(_));
        if early {
            self.early.push(entry);
        } else {
            self.window.push(Reverse(entry));
        }
        if self.window.len() + self.early.len() > MOST || self.bytes > MOST_BYTES {
            self.window.extend(self.early.drain(..).map(Reverse));
            self.print_down_to(self.window.len() / 2);
        }
    }

    /// Prints the earliest, until so many are left.
    fn print_down_to(&mut self, left: usize) {
        while self.window.len() > left {
            let Some(Reverse(entry)) = self.window.pop() else { break };
            self.bytes = self.bytes.saturating_sub(entry.bytes());
            if self.failed.is_none() {
                let result = self.print(&entry);
                self.fail(result);
            }
        }
    }

    fn fail(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            self.failed.get_or_insert(e);
        }
    }

    fn print(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(printer) = &mut self.printer else { return Ok(()) };
        match &entry.what {
            What::Record(stream, class, payload) => {
                let (from, class) = (self.streams[*stream].from, &self.classes[*class]);
                printer.event(self.out, &Event { time: entry.time, from, class, payload })
            }
            What::Lost(stream, missing) => {
                let (ring, line) = (missing.ring, missing.line);
                let from = self.streams[*stream].from;
                let events = ring.saturating_add(line);
                let on_the_way = Some((ring, line));
                printer.lost(self.out, &Lost { from, events, packets: 0, on_the_way })
            }
            What::Told(told) => {
                told.write(&mut self.payload);
                let (class, payload) = (&self.link[told.kind()], self.payload.bytes());
                let event = Event { time: entry.time, from: LINK, class, payload };
                if !self.select.wants_event(&event) {
                    return Ok(());
                }
                match told {
                    // Those who look at a console look for its text.
                    Told::Text(line) if self.format == Format::Text => {
                        let mut shown = Vec::new();
                        match self.text {
                            Text::Plain => shown.extend_from_slice(line.as_bytes()),
                            Text::Harmless => self.harmless.pass(line.as_bytes(), &mut shown),
                        }
                        shown.push(b'\n');
                        printer.text(self.out, &shown)
                    }
                    _ if self.format == Format::Text => Ok(()),
                    _ => printer.event(self.out, &event),
                }
            }
            What::Text(bytes) if self.text == Text::Plain => printer.text(self.out, bytes),
            What::Text(bytes) => {
                let mut shown = Vec::new();
                self.harmless.pass(bytes, &mut shown);
                printer.text(self.out, &shown)
            }
        }
    }

    fn line(&mut self, line: String) {
        let line = line.trim_end_matches('\r').to_owned();
        self.push(self.now(), What::Told(Told::Text(line)));
    }

    /// What is missing of a stream before what comes then.
    fn lost(&mut self, place: usize, time: u64) {
        let s = &mut self.streams[place];
        let missing = std::mem::take(&mut s.missing);
        if missing == Missing::default() || !self.select.wants_origin(&s.from) {
            return;
        }
        if self.format != Format::Text {
            let number = s.from.stream as u32;
            self.push(time, What::Told(Told::Loss(number, missing)));
        } else if missing.ring > 0 || missing.line > 0 {
            self.push(time, What::Lost(place, missing));
        }
    }
}

impl<W: Write> Take for Show<'_, W> {
    fn session(&mut self, session: &Session, other: bool) {
        if other {
            // Another sender's clock: what there is of the one before comes first.
            self.flush();
            self.offset = session.clock_offset;
        }
        self.push(self.now(), What::Told(Told::Session(*session)));
    }

    fn stream(&mut self, place: usize, stream: &LinkStream) {
        let class = if stream.cpu.is_some() { StreamClass::Cpu } else { StreamClass::Plain };
        let number = stream.cpu.unwrap_or(0);
        if place == self.streams.len() {
            let from = Origin { stream: place as u64 + 1, class, number };
            self.streams.push(Stream { from, missing: Missing::default() });
            let told = Told::Stream(place as u32 + 1, 0, stream.clone());
            self.push(self.now(), What::Told(told));
        }
    }

    fn class(&mut self, place: usize, class: &Arc<EventClass>) {
        debug_assert_eq!(place, self.classes.len(), "places come in order");
        self.classes.push(Arc::clone(class));
    }

    fn record(&mut self, stream: usize, class: usize, time: u64, payload: &[u8]) -> bool {
        let Some(time) = time.checked_add(self.offset).filter(|t| i64::try_from(*t).is_ok()) else {
            return false;
        };
        for mut entry in std::mem::take(&mut self.early) {
            entry.time = time;
            self.window.push(Reverse(entry));
        }
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.lost(stream, time);
        let from = self.streams[stream].from;
        let event = Event { time, from, class: &self.classes[class], payload };
        if self.select.wants_event(&event) {
            self.events += 1;
            self.push(time, What::Record(stream, class, payload.to_vec()));
        }
        true
    }

    fn missing(&mut self, stream: usize, missing: Missing) {
        let m = &mut self.streams[stream].missing;
        m.ring = m.ring.saturating_add(missing.ring);
        m.line = m.line.saturating_add(missing.line);
        m.before = m.before.saturating_add(missing.before);
    }

    fn end(&mut self, stream: usize, totals: &Totals) {
        let (time, number) = (self.now(), self.streams[stream].from.stream as u32);
        self.lost(stream, time);
        self.push(time, What::Told(Told::End(number, *totals)));
    }

    fn text(&mut self, bytes: &[u8]) {
        // As it came, if all is wanted: a prompt has no end of line.
        if self.format == Format::Text && self.select.is_everything() {
            return self.push(self.now(), What::Text(bytes.to_vec()));
        }
        let mut lines = Vec::new();
        self.lines.push(bytes, |line| {
            lines.push(line.to_owned());
            true
        });
        lines.into_iter().for_each(|line| self.line(line));
    }
}
