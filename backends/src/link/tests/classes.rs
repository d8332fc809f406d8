//! Classes and payloads of every kind come back.

use rbpipe_core::class::Label;

use super::books::Random;
use super::*;

/// Time, class, lost before, payload.
type Sent = (u64, usize, u64, Vec<u8>);

fn scalar(r: &mut Random) -> FieldType {
    let bits = [8, 16, 32, 64][r.below(4) as usize];
    let int = if r.below(2) == 0 { Integer::signed(bits) } else { Integer::unsigned(bits) };
    match r.below(6) {
        0 => FieldType::Float32,
        1 => FieldType::Float64,
        2 => {
            let label = |first, last| Label { name: "label".into(), first, last };
            FieldType::Enumeration(int, vec![label(0, 1), label(2, 100)])
        }
        3 => FieldType::Integer(Integer::CHAR),
        _ => FieldType::Integer(int),
    }
}

fn class(name: String, r: &mut Random) -> EventClass {
    let names = [
        "common_pid",
        "prev_comm",
        "prev_pid",
        "prev_prio",
        "next_comm",
        "next_pid",
        "next_tid",
        "next_prio",
        "comm",
        "pid",
        "tid",
        "x",
        "y",
        "next_x",
        "prev_x",
    ];
    let skip = r.below(4);
    let chosen: Vec<&str> = names.into_iter().filter(|_| r.below(5) >= skip).collect();
    let fields = chosen.into_iter().map(|name| {
        let ty = match r.below(7) {
            0 => FieldType::String,
            1 => FieldType::Sequence(Box::new(scalar(r))),
            2 => {
                let n = [0, 1, 4, 16][r.below(4) as usize];
                FieldType::Array(Box::new(scalar(r)), n)
            }
            3 if name.ends_with("comm") => {
                FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16)
            }
            _ => scalar(r),
        };
        Field::new(name, ty)
    });
    let fields: Vec<Field> = fields.collect();
    EventClass::new(name, fields)
}

fn number(size: usize, r: &mut Random, out: &mut Vec<u8>) {
    let value = match r.below(6) {
        0 => u64::MAX,
        1 => 1 << 63,
        2 => r.0,
        3 => (1 << 31) - r.below(3),
        _ => r.below(5),
    };
    out.extend(&value.to_le_bytes()[..size]);
}

fn value(ty: &FieldType, r: &mut Random, out: &mut Vec<u8>) {
    match ty {
        FieldType::String => {
            let n = [0, 3, 63, 64, 65][r.below(5) as usize];
            out.extend((0..n).map(|_| 1 + r.below(255) as u8 % [2, 255][n % 2]));
            out.push(0);
        }
        FieldType::Array(e, n) => (0..*n).for_each(|_| value(e, r, out)),
        FieldType::Sequence(e) => {
            let n = [0, 1, 7, 70][r.below(4) as usize];
            out.extend((n as u32).to_le_bytes());
            (0..n).for_each(|_| value(e, r, out));
        }
        scalar => number(scalar.fixed_size().unwrap(), r, out),
    }
}

#[test]
fn classes_and_payloads_of_every_kind_come_back() {
    for seed in 1..80u64 {
        let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let tick = [1, 7, 1000, 1_000_000][r.below(4) as usize];
        let frame = [64, 65, 254, 300, 4096][r.below(5) as usize];
        let announce_every = [0, 1, 1_000_000_000, u64::MAX][r.below(4) as usize];
        let options = LinkOptions {
            tick,
            frame,
            announce_every,
            session: r.0,
            clock_offset: u64::MAX,
            baud: u32::MAX,
            mixed: r.below(2) == 0,
        };
        let mut e = Encoder::new(options);
        let streams = [e.stream(who(0)), e.stream(LinkStream { cpu: None, ..who(u32::MAX) })];
        let n = 1 + r.below(40);
        let classes: Vec<_> =
            (0..n).map(|i| Arc::new(class(format!("class-{i}"), &mut r))).collect();
        let mut time = [0, 1 << 40, u64::MAX - (1 << 45)][r.below(3) as usize];
        let start = time;
        let mut sent: [Vec<Sent>; 2] = Default::default();
        for _ in 0..300 {
            time += [0, 1, r.below(1 << 12), r.below(1 << 35)][r.below(4) as usize];
            let class = r.below(r.0 % n + 1) as usize;
            let mut payload = Vec::new();
            for f in &classes[class].fields {
                value(&f.ty, &mut r, &mut payload);
            }
            let lost = if r.below(10) == 0 { r.below(1 << 40) } else { 0 };
            sent[r.below(2) as usize].push((time, class, lost, payload));
        }
        let mut wire = Vec::new();
        // Some of what is sent is older than the link.
        let mut now = if r.below(2) == 0 { start } else { time };
        let mut at = [0, 0];
        let lists: Vec<Vec<LinkRecord<'_>>> = sent
            .iter()
            .map(|sent| {
                sent.iter()
                    .map(|(time, class, lost_before, payload)| LinkRecord {
                        time: *time,
                        class: *class,
                        payload,
                        lost_before: *lost_before,
                    })
                    .collect()
            })
            .collect();
        while at[0] < lists[0].len() || at[1] < lists[1].len() {
            let which = r.below(2) as usize;
            let rest = &lists[which][at[which]..];
            let some = &rest[..rest.len().min(1 + r.below(30) as usize)];
            at[which] += e.frame(streams[which], now, &classes, some, &mut wire);
            now = now.saturating_add(r.below(1 << 31));
        }
        assert!(wire.split_inclusive(|b| *b == 0).all(|p| p.len() <= frame), "seed {seed}");
        for (which, stream) in streams.iter().enumerate() {
            let lost: u64 = sent[which].iter().map(|s| s.2).sum();
            let produced = lost + sent[which].len() as u64;
            let totals = Totals { produced, lost, ..Totals::default() };
            e.totals(*stream, &totals, true, &mut wire);
        }
        let (mut d, mut told) = (Decoder::new(), Told::default());
        d.feed(&wire, &mut told);
        d.end(&mut told);
        let h = d.health();
        assert_eq!((h.strange, h.damaged, h.given_up), (0, 0, 0), "seed {seed}: {h:?}");
        for (which, stream) in streams.iter().enumerate() {
            let got: Vec<_> = told.records.iter().filter(|r| r.0 == *stream).collect();
            assert_eq!(got.len(), sent[which].len(), "seed {seed}");
            for (got, (time, class, _, payload)) in got.iter().zip(&sent[which]) {
                assert_eq!((got.1, &got.2), (time / tick * tick, &classes[*class].name));
                assert_eq!(&got.3, payload, "seed {seed}: {:?}", classes[*class]);
            }
            let m = told.missing.get(stream).copied().unwrap_or_default();
            let lost: u64 = sent[which].iter().map(|s| s.2).sum();
            assert_eq!((m.ring, m.line, m.before), (lost, 0, 0), "seed {seed}");
        }
        for (number, known) in &told.classes {
            assert_eq!(**known, *classes[*number as usize]);
        }
    }
}
