//! Goal: a signal handler may trace while its thread is inside reserve…commit. Method: a
//! timer signal at 10 kHz interrupts a thread that traces as fast as it can; in block mode
//! too, where a nested writer must never wait. Then books, checksums and order.

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

static HANDLER: OnceLock<(Writer, ClassId)> = OnceLock::new();
static SEQ: AtomicU64 = AtomicU64::new(0);

extern "C" fn trace(_: libc::c_int) {
    let Some((writer, class)) = HANDLER.get() else { return };
    let (seq, mut bytes) = (SEQ.fetch_add(1, Ordering::Relaxed), [0u8; 20]);
    // As `records::record` for writer 9 without a payload, but without an allocation.
    bytes[..4].copy_from_slice(&9u32.to_le_bytes());
    bytes[4..12].copy_from_slice(&seq.to_le_bytes());
    let check = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&check.to_le_bytes());
    // What is lost is counted; there is nobody to tell here.
    let _ = writer.record(*class, &bytes);
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
    let config =
        file::Config { path: dir.path().join("t"), overwrite: false, sync: file::Sync::Never };
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
    // The threads of the pipeline do not take the signal: it is blocked where they start.
    let block = |how| {
        // SAFETY: plain system calls on a set of this frame.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGALRM);
            libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
        }
    };
    block(libc::SIG_BLOCK);
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(5), &mut |n| panic!("{n}"))
    });
    let _ = crc32c::crc32c(b"its tables and its choice of code are made before the handler");
    let tracing = std::thread::spawn(move || {
        writer.register();
        assert!(HANDLER.set((writer.for_handlers(), class)).is_ok());
        // SAFETY: the handler touches atomics and a writer alone, which is made for it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trace as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        }
        block(libc::SIG_UNBLOCK);
        let every = libc::timeval { tv_sec: 0, tv_usec: 100 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: a plain system call.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
        let (begin, mut offered) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_millis(1500) {
            offered += 1;
            let bytes = records::record(1, offered, (offered % 200) as usize);
            let mut r = writer.reserve(class, bytes.len()).expect("block mode, a live reader");
            // Written byte by byte, so that the handler comes in between.
            bytes.chunks(3).for_each(|b| r.write(b));
            r.commit();
        }
        let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let timer = libc::itimerval { it_interval: never, it_value: never };
        // SAFETY: a plain system call.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
        block(libc::SIG_BLOCK);
        offered
    });
    let offered: u64 = tracing.join().expect("a thread");
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let signals = SEQ.load(Ordering::Relaxed);
    assert!(signals > 500, "only {signals} signals came");
    let streams = monitor.streams();
    let sum =
        |f: fn(&rbpipe_core::channel::StreamReport) -> u64| streams.iter().map(f).sum::<u64>();
    assert_eq!(sum(|s| s.books.engine.offered()), offered + signals);
    let found = records::verify(&dir.path().join("t"), &classes);
    assert_eq!(found.records, sum(|s| s.books.engine.recorded));
    assert_eq!(found.discarded, sum(|s| s.books.engine.full));
    assert_eq!((found.aborted, found.packets_lost), (0, 0));
}
