//! Writes records that are drained into a file, and does nothing else: what a profiler looks at.
//!
//! `drain DIR PAYLOAD COUNT [KIB]`: block mode, one stream of eight sub-buffers of KIB (256), one
//! writer (the main thread); the drain is the thread `drain`. Says how many CPU seconds each took.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rbpipe_backends::file;
use rbpipe_benches::{channel, payload, seconds};
use rbpipe_core::channel::Streams;
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rustix::time::{ClockId, clock_gettime};

fn cpu(clock: ClockId) -> f64 {
    let t = clock_gettime(clock);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|text| text.parse::<u64>().ok());
    let (Some(dir), Some(len), Some(count)) = (args.first(), number(1), number(2)) else {
        eprintln!("drain DIR PAYLOAD COUNT [KIB]");
        return ExitCode::from(2);
    };
    let size = number(3).unwrap_or(256) << 10;
    let config = file::Config::new(Path::new(dir));
    let (channel, class) = channel::<file::File>(config, Mode::Block, Streams::Single, (size, 8));
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let asked = control.clone();
    let thread = std::thread::Builder::new().name("drain".into()).spawn(move || {
        let before = cpu(ClockId::ThreadCPUTime);
        let done = channel.run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"));
        done.expect("it closes");
        cpu(ClockId::ThreadCPUTime) - before
    });
    let bytes = payload(len as usize);
    let (mut drained, mut wrote) = (0.0, 0.0);
    let t = seconds(|| {
        let before = cpu(ClockId::ThreadCPUTime);
        for _ in 0..count {
            writer.record(class, &bytes).expect("block mode loses nothing");
        }
        wrote = cpu(ClockId::ThreadCPUTime) - before;
        control.stop();
        drained = thread.expect("a thread").join().expect("the drain");
    });
    let gb = (count * (bytes.len() as u64 + 4)) as f64 / 1e9;
    println!(
        "{gb:.2} GB in {t:.2} s: {:.2} GB/s; CPU s a GB: writer {:.3}, drain {:.3}, all {:.3}",
        gb / t,
        wrote / gb,
        drained / gb,
        cpu(ClockId::ProcessCPUTime) / gb
    );
    ExitCode::SUCCESS
}
