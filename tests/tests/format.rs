//! Goal: what the format promises holds for pauses longer than a compact time, records that
//! bring their own time, given-up reservations and classes that appear while the trace runs,
//! in babeltrace2's reading. Method: a trace made in-process, read back by bytes and by
//! babeltrace2.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::file;
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::clock;
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_core::stream::GivenRecord;
use rbpipe_tests::program::rbpipe;
use rbpipe_tests::{have, records};

struct Made {
    dir: tempfile::TempDir,
    classes: Arc<ClassRegistry>,
    channel: Channel<file::File>,
}

fn make(streams: Streams) -> Made {
    let dir = tempfile::tempdir().expect("a directory");
    let classes = Arc::new(ClassRegistry::new());
    let plan = ChannelPlan {
        name: "c".into(),
        geometry: Geometry::new(4096, 4, 2, 84).expect("a geometry"),
        mode: Mode::Block,
        classes: Arc::clone(&classes),
    };
    let config =
        file::Config { sync: file::Sync::Close, ..file::Config::new(dir.path().join("t")) };
    let backend = file::File::open(config, &plan, &Context::new("format")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams,
        block_timeout: None,
        switch_timer: Some(Duration::from_millis(20)),
        read_timer: None,
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    Made { dir, classes, channel }
}

fn babeltrace(dir: &tempfile::TempDir) -> String {
    let out = Command::new("babeltrace2")
        .args(["--clock-cycles", "--fields=loglevel"])
        .arg(dir.path().join("t"))
        .output()
        .expect("babeltrace2 runs");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Pauses longer than a compact header can tell, and ids beyond it, with the clock's times.
/// (Every type and name: see `golden.rs`.)
#[test]
fn long_pauses_and_late_classes_are_told_in_full() {
    let made = make(Streams::Single);
    // The 29th class and those after it have ids beyond the compact header.
    let classes: Vec<_> = (0..40)
        .map(|i| {
            let class = EventClass::new(format!("late:{i}"), vec![Field::new("x", FieldType::U8)]);
            made.classes.register(class).expect("a class")
        })
        .collect();
    let (writer, control) = (made.channel.writer(), Control::new(made.channel.waker()));
    let asked = control.clone();
    let channel = made.channel;
    let drain =
        std::thread::spawn(move || channel.run(&asked, Duration::from_secs(1), &mut |_| {}));
    // Between which two looks at the clock each record was made.
    let (mut between, mut before) = (Vec::new(), clock::now());
    let mut record = |id, x: usize| {
        writer.record(id, &[x as u8]).expect("room");
        let after = clock::now();
        between.push(before..=after);
        before = after;
    };
    for round in 0..3 {
        for (i, id) in classes.iter().enumerate() {
            record(*id, i);
        }
        // 2^27 ns are 134 ms: no pause, more than one of it, more than two.
        std::thread::sleep(Duration::from_millis([0, 150, 290][round]));
    }
    record(classes[0], 0);
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    if !have("long_pauses", "babeltrace2", &["--version"]) {
        return;
    }
    let text = babeltrace(&made.dir);
    let times: Vec<u64> = text
        .lines()
        .filter_map(|l| l.get(1..21).and_then(|c| c.trim_start_matches('0').parse().ok()))
        .collect();
    assert_eq!(times.len(), between.len());
    for (i, (time, between)) in times.iter().zip(&between).enumerate() {
        assert!(between.contains(time), "record {i}: {time} is not in {between:?}");
    }
    for i in 0..classes.len() {
        let told = format!("late:{i}: {{ x = {i} }}");
        assert!(text.matches(&told).count() >= 3, "{told}: {text}");
    }
}

/// Records that bring their own time: as runs, with gaps, some of them going back.
#[test]
fn given_times_are_kept_and_never_go_back() {
    let mut made = make(Streams::PerCpu);
    let class = records::register(&made.classes);
    let mut import = made.channel.import(Some(0)).expect("a stream");
    let monitor = made.channel.monitor();
    let control = Control::new(made.channel.waker());
    let asked = control.clone();
    let channel = made.channel;
    let drain =
        std::thread::spawn(move || channel.run(&asked, Duration::from_secs(1), &mut |_| {}));
    let count = 3000u64;
    let payloads: Vec<Vec<u8>> =
        (0..count).map(|seq| records::record(0, seq, (seq % 90) as usize)).collect();
    let (mut time, mut expected, mut raised, mut last) = (1_000_000u64, Vec::new(), 0, 0);
    let mut given = Vec::new();
    for (seq, payload) in payloads.iter().enumerate() {
        time += match seq % 50 {
            49 => 1 << 28, // more than a compact header can tell
            _ => 100,
        };
        let this = if seq % 97 == 96 { time - 5000 } else { time };
        raised += u64::from(this < last);
        last = last.max(this);
        expected.push(last);
        given.push(GivenRecord { time: this, class, payload });
    }
    for run in given.chunks(70) {
        assert_eq!(import.write_run(run), Ok(run.len()));
    }
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let found = records::verify(&made.dir.path().join("t"), &made.classes);
    assert_eq!((found.records, found.discarded, found.packets_lost), (count, 0, 0));
    let books: Vec<_> = monitor.streams().into_iter().filter(|s| s.books.raised > 0).collect();
    assert_eq!(books.len(), 1);
    assert_eq!((books[0].books.raised, books[0].books.engine.recorded), (raised, count));
    if have("given_times", "babeltrace2", &["--version"]) {
        let text = babeltrace(&made.dir);
        let times: Vec<u64> = text
            .lines()
            .filter_map(|l| l.get(1..21).and_then(|c| c.trim_start_matches('0').parse().ok()))
            .collect();
        assert_eq!(times, expected, "to the nanosecond");
    }
}

/// Reservations of every size that is told in another way, given up: babeltrace2 reads them as
/// events, `rbpipe read` hides and counts them.
#[test]
fn given_up_reservations_are_events_of_their_own_size() {
    let made = make(Streams::Single);
    let class = records::register(&made.classes);
    let (writer, control) = (made.channel.writer(), Control::new(made.channel.waker()));
    let asked = control.clone();
    let channel = made.channel;
    let drain =
        std::thread::spawn(move || channel.run(&asked, Duration::from_secs(1), &mut |_| {}));
    let sizes = [0, 1, 2, 255, 256, 257, 258, 3000];
    for (seq, size) in sizes.into_iter().enumerate() {
        let mut given_up = writer.reserve(class, size).expect("room");
        given_up.write(&vec![0xEE; size / 2]);
        drop(given_up);
        writer.record(class, &records::record(0, seq as u64, 8)).expect("room");
    }
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let found = records::verify(&made.dir.path().join("t"), &made.classes);
    assert_eq!((found.records, found.aborted), (8, 8));
    let out = rbpipe().arg("read").arg(made.dir.path().join("t")).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 8);
    assert_eq!(
        String::from_utf8_lossy(&out.stderr),
        "rbpipe read: 8 aborted records are not shown\n"
    );
    if have("given_up", "babeltrace2", &["--version"]) {
        let text = babeltrace(&made.dir);
        let counts: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split_once("rbpipe:aborted: ")?.1.split(", bytes").next())
            .collect();
        let counts: Vec<&str> = counts.iter().map(|c| c.trim_matches(['{', '}', ' '])).collect();
        let told = ["", "n = 0", "n = 1", "n = 254", "n = 255", "n = 253", "n = 254", "n = 2996"];
        assert_eq!(counts, told, "payload bytes less those that count them");
    }
}

/// Classes appear while the trace runs: whoever looks at any moment finds every packet on the
/// disk described, and metadata that is whole.
#[test]
fn metadata_grows_before_the_first_packet_that_needs_it() {
    let made = make(Streams::Single);
    let (writer, control) = (made.channel.writer(), Control::new(made.channel.waker()));
    let asked = control.clone();
    let (channel, path) = (made.channel, made.dir.path().join("t"));
    let drain =
        std::thread::spawn(move || channel.run(&asked, Duration::from_secs(1), &mut |_| {}));
    let classes = Arc::clone(&made.classes);
    let writes = std::thread::spawn(move || {
        for i in 0..200u32 {
            let class =
                EventClass::new(format!("grows:{i}"), vec![Field::new("i", FieldType::U32)]);
            let class = classes.register(class).expect("a class");
            for _ in 0..20 {
                writer.record(class, &i.to_le_bytes()).expect("block mode, a live reader");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let (mut looks, mut most) = (0, 0);
    while !writes.is_finished() {
        // Packets first: what describes them was there before.
        let Ok(stream) = std::fs::read(path.join("c_0")) else { continue };
        let metadata = std::fs::read_to_string(path.join("metadata")).expect("always there");
        assert!(metadata.ends_with(";\n"), "metadata is whole");
        let described = metadata.matches("name = \"grows:").count();
        let known = Classes::new(made.classes.all().into_iter().take(described));
        let mut rest = &stream[..];
        while let Ok(h) = PacketHeader::decode(rest, |_| Some(StreamClass::Plain)) {
            let Some(packet) = rest.get(..h.content_size as usize) else { break };
            let mut cursor = Cursor::new(h.stream_class.header_size() as usize, h.begin);
            while cursor.next(packet, &known).expect("described").is_some() {}
            rest = rest.get(h.packet_size as usize..).unwrap_or_default();
        }
        looks += 1;
        most = most.max(described);
    }
    writes.join().expect("a writer");
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    assert!(looks > 10 && most > 20, "{looks} looks, {most} classes seen to come");
    if have("metadata_grows", "babeltrace2", &["--version"]) {
        assert_eq!(babeltrace(&made.dir).lines().count(), 4000);
    }
}
