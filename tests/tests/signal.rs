//! Goal: a signal handler may trace while its thread is inside reserve…commit. Method: two
//! timer signals at about 10 kHz interrupt a thread that traces as fast as it can, and each
//! other's handler (so it nests twice); in block mode, where a nested writer must never wait.
//! Then books, checksums and order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rbpipe_backends::file;
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::records;
use rbpipe_tests::timer::{ThreadTimer, handle};

static HANDLER: OnceLock<(Writer, ClassId)> = OnceLock::new();
const SIGNALS: [libc::c_int; 2] = [libc::SIGUSR1, libc::SIGUSR2];
/// Records of each handler, and how often one found the other underway.
static SEQ: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static DEPTH: AtomicU64 = AtomicU64::new(0);
static NESTED_TWICE: AtomicU64 = AtomicU64::new(0);

extern "C" fn trace(signal: libc::c_int) {
    let Some((writer, class)) = HANDLER.get() else { return };
    let which = usize::from(signal == SIGNALS[1]);
    if DEPTH.fetch_add(1, Ordering::Relaxed) > 0 {
        NESTED_TWICE.fetch_add(1, Ordering::Relaxed);
    }
    let seq = SEQ[which].fetch_add(1, Ordering::Relaxed);
    // What is lost is counted; there is nobody to tell here.
    let _ = writer.record(*class, &records::bare(8 + which as u32, seq));
    DEPTH.fetch_sub(1, Ordering::Relaxed);
}

#[test]
fn a_signal_handler_may_trace_inside_a_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let (classes, class) = records::classes();
    let plan = ChannelPlan {
        name: "c".into(),
        geometry: Geometry::new(4096, 4, 2, 84).expect("a geometry"),
        mode: Mode::Block,
        classes: Arc::clone(&classes),
    };
    let config = file::Config::new(dir.path().join("t"));
    let backend = file::File::open(config, &plan, &Context::new("signal")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams: Streams::PerThread(2),
        block_timeout: Some(Duration::from_secs(10)),
        switch_timer: Some(Duration::from_millis(5)),
        read_timer: None,
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(5), &mut |n| panic!("{n}"))
    });
    let _ = crc32c::crc32c(b"its tables and its choice of code are made before the handler");
    let tracing = std::thread::spawn(move || {
        writer.register();
        assert!(HANDLER.set((writer.for_handlers(), class)).is_ok());
        for signal in SIGNALS {
            // SAFETY: the handler touches atomics and a writer alone, which is made for it.
            unsafe { handle(signal, trace) };
        }
        let timers =
            [ThreadTimer::start(SIGNALS[0], 100_000), ThreadTimer::start(SIGNALS[1], 97_000)];
        let (begin, mut offered) = (Instant::now(), 0);
        // Until one handler has met the other underway, too, however busy the machine is.
        let met = || NESTED_TWICE.load(Ordering::Relaxed) > 0 || begin.elapsed().as_secs() > 20;
        while begin.elapsed() < Duration::from_millis(1500) || !met() {
            offered += 1;
            let bytes = records::record(1, offered, (offered % 200) as usize);
            let mut r = writer.reserve(class, bytes.len()).expect("block mode, a live reader");
            // Written byte by byte, so that the handler comes in between.
            bytes.chunks(3).for_each(|b| r.write(b));
            r.commit();
        }
        drop(timers);
        offered
    });
    let offered: u64 = tracing.join().expect("a thread");
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let signals: u64 = SEQ.iter().map(|s| s.load(Ordering::Relaxed)).sum();
    let twice = NESTED_TWICE.load(Ordering::Relaxed);
    assert!(signals > 500 && twice > 0, "{signals} signals, {twice} inside a handler");
    println!("{signals} signals, {twice} of them inside a handler");
    let streams = monitor.streams();
    let sum =
        |f: fn(&rbpipe_core::channel::StreamReport) -> u64| streams.iter().map(f).sum::<u64>();
    assert_eq!(sum(|s| s.books.engine.offered()), offered + signals);
    let found = records::verify(&dir.path().join("t"), &classes);
    assert_eq!(found.records, sum(|s| s.books.engine.recorded));
    assert_eq!(found.discarded, sum(|s| s.books.engine.full));
    assert_eq!((found.aborted, found.packets_lost), (0, 0));
}
