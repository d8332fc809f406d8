//! Frames that are lost, damaged, doubled and held, openings and senders that change: the books
//! of every stream are exact in the end.

use std::collections::HashMap;

use super::*;

/// A receiver that adds up.
#[derive(Default)]
struct Books {
    session: Option<u64>,
    /// How often a session or an opening was told.
    told: u32,
    streams: HashMap<u32, Tally>,
}

#[derive(Default)]
struct Tally {
    records: Vec<(u64, Vec<u8>)>,
    missing: Missing,
    last: Vec<Totals>,
}

impl Receive for Books {
    fn session(&mut self, session: &Session) {
        self.told += 1;
        if self.session.replace(session.id) != Some(session.id) {
            self.streams.clear();
        }
    }
    fn stream(&mut self, number: u32, _: &LinkStream) {
        assert!(self.streams.insert(number, Tally::default()).is_none(), "told twice");
    }
    fn record(&mut self, r: Received<'_>) {
        let tally = self.streams.get_mut(&r.stream).unwrap();
        assert!(tally.last.is_empty(), "a record behind the end");
        tally.records.push((r.time, r.payload.into()));
    }
    fn missing(&mut self, stream: u32, m: Missing) {
        let sum = &mut self.streams.get_mut(&stream).unwrap().missing;
        sum.ring += m.ring;
        sum.line += m.line;
        sum.before += m.before;
    }
    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        if last {
            self.streams.get_mut(&stream).unwrap().last.push(*totals);
        }
    }
}

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

struct Faults {
    lost: u64,
    damaged: u64,
    doubled: u64,
}

/// One stream at the sender.
#[derive(Default)]
struct Sent {
    records: HashMap<u64, Vec<u8>>,
    totals: Totals,
}

struct Sender {
    encoder: Encoder,
    streams: Vec<Sent>,
}

impl Sender {
    fn new(session: u64, streams: u32) -> Self {
        let options = LinkOptions { session, announce_every: 3_000_000_000, ..options() };
        let mut encoder = Encoder::new(options);
        let streams = (0..streams).map(|i| {
            encoder.stream(who(i));
            Sent::default()
        });
        let streams = streams.collect();
        Self { encoder, streams }
    }

    /// Sends up to `n` records of a stream.
    fn send(&mut self, stream: u32, n: u64, now: &mut u64, r: &mut Random, out: &mut Vec<u8>) {
        let sent = &mut self.streams[stream as usize];
        let made: Vec<(u64, usize, u64, Vec<u8>)> = (0..n)
            .map(|_| {
                *now += 1000 * (1 + r.below(30_000));
                let lost = if r.below(20) == 0 { r.below(50) } else { 0 };
                let class = [0, 0, 0, 1, 2, 3][r.below(6) as usize];
                let payload = match r.below(300) {
                    // Too big, or none of its class.
                    0 => vec![7; 70_000],
                    _ => payload(class, r.below(1 << 16)),
                };
                sent.totals.lost += lost / 2;
                sent.totals.overwritten += lost - lost / 2;
                sent.totals.produced += 1 + lost;
                sent.records.insert(*now, payload.clone());
                (*now, class, lost, payload)
            })
            .collect();
        let list: Vec<LinkRecord<'_>> = made
            .iter()
            .map(|(time, class, lost_before, payload)| LinkRecord {
                time: *time,
                class: *class,
                payload,
                lost_before: *lost_before,
            })
            .collect();
        let (classes, mut at) = (classes(), 0);
        while at < list.len() {
            at += self.encoder.frame(stream, list[at].time, &classes, &list[at..], out);
        }
    }
}

/// A run: what the receiver's books say against the sender's.
fn run(seed: u64, faults: &Faults) {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut d, mut books) = (Decoder::new(), Books::default());
    let mut now = 77_000_000_000;
    let (mut session, streams) = (seed, 1 + r.below(3) as u32);
    let mut sender = Sender::new(session, streams);
    // Who joins late misses the beginning.
    let late = if r.below(3) == 0 { r.below(30) } else { 0 };
    let steps = 30 + r.below(60);
    for step in 0..steps {
        let mut out = Vec::new();
        let stream = r.below(streams.into()) as u32;
        match r.below(40) {
            0 => sender.encoder.reopened(),
            1 => sender.encoder.resync(),
            2 if r.below(3) == 0 => {
                session += 1 << 32;
                sender = Sender::new(session, streams);
            }
            3..8 => {
                let totals = sender.streams[stream as usize].totals;
                sender.encoder.totals(stream, &totals, false, &mut out);
            }
            8 => {
                // Lost, and nothing comes behind it for now.
                let totals = &mut sender.streams[stream as usize].totals;
                totals.aborted += 1;
                totals.produced += 1;
            }
            _ => {
                let n = 1 + r.below(100);
                sender.send(stream, n, &mut now, &mut r, &mut out);
            }
        }
        sender.encoder.due(now, &mut out);
        for piece in out.split_inclusive(|b| *b == 0) {
            let mut piece = piece.to_vec();
            if step < late || r.below(1000) < faults.lost {
                continue;
            }
            if r.below(1000) < faults.damaged {
                let at = r.below(piece.len() as u64) as usize;
                piece[at] ^= 1 << r.below(8);
            }
            if r.below(1000) < faults.doubled {
                d.feed(&piece, &mut books);
            }
            d.feed(&piece, &mut books);
        }
    }
    let mut out = vec![0];
    for _ in 0..3 {
        for stream in 0..streams {
            let totals = &mut sender.streams[stream as usize].totals;
            sender.encoder.totals(stream, totals, true, &mut out);
        }
    }
    d.feed(&out, &mut books);
    d.end(&mut books);
    assert_eq!(books.session, Some(session), "seed {seed}");
    for (number, sent) in sender.streams.iter().enumerate() {
        let Some(got) = books.streams.get(&(number as u32)) else {
            panic!("seed {seed}: stream {number} is not known");
        };
        assert_eq!(got.last.len(), 1, "seed {seed}: the end is told once");
        assert!(got.records.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}: the order");
        for (time, payload) in &got.records {
            assert_eq!(sent.records.get(time), Some(payload), "seed {seed}");
        }
        let (m, t) = (got.missing, sent.totals);
        let sum = got.records.len() as u64 + m.ring + m.line + m.before + t.aborted;
        assert_eq!(sum, t.produced, "seed {seed}, stream {number}: {m:?} {t:?}");
        if late == 0 && faults.lost + faults.damaged + faults.doubled == 0 {
            let lost = t.lost + t.overwritten + sender.encoder.too_big(number as u32);
            assert_eq!((m.ring, m.line, m.before), (lost, 0, 0), "seed {seed}");
        }
    }
}

#[test]
fn books_are_exact_without_faults() {
    (1..150).for_each(|seed| run(seed, &Faults { lost: 0, damaged: 0, doubled: 0 }));
}

#[test]
fn books_are_exact_with_lost_and_damaged_frames() {
    (1..300).for_each(|seed| run(seed, &Faults { lost: seed % 100, damaged: 50, doubled: 0 }));
}

#[test]
fn books_are_exact_with_doubled_frames() {
    (1..300).for_each(|seed| run(seed, &Faults { lost: 20, damaged: 10, doubled: 30 }));
}
