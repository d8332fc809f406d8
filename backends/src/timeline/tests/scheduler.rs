//! What the scheduler's events tell, and what processes did: worked out by hand.

use rbpipe_core::class::{EventClass, Field as Of, FieldType, Integer};
use rbpipe_core::packet::RecordHeader;

use super::*;
use Kind::{Begins, LeftAsleep, LeftBlocked, LeftDead, LeftReady, Lost, Waking, Woken};

const MANY: u64 = u64::MAX;

fn one(time: u64, state: u32, kind: Kind, task: u32) -> Transition {
    Transition::telling(time, state, kind, task)
}

/// Time, state that is known, what is told.
fn plain(all: &[Transition]) -> Vec<(u64, u32, Kind, u32)> {
    all.iter().map(|t| (t.time(), t.known(), t.told().0, t.told().1)).collect()
}

fn class(name: &str, fields: &[(&str, FieldType)]) -> EventClass {
    EventClass::new(name, fields.iter().map(|(n, ty)| Of::new(*n, ty.clone())).collect())
}

fn scheduler_classes() -> Vec<EventClass> {
    let text = FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 4);
    let switch = [
        ("prev_pid", FieldType::U32),
        ("prev_state", FieldType::U8),
        ("next_comm", text),
        ("next_pid", FieldType::U32),
    ];
    vec![
        class("sched_switch", &switch[..2]),
        class("sched:sched_switch", &switch),
        class("a:sched_wakeup", &[("pid", FieldType::U32)]),
        class("sched_wakeup_new", &[("pid", FieldType::U8)]),
        class("sched_waking", &[("s", FieldType::String), ("pid", FieldType::U32)]),
        class("b:sched_waking", &[("pid", FieldType::U8)]),
        class("sched:sched_switch", &switch),
        class("sched_wakeup", &[("pid", FieldType::U8)]),
        class("sched_switches", &switch),
    ]
}

fn known_scheduler() -> Scheduler {
    let mut scheduler = Scheduler::default();
    assert!(scheduler.is_unknown());
    let looked: Vec<bool> =
        (0..).zip(scheduler_classes()).map(|(n, class)| scheduler.look(n, &class)).collect();
    assert_eq!(looked, [false, true, true, true, false, true, false, false, false]);
    assert!(!scheduler.is_unknown());
    scheduler
}

#[test]
fn the_first_of_each_name_that_has_the_fields_counts() {
    let scheduler = known_scheduler();
    assert_eq!(scheduler.switch.map(|s| (s.prev.class, s.name.is_some())), Some((1, true)));
    let wakes = scheduler.wakes.map(|w| w.map(|w| (w.task.class, w.early)));
    assert_eq!(wakes, [Some((2, false)), Some((3, false)), Some((5, true))]);
    let mut early = Scheduler::default();
    assert!(early.look(0, &class("sched_waking", &[("pid", FieldType::U8)])));
    assert!(!early.is_unknown() && early.switch.is_none());
}

/// A packet that lies at 1000 with these records, and their entries, ten nanoseconds apart.
fn packet(records: &[(u32, Vec<u8>)]) -> (Vec<u8>, Vec<Entry>) {
    let (mut packet, mut entries) = (vec![0; 8], Vec::new());
    for (time, (class, payload)) in (1..).map(|n| n * 10).zip(records) {
        entries.push(Entry::new(time, *class, 1000 + packet.len() as u32));
        packet.extend(RecordHeader::compact(*class, time));
        packet.extend(payload);
    }
    (packet, entries)
}

fn switch(prev: u32, left: u8, name: &[u8; 4], next: u32) -> (u32, Vec<u8>) {
    (1, [&prev.to_le_bytes()[..], &[left], name, &next.to_le_bytes()].concat())
}

#[test]
fn records_tell_who_left_how_and_who_was_woken() {
    let scheduler = known_scheduler();
    let (packet, mut entries) = packet(&[
        switch(6, 0, b"abc\0", 7),
        switch(7, 1, b"def\0", 0),
        switch(0, 2, b"same", u32::MAX),
        switch(u32::MAX, 0x20, b"high", 1 << 28),
        (2, vec![9, 0, 0, 0]),
        (3, vec![10]),
        (5, vec![11]),
        (2, vec![0xff; 4]),
        // Ids that are too large, with the bits of others.
        (2, vec![9, 0, 0, 0x10]),
        switch(1 << 28 | 6, 0x80, b"abc\0", 8),
        // Others' records.
        (0, vec![0; 16]),
        (7, vec![1]),
    ]);
    let told = |entries: &[Entry], before| switches(&packet, 1000, entries, &scheduler, before);
    let (all, names) = told(&entries, (Some(3), Some(5)));
    let expected = [
        one(3, 0, Lost, 0),
        one(5, 0, Begins, 0),
        one(10, 8, LeftReady, 7),
        one(20, 1, LeftAsleep, 8),
        one(30, 0, LeftBlocked, 1),
        one(40, (1 << 28) + 1, LeftDead, 0),
        one(50, 0, Woken, 10),
        one(60, 0, Woken, 11),
        one(70, 0, Waking, 12),
        one(80, 0, Woken, 0),
        one(90, 0, Woken, 0),
        one(100, 9, LeftAsleep, 0),
    ];
    assert_eq!(all, expected);
    let called: Vec<(u32, &[u8])> = names.iter().map(|(s, name)| (*s, &name[..5])).collect();
    let abc: &[u8] = b"abc\0\0";
    assert_eq!(called, [(8, abc), (1, b"def\0\0"), ((1 << 28) + 1, b"high\0"), (9, abc)]);

    assert_eq!(told(&entries, (None, Some(5))).0, expected[1..]);
    assert_eq!(told(&entries, (None, None)).0, expected[2..]);
    // Records that lie outside tell nothing.
    entries[1].offset = 1000 + packet.len() as u32 - 3;
    entries[2].offset = 0;
    let outside = told(&entries[..3], (None, None));
    assert_eq!((outside.0, outside.1.len()), (expected[2..3].to_vec(), 1));
    // What ends early.
    let end = Entry::new(15, NO_CLASS, 0);
    let broken = [entries[0], end, end, entries[3]];
    let broken = told(&broken, (None, None)).0;
    assert_eq!(broken, [expected[2], one(15, 0, Lost, 0)]);
}

#[test]
fn how_somebody_left_is_what_its_state_says() {
    let scheduler = known_scheduler();
    let kind = |state| {
        let (packet, entries) = packet(&[switch(6, state, b"abc\0", 7)]);
        switches(&packet, 1000, &entries, &scheduler, (None, None)).0[0].told()
    };
    for (state, expected) in [
        (0, LeftReady),
        (1, LeftAsleep),
        (2, LeftBlocked),
        (3, LeftBlocked),
        (4, LeftAsleep),
        (8, LeftAsleep),
        (0x10, LeftDead),
        (0x20, LeftDead),
        (0x22, LeftDead),
        (0x40, LeftAsleep),
        (0x80, LeftAsleep),
        (0x82, LeftBlocked),
    ] {
        assert_eq!(kind(state), (expected, 7), "{state:#x}");
    }
}

#[test]
fn a_switch_tells_back_who_ran() {
    let settled = |all: &[Transition]| plain(&settle(all.iter().copied()));
    // Up to where nothing is missing, and who woke somebody there.
    let all = [
        one(1, 0, Lost, 0),
        one(2, 0, Lost, 0),
        one(3, 0, Begins, 0),
        one(4, 0, Woken, 9),
        one(5, 0, Begins, 0),
        one(6, 0, Waking, 8),
        one(7, 6, LeftReady, 5),
        one(8, 0, Woken, 9),
    ];
    let expected = [
        (1, 0, Lost, 0),
        (3, 5, Begins, 0),
        (4, 5, Woken, 9),
        (6, 5, Waking, 8),
        (7, 6, LeftReady, 5),
        (8, 6, Woken, 9),
    ];
    assert_eq!(settled(&all), expected);
    // Not beyond what is missing; there need not be any beginning.
    let all =
        [one(1, 3, LeftDead, 2), one(2, 0, Lost, 0), one(3, 0, Woken, 9), one(4, 5, LeftReady, 4)];
    let expected = [(1, 3, LeftDead, 2), (2, 0, Lost, 0), (3, 4, Woken, 9), (4, 5, LeftReady, 4)];
    assert_eq!(settled(&all), expected);
    // Somebody else came in between: when, nobody knows.
    let all = [
        one(1, 3, LeftReady, 2),
        one(2, 4, LeftReady, 3),
        one(3, 0, Woken, 9),
        one(4, 7, LeftReady, 6),
        one(5, 8, LeftReady, 0),
        one(6, 0, Woken, 9),
        one(7, 9, LeftReady, 8),
    ];
    let found = settle(all);
    let known: Vec<(u32, u32, bool)> =
        found.iter().map(|t| (t.known(), t.state, t.left_untold())).collect();
    let expected = [
        (3, 3, false),
        (0, 4, true),
        (0, 0, false),
        // Of nobody nothing is told back.
        (7, 7, false),
        (8, 8, false),
        (8, 8, false),
        (9, 9, false),
    ];
    assert_eq!(known, expected);
    assert_eq!(found[1].told(), (LeftReady, 3));
    // A CPU's lane: who came is not thought to have stayed.
    let held = states(&found, &Window { from: 1, to: 5, columns: 4 }, MANY);
    let held: Vec<u32> = held.iter().map(|h| h.longest[0].0).collect();
    assert_eq!(held, [3, 0, 0, 7]);
    // Who is told back was there since the last switch that told of nobody.
    let all = [one(1, 0, LeftReady, 2), one(2, 4, LeftReady, 3)];
    assert_eq!(settled(&all), [(1, 3, LeftReady, 2), (2, 4, LeftReady, 3)]);
}

/// When, on which stream, by whom, who, and whether it is told where that happens.
type Woke = (u64, u32, u32, u32, bool);

/// What processes did in columns of ten nanoseconds from 100 on: of each column where they ran (0:
/// they did not), and how long they ran, waited, were blocked and slept.
fn did(
    streams: &[&[Transition]],
    (since, until): (u64, u64),
    tasks: &[u32],
) -> (Vec<Vec<Column>>, Vec<Woke>) {
    let window = Window { from: 100, to: 140, columns: 4 };
    let settled: Vec<Vec<Transition>> = streams.iter().map(|s| settle(s.iter().copied())).collect();
    let slices: Vec<&[Transition]> = settled.iter().map(|s| &s[..]).collect();
    let found = threads(&slices, &window, (since, until), tasks);
    let column = |d: &Doing| (d.on, [d.running, d.waiting, d.blocked, d.asleep]);
    let lanes = found.doing.chunks(4).map(|lane| lane.iter().map(column).collect()).collect();
    let woken = found.woken.expect("few");
    (lanes, woken.iter().map(|w| (w.time, w.stream, w.waker, w.task, w.early)).collect())
}

/// Where they ran, and how long they ran, waited, were blocked and slept.
type Column = (u32, [u64; 4]);

const NOT: Column = (0, [0; 4]);

#[test]
fn processes_run_wait_are_blocked_and_sleep() {
    let first = [
        // Before the window: 5 is asleep, 6 runs.
        one(80, 6, LeftAsleep, 5),
        one(95, 0, Waking, 5),
        one(103, 0, Woken, 9),
        one(105, 5, LeftBlocked, 6),
        one(112, 7, LeftReady, 5),
        one(118, 0, Woken, 6),
        // Woken already.
        one(119, 0, Waking, 6),
        one(120, 5, LeftDead, 7),
        one(137, 1, LeftAsleep, 5),
        one(140, 7, LeftReady, 1),
    ];
    let (lanes, woken) = did(&[&first], (0, MANY), &[7, 5, 6, 9]);
    assert_eq!(lanes[0], [NOT, (1, [8, 0, 0, 0]), NOT, NOT], "dead: nothing is known");
    let expected = [(1, [5, 5, 0, 0]), (1, [2, 8, 0, 0]), (1, [10, 0, 0, 0]), (1, [7, 0, 0, 3])];
    assert_eq!(lanes[1], expected);
    let expected = [(1, [5, 0, 5, 0]), (0, [0, 2, 8, 0]), (0, [0, 10, 0, 0]), (0, [0, 10, 0, 0])];
    assert_eq!(lanes[2], expected);
    assert_eq!(lanes[3][0], (0, [0, 7, 0, 0]), "nothing was known, then it could run");
    let expected = [(103, 0, 6, 9, false), (118, 0, 7, 6, false), (119, 0, 7, 6, true)];
    assert_eq!(woken, expected);

    // What happened before a time tells only who ran then.
    let (lanes, _) = did(&[&first], (90, MANY), &[5]);
    assert_eq!(lanes[0][0], (1, [5, 5, 0, 0]));
    let (lanes, _) = did(&[&first], (96, MANY), &[5, 6]);
    assert_eq!((lanes[0][0], lanes[1][0]), ((1, [5, 0, 0, 0]), (1, [5, 0, 5, 0])));
    let (lanes, woken) = did(&[&first], (200, 111), &[5, 7]);
    assert_eq!(lanes[0], [(1, [5, 0, 0, 0]), (1, [1, 0, 0, 0]), NOT, NOT], "known until 111");
    assert_eq!((&lanes[1][..], woken.len()), (&[NOT; 4][..], 0));
    assert_eq!(did(&[&first], (0, 100), &[5, 6]).0, [[NOT; 4], [NOT; 4]]);
}

#[test]
fn processes_go_from_one_cpu_to_another() {
    let first = [one(90, 5, LeftReady, 1), one(104, 1, LeftReady, 5), one(125, 1, LeftAsleep, 5)];
    // At the same time: the CPUs' order counts.
    let second = [one(104, 5, LeftReady, 1), one(115, 1, LeftReady, 5)];
    let third = [one(118, 5, LeftReady, 1)];
    let (lanes, _) = did(&[&first[..2], &second], (0, MANY), &[5]);
    let expected = [(1, [10, 0, 0, 0]), (2, [5, 5, 0, 0]), (0, [0, 10, 0, 0]), (0, [0, 10, 0, 0])];
    assert_eq!(lanes[0], expected);
    // It came to the third CPU, and then left the first one, where it was thought to be nowhere.
    let (lanes, _) = did(&[&first, &second, &third], (0, MANY), &[5]);
    assert_eq!(lanes[0][1..], [(2, [5, 3, 0, 0]), (0, [0, 0, 0, 5]), (0, [0, 0, 0, 10])]);
    // It was there when it came to another one: since when it no longer was, nobody knows.
    let (lanes, _) = did(&[&first[..1], &third], (0, MANY), &[5]);
    assert_eq!(lanes[0], [NOT, (2, [2, 0, 0, 0]), (2, [10, 0, 0, 0]), (2, [10, 0, 0, 0])]);
    // To where it is thought to be already.
    let again = [one(90, 5, LeftReady, 1), one(115, 5, LeftReady, 5)];
    let (lanes, _) = did(&[&again], (0, MANY), &[5]);
    assert_eq!(lanes[0], [(1, [10, 0, 0, 0]); 4]);
}

#[test]
fn what_is_missing_is_not_known_of_processes() {
    // 5 runs until something is missing, from 118 on nothing is: 6 runs then, and was asleep.
    let first = [
        one(101, 0, Begins, 0),
        one(103, 5, LeftAsleep, 6),
        one(106, 0, Lost, 0),
        one(118, 0, Begins, 0),
        one(119, 0, Waking, 5),
        one(124, 7, LeftReady, 6),
    ];
    let (lanes, woken) = did(&[&first], (0, MANY), &[5, 6]);
    let expected = [(1, [3, 0, 0, 0]), (0, [0, 1, 0, 0]), (0, [0, 10, 0, 0]), (0, [0, 10, 0, 0])];
    assert_eq!(lanes[0], expected);
    // How long it slept is not told.
    assert_eq!(
        lanes[1],
        [(1, [2, 0, 0, 0]), (1, [2, 0, 0, 0]), (1, [4, 6, 0, 0]), (0, [0, 10, 0, 0])]
    );
    assert_eq!(woken, [(119, 0, 6, 5, true)]);
    // The CPU's first one that is looked at may tell since when it is known.
    let (lanes, _) = did(&[&[one(90, 0, Begins, 0), one(103, 5, LeftAsleep, 6)]], (95, MANY), &[6]);
    assert_eq!(lanes[0][0], (1, [3, 0, 0, 7]));
    let lost = [one(90, 5, LeftReady, 1), one(95, 0, Lost, 0)];
    assert_eq!(did(&[&lost], (97, MANY), &[5]).0, [[NOT; 4]]);
}

#[test]
fn who_left_untold_is_no_longer_thought_to_wait_or_to_sleep() {
    let first = [
        one(101, 0, Begins, 0),
        one(102, 6, LeftReady, 5),
        // 5 had come, then somebody, then 7; that left.
        one(113, 5, LeftAsleep, 6),
        one(114, 0, Waking, 6),
        one(125, 8, LeftReady, 7),
    ];
    let (lanes, woken) = did(&[&first], (0, MANY), &[5, 6, 7, 8]);
    assert_eq!(lanes[0], [(1, [1, 8, 0, 0]), (0, [0, 3, 0, 0]), NOT, NOT]);
    assert_eq!(lanes[1][1], (1, [3, 6, 0, 1]));
    assert_eq!(lanes[2], [NOT, NOT, (0, [0, 5, 0, 0]), (0, [0, 10, 0, 0])]);
    assert_eq!(lanes[3], [NOT, NOT, (1, [5, 0, 0, 0]), (1, [10, 0, 0, 0])]);
    assert_eq!(woken, [(114, 0, 0, 6, true)], "who woke it nobody knows");
    assert_eq!(did(&[&first], (120, MANY), &[5]).0[0], lanes[0], "a later time is the window's");
    // It came before all that is looked at.
    let first = [one(80, 5, LeftReady, 1), one(105, 7, LeftReady, 6)];
    assert_eq!(did(&[&first], (90, MANY), &[5]).0, [[NOT; 4]]);
    // Then another CPU's word counts.
    let (lanes, _) = did(&[&[one(85, 5, LeftReady, 1)], &first], (90, MANY), &[5]);
    assert_eq!(lanes[0], [(1, [10, 0, 0, 0]); 4]);
    // Somebody left of whom is not told who: who was thought to run does no longer.
    let first = [one(90, 5, LeftReady, 1), one(105, 7, LeftAsleep, 0)];
    assert_eq!(did(&[&first], (0, MANY), &[5]).0, [[(1, [5, 0, 0, 0]), NOT, NOT, NOT]]);
}

#[test]
fn wake_ups_are_told_of_the_window_in_order_and_not_too_many() {
    let wakes = |n: u64| -> Vec<Transition> { (0..n).map(|_| one(110, 0, Woken, 5)).collect() };
    let window = Window { from: 100, to: 140, columns: 4 };
    let of = |all: &[Transition]| threads(&[all], &window, (0, MANY), &[5]).woken.map(|w| w.len());
    assert_eq!(of(&wakes(MOST_WOKEN as u64)), Some(MOST_WOKEN));
    assert_eq!(of(&wakes(MOST_WOKEN as u64 + 1)), None);
    let edges = [99, 100, 139, 140].map(|time| one(time, 0, Woken, 5));
    assert_eq!(of(&edges), Some(2));
    let second = [one(105, 0, Waking, 6), one(105, 0, Woken, 5), one(120, 0, Woken, 7)];
    let (_, woken) = did(&[&wakes(1), &second, &second[..1]], (0, MANY), &[5, 6]);
    let expected =
        [(105, 1, 0, 5, false), (105, 1, 0, 6, true), (105, 2, 0, 6, true), (110, 0, 0, 5, false)];
    assert_eq!(woken, expected);
    let none = threads(&[&second], &Window { columns: 0, ..window }, (0, MANY), &[5]);
    assert_eq!(none, Threads { doing: vec![], woken: Some(vec![]) });
}
