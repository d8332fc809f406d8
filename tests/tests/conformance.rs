//! Goal: every backend of the registry keeps the engine's promises in every mode.
//! Method: writers with records that prove themselves; outputs that are slow, stalled, fail
//! or are cancelled; then the books must balance to the last record, and what is in a trace
//! must be whole, in order, and say what is missing.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::gpu::Gpu;
use rbpipe_core::backend::{Backend, ChannelPlan, Context, Visit};
use rbpipe_core::channel::{Channel, ChannelOptions, StreamReport, Streams};
use rbpipe_core::decode::Classes;
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::faulty::{Fault, Faulty};
use rbpipe_tests::have_gpu;
use rbpipe_tests::kept::KeptCheck;
use rbpipe_tests::records::{self, Found};
use rbpipe_tests::terminal::Terminal;

#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    streams: Streams,
    size: u64,
    count: u32,
    reader: u32,
    writers: u32,
    records: u64,
    payload: usize,
    abort: u64,
    fault: Fault,
    /// Which memory, for backends that have a choice: by its place in [`kinds_of_memory`].
    memory: usize,
    /// Which device, for backends that have a choice.
    adapter: &'static str,
    /// The channel ends while its writers write (or wait for room, for ever).
    ends: bool,
}

const PLAIN: Case = Case {
    mode: Mode::Discard,
    streams: Streams::PerCpu,
    size: 4096,
    count: 4,
    reader: 2,
    writers: 2,
    records: 4000,
    payload: 24,
    abort: 0,
    fault: Fault::None,
    memory: 0,
    adapter: "noop",
    ends: false,
};

/// What `memory = "…"` can be.
fn kinds_of_memory(backend: &str) -> [&'static str; 3] {
    match backend {
        "gpu" => ["staged", "direct", "heap"],
        _ => ["heap", "huge", "memfd"],
    }
}

/// Runs a case through every backend.
struct Run(Case);

impl Visit for Run {
    fn visit<B: Backend>(&mut self) {
        run::<B>(self.0);
    }
}

fn run_all(case: Case) {
    rbpipe_backends::for_each(&mut Run(case));
}

fn run<B: Backend>(case: Case) {
    let dir = tempfile::tempdir().expect("a directory");
    // The sample says what keys there are; a path leads into our own directory.
    let mut table: toml::Table = B::SAMPLE.parse().expect("a sample is TOML");
    table.remove("type");
    let trace = dir.path().join("trace");
    if table.contains_key("path") {
        table.insert("path".into(), trace.display().to_string().into());
    }
    // A line that is as fast as the rings, so that it is the engine that is seen.
    let terminal = (B::TYPE == "serial").then(|| Terminal::new(u32::MAX));
    if let Some(terminal) = &terminal {
        table.insert("path".into(), terminal.path.display().to_string().into());
        table.insert("baud".into(), 4_000_000_000i64.into());
        table.insert("frame".into(), 4096.into());
        table.insert("drain_timeout".into(), "60 s".into());
    }
    if table.contains_key("memory") {
        table.insert("memory".into(), kinds_of_memory(B::TYPE)[case.memory].into());
    }
    if table.contains_key("adapter") {
        table.insert("adapter".into(), case.adapter.into());
    }
    let config: B::Config = table.try_into().expect("a sample can be read");
    let (classes, class) = records::classes();
    let plan = ChannelPlan {
        name: "c".into(),
        geometry: Geometry::new(case.size, case.count, case.reader, 84).expect("a geometry"),
        mode: case.mode,
        classes: Arc::clone(&classes),
    };
    let context = Context::new("test");
    let mut backend = Faulty::<B>::open(config, &plan, &context).expect("it opens");
    backend.fault = case.fault;
    let takes = backend.takes(case.mode);
    // What becomes of its packets is looked at as a trace is.
    let gpu = (&backend.backend as &dyn Any).downcast_ref::<Gpu>();
    let kept = gpu.map(|gpu| (Arc::clone(gpu.store()), gpu.device().cloned()));
    let options = ChannelOptions {
        plan,
        streams: case.streams,
        block_timeout: (!case.ends).then_some(Duration::from_secs(20)),
        switch_timer: Some(Duration::from_millis(3)),
        read_timer: Some(Duration::from_millis(1)),
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(5), &mut |n| {
            // More writers than processors: one may well be away for three milliseconds.
            assert!(matches!(n, Notice::Stalled { .. }), "{n}");
        })
    });
    let writers: Vec<_> = (0..case.writers)
        .map(|w| {
            let writer = writer.clone();
            // Lengths go up and down, so that records end everywhere in a sub-buffer.
            let len = move |seq: u64| (seq as usize * 7) % (case.payload + 1);
            std::thread::spawn(move || {
                records::write(&writer, class, w, case.records, len, case.abort)
            })
        })
        .collect();
    if case.ends {
        std::thread::sleep(Duration::from_millis(30));
        control.stop();
    }
    let offered: u64 = writers.into_iter().map(|w| w.join().expect("a writer")).sum();
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let reports = monitor.streams();
    let t = check_books(&case, &reports, offered);
    if takes && trace.exists() {
        let found = records::verify(&trace, &classes);
        check_trace(&case, &found, &t, B::TYPE);
    }
    if let Some((store, device)) = kept {
        let mut check = KeptCheck::default();
        check.read(&store, device.as_ref(), &Classes::new(classes.all()));
        assert_eq!(check.overwritten, 0, "{case:?}: the store holds all");
        check_trace(&case, &check.found(), &t, B::TYPE);
    }
}

/// Totals of a channel.
#[derive(Debug, Default)]
struct Totals {
    written: u64,
    aborted: u64,
    lost: u64,
}

fn check_books(case: &Case, streams: &[StreamReport], offered: u64) -> Totals {
    let (mut t, mut all, mut recorded, mut failed, mut kept) = (Totals::default(), 0, 0, 0, 0);
    for s in streams {
        let (b, e) = (&s.books, &s.books.engine);
        all += e.offered();
        recorded += e.recorded;
        t.written += b.output_records;
        t.aborted += e.aborted;
        t.lost += e.full + e.wrap + e.too_big;
        failed += b.failed_records;
        kept += e.kept;
        let sum = b.output_records + b.failed_records + b.overwritten() + e.kept;
        assert_eq!(e.recorded, sum, "{case:?} {s:?}");
        match case.mode {
            Mode::Overwrite => assert_eq!(e.full, 0, "overwrite never finds a ring full"),
            Mode::Discard | Mode::Block => {
                assert_eq!((e.wrap, b.overwritten()), (0, 0), "{case:?} {s:?}");
            }
        }
    }
    assert_eq!(all, offered, "{case:?}: offered");
    if case.mode == Mode::Block && !case.ends && matches!(case.fault, Fault::None | Fault::Slow(_))
    {
        let too_big: u64 = streams.iter().map(|s| s.books.engine.too_big).sum();
        assert_eq!(t.lost, too_big, "{case:?}: block loses nothing while the output works");
    }
    if matches!(case.fault, Fault::None | Fault::Slow(_) | Fault::Stalled) {
        assert_eq!(failed, 0, "{case:?}");
        assert!(recorded == 0 || t.written + kept > 0, "{case:?}: nothing came through");
    }
    t
}

fn check_trace(case: &Case, found: &Found, t: &Totals, backend: &str) {
    let what = format!("{backend} {case:?} {found:?} {t:?}");
    assert_eq!(found.records, t.written, "{what}");
    let lossy =
        case.mode == Mode::Overwrite || matches!(case.fault, Fault::Failing | Fault::Cancelled);
    if !lossy {
        assert_eq!(found.packets_lost, 0, "{what}");
        assert_eq!(found.aborted, t.aborted, "{what}");
    }
    if matches!(case.fault, Fault::None | Fault::Slow(_) | Fault::Stalled) {
        assert_eq!(found.discarded, t.lost, "{what}");
    }
}

#[test]
fn every_mode_and_kind_of_stream() {
    for mode in Mode::ALL {
        for streams in [Streams::PerCpu, Streams::PerThread(3), Streams::Single] {
            for writers in [1, 2, 8] {
                run_all(Case { mode, streams, writers, ..PLAIN });
            }
        }
    }
}

#[test]
fn sub_buffers_from_a_page_to_a_mebibyte() {
    for mode in Mode::ALL {
        for (size, count, reader) in
            [(4096, 2, 1), (4096, 2, 4), (16 << 10, 8, 3), (256 << 10, 2, 2), (1 << 20, 2, 1)]
        {
            let case = Case { mode, size, count, reader, payload: 300, records: 8000, ..PLAIN };
            run_all(case);
        }
    }
}

#[test]
fn records_from_nothing_to_more_than_a_sub_buffer() {
    for mode in Mode::ALL {
        for payload in [0, 1, 255, 3900, 4000, 9000] {
            run_all(Case { mode, payload, records: 600, count: 8, ..PLAIN });
        }
    }
}

#[test]
fn given_up_reservations_are_told_and_counted() {
    for mode in Mode::ALL {
        for payload in [0, 40, 700] {
            run_all(Case { mode, payload, abort: 3, records: 1500, ..PLAIN });
        }
    }
}

#[test]
fn outputs_that_misbehave_cost_what_is_counted() {
    let slow = Fault::Slow(Duration::from_micros(300));
    for mode in [Mode::Discard, Mode::Overwrite] {
        for fault in [slow, Fault::Stalled, Fault::Failing, Fault::Cancelled] {
            run_all(Case { mode, fault, ..PLAIN });
            run_all(Case { mode, fault, streams: Streams::PerThread(2), writers: 3, ..PLAIN });
        }
    }
    run_all(Case { mode: Mode::Block, fault: slow, records: 1000, ..PLAIN });
    for fault in [Fault::Failing, Fault::Cancelled] {
        run_all(Case { mode: Mode::Block, fault, ..PLAIN });
    }
}

/// Writers that wait for room, for ever, are let go when the channel ends; the trace tells
/// their losses as the report does.
#[test]
fn waiting_writers_are_let_go_at_the_end_and_their_losses_told() {
    let endless = Case { mode: Mode::Block, records: u64::MAX, ends: true, ..PLAIN };
    for streams in [Streams::Single, Streams::PerThread(3), Streams::PerCpu] {
        for writers in [1, 3] {
            run_all(Case { fault: Fault::Stalled, streams, writers, ..endless });
        }
    }
}

/// Backends whose memory can be had in several ways keep their promises in each of them.
#[test]
fn every_kind_of_memory() {
    for memory in 0..3 {
        for mode in Mode::ALL {
            for (size, count, reader) in [(4096, 2, 1), (4096, 8, 4), (1 << 20, 4, 2)] {
                run_all(Case { memory, mode, size, count, reader, ..PLAIN });
            }
        }
    }
}

/// The same on a Vulkan device, with outputs that misbehave, too: memory is exchanged while
/// writers write, and fails to come back.
#[test]
fn every_kind_of_memory_of_a_vulkan_device() {
    if !have_gpu("every_kind_of_memory_of_a_vulkan_device") {
        return;
    }
    // A processor's: its memory can be had in all ways.
    let plain = Case { adapter: "cpu", writers: 4, ..PLAIN };
    for memory in 0..3 {
        for mode in Mode::ALL {
            for (size, count, reader) in [(4096, 2, 1), (4096, 8, 16), (256 << 10, 4, 2)] {
                let case = Case { memory, mode, size, count, reader, ..plain };
                run::<Gpu>(case);
                run::<Gpu>(Case { payload: 700, abort: 3, ..case });
                for fault in [Fault::Failing, Fault::Cancelled] {
                    run::<Gpu>(Case { fault, ..case });
                }
            }
            let ends = Case { memory, mode, records: u64::MAX, ends: true, ..plain };
            run::<Gpu>(Case { streams: Streams::Single, ..ends });
        }
    }
}

/// Packets that are longer than what one write carries, short ones before and after them: a
/// switch timer, threads that come and go, records of nearly a sub-buffer.
#[test]
fn sub_buffers_longer_than_a_write() {
    for mode in Mode::ALL {
        for (streams, writers) in [(Streams::Single, 3), (Streams::PerThread(2), 3)] {
            for payload in [3000, 2_000_000] {
                let records = if payload > 10_000 { 40 } else { 3000 };
                run_all(Case {
                    mode,
                    streams,
                    size: 2 << 20,
                    reader: 4,
                    writers,
                    payload,
                    records,
                    ..PLAIN
                });
            }
        }
    }
}

/// Writers that lose, and go on writing while the channel ends: no loss is in the report that
/// is not in the trace.
#[test]
fn losses_that_race_with_the_end_are_told() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        for round in 0..20 {
            run_all(Case {
                mode,
                streams: Streams::Single,
                count: 2,
                reader: 1,
                writers: 2 + round % 7,
                records: u64::MAX,
                ends: true,
                ..PLAIN
            });
        }
    }
}
