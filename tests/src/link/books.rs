//! The receiver's side: believes nothing, and keeps its own books beside the decoder's.

use std::collections::HashMap;
use std::sync::Arc;

use rbpipe_backends::link::{LinkStream, Missing, Receive, Received, Session, Totals};
use rbpipe_core::class::EventClass;

use super::sender::Stream;
use super::traffic::Traffic;

/// Sums over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs.
    pub runs: u64,
    /// Records that went to the line.
    pub sent: u64,
    /// Those that arrived.
    pub delivered: u64,
    /// Losses of the ring that were told.
    pub ring: u64,
    /// Losses on the line that were told.
    pub line: u64,
    /// What a receiver was told of the time before it came.
    pub before: u64,
    /// Streams whose last totals arrived: their books are equal to the record.
    pub exact: u64,
    /// Streams whose last totals did not arrive (the sender or the receiver was reset, or the line
    /// was bad to the end): nothing was told that was not so.
    pub unfinished: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Bits turned, bytes dropped and doubled, bursts.
    pub faults: u64,
    /// Times that a port went, and came back.
    pub unplugs: u64,
    /// New senders.
    pub resets: u64,
    /// Receivers that came late, or anew.
    pub joins: u64,
}

impl Figures {
    /// Adds a run.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.ring += other.ring;
        self.line += other.line;
        self.before += other.before;
        self.exact += other.exact;
        self.unfinished += other.unfinished;
        self.bytes += other.bytes;
        self.faults += other.faults;
        self.unplugs += other.unplugs;
        self.resets += other.resets;
        self.joins += other.joins;
    }
}

/// What a sender did, and is therefore true.
#[derive(Debug)]
pub struct Truth {
    /// Its session.
    pub id: u64,
    /// Nanoseconds of a tick.
    pub tick: u64,
    /// Its classes.
    pub traffic: Arc<Traffic>,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// Whether its last totals are being sent.
    pub ended: bool,
}

/// What was heard of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    delivered: usize,
    missing: Missing,
    totals: Totals,
    last: bool,
    /// Where the receiver came to the stream: records sent and losses told before that.
    came: Option<(usize, u64)>,
}

impl Heard {
    /// Everything that it knows of.
    fn sum(&self) -> u64 {
        self.delivered as u64 + self.missing.line + self.missing.ring + self.missing.before
    }
}

/// One receiver's books.
#[derive(Debug, Default)]
pub struct Books {
    /// The sender of now, and those before it.
    pub truth: Vec<Truth>,
    /// Which of them is heard.
    session: Option<usize>,
    classes: HashMap<u32, usize>,
    streams: HashMap<u32, usize>,
    heard: HashMap<(usize, usize), Heard>,
    /// What was wrong first.
    pub wrong: Option<String>,
}

impl Books {
    /// Another receiver, which knows nothing.
    pub fn restart(&mut self, figures: &mut Figures) {
        self.close(figures);
        (self.session, self.classes, self.streams) = Default::default();
        self.heard.clear();
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    fn stream_of(&mut self, number: u32) -> Option<(usize, usize)> {
        let of = self.session.zip(self.streams.get(&number).copied());
        if of.is_none() {
            self.wrong(|| format!("stream {number} was not announced"));
        }
        of
    }

    /// Checks and sums up what this receiver heard.
    pub fn close(&mut self, figures: &mut Figures) {
        let heard: Vec<_> = self.heard.iter().map(|(k, v)| (*k, *v)).collect();
        for ((session, stream), h) in heard {
            figures.delivered += h.delivered as u64;
            figures.ring += h.missing.ring;
            figures.line += h.missing.line;
            figures.before += h.missing.before;
            if h.last {
                figures.exact += 1;
                self.exact(session, stream, &h);
            } else {
                figures.unfinished += 1;
                self.at_most(session, stream, &h);
            }
        }
    }

    /// After the last totals: the books are equal.
    fn exact(&mut self, session: usize, stream: usize, h: &Heard) {
        let s = &self.truth[session].streams[stream];
        let (ring, sent) = (s.lost(), s.sent.len() as u64);
        // Who came late knows the sum of what was before.
        let apart = h.missing.before > 0
            || (h.missing.ring, h.delivered as u64 + h.missing.line) == (ring, sent);
        if h.sum() != ring + sent || !apart {
            let what = format!("{:?}: sent {sent}, ring lost {ring}; heard {h:?}", s.who);
            self.wrong(|| what);
        }
    }

    /// At any time: nothing is invented.
    fn at_most(&mut self, session: usize, stream: usize, h: &Heard) {
        let s = &self.truth[session].streams[stream];
        let (ring, sent) = (s.lost(), s.sent.len() as u64);
        let (told, line) = (h.missing.ring, h.delivered as u64 + h.missing.line);
        if told > ring || line > sent || h.sum() > ring + sent {
            let what = format!("{:?}: sent {sent}, ring lost {ring}; heard {h:?}", s.who);
            self.wrong(|| what);
        }
    }

    /// Whether the last totals of every stream of the sender of now were heard.
    #[must_use]
    pub fn all_ended(&self) -> Option<&LinkStream> {
        let now = self.truth.len() - 1;
        let missed = |i: &usize| !self.heard.get(&(now, *i)).is_some_and(|h| h.last);
        (0..self.truth[now].streams.len()).find(missed).map(|i| &self.truth[now].streams[i].who)
    }
}

impl Receive for Books {
    fn session(&mut self, session: &Session) {
        let Some(at) = self.truth.iter().position(|t| t.id == session.id) else {
            return self.wrong(|| format!("{session:?} is nobody's"));
        };
        if self.truth[at].tick != session.tick {
            self.wrong(|| format!("{session:?} has another tick"));
        }
        if self.session.is_some_and(|before| before > at) {
            self.wrong(|| format!("{session:?} after a newer one"));
        }
        if self.session != Some(at) {
            self.classes.clear();
            self.streams.clear();
            self.session = Some(at);
        }
    }

    fn stream(&mut self, number: u32, stream: &LinkStream) {
        let Some(session) = self.session else {
            return self.wrong(|| "a stream before a session".into());
        };
        let found = self.truth[session].streams.iter().position(|s| s.who == *stream);
        let Some(at) = found else {
            return self.wrong(|| format!("stream {number} {stream:?} is nobody's"));
        };
        if self.streams.insert(number, at).is_some() {
            self.wrong(|| format!("stream {number} announced twice"));
        }
        self.heard.entry((session, at)).or_default();
    }

    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        let Some(session) = self.session else {
            return self.wrong(|| "a class before a session".into());
        };
        let classes = &self.truth[session].traffic.classes;
        let Some(at) = classes.iter().position(|c| c == class) else {
            return self.wrong(|| format!("class {number} {class:?} is nobody's"));
        };
        if self.classes.insert(number, at).is_some() {
            self.wrong(|| format!("class {number} announced twice"));
        }
    }

    fn record(&mut self, record: Received<'_>) {
        let Some((session, stream)) = self.stream_of(record.stream) else { return };
        let Some(class) = self.classes.get(&record.class).copied() else {
            return self.wrong(|| format!("class {} was not announced", record.class));
        };
        let heard = self.heard.entry((session, stream)).or_default();
        if heard.last {
            return self.wrong(|| format!("a record after the last: {record:?}"));
        }
        let (h, truth) = (*heard, &self.truth[session]);
        heard.delivered += 1;
        let sent = &truth.streams[stream].sent;
        // Which one it must be, if all that is missing was told, in its place.
        let since = h.delivered + h.missing.line as usize;
        let before = h.missing.before;
        let came = match h.came {
            Some(came) => vec![came],
            None if before == 0 => vec![(0, 0)],
            // The receiver came with a frame, which told of all losses before it; or with totals,
            // which tell of what was sent.
            None => {
                let place = sent.partition_point(|s| s.place + s.ring < before);
                let ring = sent.get(place).map_or(0, |s| s.ring);
                vec![(place, ring), (before as usize, 0)]
            }
        };
        let fits = came.iter().find(|(place, ring)| {
            sent.get(place + since).is_some_and(|s| {
                let r = &s.record;
                let time = r.time / truth.tick * truth.tick;
                (record.time, class, record.payload) == (time, r.class, &r.payload[..])
                    && h.missing.ring + ring == s.ring
            })
        });
        if let Some(came) = fits {
            heard.came = Some(*came);
        } else {
            let expected = came.first().map(|c| (c, sent.get(c.0 + since)));
            let where_is = sent.iter().position(|s| s.record.payload == record.payload);
            let what = format!(
                "{record:?} instead of {expected:?} of {}; it may be {where_is:?}; {h:?}",
                sent.len()
            );
            self.wrong(|| what);
        }
    }

    fn missing(&mut self, stream: u32, missing: Missing) {
        if missing == Missing::default() {
            self.wrong(|| "nothing is missing".into());
        }
        let Some(at) = self.stream_of(stream) else { return };
        let heard = self.heard.entry(at).or_default();
        if heard.last {
            return self.wrong(|| format!("{missing:?} after the last of stream {stream}"));
        }
        // Totals that come before all records say what was sent, the first records what was lost
        // at the sender: two parts of what was before, and frames may be lost between them.
        let again = missing.before > 0 && (heard.delivered > 0 || heard.missing.ring > 0);
        heard.missing.ring += missing.ring;
        heard.missing.line += missing.line;
        heard.missing.before += missing.before;
        let heard = *heard;
        self.at_most(at.0, at.1, &heard);
        if again {
            self.wrong(|| format!("{missing:?} where something was known: {heard:?}"));
        }
    }

    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        let Some(at) = self.stream_of(stream) else { return };
        let truth = &self.truth[at.0];
        let real = truth.streams[at.1].books();
        let heard = self.heard.entry(at).or_default();
        let back = totals.produced < heard.totals.produced || totals.lost < heard.totals.lost;
        heard.totals = *totals;
        heard.last |= last;
        let heard = *heard;
        if last && (!truth.ended || *totals != real) || totals.produced > real.produced {
            self.wrong(|| format!("{totals:?} (last: {last}) instead of {real:?}"));
        } else if last {
            self.exact(at.0, at.1, &heard);
        }
        if back {
            self.wrong(|| format!("{totals:?} goes back"));
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        // Damaged frames may look like text: not here to be judged.
        let _ = bytes;
    }

    fn reply(&mut self, line: &str) {
        self.wrong(|| format!("nobody replied {line:?}"));
    }
}
