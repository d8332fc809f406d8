//! Goal: the live picture knows who ran on each CPU, what they are called, what each process did,
//! who woke whom, and a field's values: the same whatever way records come, and without a GPU. Method: a schedule that the test decides,
//! with a loss in it, given to a channel as a source gives the kernel's; what it must be is
//! written down here. Without a GPU: this program once more, where no driver is found.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rbpipe_backends::gpu::compute::{Asking, Live, States};
use rbpipe_backends::gpu::{Config, Gpu, Kind, Wanted, Way};
use rbpipe_backends::timeline::{Aggregate, Doing, Held, Window};
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::stream::{GivenRecord, ImportWriter};
use rbpipe_tests::have_gpu;
use rbpipe_tests::schedule::{
    Happened, IDLE, RUNNABLE, SLEEPS, Task, switch, switch_class, wake, waking_class,
};

const MS: u64 = 1_000_000;
const BEGIN: u64 = 1_000 * MS;
const A: Task = (101, "alpha");
const B: Task = (102, "beta");
/// As long as a name can be: it ends with its zero.
const C: Task = (103, "gamma-and-a-hal");
const D: Task = (104, "delta");
/// Columns of an eighth of a second; the last packet's last record is in the last one.
const WINDOW: Window = Window { from: BEGIN, to: BEGIN + 1000 * MS, columns: 8 };
const UNTIL: u64 = BEGIN + 937 * MS;

fn values() -> Vec<(String, String)> {
    ["next_pid", "prev_pid", "next_comm", "next_pip"]
        .map(|field| ("sched:sched_switch".to_owned(), field.to_owned()))
        .into_iter()
        .chain([("sched:sched_swatch".to_owned(), "next_pid".to_owned())])
        .collect()
}

fn write(to: &mut ImportWriter, class: ClassId, events: &[Happened]) {
    for (time, _, payload) in events {
        let record = GivenRecord { time: *time, class, payload };
        assert_eq!(to.write_run(&[record]).expect("it is open"), 1);
    }
}

/// A second of two CPUs, and a third whose stream has something else. Gives who ran on each, and
/// the values that were asked for.
fn second(adapter: Wanted, way: Way) -> (Live, States) {
    let config = Config { adapter, memory: way, ..Config::default() };
    let registry = Arc::new(ClassRegistry::new());
    let geometry = Geometry::new(4096, 8, 8, 84).expect("a geometry");
    let classes = Arc::clone(&registry);
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Block, classes };
    let backend = Gpu::open(config, &plan, &Context::new("states")).expect("it opens");
    let (store, device) = (Arc::clone(backend.store()), backend.device().cloned());
    let asking = Asking { values: values(), room: 1 << 16 };
    let classes = Arc::clone(&registry);
    let live = Live::watch(&store, device.as_ref(), classes, 1 << 16, asking).expect("an index");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: Some(Duration::from_secs(20)),
        switch_timer: None,
        read_timer: Some(Duration::from_millis(1)),
        prefault: false,
    };
    let mut channel = Channel::open(options, backend).expect("it opens");
    let mut cpus = [0, 1, 2].map(|n| channel.import_from(Some(n), BEGIN - 1).expect("a stream"));
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = thread::spawn(move || {
        let mut notice = |n: Notice| panic!("{n}");
        channel.run(&asked, Duration::from_secs(5), &mut notice).expect("it closes");
    });
    assert_eq!(live.states(&WINDOW, UNTIL).expect("a frame"), None, "nobody told of a schedule");
    let other = EventClass::new("other", vec![Field::new("n", FieldType::I32)]);
    let other = registry.register(other).expect("a class");
    let at = |ms: u64| BEGIN + ms * MS;
    let waking = registry.register(waking_class()).expect("a class");
    write(&mut cpus[2], other, &[(BEGIN, 0, vec![1, 0, 0, 0])]);
    write(&mut cpus[2], waking, &[wake(at(770), C)]);
    let class = registry.register(switch_class()).expect("a class");
    write(
        &mut cpus[0],
        class,
        &[
            switch(at(0), IDLE, RUNNABLE, A),
            switch(at(250), A, SLEEPS, B),
            switch(at(375), B, SLEEPS, IDLE),
        ],
    );
    // What happens here nobody knows.
    cpus[0].lost_before(7);
    write(
        &mut cpus[0],
        class,
        &[
            switch(at(625), A, SLEEPS, B),
            switch(at(750), B, SLEEPS, A),
            switch(at(800), A, SLEEPS, B),
            switch(at(850), B, SLEEPS, IDLE),
            switch(at(860), IDLE, RUNNABLE, D),
            switch(at(875), D, RUNNABLE, A),
        ],
    );
    write(&mut cpus[1], class, &[switch(at(125), IDLE, RUNNABLE, C)]);
    let woken = [wake(at(300), A), wake(at(400), D), wake(at(690), A), wake(at(780), B)];
    write(&mut cpus[1], waking, &woken);
    control.stop();
    drain.join().expect("the drain");
    let states = live.states(&WINDOW, UNTIL).expect("a frame").expect("there are");
    (live, states)
}

/// Only this state, so long.
fn one(task: Task, ns: u64) -> Held {
    Held { longest: [(task.0 as u32 + 1, ns), (0, 0), (0, 0)], others: 0 }
}

fn did(cpu: u32, [running, waiting, asleep]: [u64; 3]) -> (Option<u32>, Doing) {
    let of = |ms: u64| ms * MS;
    let (running, waiting, asleep) = (of(running), of(waiting), of(asleep));
    ((running > 0).then_some(cpu), Doing { running, waiting, blocked: 0, asleep, on: 0 })
}

/// Milliseconds of each column in which they ran, waited and slept.
fn threads_are_as_written(live: &Live, way: Way) {
    const NOT: [u64; 3] = [0; 3];
    const RAN: [u64; 3] = [125, 0, 0];
    const WAITED: [u64; 3] = [0, 125, 0];
    const SLEPT: [u64; 3] = [0, 0, 125];
    let expected = [
        // Woken at 300; when it came to its CPU was lost.
        (A, 0, [RAN, RAN, [0, 0, 50], NOT, NOT, [0, 60, 65], [50, 0, 75], [62, 0, 0]]),
        (B, 0, [NOT, NOT, RAN, SLEPT, SLEPT, RAN, [50, 20, 55], [0, 0, 62]]),
        (C, 1, [NOT, RAN, RAN, RAN, RAN, RAN, RAN, [62, 0, 0]]),
        (D, 0, [NOT, NOT, NOT, [0, 100, 0], WAITED, WAITED, [15, 110, 0], [0, 62, 0]]),
    ];
    let tasks: Vec<u32> = expected.iter().map(|(task, ..)| task.0 as u32 + 1).collect();
    // All of it, its half, and the last column: what was before tells how each begins.
    for first in [0, 4, 7] {
        let window = Window { from: WINDOW.edge(first), columns: 8 - first, ..WINDOW };
        let rows = live.threads(&window, UNTIL, &tasks).expect("a frame").expect("so");
        assert!(rows.early);
        let (found, cpu) = (rows.threads, |stream: u32| rows.streams[stream as usize].cpu);
        let columns = found.doing.chunks(window.columns as usize);
        for ((task, ran_on, expected), doing) in expected.iter().zip(columns) {
            let doing: Vec<(Option<u32>, Doing)> = doing
                .iter()
                .map(|d| (d.on.checked_sub(1).and_then(cpu), Doing { on: 0, ..*d }))
                .collect();
            let expected: Vec<_> =
                expected[first as usize..].iter().map(|ms| did(*ran_on, *ms)).collect();
            assert_eq!(doing, expected, "{} from column {first}, {way:?}", task.1);
        }
        let woken: Vec<_> = found
            .woken
            .expect("few")
            .iter()
            .map(|w| {
                assert!(w.early);
                ((w.time - BEGIN) / MS, cpu(w.stream), w.waker, w.task)
            })
            .collect();
        let id = |task: Task| task.0 as u32 + 1;
        let by_c = |ms, task| (ms, Some(1), id(C), id(task));
        let all =
            [by_c(300, A), by_c(400, D), by_c(690, A), (770, Some(2), 0, id(C)), by_c(780, B)];
        let begin = u64::from(first) * 125;
        let all: Vec<_> = all.into_iter().filter(|(ms, ..)| *ms >= begin).collect();
        assert_eq!(woken, all, "{way:?}");
    }
}

fn is_as_written(adapter: &Wanted, way: Way) {
    let (live, states) = second(adapter.clone(), way);
    let row = |cpu: u32| {
        let row = states.rows.iter().find(|(stream, _)| stream.cpu == Some(cpu));
        row.map(|(_, held)| held.clone()).unwrap_or_default()
    };
    let whole = 125 * MS;
    let several =
        Held { longest: [(102, 50 * MS), (103, 50 * MS), (105, 15 * MS)], others: 10 * MS };
    let first = [
        one(A, whole),
        one(A, whole),
        one(B, whole),
        // Up to the last thing that is known.
        one(IDLE, 1),
        Held::default(),
        one(B, whole),
        several,
        one(A, 62 * MS),
    ];
    assert_eq!(row(0), first, "{way:?}");
    let mut second = [one(C, whole); 8];
    (second[0], second[7]) = (Held::default(), one(C, 62 * MS));
    assert_eq!(row(1), second, "{way:?}");
    assert_eq!(row(2), [Held::default(); 8], "{way:?}");
    let name = |task: Task| {
        let name = states.names.get(&(task.0 as u32 + 1)).copied().unwrap_or_default();
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    };
    for task in [A, B, C, D, IDLE] {
        assert_eq!(name(task), task.1, "{way:?}");
    }
    assert_eq!(states.names.len(), 5, "{way:?}");

    threads_are_as_written(&live, way);
    let all = |values: &[i64]| Aggregate {
        min: values.iter().min().copied().unwrap_or(i64::MAX),
        max: values.iter().max().copied().unwrap_or(i64::MIN),
        sum: values.iter().map(|v| i128::from(*v)).sum(),
        count: values.len() as u32,
    };
    let pids: [&[i64]; 8] =
        [&[101], &[103], &[102], &[0], &[], &[102], &[101, 102, 0, 104], &[101]];
    let found = live.values(0, &WINDOW).expect("a frame").expect("it is an integer");
    assert_eq!(found, pids.map(|v| Some(all(v))), "{way:?}");
    let found = live.values(1, &WINDOW).expect("a frame").expect("it is an integer");
    assert_eq!(found[6], Some(all(&[102, 101, 102, 0])), "each field has its own");
    for (n, at_end, sentence) in [
        (2, false, "sched:sched_switch.next_comm is no integer"),
        (3, false, "sched:sched_switch has no field \"next_pip\"; its fields: prev_comm, prev_pid"),
        (
            4,
            true,
            "no event \"sched:sched_swatch\" has come; events: other, sched:sched_waking, sched:sched_switch",
        ),
    ] {
        assert_eq!(live.values(n, &WINDOW).expect("a frame"), None);
        assert_eq!(live.missing(n, false).is_some(), !at_end, "{sentence}");
        let why = live.missing(n, true).expect("there is none");
        assert!(why.contains(sentence), "{why}");
    }
    assert_eq!((live.missing(0, true), live.left_out(WINDOW.columns)), (None, 0));
    let events = live.density(&WINDOW).expect("a frame");
    let counts =
        |cpu| events.iter().find(|(s, _)| s.cpu == Some(cpu)).map(|(_, bins)| bins.clone());
    assert_eq!(counts(0), Some(vec![1, 0, 1, 1, 0, 1, 4, 1]), "{way:?}");
}

#[test]
fn a_known_schedule_is_what_ran_however_it_came() {
    if have_gpu("a_known_schedule_is_what_ran_however_it_came") {
        for way in [Way::Staged, Way::Direct, Way::Heap] {
            is_as_written(&Wanted::Kind(Kind::Cpu), way);
        }
    }
}

/// In a process of its own: where drivers are looked for is said when it starts.
#[test]
fn a_known_schedule_is_what_ran_without_a_gpu() {
    const NOWHERE: &str = "/nowhere/icd.json";
    if std::env::var("VK_DRIVER_FILES").as_deref() == Ok(NOWHERE) {
        return is_as_written(&Wanted::Auto, Way::Auto);
    }
    let me = std::env::current_exe().expect("this program");
    let mut command = Command::new(me);
    command.args(["--exact", "a_known_schedule_is_what_ran_without_a_gpu", "--nocapture"]);
    command.env("VK_DRIVER_FILES", NOWHERE).env("VK_ICD_FILENAMES", NOWHERE);
    let out = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("1 passed"), "{said}{why}");
}
