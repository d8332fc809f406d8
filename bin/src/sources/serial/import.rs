//! What is heard on a line, as streams of channels: each of the sender's streams becomes a stream
//! with given times in each channel of the source, and what is told of the line itself is one
//! more.
//!
//! A stream is made when its first record comes. One that a sender had before it was started anew
//! is gone on with, unless its times went back: then it is another one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rbpipe_backends::link::{LinkStream, Missing, Session, Totals};
use rbpipe_core::class::EventClass;
use rbpipe_core::drain::{Ask, Done, Refused};
use rbpipe_core::stream::{GivenRecord, ImportWriter, WriteError};

use super::events::{self, KINDS, Told};
use super::hearing::{MOST_STREAMS, Take};
use super::timeline::{Clock, Timeline};
use crate::sources::lines::split::Splitter;
use crate::sources::payload::Payload;
use crate::sources::{Channels, Class, Stop};

/// Bytes of a line of text.
const MAX_LINE: usize = 4096;
/// Text that waits for its end is a line after so long without more.
const NO_MORE: Duration = Duration::from_secs(1);
/// What is told before the first record waits for its time: so many, and so many bytes of text.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 1 << 20;

/// Takes what is heard into channels.
pub struct Import<'a> {
    to: &'a Channels,
    stop: &'a Stop,
    timeline: Timeline,
    session: u64,
    streams: Vec<Stream>,
    classes: Vec<Option<Class>>,
    /// Streams that were made, in each channel.
    made: usize,
    link: Vec<ImportWriter>,
    link_classes: [Class; KINDS],
    link_last: u64,
    /// What is told before there is a time for it.
    waiting: Vec<Told>,
    waiting_bytes: usize,
    /// What did not find room there.
    pub left_out: u64,
    payload: Payload,
    lines: Splitter,
    /// When text came last, as long as its line has no end.
    open_line: Option<Instant>,
    /// All channels are closed.
    closed: bool,
}

struct Stream {
    who: LinkStream,
    /// One for each channel; none: it has had no record.
    writers: Vec<ImportWriter>,
    /// The last record's time.
    last: u64,
    /// It has had no record in this session.
    fresh: bool,
    /// Missing, and not told yet.
    missing: Missing,
    /// There is no memory for it.
    refused: bool,
}

impl<'a> Import<'a> {
    /// Into these channels.
    ///
    /// # Errors
    /// Never: the classes of what is told are like any other.
    pub fn new(to: &'a Channels, stop: &'a Stop, clock: Clock) -> anyhow::Result<Self> {
        let classes = events::classes().map(|c| to.class(&c));
        let classes: Vec<Class> = classes.into_iter().collect::<Result<_, _>>()?;
        let link_classes = <[Class; KINDS]>::try_from(classes)
            .map_err(|_| anyhow::anyhow!("as many as there are kinds"))?;
        Ok(Self {
            to,
            stop,
            timeline: Timeline::new(clock, to.clock_offset),
            session: 0,
            streams: Vec::new(),
            classes: Vec::new(),
            made: 0,
            link: Vec::new(),
            link_classes,
            link_last: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            left_out: 0,
            payload: Payload::default(),
            lines: Splitter::new(MAX_LINE),
            open_line: None,
            closed: false,
        })
    }

    /// Whether there is no sense in going on: the channels are closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Now and then.
    pub fn turn(&mut self) {
        if self.open_line.is_some_and(|came| came.elapsed() >= NO_MORE) {
            self.finish_line();
        }
    }

    /// There will be no more: what has not been told is.
    pub fn finish(&mut self) {
        self.finish_line();
        for place in 0..self.streams.len() {
            self.settle(place);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let time = self.timeline.now();
        waiting.iter().for_each(|told| self.tell_at(time, told));
    }

    fn finish_line(&mut self) {
        self.open_line = None;
        let mut rest = None;
        self.lines.finish(|line| {
            rest = Some(line.to_owned());
            true
        });
        if let Some(line) = rest {
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        // Consoles end lines with two characters.
        self.tell(Told::Text(line.trim_end_matches('\r').to_owned()));
    }

    /// Tells something of the line, in its place.
    fn tell(&mut self, told: Told) {
        if let Some(time) = self.timeline.then() {
            return self.tell_at(time, &told);
        }
        let bytes = if let Told::Text(line) = &told { line.len() } else { 0 };
        if self.waiting.len() >= WAITING || self.waiting_bytes + bytes > WAITING_BYTES {
            self.left_out += 1;
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push(told);
    }

    fn tell_at(&mut self, time: u64, told: &Told) {
        let time = time.max(self.link_last);
        if self.link.is_empty() {
            match self.make(None, time) {
                Some(writers) => self.link = writers,
                None => return self.left_out += 1,
            }
        }
        self.link_last = time;
        told.write(&mut self.payload);
        let class = &self.link_classes[told.kind()];
        for (channel, writer) in self.link.iter_mut().enumerate() {
            let record =
                GivenRecord { time, class: class.id(channel), payload: self.payload.bytes() };
            // What does not fit, the channel counts.
            let _ = writer.write_run(&[record]);
        }
    }

    /// A stream in each channel.
    fn make(&mut self, cpu: Option<u32>, start: u64) -> Option<Vec<ImportWriter>> {
        let mut writers = Vec::with_capacity(self.to.controls.len());
        for control in &self.to.controls {
            let reply = control.request(Ask::Import { cpu, start });
            let answer = loop {
                match reply.recv_timeout(Duration::from_millis(100)) {
                    Err(RecvTimeoutError::Timeout) if !self.stop.is_stopped() => {}
                    Err(_) => break Err(Refused::Ended),
                    Ok(answer) => break answer,
                }
            };
            match answer {
                Ok(Done::Imported(writer)) => writers.push(writer),
                Ok(_) | Err(Refused::Ended) => {
                    self.closed = true;
                    return None;
                }
                Err(e) => {
                    tracing::warn!("a stream of the line: {e}; its records are left out");
                    return None;
                }
            }
        }
        self.made += 1;
        Some(writers)
    }

    /// Sees to it that a stream takes records from this time on. False: it cannot.
    fn begin(&mut self, place: usize, time: u64) -> bool {
        let s = &self.streams[place];
        if s.refused {
            return false;
        }
        let back = s.fresh && time < s.last && self.made < MOST_STREAMS;
        if s.writers.is_empty() || back {
            let (cpu, who) = (s.who.cpu, s.who.clone());
            let Some(writers) = self.make(cpu, time) else {
                self.streams[place].refused = !self.closed;
                return false;
            };
            let number = writers.first().map_or(0, ImportWriter::id);
            self.streams[place].writers = writers;
            self.tell(Told::Stream(number, self.session, who));
        }
        self.streams[place].fresh = false;
        true
    }

    /// Tells what is missing of a stream, which is there.
    fn tell_missing(&mut self, place: usize) {
        let s = &mut self.streams[place];
        let missing = std::mem::take(&mut s.missing);
        if missing == Missing::default() {
            return;
        }
        let lost = missing.ring.saturating_add(missing.line);
        s.writers.iter_mut().for_each(|w| w.lost_before(lost));
        let number = s.writers.first().map_or(0, ImportWriter::id);
        self.tell(Told::Loss(number, missing));
    }

    /// What is missing of a stream, and will not be followed by a record.
    fn settle(&mut self, place: usize) {
        let s = &self.streams[place];
        let missing = s.missing;
        if missing == Missing::default() || s.refused {
            return;
        }
        if s.writers.is_empty() {
            let now = self.timeline.now();
            if !self.begin(place, now) {
                return;
            }
        }
        self.tell_missing(place);
    }
}

impl Take for Import<'_> {
    fn session(&mut self, session: &Session, other: bool) {
        if other {
            for place in 0..self.streams.len() {
                self.settle(place);
            }
            self.streams.iter_mut().for_each(|s| s.fresh = true);
            self.session = session.id;
            self.timeline.session(session.clock_offset);
        }
        self.tell(Told::Session(*session));
    }

    fn stream(&mut self, place: usize, stream: &LinkStream) {
        if place == self.streams.len() {
            self.streams.push(Stream {
                who: stream.clone(),
                writers: Vec::new(),
                last: 0,
                fresh: true,
                missing: Missing::default(),
                refused: false,
            });
        }
    }

    fn class(&mut self, place: usize, class: &Arc<EventClass>) {
        // Places come in order. A class that no trace can describe is none.
        self.classes.resize(place, None);
        self.classes.push(self.to.class(class).ok());
    }

    fn record(&mut self, place: usize, class: usize, time: u64, payload: &[u8]) -> bool {
        if self.classes.get(class).is_none_or(Option::is_none) {
            return false;
        }
        let Some(time) = self.timeline.record(time) else { return false };
        if let Some(seconds) = self.timeline.wrong_by() {
            tracing::warn!(
                "the sender's clock is {:.1} days from this one: its records are put at the \
                 moment when they come",
                seconds as f64 / 86400.0
            );
        }
        if !self.begin(place, time) {
            return false;
        }
        // Before what comes with it: what was told before there was a time.
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.waiting_bytes = 0;
            waiting.iter().for_each(|told| self.tell_at(time, told));
        }
        self.tell_missing(place);
        let s = &mut self.streams[place];
        s.last = s.last.max(time);
        let Some(Some(class)) = self.classes.get(class) else { return false };
        let mut open = false;
        for (channel, writer) in s.writers.iter_mut().enumerate() {
            let record = GivenRecord { time, class: class.id(channel), payload };
            // What does not fit, the channel counts.
            open |= writer.write_run(&[record]) != Err(WriteError::Closed);
        }
        self.closed |= !open;
        self.to.counts.read.fetch_add(open.into(), Ordering::Relaxed);
        open
    }

    fn missing(&mut self, place: usize, missing: Missing) {
        let s = &mut self.streams[place];
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut s.missing.ring, missing.ring);
        sum(&mut s.missing.line, missing.line);
        sum(&mut s.missing.before, missing.before);
        let lost = missing.ring.saturating_add(missing.line);
        self.to.counts.lost_before.fetch_add(lost, Ordering::Relaxed);
        // At once where it belongs to what is there: there may be no more records.
        let s = &self.streams[place];
        if !s.writers.is_empty() && !s.fresh {
            self.tell_missing(place);
        }
    }

    fn end(&mut self, place: usize, totals: &Totals) {
        self.settle(place);
        if let Some(writer) = self.streams[place].writers.first() {
            let number = writer.id();
            self.tell(Told::End(number, *totals));
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        let mut lines = Vec::new();
        self.lines.push(bytes, |line| {
            lines.push(line.to_owned());
            true
        });
        self.open_line = (!bytes.ends_with(b"\n")).then(Instant::now);
        lines.iter().for_each(|line| self.line(line));
    }
}
