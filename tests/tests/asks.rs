//! Goal: whoever asks a drain for something gets one reply, the right one, whatever becomes of
//! the drain. Method: an output of the tests' own, and drains that end, stop and panic.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, ChannelPlan};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::{Answer, Ask, Control, Done, Refused};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::stream::Packet;
use rbpipe_tests::collect::{Collect, Loan};
use rbpipe_tests::records;

struct Bench {
    writer: Writer,
    class: ClassId,
    monitor: Monitor,
    control: Control,
    drain: JoinHandle<Result<(), BackendError>>,
}

impl Bench {
    fn new(treatment: impl FnMut(u64, Packet<Loan>) + Send + 'static) -> Self {
        let (classes, class) = records::classes();
        let geometry = Geometry::new(4096, 4, 1, 84).expect("a geometry");
        let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Discard, classes };
        let options = ChannelOptions {
            plan,
            streams: Streams::Single,
            block_timeout: None,
            switch_timer: None,
            read_timer: None,
            prefault: false,
        };
        let channel = Channel::open(options, Collect::new(treatment)).expect("it opens");
        let (writer, monitor) = (channel.writer(), channel.monitor());
        let control = Control::new(channel.waker());
        let asked = control.clone();
        let drain = std::thread::spawn(move || {
            channel.run(&asked, Duration::from_millis(100), &mut |_| {})
        });
        Self { writer, class, monitor, control, drain }
    }
    fn write(&self, count: u64) {
        records::write(&self.writer, self.class, 0, count, |_| 10, 0);
    }
    fn written(&self) -> u64 {
        self.monitor.streams()[0].books.output_records
    }
}

fn written(_: u64, packet: Packet<Loan>) {
    let bytes = packet.size() as u64;
    packet.written(bytes);
}

fn soon(from: &Receiver<Answer>) -> Answer {
    from.recv_timeout(Duration::from_secs(20)).expect("a reply")
}

#[test]
fn a_flush_is_done_when_it_is_told() {
    let bench = Bench::new(|n, packet| {
        std::thread::sleep(Duration::from_millis(20));
        written(n, packet);
    });
    for n in 1..10 {
        bench.write(7);
        let replies: Vec<_> = (0..3).map(|_| bench.control.request(Ask::Flush)).collect();
        for reply in replies {
            assert!(matches!(soon(&reply), Ok(Done::Flushed)));
            assert_eq!(bench.written(), 7 * n);
        }
    }
    let reply = bench.control.request(Ask::Rotate { since: Instant::now() });
    assert!(matches!(soon(&reply), Err(Refused::NoPieces)));
    bench.control.stop();
    bench.drain.join().expect("no panic").expect("closed");
    // Asked too late.
    assert!(matches!(soon(&bench.control.request(Ask::Flush)), Err(Refused::Ended)));
    bench.control.flush();
}

#[test]
fn a_flush_waits_a_while_for_a_writer_and_then_says_so() {
    let bench = Bench::new(written);
    bench.write(3);
    // A writer in the middle of its record, for a moment.
    let bytes = records::record(1, 0, 10);
    let mut record = bench.writer.reserve(bench.class, bytes.len()).expect("room");
    let reply = bench.control.request(Ask::Flush);
    let waits = reply.recv_timeout(Duration::from_millis(100));
    assert!(matches!(waits, Err(RecvTimeoutError::Timeout)), "{waits:?}");
    record.write(&bytes);
    record.commit();
    assert!(matches!(soon(&reply), Ok(Done::Flushed)));
    assert_eq!(bench.written(), 4);
    // … and for longer.
    let record = bench.writer.reserve(bench.class, bytes.len()).expect("room");
    bench.write(3);
    let begin = Instant::now();
    let answer = soon(&bench.control.request(Ask::Flush));
    assert!(matches!(answer, Err(Refused::Behind { stream: 0 })), "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    // One that nobody waits for does not hold up what comes after it.
    let begin = Instant::now();
    (0..50).for_each(|_| bench.control.flush());
    drop(record);
    assert!(matches!(soon(&bench.control.request(Ask::Flush)), Ok(Done::Flushed)));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    bench.control.stop();
    bench.drain.join().expect("no panic").expect("closed");
}

#[test]
fn a_flush_tells_what_could_not_be_written() {
    let bench = Bench::new(|n, packet| {
        // Dropped: it failed.
        if n != 1 {
            written(n, packet);
        }
    });
    for fails in [false, true, false] {
        bench.write(5);
        let answer = soon(&bench.control.request(Ask::Flush));
        match answer {
            Ok(Done::Flushed) => assert!(!fails),
            Err(Refused::Failed { packets: 1 }) => assert!(fails),
            other => panic!("{other:?}"),
        }
    }
    bench.control.stop();
    bench.drain.join().expect("no panic").expect("closed");
}

#[test]
fn a_drain_that_stops_or_panics_has_replied_to_all() {
    for panics in [false, true] {
        let (go, wait) = channel::<()>();
        let bench = Bench::new(move |n, packet| {
            // Until all have asked.
            let _ = wait.recv();
            assert!(!panics, "on purpose");
            written(n, packet);
        });
        bench.write(5);
        let mut replies = vec![bench.control.request(Ask::Flush)];
        std::thread::sleep(Duration::from_millis(20));
        replies.push(bench.control.request(Ask::Flush));
        replies.push(bench.control.request(Ask::Rotate { since: Instant::now() }));
        bench.control.stop();
        replies.push(bench.control.request(Ask::Flush));
        drop(go);
        // The first was under way: it may have been done.
        let first = soon(&replies.remove(0));
        assert!(matches!(first, Ok(Done::Flushed) | Err(Refused::Ended)), "{first:?}");
        assert!(!panics || first.is_err());
        for reply in replies {
            assert!(matches!(soon(&reply), Err(Refused::Ended)));
            assert!(reply.try_recv().is_err(), "one reply");
        }
        assert_eq!(bench.drain.join().is_err(), panics);
    }
}
