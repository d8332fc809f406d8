//! The link, both halves: a line that is made from entropy, what was sent over it, and what is
//! checked of what arrives.

mod line;

use std::collections::HashMap;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use fastrand::Rng;
use rbpipe_backends::link::{Encoder, LinkOptions, LinkRecord, LinkStream, Missing, Totals};
use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType, Integer};
use rbpipe_core::decode::value;

pub use line::{Checked, damaged, fed, forged, held, opened, sealed};

use super::recipe;
use crate::recording::wire::{Arrived, ArrivedRecord};

/// The longest payload that a link takes.
const LONGEST: usize = 64 << 10;
/// Bytes on the wire that are enough for one case.
const ENOUGH: usize = 100_000;
/// Text that others print.
const LINES: [&str; 4] =
    ["[    1.5] usb 1-1: ready\r\n", "\x1b[1;31moops\x1b[0m\n", "Zeile: äöü\n", "~ # \r\n"];

/// A record that was given to the sender.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its class, by its place.
    pub class: usize,
    /// Nanoseconds.
    pub time: u64,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Lost before it.
    pub lost_before: u64,
}

/// A stream of the sender.
pub struct Sender {
    /// Who it is.
    pub who: LinkStream,
    /// The classes of its channel.
    pub classes: Vec<Arc<EventClass>>,
    /// What was given, in order.
    pub given: Vec<Given>,
}

impl Sender {
    /// Those that go over the line.
    pub fn good(&self) -> impl Iterator<Item = &Given> {
        self.given.iter().filter(|g| fits(&self.classes[g.class], &g.payload))
    }
    /// Those that do not.
    #[must_use]
    pub fn refused(&self) -> u64 {
        (self.given.len() - self.good().count()) as u64
    }
    /// Lost in the ring, the last ones before the end among them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.given.iter().map(|g| g.lost_before).sum::<u64>() + AT_THE_END
    }
    /// All that there were.
    #[must_use]
    pub fn produced(&self) -> u64 {
        self.given.len() as u64 + self.lost()
    }
}

/// Lost behind each stream's last record.
const AT_THE_END: u64 = 3;

/// What lies on the wire, and what it was made of.
pub struct Sent {
    /// How the link was made.
    pub options: LinkOptions,
    /// The streams, in the order of their numbers.
    pub streams: Vec<Sender>,
    /// Bytes, as they were made piece by piece.
    pub wire: Vec<Vec<u8>>,
    /// Everything is announced again, then the last totals.
    pub end: Vec<u8>,
    /// Text of others.
    pub text: String,
    /// Answers.
    pub replies: Vec<String>,
    /// Openings of the port after the first.
    pub reopened: u64,
}

/// Whether a payload is one of its class.
fn fits(class: &EventClass, payload: &[u8]) -> bool {
    let mut rest = payload;
    let whole = class.fields.iter().all(|f| {
        let after = value(&f.ty, rest).map(|(_, after)| after);
        rest = after.unwrap_or_default();
        after.is_some()
    });
    whole && rest.is_empty() && payload.len() <= LONGEST
}

/// A class as kernels have them: tasks that come and go.
fn tasks(u: &mut Unstructured<'_>) -> Result<EventClass> {
    let comm = || FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16);
    let mut fields = vec![Field::new("common_type", FieldType::U16)];
    for who in ["prev", "next", ""] {
        let of = |what: &str| if who.is_empty() { what.into() } else { format!("{who}_{what}") };
        if u.ratio(3, 4)? {
            fields.push(Field::new(of("comm"), comm()));
        }
        for what in ["pid", "prio", "state"] {
            if u.ratio(3, 4)? {
                fields.push(Field::new(of(what), FieldType::I32));
            }
        }
    }
    Ok(EventClass::new("sched:made", fields))
}

/// A class with more fields than a coder may care for.
fn wide(rng: &mut Rng) -> EventClass {
    let fields = (0..rng.usize(200..400)).map(|i| Field::new(format!("f{i}"), FieldType::U16));
    EventClass::new("a:wide", fields.collect())
}

fn class(u: &mut Unstructured<'_>, rng: &mut Rng, n: usize) -> Result<Arc<EventClass>> {
    let class = match u.int_in_range(0..=9)? {
        0..=2 => tasks(u)?,
        3 => wide(rng),
        4 => EventClass::new("a:text", vec![Field::new("text", FieldType::String)]),
        _ => recipe::class(u, n)?,
    };
    ClassRegistry::new().register(class.clone()).expect("a class that a channel takes");
    Ok(Arc::new(class))
}

/// A value of the field: like others that were there, or of any bytes.
fn put(rng: &mut Rng, ty: &FieldType, out: &mut Vec<u8>) {
    match ty {
        FieldType::String => {
            let longest = [8, 8, 8, 100, 5000][rng.usize(0..5)];
            let n = rng.usize(0..longest);
            let few = rng.bool();
            out.extend((0..n).map(|i| if few { b'a' + i as u8 % 5 } else { rng.u8(1..) }));
            out.push(0);
        }
        FieldType::Sequence(element) => {
            let n = if rng.u8(..) == 0 { rng.usize(0..2000) } else { rng.usize(0..7) };
            out.extend((n as u32).to_le_bytes());
            (0..n).for_each(|_| put(rng, element, out));
        }
        FieldType::Array(element, n) => (0..*n).for_each(|_| put(rng, element, out)),
        scalar => {
            let size = scalar.fixed_size().expect("a scalar has one");
            let number = match rng.u8(0..8) {
                0 => rng.u64(..),
                1 => rng.i8(..) as u64,
                2 => [0, u64::MAX, 1 << 63, 1 << 31, 0x7f][rng.usize(0..5)],
                _ => rng.u64(0..6),
            };
            out.extend_from_slice(&number.to_le_bytes()[..size]);
        }
    }
}

fn payload(rng: &mut Rng, class: &EventClass, before: &[Given], place: usize) -> Vec<u8> {
    if rng.u8(0..3) == 0
        && !before.is_empty()
        && let Some(same) = Some(&before[rng.usize(0..before.len())]).filter(|g| g.class == place)
    {
        return same.payload.clone();
    }
    let mut out = Vec::new();
    class.fields.iter().for_each(|f| put(rng, &f.ty, &mut out));
    // No payload of its class.
    match rng.u16(0..400) {
        0 => out.push(7),
        1 => _ = out.pop(),
        2 => out.resize(LONGEST + 1, 7),
        _ => {}
    }
    out
}

/// A link, some streams, records of all kinds, in frames, with all else that a sender does.
///
/// # Errors
/// There is no entropy left.
pub fn sent(u: &mut Unstructured<'_>) -> Result<Sent> {
    let mut rng = Rng::with_seed(u.arbitrary()?);
    let mut options = LinkOptions {
        tick: *u.choose(&[1, 1000, 1, 7, 999, 1_000_000, 65_536])?,
        frame: *u.choose(&[254, 64, 4096, 65, 255, 256, 257, 508, 100])?,
        announce_every: *u.choose(&[10_000_000_000, 0, 1_000_000, u64::MAX])?,
        session: u.arbitrary()?,
        clock_offset: *u.choose(&[1_700_000_000_000_000_000, 0, u64::MAX])?,
        baud: *u.choose(&[115_200, 0, u32::MAX])?,
        mixed: u.arbitrary()?,
    };
    let channels: Vec<Vec<Arc<EventClass>>> = (0..u.int_in_range(1..=2)?)
        .map(|_| {
            let classes = (0..u.int_in_range(1..=5)?).map(|n| class(u, &mut rng, n));
            classes.collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    // Such a class before each record is megabytes, and tells nothing new.
    if channels.iter().flatten().any(|c| c.fields.len() > 100) {
        options.announce_every = options.announce_every.max(1_000_000);
    }
    let mut encoder = Encoder::new(options.clone());
    let mut streams = Vec::new();
    for id in 0..u.int_in_range(1..=3)? {
        let (channel, classes) =
            (id as usize % channels.len(), &channels[id as usize % channels.len()]);
        let cpu = *u.choose(&[Some(id), None, Some(u32::MAX)])?;
        let who = LinkStream { channel: format!("channel é {channel}"), id, cpu };
        assert_eq!(encoder.stream(who.clone()), id, "they are numbered in order");
        streams.push(Sender { who, classes: classes.clone(), given: Vec::new() });
    }
    let mut this = Sent {
        options,
        streams,
        wire: Vec::new(),
        end: Vec::new(),
        text: String::new(),
        replies: Vec::new(),
        reopened: 0,
    };
    let mut now = *u.choose(&[5_000_000_000, 0, 1 << 50])?;
    // Whether the sender has said something yet; others may have.
    let (mut said, mut bytes) = (false, 0);
    for _ in 0..u.int_in_range(1..=24)? {
        let (mut out, mut is_text) = (Vec::new(), false);
        match u.int_in_range(0..=15)? {
            0 => encoder.due(now, &mut out),
            1 => encoder.resync(),
            2 => {
                encoder.reopened();
                this.reopened += u64::from(said);
            }
            3 => {
                let reply = format!("level is {}", rng.u8(..));
                encoder.due(now, &mut out);
                encoder.reply(&reply, &mut out);
                this.replies.push(reply);
            }
            4 if this.options.mixed => {
                let line = LINES[rng.usize(0..LINES.len())];
                out.extend(line.bytes());
                this.text += line;
                is_text = true;
            }
            5 => {
                let place = rng.usize(0..this.streams.len());
                let produced = this.streams[place].given.len() as u64;
                let totals = Totals { produced, ..Totals::default() };
                encoder.totals(place as u32, &totals, false, &mut out);
            }
            _ => {
                let place = rng.usize(0..this.streams.len());
                let most = [3, 20, 100, 400][u.int_in_range(0..=3)?];
                let n = rng.usize(1..=most);
                now = this.give(&mut encoder, &mut rng, (place, n), now, &mut out);
            }
        }
        now += [0, 1000, 1_000_000, 900_000_000, 30_000_000_000][rng.usize(0..5)];
        said |= !out.is_empty() && !is_text;
        bytes += out.len();
        this.wire.push(out);
        if bytes > ENOUGH {
            break;
        }
    }
    encoder.resync();
    for (number, stream) in (0..).zip(&this.streams) {
        let (produced, lost) = (stream.produced(), stream.lost());
        let totals = Totals { produced, lost, ..Totals::default() };
        encoder.totals(number, &totals, true, &mut this.end);
        assert_eq!(encoder.too_big(number), stream.refused(), "what is no payload is told");
    }
    Ok(this)
}

impl Sent {
    /// So many records of a stream, each frame as it comes; gives the time.
    fn give(
        &mut self,
        encoder: &mut Encoder,
        rng: &mut Rng,
        (place, n): (usize, usize),
        mut now: u64,
        out: &mut Vec<u8>,
    ) -> u64 {
        let stream = &mut self.streams[place];
        let from = stream.given.len();
        let far = rng.u8(0..4) == 0;
        let mut time = now.max(stream.given.last().map_or(0, |g| g.time));
        let mut bytes = 0;
        for _ in 0..n {
            time += match rng.u8(0..12) {
                0 => 0,
                1 if far => rng.u64(0..1 << 36),
                2 => rng.u64(0..1_000_000),
                _ => rng.u64(0..5000),
            };
            let class = rng.usize(0..stream.classes.len());
            let payload = payload(rng, &stream.classes[class], &stream.given, class);
            bytes += payload.len();
            let lost_before = if rng.u8(0..16) == 0 { rng.u64(0..100) } else { 0 };
            stream.given.push(Given { class, time, payload, lost_before });
            // A slow test is run less often.
            if bytes > 100_000 {
                break;
            }
        }
        now = time + rng.u64(0..10_000_000);
        let records: Vec<LinkRecord<'_>> = stream.given[from..]
            .iter()
            .map(|g| LinkRecord {
                time: g.time,
                class: g.class,
                payload: &g.payload,
                lost_before: g.lost_before,
            })
            .collect();
        let mut at = 0;
        while at < records.len() {
            let before = out.len();
            let taken = encoder.frame(place as u32, now, &stream.classes, &records[at..], out);
            assert!(taken > 0 && at + taken <= records.len(), "{taken} of {}", records.len() - at);
            for part in out[before..].split_inclusive(|b| *b == 0) {
                assert!(part.len() <= self.options.frame, "a frame of {} bytes", part.len());
            }
            at += taken;
        }
        now
    }

    /// All that lies on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.wire.concat()[..], &self.end].concat()
    }

    /// A line that loses nothing: what arrives is what was sent, and all else is told.
    ///
    /// # Panics
    /// It is not.
    pub fn arrives_whole(&self, cuts: &mut Rng) {
        let (arrived, health) = fed(&self.bytes(), cuts);
        assert_eq!((health.damaged, health.damaged_bytes, health.strange), (0, 0, 0), "{health:?}");
        assert_eq!((health.waiting, health.given_up), (0, 0), "{health:?}");
        assert_eq!(health.text, self.text.len() as u64);
        assert_eq!(String::from_utf8_lossy(&arrived.text), self.text);
        assert_eq!(arrived.replies, self.replies);
        // A full dictionary is a new generation, too.
        assert!(health.generations >= self.reopened.min(1), "{health:?}");
        for session in &arrived.sessions {
            let LinkOptions { session: id, tick, clock_offset, baud, .. } = self.options;
            let told = (session.id, session.tick, session.clock_offset, session.baud);
            assert_eq!(told, (id, tick, clock_offset, baud));
        }
        let mut of = by_stream(&arrived);
        for (number, stream) in (0..).zip(&self.streams) {
            let (number, records) = (number, of.remove(&number).unwrap_or_default());
            let known = arrived.streams.iter().find(|(n, _)| *n == number);
            assert_eq!(known.map(|(_, who)| who), Some(&stream.who));
            let good: Vec<&Given> = stream.good().collect();
            assert_eq!(records.len(), good.len(), "records of stream {number}");
            for (came, given) in records.iter().zip(good) {
                self.same(&arrived, stream, came, given);
            }
            let missing = self.missing(&arrived, number);
            let ring = stream.lost() + stream.refused();
            assert_eq!(missing, Missing { ring, ..Missing::default() }, "stream {number}");
            let last = arrived.totals.iter().rfind(|(n, ..)| *n == number).expect("they are told");
            let totals = Totals { produced: stream.produced(), lost: ring, ..Totals::default() };
            assert_eq!((last.1, last.2), (totals, true));
        }
        assert!(of.is_empty(), "streams that were not sent");
    }

    /// A line that damages: what arrives was sent, in order, and each stream's books are exact
    /// once its last totals have come.
    ///
    /// # Panics
    /// They are not.
    pub fn arrives_in_part(&self, bytes: &[u8], cuts: &mut Rng) {
        // What is torn ends here.
        let bytes = [bytes, &[0], &self.end].concat();
        let (arrived, _) = fed(&bytes, cuts);
        let of = by_stream(&arrived);
        for (number, stream) in (0..).zip(&self.streams) {
            let mut left = stream.good();
            for came in of.get(&number).into_iter().flatten() {
                let found = left.any(|given| {
                    came.time == given.time / self.options.tick * self.options.tick
                        && came.payload == given.payload
                        && *class_of(&arrived, came) == stream.classes[given.class]
                });
                assert!(found, "a record that was not sent, or out of its order: {came:?}");
            }
            let Missing { ring, line, before } = self.missing(&arrived, number);
            let records = of.get(&number).map_or(0, Vec::len) as u64;
            let all = (records, ring, line, before);
            assert_eq!(records + ring + line + before, stream.produced(), "{number}: {all:?}");
        }
        assert!(of.keys().all(|n| (*n as usize) < self.streams.len()));
    }

    fn same(&self, arrived: &Arrived, stream: &Sender, came: &ArrivedRecord, given: &Given) {
        assert_eq!(came.time, given.time / self.options.tick * self.options.tick);
        let class = &stream.classes[given.class];
        assert_eq!(class_of(arrived, came), class);
        assert_eq!(came.payload, given.payload, "{}", class.name);
    }

    fn missing(&self, arrived: &Arrived, number: u32) -> Missing {
        let mut sum = Missing::default();
        for (_, m, _) in arrived.missing.iter().filter(|(n, ..)| *n == number) {
            sum.ring += m.ring;
            sum.line += m.line;
            sum.before += m.before;
        }
        sum
    }
}

fn class_of<'a>(arrived: &'a Arrived, record: &ArrivedRecord) -> &'a Arc<EventClass> {
    let class = arrived.classes.iter().rfind(|(n, _)| *n == record.class);
    &class.expect("it was announced").1
}

/// Each stream's records, whose times do not go back.
fn by_stream(arrived: &Arrived) -> HashMap<u32, Vec<&ArrivedRecord>> {
    let mut of: HashMap<u32, Vec<&ArrivedRecord>> = HashMap::new();
    for record in &arrived.records {
        let records = of.entry(record.stream).or_default();
        assert!(records.last().is_none_or(|last| last.time <= record.time), "time goes back");
        records.push(record);
    }
    of
}
