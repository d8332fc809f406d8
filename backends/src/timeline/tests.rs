//! Goal: the twins are right. Method: random and hand-picked input against the plainest code
//! that does the same, one event and one column after the other.

use std::sync::Arc;

use rbpipe_core::class::{EventClass, Field, FieldType};
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::RecordHeader;

use super::*;

mod scheduler;

/// A small xorshift.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(crate) const LAST: u64 = u64::MAX;

/// Windows that are usual, empty, upside down, shorter than their columns, huge, and at the
/// end of time; the last is as the seed decides.
pub(crate) fn windows(random: &mut Random) -> Vec<Window> {
    let (from, span) = (random.below(1 << 40), random.below(1 << 36));
    [
        (1000, 2000, 10),
        (1000, 1000, 10),
        (2000, 1000, 10),
        (1000, 2000, 0),
        (1000, 1007, 16),
        (0, LAST, 7),
        (LAST - 1000, LAST, 33),
        (0xFFFF_FF00, 0x1_0000_0100, 16),
        (from, from + span, 1 + random.below(300) as u32),
    ]
    .map(|(from, to, columns)| Window { from, to, columns })
    .into()
}

/// Times about the window: on its edges, next to them, far away, several times the same.
pub(crate) fn times(random: &mut Random, window: &Window, n: usize) -> Vec<u64> {
    let time = |random: &mut Random| match random.below(6) {
        0 => window.edge(random.below(u64::from(window.columns) + 1) as u32),
        1 => window.edge(random.below(u64::from(window.columns) + 1) as u32).saturating_sub(1),
        2 => random.next(),
        _ => window.from.saturating_add(random.below(window.span().max(1))),
    };
    let mut times: Vec<u64> = (0..n).map(|_| time(random)).collect();
    for i in 1..n {
        if random.below(4) == 0 {
            times[i] = times[i - 1];
        }
    }
    times
}

/// The column by the edges, one after the other.
fn plain_column(window: &Window, time: u64) -> Option<usize> {
    (0..window.columns)
        .find(|i| window.edge(*i) <= time && time < window.edge(i + 1))
        .map(|i| i as usize)
}

#[test]
fn edges_are_exact_and_columns_lie_between_them() {
    let w = Window { from: 10, to: 20, columns: 4 };
    assert_eq!(w.edges(), [10, 12, 15, 17, 20]);
    let w = Window { from: 0, to: LAST, columns: 3 };
    assert_eq!(w.edges(), [0, LAST / 3, LAST / 3 * 2, LAST]);
    let mut random = Random(3);
    for w in (0..50).flat_map(|_| windows(&mut random)).collect::<Vec<_>>() {
        assert_eq!(w.edge(0), w.from);
        assert_eq!(w.edge(w.columns.max(1)), w.from + w.span());
        for t in times(&mut random, &w, 50) {
            assert_eq!(w.column(t), plain_column(&w, t).map(|c| c as u32), "{t} in {w:?}");
        }
    }
}

#[test]
fn density_and_count_are_those_of_the_plainest_code() {
    let mut random = Random(1);
    for round in 0..60 {
        for w in windows(&mut random) {
            let n = [0, 1, 2, 40, 300][round % 5];
            let mut times = times(&mut random, &w, n);
            let class = |random: &mut Random| match random.below(9) {
                0 => NO_CLASS,
                1 => 100,
                other => other as u32,
            };
            let entries: Vec<Entry> =
                times.iter().map(|t| Entry::new(*t, class(&mut random), 0)).collect();
            let filters =
                [Filter::all(), Filter::of([]), Filter::of([2, 5]), Filter::of([3, 100, NO_CLASS])];
            for filter in filters {
                let mut plain = vec![0; w.columns as usize];
                for e in entries.iter().filter(|e| filter.contains(e.class)) {
                    plain_column(&w, e.time()).into_iter().for_each(|c| plain[c] += 1);
                }
                assert_eq!(count(&entries, &w, &filter), plain, "{w:?} {filter:?}");
                for threads in [1, 2, 7] {
                    assert_eq!(count_threads(&entries, &w, &filter, threads), plain);
                }
            }
            let rows = [5, 2, 100];
            let each: Vec<u32> =
                rows.iter().flat_map(|c| count(&entries, &w, &Filter::of([*c]))).collect();
            assert_eq!(count_rows(&entries, &w, &Rows::each(&rows)), each);
            times.sort_unstable();
            let sorted: Vec<Entry> = times.iter().map(|t| Entry::new(*t, 1, 0)).collect();
            let whole = density(&sorted, &w);
            assert_eq!(whole, count(&sorted, &w, &Filter::all()), "{w:?}");
            let (mut parts, mut rest) = (vec![&sorted[..0]], &sorted[..]);
            while !rest.is_empty() {
                let (part, later) = rest.split_at(random.below(rest.len() as u64 + 1) as usize);
                parts.push(part);
                rest = later;
            }
            assert_eq!(density_parts(&parts, &w), whole, "{w:?}");
            assert_eq!(count_parts(parts, &w, &Filter::of([1])), whole, "{w:?}");
        }
    }
    assert!(!Filter::all().contains(NO_CLASS) && !Filter::of([NO_CLASS]).contains(NO_CLASS));
}

/// With that which is not known.
const STATES: usize = 7;

#[test]
fn states_are_those_of_the_plainest_code() {
    let mut random = Random(2);
    for round in 0..60 {
        for w in windows(&mut random) {
            let mut times = times(&mut random, &w, [0, 1, 5, 100][round % 4]);
            times.sort_unstable();
            let all: Vec<Transition> = times
                .iter()
                .map(|t| Transition::new(*t, random.below(STATES as u64) as u32))
                .collect();
            let until = [u64::MAX, w.from + w.span() / 2, w.from][random.below(3) as usize];
            let found = states(&all, &w, until);
            for i in 0..w.columns {
                let (begin, end) = (w.edge(i), w.edge(i + 1).min(until));
                let at = |t| all.iter().rfind(|x| x.time() <= t).map_or(0, |x| x.state);
                let mut held = [0u64; STATES];
                for (k, t) in all.iter().enumerate() {
                    let next = all.get(k + 1).map_or(LAST, Transition::time).min(end);
                    held[t.state as usize] += next.saturating_sub(t.time().max(begin));
                }
                let mut plain = Held::default();
                if begin == w.edge(i + 1) && begin < until {
                    plain.longest[0].0 = at(begin);
                }
                let mut order: Vec<usize> = (1..STATES).filter(|s| held[*s] > 0).collect();
                order.sort_by_key(|s| (LAST - held[*s], *s));
                for (place, state) in order.iter().enumerate() {
                    match plain.longest.get_mut(place) {
                        Some(one) => *one = (*state as u32, held[*state]),
                        None => plain.others += held[*state],
                    }
                }
                assert_eq!(found[i as usize], plain, "column {i} of {w:?}: {all:?}");
            }
        }
    }
}

#[test]
fn values_add_up_without_rounding() {
    let window = Window { from: 10, to: 40, columns: 3 };
    let values = [
        Value::new(9, 1),
        Value::new(10, i64::MAX),
        Value::new(19, i64::MAX),
        Value::new(30, -3),
        Value::new(39, 6),
        Value::new(40, 1),
    ];
    let found = aggregate(&values, &window);
    let first = Aggregate { min: i64::MAX, max: i64::MAX, sum: 2 * i128::from(i64::MAX), count: 2 };
    assert_eq!(found, [first, Aggregate::NONE, Aggregate { min: -3, max: 6, sum: 3, count: 2 }]);
    assert_eq!(found[2].mean(), Some(1.5));
    assert_eq!(found[1].mean(), None);
    assert_eq!([1.5, -0.25, f64::NAN].map(quantise), [98304, -16384, 0]);
    assert_eq!([1e300, f64::NEG_INFINITY].map(quantise), [i64::MAX, i64::MIN]);
}

fn classes() -> Classes {
    let text = vec![
        Field::new("s", FieldType::String),
        Field::new("q", FieldType::Sequence(Box::new(FieldType::U16))),
    ];
    let fixed = vec![Field::new("x", FieldType::I32)];
    Classes::new([EventClass::new("f", fixed), EventClass::new("t", text)].map(Arc::new))
}

#[test]
fn a_walk_gives_what_was_written_and_ends_at_what_is_damaged() {
    let wrap = 1u64 << 27;
    let begin = 5 * wrap - 10;
    let mut packet = vec![0; 80];
    packet.extend(RecordHeader::compact(0, begin));
    packet.extend([1; 4]);
    packet.extend(RecordHeader::compact(1, begin + 20));
    packet.extend(b"hi\0\x01\0\0\0\xee\xee");
    packet.extend(RecordHeader::compact(29, begin + 20));
    packet.extend([1, 9]);
    packet.extend(RecordHeader::extended(0, begin + 9 * wrap));
    packet.extend([2; 4]);
    let all = [
        Entry::new(begin, 0, 1080),
        Entry::new(begin + 20, 1, 1088),
        Entry::new(begin + 9 * wrap, 0, 1107),
    ];
    let whole = Place {
        header: 80,
        content: packet.len() as u32,
        begin,
        end: begin + 9 * wrap,
        base: 1000,
        skip: 0,
        room: 3,
    };
    let run = |packet: &[u8], place: &Place| walk(packet, place, &classes());
    let expected = Walk { entries: all.into(), aborted: 1, last: whole.end, stop: Stop::End };
    assert_eq!(run(&packet, &whole), expected);

    let part = run(&packet, &Place { skip: 1, room: 1, ..whole });
    assert_eq!((&part.entries[..], part.stop), (&all[1..2], Stop::Room));
    let cut = run(&packet[..packet.len() - 1], &whole);
    assert_eq!((&cut.entries[..], cut.stop), (&all[..2], Stop::Truncated));
    let filled = cut.filled(&whole);
    assert_eq!(filled[2], Entry::new(begin + 20, NO_CLASS, 0));
    let early = run(&packet, &Place { end: begin + 19, ..whole });
    assert_eq!((&early.entries[..], early.stop), (&all[..1], Stop::Time));
    let back = run(&packet, &Place { begin: begin + 10 * wrap, end: LAST, ..whole });
    assert_eq!((back.entries.len(), back.stop), (2, Stop::Time), "then a full time, earlier");
    packet[80] = 2;
    let none = Walk { entries: vec![], aborted: 0, last: begin, stop: Stop::Class };
    assert_eq!(run(&packet, &whole), none);
    assert_eq!(run(&[], &whole), Walk { stop: Stop::End, ..none });
}

#[test]
fn a_walk_of_nonsense_ends_and_is_sorted() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let packet: Vec<u8> = (0..60).map(|_| random.next() as u8 & random.next() as u8).collect();
        let begin = random.next();
        let place = Place {
            header: random.below(70) as u32,
            content: random.below(80) as u32,
            begin,
            end: begin.saturating_add(random.next()),
            base: 0,
            skip: random.below(3) as u32,
            room: random.below(5) as u32,
        };
        let walk = walk(&packet, &place, &classes());
        assert!(walk.entries.len() <= place.room as usize);
        assert!(walk.entries.is_sorted_by_key(Entry::time));
        assert!(walk.entries.iter().all(|e| (place.begin..=place.end).contains(&e.time())));
    }
}
