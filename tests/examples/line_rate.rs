//! How exact is the rig's wire, and how late does a byte come? Plain bytes, as many as it takes,
//! from 9600 to 3 million bits a second. Everything that is measured on the wire is so exact at
//! best.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rbpipe_tests::wire::{Side, Wire, WireOptions, open};

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    println!("{:>8} {:>10} {:>14} {:>14}", "baud", "rate", "late, median", "late, p99");
    for baud in [9600, 115_200, 460_800, 921_600, 3_000_000] {
        let wire = Wire::lay(dir.path(), WireOptions::clean(baud));
        let mut from = open(&wire.port(Side::A)).expect("a port");
        let mut to = open(&wire.port(Side::B)).expect("a port");
        // Full: what went in between two moments.
        let begin = Instant::now();
        let (mut mark, mut rate) = (None, 0.0);
        let mut buffer = [0; 4096];
        while begin.elapsed() < Duration::from_secs(5) {
            while from.write(&[0x55; 4096]).is_ok() {}
            while to.read(&mut buffer).is_ok_and(|n| n > 0) {}
            std::thread::sleep(Duration::from_millis(1));
            let (now, bytes) = (Instant::now(), wire.seen(Side::A).done.bytes);
            match mark {
                None if begin.elapsed() > Duration::from_millis(500) => mark = Some((now, bytes)),
                None => {}
                Some((at, before)) => {
                    let seconds = now.duration_since(at).as_secs_f64();
                    rate = (bytes - before) as f64 / seconds / (f64::from(baud) / 10.0);
                }
            }
        }
        // Empty: one byte at a time.
        drop(wire);
        let wire = Wire::lay(dir.path(), WireOptions::clean(baud));
        let mut from = open(&wire.port(Side::A)).expect("a port");
        let mut to = open(&wire.port(Side::B)).expect("a port");
        let mut late: Vec<Duration> = (0..300)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(3));
                let begin = Instant::now();
                from.write_all(b"x").expect("room");
                while to.read(&mut buffer).is_err() {
                    std::thread::yield_now();
                }
                begin.elapsed().saturating_sub(Duration::from_secs_f64(10.0 / f64::from(baud)))
            })
            .collect();
        late.sort_unstable();
        println!("{baud:>8} {:>9.3}% {:>14.1?} {:>14.1?}", rate * 100.0, late[150], late[297]);
    }
}
