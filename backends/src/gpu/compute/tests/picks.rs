//! Values of fields out of records, and how packets arrive.

use rbpipe_core::decode::Classes;

use super::walks::{classes, packet};
use super::*;
use crate::timeline::tests::Random;
use crate::timeline::{Aggregate, Field, Place, Value, Window, aggregate, pick, walk};

pub(super) const STREAMS: usize = 3;

/// One batch after the other: packets of several streams in several buffers, some behind a loss,
/// of as many records as `make` is told, which is told the stream and when it begins, too; `after`
/// each batch. Gives what each stream's packets are, in order.
pub(super) fn arrive_of(
    compute: &Compute,
    timeline: &mut Timeline,
    random: &mut Random,
    classes: &Classes,
    mut make: impl FnMut(&mut Random, usize, u64, u64) -> (Vec<u8>, Place),
    after: impl Fn(&Timeline),
) -> Vec<Vec<Seen>> {
    let all: Vec<_> = classes.all().cloned().collect();
    timeline.classes(all.iter().map(|c| &**c));
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); STREAMS];
    let mut begins = [1u64 << 40; STREAMS];
    for _ in 0..12 {
        let (mut words, mut packets) = ([vec![0; 5], vec![], vec![0; 3]], Vec::new());
        for _ in 0..1 + random.below(12) {
            let stream = random.below(STREAMS as u64) as usize;
            let records = [0, 40, 400][random.below(3) as usize];
            let (bytes, mut place) = make(random, stream, records, begins[stream]);
            // Something is missing since the packet before, or some time later.
            let lost = (random.below(4) == 0).then(|| begins[stream]);
            begins[stream] = place.end;
            // One that is damaged: it ends too soon.
            if random.below(5) == 0 && records > 0 {
                place.content -= place.content / 3;
            }
            let buffer = random.below(3) as usize;
            let at = words[buffer].len() as u32 * 4;
            words[buffer].extend(words_of(&bytes));
            seen[stream].push(Seen { bytes, place, lost });
            packets.push((stream as u32, buffer, at, place, lost));
        }
        let buffers = words.map(|w| buffer(compute, &w));
        let arrivals: Vec<Arrival<'_>> = packets
            .iter()
            .map(|(stream, buffer, offset, place, lost)| Arrival {
                stream: *stream,
                data: &buffers[*buffer],
                offset: *offset,
                place: *place,
                lost: *lost,
            })
            .collect();
        let mut encoder = compute.encoder("arrive");
        timeline.arrive(&mut encoder, &arrivals).unwrap();
        compute.submit(encoder, &[]).wait().unwrap();
        after(timeline);
    }
    seen
}

/// Packets of all classes.
fn arrive(compute: &Compute, timeline: &mut Timeline, random: &mut Random) -> Vec<Vec<Seen>> {
    let classes = classes();
    let make = |random: &mut Random, _, records, begin| packet(random, &classes, records, begin);
    arrive_of(compute, timeline, random, &classes, make, |_| {})
}

#[derive(Clone)]
pub(super) struct Seen {
    pub bytes: Vec<u8>,
    pub place: Place,
    pub lost: Option<u64>,
}

/// The values of a field in a stream's packets.
pub(super) fn picked_of(packets: &[Seen], field: &Field, classes: &Classes) -> Vec<Value> {
    let values = |Seen { bytes, place, .. }: &Seen| {
        pick(bytes, place.base, &walk(bytes, place, classes).entries, field)
    };
    packets.iter().flat_map(values).collect()
}

fn picked(packets: &[Seen], field: &Field) -> Vec<Value> {
    picked_of(packets, field, &classes())
}

/// Fields of 1, 2, 4 and 8 bytes, behind nothing and behind another.
fn fields() -> Vec<Field> {
    let classes = classes();
    let of = |place: usize, name| Field::of(place as u32, classes.get(place).unwrap(), name);
    let fields = [of(1, "f0"), of(2, "f0"), of(2, "f1"), of(4, "f0")];
    assert_eq!(of(4, "f3"), None, "behind text");
    assert_eq!(of(3, "f0"), None, "text");
    let mut fields: Vec<Field> = fields.into_iter().flatten().collect();
    let signed = |f: &Field| Field { signed: true, ..*f };
    fields.extend([signed(&fields[0]), signed(&fields[3])]);
    fields
}

#[test]
fn values_are_taken_in_their_order() {
    let Some(compute) = compute() else { return };
    let mut random = Random(21);
    for field in fields() {
        let mut timeline = Timeline::new(&compute.device, &compute.queue, 8000).unwrap();
        // Streams beyond the picker's are nobody's.
        let picker = Picker::new(compute, Take::Values(field), 2, 20).unwrap();
        let number = timeline.pick(picker);
        let seen = arrive(compute, &mut timeline, &mut random);
        let rings = timeline.pickers()[number].read(|b| read(compute, b));
        assert_eq!(rings.len(), 2);
        for (ring, packets) in rings.iter().zip(&seen) {
            let all = picked(packets, &field);
            let newest = &all[all.len().saturating_sub(20)..];
            assert_eq!(value_words(newest), ring.concat(), "{field:?}");
            assert!(all.len() > 20, "it did not go round");
        }
    }
}

#[test]
fn columns_have_the_values_of_all_streams_that_are_still_there() {
    let Some(compute) = compute() else { return };
    let mut random = Random(23);
    // Behind what was overwritten, and all of it.
    for (field, room) in fields().into_iter().zip([1000, 30, 1000, 30, 1000, 30]) {
        let mut timeline = Timeline::new(&compute.device, &compute.queue, 8000).unwrap();
        let take = Take::Values(field);
        let picker = Picker::new(compute, take, STREAMS as u32, room).unwrap();
        let number = timeline.pick(picker);
        let seen = arrive(compute, &mut timeline, &mut random);
        let newest = seen.iter().flatten().map(|s| s.place.end).max().unwrap();
        let window = Window { from: 1 << 40, to: newest, columns: 200 };
        let found = timeline.values(number, &window).unwrap().unwrap().wait().unwrap();
        let all: Vec<Vec<Value>> = seen.iter().map(|packets| picked(packets, &field)).collect();
        let begin = |v: &Vec<Value>| match v.len().saturating_sub(room as usize) {
            0 => 0,
            gone => v[gone].time(),
        };
        let begin = all.iter().map(begin).max().unwrap();
        let mut plain = vec![Aggregate::NONE; 200];
        for values in &all {
            let mine = aggregate(values, &window);
            plain.iter_mut().zip(mine).for_each(|(sum, one)| *sum = sum.and(one));
        }
        let plain: Vec<Option<Aggregate>> =
            (0..).zip(plain).map(|(i, one)| (window.edge(i) >= begin).then_some(one)).collect();
        assert_eq!(found, plain, "{field:?}");
        assert_eq!(found.iter().any(Option::is_none), room == 30);
        assert!(found.iter().flatten().any(|a| a.count > 0));
    }
}

#[test]
fn rings_that_no_shader_sees_whole_are_refused() {
    let Some(compute) = compute() else { return };
    assert!(matches!(
        Picker::new(compute, Take::Values(fields()[0]), u32::MAX, u32::MAX),
        Err(e) if e.to_string().contains("keep fewer")
    ));
}
