//! Goal: a picture has what there is most of, and shows what is missing. Method: a store's table
//! and counts that are made up. (That counts are right: `compute`'s tests.)

use super::super::config::Keep;
use super::super::store::{PacketEntry, Place};
use super::scene::Sketch;
use super::threads::Did;
use super::*;
use crate::picture::{Cell, Content, Ink, Picture, Range, Share};
use crate::timeline::{Doing, Held, Threads, Woken};
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

/// The promise: what is committed when a picture begins is in the next one at the latest.
#[test]
fn pictures_that_take_long_begin_earlier() {
    let ms = Duration::from_millis;
    for every in [50, 250, 1000].map(ms) {
        for took in (0..every.as_millis() as u64 / 2 + 30).map(ms) {
            let age = WITHIN + period(every, took) + took;
            assert!(age < every + ms(50), "{age:?}: every {every:?}, {took:?} each");
            assert!(period(every, took) >= every / 2);
        }
        assert_eq!(period(every, ms(30)), every);
        assert_eq!(period(every, every * 3), every / 2);
    }
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

/// Two CPUs and another stream, and what processes 8, 9 and 11 did, in 32 columns.
fn did() -> (Sketch, index::Bins) {
    let store = Store::new("c", Keep::Bytes(1 << 20));
    let streams =
        [stream(4, StreamClass::Plain), stream(3, StreamClass::Cpu), stream(5, StreamClass::Cpu)];
    for stream in &streams {
        let facts = PacketFacts {
            sequence: 1,
            content: 100,
            begin: 1000,
            end: 4199,
            lost: 0,
            records: 5,
            origin: 0,
        };
        entry(&store, stream, facts, Place::Heap(Arc::from(&[][..])));
    }
    let held = |state| Held { longest: [(state, 100), (0, 0), (0, 0)], others: 0 };
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"alpha");
    let states = compute::States {
        rows: [1, 2].map(|n| (Arc::clone(&streams[n]), vec![held([8, 9][n - 1]); 32])).into(),
        names: [(8, name)].into(),
    };
    let mut doing = vec![Doing::default(); 3 * 32];
    doing[0] = Doing { running: 50, waiting: 25, blocked: 15, asleep: 10, on: 2 };
    doing[31] = Doing { asleep: 50, ..Doing::default() };
    doing[32..64].fill(Doing { running: 40, on: 3, ..Doing::default() });
    doing[64] = Doing { blocked: 100, ..Doing::default() };
    let of = |(time, stream, waker, task, early)| Woken { time, stream, waker, task, early };
    let woken = [
        (1100, 1, 9, 8, true),
        // Told a second time, where it will run.
        (1101, 2, 9, 8, false),
        // In the name of nobody, of itself, of one without a lane; where there is no scheduler.
        (1200, 2, 1, 9, true),
        (1300, 1, 8, 8, true),
        (1400, 2, 77, 11, true),
        // Who has no lane; on a stream that is not known.
        (1600, 1, 9, 77, true),
        (1600, 9, 0, 8, true),
    ];
    let threads = Threads { doing, woken: Some(woken.map(of).into()) };
    let found = compute::ThreadRows { threads, streams: streams.into(), early: true };
    let did = Did { tasks: vec![8, 9, 11], all: 7, found };
    let bins = index::Bins {
        streams: [(4, vec![1; 32])].into(),
        states: Some(states),
        threads: Some(did),
        values: vec![Some(vec![None; 32])],
        ..index::Bins::default()
    };
    let sketch = scene().sketch(&store.lock(), (1000, 4200));
    (sketch, bins)
}

fn scene() -> Scene {
    let (title, values) = ("t".to_owned(), vec!["a.b".to_owned()]);
    Scene { title, clock_offset: 1_000_000, classes: registry(), values }
}

/// A process has a lane of what it did, the busiest first; arrows go from who woke it, or from
/// where that was told; there are few of them, or none.
#[test]
fn a_scene_has_what_processes_did_and_who_woke_them() {
    let (sketch, bins) = did();
    let fill = |bins: &index::Bins, room| scene().fill(&sketch, bins.clone(), 32, &|_| room);
    let picture = fill(&bins, 99);
    let names: Vec<&str> = picture.lanes.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a.b", "CPU 3", "CPU 5", "pid 8", "alpha", "pid 10", "stream 4"]);
    let details: Vec<&str> = picture.lanes.iter().map(|l| l.detail.as_str()).collect();
    assert_eq!(details[3..6], ["8   40 %", "7  1.5 %", "10  0.0 %"]);
    assert_eq!(picture.groups[picture.lanes[4].group].name, "Threads");
    assert_eq!(picture.groups[2].note, "the 3 busiest, and 4 more");
    let shares = |lane: usize, column: usize| -> Vec<(Ink, String, u32)> {
        let Content::States(cells, known) = &picture.lanes[lane].content else { panic!("none") };
        let of = |s: &Share| {
            let state = &known[usize::from(s.state)];
            let percent = (u32::from(s.part) * 100).div_ceil(Cell::WHOLE.into());
            (state.ink, state.name.clone(), percent)
        };
        cells[column].shares.iter().filter(|s| s.part > 0).map(of).collect()
    };
    let none = String::new;
    let alpha = [
        (Ink::of("alpha"), "3".to_owned(), 50),
        (Ink::Waiting, none(), 25),
        (Ink::Blocked, none(), 15),
        (Ink::Idle, none(), 10),
    ];
    assert_eq!(shares(4, 0), alpha);
    assert_eq!(shares(4, 1), []);
    assert_eq!(shares(4, 31), [(Ink::Idle, none(), 50)]);
    assert_eq!(shares(3, 7), [(Ink::of("pid 8"), "5".to_owned(), 40)]);
    assert_eq!(shares(5, 0), [(Ink::Blocked, none(), 100)]);
    let keys: Vec<&str> = picture.legend.iter().map(|k| k.name.as_str()).collect();
    let all = ["waits for a CPU", "blocked", "idle", "others", "events", "alpha", "pid 8"];
    assert_eq!(keys, all);

    let arrows = |picture: &Picture| -> Vec<(u64, usize, usize)> {
        picture.arrows.iter().map(|a| (a.time - 1_000_000, a.from, a.to)).collect()
    };
    let said = |picture: &Picture| picture.facts.iter().find(|f| f.contains("arrows")).cloned();
    assert_eq!(arrows(&picture), [(1100, 3, 4), (1200, 2, 3), (1300, 1, 4), (1400, 2, 5)]);
    assert_eq!(said(&picture).as_deref(), Some("arrows: who wakes whom (4)"));
    // More than an eighth of the columns are a curtain.
    let with = |early, change: &dyn Fn(&mut Vec<Woken>)| {
        let mut bins = bins.clone();
        let found = &mut bins.threads.as_mut().expect("some").found;
        found.early = early;
        change(found.threads.woken.as_mut().expect("there are some"));
        fill(&bins, 99)
    };
    // From a stream that tells nothing of a scheduler, too.
    let other = Woken { time: 1500, stream: 0, waker: 0, task: 11, early: true };
    let many = with(true, &|woken| woken.push(other));
    assert_eq!((many.arrows.len(), said(&many)), (0, None));
    let few = with(true, &|woken| {
        woken.truncate(2);
        woken.push(other);
    });
    assert_eq!(arrows(&few), [(1100, 3, 4), (1500, 6, 5)]);
    // Where it is not told where somebody is woken: where that will run.
    let late = with(false, &|_| {});
    assert_eq!(arrows(&late), [(1101, 3, 4)]);
    // That was not told in this time.
    let none = with(true, &|woken| woken.retain(|w| !w.early));
    assert!(none.arrows.is_empty());
    let mut none = bins.clone();
    none.threads.as_mut().expect("some").found.threads.woken = None;
    assert!(fill(&none, 99).arrows.is_empty());

    // The busiest are left.
    let less = fill(&bins, 5);
    let names: Vec<&str> = less.lanes.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a.b", "CPU 3", "CPU 5", "pid 8", "stream 4"]);
    assert_eq!(less.groups[2].note, "the 1 busiest, and 6 more");
    assert_eq!(arrows(&less), [(1200, 2, 3)]);
}
