//! A recording over the link, at the times at which its events happened: what a sender's backend
//! does with a line that is fast enough, without one.
//!
//! Time goes in steps of 10 ms (a drain's read timer). In each, what has happened goes into frames
//! as long as there is more than they can hold, so that none is cut short; the rest waits. What is
//! due goes out by itself: who the sender is, and each second what it counts in all; at the end
//! the last records, and the totals three times.

use std::sync::Arc;

use rbpipe_backends::link::{
    Decoder, Encoder, LinkOptions, LinkRecord, LinkStream, Missing, Receive, Received, Session,
    Totals,
};
use rbpipe_core::class::EventClass;

use super::Recording;

const STEP: u64 = 10_000_000;
const SECOND: u64 = 1_000_000_000;

/// As it would be at 115200 baud, in steps of so many nanoseconds.
#[must_use]
pub fn options(tick: u64) -> LinkOptions {
    LinkOptions {
        tick,
        frame: 254,
        announce_every: 10 * SECOND,
        session: 0x5EED,
        clock_offset: 1_700_000_000 * SECOND,
        baud: 115_200,
        mixed: false,
    }
}

/// The records of each stream, ready to be sent.
pub type Streams<'a> = [(LinkStream, Vec<LinkRecord<'a>>)];

/// Sends them all; `out` has what lies on the wire.
pub fn send(
    streams: &Streams<'_>,
    classes: &[Arc<EventClass>],
    options: LinkOptions,
    out: &mut Vec<u8>,
) {
    let mut encoder = Encoder::new(options);
    let numbers: Vec<u32> = streams.iter().map(|(s, _)| encoder.stream(s.clone())).collect();
    let mut sent = vec![0; streams.len()];
    let times =
        || streams.iter().filter_map(|(_, records)| Some((records.first()?, records.last()?)));
    let first = times().map(|(first, _)| first.time).min().unwrap_or(0);
    let end = times().map(|(_, last)| last.time).max().unwrap_or(0);
    let (mut now, mut told) = (first, first);
    loop {
        now += STEP;
        encoder.due(now, out);
        for (place, (_, records)) in streams.iter().enumerate() {
            let happened = records.partition_point(|r| r.time <= now);
            let at: &mut usize = &mut sent[place];
            let enough = |encoder: &Encoder| 2 * encoder.typical(numbers[place]).max(64);
            while happened - *at > if now < end { enough(&encoder) } else { 0 } {
                *at += encoder.frame(numbers[place], now, classes, &records[*at..happened], out);
            }
        }
        let last = now >= end;
        if last || now >= told + SECOND {
            told = now;
            for _ in 0..if last { 3 } else { 1 } {
                for (number, sent) in numbers.iter().zip(&sent) {
                    let totals = Totals { produced: *sent as u64, ..Totals::default() };
                    encoder.totals(*number, &totals, last, out);
                }
            }
        }
        if last {
            return;
        }
    }
}

/// A recording's bytes on the wire.
#[must_use]
pub fn sent(recording: &Recording, options: LinkOptions) -> Vec<u8> {
    let mut out = Vec::new();
    send(&recording.link(), &[Arc::clone(&recording.class)], options, &mut out);
    out
}

/// What has arrived, whole.
#[derive(Default)]
pub struct Arrived {
    /// Who the sender said it was.
    pub sessions: Vec<Session>,
    /// Its streams, by their numbers in the session.
    pub streams: Vec<(u32, LinkStream)>,
    /// Its classes, by their numbers in the session.
    pub classes: Vec<(u32, Arc<EventClass>)>,
    /// Its records, in the order of the wire.
    pub records: Vec<ArrivedRecord>,
    /// What was missing, and how many records had come before.
    pub missing: Vec<(u32, Missing, usize)>,
    /// The totals, as they came.
    pub totals: Vec<(u32, Totals, bool)>,
    /// Text of others.
    pub text: Vec<u8>,
    /// Answers.
    pub replies: Vec<String>,
}

/// A record that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivedRecord {
    /// The stream's number.
    pub stream: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// The class's number.
    pub class: u32,
    /// As it would lie in a sub-buffer.
    pub payload: Vec<u8>,
}

impl Arrived {
    /// Of these bytes, in one piece, to their end.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let (mut this, mut decoder) = (Self::default(), Decoder::new());
        decoder.feed(bytes, &mut this);
        decoder.end(&mut this);
        this
    }
}

impl Receive for Arrived {
    fn session(&mut self, session: &Session) {
        self.sessions.push(*session);
    }
    fn stream(&mut self, number: u32, stream: &LinkStream) {
        self.streams.push((number, stream.clone()));
    }
    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        self.classes.push((number, Arc::clone(class)));
    }
    fn record(&mut self, record: Received<'_>) {
        let Received { stream, time, class, payload } = record;
        self.records.push(ArrivedRecord { stream, time, class, payload: payload.to_vec() });
    }
    fn missing(&mut self, stream: u32, missing: Missing) {
        self.missing.push((stream, missing, self.records.len()));
    }
    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        self.totals.push((stream, *totals, last));
    }
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }
    fn reply(&mut self, line: &str) {
        self.replies.push(line.into());
    }
}
