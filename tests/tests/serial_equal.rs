//! Goal: what is received over a serial line is what was sent, field by field, with the kernel's
//! own times. Method: `examples/serial.toml`, its steps of time those of the kernel (1 ns) and its
//! events few enough for the line (those of some processes that come and go), over a wire of
//! 115200 baud in software to `rbpipe receive`; the same records go to a file, and `rbpipe read`
//! prints both. With all of the example's events, more than the line carries, the books of both
//! ends say the same. Needs tracefs (root).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{rbpipe, report, signal, start};
use rbpipe_tests::tracefs::{Tracefs, tracefs};
use rbpipe_tests::wire::{Side, Wire, WireOptions};
use rustix::process::Signal;
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../examples/serial.toml");

/// The example, at this port, with something in the place of something else.
fn example(port: &Path, changes: &[(&str, &str)]) -> String {
    let mut toml = EXAMPLE.replace("${PORT:-/tmp/wire-a}", &port.display().to_string());
    for (from, to) in changes {
        assert!(toml.contains(from), "the example has {from:?}");
        toml = toml.replace(from, to);
    }
    toml
}

const FILE: &str = "
[channel.copy]
streams = \"single\"
[channel.copy.backend]
type = \"file\"
path = \"copy\"
";

fn receive(dir: &Path, port: &Path) -> Child {
    let receiver = rbpipe()
        .current_dir(dir)
        .args(["receive", "--baud", "115200", "--out", "received", "--port"])
        .arg(port)
        .stderr(Stdio::piped())
        .spawn();
    receiver.expect("it starts")
}

/// Ends a program; gives what it said.
fn end(program: Child) -> String {
    signal(&program, Signal::INT);
    let out = program.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    said
}

/// The events that `read` prints of a trace, those of the link itself left out: of each CPU,
/// each a line of JSON without the number of its stream.
fn read(dir: &Path, trace: &str) -> BTreeMap<u64, Vec<Value>> {
    let out = rbpipe()
        .current_dir(dir)
        .args(["read", "--format", "json", "--event", "!link:*", trace])
        .output()
        .expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut all: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(out.stdout).expect("text").lines() {
        let mut event: Value = serde_json::from_str(line).expect("JSON");
        let object = event.as_object_mut().expect("an object");
        object.remove("stream");
        let cpu = object["cpu"].as_u64().expect("a CPU");
        all.entry(cpu).or_default().push(event);
    }
    all
}

/// Waits until a program's instance traces.
fn wait_for(tracefs: &Tracefs, program: &Child) {
    let _ = tracefs.instance_of(program);
}

#[test]
fn a_received_trace_is_what_was_sent() {
    let Some(tracefs) = tracefs("a_received_trace_is_what_was_sent") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
    let receiver = receive(dir.path(), &wire.port(Side::B));
    let toml = example(
        &wire.port(Side::A),
        &[
            ("\"sched:sched_switch\",", "\"sched:sched_process_*\", \"sched:sched_wakeup_new\","),
            ("channel = \"wire\"", "channel = [\"wire\", \"copy\"]"),
            ("tick = \"1 us\"", "drain_timeout = \"30 s\"\ntick = \"1 ns\""),
            ("duration = \"30 s\"", "duration = \"60 s\""),
        ],
    ) + FILE;
    let sender = start(dir.path(), &toml);
    wait_for(&tracefs, &sender);
    for _ in 0..150 {
        let status = Command::new("sh").args(["-c", "true; /bin/true"]).status();
        assert!(status.expect("it runs").success());
        thread::sleep(Duration::from_millis(20));
    }
    end(sender);
    wire.wait_until_quiet(Side::A, Duration::from_millis(500));
    let said = end(receiver);
    let report = report(dir.path());
    let channel = &report["channels"]["wire"];
    assert_eq!(
        (&channel["lost"]["full"], &channel["overwritten"]),
        (&0.into(), &0.into()),
        "the line carries all: {channel}"
    );
    let (sent, received) = (read(dir.path(), "copy"), read(dir.path(), "received"));
    let count = |events: &BTreeMap<u64, Vec<Value>>| events.values().map(Vec::len).sum::<usize>();
    assert!(count(&sent) > 900, "{} events: {said}", count(&sent));
    assert_eq!(count(&received) as u64, channel["recorded"].as_u64().expect("a number"), "{said}");
    // A CPU without an event has a stream, but no line.
    assert_eq!(sent.keys().collect::<Vec<_>>(), received.keys().collect::<Vec<_>>());
    for (cpu, sent) in &sent {
        for (n, (sent, received)) in sent.iter().zip(&received[cpu]).enumerate() {
            assert_eq!(received, sent, "event {n} of CPU {cpu}");
        }
        assert_eq!(sent.len(), received[cpu].len());
    }
}

/// `read --count` of a trace: events, discarded, packets lost.
fn counts(dir: &Path, trace: &str) -> (u64, u64) {
    let out = rbpipe()
        .current_dir(dir)
        .args(["read", "--count", "--event", "!link:*", trace])
        .output()
        .expect("it runs");
    let text = String::from_utf8(out.stdout).expect("text");
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in {text:?}"))
    };
    (number("events"), number("discarded"))
}

#[test]
fn what_a_line_does_not_carry_is_counted_at_both_ends() {
    let name = "what_a_line_does_not_carry_is_counted_at_both_ends";
    let Some(tracefs) = tracefs(name) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
    let receiver = receive(dir.path(), &wire.port(Side::B));
    let sender =
        start(dir.path(), &example(&wire.port(Side::A), &[("\"discard\"", "\"overwrite\"")]));
    wait_for(&tracefs, &sender);
    // Two programs that wake each other: tens of thousands of switches a second.
    let mut load = Command::new("sh")
        .args(["-c", "mkfifo x y; cat <x >y & cat <y >x & echo z >x; wait"])
        .current_dir(dir.path())
        .spawn()
        .expect("a load");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        let _ = Command::new("true").status();
    }
    end(sender);
    let _ = Command::new("sh")
        .args(["-c", "kill $(ps -o pid= --ppid $0) $0", &load.id().to_string()])
        .status();
    let _ = load.wait();
    wire.wait_until_quiet(Side::A, Duration::from_millis(500));
    let said = end(receiver);
    let report = report(dir.path());
    let channel = &report["channels"]["wire"];
    let number = |v: &Value| v.as_u64().expect("a number");
    let offered = number(&channel["offered"]);
    let overwritten = number(&channel["overwritten"]);
    assert!(overwritten > 1000, "more than the line carries: {channel}");
    let (events, discarded) = counts(dir.path(), "received");
    assert_eq!(events, number(&channel["output"]["records"]), "{said}\n{channel}");
    assert_eq!(events + discarded, offered, "{said}\n{channel}");
}
