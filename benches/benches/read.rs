//! How many events a second do the readers manage: the decoder over packets in memory, with a look
//! at each field and without, and `rbpipe read` of a trace on disk, counting, and printing text,
//! JSON and CSV to nowhere? Three million events of a u64 and a text of 16 bytes, one stream; CPU
//! time for an event, beside a copy of the same bytes.

use std::hint::black_box;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::file;
use rbpipe_benches::{channel, cpu_seconds, measuring, spread};
use rbpipe_core::channel::Streams;
use rbpipe_core::class::{EventClass, Field, FieldType, Integer};
use rbpipe_core::decode::{Classes, Cursor, value};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_tests::program::rbpipe;

fn class() -> EventClass {
    let text = FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16);
    let fields = vec![Field::new("n", FieldType::U64), Field::new("text", text)];
    EventClass::new("bench:event", fields)
}

/// A trace of so many events; gives its stream's bytes.
fn make(path: &Path, events: u64) -> Vec<u8> {
    let config = file::Config::new(path);
    let (channel, _) = channel::<file::File>(config, Mode::Block, Streams::Single, (256 << 10, 8));
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let id = writer.classes().register(class()).expect("a class");
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"))
    });
    let mut payload = *b"01234567a text of some\0\0";
    for n in 0..events {
        payload[..8].copy_from_slice(&n.to_le_bytes());
        writer.record(id, &payload).expect("block mode loses nothing");
    }
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    std::fs::read(path.join("bench_0")).expect("its file")
}

/// Goes through the packets of a stream; gives how many records there were.
fn decode(stream: &[u8], classes: &Classes, fields: bool) -> u64 {
    let (mut at, mut count) = (0, 0);
    while at < stream.len() {
        let header = PacketHeader::decode(&stream[at..], |_| Some(StreamClass::Plain));
        let header = header.expect("a packet");
        let content = &stream[at..at + header.content_size as usize];
        let mut cursor = Cursor::new(header.stream_class.header_size() as usize, header.begin);
        while let Some(record) = cursor.next(content, classes).expect("it can be read") {
            count += 1;
            let Some(class) = record.class.and_then(|c| classes.get(c)).filter(|_| fields) else {
                black_box(record);
                continue;
            };
            let mut rest = &content[record.payload.0..record.payload.1];
            for field in &class.fields {
                let (found, behind) = value(&field.ty, rest).expect("a value");
                black_box(found);
                rest = behind;
            }
        }
        at += header.packet_size as usize;
    }
    count
}

/// CPU seconds of the program.
fn program(trace: &Path, args: &[&str]) -> f64 {
    let before = children();
    let mut command = rbpipe();
    let status = command.arg("read").args(args).arg(trace).stdout(Stdio::null()).status();
    assert!(status.expect("it runs").success(), "rbpipe read {args:?}");
    children() - before
}

/// User and system seconds of the children that have ended.
fn children() -> f64 {
    // SAFETY: all of its fields are numbers.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to what is ours.
    let done = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used) };
    assert_eq!(done, 0, "it is known");
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

fn main() {
    let (rounds, events) = if measuring() { (7, 3_000_000) } else { (1, 2000) };
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let trace = dir.path().join("trace");
    let stream = make(&trace, events);
    // The channel's first class is another one.
    let other = EventClass::new("bench:record", Vec::new());
    let classes = Classes::new([Arc::new(other), Arc::new(class())]);
    let mut target = vec![0; stream.len()];
    // Built, and the file in the cache.
    program(&trace, &["--count"]);
    let ways: [(&str, &[&str]); 4] = [
        ("rbpipe read --count", &["--count"]),
        ("rbpipe read, text", &[]),
        ("rbpipe read, JSON", &["--format", "json"]),
        ("rbpipe read, CSV", &["--format", "csv"]),
    ];
    let mut found = vec![Vec::new(); 3 + ways.len()];
    for _ in 0..rounds {
        found[0].push(cpu_seconds(|| target.copy_from_slice(black_box(&stream))));
        for (i, fields) in [(1, false), (2, true)] {
            let mut count = 0;
            found[i].push(cpu_seconds(|| count = decode(black_box(&stream), &classes, fields)));
            assert_eq!(count, events);
        }
        for (i, (_, args)) in ways.iter().enumerate() {
            found[3 + i].push(program(&trace, args));
        }
    }
    println!("ns of CPU time an event: median [min max]; million events a second");
    let names = ["copy of the bytes", "decode", "decode, each field"];
    for (name, out) in names.into_iter().chain(ways.iter().map(|w| w.0)).zip(found) {
        let (low, mid, high) = spread(out);
        let ns = |t: f64| t * 1e9 / events as f64;
        println!(
            "{name:20} {:7.1} [{:.1} {:.1}]  {:7.1}",
            ns(mid),
            ns(low),
            ns(high),
            events as f64 / mid / 1e6
        );
    }
}
