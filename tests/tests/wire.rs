//! Goal: the rig's wire is what it says: as slow as a line, damaged as the seed decides and no
//! other way, gone when it is unplugged. Method: plain bytes between its two ports.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rbpipe_tests::wire::{Line, Rates, Side, Wire, WireOptions, mix, open};

fn bytes(n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| mix(1, i) as u8).collect()
}

/// Writes all, however little the port takes at once.
fn write_all(mut port: File, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match port.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => panic!("{e}"),
            }
        }
    })
}

/// Reads so many bytes, or what comes within the time.
fn read(port: &mut File, n: usize, within: Duration) -> Vec<u8> {
    let (mut all, begin, mut buffer) = (Vec::new(), Instant::now(), [0; 4096]);
    while all.len() < n && begin.elapsed() < within {
        match port.read(&mut buffer) {
            Ok(n) => all.extend(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(300));
            }
            Err(e) => panic!("{e}"),
        }
    }
    all
}

/// Every byte value comes over, at the line's rate: never faster, and no more slower than this
/// machine's other work makes it (`examples/line_rate.rs` prints how exact it is).
#[test]
fn it_carries_all_bytes_at_the_lines_rate_both_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    for baud in [9600, 115_200, 921_600, 3_000_000] {
        let wire = Wire::lay(dir.path(), WireOptions::clean(baud));
        for from in [Side::A, Side::B] {
            let n = (baud as usize / 10 / 4).max(512);
            let sent = bytes(n);
            let mut to = open(&wire.port(from.other())).expect("a port");
            let port = open(&wire.port(from)).expect("a port");
            let begin = Instant::now();
            let writer = write_all(port.try_clone().expect("a copy"), sent.clone());
            let came = read(&mut to, n, Duration::from_secs(20));
            let rate = n as f64 / begin.elapsed().as_secs_f64() / (f64::from(baud) / 10.0);
            writer.join().expect("written");
            assert!(came == sent, "{baud}: {} of {n} bytes", came.len());
            assert!(rate < 1.001 && rate > 0.8, "{baud}: {rate} of the line's rate");
        }
    }
}

/// What comes out is what the line model makes of what went in: nothing else happens on the way.
#[test]
fn it_damages_as_the_seed_decides_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let rates = Rates {
        flip: 1e-4,
        drop: 1e-3,
        double: 1e-3,
        burst: 1e-3,
        pause: 1e-3,
        pause_at_most: Duration::from_millis(5),
        ..Rates::CLEAN
    };
    let options =
        WireOptions { seed: 11, there: rates, keep: true, ..WireOptions::clean(3_000_000) };
    let wire = Wire::lay(dir.path(), options);
    let sent = bytes(60_000);
    let (mut model, mut out, mut at) = (Line::new(11, rates), Vec::new(), 0);
    while at < sent.len() {
        at += model.carry(&sent[at..], &mut out).0;
    }
    let mut to = open(&wire.port(Side::B)).expect("a port");
    let port = open(&wire.port(Side::A)).expect("a port");
    let writer = write_all(port.try_clone().expect("a copy"), sent.clone());
    let came = read(&mut to, out.len(), Duration::from_secs(20));
    writer.join().expect("written");
    assert!(came == out, "{} bytes instead of {}", came.len(), out.len());
    let seen = wire.seen(Side::A);
    assert_eq!(seen.done, model.done);
    assert!(seen.done.pauses > 20 && seen.done.bursts > 20, "{seen:?}");
    assert_eq!((seen.given, seen.overrun, seen.unheard), (out.len() as u64, 0, 0));
    assert!(wire.went_in(Side::A) == sent && wire.came_out(Side::A) == out);
}

/// An unplugged port is gone: an end of file at each read, an error at each write, no name; and
/// another device when it is back.
#[test]
fn an_unplugged_port_is_gone_and_comes_back_as_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(921_600));
    let name = wire.port(Side::A);
    let device = std::fs::read_link(&name).expect("a link");
    let mut port = open(&name).expect("a port");
    let mut other = open(&wire.port(Side::B)).expect("a port");
    wire.unplug(Side::A);
    assert!(!name.exists());
    for _ in 0..3 {
        assert_eq!(port.read(&mut [0; 8]).expect("an end"), 0);
        let error = port.write(b"x").expect_err("gone").raw_os_error();
        assert_eq!(error, Some(rustix::io::Errno::IO.raw_os_error()));
    }
    assert_eq!(other.read(&mut [0; 8]).expect_err("open").kind(), ErrorKind::WouldBlock);
    // While the first is open, its device's number is not given again.
    wire.plug(Side::A);
    assert_ne!(std::fs::read_link(&name).expect("a link"), device);
    let mut port = open(&name).expect("a port");
    port.write_all(b"here again").expect("written");
    assert_eq!(read(&mut other, 10, Duration::from_secs(5)), b"here again");
    drop(wire);
    assert!(!name.exists(), "the wire takes its names with it");
}

/// Who opens a port late hears nothing of what came before.
#[test]
fn bytes_that_nobody_hears_are_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
    let mut port = open(&wire.port(Side::A)).expect("a port");
    port.write_all(b"unheard").expect("written");
    wire.wait_until_quiet(Side::A, Duration::from_millis(100));
    let mut late = open(&wire.port(Side::B)).expect("a port");
    port.write_all(b"heard").expect("written");
    assert_eq!(read(&mut late, 12, Duration::from_millis(500)), b"heard");
    assert_eq!(wire.seen(Side::A).unheard, 7);
}

/// A hang-up of the seed's takes both ports away, and brings them back.
#[test]
fn the_line_hangs_up_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let rates =
        Rates { hang_up: 1e-3, hang_up_at_most: Duration::from_millis(100), ..Rates::CLEAN };
    let options = WireOptions { seed: 2, there: rates, ..WireOptions::clean(921_600) };
    let wire = Wire::lay(dir.path(), options);
    let begin = Instant::now();
    while wire.seen(Side::A).done.hang_ups < 3 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", wire.seen(Side::A));
        let Ok(mut port) = open(&wire.port(Side::A)) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        while port.write(&[0; 64]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
