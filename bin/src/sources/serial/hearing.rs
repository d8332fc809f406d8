//! What is heard on a line, kept in order and within bounds, whoever it is for.
//!
//! The decoder says what it finds; here streams and classes of all the senders that a line has
//! had get places that do not change, what is missing is counted under its names, and what is too
//! much is refused, said and counted. A [`Take`] is who it is for: channels, or a printer.

use std::collections::HashMap;
use std::sync::Arc;

use rbpipe_backends::link::{LinkStream, Missing, Receive, Received, Session, Totals};
use rbpipe_core::class::EventClass;
use rbpipe_core::decode::Classes;

/// Streams that there can be, of all senders that a line has had.
pub const MOST_STREAMS: usize = 256;
/// Event classes that there can be, of all senders that a line has had.
pub const MOST_CLASSES: usize = 4096;

/// Who takes what is heard.
pub trait Take {
    /// A sender says who it is; `other`: not the one before.
    fn session(&mut self, session: &Session, other: bool);
    /// There is a stream at this place, in this session; the place may be that of a stream of
    /// the same name in the session before.
    fn stream(&mut self, place: usize, stream: &LinkStream);
    /// There is a class at this place.
    fn class(&mut self, place: usize, class: &Arc<EventClass>);
    /// A record. False: it could not be taken, and counts as refused.
    fn record(&mut self, stream: usize, class: usize, time: u64, payload: &[u8]) -> bool;
    /// Records are missing.
    fn missing(&mut self, stream: usize, missing: Missing);
    /// The sender closed a stream, and this is what it counts.
    fn end(&mut self, stream: usize, totals: &Totals);
    /// Text, as it came.
    fn text(&mut self, bytes: &[u8]);
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Records that came, refused ones included.
    pub records: u64,
    /// Lost at the sender, on the line, and sent before anybody listened.
    pub missing: Missing,
    /// Records that came, and could not be taken: too many streams or classes, or none that
    /// were told of.
    pub refused: u64,
    /// Senders, one after the other.
    pub sessions: u64,
}

/// Hears a line for somebody.
pub struct Hearing<T> {
    /// Who it is for.
    pub to: T,
    /// What has been counted.
    pub books: Books,
    session: Option<Session>,
    /// All streams there have been.
    streams: HashMap<LinkStream, usize>,
    /// Of the streams of this session, where they are.
    here: HashMap<u32, usize>,
    classes: Classes,
    /// Their places by their names: two senders may mean different things by one.
    known: HashMap<String, Vec<usize>>,
    here_classes: HashMap<u32, usize>,
    said: bool,
}

impl<T: Take> Hearing<T> {
    /// Nothing has been heard yet.
    pub fn new(to: T) -> Self {
        Self {
            to,
            books: Books::default(),
            session: None,
            streams: HashMap::new(),
            here: HashMap::new(),
            classes: Classes::default(),
            known: HashMap::new(),
            here_classes: HashMap::new(),
            said: false,
        }
    }

    fn refuse(&mut self, what: &str, most: usize) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                "the line brings more than {most} {what}, the most there can be: records of \
                 others are counted, and left out"
            );
        }
    }
}

impl<T: Take> Receive for Hearing<T> {
    fn session(&mut self, session: &Session) {
        let other = self.session.is_none_or(|s| s.id != session.id);
        if other {
            self.books.sessions += 1;
            self.here.clear();
            self.here_classes.clear();
        }
        self.session = Some(*session);
        self.to.session(session, other);
    }

    fn stream(&mut self, number: u32, stream: &LinkStream) {
        let next = self.streams.len();
        let place = match self.streams.get(stream) {
            Some(place) => *place,
            None if next < MOST_STREAMS => {
                self.streams.insert(stream.clone(), next);
                next
            }
            None => return self.refuse("streams", MOST_STREAMS),
        };
        self.here.insert(number, place);
        self.to.stream(place, stream);
    }

    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        let named = self.known.get(&class.name).map_or(&[][..], Vec::as_slice);
        let known = named.iter().copied().find(|p| self.classes.get(*p) == Some(class));
        if known.is_none() && self.classes.len() >= MOST_CLASSES {
            return self.refuse("event classes", MOST_CLASSES);
        }
        let place = known.unwrap_or_else(|| {
            let place = self.classes.len();
            self.classes.push(Arc::clone(class));
            self.known.entry(class.name.clone()).or_default().push(place);
            self.to.class(place, class);
            place
        });
        self.here_classes.insert(number, place);
    }

    fn record(&mut self, record: Received<'_>) {
        self.books.records += 1;
        let places = (self.here.get(&record.stream), self.here_classes.get(&record.class));
        let taken = match places {
            (Some(stream), Some(class)) => {
                self.classes.fits(*class, record.payload)
                    && self.to.record(*stream, *class, record.time, record.payload)
            }
            _ => false,
        };
        self.books.refused += u64::from(!taken);
    }

    fn missing(&mut self, stream: u32, missing: Missing) {
        let Missing { ring, line, before } = &mut self.books.missing;
        *ring = ring.saturating_add(missing.ring);
        *line = line.saturating_add(missing.line);
        *before = before.saturating_add(missing.before);
        if missing != Missing::default()
            && let Some(place) = self.here.get(&stream)
        {
            self.to.missing(*place, missing);
        }
    }

    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        if let (true, Some(place)) = (last, self.here.get(&stream)) {
            self.to.end(*place, totals);
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        self.to.text(bytes);
    }

    fn reply(&mut self, line: &str) {
        tracing::info!("the sender says: {}", line.escape_debug());
    }
}
