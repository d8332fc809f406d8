//! Goal: the seam's pointers are sound, as Miri understands it: writers on two threads and a
//! reader that looks at what they wrote, in every mode, with memory of the simplest kind.
//! Method: records that say who wrote them, read back; `tests/sanitize miri` runs it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use rbpipe_core::backend::{Identity, StreamInfo};
use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::frontend::{Geometry, Mode, PacketFacts, Timestamps};
use rbpipe_core::memory::{Memory, ReadMemory};
use rbpipe_core::packet::StreamClass;
use rbpipe_core::stream::{Gathered, Packet, Stream, StreamOptions, WakeReader};
use rbpipe_core::wake::Wake;

/// Bytes on the heap, by pointer.
struct Plain(NonNull<[u8]>);

// SAFETY: the bytes are this value's own.
unsafe impl Send for Plain {}

impl Plain {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(vec![0; SIZE as usize].into_boxed_slice())))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: leaked from such a box in `new`, and no longer reached by anybody: the engine
        // drops a memory when neither a writer nor a packet can.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: a pointer to bytes that do not move, which nobody else reaches.
unsafe impl Memory for Plain {
    fn base(&self) -> Option<NonNull<u8>> {
        Some(self.0.cast())
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: they are zeroed when they are made.
unsafe impl ReadMemory for Plain {}

const SIZE: u64 = 4096;

fn stream(mode: Mode) -> Stream<Plain> {
    let geometry = Geometry::new(SIZE, 2, 2, StreamClass::Plain.header_size()).expect("sizes");
    let identity = Identity { uuid: [7; 16], first_stream_class: 0, first_stream: 0 };
    let info = StreamInfo {
        id: 0,
        class: StreamClass::Plain,
        cpu: None,
        start: 0,
        identity,
        subbuf_size: SIZE as usize,
        memories: 4,
        prefault: true,
    };
    let options = StreamOptions {
        geometry,
        mode,
        timestamps: Timestamps::Clock,
        block_timeout: None,
        wake_reader: WakeReader::Always,
    };
    let memory = || Ok(Plain::new());
    Stream::new(Arc::new(info), &options, Arc::new(Wake::new()), memory).expect("a stream")
}

/// Reads a packet; gives its records, and puts it back as written.
fn read(packet: Packet<Plain>, classes: &Classes) -> u64 {
    let records = look(packet.bytes(), packet.facts(), classes);
    packet.written(0);
    records
}

/// A snapshot of what the stream holds: one run; gives its last packet's sequence number.
fn snapshot(stream: &mut Stream<Plain>, classes: &Classes) -> u64 {
    let mut last = None;
    let run = stream
        .snapshot(|gathered| {
            match gathered {
                Gathered::BeginAgain => last = None,
                Gathered::Packet(packet) => {
                    let facts = packet.facts();
                    let records = look(packet.bytes(), facts, classes);
                    assert!(records <= facts.records, "aborted ones are left out");
                    assert!(last.is_none_or(|l| l + 1 == facts.sequence), "one run");
                    last = Some(facts.sequence);
                }
            }
            Ok::<(), ()>(())
        })
        .expect("the sink's errors alone");
    assert_eq!(last.unwrap_or(0), run.map_or(0, |run| run.last));
    last.unwrap_or(0)
}

/// The records of a packet.
fn look(bytes: &[u8], facts: &PacketFacts, classes: &Classes) -> u64 {
    let content = &bytes[..facts.content as usize];
    let mut cursor = Cursor::new(StreamClass::Plain.header_size() as usize, facts.begin);
    let mut records = 0;
    while let Some(record) = cursor.next(content, classes).expect("a record") {
        if record.class.is_some() {
            let payload = &content[record.payload.0..record.payload.1];
            let (number, rest) = payload.split_first_chunk::<4>().expect("its number");
            assert!(rest.iter().all(|b| *b == number[0]), "whole: {payload:?}");
            records += 1;
        }
    }
    records
}

#[test]
fn what_is_written_through_pointers_is_read_back() {
    let classes = ClassRegistry::new();
    let field = |name: &str, ty| Field::new(name, ty);
    let class = EventClass::new(
        "test:record",
        vec![
            field("number", FieldType::U32),
            field("payload", FieldType::Array(Box::new(FieldType::U8), 300)),
        ],
    );
    let class = classes.register(class).expect("a class");
    let classes = Classes::new(classes.all());
    for mode in Mode::ALL {
        let mut stream = stream(mode);
        let writers: Vec<_> = (1..=2u8)
            .map(|me| {
                let writer = stream.writer();
                thread::spawn(move || {
                    for i in 0..20u32 {
                        let Ok(mut r) = writer.reserve(class, 304) else { continue };
                        r.write(&u32::from_le_bytes([me, 0, 0, i as u8]).to_le_bytes());
                        if i % 7 == 6 {
                            drop(r); // given up
                            continue;
                        }
                        r.write(&[me; 300]);
                        r.commit();
                    }
                })
            })
            .collect();
        let (mut records, mut held) = (0, Vec::new());
        let mut newest = 0;
        while !writers.iter().all(thread::JoinHandle::is_finished) {
            let snapped = snapshot(&mut stream, &classes);
            assert!(snapped == 0 || snapped >= newest, "each is newer than the last");
            newest = newest.max(snapped);
            // Two out at once, put back in the other order.
            held.extend(stream.get());
            if held.len() == 2 {
                records += held.drain(..).rev().map(|p| read(p, &classes)).sum::<u64>();
            }
            thread::yield_now();
        }
        records += held.drain(..).map(|p| read(p, &classes)).sum::<u64>();
        stream.finalise();
        while let Some(packet) = stream.get() {
            records += read(packet, &classes);
        }
        writers.into_iter().for_each(|w| w.join().expect("a writer"));
        let books = stream.books();
        assert_eq!(books.engine.offered(), 40, "{mode:?} {books:?}");
        assert_eq!((books.output_records, books.engine.kept), (records, 0), "{mode:?} {books:?}");
    }
}
