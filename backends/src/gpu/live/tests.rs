//! Goal: a picture's counts are the same wherever they are counted, and what is missing is shown.
//! Method: the same packets told to an index on a device and to one without.

use rbpipe_core::backend::{Identity, StreamInfo};
use rbpipe_core::class::EventClass;
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::packet::StreamClass;
use wgpu::BufferUsages;

use super::super::adapter;
use super::super::arrival::Arrival;
use super::super::compute::tests::walks::packet;
use super::super::config::{Keep, Wanted};
use super::super::device::Device;
use super::super::store::{PacketEntry, Place};
use super::*;
use crate::picture::Content;
use crate::timeline::tests::Random;
use rbpipe_core::class::{Field, FieldType};
use rbpipe_core::decode::Classes;

fn device() -> Option<Device> {
    let adapter = adapter::choose(&Wanted::Auto).expect("adapters can be asked for");
    if adapter.is_none() {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        assert!(!ci, "no Vulkan adapter, and CI is to have one: install mesa-vulkan-drivers");
        eprintln!("SKIPPED: no Vulkan adapter; Debian's mesa-vulkan-drivers has one");
    }
    adapter.map(|adapter| Device::open(&adapter).expect("it opens"))
}

fn registry() -> Arc<ClassRegistry> {
    let registry = ClassRegistry::new();
    for n in 0..12 {
        let ty = match n % 4 {
            0 => FieldType::U64,
            1 => FieldType::String,
            2 => FieldType::Sequence(Box::new(FieldType::U16)),
            _ => FieldType::U8,
        };
        let class = EventClass::new(format!("c:{n}"), vec![Field::new("f", ty)]);
        registry.register(class).expect("a class");
    }
    Arc::new(registry)
}

fn stream(id: u32, class: StreamClass) -> Arc<StreamInfo> {
    let identity = Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 };
    let (cpu, start) = ((class == StreamClass::Cpu).then_some(id), 0);
    let (subbuf_size, memories, prefault) = (1 << 16, 2, false);
    Arc::new(StreamInfo { id, class, cpu, start, identity, subbuf_size, memories, prefault })
}

/// A packet as the store's table has it.
fn entry(store: &Store, stream: &Arc<StreamInfo>, facts: PacketFacts, place: Place) -> PacketEntry {
    let bytes = facts.content.next_multiple_of(8);
    store.lock().insert(stream, &facts, (bytes, 0), place).clone()
}

#[test]
fn a_device_counts_what_the_processor_counts() {
    let Some(device) = device() else { return };
    let (gpu, registry) = (device.gpu(), registry());
    let classes = Classes::new(registry.all().iter().cloned());
    let store = Arc::new(Store::new("c", Keep::Bytes(64 << 20)));
    let there = Index::shared(Some(gpu), &registry, 16 << 20);
    let here = Index::shared(None, &registry, 0);
    let streams: Vec<_> = [StreamClass::Plain, StreamClass::Cpu, StreamClass::Cpu]
        .into_iter()
        .zip(0..)
        .map(|(class, id)| stream(id, class))
        .collect();
    let (mut random, mut ends) = (Random(7), [1u64 << 40; 3]);
    for sequence in 1..=60 {
        // As the generator of packets makes them: with the longer header or the shorter one.
        let records = [0, 1, 50, 400][random.below(4) as usize];
        let begin = *ends.iter().max().expect("three");
        let (bytes, known) = packet(&mut random, &classes, records, begin);
        let id = if known.header == 80 { 0 } else { 1 + random.below(2) as usize };
        assert_eq!(streams[id].class.header_size(), known.header);
        ends[id] = known.end;
        let facts = PacketFacts {
            sequence,
            content: bytes.len() as u64,
            begin: known.begin,
            end: known.end,
            lost: 0,
            // Aborted ones count here.
            records,
            origin: 0,
        };
        let mut padded = bytes.clone();
        padded.resize(bytes.len().next_multiple_of(8), 0);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = gpu.buffer(padded.len() as u64, usage, false).expect("a buffer");
        gpu.queue.write_buffer(&buffer, 0, &padded);
        let entry = entry(&store, &streams[id], facts, Place::Gpu { buffer, offset: 0 });
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        index::Arriving(Arc::clone(&there)).in_gpu(gpu, &mut encoder, std::slice::from_ref(&entry));
        gpu.queue.submit([encoder.finish()]);
        index::Arriving(Arc::clone(&here)).in_heap(&entry, &bytes);
    }
    let last = ends.into_iter().max().expect("three");
    let mut counted = 0;
    for window in [
        Window { from: 1 << 40, to: last + 1, columns: 1000 },
        Window { from: (1 << 40) + (last - (1 << 40)) / 3, to: last, columns: 77 },
        Window { from: 0, to: u64::MAX, columns: 3 },
    ] {
        let on_device = index::count(&there, &store, &window, registry.len()).expect("counted");
        let on_processor = index::count(&here, &store, &window, registry.len()).expect("counted");
        assert_eq!(on_device, on_processor, "{window:?}");
        counted += on_device.classes.iter().flatten().map(|n| u64::from(*n)).sum::<u64>();
    }
    assert!(counted > 5000, "{counted}");
}

#[test]
fn what_the_store_forgets_is_counted_no_more() {
    let (registry, store) = (registry(), Store::new("c", Keep::Bytes(1 << 20)));
    let classes = Classes::new(registry.all().iter().cloned());
    let index = Index::shared(None, &registry, 0);
    let (mut random, stream) = (Random(3), stream(0, StreamClass::Plain));
    let mut arriving = index::Arriving(Arc::clone(&index));
    let (mut time, mut last) = (1000, 0);
    for sequence in 1..=2 {
        let (bytes, known) = std::iter::repeat_with(|| packet(&mut random, &classes, 100, time))
            .find(|(_, known)| known.header == 80)
            .expect("one of them");
        (time, last) = (known.end + 1, known.room);
        let content = bytes.len() as u64;
        let (begin, end, records) = (known.begin, known.end, 100);
        let facts = PacketFacts { sequence, content, begin, end, lost: 0, records, origin: 0 };
        let entry = entry(&store, &stream, facts, Place::Heap(bytes.clone().into()));
        arriving.in_heap(&entry, &bytes);
    }
    arriving.forgotten(1);
    let window = Window { from: 0, to: u64::MAX, columns: 4 };
    let bins = index::count(&index, &store, &window, registry.len()).expect("counted");
    assert_eq!(bins.streams[&0].iter().sum::<u32>(), last);
}

/// The most frequent classes have lanes; what has no room is said; what is missing lies between
/// its neighbours.
#[test]
fn a_scene_has_the_most_frequent_and_says_the_rest() {
    let store = Store::new("c", Keep::Bytes(1 << 20));
    let stream = stream(3, StreamClass::Cpu);
    let packet = |sequence, begin, end, lost| {
        let facts = PacketFacts { sequence, content: 100, begin, end, lost, records: 5, origin: 0 };
        entry(&store, &stream, facts, Place::Heap(Arc::from(&[][..])));
    };
    packet(1, 1000, 2000, 0);
    // Seven records and two packets are missing.
    packet(4, 5000, 6000, 7);
    let title = "t".to_owned();
    let scene = Scene { title, clock_offset: 1_000_000, classes: registry() };
    let sketch = scene.sketch(&store.lock(), (500, 6500));
    let bins = index::Bins {
        streams: [(3, vec![1, 2, 3])].into(),
        classes: vec![vec![0, 0, 0], vec![1, 0, 0], vec![0, 2, 3]],
    };
    let all = scene.fill(&sketch, bins.clone(), 3, &|_| 99);
    let names: Vec<&str> = all.lanes.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["CPU 3", "c:2", "c:1"]);
    assert_eq!((all.from, all.to), (1_000_500, 1_006_500));
    assert!(matches!(&all.lanes[1].content, Content::Density(bins, _) if *bins == [0, 2, 3]));
    let gap = &all.lost[0];
    assert_eq!((gap.lane, gap.from, gap.to), (0, 1_002_000, 1_005_000));
    assert_eq!(gap.text, "7 lost");
    assert_eq!(all.facts[..3], ["6 events", "7 events lost", "2 packets lost"]);
    let some = scene.fill(&sketch, bins, 3, &|_| 2);
    assert_eq!(some.lanes.len(), 2);
    assert_eq!(some.groups[1].note, "the 1 most frequent, and 1 more");
}
