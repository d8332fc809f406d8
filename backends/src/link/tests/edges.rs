//! Where the two halves could disagree, and what a hostile sender may say.

use super::*;

pub(super) fn one(class: usize, time: u64, payload: &[u8]) -> LinkRecord<'_> {
    LinkRecord { time, class, payload, lost_before: 0 }
}

/// What a decoder tells of these bytes.
fn heard(wire: &[u8]) -> (Told, Health) {
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(wire, &mut told);
    d.end(&mut told);
    (told, *d.health())
}

pub(super) fn framed(kind: Kind, rest: &[u8], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    wire::head(kind, wire::Epoch::default(), &mut body);
    body.extend(rest);
    if body.len() < 4000 {
        return wire::frame(&body, false, out);
    }
    for at in (0..body.len()).step_by(4000) {
        let mut piece = Vec::new();
        wire::head(Kind::Piece, wire::Epoch::default(), &mut piece);
        for n in [9, body.len(), at] {
            wire::number(n as u64, &mut piece);
        }
        piece.extend(&body[at..body.len().min(at + 4000)]);
        wire::frame(&piece, false, out);
    }
}

pub(super) fn hello(out: &mut Vec<u8>) {
    framed(Kind::Hello, &[1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], out);
}

#[test]
fn who_is_on_the_cpu_may_have_a_name() {
    let name = FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 4);
    let class = Arc::new(EventClass::new("named", vec![Field::new("common_pid", name)]));
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let mut out = Vec::new();
    for i in 0..3 {
        e.frame(stream, 0, &[Arc::clone(&class)], &[one(0, i * 1000, b"idle")], &mut out);
    }
    let (told, health) = heard(&out);
    assert_eq!((told.records.len(), health.strange), (3, 0));
}

#[test]
fn words_of_many_dictionaries_arrive() {
    // Seven dictionaries of 4000 words are more than a receiver remembers.
    let comm = |n| FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), n);
    let class = |n: u32| {
        let fields = vec![Field::new("comm", comm(n)), Field::new("pid", FieldType::I32)];
        Arc::new(EventClass::new(format!("class-{n}"), fields))
    };
    let classes: Vec<_> = (16..23).map(class).collect();
    let mut e = Encoder::new(LinkOptions { frame: 4096, ..options() });
    let stream = e.stream(who(0));
    let payloads: Vec<(usize, Vec<u8>)> = (0..56_000u32)
        .map(|i| {
            let class = i as usize % 7;
            let mut p = format!("task-{}", i / 7 % 4000).into_bytes();
            p.resize(16 + class, 0);
            p.extend((i / 7 % 4000).to_le_bytes());
            (class, p)
        })
        .collect();
    let records: Vec<_> =
        (0u64..).zip(&payloads).map(|(i, (class, p))| one(*class, i * 1000, p)).collect();
    let (mut at, mut out) = (0, Vec::new());
    while at < records.len() {
        at += e.frame(stream, records[at].time, &classes, &records[at..], &mut out);
    }
    let (told, health) = heard(&out);
    assert_eq!((told.records.len(), health.given_up), (records.len(), 0));
    assert!(told.missing.is_empty());
}

/// Classes whose descriptions a receiver does not take, or that are too many.
fn unwelcome(name: &str, classes: &[Arc<EventClass>], used: impl Iterator<Item = usize>) {
    let mut e = Encoder::new(LinkOptions { frame: 4096, ..options() });
    let stream = e.stream(who(0));
    let (mut out, mut n, mut bytes) = (Vec::new(), 0, 0);
    for class in used {
        // The payload is of zeros, whatever the class is.
        let payload = vec![0; classes[class].fixed_size().unwrap()];
        e.frame(stream, n * 1000, classes, &[one(class, n * 1000, &payload)], &mut out);
        bytes += payload.len();
        n += 1;
    }
    let totals = Totals { produced: n, ..Totals::default() };
    e.totals(stream, &totals, true, &mut out);
    let (mut told, mut d) = (Told::default(), Decoder::new());
    d.feed(&out, &mut told);
    // At once: nothing waits for what never comes.
    assert_eq!((d.health().waiting, d.health().strange), (0, 0), "{name}, {bytes} bytes");
    let m = told.missing.get(&stream).copied().unwrap_or_default();
    assert_eq!(m.ring, e.too_big(stream), "{name}");
    assert_eq!((m.line, m.before), (0, 0), "{name}");
    assert_eq!(told.records.len() as u64 + m.ring, n, "{name}");
    assert!(m.ring > 0 && !told.records.is_empty(), "{name}: {m:?}");
    assert_eq!(told.last[&stream].lost, m.ring, "{name}");
}

#[test]
fn records_whose_class_no_receiver_takes_are_counted_by_the_sender() {
    let none = |name: String| Arc::new(EventClass::new(name, vec![]));
    let wide = |name: &str, n: usize, long: usize| {
        let fields = (0..n).map(|i| Field::new(format!("f{i:0long$}"), FieldType::U8));
        Arc::new(EventClass::new(name, fields.collect()))
    };
    let long = [none("a".into()), wide("long", 1000, 200)];
    unwelcome("a long description", &long, [0, 1, 0].into_iter());
    let fields = [none("a".into()), wide("wide", 9000, 4)];
    unwelcome("many fields", &fields, [0, 1, 0].into_iter());
    let many: Vec<_> = (0..4200).map(|i| none(format!("c{i}"))).collect();
    unwelcome("many classes", &many, (0..4200).chain([0]));
    let heavy: Vec<_> = (0..70).map(|i| wide(&format!("c{i}"), 250, 100)).collect();
    unwelcome("heavy classes", &heavy, (0..70).chain([0]));
}

#[test]
fn a_stream_that_is_one_too_many_loses_what_it_counts() {
    let mut e = Encoder::new(options());
    let mut out = Vec::new();
    let streams: Vec<u32> = (0..4100).map(|i| e.stream(who(i))).collect();
    for stream in [0, 4095, 4096, 4099] {
        e.frame(streams[stream], 0, &classes(), &[one(3, 0, &[])], &mut out);
        e.totals(streams[stream], &Totals { produced: 1, ..Totals::default() }, true, &mut out);
    }
    let (told, health) = heard(&out);
    assert_eq!((told.records.len(), health.strange, health.given_up), (2, 0, 0));
    assert_eq!((e.too_big(0), e.too_big(4095), e.too_big(4096), e.too_big(4099)), (0, 0, 1, 1));
}

#[test]
fn what_a_class_makes_of_a_few_bytes_is_bounded() {
    // Many fields in one column: a record of zeros makes 64 KiB of each.
    let mut class = Vec::new();
    wire::text(b"big", &mut class);
    class.push(0);
    let n = 8_000u64;
    wire::number(n, &mut class);
    for i in 0..n {
        wire::text(format!("f{i}").as_bytes(), &mut class);
        class.push(5);
        wire::number(1 << 16, &mut class);
        class.extend([0, 8, 0]);
    }
    let mut wire = Vec::new();
    hello(&mut wire);
    framed(Kind::Stream, &[0, 1, 0, 1, b'a'], &mut wire);
    let mut say = vec![0];
    say.extend(&class);
    say.push(1);
    wire::number(n, &mut say);
    say.extend([1, 0, 0]);
    framed(Kind::Class, &say, &mut wire);
    // The first class, no ticks, a spelt word.
    let mut data = vec![0, 0, 0, 0, 1];
    data.extend([0; 4]);
    framed(Kind::Data, &data, &mut wire);
    let (told, health) = heard(&wire);
    assert!(told.records.is_empty());
    assert!(health.strange > 0);
    assert!(told.classes.is_empty(), "a receiver takes no class of {n} fields");
}

#[test]
fn names_of_streams_are_bounded() {
    let mut wire = Vec::new();
    hello(&mut wire);
    let mut say = vec![0, 1, 0];
    wire::text(&[b'a'; 100_000], &mut say);
    framed(Kind::Stream, &say, &mut wire);
    let (told, health) = heard(&wire);
    assert!(told.streams.is_empty() && health.strange == 1);
    // A sender says no more of a name than is taken.
    let mut e = Encoder::new(options());
    let stream = e.stream(LinkStream { channel: "é".repeat(400), ..who(0) });
    let mut out = Vec::new();
    e.frame(stream, 0, &classes(), &[one(3, 0, &[])], &mut out);
    let (told, _) = heard(&out);
    assert_eq!(told.records.len(), 1);
    assert!(told.streams[&0].channel.starts_with("éé"));
}

#[test]
fn fields_that_take_no_bytes_do_not_go_on_for_ever() {
    let nothing = FieldType::Array(Box::new(FieldType::U8), 0);
    let fields = (0..256).map(|i| Field::new(format!("f{i}"), nothing.clone())).collect();
    let class = Arc::new(EventClass::new("nothing", fields));
    let mut e = Encoder::new(LinkOptions { frame: 4096, ..options() });
    let stream = e.stream(who(0));
    let records: Vec<_> = (0..1000).map(|_| one(0, 0, &[])).collect();
    let (mut at, mut out) = (0, Vec::new());
    while at < records.len() {
        let taken = e.frame(stream, 0, &[Arc::clone(&class)], &records[at..], &mut out);
        assert!(taken * 258 <= 65_536, "{taken}");
        at += taken;
    }
    let (told, health) = heard(&out);
    assert_eq!((told.records.len(), health.strange), (1000, 0));
    // One that keeps to no bound.
    let mut wire = Vec::new();
    hello(&mut wire);
    framed(Kind::Stream, &[0, 1, 0, 1, b'a'], &mut wire);
    let mut body = Vec::new();
    for piece in out.split(|b| *b == 0) {
        if !wire::unframe(piece, &mut body) {
            continue;
        }
        match wire::read_head(&body) {
            Some((Kind::Class, _, rest)) => framed(Kind::Class, rest, &mut wire),
            // Stream, base, sent and lost before, the count, and zeros that go on for ever.
            Some((Kind::Data, _, rest)) if rest[..6] == [0, 0, 0, 0, 0xfe, 1] => {
                framed(Kind::Data, rest, &mut wire);
                let mut more = rest.to_vec();
                more[4] = 0xff;
                more.splice(2..3, [0xfe, 1]);
                framed(Kind::Data, &more, &mut wire);
            }
            _ => {}
        }
    }
    let (told, health) = heard(&wire);
    assert_eq!((told.records.len(), health.strange), (254, 1));
}

#[test]
fn the_largest_numbers_everywhere_do_no_harm() {
    let mut r = super::books::Random(77);
    let mut e = Encoder::new(LinkOptions { session: 1, announce_every: 1, ..options() });
    let (a, b) = (e.stream(who(0)), e.stream(who(1)));
    let mut wire = Vec::new();
    send(&mut e, a, &records(200, 9), &mut wire);
    send(&mut e, b, &records(60, 8), &mut wire);
    let mut end = Vec::new();
    for last in [false, true] {
        e.totals(a, &Totals { produced: 200, ..Totals::default() }, last, &mut end);
    }
    wire.push(end);
    let mut bodies = Vec::new();
    for piece in wire.concat().split(|b| *b == 0) {
        let mut body = Vec::new();
        if wire::unframe(piece, &mut body) {
            bodies.push(body);
        }
    }
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for round in 0..3000 {
        let (mut d, mut told) = (Decoder::new(), Nothing);
        for body in &bodies {
            let mut body = body.clone();
            if r.below(4) == 0 {
                // A number of one byte or more becomes the largest, or nearly.
                let at = 2 + r.below(body.len().min(30) as u64 - 2) as usize;
                let end = (at + 1 + r.below(3) as usize).min(body.len());
                let mut number = most;
                number[0] -= r.below(3) as u8;
                body.splice(at..end, number);
            }
            let mut out = Vec::new();
            wire::frame(&body, false, &mut out);
            d.feed(&out, &mut told);
        }
        d.end(&mut told);
        assert_eq!(d.health().waiting, 0, "{round}");
    }
}
