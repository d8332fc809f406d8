//! How long after its commit is an event in the file? One event in flight, at random moments
//! of the switch timer; the file's length is polled. Prints median, p99 and maximum beside
//! the promise (switch_timer + 5 ms).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbpipe_backends::file;
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::records;

fn main() {
    let timer = Duration::from_millis(10);
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let path = dir.path().join("t");
    let (classes, class) = records::classes();
    let geometry = Geometry::new(64 << 10, 4, 2, 84).expect("a geometry");
    let plan = ChannelPlan {
        name: "c".into(),
        geometry,
        mode: Mode::Discard,
        classes: Arc::clone(&classes),
    };
    let config = file::Config::new(path.clone());
    let backend = file::File::open(config, &plan, &Context::new("latency")).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: Some(timer),
        read_timer: Some(Duration::from_millis(10)),
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"))
    });
    let file = path.join("c_0");
    let length = || std::fs::metadata(&file).map_or(0, |m| m.len());
    let mut times = Vec::new();
    for seq in 0..1000u64 {
        let before = length();
        writer.record(class, &records::record(0, seq, 8)).expect("room");
        let begin = Instant::now();
        // The first one makes the file: its empty packet alone is not the event.
        while length() <= before.max(80) {
            std::thread::sleep(Duration::from_micros(50));
        }
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_micros(seq * 7919 % 5000));
    }
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    times.sort_unstable();
    println!(
        "switch_timer {timer:?}: median {:?}, p99 {:?}, maximum {:?}; promised {:?}",
        times[500],
        times[990],
        times[999],
        timer + Duration::from_millis(5)
    );
}
