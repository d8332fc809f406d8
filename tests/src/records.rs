//! Records that prove themselves: writer, sequence number, checksum, payload; and a reader
//! of stream files that believes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    let sum = crc32c::crc32c_append(crc32c::crc32c(&writer.to_le_bytes()), &seq.to_le_bytes());
    crc32c::crc32c_append(sum, payload)
}

/// The payload of a record, `len` bytes of it beside what proves it.
pub fn record(writer: u32, seq: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; 20 + len];
    for (i, byte) in out[20..].iter_mut().enumerate() {
        *byte = (seq as usize + i) as u8 ^ writer as u8;
    }
    let sum = check(writer, seq, &out[20..]);
    out[..20].copy_from_slice(&head(writer, seq, sum, len));
    out
}

/// The same without a payload and without an allocation: for signal handlers.
#[must_use]
pub fn bare(writer: u32, seq: u64) -> [u8; 20] {
    head(writer, seq, check(writer, seq, &[]), 0)
}

fn head(writer: u32, seq: u64, sum: u32, len: usize) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&writer.to_le_bytes());
    out[4..12].copy_from_slice(&seq.to_le_bytes());
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    out[16..].copy_from_slice(&(len as u32).to_le_bytes());
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
#[derive(Clone, Copy, Debug)]
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
    verify_shape(dir, &generated(), Shape { check: 8 })
}

/// What the program's generator records.
fn generated() -> ClassRegistry {
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
    classes
}

/// Reads the pieces of a rotated trace, the oldest first, as one: each is whole by itself and
/// begins at 0, and together they hold no record twice. Gives what each channel has.
///
/// # Panics
/// At the first thing that is wrong.
#[must_use]
pub fn verify_pieces(pieces: &[PathBuf]) -> BTreeMap<String, Found> {
    let classes = Classes::new(generated().all());
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    let mut streams: BTreeMap<String, StreamCheck> = BTreeMap::new();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for piece in pieces {
        for file in stream_files(piece) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let channel = name.rsplit_once('_').expect("a stream's file").0.to_owned();
            let mut check = streams.remove(&name).unwrap_or(StreamCheck::new(Shape { check: 8 }));
            if let Some(last) = check.last.take() {
                check.time = check.time.max(last.end);
            }
            check.seen = Some(seen.remove(&channel).unwrap_or_default());
            check.found = Found::default();
            let found = all.entry(channel.clone()).or_default();
            let bytes = std::fs::read(&file).expect("readable");
            verify_stream(&bytes, &classes, &mut check, found);
            seen.insert(channel, check.seen.take().expect("given above"));
            streams.insert(name, check);
        }
    }
    all
}

/// Which records of each writer were there.
#[derive(Debug, Default)]
struct Seen(BTreeMap<u32, Vec<u64>>);

impl Seen {
    fn once(&mut self, writer: u32, seq: u64) {
        let bits = self.0.entry(writer).or_default();
        let (word, bit) = ((seq / 64) as usize, 1 << (seq % 64));
        if bits.len() <= word {
            bits.resize((word + 1).next_power_of_two(), 0);
        }
        assert_eq!(bits[word] & bit, 0, "record {writer}/{seq} twice");
        bits[word] |= bit;
    }
}

fn verify_shape(dir: &Path, classes: &ClassRegistry, shape: Shape) -> Found {
    let classes = Classes::new(classes.all());
    let mut found = Found::default();
    for file in stream_files(dir) {
        let bytes = std::fs::read(&file).expect("readable");
        verify_stream(&bytes, &classes, &mut StreamCheck::new(shape), &mut found);
    }
    found
}

fn verify_stream(bytes: &[u8], classes: &Classes, check: &mut StreamCheck, found: &mut Found) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (h, size) = header(rest);
        let (packet, next) = rest.split_at(size);
        rest = next;
        if check.last.is_none() {
            assert_eq!((h.sequence, h.discarded), (0, 0), "the first packet");
            assert_eq!(h.content_size, u64::from(h.stream_class.header_size()));
        }
        check.packet(packet, classes);
    }
    found.records += check.found.records;
    found.aborted += check.found.aborted;
    found.packets_lost += check.found.packets_lost;
    // The first one is the file's, not the ring's.
    found.packets += check.found.packets.saturating_sub(1);
    found.discarded += check.found.discarded;
}

/// One stream of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its id in the trace.
    pub stream: u64,
    /// Sequence numbers of its first and its last data packet.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Records, aborted ones left out.
    pub records: u64,
}

/// Reads every stream file of a snapshot, in the order of their ids, and checks what the format
/// promises and that each is one run: packets may be missing before the first one alone.
///
/// # Panics
/// At the first thing that is wrong.
pub fn verify_snapshot(dir: &Path, classes: &ClassRegistry) -> Vec<Run> {
    verify_runs(dir, &Classes::new(classes.all()), Shape { check: 4 })
}

/// The same for what the program's generator records, and nothing else.
///
/// # Panics
/// At the first thing that is wrong.
pub fn verify_generated_snapshot(dir: &Path) -> Vec<Run> {
    verify_runs(dir, &Classes::new(generated().all()), Shape { check: 8 })
}

fn verify_runs(dir: &Path, classes: &Classes, shape: Shape) -> Vec<Run> {
    let mut runs: Vec<Run> = stream_files(dir).iter().map(|f| run(f, classes, shape)).collect();
    runs.sort_by_key(|run| run.stream);
    runs
}

fn run(file: &Path, classes: &Classes, shape: Shape) -> Run {
    let bytes = std::fs::read(file).expect("readable");
    let (begin, size) = header(&bytes);
    assert_eq!((begin.sequence, begin.discarded), (0, 0), "the file's own packet");
    assert_eq!(begin.content_size, u64::from(begin.stream_class.header_size()));
    let mut run = Run { stream: begin.stream_id, first: 0, last: 0, records: 0 };
    let (mut rest, mut check) = (&bytes[size..], StreamCheck::new(shape));
    while !rest.is_empty() {
        let (h, size) = header(rest);
        assert_eq!((h.uuid, h.stream_id), (begin.uuid, begin.stream_id));
        assert!(run.last == 0 || h.sequence == run.last + 1, "one run: {} {h:?}", run.last);
        run.first = if run.last == 0 { h.sequence } else { run.first };
        run.last = h.sequence;
        let (packet, next) = rest.split_at(size);
        run.records += check.packet(packet, classes);
        rest = next;
    }
    assert!(run.last > 0, "a file has a packet");
    run
}

/// The trace's files but its metadata, in the order of their names.
fn stream_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the trace is there")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.file_name().is_some_and(|n| n != "metadata"))
        .collect();
    files.sort();
    files
}

fn header(packet: &[u8]) -> (PacketHeader, usize) {
    let h = PacketHeader::decode(packet, |id| StreamClass::ALL.get(id as usize % 3).copied())
        .expect("a packet header");
    let size = usize::try_from(h.packet_size).expect("a packet in memory");
    (h, size)
}

/// What a stream keeps from packet to packet, checked as they come.
#[derive(Debug)]
pub struct StreamCheck {
    shape: Shape,
    last: Option<PacketHeader>,
    time: u64,
    /// A stream keeps the order of each writer's records.
    order: BTreeMap<u32, u64>,
    /// Records that were there, in this stream or another one.
    seen: Option<Seen>,
    /// What was found so far; `discarded` is what the last packet said.
    pub found: Found,
}

impl Default for StreamCheck {
    /// For records of [`register`]'s class.
    fn default() -> Self {
        Self::new(Shape { check: 4 })
    }
}

impl StreamCheck {
    fn new(shape: Shape) -> Self {
        let (order, found) = (BTreeMap::new(), Found::default());
        Self { shape, last: None, time: 0, order, seen: None, found }
    }

    /// Checks the stream's next packet; gives how many records it holds.
    ///
    /// # Panics
    /// At the first thing that is wrong.
    pub fn packet(&mut self, packet: &[u8], classes: &Classes) -> u64 {
        let (h, size) = header(packet);
        assert_eq!(size, packet.len(), "the packet's own size");
        assert_eq!(h.packet_size, h.content_size.next_multiple_of(8));
        assert!(packet[h.content_size as usize..].iter().all(|b| *b == 0), "padding is zero");
        if let Some(before) = &self.last {
            assert!(h.sequence > before.sequence, "sequence numbers grow");
            assert!(h.discarded >= before.discarded, "losses never run backwards");
            assert!(h.begin >= before.end, "packets do not overlap in time");
            self.found.packets_lost += h.sequence - before.sequence - 1;
        } else {
            // A ring's first packet is 1; a file's own, before it, is 0.
            self.found.packets_lost += h.sequence.saturating_sub(1);
        }
        let content = &packet[..h.content_size as usize];
        let mut cursor = Cursor::new(h.stream_class.header_size() as usize, h.begin);
        let before = self.found.records;
        while let Some(r) = cursor.next(content, classes).expect("a record") {
            assert!(r.time >= self.time && r.time >= h.begin && r.time <= h.end, "time");
            self.time = r.time;
            if r.class.is_none() {
                self.found.aborted += 1;
                continue;
            }
            self.found.records += 1;
            self.record(&content[r.payload.0..r.payload.1]);
        }
        self.found.packets += 1;
        self.found.discarded = h.discarded;
        self.last = Some(h);
        self.found.records - before
    }

    fn record(&mut self, payload: &[u8]) {
        let writer = u32::from_le_bytes(payload[0..4].try_into().expect("4"));
        let seq = u64::from_le_bytes(payload[4..12].try_into().expect("8"));
        let sum = u32::from_le_bytes(payload[12..16].try_into().expect("4"));
        let bytes = &payload[16 + self.shape.check..];
        assert_eq!(sum, check(writer, seq, bytes), "checksum of {writer}/{seq}");
        let before = self.order.insert(writer, seq);
        assert!(before.is_none_or(|b| b < seq), "order of writer {writer}: {before:?}, {seq}");
        if let Some(seen) = &mut self.seen {
            seen.once(writer, seq);
        }
    }
}

/// A registry with the class in it.
#[must_use]
pub fn classes() -> (Arc<ClassRegistry>, ClassId) {
    let classes = Arc::new(ClassRegistry::new());
    let id = register(&classes);
    (classes, id)
}
