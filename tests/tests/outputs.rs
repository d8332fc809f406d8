//! Goal: an output that fails, panics, is slow, or leaves its memory unusable between two
//! packets hurts nobody else; a writer that never comes back does not hold up the end. Method:
//! an output that does just that, with K = 1, where there is no second memory to go on with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_backends::file;
use rbpipe_backends::pages::{Config, Pages};
use rbpipe_core::backend::{Backend, BackendError, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_core::stream::{GivenRecord, Packet, StreamBooks};
use rbpipe_tests::collect::{Collect, Loan};
use rbpipe_tests::records;

/// A channel with one stream, drained on a thread of its own.
struct Bench {
    writer: Writer,
    class: ClassId,
    monitor: Monitor,
    control: Control,
    notices: Arc<Mutex<Vec<Notice>>>,
    drain: JoinHandle<std::thread::Result<Result<(), BackendError>>>,
}

/// How the channel is made; sub-buffers have 4 KiB.
#[derive(Clone, Copy)]
struct Setup {
    mode: Mode,
    count: u32,
    switch_timer: Option<Duration>,
    block_timeout: Option<Duration>,
}

const SETUP: Setup = Setup {
    mode: Mode::Discard,
    count: 4,
    switch_timer: Some(Duration::from_millis(20)),
    block_timeout: Some(Duration::from_secs(20)),
};

impl Setup {
    fn open(self, backend: Collect) -> (Channel<Collect>, ClassId) {
        let (classes, class) = records::classes();
        let geometry = Geometry::new(4096, self.count, 1, 84).expect("a geometry");
        let plan = ChannelPlan { name: "c".into(), geometry, mode: self.mode, classes };
        let options = ChannelOptions {
            plan,
            streams: Streams::Single,
            block_timeout: self.block_timeout,
            switch_timer: self.switch_timer,
            read_timer: None,
            prefault: false,
        };
        (Channel::open(options, backend).expect("it opens"), class)
    }
}

impl Bench {
    fn new(mode: Mode, backend: Collect) -> Self {
        let (channel, class) = Setup { mode, ..SETUP }.open(backend);
        Self::run(channel, class)
    }

    fn run(channel: Channel<Collect>, class: ClassId) -> Self {
        let (writer, monitor) = (channel.writer(), channel.monitor());
        let control = Control::new(channel.waker());
        let (asked, notices) = (control.clone(), Arc::new(Mutex::new(Vec::new())));
        let said = Arc::clone(&notices);
        let drain = std::thread::spawn(move || {
            let mut notice = |n| said.lock().expect("no panic holds it").push(n);
            let stop_timeout = Duration::from_millis(300);
            let run = || channel.run(&asked, stop_timeout, &mut notice);
            catch_unwind(AssertUnwindSafe(run))
        });
        Self { writer, class, monitor, control, notices, drain }
    }

    fn write(&self, count: u64) {
        records::write(&self.writer, self.class, 0, count, |seq| seq as usize % 50, 0);
    }

    /// Ends it; gives the books, which balance, and what was said.
    fn end(self) -> (StreamBooks, Vec<Notice>) {
        self.control.stop();
        let _ = self.drain.join().expect("panics are caught");
        let books = self.monitor.streams()[0].books;
        let sum =
            books.output_records + books.failed_records + books.overwritten() + books.engine.kept;
        assert_eq!(books.engine.recorded, sum, "{books:?}");
        (books, std::mem::take(&mut self.notices.lock().expect("no panic holds it")))
    }
}

fn written(packet: Packet<Loan>) {
    let bytes = packet.size() as u64;
    packet.written(bytes);
}

#[test]
fn memory_that_is_not_ready_at_put_is_replaced_and_said_once() {
    let bench = Bench::new(
        Mode::Block,
        Collect::new(|_, mut packet| {
            packet.memory_mut().expect("it has one").ready = false;
            written(packet);
        }),
    );
    bench.write(2000);
    let (books, notices) = bench.end();
    assert_eq!((books.engine.recorded, books.output_records), (2000, 2000));
    assert!(books.output_packets > 10, "each of them spoilt its memory");
    assert_eq!(notices, [Notice::Retired { stream: 0 }]);
}

#[test]
fn without_memory_the_stream_loses_and_goes_on_when_there_is_some() {
    let backend = Collect::new(|n, mut packet| {
        // The second one takes its memory with it.
        packet.memory_mut().expect("it has one").ready = n != 1;
        written(packet);
    });
    let (exhausted, packets) = (Arc::clone(&backend.exhausted), Arc::clone(&backend.packets));
    let refused = Arc::clone(&backend.refused);
    let bench = Bench::new(Mode::Discard, backend);
    exhausted.store(true, Ordering::Relaxed);
    let taken = || packets.lock().expect("no panic holds it").len();
    let lost = || bench.monitor.streams()[0].books.engine.full;
    let begin = Instant::now();
    // Losses alone say nothing: a fast writer fills the ring before the drain comes to ask.
    while refused.load(Ordering::Relaxed) == 0 || lost() == 0 {
        bench.write(50);
        assert!(begin.elapsed() < Duration::from_secs(20), "it never lost anything");
    }
    assert_eq!(taken(), 2, "no memory, no packet");
    exhausted.store(false, Ordering::Relaxed);
    while taken() < 4 {
        std::thread::sleep(Duration::from_millis(10));
        bench.write(10);
        assert!(begin.elapsed() < Duration::from_secs(20), "asked again every second");
    }
    let (books, notices) = bench.end();
    assert!(books.engine.full > 0 && books.failed == 0, "{books:?}");
    assert!(matches!(notices[0], Notice::NoMemory { stream: 0, .. }), "{notices:?}");
}

/// Nobody drains any more: writers are told that the channel is closed, those that wait for
/// room, for ever, are let go.
#[test]
fn an_output_that_panics_with_its_memory_unmapped_stops_no_writer() {
    for mode in Mode::ALL {
        let backend = Collect::new(|n, mut packet| {
            if n == 3 {
                packet.memory_mut().expect("it has one").ready = false;
                panic!("on purpose: between unmap and map");
            }
            written(packet);
        });
        let (channel, class) = Setup { mode, block_timeout: None, ..SETUP }.open(backend);
        let bench = Bench::run(channel, class);
        let writers: Vec<_> = (0..3)
            .map(|w| {
                let writer = bench.writer.clone();
                std::thread::spawn(move || {
                    records::write(&writer, class, w, u64::MAX, |seq| seq as usize % 50, 0)
                })
            })
            .collect();
        let begin = Instant::now();
        while !writers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(5));
            assert!(begin.elapsed() < Duration::from_secs(20), "{mode:?}: a writer waits");
        }
        let offered: u64 = writers.into_iter().map(|w| w.join().expect("a writer")).sum();
        let (books, _) = bench.end();
        assert_eq!((books.failed, books.output_packets), (1, 3), "{mode:?}");
        assert_eq!(books.engine.offered(), offered, "{mode:?}");
    }
}

/// A stream whose writers are faster than the output keeps neither another one waiting nor
/// the end.
#[test]
fn a_busy_stream_leaves_room_for_the_others_and_for_the_end() {
    let backend = Collect::new(|_, packet| {
        std::thread::sleep(Duration::from_micros(200));
        written(packet);
    });
    let (mut channel, class) = SETUP.open(backend);
    let mut quiet = channel.import(None).expect("a stream");
    let bench = Bench::run(channel, class);
    let writer = bench.writer.clone();
    let busy = std::thread::spawn(move || {
        records::write(&writer, class, 0, u64::MAX, |_| 3000, 0);
    });
    std::thread::sleep(Duration::from_millis(50));
    let payload = records::record(1, 0, 8);
    let given = GivenRecord { time: 5, class, payload: &payload };
    assert_eq!(quiet.write_run(&[given]), Ok(1));
    let begin = Instant::now();
    while bench.monitor.streams()[1].books.output_records == 0 {
        std::thread::sleep(Duration::from_millis(1));
        assert!(begin.elapsed() < Duration::from_secs(5), "its record never comes");
    }
    let begin = Instant::now();
    bench.end();
    assert!(begin.elapsed() < Duration::from_secs(5), "it does not end");
    busy.join().expect("a writer");
}

/// No timer of the channel's own wakes the drain: memory is asked for again all the same.
#[test]
fn memory_is_asked_for_again_without_any_timer() {
    let backend = Collect::new(|_, mut packet| {
        packet.memory_mut().expect("it has one").ready = false;
        written(packet);
    });
    let exhausted = Arc::clone(&backend.exhausted);
    let (channel, class) =
        Setup { mode: Mode::Block, count: 2, switch_timer: None, block_timeout: None }
            .open(backend);
    exhausted.store(true, Ordering::Relaxed);
    let bench = Bench::run(channel, class);
    let writer = bench.writer.clone();
    let writes = std::thread::spawn(move || records::write(&writer, class, 0, 20, |_| 3000, 0));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!writes.is_finished(), "it waits for room");
    exhausted.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    while !writes.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody asks");
    }
    assert_eq!(bench.end().0.output_records, 20);
}

/// The ring is full, the channel ends, and every packet spoils its memory: each gets another.
#[test]
fn what_is_in_the_ring_is_written_at_the_end_though_each_memory_is_spoilt() {
    let held = Arc::new(AtomicBool::new(true));
    let hold = Arc::clone(&held);
    let backend = Collect::new(move |_, mut packet| {
        while hold.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        packet.memory_mut().expect("it has one").ready = false;
        written(packet);
    });
    let (channel, class) = Setup { count: 16, ..SETUP }.open(backend);
    let bench = Bench::run(channel, class);
    records::write(&bench.writer, class, 0, 16, |_| 3000, 0);
    std::thread::sleep(Duration::from_millis(50));
    bench.control.stop();
    held.store(false, Ordering::Relaxed);
    let (books, _) = bench.end();
    assert_eq!((books.output_records, books.engine.kept), (16, 0), "{books:?}");
}

/// A flight recorder is read by nobody; what a stalled writer costs there is counted, too.
#[test]
fn a_flight_recorder_names_what_a_stalled_writer_costs() {
    let (classes, class) = records::classes();
    let geometry = Geometry::new(4096, 4, 1, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Overwrite, classes };
    let backend =
        Pages::open(Config::default(), &plan, &Context::new("outputs")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: None,
        read_timer: None,
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    std::mem::forget(writer.reserve(class, 20).expect("room"));
    for _ in 0..50 {
        writer.record(class, &[0; 20]).expect("room");
    }
    let control = Control::new(channel.waker());
    control.stop();
    let mut notices = Vec::new();
    channel.run(&control, Duration::from_millis(50), &mut |n| notices.push(n)).expect("it ends");
    assert_eq!(notices, [Notice::PassedOver { stream: 0, records: 50 }]);
    let books = monitor.streams()[0].books.engine;
    assert_eq!((books.offered(), books.wrap), (50, 50));
}

/// lttng-ust dddba398: the consumer's wait for a dead writer's commit has a bound.
#[test]
fn a_writer_that_never_commits_is_named_and_does_not_hold_up_the_end() {
    let bench = Bench::new(Mode::Discard, Collect::new(|_, packet| written(packet)));
    std::mem::forget(bench.writer.reserve(bench.class, 40).expect("room"));
    let begin = Instant::now();
    // Enough for one sub-buffer more: the first is left by everybody, and not delivered.
    bench.write(90);
    while bench.notices.lock().expect("no panic holds it").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
        assert!(begin.elapsed() < Duration::from_secs(20), "the stall is seen");
    }
    let lost_with_it = 1;
    let ended = Instant::now();
    let (books, notices) = bench.end();
    assert!(ended.elapsed() < Duration::from_secs(5), "the end has a bound");
    assert!(matches!(notices[0], Notice::Stalled { stream: 0, .. }), "{notices:?}");
    let passed: Vec<_> = notices
        .iter()
        .filter_map(|n| match n {
            Notice::PassedOver { records, .. } => Some(*records),
            _ => None,
        })
        .collect();
    assert_eq!(passed.len(), lost_with_it, "{notices:?}");
    assert_eq!(books.engine.wrap, passed[0], "what others had committed there is lost, and named");
    assert_eq!(books.engine.offered(), 90, "{books:?}");
}

/// Ends it, and gives its books, what was said, and the losses that its last packet told.
fn ended(
    channel: Channel<Collect>,
    packets: &Mutex<rbpipe_tests::collect::Taken>,
) -> (StreamBooks, Vec<Notice>, u64) {
    let (monitor, control) = (channel.monitor(), Control::new(channel.waker()));
    control.stop();
    let mut notices = Vec::new();
    let run = || channel.run(&control, Duration::from_millis(50), &mut |n| notices.push(n));
    let _ = catch_unwind(AssertUnwindSafe(run));
    let packets = packets.lock().expect("no panic holds it");
    let header = |bytes| PacketHeader::decode(bytes, |_| Some(StreamClass::Plain));
    let told = packets.last().map_or(0, |(_, bytes)| header(bytes).expect("a packet").discarded);
    (monitor.streams()[0].books, notices, told)
}

const NO_TIMERS: Setup = Setup { switch_timer: None, block_timeout: None, ..SETUP };

/// Losses that only the stream's last words can tell, when each packet spoils its memory.
#[test]
fn the_last_words_get_a_memory() {
    let backend = Collect::new(|_, mut packet| {
        packet.memory_mut().expect("it has one").ready = false;
        written(packet);
    });
    let packets = Arc::clone(&backend.packets);
    let (channel, class) = NO_TIMERS.open(backend);
    let writer = channel.writer();
    std::mem::forget(writer.reserve(class, 20).expect("room"));
    for _ in 0..10 {
        writer.record(class, &[0; 20]).expect("room");
    }
    writer.record(class, &[0; 3900]).expect("room");
    let (books, _, told) = ended(channel, &packets);
    assert_eq!((books.engine.offered(), books.engine.wrap, told), (11, 10, 10), "{books:?}");
}

/// No memory to take the last packets with, and behind them a writer that never comes back.
#[test]
fn what_is_left_in_the_ring_is_in_the_books() {
    let backend = Collect::new(|_, mut packet| {
        packet.memory_mut().expect("it has one").ready = false;
        written(packet);
    });
    let (packets, exhausted) = (Arc::clone(&backend.packets), Arc::clone(&backend.exhausted));
    let (channel, class) = NO_TIMERS.open(backend);
    let writer = channel.writer();
    for _ in 0..2 {
        writer.record(class, &[0; 3000]).expect("room");
    }
    std::mem::forget(writer.reserve(class, 3000).expect("room"));
    for _ in 0..10 {
        writer.record(class, &[0; 20]).expect("room");
    }
    exhausted.store(true, Ordering::Relaxed);
    let (books, notices, _) = ended(channel, &packets);
    assert!(notices.contains(&Notice::Left { stream: 0 }), "{notices:?}");
    let e = &books.engine;
    assert_eq!((e.offered(), books.output_records, e.kept, e.wrap), (12, 1, 1, 10), "{books:?}");
}

#[test]
fn what_an_output_that_panics_leaves_is_in_the_books() {
    let backend = Collect::new(|_, _| panic!("on purpose"));
    let packets = Arc::clone(&backend.packets);
    let (channel, class) = NO_TIMERS.open(backend);
    let writer = channel.writer();
    writer.record(class, &[0; 3900]).expect("room");
    std::mem::forget(writer.reserve(class, 3000).expect("room"));
    for _ in 0..10 {
        writer.record(class, &[0; 20]).expect("room");
    }
    let (books, ..) = ended(channel, &packets);
    assert_eq!(books.engine.offered(), 11, "{books:?}");
    assert_eq!((books.failed_records, books.engine.wrap), (1, 10), "{books:?}");
}

/// The file backend: a packet longer than a write, behind a short one of the same stream, when
/// the threads that write have gone to sleep.
#[test]
fn a_long_packet_behind_a_short_one_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let (classes, class) = records::classes();
    let geometry = Geometry::new(2 << 20, 4, 4, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Discard, classes };
    let config = file::Config::new(dir.path().join("t"));
    let backend = file::File::open(config, &plan, &Context::new("outputs")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: None,
        read_timer: None,
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    // A thread that is still on its way to sleep finds the work by itself.
    std::thread::sleep(Duration::from_millis(300));
    writer.record(class, &[0; 20]).expect("room");
    // It does not fit behind that one, and fills a sub-buffer alone.
    writer.record(class, &vec![0; (2 << 20) - 100]).expect("room");
    let control = Control::new(channel.waker());
    control.stop();
    let drain =
        std::thread::spawn(move || channel.run(&control, Duration::from_secs(1), &mut |_| {}));
    let begin = Instant::now();
    while !drain.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
        let books = || monitor.streams()[0].books;
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not end: {:?}", books());
    }
    drain.join().expect("the drain").expect("it closes");
    assert_eq!(monitor.streams()[0].books.output_records, 2);
}
