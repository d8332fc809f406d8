//! Goal: what a pipeline records of the kernel, through its ring, its file and `read`, is what
//! the kernel says of itself: every event of every CPU, in order, every field by name. Method:
//! `examples/kernel.toml` under load, beside a second instance with the same events, whose text
//! (`options/fields`) is compared over the window that both cover. Times are each instance's own
//! and differ by a little; an interrupt may come between the two of them, so that two events can
//! change places: a few are let through, none may be missing.
//! `RBPIPE_LONG=1`: three seconds. Needs tracefs (root).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rbpipe::fuzz::EventFormat;
use rbpipe_core::class::{EventClass, FieldType};
use rbpipe_tests::have;
use rbpipe_tests::kernel::text::{self, Line, Shown};
use rbpipe_tests::program::{rbpipe, report, signal, start};
use rbpipe_tests::tracefs::{Instance, Tracefs, tracefs};
use rustix::process::Signal;
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../examples/kernel.toml");

/// Things that make the kernel work, until told to stop.
fn load(stop: &AtomicBool, dir: &Path) {
    let on = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        // Two threads that wake each other.
        let (mut a_in, mut b_out) = std::io::pipe().expect("a pipe");
        let (mut b_in, mut a_out) = std::io::pipe().expect("a pipe");
        scope.spawn(move || {
            let mut byte = [0];
            while b_in.read(&mut byte).is_ok_and(|n| n > 0) {
                if b_out.write_all(&byte).is_err() {
                    break;
                }
            }
        });
        scope.spawn(move || {
            let mut byte = [0];
            while on() && a_out.write_all(&[1]).is_ok() && a_in.read(&mut byte).is_ok() {}
        });
        // Processes that come and go, with system calls of their own.
        scope.spawn(|| {
            while on() {
                let _ = Command::new("ls").arg("/usr/bin").stdout(Stdio::null()).status();
            }
        });
        // A disk and the network.
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let to = socket.local_addr().expect("an address");
            let mut buffer = [0; 4096];
            for i in (0u64..).take_while(|_| on()) {
                let mut file = File::create(dir.join("load")).expect("a file");
                let _ = file.write_all(&[i as u8; 65536]).and_then(|()| file.sync_all());
                for _ in 0..100 {
                    let _ = socket.send_to(&buffer[..1000], to);
                    let _ = socket.recv(&mut buffer);
                }
            }
        });
    });
}

/// An event as `read` prints it.
struct Read1 {
    name: String,
    time: u64,
    fields: serde_json::Map<String, Value>,
}

/// What `read` prints of a trace, for each CPU.
fn read(dir: &Path) -> BTreeMap<usize, Vec<Read1>> {
    let mut child = rbpipe()
        .current_dir(dir)
        .args(["read", "--format", "json", "trace"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut all: BTreeMap<usize, Vec<Read1>> = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        let Value::Object(mut event) = serde_json::from_str(&line).expect("JSON") else { panic!() };
        let cpu = event["cpu"].as_u64().expect("a CPU") as usize;
        let time = event["time"].as_u64().expect("a time");
        let Some(Value::String(name)) = event.remove("name") else { panic!("{line}") };
        let Some(Value::Object(fields)) = event.remove("fields") else { panic!("{line}") };
        all.entry(cpu).or_default().push(Read1 { name, time, fields });
    }
    assert!(child.wait().expect("it ends").success());
    all
}

/// An event's values, of those in its class, as far as the kernel's text shows them.
fn shown<'a>(
    class: &'a EventClass,
    fields: &serde_json::Map<String, Value>,
) -> Vec<(&'a str, Shown)> {
    let number = |ty: &FieldType, v: &Value| {
        let number = match (ty, v) {
            (FieldType::Enumeration(_, labels), Value::String(label)) => {
                let found = labels.iter().find(|l| l.name == *label);
                found.unwrap_or_else(|| panic!("{v} of {ty:?}")).first
            }
            _ => v.as_u64().map_or_else(|| v.as_i64().expect("a number").into(), i128::from),
        };
        number.to_le_bytes()[..ty.fixed_size().expect("a number")].to_vec()
    };
    let one = |ty: &FieldType, v: &Value| match (ty, v) {
        (FieldType::String | FieldType::Array(..) | FieldType::Sequence(_), Value::String(t)) => {
            Shown::Text(t.clone())
        }
        (FieldType::Array(of, _) | FieldType::Sequence(of), Value::Array(all)) => Shown::Elements {
            fixed: matches!(ty, FieldType::Array(..)),
            bytes: all.iter().flat_map(|v| number(of, v)).collect(),
        },
        _ => Shown::Number(number(ty, v)),
    };
    let all = class.fields.iter();
    all.map(|f| (f.name.as_str(), one(&f.ty, &fields[f.name.as_str()]))).collect()
}

/// The classes of the events that a trace has, from the kernel's formats.
fn classes(tracefs: &Tracefs, names: &BTreeSet<&str>) -> HashMap<String, EventClass> {
    let class = |name: &&str| {
        let (system, event) = name.split_once(':').expect("two parts");
        let file = tracefs.path(&format!("events/{system}/{event}/format"));
        let text = fs::read_to_string(file).expect("a format");
        let format = EventFormat::parse(system, event, &text).expect("a class");
        ((*name).to_owned(), format.class().clone())
    };
    names.iter().map(class).collect()
}

/// Switches on in `instance` what the example asks for. (`*` is at the end of its patterns; the
/// kernel's own `set_event` takes no part of a name.)
fn switch_on(tracefs: &Tracefs, instance: &Instance, events: &[String]) {
    let available = fs::read_to_string(tracefs.path("available_events")).expect("a list");
    let is = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    for name in available.lines() {
        let mut wanted = false;
        for event in events {
            match event.strip_prefix('!') {
                Some(not) => wanted &= !is(not, name),
                None => wanted |= is(event, name),
            }
        }
        if wanted {
            instance.set(&format!("events/{}/enable", name.replace(':', "/")), "1");
        }
    }
}

/// The kernel's own lines, by CPU.
fn printed(text: &str) -> BTreeMap<usize, Vec<Line<'_>>> {
    let mut all: BTreeMap<usize, Vec<Line<'_>>> = BTreeMap::new();
    for line in text::lines(text) {
        all.entry(line.cpu).or_default().push(line);
    }
    all
}

/// Whether an event is what a line says of one.
fn is_same(event: &Read1, class: &EventClass, line: &Line<'_>) -> Option<u32> {
    let rest = text::printed_name(line.rest, &event.name)?;
    let n = |name: &str| event.fields[name].as_u64().expect("a number") as u8;
    if event.fields["common_pid"] != line.pid {
        return None;
    }
    let mut flags = text::flags(n("common_flags"), n("common_preempt_count"));
    // Whether another task is due may change between the two instances.
    flags.replace_range(1..2, line.flags.get(1..2)?);
    if flags != line.flags {
        return None;
    }
    text::printed_fields(rest, &shown(class, &event.fields)).ok()
}

/// Nanoseconds of `SECONDS.MICROSECONDS`.
fn nanoseconds(printed: &str) -> u64 {
    let (seconds, micros) = printed.split_once('.').expect("a time");
    (seconds.parse::<u64>().expect("a number") * 1_000_000 + micros.parse::<u64>().expect("one"))
        * 1000
}

/// Where the second instance's first lines are among what was recorded: where they are the same
/// and their times are nearest. (Two threads that wake each other do the same every few
/// microseconds.)
fn begin(
    recorded: &[Read1],
    lines: &[Line<'_>],
    classes: &HashMap<String, EventClass>,
    offset: u64,
) -> usize {
    let time = |line: &Line<'_>| nanoseconds(line.time) + offset;
    let from = recorded.partition_point(|e| e.time + 2_000_000 < time(&lines[0]));
    let to = recorded.partition_point(|e| e.time < time(&lines[0]) + 2_000_000);
    let apart = |start: usize| {
        let (mut at, mut sum) = (start, 0);
        for line in lines.iter().take(100) {
            let same = |at: &usize| {
                let event = recorded.get(*at);
                event.is_some_and(|e| is_same(e, &classes[&e.name], line).is_some())
            };
            // Some may have changed places.
            if let Some(found) = (at..at + 64).find(same) {
                sum += recorded[found].time.abs_diff(time(line));
                at = found + 1;
            } else {
                sum += 1_000_000;
            }
        }
        sum
    };
    // Of several the last one: what is before it happened before the second instance began.
    (from..to).rev().min_by_key(|start| apart(*start)).expect("something was recorded then")
}

#[test]
fn what_is_recorded_of_the_kernel_is_what_it_says_of_itself() {
    let test = "what_is_recorded_of_the_kernel…";
    let Some(tracefs) = tracefs(test) else { return };
    let millis = if std::env::var_os("RBPIPE_LONG").is_some() { 3_000 } else { 300 };
    let example: toml::Table = EXAMPLE.parse().expect("TOML");
    let events = example["source"]["kernel"]["events"].as_array().expect("a list").iter();
    let events: Vec<String> = events.map(|e| e.as_str().expect("text").to_owned()).collect();

    let dir = tempfile::tempdir().expect("a directory");
    let second = tracefs.instance("equal");
    second.set("trace_clock", "mono");
    second.set("buffer_size_kb", &(16 * 1024 + 32 * millis).to_string());
    second.set("options/overwrite", "0");
    switch_on(&tracefs, &second, &events);
    let config = EXAMPLE
        .replace("duration = \"10 s\"", "duration = \"60 s\"")
        // Other tests run at the same time: what is compared is not how fast it is.
        .replace("channel = \"trace\"", "channel = \"trace\"\nbuffer_size = \"64 MiB\"")
        .replace("subbuf_count = 8", "subbuf_count = 64")
        .replace("path = \"kernel-trace\"", "path = \"trace\"")
        .replace("name = \"kernel\"", "name = \"kernel-equal\"");
    let mut program = start(dir.path(), &config);
    tracefs.instance_of(&program);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| load(&stop, dir.path()));
        thread::sleep(Duration::from_millis(100));
        second.set("tracing_on", "1");
        thread::sleep(Duration::from_millis(millis));
        second.set("tracing_on", "0");
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
    });
    signal(&program, Signal::INT);
    assert!(program.wait().expect("it ends").success());
    let report = report(dir.path());
    assert_eq!(report["sources"]["kernel"]["lost_before"], 0, "{report}");
    assert_eq!(report["channels"]["trace"]["lost"]["full"], 0, "{report}");

    second.set("options/fields", "1");
    let text = String::from_utf8_lossy(&fs::read(second.path().join("trace")).expect("a text"))
        .into_owned();
    assert_eq!(text::lost(&text), [], "the second instance is large enough");
    let all = read(dir.path());
    let names = all.values().flatten().map(|e| e.name.as_str()).collect();
    let classes = classes(&tracefs, &names);
    let metadata = fs::read_to_string(dir.path().join("trace/metadata")).expect("metadata");
    let number = |key: &str| {
        let rest = metadata.split_once(&format!("\t{key} = ")).expect("an offset").1;
        rest.split(';').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    let offset = number("offset_s") * 1_000_000_000 + number("offset");

    let (mut events, mut fields, mut moved) = (0u64, 0u64, 0u64);
    let mut kinds: HashMap<&str, u64> = HashMap::new();
    for (cpu, lines) in printed(&text) {
        let recorded = &all[&cpu];
        let first = nanoseconds(lines[0].time) + offset;
        let mut next = begin(recorded, &lines, &classes, offset);
        let mut skipped: VecDeque<usize> = VecDeque::new();
        // For the message: the line that was looked for when an event was passed over.
        let mut passed: HashMap<usize, &Line<'_>> = HashMap::new();
        for line in &lines {
            let same = |at: usize| {
                let event = &recorded[at];
                let near = event.time.abs_diff(nanoseconds(line.time) + offset) < 20_000_000;
                if near { is_same(event, &classes[&event.name], line) } else { None }
            };
            let here = next < recorded.len() && same(next).is_some();
            let found = skipped.iter().position(|at| !here && same(*at).is_some());
            let at = if let Some(place) = found {
                moved += 1;
                skipped.remove(place).expect("just found")
            } else {
                loop {
                    assert!(next < recorded.len(), "cpu {cpu}: missing: {line:?}");
                    next += 1;
                    if same(next - 1).is_some() {
                        break next - 1;
                    }
                    skipped.push_back(next - 1);
                    passed.insert(next - 1, line);
                    let event = &recorded[skipped[0]];
                    assert!(
                        skipped.len() <= 256,
                        "cpu {cpu}: {line:?} is not among what was recorded from {}: {:?}",
                        event.name,
                        event.fields
                    );
                }
            };
            events += 1;
            fields += u64::from(same(at).unwrap_or(0));
            *kinds.entry(recorded[at].name.as_str()).or_default() += 1;
        }
        // Both stop at one moment, as seen from one of them.
        for at in &skipped {
            let last = nanoseconds(lines[lines.len() - 1].time) + offset;
            let event = &recorded[*at];
            let late = event.time + 1_000_000 >= last || event.time <= first + 1_000_000;
            assert!(
                late,
                "cpu {cpu}: {} {:?} is not the kernel's, {} ns after the first, {} before the \
                 last; looking for {:?}",
                event.name,
                event.fields,
                event.time - first,
                last - event.time,
                passed[at]
            );
        }
    }
    println!("{events} events of {} kinds, {fields} fields; {moved} changed places", kinds.len());
    assert!(kinds.len() >= 20, "{kinds:?}");
    assert!(events > 20 * millis, "{events} events");
    assert!(moved * 100 < events, "{moved} of {events} changed places");

    if have(test, "babeltrace2", &["--version"]) {
        let out = Command::new("babeltrace2")
            .current_dir(dir.path())
            .args(["--no-delta", "trace"])
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && stderr.is_empty(), "{stderr}");
        let count = out.stdout.iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(report["channels"]["trace"]["recorded"], count);
    }
}
