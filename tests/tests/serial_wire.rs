//! Goal: what the program promises on a serial line holds on a line that is slow, bad, pulled out
//! and plugged in again. Method: the program at one end of the rig's wire; at the other the link's
//! decoder, picocom, or the program itself. Bounds are wide: other work runs beside tests.
//! `examples/serial_line.rs` measures.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rbpipe_tests::have;
use rbpipe_tests::program::{balance, counts, launch, rbpipe, report, signal};
use rbpipe_tests::wire::measure::{jitter, late, outage, overload, pipeline};
use rbpipe_tests::wire::{Ear, Rates, Side, Wire, WireOptions};
use serde_json::Value;

#[test]
fn more_than_the_line_carries_fills_it_and_what_arrives_is_new() {
    let dir = tempfile::tempdir().expect("a directory");
    // Where nothing is paced, a kernel's queue makes these 1700 and 220 ms.
    for (baud, most) in [(115_200, 600), (921_600, 150)] {
        let o = overload(dir.path(), baud, Duration::from_secs(2), "overwrite");
        let age = o.heard.age(99);
        assert!(o.line_use > 0.9 && o.line_use < 1.01, "{baud}: {}", o.line_use);
        assert!(age < Duration::from_millis(most), "{baud}: p99 {age:?}");
        assert!(o.heard.missing.ring > 0 && o.heard.missing.line == 0, "{:?}", o.heard.missing);
    }
}

#[test]
fn a_port_that_is_pulled_out_costs_nothing_and_is_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let o = outage(dir.path(), 115_200, 100, Duration::from_millis(1500));
    assert!(o.cpu < 0.1, "{o:?}");
    assert!(o.back < Duration::from_secs(3), "{o:?}");
}

/// Nothing of the program waits in a port that is gone: another source keeps its times.
#[test]
fn another_source_does_not_feel_a_port_that_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let time = Duration::from_millis(1500);
    let [(without, _), (with, most)] = [false, true].map(|port| jitter(dir.path(), port, time));
    let bound = Duration::from_millis(20).max(without * 3);
    assert!(with <= bound, "p99 {with:?}, most {most:?}; without a port {without:?}");
}

#[test]
fn who_comes_late_hears_after_one_announcement_and_at_once_when_it_asks() {
    let dir = tempfile::tempdir().expect("a directory");
    let every = Duration::from_secs(6);
    let waited = late(dir.path(), 115_200, every, false);
    assert!(waited < every + Duration::from_millis(500), "{waited:?}");
    let asked = late(dir.path(), 115_200, Duration::from_secs(60), true);
    assert!(asked < Duration::from_secs(1), "{asked:?}");
}

/// Offered = delivered + lost before the line + lost on it, in the receiver's books and in the
/// sender's report.
fn exact(dir: &std::path::Path, offered: u64, ear: Ear) -> rbpipe_tests::wire::Heard {
    assert!(ear.wait(Duration::from_secs(20), |h| !h.ended.is_empty()), "{:?}", ear.heard());
    let heard = ear.stop();
    let report = report(dir);
    let c = &report["channels"]["c"];
    balance(c);
    let n = |key: &str| c[key].as_u64().expect("a number");
    assert_eq!(n("offered"), offered, "{c}");
    assert_eq!(heard.sum(), offered, "{:?} {c}", heard.missing);
    let lost = c["lost"].as_object().expect("losses");
    let lost: u64 = lost.values().filter_map(Value::as_u64).sum();
    assert_eq!(heard.missing.ring, lost + n("overwritten"), "{:?} {c}", heard.missing);
    heard
}

#[test]
fn on_a_bad_line_the_books_are_exact() {
    for mode in ["discard", "overwrite"] {
        let dir = tempfile::tempdir().expect("a directory");
        let there = Rates { flip: 2e-5, drop: 2e-4, double: 2e-4, burst: 1e-4, ..Rates::CLEAN };
        let options = WireOptions { seed: 5, there, ..WireOptions::clean(115_200) };
        let wire = Wire::lay(dir.path(), options);
        let ear = Ear::listen(&wire.port(Side::B));
        let port = wire.port(Side::A);
        let toml = pipeline(&port, 115_200, 2000, mode, "format = \"mixed\"")
            .replace("payload", "events = 6000, payload");
        let running = launch(dir.path(), &toml);
        assert!(ear.wait(Duration::from_secs(20), |h| h.ages.len() > 1000), "{:?}", ear.heard());
        wire.set_rates(Side::A, Rates::CLEAN);
        let out = running.wait_with_output();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let heard = exact(dir.path(), 6000, ear);
        assert!(heard.missing.line > 0, "{:?}", heard.missing);
        assert!(heard.health.damaged > 3, "{:?}", heard.health);
    }
}

#[test]
fn over_an_outage_the_books_are_exact() {
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
    let ear = Ear::listen(&wire.port(Side::B));
    let toml = pipeline(&wire.port(Side::A), 115_200, 2000, "overwrite", "format = \"binary\"")
        .replace("payload", "events = 8000, payload");
    let running = launch(dir.path(), &toml);
    for n in 1..=2 {
        assert!(ear.wait(Duration::from_secs(20), |h| h.ages.len() > n * 800), "{:?}", ear.heard());
        wire.unplug(Side::A);
        std::thread::sleep(Duration::from_millis(500));
        wire.plug(Side::A);
    }
    let out = running.wait_with_output();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let heard = exact(dir.path(), 8000, ear);
    assert!(heard.sessions.len() >= 3, "new openings are said: {:?}", heard.sessions);
    assert!(heard.sessions.windows(2).all(|s| s[0].id == s[1].id), "{:?}", heard.sessions);
}

/// What a person sees in a terminal program is what was sent, byte for byte.
#[test]
fn picocom_shows_what_was_sent() {
    if !have("picocom", "picocom", &["--help"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions { keep: true, ..WireOptions::clean(115_200) });
    let log = dir.path().join("log");
    let mut picocom = Command::new("picocom")
        .args(["--quiet", "--baud", "115200", "--exit-after", "2500", "--logfile"])
        .arg(&log)
        .arg(wire.port(Side::B))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    let toml = pipeline(&wire.port(Side::A), 115_200, 1000, "discard", "colour = true")
        .replace("payload", "events = 500, payload");
    let out = launch(dir.path(), &toml).wait_with_output();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let stdin = picocom.stdin.take();
    let shown = picocom.wait_with_output().expect("it ends");
    drop(stdin);
    assert!(shown.status.success(), "{shown:?}");
    let sent = wire.went_in(Side::A);
    assert_eq!(wire.seen(Side::A).unheard, 0, "picocom was slow to open the port");
    assert!(std::fs::read(&log).expect("a log") == sent, "its log");
    assert!(shown.stdout == sent, "its screen");
    let lines = String::from_utf8(sent).expect("text");
    assert_eq!(
        lines.matches("rbpipe:generated").count() as u64,
        report(dir.path())["channels"]["c"]["output"]["records"].as_u64().expect("a number")
    );
    assert!(lines.lines().count() > 100 && lines.ends_with("\r\n"));
}

/// Another program's pair of ports, killed and started again under a running pipeline and a
/// running receiver: both find their ports again, and the receiver's trace has all that is missing.
#[test]
fn a_pair_of_ports_that_is_killed_and_comes_back() {
    if !have("socat", "socat", &["-V"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let socat = || {
        let pair = Command::new("socat")
            .arg(format!("pty,raw,echo=0,link={}", a.display()))
            .arg(format!("pty,raw,echo=0,link={}", b.display()))
            .spawn()
            .expect("it starts");
        let begin = Instant::now();
        while !(a.exists() && b.exists()) {
            assert!(begin.elapsed() < Duration::from_secs(10), "socat makes no ports");
            std::thread::sleep(Duration::from_millis(10));
        }
        pair
    };
    let mut pair = socat();
    let trace = dir.path().join("trace");
    let mut receiver = rbpipe()
        .args(["receive", "--baud", "115200", "--port"])
        .arg(&b)
        .arg("--out")
        .arg(&trace)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let toml = pipeline(&a, 115_200, 1000, "overwrite", "format = \"binary\"")
        .replace("payload", "events = 6000, payload");
    let running = launch(dir.path(), &toml);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1500));
        pair.kill().expect("killed");
        pair.wait().expect("it has ended");
        std::thread::sleep(Duration::from_millis(300));
        pair = socat();
    }
    let out = running.wait_with_output();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    std::thread::sleep(Duration::from_millis(500));
    signal(&receiver, rustix::process::Signal::TERM);
    assert!(receiver.wait().expect("it ends").success());
    pair.kill().expect("killed");
    pair.wait().expect("it has ended");
    let (all, discarded, packets) = counts(dir.path(), "trace");
    // Beside the sender's events the trace has what happened to the line (`link:*`).
    let read = rbpipe()
        .current_dir(dir.path())
        .args(["read", "--format", "json", "--event", "rbpipe:generated", "trace"])
        .output()
        .expect("it reads");
    let events = String::from_utf8_lossy(&read.stdout).lines().count() as u64;
    assert!(events > 1000 && all > events, "{events} of {all}, {discarded} discarded: {said}");
    assert_eq!((events + discarded, packets), (6000, 0), "{said}");
}
