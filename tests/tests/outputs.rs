//! Goal: an output that fails, panics, or leaves its memory unusable between two packets
//! hurts nobody; a writer that never comes back does not hold up the end. Method: an output
//! that does just that, with K = 1, where there is no second memory to go on with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, ChannelPlan};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::stream::{Packet, StreamBooks};
use rbpipe_tests::collect::{Collect, Loan};
use rbpipe_tests::records;

/// A channel with one stream of 4 × 4 KiB, drained on a thread of its own.
struct Bench {
    writer: Writer,
    class: ClassId,
    monitor: Monitor,
    control: Control,
    notices: Arc<Mutex<Vec<Notice>>>,
    drain: JoinHandle<std::thread::Result<Result<(), BackendError>>>,
}

impl Bench {
    fn new(mode: Mode, backend: Collect) -> Self {
        let (classes, class) = records::classes();
        let geometry = Geometry::new(4096, 4, 1, 84).expect("a geometry");
        let plan = ChannelPlan { name: "c".into(), geometry, mode, classes };
        let options = ChannelOptions {
            plan,
            streams: Streams::Single,
            block_timeout: Some(Duration::from_secs(20)),
            switch_timer: Some(Duration::from_millis(20)),
            read_timer: None,
            prefault: false,
        };
        let channel = Channel::open(options, backend).expect("it opens");
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
    let bench = Bench::new(Mode::Discard, backend);
    exhausted.store(true, Ordering::Relaxed);
    let taken = || packets.lock().expect("no panic holds it").len();
    let begin = Instant::now();
    while taken() < 2 || bench.monitor.streams()[0].books.engine.full == 0 {
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

#[test]
fn an_output_that_panics_with_its_memory_unmapped_stops_no_writer() {
    let bench = Bench::new(
        Mode::Discard,
        Collect::new(|n, mut packet| {
            if n == 3 {
                packet.memory_mut().expect("it has one").ready = false;
                panic!("on purpose: between unmap and map");
            }
            written(packet);
        }),
    );
    let begin = Instant::now();
    let books = || bench.monitor.streams()[0].books;
    while books().failed == 0 {
        bench.write(10);
        assert!(begin.elapsed() < Duration::from_secs(20), "the output panics");
    }
    let before = books().engine.full;
    while books().engine.full == before {
        bench.write(100);
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody drains any more");
    }
    let (books, _) = bench.end();
    assert_eq!((books.failed, books.output_packets), (1, 3));
    assert!(books.engine.kept > 0, "what nobody took is in the ring, and counted: {books:?}");
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
