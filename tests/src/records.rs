//! Records that prove themselves: writer, sequence number, checksum, payload; and a reader
//! of stream files that believes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rbpipe_core::channel::Writer;
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_core::stream::WriteError;

/// The class of the records.
///
/// # Panics
/// If the registry refuses it, which would be a bug.
pub fn register(classes: &ClassRegistry) -> ClassId {
    let class = EventClass::new(
        "test:record",
        vec![
            Field::new("writer", FieldType::U32),
            Field::new("seq", FieldType::U64),
            Field::new("check", FieldType::U32),
            Field::new("payload", FieldType::Sequence(Box::new(FieldType::U8))),
        ],
    );
    classes.register(class).expect("a class like any other")
}

fn check(writer: u32, seq: u64, payload: &[u8]) -> u32 {
    let head = [&writer.to_le_bytes()[..], &seq.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// The payload of a record.
pub fn record(writer: u32, seq: u64, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|i| (seq as usize + i) as u8 ^ writer as u8).collect();
    let mut out = Vec::with_capacity(20 + len);
    out.extend(writer.to_le_bytes());
    out.extend(seq.to_le_bytes());
    out.extend(check(writer, seq, &payload).to_le_bytes());
    out.extend((len as u32).to_le_bytes());
    out.extend(payload);
    out
}

/// Writes `count` records; every `abort`th reservation is given up (0: none). Gives how many
/// were offered.
pub fn write(
    to: &Writer,
    class: ClassId,
    writer: u32,
    count: u64,
    len: impl Fn(u64) -> usize,
    abort: u64,
) -> u64 {
    for seq in 0..count {
        let bytes = record(writer, seq, len(seq));
        match to.reserve(class, bytes.len()) {
            Ok(mut r) if abort > 0 && seq % abort == abort - 1 => {
                // Half written, then given up.
                r.write(&bytes[..bytes.len() / 2]);
                drop(r);
            }
            Ok(mut r) => {
                r.write(&bytes);
                r.commit();
            }
            Err(WriteError::Lost(_)) => {}
            Err(WriteError::Closed) => return seq,
        }
    }
    count
}

/// What a trace holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records, aborted ones left out.
    pub records: u64,
    /// Reservations that were given up.
    pub aborted: u64,
    /// The last cumulative `events_discarded` of each stream, summed.
    pub discarded: u64,
    /// Gaps in the sequence numbers.
    pub packets_lost: u64,
    /// Data packets.
    pub packets: u64,
}

/// Where the parts of a record are in its payload.
#[derive(Clone, Copy)]
struct Shape {
    /// Bytes of the checksum, which stands after writer and sequence number.
    check: usize,
}

/// Reads every stream file in `dir` and checks what the format promises.
///
/// # Panics
/// At the first thing that is wrong.
pub fn verify(dir: &Path, classes: &ClassRegistry) -> Found {
    verify_shape(dir, classes, Shape { check: 4 })
}

/// The same for what the program's generator records, and nothing else.
///
/// # Panics
/// At the first thing that is wrong.
pub fn verify_generated(dir: &Path) -> Found {
    let classes = ClassRegistry::new();
    let class = EventClass::new(
        "rbpipe:generated",
        vec![
            Field::new("writer", FieldType::U32),
            Field::new("seq", FieldType::U64),
            Field::new("check", FieldType::U64),
            Field::new("payload", FieldType::Sequence(Box::new(FieldType::U8))),
        ],
    );
    classes.register(class).expect("a class like any other");
    verify_shape(dir, &classes, Shape { check: 8 })
}

fn verify_shape(dir: &Path, classes: &ClassRegistry, shape: Shape) -> Found {
    let classes = Classes::new(classes.all());
    let mut found = Found::default();
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the trace is there")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.file_name().is_some_and(|n| n != "metadata"))
        .collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).expect("readable");
        verify_stream(&bytes, &classes, shape, &mut found);
    }
    found
}

fn verify_stream(bytes: &[u8], classes: &Classes, shape: Shape, found: &mut Found) {
    let mut rest = bytes;
    let mut last: Option<PacketHeader> = None;
    let mut time = 0;
    // A stream keeps the order of each writer's records.
    let mut order: BTreeMap<u32, u64> = BTreeMap::new();
    while !rest.is_empty() {
        let h = PacketHeader::decode(rest, |id| StreamClass::ALL.get(id as usize % 3).copied())
            .expect("a packet header");
        let (packet, next) = rest.split_at(h.packet_size as usize);
        rest = next;
        assert_eq!(h.packet_size, h.content_size.next_multiple_of(8));
        assert!(packet[h.content_size as usize..].iter().all(|b| *b == 0), "padding is zero");
        if let Some(before) = &last {
            assert!(h.sequence > before.sequence, "sequence numbers grow");
            assert!(h.discarded >= before.discarded, "losses never run backwards");
            assert!(h.begin >= before.end, "packets do not overlap in time");
            found.packets_lost += h.sequence - before.sequence - 1;
            found.packets += 1;
        } else {
            assert_eq!((h.sequence, h.discarded), (0, 0), "the first packet");
            assert_eq!(h.content_size, u64::from(h.stream_class.header_size()));
        }
        let content = &packet[..h.content_size as usize];
        let mut cursor = Cursor::new(h.stream_class.header_size() as usize, h.begin);
        while let Some(r) = cursor.next(content, classes).expect("a record") {
            assert!(r.time >= time && r.time >= h.begin && r.time <= h.end, "time");
            time = r.time;
            if r.class.is_none() {
                found.aborted += 1;
                continue;
            }
            found.records += 1;
            let payload = &content[r.payload.0..r.payload.1];
            let writer = u32::from_le_bytes(payload[0..4].try_into().expect("4"));
            let seq = u64::from_le_bytes(payload[4..12].try_into().expect("8"));
            let sum = u32::from_le_bytes(payload[12..16].try_into().expect("4"));
            let bytes = &payload[16 + shape.check..];
            assert_eq!(sum, check(writer, seq, bytes), "checksum of {writer}/{seq}");
            let before = order.insert(writer, seq);
            assert!(before.is_none_or(|b| b < seq), "order of writer {writer}: {before:?}, {seq}");
        }
        last = Some(h);
    }
    found.discarded += last.map_or(0, |h| h.discarded);
}

/// A registry with the class in it.
#[must_use]
pub fn classes() -> (Arc<ClassRegistry>, ClassId) {
    let classes = Arc::new(ClassRegistry::new());
    let id = register(&classes);
    (classes, id)
}
