//! Goal: a picture has what there is most of, and shows what is missing. Method: a store's table
//! and counts that are made up. (That counts are right: `compute`'s tests.)

use super::super::config::Keep;
use super::super::store::{PacketEntry, Place};
use super::*;
use crate::picture::{Cell, Content, Ink, Range, Share};
use crate::timeline::Held;
use rbpipe_core::backend::{Identity, StreamInfo};
use rbpipe_core::class::{EventClass, Field, FieldType};
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::packet::StreamClass;

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
    let scene = Scene { title, clock_offset: 1_000_000, classes: registry(), values: vec![] };
    let sketch = scene.sketch(&store.lock(), (500, 6500));
    let bins = index::Bins {
        streams: [(3, vec![1, 2, 3])].into(),
        classes: vec![vec![0, 0, 0], vec![1, 0, 0], vec![0, 2, 3]],
        ..index::Bins::default()
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
    assert_eq!(some.groups[4].note, "the 1 most frequent, and 1 more");
}

/// A CPU that tells who ran has a lane of that in place of its counts: the longest at the bottom,
/// nobody at the top, and what is missing in it.
#[test]
fn a_scene_has_who_ran_and_values() {
    let store = Store::new("c", Keep::Bytes(1 << 20));
    let (cpu, other) = (stream(3, StreamClass::Cpu), stream(4, StreamClass::Plain));
    let packet = |stream, sequence, begin, end, lost| {
        let facts = PacketFacts { sequence, content: 100, begin, end, lost, records: 5, origin: 0 };
        entry(&store, stream, facts, Place::Heap(Arc::from(&[][..])));
    };
    packet(&cpu, 1, 1000, 2000, 0);
    packet(&other, 1, 1000, 2000, 0);
    packet(&cpu, 2, 5000, 6000, 7);
    let (title, values) = ("t".to_owned(), vec!["a.b".to_owned(), "c.d".to_owned()]);
    let scene = Scene { title, clock_offset: 0, classes: registry(), values };
    let sketch = scene.sketch(&store.lock(), (500, 6500));
    assert_eq!(sketch.until, 6001);
    let held = |longest, others| Held { longest, others };
    let none = (0, 0);
    let columns = vec![
        held([(1, 1000), (8, 500), none], 0),
        held([(9, 2000), none, none], 0),
        held([(9, 800), (8, 600), (1, 200)], 400),
    ];
    let mut name = [0; 16];
    name[..6].copy_from_slice(b"se\nven");
    let states = compute::States {
        rows: vec![(Arc::clone(&cpu), columns), (other, vec![Held::default(); 3])],
        names: [(8, name)].into(),
    };
    let range = Range { min: 1.0, mean: 2.0, max: 3.0 };
    let bins = index::Bins {
        streams: [(3, vec![1, 2, 3]), (4, vec![5, 0, 0])].into(),
        classes: vec![],
        states: Some(states),
        threads: None,
        values: vec![None, Some(vec![None, Some(range), None])],
    };
    let picture = scene.fill(&sketch, bins, 3, &|_| 99);
    let names: Vec<&str> = picture.lanes.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["c.d", "CPU 3", "stream 4"]);
    assert!(picture.facts.iter().any(|f| f == "no values of a.b"), "{:?}", picture.facts);
    assert_eq!(picture.lost[0].lane, 1);
    assert_eq!(picture.lanes[1].detail, "72 %", "4300 of 6000");
    let Content::States(cells, known) = &picture.lanes[1].content else { panic!("no states") };
    let shares = |cell: &Cell| -> Vec<(&str, u32)> {
        let name = |s: &Share| match known[usize::from(s.state)].ink {
            Ink::Idle => "nobody",
            Ink::Others => "others",
            _ => known[usize::from(s.state)].name.as_str(),
        };
        let percent = |s: &Share| (u32::from(s.part) * 100).div_ceil(Cell::WHOLE.into());
        cell.shares.iter().filter(|s| s.part > 0).map(|s| (name(s), percent(s))).collect()
    };
    assert_eq!(shares(&cells[0]), [("se?ven", 25), ("nobody", 50)]);
    assert_eq!(cells[1].pure(), cells[2].shares.first().map(|s| s.state));
    let last = [("pid 8", 40), ("se?ven", 30), ("others", 20), ("nobody", 10)];
    assert_eq!(shares(&cells[2]), last);
    let keys: Vec<&str> = picture.legend.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(keys, ["lost", "idle", "others", "events", "pid 8", "se?ven"]);
}
