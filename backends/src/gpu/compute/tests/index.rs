//! The index of several streams while it is written over.

use std::collections::BTreeMap;

use rbpipe_core::class::ClassId;

use super::walks::{classes, packet};
use super::*;
use crate::timeline::tests::Random;
use crate::timeline::{Filter, Place, Rows, Window, count, count_rows, density, walk};

#[test]
fn a_timeline_has_the_newest_of_each_stream() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(19), classes());
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 3000).unwrap();
    let all: Vec<_> = classes.all().cloned().collect();
    timeline.classes(all.iter().map(|c| &**c));
    let mut streams: BTreeMap<u32, (u64, Vec<Entry>)> = BTreeMap::new();
    for batch in 0..40 {
        // Packets of one batch lie in two buffers.
        let (mut words, mut packets) = ([vec![], vec![]], Vec::new());
        for _ in 0..1 + random.below(9) {
            let stream = random.below(4) as u32;
            let (begin, seen) = streams.entry(stream).or_insert((1 << 40, vec![]));
            let records = [0, 3, 100, 700][random.below(4) as usize];
            let (bytes, place) = packet(&mut random, &classes, records, *begin);
            *begin = place.end;
            seen.extend(walk(&bytes, &place, &classes).entries);
            let buffer = random.below(2) as usize;
            let at = words[buffer].len() as u32 * 4;
            words[buffer].extend(words_of(&bytes));
            packets.push((stream, buffer, at, place));
        }
        let buffers = words.map(|w| buffer(compute, &w));
        let packets: Vec<Arrival<'_>> = packets
            .iter()
            .map(|(stream, buffer, offset, place)| Arrival {
                stream: *stream,
                data: &buffers[*buffer],
                offset: *offset,
                place: *place,
                lost: None,
            })
            .collect();
        let mut encoder = compute.encoder("arrive");
        timeline.arrive(&mut encoder, &packets).unwrap();
        compute.submit(encoder, &[]).wait().unwrap();
        if batch % 10 == 7 {
            let oldest = streams.values().map(|(end, _)| *end).min().unwrap();
            timeline.forget(oldest.saturating_sub(1 << 30));
        }

        let last = streams.values().map(|(end, _)| *end).max().unwrap();
        let window = match batch % 3 {
            0 => Window { from: 1 << 40, to: last + 1, columns: 700 },
            1 => Window { from: 0, to: u64::MAX, columns: 9 },
            _ => Window { from: last - random.below(last - (1 << 40)) / 4, to: last, columns: 64 },
        };
        let rows = timeline.index().streams();
        let mut kept = vec![0usize; rows as usize];
        timeline.index().runs().iter().for_each(|r| kept[r.row as usize] += r.len as usize);
        let (mut events, mut some, mut by_class) =
            (vec![], vec![], vec![0; 3 * window.columns as usize]);
        let filter = Filter::of([2, 3, ClassId::from_index(30).number()]);
        let each = [1, 6, ClassId::from_index(33).number()];
        for (stream, kept) in kept.iter().enumerate() {
            let none = Vec::new();
            let seen = streams.get(&(stream as u32)).map_or(&none, |(_, seen)| seen);
            let newest = &seen[seen.len() - kept..];
            events.extend(density(newest, &window));
            some.extend(count(newest, &window, &filter));
            add(&mut by_class, &count_rows(newest, &window, &Rows::each(&each)));
        }
        assert_eq!(timeline.density(&window).unwrap().wait().unwrap(), events, "{window:?}");
        let wanted = Wanted::from(&filter);
        assert_eq!(timeline.count(&window, &wanted).unwrap().wait().unwrap(), some);
        assert_eq!(timeline.by_class(&window, &each).unwrap().wait().unwrap(), by_class);
    }
    assert!(timeline.index().overwritten() > 3000, "it went round");
    let recorded: usize = streams.values().map(|(_, seen)| seen.len()).sum();
    let index = timeline.index();
    assert_eq!(index.len() + index.overwritten(), recorded as u64);
    let totals = timeline.ask_totals().wait().unwrap();
    assert_eq!((totals.missing, totals.damaged), (0, 0));
    assert_eq!(totals.records as usize, recorded, "each has had an entry");
}

#[test]
fn records_that_are_missing_are_not_counted_from_the_next_frame_on() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(20), classes());
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 3000).unwrap();
    let all: Vec<_> = classes.all().cloned().collect();
    timeline.classes(all.iter().map(|c| &**c));
    let (bytes, place) = packet(&mut random, &classes, 200, 1000);
    let short = Place { content: place.content / 2, ..place };
    let data = buffer(compute, &words_of(&bytes));
    let arrival = Arrival { stream: 0, data: &data, offset: 0, place: short, lost: None };
    let mut encoder = compute.encoder("arrive");
    timeline.arrive(&mut encoder, &[arrival]).unwrap();
    compute.submit(encoder, &[]).wait().unwrap();
    let window = Window { from: 0, to: u64::MAX, columns: 1 };
    let found = walk(&bytes, &short, &classes).entries.len() as u32;
    let frame = |t: &Timeline| t.density(&window).unwrap().wait().unwrap()[0];
    assert_eq!(frame(&timeline), place.room);
    assert_eq!(frame(&timeline), found);
    let totals = timeline.totals();
    assert_eq!((totals.missing, totals.damaged), (place.room - found, 1));
    // When it has gone, what comes is searched again.
    assert!(!timeline.is_whole());
    timeline.forget(u64::MAX);
    assert!(timeline.is_whole() && timeline.index().is_empty());
    assert_eq!(frame(&timeline), 0);
}
