//! The walker, on packets that are whole, damaged and nonsense.

use std::sync::Arc;

use rbpipe_core::class::{ClassId, EventClass, Field, FieldType};
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::{RecordHeader, aborted};

use super::*;
use crate::gpu::compute::walk::Walker;
use crate::timeline::tests::Random;
use crate::timeline::{Place, Stop, Walk, walk};

/// Classes of all shapes; with those of `bare`, more than compact headers can say.
pub(super) fn classes() -> Classes {
    let sequence = |ty| FieldType::Sequence(Box::new(ty));
    let of = |types: Vec<FieldType>| {
        let fields = types.into_iter().enumerate().map(|(i, ty)| Field::new(format!("f{i}"), ty));
        fields.collect::<Vec<_>>()
    };
    let shapes = [
        of(vec![]),
        of(vec![FieldType::U8]),
        of(vec![FieldType::U64, FieldType::I32]),
        of(vec![FieldType::String]),
        of(vec![FieldType::U16, FieldType::String, FieldType::String, FieldType::U8]),
        of(vec![sequence(FieldType::U8)]),
        of(vec![sequence(FieldType::U64), FieldType::String, sequence(FieldType::U16)]),
        // As long as no payload is, and longer than 2^32.
        of(vec![FieldType::Array(Box::new(FieldType::U8), u32::MAX)]),
        of(vec![FieldType::Array(Box::new(FieldType::U64), u32::MAX), FieldType::String]),
        of(vec![FieldType::Array(Box::new(FieldType::U8), u32::MAX), sequence(FieldType::U8)]),
    ];
    let bare = (0..30).map(|_| of(vec![FieldType::U8]));
    let all = shapes.into_iter().chain(bare).enumerate();
    Classes::new(all.map(|(i, fields)| Arc::new(EventClass::new(format!("c{i}"), fields))))
}

/// A payload of this class.
fn payload(random: &mut Random, class: &EventClass, out: &mut Vec<u8>) {
    for field in &class.fields {
        match &field.ty {
            FieldType::String => {
                out.extend((0..random.below(9)).map(|_| 1 + random.below(255) as u8));
                out.push(0);
            }
            FieldType::Sequence(element) => {
                let n = random.below(5) as u32;
                out.extend(n.to_le_bytes());
                let bytes = n as usize * element.fixed_size().unwrap();
                out.extend((0..bytes).map(|_| random.next() as u8));
            }
            ty => out.extend((0..ty.fixed_size().unwrap()).map(|_| random.next() as u8)),
        }
    }
}

/// The content of a packet of so many records, some of them aborted, and what is known of it:
/// how many records are not aborted is its room.
pub(super) fn packet(
    random: &mut Random,
    classes: &Classes,
    records: u64,
    begin: u64,
) -> (Vec<u8>, Place) {
    packet_of(random, records, begin, |random| {
        // Not the endless ones.
        let place = random.below(classes.len() as u64 - 3) as u32;
        let place = if place >= 7 { place + 3 } else { place };
        let mut bytes = Vec::new();
        payload(random, classes.get(place as usize).unwrap(), &mut bytes);
        (place, bytes)
    })
}

/// The same of records that are made: their class's place, and their payload.
pub(super) fn packet_of(
    random: &mut Random,
    records: u64,
    begin: u64,
    mut make: impl FnMut(&mut Random) -> (u32, Vec<u8>),
) -> (Vec<u8>, Place) {
    let header = 80 + 4 * random.below(2) as u32;
    let mut bytes = vec![0xaa; header as usize];
    let (mut time, mut last, mut room) = (begin, None, 0);
    for _ in 0..records {
        let ahead = match random.below(10) {
            0 => random.below(1 << 34),
            1 => random.below(1 << 27),
            2 => 0,
            _ => random.below(1000),
        };
        time = if last.is_none() { begin } else { time.saturating_add(ahead) };
        if random.below(12) == 0 {
            let size = [0, 1, 2, 200, 256, 257, 300][random.below(7) as usize];
            let (id, n, length) = aborted(size);
            bytes.extend(RecordHeader::extended(id, time));
            let at = bytes.len();
            bytes.resize(at + size as usize, 9);
            bytes[at..at + n].copy_from_slice(&length[..n]);
        } else {
            let (place, payload) = make(random);
            let id = ClassId::from_index(place);
            match RecordHeader::choose(id, time, last) {
                RecordHeader::Compact => {
                    bytes.extend(RecordHeader::compact(id.number(), time));
                }
                RecordHeader::Extended => {
                    bytes.extend(RecordHeader::extended(id.number(), time));
                }
            }
            bytes.extend(payload);
            room += 1;
        }
        last = Some(time);
    }
    let content = bytes.len() as u32;
    let base = random.next() as u32;
    (bytes, Place { header, content, begin, end: time, base, skip: 0, room })
}

/// Runs both over these packets: entries, and totals.
fn both_walk(compute: &Compute, packets: &[(Vec<u8>, Place)], classes: &Classes) -> Vec<Walk> {
    let (mut data, mut spots, mut entries) = (vec![0u8; 8], Vec::new(), 3);
    for (bytes, place) in packets {
        data.resize(data.len().next_multiple_of(4), 0x55);
        let at = data.len() as u32;
        spots.push(Spot { place: *place, data: at, entry: entries, last: true });
        data.extend(bytes);
        // One that is nobody's.
        entries += place.room + 1;
    }
    let data = buffer(compute, &words_of(&data));
    let before: Vec<u32> = (0..4 * entries).map(|i| i ^ 0x5a5a_5a5a).collect();
    let out = buffer(compute, &before);
    let mut walker = Walker::new(compute);
    let all: Vec<_> = classes.all().cloned().collect();
    walker.classes(compute, &class_table(all.iter().map(|c| &**c)));
    let mut encoder = compute.encoder("walk");
    walker.encode(compute, &mut encoder, &data, &out, &spots).unwrap();
    compute.submit(encoder, &[]).wait().unwrap();

    let mut expected = before;
    let mut totals = Totals::default();
    let mut walks = Vec::new();
    for ((bytes, place), spot) in packets.iter().zip(&spots) {
        let walk = walk(bytes, place, classes);
        let mine = entry_words(&walk.filled(place));
        expected[spot.entry as usize * 4..][..mine.len()].copy_from_slice(&mine);
        totals.records += walk.entries.len() as u32;
        totals.aborted += walk.aborted;
        totals.missing += place.room - walk.entries.len() as u32;
        totals.damaged += u32::from(walk.stop != Stop::End);
        walks.push(walk);
    }
    let found = read(compute, &out);
    for (i, (a, b)) in found.chunks(4).zip(expected.chunks(4)).enumerate() {
        assert_eq!(a, b, "entry {i} of {spots:?}");
    }
    assert_eq!(walker.totals(compute).wait().unwrap(), totals);
    walks
}

/// Beginnings at which something is carried, or that nothing comes behind.
fn begins(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => 0xffff_fff0,
        2 => (random.below(1 << 20) << 27) - random.below(100).min(1),
        _ => u64::MAX - random.below(1 << 35),
    }
}

#[test]
fn whole_packets_give_an_entry_for_each_record() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(15), classes());
    for round in 0..30 {
        let records = [0, 1, 5, 60, 900][round % 5];
        let packets: Vec<_> = (0..1 + random.below(20))
            .map(|_| {
                let begin = begins(&mut random);
                packet(&mut random, &classes, records, begin)
            })
            .collect();
        for (walk, (_, place)) in both_walk(compute, &packets, &classes).iter().zip(&packets) {
            assert_eq!((walk.entries.len() as u32, walk.stop), (place.room, Stop::End));
        }
    }
}

#[test]
fn parts_of_a_packet_are_those_of_the_whole() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(16), classes());
    let (bytes, place) = packet(&mut random, &classes, 300, 1 << 40);
    let mut parts = Vec::new();
    let mut skip = 0;
    while skip < place.room {
        let room = (1 + random.below(90) as u32).min(place.room - skip);
        parts.push((bytes.clone(), Place { skip, room, ..place }));
        skip += room;
    }
    parts.push((bytes.clone(), place));
    let walks = both_walk(compute, &parts, &classes);
    let (whole, parts) = walks.split_last().unwrap();
    let all: Vec<Entry> = parts.iter().flat_map(|w| w.entries.clone()).collect();
    assert_eq!(all, whole.entries);
}

#[test]
fn damaged_packets_end_where_the_decoder_ends() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(17), classes());
    let mut stops = [0; 5];
    for _ in 0..60 {
        let mut packets = Vec::new();
        for _ in 0..16 {
            let begin = begins(&mut random);
            let (mut bytes, mut place) = packet(&mut random, &classes, 40, begin);
            match random.below(6) {
                0 => {
                    place.content -=
                        random.below(u64::from(place.content - place.header) + 1) as u32
                }
                1 => place.room = random.below(u64::from(place.room) + 1) as u32,
                2 => place.end -= random.below(place.end - place.begin + 1),
                3 => place.header = random.below(place.content.into()) as u32,
                _ => {
                    for _ in 0..1 + random.below(3) {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes[at] = random.next() as u8;
                    }
                }
            }
            packets.push((bytes, place));
        }
        for walk in both_walk(compute, &packets, &classes) {
            stops[walk.stop as usize] += 1;
        }
    }
    assert!(stops.iter().all(|n| *n > 10), "not every kind of end was met: {stops:?}");
}

#[test]
fn nonsense_ends_and_stays_in_its_room() {
    let Some(compute) = compute() else { return };
    let (mut random, classes) = (Random(18), classes());
    for round in 0..60 {
        let packets: Vec<(Vec<u8>, Place)> = (0..32)
            .map(|_| {
                let len = random.below(400) as usize;
                let byte = |r: &mut Random| match (round % 3, r.below(3)) {
                    // Small numbers, anything, and lengths to which nothing can be added.
                    (0, _) => (r.below(12) * r.below(2)) as u8,
                    (1, _) => r.next() as u8,
                    (_, 0) => 9 + r.below(23) as u8,
                    _ => 0xff,
                };
                let bytes: Vec<u8> = (0..len).map(|_| byte(&mut random)).collect();
                let begin = random.next();
                let place = Place {
                    header: random.below(100) as u32,
                    content: len as u32,
                    begin,
                    end: begin.saturating_add(random.next() >> random.below(40)),
                    base: 0,
                    skip: random.below(3) as u32,
                    room: random.below(20) as u32,
                };
                (bytes, place)
            })
            .collect();
        both_walk(compute, &packets, &classes);
    }
}

#[test]
fn what_lies_outside_its_buffers_is_refused() {
    let Some(compute) = compute() else { return };
    let (data, entries) = (buffer(compute, &[0; 40]), buffer(compute, &[0; 40]));
    let place = Place { header: 80, content: 80, begin: 0, end: 0, base: 0, skip: 0, room: 10 };
    let good = Spot { place, data: 80, entry: 0, last: true };
    let mut walker = Walker::new(compute);
    let mut run = |spot: Spot| {
        let mut encoder = compute.encoder("walk");
        walker.encode(compute, &mut encoder, &data, &entries, &[spot])
    };
    assert_eq!(run(good), Ok(()));
    for bad in [
        Spot { data: 84, ..good },
        Spot { data: 78, ..good },
        Spot { entry: 1, ..good },
        Spot { entry: u32::MAX, ..good },
        Spot { place: Place { content: u32::MAX, ..place }, ..good },
    ] {
        assert!(run(bad).is_err(), "{bad:?}");
    }
}
