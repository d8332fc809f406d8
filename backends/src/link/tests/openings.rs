//! Openings, ends and late receivers.

use super::*;

#[test]
fn a_doubled_frame_is_no_new_opening() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let mut wire = Vec::new();
    send(&mut e, stream, &records(300, 4), &mut wire);
    let last = wire.concat();
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&last, &mut told);
    // The last frame comes again, then more, then the end: there is no HELLO any more.
    let doubled = wire.last().unwrap().clone();
    d.feed(&doubled, &mut told);
    let mut more = records(320, 4).split_off(300);
    more.iter_mut().for_each(|r| r.1 = r.1.max(5_000_000_000));
    wire.clear();
    send(&mut e, stream, &more, &mut wire);
    d.feed(&wire.concat(), &mut told);
    let mut end = Vec::new();
    e.totals(stream, &Totals { produced: 320, ..Totals::default() }, true, &mut end);
    d.feed(&end, &mut told);
    d.end(&mut told);
    assert_eq!((told.records.len(), told.sessions.len(), d.health().generations), (320, 1, 0));
    assert!(told.missing.is_empty() && told.last.len() == 1);
}

#[test]
fn the_end_is_told_though_its_first_frames_are_lost() {
    // An opening whose HELLO and announcements are lost, and that ends at once.
    for skip in 0..4 {
        let mut e = Encoder::new(options());
        let stream = e.stream(who(0));
        let mut wire = Vec::new();
        send(&mut e, stream, &records(30, 4), &mut wire);
        e.reopened();
        send(&mut e, stream, &records(60, 4)[30..], &mut wire);
        let idle = e.stream(who(1));
        let mut end = Vec::new();
        for _ in 0..3 {
            e.totals(stream, &Totals { produced: 60, ..Totals::default() }, true, &mut end);
            let lost = Totals { produced: 5, lost: 5, ..Totals::default() };
            e.totals(idle, &lost, true, &mut end);
        }
        let (mut d, mut told) = (Decoder::new(), Told::default());
        d.feed(&wire[0], &mut told);
        let rest = wire[1..].concat();
        let rest: Vec<&[u8]> = rest.split_inclusive(|b| *b == 0).collect();
        d.feed(&rest[skip.min(rest.len())..].concat(), &mut told);
        let end: Vec<&[u8]> = end.split_inclusive(|b| *b == 0).collect();
        d.feed(&end[skip..].concat(), &mut told);
        d.end(&mut told);
        assert_eq!(told.last.len(), 2, "{skip}");
        let m = told.missing.get(&stream).copied().unwrap_or_default();
        assert_eq!(told.records.len() as u64 + m.line, 60, "{skip}");
        assert_eq!(told.missing[&idle].ring, 5);
    }
}

#[test]
fn losses_before_a_late_receiver_are_not_those_of_the_ring() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let records = records(200, 6);
    let (mut early, mut late) = (Vec::new(), Vec::new());
    send(&mut e, stream, &records[..100], &mut early);
    let first = LinkRecord { time: records[99].1, class: 3, payload: &[], lost_before: 1000 };
    e.frame(stream, records[99].1, &classes(), &[first], &mut Vec::new());
    // Who joins here hears the totals first.
    let totals = Totals { produced: 1101, lost: 1000, ..Totals::default() };
    e.resync();
    e.totals(stream, &totals, false, &mut late);
    let mut frames = Vec::new();
    send(&mut e, stream, &records[100..], &mut frames);
    late.extend(frames.concat());
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&late, &mut told);
    d.end(&mut told);
    let m = told.missing[&stream];
    assert_eq!((told.records.len(), m.ring, m.line, m.before), (100, 0, 0, 1101));
}

#[test]
fn who_joins_late_waits_for_one_period_and_no_longer() {
    let every = 10_000_000_000;
    let mut e = Encoder::new(LinkOptions { announce_every: every, ..options() });
    let stream = e.stream(who(0));
    // Two tasks on and on; and ever new ones, each of which runs for a second and then never.
    let name = |n: u64| {
        let mut p = Vec::new();
        for _ in 0..2 {
            let mut comm = format!("task-{n}").into_bytes();
            comm.resize(16, 0);
            p.extend(comm);
            p.extend((n as i32).to_le_bytes());
            if p.len() == 20 {
                p.extend([0; 8]);
            }
        }
        p
    };
    let sent: Vec<_> = (0..6000u64)
        .map(|i| (0, i * 10_000_000, name(if i % 5 == 0 { 10 + i / 100 } else { i % 2 })))
        .collect();
    let (early, late) = sent.split_at(2030);
    let (begin, mut first, mut waiting) = (late[0].1, None, 0);
    for part in early.chunks(20) {
        send(&mut e, stream, part, &mut Vec::new());
    }
    let (mut d, mut told) = (Decoder::new(), Told::default());
    for part in late.chunks(20) {
        let mut wire = Vec::new();
        send(&mut e, stream, part, &mut wire);
        d.feed(&wire.concat(), &mut told);
        let since = part[part.len() - 1].1 - begin;
        if !told.records.is_empty() {
            first.get_or_insert(since);
        }
        if d.health().waiting > 0 {
            waiting = since;
        }
    }
    d.end(&mut told);
    let (first, late) = (first.unwrap(), late.len() as u64);
    assert!((9_000_000_000..10_500_000_000).contains(&first), "{first}");
    assert!(waiting <= 13_500_000_000, "{waiting}");
    let m = told.missing[&stream];
    assert_eq!(told.records.len() as u64 + m.line, late);
    assert!((1..40).contains(&m.line), "{m:?}");
}

#[test]
fn text_before_a_frame_that_begins_with_a_line_end() {
    // A frame whose first bytes are printable, a line end among them.
    for at in 1..40 {
        let mut body = vec![b'P'; 60];
        body[at] = 0;
        for newline in [false, true] {
            if newline {
                body[0] = b'\n';
            }
            let mut wire = b"a line\n".to_vec();
            wire::frame(&body, false, &mut wire);
            let mut d = Decoder::new();
            let mut told = Told::default();
            d.feed(&wire, &mut told);
            assert_eq!((d.health().frames, d.health().damaged), (1, 0), "{at} {newline}");
            assert_eq!(told.text, b"a line\n");
        }
    }
}

/// The receiver's port goes in the middle of a frame, and the sender does not know: nothing but
/// that frame is missing. What was text is text at once.
#[test]
fn what_was_begun_before_a_reopening_costs_nothing_behind_it() {
    let mut e = Encoder::new(options());
    let stream = e.stream(who(0));
    let mut wire = Vec::new();
    send(&mut e, stream, &records(1000, 4), &mut wire);
    let heard = |frames: &[Vec<u8>]| {
        let (mut d, mut told) = (Decoder::new(), Told::default());
        d.feed(&frames.concat(), &mut told);
        told.records.len()
    };
    let (before, cut) = (heard(&wire[..8]), heard(&wire[..9]) - heard(&wire[..8]));
    assert!(cut > 0 && wire.len() > 12);
    let (mut d, mut told) = (Decoder::new(), Told::default());
    d.feed(&wire[..8].concat(), &mut told);
    d.feed(&wire[8][..wire[8].len() - 5], &mut told);
    d.reopened(&mut told);
    assert_eq!((told.records.len(), d.health().damaged), (before, 1));
    d.feed(&wire[9..].concat(), &mut told);
    assert_eq!((told.records.len(), told.missing[&stream].line), (1000 - cut, cut as u64));
    d.feed(b"login: ", &mut told);
    d.reopened(&mut told);
    assert_eq!((&told.text[..], d.health().damaged), (&b"login: "[..], 1));
}

/// What was announced while the receiver's port was gone is announced again within a period: so
/// long its frames wait, though no number of a frame's tells that any is missing.
#[test]
fn what_was_announced_before_a_reopening_is_waited_for() {
    let mut e = Encoder::new(options());
    let old = e.stream(who(0));
    let at = |tenths: u64| (0, tenths * 100_000_000, payload(0, 0));
    let (mut d, mut told) = (Decoder::new(), Told::default());
    let mut hear = |e: &mut Encoder, stream, tenths, d: Option<&mut Decoder>| {
        let mut wire = Vec::new();
        send(e, stream, &[at(tenths)], &mut wire);
        if let Some(d) = d {
            d.feed(&wire.concat(), &mut told);
        }
        told.records.len()
    };
    // All that is in use was announced, and a period has passed.
    for tenths in 1..200 {
        hear(&mut e, old, tenths, Some(&mut d));
    }
    let new = e.stream(who(1));
    for tenths in 200..230 {
        hear(&mut e, new, tenths, None);
    }
    d.reopened(&mut Told::default());
    let mut first = None;
    for tenths in 230..400 {
        if hear(&mut e, new, tenths, Some(&mut d)) > 199 {
            first.get_or_insert(tenths);
        }
    }
    d.end(&mut told);
    assert!(
        first.is_some_and(|t| t > 230 + 30),
        "they waited longer than for a doubled one: {first:?}"
    );
    let m = told.missing[&new];
    assert_eq!((told.records.len(), m.line, m.before, m.ring), (199 + 170, 30, 0, 0));
    assert_eq!((d.health().given_up, d.health().waiting), (0, 0));
}
