//! Streams of which there is more than of others get more of the rings, and lose nothing by it.

use super::picks::{STREAMS, arrive_of, picked_of};
use super::threads::{Told, record, sched_classes, settled};
use super::walks::packet_of;
use super::*;
use crate::gpu::compute::rings::{LANE, Rings};
use crate::timeline::tests::Random;
use crate::timeline::{Aggregate, Field, Scheduler, Window, aggregate};

const ROOM: u32 = 2000;

/// What is moved, and that something has been overwritten, of which nothing comes any more.
#[test]
fn what_has_no_room_any_more_is_gone() {
    let Some(compute) = compute() else { return };
    let mut rings = Rings::new(compute, 2, 4096).unwrap();
    let words = |n: u32, len: u32| (0..len).flat_map(move |i| [n, i, 0, 0]);
    let share = |rings: &mut Rings, of: [[u32; LANE]; 2]| {
        compute.queue.write_buffer(&rings.lanes, 0, &words_bytes(&of.concat()));
        rings.told()(of.concat());
        let mut encoder = compute.encoder("share");
        rings.share(compute, &mut encoder);
        compute.submit(encoder, &[]).wait().unwrap();
        read(compute, &rings.lanes)
    };
    // The first one has gone round: its oldest is in the middle.
    let all: Vec<u32> = words(1, 4096).chain(words(2, 4096)).collect();
    compute.queue.write_buffer(&rings.rings, 0, &words_bytes(&all));
    let lanes = share(&mut rings, [[0, 4096, 2000, 4096, 0], [4096, 4096, 0, 10, 0]]);
    assert_eq!(lanes, [0, 7168, 0, 4096, 0, 7168, 1024, 0, 10, 0]);
    let moved = read(compute, &rings.rings);
    let expected: Vec<u32> = (2000..4096).chain(0..2000).flat_map(|i| [1, i, 0, 0]).collect();
    assert_eq!(moved[..4096 * 4], expected);
    assert_eq!(moved[7168 * 4..][..40], words(2, 10).collect::<Vec<_>>());
    // As if it were full, and the second one as well.
    let lanes = share(&mut rings, [[0, 7168, 0, 7168, 0], [7168, 1024, 0, 1024, 1]]);
    assert_eq!(lanes, [0, 4096, 0, 4096, 1, 4096, 4096, 0, 1024, 1]);
    let cut = read(compute, &rings.rings);
    assert_eq!(cut[..4096 * 4], moved[3072 * 4..][..4096 * 4], "the newest");
}

#[test]
fn who_has_more_keeps_more() {
    let Some(compute) = compute() else { return };
    let mut random = Random(26);
    let classes = sched_classes();
    let mut scheduler = Scheduler::default();
    let class = |n| rbpipe_core::class::ClassId::from_index(n).number();
    (0..).zip(classes.all()).for_each(|(n, c)| _ = scheduler.look(class(n), c));
    // Many of the first, and so few of the second that with a larger share none is overwritten.
    let fields = [(1, "prev_pid"), (2, "pid")]
        .map(|(n, name)| Field::of(class(n), classes.get(n as usize).unwrap(), name).unwrap());
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 40_000).unwrap();
    let picker = |take| Picker::new(compute, take, STREAMS as u32, ROOM).unwrap();
    let switches = timeline.pick(picker(Take::Switches(scheduler)));
    let values = fields.map(|field| timeline.pick(picker(Take::Values(field))));
    let mut told = Told { running: [0; 8], tasks: 9 };
    // The first one has much, then the second one.
    let mut packets = 0;
    let make = |random: &mut Random, stream, _, begin| {
        packets += 1;
        let records = if stream == usize::from(packets > 40) { 1000 } else { 20 };
        packet_of(random, records, begin, |random| record(random, &mut told, stream))
    };
    let window = Window { from: 1 << 40, to: u64::MAX, columns: 1 };
    // The first frame comes when the rings have gone round.
    let batches = std::cell::Cell::new(0);
    let frame = |timeline: &Timeline| {
        if batches.replace(batches.get() + 1) < 7 {
            return;
        }
        timeline.states(switches, &window, u64::MAX).unwrap().unwrap().wait().unwrap();
        for number in values {
            timeline.values(number, &window).unwrap().unwrap().wait().unwrap();
        }
    };
    let seen = arrive_of(compute, &mut timeline, &mut random, &classes, make, frame);
    let rings = timeline.pickers()[switches].read(|b| read(compute, b));
    for (place, (ring, packets)) in rings.iter().zip(&seen).enumerate() {
        let (all, _) = settled(packets, &scheduler);
        assert!(ring.len() <= all.len());
        let newest = &all[all.len() - ring.len()..];
        assert_eq!(transition_words(newest), ring.concat(), "stream {place}");
        assert_eq!(ring.len() > ROOM as usize, place < 2, "{} of {}", ring.len(), all.len());
        assert_eq!(ring.len() < all.len(), place < 2, "they are to be too many");
    }

    let newest = seen.iter().flatten().map(|s| s.place.end).max().unwrap();
    let window = Window { from: 1 << 40, to: newest, columns: 100 };
    for (number, field) in values.into_iter().zip(fields) {
        let rings = timeline.pickers()[number].read(|b| read(compute, b));
        let (mut plain, mut begin) = (vec![Aggregate::NONE; 100], 0);
        for (ring, packets) in rings.iter().zip(&seen) {
            let all = picked_of(packets, &field, &classes);
            let newest = &all[all.len() - ring.len()..];
            assert_eq!(value_words(newest), ring.concat());
            if ring.len() < all.len() {
                begin = begin.max(newest[0].time());
            }
            plain.iter_mut().zip(aggregate(newest, &window)).for_each(|(a, b)| *a = a.and(b));
        }
        assert!(begin > 0, "values have been overwritten");
        let plain: Vec<Option<Aggregate>> =
            (0..).zip(plain).map(|(i, one)| (window.edge(i) >= begin).then_some(one)).collect();
        let found = timeline.values(number, &window).unwrap().unwrap().wait().unwrap();
        assert_eq!(found, plain, "{field:?}");
    }
}
