//! Does a writer feel its serial port? What a record costs with a port that is stalled (nobody
//! reads it), with one that carries what it can, and with none (the same memory, no output), in
//! turns in one run: the ratio of their medians.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rbpipe_backends::pages::{self, Pages};
use rbpipe_backends::serial::{self, Format, Serial};
use rbpipe_benches::{channel, measuring, payload, spread};
use rbpipe_core::backend::Backend;
use rbpipe_core::channel::Streams;
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rbpipe_tests::wire::{Pty, Side, Wire, WireOptions, open};

const BAUD: u32 = 115_200;

/// Records that a ring of 2 MiB has room for.
const ROOM: u32 = 30_000;

/// Nanoseconds of a record, in a channel of this backend with its drain running: in overwrite mode
/// so many as fast as they go, round and round; in discard mode those that there is room for (a
/// record that is lost costs less than one that is recorded).
fn cost<B: Backend>(config: B::Config, mode: Mode, records: u32) -> f64 {
    let (channel, class) = channel::<B>(config, mode, Streams::Single, (256 << 10, 8));
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        let _ = channel.run(&asked, Duration::from_millis(100), &mut |_| {});
    });
    let record = payload(32);
    let write = |n: u32| {
        for _ in 0..n {
            let _ = writer.record(class, &record);
        }
    };
    let records = if mode == Mode::Overwrite { records } else { ROOM };
    if mode == Mode::Overwrite {
        write(4 * ROOM);
    }
    let begin = Instant::now();
    write(records);
    let time = begin.elapsed().as_secs_f64() * 1e9 / f64::from(records);
    control.stop();
    drain.join().expect("the drain");
    time
}

fn config(path: PathBuf, format: Format) -> serial::Config {
    let mut config = serial::Config::new(path);
    (config.baud, config.format) = (BAUD, format);
    config.drain_timeout = "0 s".parse().expect("a time");
    config
}

fn main() {
    let (rounds, records) = if measuring() { (41, 2_000_000) } else { (1, 20_000) };
    println!("{:>10} {:>10} {:>22} {:>22} {:>22}", "mode", "format", "no port", "stalled", "busy");
    for mode in [Mode::Discard, Mode::Overwrite] {
        for format in [Format::Text, Format::Binary] {
            let mut times = [const { Vec::new() }; 3];
            for _ in 0..rounds {
                times[0].push(cost::<Pages>(pages::Config::default(), mode, records));
                let stalled = Pty::open().expect("a port");
                let held = open(stalled.port()).expect("a port");
                let port = config(stalled.port().to_owned(), format);
                times[1].push(cost::<Serial>(port, mode, records));
                drop((held, stalled));
                let dir = tempfile::tempdir().expect("a directory");
                let wire = Wire::lay(dir.path(), WireOptions::clean(BAUD));
                let port = config(wire.port(Side::A), format);
                times[2].push(cost::<Serial>(port, mode, records));
            }
            let median = spread(times[0].clone()).1;
            let cells = times.map(|t| {
                let (low, mid, high) = spread(t);
                format!("{mid:.1} ({low:.1}-{high:.1}) {:.2}", mid / median)
            });
            println!(
                "{:>10} {:>10} {:>22} {:>22} {:>22}",
                format!("{mode:?}"),
                format!("{format:?}"),
                cells[0],
                cells[1],
                cells[2]
            );
        }
    }
}
