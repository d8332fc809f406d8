//! Goal: a ring takes memory when it is used, or all of it at once when asked to; and writers
//! that share a stream fill its sub-buffers. Method: the resident pages of this process (tests
//! one after the other, so that nobody else's come in between), and the packets of a shared stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::records;

fn open(mode: Mode, (size, count): (u64, u32), prefault: bool) -> Channel<Pages> {
    let (classes, _) = records::classes();
    let geometry = Geometry::new(size, count, 2, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode, classes: Arc::clone(&classes) };
    let backend = Pages::open(Config::default(), &plan, &Context::new("memory")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: Some(Duration::from_secs(1)),
        read_timer: None,
        prefault,
    };
    Channel::open(options, backend).expect("it opens")
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).expect("a line");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB");
    kib << 10
}

const MIB: usize = 1 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// lttng-ust 115acaf8, ab2f511a: what is to be mapped ahead must be written. 81b931f1: a ring
/// that nobody used takes no memory; its first header is not written ahead.
#[test]
fn memory_comes_with_use_or_all_of_it_ahead() {
    let _alone = ONE_AT_A_TIME.lock();
    let before = resident();
    let lazy = open(Mode::Overwrite, (1 << 20, 64), false);
    let after = resident();
    assert!(after - before < 4 * MIB, "{} bytes for an unused ring", after - before);
    drop(lazy);
    let before = resident();
    let ahead = open(Mode::Overwrite, (1 << 20, 64), true);
    let after = resident();
    assert!(after - before >= 66 * MIB, "only {} bytes are there", after - before);
    drop(ahead);
    // A small ring that goes round and round uses its own memory again.
    let ring = open(Mode::Overwrite, (64 << 10, 4), true);
    let (writer, class) = (ring.writer(), records::register(ring.writer().classes()));
    let before = resident();
    records::write(&writer, class, 0, 200_000, |_| 100, 0);
    assert!(resident().saturating_sub(before) < MIB);
}

/// lttng-ust ef42bf71, 5d9e25f0: where several writers share a ring, nothing but its end
/// closes a sub-buffer.
#[test]
fn writers_that_share_a_stream_fill_its_sub_buffers() {
    let _alone = ONE_AT_A_TIME.lock();
    let ring = open(Mode::Discard, (64 << 10, 64), false);
    let class = records::register(ring.writer().classes());
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let writer = ring.writer();
            std::thread::spawn(move || records::write(&writer, class, w, 10_000, |_| 44, 0))
        })
        .collect();
    writers.into_iter().for_each(|w| _ = w.join().expect("a writer"));
    let books = ring.monitor().streams()[0].books;
    // Records of 20 + 44 bytes with a header of 4, or of 13 where a writer was long away.
    let full = books.bytes / books.packets;
    assert!(full > (64 << 10) - 100, "{full} bytes in a packet: {books:?}");
    assert_eq!((books.engine.full, books.engine.wrap), (0, 0));
}
