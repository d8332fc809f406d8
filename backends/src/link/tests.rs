//! Both halves together.

use std::collections::HashMap;
use std::sync::Arc;

use rbpipe_core::class::{EventClass, Field, FieldType, Integer};

use super::wire::Kind;
use super::*;

mod books;
mod classes;
mod edges;
mod openings;
mod waiting;

/// Everything that a decoder tells.
#[derive(Default)]
pub(super) struct Told {
    pub(super) sessions: Vec<Session>,
    pub(super) streams: HashMap<u32, LinkStream>,
    pub(super) classes: HashMap<u32, Arc<EventClass>>,
    /// Stream, time, class's name, payload.
    pub(super) records: Vec<(u32, u64, String, Vec<u8>)>,
    pub(super) missing: HashMap<u32, Missing>,
    pub(super) last: HashMap<u32, Totals>,
    pub(super) text: Vec<u8>,
    pub(super) replies: Vec<String>,
}

impl Receive for Told {
    fn session(&mut self, session: &Session) {
        self.sessions.push(*session);
    }
    fn stream(&mut self, number: u32, stream: &LinkStream) {
        assert!(self.streams.insert(number, stream.clone()).is_none());
    }
    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        assert!(self.classes.insert(number, Arc::clone(class)).is_none());
    }
    fn record(&mut self, r: Received<'_>) {
        assert!(self.streams.contains_key(&r.stream));
        let name = self.classes[&r.class].name.clone();
        self.records.push((r.stream, r.time, name, r.payload.into()));
    }
    fn missing(&mut self, stream: u32, m: Missing) {
        let sum = self.missing.entry(stream).or_default();
        sum.ring += m.ring;
        sum.line += m.line;
        sum.before += m.before;
    }
    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        if last {
            self.last.insert(stream, *totals);
        }
    }
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend(bytes);
    }
    fn reply(&mut self, line: &str) {
        self.replies.push(line.into());
    }
}

fn options() -> LinkOptions {
    LinkOptions {
        tick: 1000,
        frame: 254,
        announce_every: 10_000_000_000,
        session: 77,
        clock_offset: 1_700_000_000_000_000_000,
        baud: 115_200,
        mixed: false,
    }
}

fn classes() -> Vec<Arc<EventClass>> {
    let comm = || FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16);
    let f = Field::new;
    let switch = vec![
        f("prev_comm", comm()),
        f("prev_pid", FieldType::I32),
        f("prev_state", FieldType::I64),
        f("next_comm", comm()),
        f("next_pid", FieldType::I32),
    ];
    let line = vec![
        f("line", FieldType::String),
        f("bytes", FieldType::Sequence(Box::new(FieldType::U8))),
    ];
    let odd =
        vec![f("x", FieldType::Float64), f("a", FieldType::Sequence(Box::new(FieldType::I32)))];
    [("switch", switch), ("line", line), ("odd", odd), ("none", vec![])]
        .map(|(name, fields)| Arc::new(EventClass::new(name, fields)))
        .into()
}

/// A payload of the class at this place.
fn payload(class: usize, x: u64) -> Vec<u8> {
    let mut out = Vec::new();
    match class {
        0 => {
            for n in [x % 7, x / 7 % 7] {
                let mut comm = format!("task-{n}").into_bytes();
                comm.resize(16, 0);
                out.extend(comm);
                out.extend((n as i32 * 100).to_le_bytes());
                if out.len() == 20 {
                    out.extend((x as i64 % 3 - 1).to_le_bytes());
                }
            }
        }
        1 => {
            let text =
                if x.is_multiple_of(3) { "the same".into() } else { format!("line {x} of many") };
            out.extend(text.bytes().chain([0]));
            out.extend((x as u32 % 9).to_le_bytes());
            out.extend((0..x % 9).map(|i| (x >> i) as u8));
        }
        2 => {
            out.extend((x as f64 / 3.0).to_le_bytes());
            out.extend((x as u32 % 4).to_le_bytes());
            out.extend((0..x % 4).flat_map(|i| (x as i32).wrapping_mul(i as i32).to_le_bytes()));
        }
        _ => {}
    }
    out
}

/// Records of one stream: class, time, payload.
fn records(n: u64, seed: u64) -> Vec<(usize, u64, Vec<u8>)> {
    let mut x = seed | 1;
    let mut time = 5_000_000_000;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            time += (x >> 20) % 100_000;
            let class = [0, 0, 0, 1, 2, 3][(x >> 40) as usize % 6];
            (class, time, payload(class, x >> 8 & 0xffff))
        })
        .collect()
}

fn send(e: &mut Encoder, stream: u32, all: &[(usize, u64, Vec<u8>)], out: &mut Vec<Vec<u8>>) {
    let classes = classes();
    let all: Vec<LinkRecord<'_>> = all
        .iter()
        .map(|(class, time, payload)| LinkRecord {
            time: *time,
            class: *class,
            payload,
            lost_before: 0,
        })
        .collect();
    let mut at = 0;
    while at < all.len() {
        let mut bytes = Vec::new();
        at += e.frame(stream, all[at].time, &classes, &all[at..], &mut bytes);
        out.push(bytes);
    }
}

fn who(id: u32) -> LinkStream {
    LinkStream { channel: "trace".into(), id, cpu: Some(id) }
}

#[test]
fn all_arrives_as_it_was_sent() {
    for (tick, frame, mixed) in [(1, 254, false), (1000, 64, true), (7, 4096, false)] {
        let mut e = Encoder::new(LinkOptions { tick, frame, mixed, ..options() });
        let (a, b) = (e.stream(who(0)), e.stream(who(1)));
        let (for_a, for_b) = (records(3000, 1), records(2000, 2));
        let mut wire = Vec::new();
        for (x, y) in for_a.chunks(300).zip(for_b.chunks(200)) {
            send(&mut e, a, x, &mut wire);
            send(&mut e, b, y, &mut wire);
        }
        let totals = Totals { produced: 3000, ..Totals::default() };
        let mut end = Vec::new();
        e.totals(a, &totals, true, &mut end);
        e.totals(b, &Totals { produced: 2005, lost: 5, ..totals }, true, &mut end);
        e.reply("well then", &mut end);
        wire.push(end);
        for part in wire.iter().flat_map(|w| w.split_inclusive(|b| *b == 0)) {
            assert!(part.len() <= frame, "a frame of {} bytes", part.len());
        }
        let (mut d, mut told) = (Decoder::new(), Told::default());
        for bytes in wire.concat().chunks(37) {
            d.feed(bytes, &mut told);
        }
        d.end(&mut told);
        assert_eq!(d.health().strange + d.health().damaged + d.health().given_up, 0);
        for (stream, sent) in [(a, for_a), (b, for_b)] {
            let got: Vec<_> =
                told.records.iter().filter(|r| r.0 == stream).map(|r| (&r.2, r.1, &r.3)).collect();
            let names = classes();
            let sent: Vec<_> =
                sent.iter().map(|(c, t, p)| (&names[*c].name, t / tick * tick, p)).collect();
            assert_eq!(got.len(), sent.len());
            assert!(got == sent, "tick {tick}");
        }
        assert_eq!(told.missing.get(&a), None);
        assert_eq!(told.missing[&b], Missing { ring: 5, ..Missing::default() });
        assert_eq!(told.last.len(), 2);
        assert_eq!(told.replies, ["well then"]);
        assert_eq!(told.sessions.len(), 1);
        assert_eq!(*told.classes[&0], *classes()[0]);
    }
}

#[test]
fn losses_are_counted_wherever_they_are() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let sent = records(2000, 3);
    let mut wire = Vec::new();
    let classes = classes();
    let all: Vec<LinkRecord<'_>> = (0u64..)
        .zip(&sent)
        .map(|(i, (class, time, payload))| {
            let lost_before = if i % 37 == 5 { i } else { 0 };
            LinkRecord { time: *time, class: *class, payload, lost_before }
        })
        .collect();
    let ring: u64 = all.iter().map(|r| r.lost_before).sum();
    let mut at = 0;
    while at < all.len() {
        let mut bytes = Vec::new();
        at += e.frame(stream, all[at].time, &classes, &all[at..], &mut bytes);
        wire.push(bytes);
    }
    let mut end = Vec::new();
    let totals = Totals { produced: 2000 + ring + 9, lost: ring + 9, ..Totals::default() };
    e.totals(stream, &totals, true, &mut end);
    // Every fifth frame is lost, the last of all among them.
    wire.reverse();
    let (mut d, mut told) = (Decoder::new(), Told::default());
    for (i, bytes) in wire.iter().enumerate().rev() {
        if i % 5 != 0 {
            d.feed(bytes, &mut told);
        }
    }
    d.feed(&end, &mut told);
    d.end(&mut told);
    let m = told.missing[&stream];
    assert_eq!(told.records.len() as u64 + m.line, 2000);
    assert!(m.line > 200);
    assert_eq!((m.ring, m.before), (ring + 9, 0));
}

#[test]
fn who_joins_late_decodes_after_one_period_and_at_once_after_resync() {
    for resync in [false, true] {
        let mut e = Encoder::new(options());
        let stream = e.stream(who(0));
        // Half a minute, a record a millisecond.
        let sent: Vec<_> = (0..30_000u64)
            .map(|i| (0, i * 1_000_000, payload(0, (i * 2_654_435_761) >> 8 & 0xffff)))
            .collect();
        let (early, late) = sent.split_at(12_000);
        let mut wire = Vec::new();
        send(&mut e, stream, early, &mut wire);
        let (mut d, mut told) = (Decoder::new(), Told::default());
        if resync {
            e.resync();
        }
        wire.clear();
        send(&mut e, stream, late, &mut wire);
        let begin = late[0].1;
        let mut since = None;
        for bytes in &wire {
            d.feed(bytes, &mut told);
            if let Some(last) = told.records.last()
                && d.health().waiting == 0
            {
                since.get_or_insert(last.1 - begin);
            }
        }
        d.end(&mut told);
        let limit = if resync { 200_000_000 } else { 10_000_000_000 };
        assert!(since.is_some_and(|s| s <= limit), "{since:?}");
        let m = told.missing[&stream];
        assert_eq!(told.records.len() as u64 + m.line + m.before, 30_000);
        assert_eq!(m.line, 0);
        if resync {
            assert_eq!(m.before, 12_000);
        }
    }
}

#[test]
fn a_new_opening_goes_on_and_a_new_sender_begins_anew() {
    let (mut d, mut told) = (Decoder::new(), Told::default());
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let sent = records(900, 4);
    let mut wire = Vec::new();
    send(&mut e, stream, &sent[..300], &mut wire);
    e.reopened();
    send(&mut e, stream, &sent[300..600], &mut wire);
    d.feed(&wire.concat(), &mut told);
    assert_eq!(told.records.len(), 600);
    assert_eq!((told.sessions.len(), told.streams.len(), d.health().generations), (2, 1, 1));
    let mut other = Encoder::new(LinkOptions { session: 78, ..options() });
    let stream = other.stream(who(3));
    wire.clear();
    send(&mut other, stream, &sent[600..], &mut wire);
    told.streams.clear();
    told.classes.clear();
    d.feed(&wire.concat(), &mut told);
    d.end(&mut told);
    assert_eq!(told.records.len(), 900);
    assert_eq!(told.sessions[2].id, 78);
    assert!(told.missing.is_empty());
}

#[test]
fn records_longer_than_a_frame_arrive_and_those_that_are_too_long_are_counted() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let classes = classes();
    let text = |n: usize| {
        let mut p: Vec<u8> = (0..n).map(|i| b'!' + (i * i % 90) as u8).collect();
        p.push(0);
        p.extend(0u32.to_le_bytes());
        p
    };
    let payloads = [text(10), text(60_000), text(70_000), text(300), vec![1, 2], text(20)];
    let records: Vec<LinkRecord<'_>> = payloads
        .iter()
        .map(|payload| LinkRecord { time: 0, class: 1, payload, lost_before: 0 })
        .collect();
    let (mut at, mut out) = (0, Vec::new());
    while at < records.len() {
        at += e.frame(stream, 0, &classes, &records[at..], &mut out);
    }
    assert_eq!(e.too_big(stream), 2);
    e.totals(stream, &Totals { produced: 6, ..Totals::default() }, true, &mut out);
    assert!(out.split(|b| *b == 0).all(|p| p.len() < 254));
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&out, &mut told);
    d.end(&mut told);
    let got: Vec<&Vec<u8>> = told.records.iter().map(|r| &r.3).collect();
    assert_eq!(got, [&payloads[0], &payloads[1], &payloads[3], &payloads[5]]);
    assert_eq!(told.missing[&stream], Missing { ring: 2, ..Missing::default() });
    assert_eq!(told.last[&stream].lost, 2);
}

#[test]
fn a_full_dictionary_begins_a_new_generation() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let sent: Vec<_> = (0..20_000u64)
        .map(|i| {
            let mut p = format!("name {}", i / 2 % 6000).into_bytes();
            p.push(0);
            p.extend(0u32.to_le_bytes());
            (1, i * 1000, p)
        })
        .collect();
    let mut wire = Vec::new();
    send(&mut e, stream, &sent, &mut wire);
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&wire.concat(), &mut told);
    d.end(&mut told);
    assert!(told.sessions.len() > 1);
    assert!(told.missing.is_empty());
    let got: Vec<&Vec<u8>> = told.records.iter().map(|r| &r.3).collect();
    assert!(got.iter().zip(&sent).all(|(a, (_, _, b))| *a == b) && got.len() == sent.len());
}

#[test]
fn noise_and_damage_neither_panic_nor_are_believed() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let mut wire = Vec::new();
    send(&mut e, stream, &records(3000, 9), &mut wire);
    let sent: std::collections::HashSet<_> =
        records(3000, 9).into_iter().map(|r| (r.1 / 1000 * 1000, r.2)).collect();
    let wire = wire.concat();
    let mut x = 88_172_645_463_325_252u64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    for _ in 0..200 {
        let mut bytes = wire.clone();
        for _ in 0..next() % 60 {
            let at = next() as usize % bytes.len();
            match next() % 3 {
                0 => bytes[at] ^= 1 << (next() % 8),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, next() as u8),
            }
        }
        let (mut d, mut told) = (Decoder::new(), Told::default());
        d.feed(&bytes, &mut told);
        d.end(&mut told);
        assert!(told.records.iter().all(|r| sent.contains(&(r.1, r.3.clone()))));
    }
}

#[test]
fn valid_frames_of_nonsense_do_no_harm() {
    let mut x = 0x2545_f491_4f6c_dd1du64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let mut wire = Vec::new();
    send(&mut e, stream, &records(300, 9), &mut wire);
    let wire = wire.concat();
    let bodies: Vec<Vec<u8>> = wire
        .split(|b| *b == 0)
        .map(|piece| {
            let mut body = Vec::new();
            wire::unframe(piece, &mut body);
            body
        })
        .filter(|b| !b.is_empty())
        .collect();
    let (mut d, mut told) = (Decoder::new(), Nothing);
    for _ in 0..30_000 {
        let mut body = bodies[next() as usize % bodies.len()].clone();
        for _ in 0..next() % 4 {
            let at = next() as usize % body.len();
            body[at] = next() as u8;
        }
        let mut out = Vec::new();
        wire::frame(&body, false, &mut out);
        d.feed(&out, &mut told);
    }
    d.end(&mut told);
    assert!(d.health().strange > 1000, "{:?}", d.health());
}

struct Nothing;
impl Receive for Nothing {
    fn record(&mut self, _: Received<'_>) {}
}
