//! Writes records and does nothing else: what a profiler looks at (`benches/profile` does).
//!
//! `record KIND PAYLOAD COUNT [CHANNELS [CLASSES]]`: KIND is single, per-thread or per-cpu; each
//! channel is pages in overwrite mode, 256 KiB × 8, without a reader; channels and classes are
//! used in turn.

use std::hint::black_box;
use std::process::ExitCode;

use rbpipe_backends::pages::{Config, Pages};
use rbpipe_benches::{channel, payload};
use rbpipe_core::channel::{Streams, Writer};
use rbpipe_core::class::{ClassId, EventClass};
use rbpipe_core::frontend::Mode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let kind = match args.next().as_deref() {
        Some("single") => Streams::Single,
        Some("per-thread") => Streams::PerThread(2),
        Some("per-cpu") => Streams::PerCpu,
        _ => {
            eprintln!("record single|per-thread|per-cpu PAYLOAD COUNT [CHANNELS [CLASSES]]");
            return ExitCode::from(2);
        }
    };
    let mut number = |otherwise: u32| match args.next() {
        None => otherwise,
        Some(text) => text.parse().unwrap_or(otherwise),
    };
    let (len, count, channels, classes) = (number(32), number(100_000), number(1), number(1));
    let channels: Vec<_> = (0..channels.max(1))
        .map(|_| channel::<Pages>(Config::default(), Mode::Overwrite, kind, (256 << 10, 8)).0)
        .collect();
    let writers: Vec<_> = channels.iter().map(|c| c.writer()).collect();
    let mut ids = Vec::new();
    for i in 0..classes.max(1) {
        for writer in &writers {
            let class = EventClass::new(format!("bench:{i}"), Vec::new());
            let id = writer.classes().register(class).expect("a class");
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
    }
    write(&writers, &ids, &payload(len as usize), count);
    ExitCode::SUCCESS
}

#[inline(never)]
fn write(writers: &[Writer], ids: &[ClassId], bytes: &[u8], count: u32) {
    let (mut writer, mut class) = (0, 0);
    for _ in 0..count {
        let _ = black_box(writers[writer].record(ids[class], black_box(bytes)));
        writer = if writer + 1 == writers.len() { 0 } else { writer + 1 };
        class = if class + 1 == ids.len() { 0 } else { class + 1 };
    }
}
