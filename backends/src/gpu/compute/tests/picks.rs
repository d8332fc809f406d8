//! Fields out of records, as lanes of states and as values.

use super::walks::{classes, packet};
use super::*;
use crate::timeline::tests::Random;
use crate::timeline::{Field, Place, Transition, Window, pick, states, walk};

const STREAMS: usize = 3;

/// One batch after the other: packets of several streams in several buffers, some behind a loss.
/// Gives what each stream's packets are, in order.
fn arrive(compute: &Compute, timeline: &mut Timeline, random: &mut Random) -> Vec<Vec<Seen>> {
    let classes = classes();
    let all: Vec<_> = classes.all().cloned().collect();
    timeline.classes(all.iter().map(|c| &**c));
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); STREAMS];
    let mut begins = [1u64 << 40; STREAMS];
    for _ in 0..12 {
        let (mut words, mut packets) = ([vec![0; 5], vec![], vec![0; 3]], Vec::new());
        for _ in 0..1 + random.below(12) {
            let stream = random.below(STREAMS as u64) as usize;
            let records = [0, 40, 400][random.below(3) as usize];
            let (mut bytes, place) = packet(random, &classes, records, begins[stream]);
            begins[stream] = place.end;
            let lost = random.below(4) == 0;
            seen[stream].push(Seen { bytes: bytes.clone(), place, lost });
            let buffer = random.below(3) as usize;
            let at = words[buffer].len() as u32 * 4;
            bytes.resize(bytes.len().next_multiple_of(4), 0x77);
            let mine = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
            words[buffer].extend(mine);
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
        let commands = [encoder.finish()];
        let turn = crate::gpu::device::one_at_a_time();
        compute.queue.submit(commands);
        drop(turn);
    }
    seen
}

#[derive(Clone)]
struct Seen {
    bytes: Vec<u8>,
    place: Place,
    lost: bool,
}

/// The values of a field in a stream's packets, `None` where a loss is.
fn picked(packets: &[Seen], field: &Field) -> Vec<(u64, Option<i64>)> {
    let mut all = Vec::new();
    for Seen { bytes, place, lost } in packets {
        if *lost {
            all.push((place.begin, None));
        }
        let entries = walk(bytes, place, &classes()).entries;
        let values = pick(bytes, place.base, &entries, field);
        all.extend(values.iter().map(|v| (v.time(), Some(v.value()))));
    }
    all
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
        let picker = Picker::new(compute, field, Take::Values, 2, 20).unwrap();
        let number = timeline.pick(picker);
        let seen = arrive(compute, &mut timeline, &mut random);
        let rings = timeline.pickers()[number].read(|b| read(compute, b));
        assert_eq!(rings.len(), 2);
        for (ring, packets) in rings.iter().zip(&seen) {
            let all = picked(packets, &field).into_iter().filter_map(|(t, v)| Some((t, v?)));
            let all: Vec<Value> = all.map(|(t, v)| Value::new(t, v)).collect();
            let newest = &all[all.len().saturating_sub(20)..];
            assert_eq!(value_words(newest), ring.concat(), "{field:?}");
            assert!(all.len() > 20, "it did not go round");
        }
    }
}

#[test]
fn lanes_have_the_states_that_their_field_tells() {
    let Some(compute) = compute() else { return };
    let mut random = Random(22);
    for (field, room) in fields().into_iter().zip([1000, 64, 1000, 64, 1000, 1000]) {
        let mut timeline = Timeline::new(&compute.device, &compute.queue, 8000).unwrap();
        let picker = Picker::new(compute, field, Take::States, STREAMS as u32, room).unwrap();
        let number = timeline.pick(picker);
        let seen = arrive(compute, &mut timeline, &mut random);
        let newest = seen.iter().flatten().map(|s| s.place.end).max().unwrap();
        for window in [
            Window { from: 0, to: u64::MAX, columns: 3 },
            Window { from: 1 << 40, to: newest, columns: 200 },
        ] {
            let asked = timeline.states(number, &window).unwrap().unwrap();
            let (found, names) = asked.wait().unwrap();
            let state = |v: i64| {
                let name = names.iter().position(|n| *n == Some(v as u32));
                name.map_or(1023, |i| i as u32 + 1)
            };
            let mut plain = Vec::new();
            for packets in &seen {
                let all = picked(packets, &field);
                let newest = &all[all.len().saturating_sub(room as usize)..];
                let lane = newest.iter().map(|(t, v)| Transition::new(*t, v.map_or(0, state)));
                plain.extend(states(&lane.collect::<Vec<_>>(), &window));
            }
            assert_eq!(found, plain, "{field:?} in {window:?}");
            assert!(found.iter().any(|s| *s != 0));
        }
    }
    assert!(matches!(
        Picker::new(compute, fields()[0], Take::States, u32::MAX, u32::MAX),
        Err(e) if e.to_string().contains("keep fewer")
    ));
}
