//! Goal: whoever asks a drain for something gets one reply, the right one, whatever becomes of
//! the drain. Method: an output of the tests' own, and drains that end, stop and panic.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, ChannelPlan};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::{Answer, Ask, Control, Done, Refused};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::stream::{GivenRecord, ImportWriter, Packet, WriteError};
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
        Self::of(Collect::new(treatment))
    }
    fn of(backend: Collect) -> Self {
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
        let channel = Channel::open(options, backend).expect("it opens");
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

/// An import stream of a drain that runs.
fn import(control: &Control, cpu: Option<u32>, start: u64) -> Result<ImportWriter, Refused> {
    match soon(&control.request(Ask::Import { cpu, start })) {
        Ok(Done::Imported(stream)) => Ok(stream),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    }
}

#[test]
fn a_running_drain_makes_streams_that_begin_in_the_past() {
    type Seen = Arc<Mutex<Vec<(u32, u64, u64, u64)>>>;
    let starts = Seen::default();
    let seen = Arc::clone(&starts);
    let bench = Bench::new(move |n, packet| {
        let facts = *packet.facts();
        let info = packet.stream();
        let what = (info.id, info.start, facts.records, facts.lost);
        seen.lock().expect("no panic").push(what);
        written(n, packet);
    });
    bench.write(5);
    let bytes = records::record(0, 0, 10);
    let given = |time| GivenRecord { time, class: bench.class, payload: &bytes };
    let mut first = import(&bench.control, Some(7), 1000).expect("made");
    let mut second = import(&bench.control, None, 50).expect("made");
    assert_eq!((first.id(), second.id()), (1, 2));
    assert_eq!(first.write_run(&[given(1000), given(1001)]), Ok(2));
    first.lost_before(3);
    assert_eq!(first.write_run(&[given(1002)]), Ok(1));
    // It never had a record.
    second.lost_before(4);
    bench.control.stop();
    bench.drain.join().expect("no panic").expect("closed");
    let streams = bench.monitor.streams();
    let books: Vec<_> = streams.iter().map(|s| (s.id, s.cpu, s.books.output_records)).collect();
    assert_eq!(books, [(0, None, 5), (1, Some(7), 3), (2, None, 0)]);
    assert!(streams.iter().all(|s| s.books.engine.full == 0), "nobody offered them");
    let seen = starts.lock().expect("no panic");
    let of = |id| seen.iter().filter(move |s| s.0 == id).map(|s| (s.1, s.2, s.3));
    assert_eq!(of(1).collect::<Vec<_>>(), [(1000, 2, 0), (1000, 1, 3)]);
    assert_eq!(of(2).collect::<Vec<_>>(), [(50, 0, 4)], "told when it ended");
    // Asked too late.
    assert!(matches!(import(&bench.control, None, 0), Err(Refused::Ended)));
    assert_eq!(first.write_run(&[given(1003)]), Err(WriteError::Closed));
}

#[test]
fn a_stream_that_cannot_be_made_is_refused() {
    let output = Collect::new(written);
    let exhausted = Arc::clone(&output.exhausted);
    let bench = Bench::of(output);
    exhausted.store(true, Ordering::Relaxed);
    let refused = import(&bench.control, None, 1);
    assert!(matches!(refused, Err(Refused::NoStream(_))), "{refused:?}");
    exhausted.store(false, Ordering::Relaxed);
    assert_eq!(import(&bench.control, None, 1).expect("made").id(), 1, "no number is left out");
    bench.write(3);
    bench.control.stop();
    bench.drain.join().expect("no panic").expect("closed");
    assert_eq!(bench.monitor.streams().len(), 2);
    assert_eq!(bench.monitor.streams()[0].books.output_records, 3);
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
