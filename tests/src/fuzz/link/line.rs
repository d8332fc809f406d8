//! A line: what it does to frames, and what is true of any bytes that come from one.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use fastrand::Rng;
use rbpipe_backends::link::{
    Decoder, Health, LinkStream, Missing, Receive, Received, Session, Totals,
};
use rbpipe_core::class::EventClass;

use super::super::damage;
use super::fits;
use crate::recording::wire::Arrived;

/// Bytes, cut anyhow; and what is true of any bytes is checked.
///
/// # Panics
/// It is not true.
pub fn fed(bytes: &[u8], cuts: &mut Rng) -> (Arrived, Health) {
    let (mut decoder, mut arrived) = (Decoder::new(), Checked::default());
    let longest = [1, 7, 100, 5000, usize::MAX][cuts.usize(0..5)];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.usize(1..=longest.min(rest.len())));
        decoder.feed(now, &mut arrived);
        rest = later;
    }
    decoder.end(&mut arrived);
    let health = *decoder.health();
    assert_eq!(health.bytes, bytes.len() as u64);
    assert_eq!(health.text, arrived.0.text.len() as u64);
    assert!(health.text + health.damaged_bytes <= health.bytes, "{health:?}");
    (arrived.0, health)
}

/// Takes bytes and keeps nothing of what they say.
pub fn held(bytes: &[u8]) {
    struct Nobody;
    impl Receive for Nobody {
        fn record(&mut self, _: Received<'_>) {}
    }
    let mut decoder = Decoder::new();
    decoder.feed(bytes, &mut Nobody);
    decoder.end(&mut Nobody);
}

/// What has arrived, each record looked at when it comes.
#[derive(Default)]
pub struct Checked(pub Arrived);

impl Receive for Checked {
    fn session(&mut self, session: &Session) {
        // Another sender's streams and classes are numbered anew.
        if self.0.sessions.last().is_none_or(|last| last.id != session.id) {
            self.0.streams.clear();
            self.0.classes.clear();
        }
        self.0.session(session);
    }
    fn stream(&mut self, number: u32, stream: &LinkStream) {
        assert!(self.0.streams.iter().all(|(n, _)| *n != number), "announced once");
        self.0.stream(number, stream);
    }
    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        assert!(self.0.classes.iter().all(|(n, _)| *n != number), "announced once");
        self.0.class(number, class);
    }
    fn record(&mut self, record: Received<'_>) {
        assert!(!self.0.sessions.is_empty(), "who sends it is known");
        let known = |n: u32| self.0.streams.iter().any(|(s, _)| *s == n);
        assert!(known(record.stream), "its stream was announced");
        let class = self.0.classes.iter().find(|(n, _)| *n == record.class);
        let (_, class) = class.expect("its class was announced");
        assert!(fits(class, record.payload), "fields fill the payload: {class:?}");
        self.0.record(record);
    }
    fn missing(&mut self, stream: u32, missing: Missing) {
        assert_ne!(missing, Missing::default(), "something is missing");
        self.0.missing(stream, missing);
    }
    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        self.0.totals(stream, totals, last);
    }
    fn text(&mut self, bytes: &[u8]) {
        self.0.text(bytes);
    }
    fn reply(&mut self, line: &str) {
        self.0.reply(line);
    }
}

/// A body as a frame, its checksum right.
#[must_use]
pub fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    let mut out = cobs::encode_vec(&bytes);
    out.push(0);
    out
}

/// The body of a frame; `None`: it is none.
#[must_use]
pub fn opened(frame: &[u8]) -> Option<Vec<u8>> {
    let mut body = cobs::decode_vec(frame).ok()?;
    let check: [u8; 4] = *body.last_chunk()?;
    body.truncate(body.len() - 4);
    (crc32c::crc32c(&body).to_le_bytes() == check).then_some(body)
}

/// The line does this to bytes: flips, holes, doubles, insertions, frames that change places.
///
/// # Errors
/// There is no entropy left.
pub fn damaged(u: &mut Unstructured<'_>, wire: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut parts = wire.to_vec();
    for _ in 0..*u.choose(&[0, 1, 2, 5])? {
        let at = u.choose_index(parts.len())?;
        match u.int_in_range(0..=2)? {
            0 => _ = parts.remove(at),
            1 => parts.insert(at, parts[at].clone()),
            _ => parts[at].clear(),
        }
        if parts.is_empty() {
            break;
        }
    }
    let mut bytes = parts.concat();
    let most = bytes.len() + 64;
    damage::some(u, &mut bytes, &["\0", "\0\0", "text\n", "\u{1}"], most)?;
    Ok(bytes)
}

/// Frames whose checksum is right and whose content is damaged: nobody but a broken sender, or one
/// who means harm, makes them.
///
/// # Errors
/// There is no entropy left.
pub fn forged(u: &mut Unstructured<'_>, wire: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for frame in wire.split(|b| *b == 0) {
        let Some(mut body) = opened(frame) else {
            out.extend_from_slice(frame);
            out.push(0);
            continue;
        };
        if u.ratio(1, 3)? {
            damage::some(u, &mut body, &["\0", "\u{7f}", "\u{1}"], 4000)?;
        }
        out.extend(sealed(&body));
    }
    Ok(out)
}
