//! Streams of which there is more than of others get more of the rings, and lose nothing by it.

use super::picks::{STREAMS, arrive_of};
use super::threads::{Told, record, sched_classes, settled};
use super::walks::packet_of;
use super::*;
use crate::timeline::tests::Random;
use crate::timeline::{Aggregate, Field, Scheduler, Value, Window, aggregate, pick, walk};

const ROOM: u32 = 2000;

#[test]
fn who_has_more_keeps_more() {
    let Some(compute) = compute() else { return };
    let mut random = Random(26);
    let classes = sched_classes();
    let mut scheduler = Scheduler::default();
    let class = |n| rbpipe_core::class::ClassId::from_index(n).number();
    (0..).zip(classes.all()).for_each(|(n, c)| _ = scheduler.look(class(n), c));
    let field = Field::of(class(1), classes.get(1).unwrap(), "prev_pid").unwrap();
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 40_000).unwrap();
    let picker = |take| Picker::new(compute, take, STREAMS as u32, ROOM).unwrap();
    let switches = timeline.pick(picker(Take::Switches(scheduler)));
    let values = timeline.pick(picker(Take::Values(field)));
    let mut told = Told { running: [0; 8], tasks: 9 };
    // The first one has much more than the others.
    let make = |random: &mut Random, stream, _, begin| {
        let records = if stream == 0 { 600 } else { 20 };
        packet_of(random, records, begin, |random| record(random, &mut told, stream))
    };
    let window = Window { from: 1 << 40, to: u64::MAX, columns: 1 };
    let frame = |timeline: &Timeline| {
        timeline.states(switches, &window, u64::MAX).unwrap().unwrap().wait().unwrap();
        timeline.values(values, &window).unwrap().unwrap().wait().unwrap();
    };
    let seen = arrive_of(compute, &mut timeline, &mut random, &classes, make, frame);
    let rings = timeline.pickers()[switches].read(|b| read(compute, b));
    for (place, (ring, packets)) in rings.iter().zip(&seen).enumerate() {
        let (all, _) = settled(packets, &scheduler);
        assert!(ring.len() <= all.len());
        let newest = &all[all.len() - ring.len()..];
        assert_eq!(transition_words(newest), ring.concat(), "stream {place}");
        assert_eq!(ring.len() > ROOM as usize, place == 0, "{} of {}", ring.len(), all.len());
        assert_eq!(ring.len() < all.len(), place == 0, "they are to be too many");
    }

    let rings = timeline.pickers()[values].read(|b| read(compute, b));
    let newest = seen.iter().flatten().map(|s| s.place.end).max().unwrap();
    let window = Window { from: 1 << 40, to: newest, columns: 100 };
    let (mut plain, mut begin) = (vec![Aggregate::NONE; 100], 0);
    for (ring, packets) in rings.iter().zip(&seen) {
        let mine = |s: &super::picks::Seen| {
            pick(&s.bytes, s.place.base, &walk(&s.bytes, &s.place, &classes).entries, &field)
        };
        let all: Vec<Value> = packets.iter().flat_map(mine).collect();
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
    let found = timeline.values(values, &window).unwrap().unwrap().wait().unwrap();
    assert_eq!(found, plain);
}
