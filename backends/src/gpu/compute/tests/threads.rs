//! What CPUs' schedulers tell, and what processes did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rbpipe_core::class::{EventClass, Field, FieldType, Integer};
use rbpipe_core::decode::Classes;

use super::picks::{STREAMS, Seen, arrive_of};
use super::walks::packet_of;
use super::*;
use crate::timeline::tests::{LAST, Random, times, windows};
use crate::timeline::{
    Kind, Name, Scheduler, Transition, Window, settle, states, switches, threads, walk,
};

/// What a scheduler tells at random, mostly as one would: of so many processes.
pub(super) struct Told {
    pub running: [u32; 8],
    pub tasks: u64,
}

impl Told {
    /// The next of a stream, who the process is as an id.
    fn next(&mut self, random: &mut Random, stream: usize) -> (Kind, u32, u32) {
        let task = random.below(self.tasks) as u32;
        let kind = match random.below(10) {
            0 => Kind::LeftReady,
            1 => Kind::LeftBlocked,
            2 => Kind::LeftDead,
            3..6 => Kind::LeftAsleep,
            6..8 => Kind::Waking,
            _ => Kind::Woken,
        };
        if matches!(kind, Kind::Woken | Kind::Waking) {
            return (kind, task, 0);
        }
        // Now and then somebody leaves who is not thought to run.
        let mut prev = self.running[stream];
        if random.below(9) == 0 {
            prev = random.below(self.tasks) as u32;
        }
        self.running[stream] = task;
        (kind, prev, task)
    }
}

pub(super) fn sched_classes() -> Classes {
    let text = |n| FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), n);
    let of = |name: &str, fields: Vec<(&str, FieldType)>| {
        let fields = fields.into_iter().map(|(name, ty)| Field::new(name, ty)).collect();
        Arc::new(EventClass::new(name, fields))
    };
    Classes::new([
        of("other", vec![("s", FieldType::String)]),
        of(
            "sched:sched_switch",
            vec![
                ("prev_comm", text(5)),
                ("prev_pid", FieldType::U16),
                ("prev_state", FieldType::I64),
                ("next_comm", text(7)),
                ("next_pid", FieldType::Integer(Integer::signed(8))),
            ],
        ),
        of("sched_wakeup", vec![("pid", FieldType::I32)]),
        // The first one counts.
        of("sched:sched_wakeup", vec![("s", FieldType::U32), ("pid", FieldType::I32)]),
        of("sched:sched_wakeup_new", vec![("pid", FieldType::String)]),
        of("sched:sched_waking", vec![("comm", text(3)), ("pid", FieldType::U8)]),
    ])
}

fn name(task: u32) -> [u8; 7] {
    let mut name = [b'n'; 7];
    name[..4].copy_from_slice(&task.to_le_bytes());
    name
}

/// A record of these classes.
pub(super) fn record(random: &mut Random, told: &mut Told, stream: usize) -> (u32, Vec<u8>) {
    if random.below(6) == 0 {
        return match random.below(2) {
            0 => (0, b"text\0"[random.below(5) as usize..].to_vec()),
            _ => (3, vec![3; 8]),
        };
    }
    let (kind, task, next) = told.next(random, stream);
    let states: &[i64] = match kind {
        Kind::LeftReady => &[0, 0x100, 0x400],
        Kind::LeftAsleep => &[1, 4, 8, 0x401],
        Kind::LeftBlocked => &[2, 0x82],
        _ => &[0x10, 0x20, 0x32],
    };
    let state = states[random.below(states.len() as u64) as usize];
    match kind {
        // Now and then one whose id is too large.
        Kind::Woken if state == 0x32 => (2, vec![1, 2, 3, 0x30]),
        Kind::Woken => (2, task.to_le_bytes().to_vec()),
        Kind::Waking => (5, vec![1, 2, 3, task as u8]),
        _ => {
            let next = if random.below(60) == 0 { u32::MAX } else { next };
            let (prev, left) = (task as u16, state.to_le_bytes());
            let all = [&[0; 5][..], &prev.to_le_bytes(), &left, &name(next), &[next as u8]];
            (1, all.concat())
        }
    }
}

/// What a stream's packets tell.
pub(super) fn settled(
    packets: &[Seen],
    scheduler: &Scheduler,
) -> (Vec<Transition>, Vec<(u32, Name)>) {
    let (mut all, mut names) = (Vec::new(), Vec::new());
    for Seen { bytes, place, lost } in packets {
        let filled = walk(bytes, place, &sched_classes()).filled(place);
        let before = (*lost, Some(place.begin));
        let (told, mine) = switches(bytes, place.base, &filled, scheduler, before);
        all.extend(told);
        names.extend(mine);
    }
    (settle(all), names)
}

#[test]
fn what_the_scheduler_tells_is_taken_as_it_comes() {
    let Some(compute) = compute() else { return };
    let mut random = Random(22);
    let mut scheduler = Scheduler::default();
    let classes = sched_classes();
    let known: Vec<bool> = (0..)
        .zip(classes.all())
        .map(|(n, class)| {
            scheduler.look(rbpipe_core::class::ClassId::from_index(n).number(), class)
        })
        .collect();
    assert_eq!(known, [false, true, true, false, false, true]);
    for room in [4000, 64] {
        let mut timeline = Timeline::new(&compute.device, &compute.queue, 8000).unwrap();
        let take = Take::Switches(scheduler);
        let number = timeline.pick(Picker::new(compute, take, STREAMS as u32, room).unwrap());
        let mut told = Told { running: [0; 8], tasks: 9 };
        let make = |random: &mut Random, stream, records, begin| {
            packet_of(random, records, begin, |random| record(random, &mut told, stream))
        };
        let seen = arrive_of(compute, &mut timeline, &mut random, &classes, make, |_| {});
        let rings = timeline.pickers()[number].read(|b| read(compute, b));
        let mut called = HashMap::<u32, HashSet<Name>>::new();
        let mut lanes = Vec::new();
        for (ring, packets) in rings.iter().zip(&seen) {
            let (all, names) = settled(packets, &scheduler);
            assert!(all.len() > 64, "it did not go round");
            let newest = all[all.len().saturating_sub(room as usize)..].to_vec();
            assert_eq!(transition_words(&newest), ring.concat());
            for kind in 0..8 {
                assert!(room == 64 || all.iter().any(|t| t.told().0 as u32 == kind), "{kind}");
            }
            let known = newest.iter().filter(|t| t.known() != 0).count();
            assert!(known > newest.len() / 4 && known < newest.len(), "{known}");
            names.into_iter().for_each(|(s, n)| _ = called.entry(s).or_default().insert(n));
            lanes.push(newest);
        }
        let newest = seen.iter().flatten().map(|s| s.place.end).max().unwrap();
        for window in [
            Window { from: 0, to: u64::MAX, columns: 3 },
            Window { from: 1 << 40, to: newest, columns: 200 },
            Window { from: newest - (newest - (1 << 40)) / 3, to: newest + 9, columns: 30 },
        ] {
            let until = newest - random.below(1 << 32);
            let asked = timeline.states(number, &window, until).unwrap().unwrap();
            let (found, names) = asked.wait().unwrap();
            let plain: Vec<_> = lanes.iter().flat_map(|l| states(l, &window, until)).collect();
            assert_eq!(found, plain, "{window:?}");
            // Each is called as it was told; where two streams told it at once it may have none.
            for (state, name) in &names {
                assert!(called[state].contains(name), "{state} is {name:?}");
            }
            assert!(names.len() >= 8, "{names:?}");

            let tasks: Vec<u32> = (2..7).collect();
            let times = (window.from.saturating_sub(window.span()), until);
            let found = timeline.threads(number, &window, times, &tasks).unwrap().unwrap();
            let slices: Vec<&[Transition]> = lanes.iter().map(|l| &l[..]).collect();
            assert_eq!(found.wait().unwrap(), threads(&slices, &window, times, &tasks));
        }
    }
}

#[test]
fn what_the_index_has_no_room_for_is_missing() {
    let Some(compute) = compute() else { return };
    let mut random = Random(24);
    let mut scheduler = Scheduler::default();
    let classes = sched_classes();
    (0..).zip(classes.all()).for_each(|(n, class)| _ = scheduler.look(n, class));
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 10).unwrap();
    timeline.classes(classes.all().map(|c| &**c));
    let take = Take::Switches(scheduler);
    let number = timeline.pick(Picker::new(compute, take, 1, 10_000).unwrap());
    let mut told = Told { running: [0; 8], tasks: 9 };
    let (bytes, place) = packet_of(&mut random, 3000, 1000, |random| record(random, &mut told, 0));
    let most = timeline.index().capacity() as u32;
    assert!(place.room > most);
    let data = buffer(compute, &words_of(&bytes));
    let mut encoder = compute.encoder("arrive");
    // Since before it, already.
    let arrival = Arrival { stream: 0, data: &data, offset: 0, place, lost: Some(900) };
    timeline.arrive(&mut encoder, &[arrival]).unwrap();
    compute.submit(encoder, &[]).wait().unwrap();
    let entries = walk(&bytes, &place, &classes).entries;
    let kept = &entries[entries.len() - most as usize..];
    let before = (Some(900), None);
    let all = settle(switches(&bytes, place.base, kept, &scheduler, before).0);
    let rings = timeline.pickers()[number].read(|b| read(compute, b));
    assert_eq!(transition_words(&all), rings[0].concat());
    assert_eq!(all[0].told().0, Kind::Lost);
}

/// So many transitions of a stream, at these times.
fn stream(random: &mut Random, told: &mut Told, number: usize, times: &[u64]) -> Vec<Transition> {
    let one = |random: &mut Random, told: &mut Told, time| {
        if random.below(20) == 0 {
            let kind = [Kind::Lost, Kind::Begins][random.below(2) as usize];
            return Transition::telling(time, 0, kind, 0);
        }
        let (kind, task, next) = told.next(random, number);
        match kind {
            Kind::Woken | Kind::Waking => Transition::telling(time, 0, kind, task + 1),
            // Now and then it is not told who left.
            _ if random.below(30) == 0 => Transition::telling(time, next + 1, kind, 0),
            _ => Transition::telling(time, next + 1, kind, task + 1),
        }
    };
    settle(times.iter().map(|t| one(random, told, *t)).collect::<Vec<_>>())
}

#[test]
fn threads_are_their_twins() {
    let Some(compute) = compute() else { return };
    let mut random = Random(25);
    let (mut did, mut many) = ([0u64; 5], 0);
    for round in 0..12 {
        for window in windows(&mut random) {
            let mut told = Told { running: [0; 8], tasks: [3, 12, 300][round % 3] };
            let streams = 1 + random.below(8) as usize;
            let back = [0, window.span(), random.below(window.span().max(1))][round % 3];
            let since = window.from.saturating_sub(back);
            let until = [LAST, window.from + window.span() / 2, 0][random.below(3) as usize];
            let (mut words, mut lanes, mut all) = (Vec::new(), Vec::new(), Vec::new());
            for number in 0..streams {
                let most = if round % 3 == 0 { 6000 } else { 700 };
                let n = [0, 1, 5, 70, most][random.below(5) as usize];
                // Who runs when it begins may have come before.
                let older = [0, 0, window.span() / 4][random.below(3) as usize];
                let from = since.saturating_sub(older);
                let wide = Window { from, ..window };
                let mut times = times(&mut random, &wide, n);
                times.sort_unstable();
                let mine = stream(&mut random, &mut told, number, &times);
                lanes.push(ring(&mut random, &mine, &mut words));
                all.push(mine);
            }
            let buffer = buffer(compute, &words);
            let tasks = [vec![], vec![2], vec![3, 9, 2, 5], (2..60).collect()]
                [random.below(4) as usize]
                .clone();
            let slices: Vec<&[Transition]> = all.iter().map(|l| &l[..]).collect();
            let plain = threads(&slices, &window, (since, until), &tasks);
            let found = compute.threads(&buffer, &lanes, &window, (since, until), &tasks).unwrap();
            let found = found.wait().unwrap();
            assert_eq!(found, plain, "{window:?} since {since}");
            for doing in &plain.doing {
                did[0] += doing.running.min(1);
                did[1] += doing.waiting.min(1);
                did[2] += doing.blocked.min(1);
                did[3] += doing.asleep.min(1);
                did[4] += u64::from(doing.on > 3);
            }
            many += u64::from(plain.woken.is_none());
        }
    }
    assert!(did.iter().all(|n| *n > 50) && many > 0, "{did:?} {many}");
}

#[test]
fn where_many_streams_leave_room_for_few_columns_there_are_few_before_the_window() {
    let Some(compute) = compute() else { return };
    // More streams than a picture's columns, and as many before it, have room for.
    let streams = 1024;
    let columns = (compute.binding_size() / 16 / streams as u64) as u32 - 2;
    // It came before all that is looked at.
    let ran = [Transition::telling(5, 3, Kind::LeftAsleep, 1)];
    let buffer = buffer(compute, &transition_words(&ran));
    let lane = Lane { base: 0, capacity: 1, first: 0, len: 0 };
    let mut lanes = vec![lane; streams];
    lanes[7].len = 1;
    let mut slices: Vec<&[Transition]> = vec![&[]; streams];
    slices[7] = &ran;
    let window = Window { from: 1_000_000, to: 2_000_000, columns };
    let found = compute.threads(&buffer, &lanes, &window, (10, LAST), &[3]).unwrap();
    let found = found.wait().unwrap();
    assert_eq!(found, threads(&slices, &window, (10, LAST), &[3]));
    assert_eq!(found.doing.iter().map(|d| d.running).sum::<u64>(), 1_000_000);
}

#[test]
fn who_ran_is_told_of_as_many_streams_as_have_room() {
    let Some(compute) = compute() else { return };
    let classes = sched_classes();
    let mut timeline = Timeline::new(&compute.device, &compute.queue, 1 << 19).unwrap();
    timeline.classes(classes.all().map(|c| &**c));
    let mut scheduler = Scheduler::default();
    (0..).zip(classes.all()).for_each(|(n, class)| _ = scheduler.look(n, class));
    let number = timeline.pick(Picker::new(compute, Take::Switches(scheduler), 1024, 16).unwrap());
    let mut random = Random(28);
    let mut told = Told { running: [0; 8], tasks: 9 };
    let (bytes, place) = packet_of(&mut random, 8, 1000, |random| record(random, &mut told, 0));
    let data = buffer(compute, &words_of(&bytes));
    let one = |stream| Arrival { stream, data: &data, offset: 0, place, lost: None };
    let arrivals: Vec<Arrival<'_>> = (0..1024).map(one).collect();
    let mut encoder = compute.encoder("arrive");
    timeline.arrive(&mut encoder, &arrivals).unwrap();
    compute.submit(encoder, &[]).wait().unwrap();
    for (columns, most) in [(100, 1024), (8192, compute.binding_size() / 44 / 8192)] {
        let window = Window { from: 1000, to: place.end + 9, columns };
        let asked = timeline.states(number, &window, LAST).unwrap().unwrap();
        let (held, _) = asked.wait().unwrap();
        assert_eq!(held.len() as u64, most.min(1024) * u64::from(columns));
    }
}
