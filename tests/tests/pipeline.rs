//! Goal: what a stranger does works: a pipeline runs, its trace is read by `rbpipe read` and
//! by babeltrace2 with the same result, and the books of the report agree with the trace.
//! Method: the program itself, in a directory of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, counts, rbpipe, run, runtime, start};
use rbpipe_tests::{have, records};
use serde_json::Value;

const PYTHON: &str = "/usr/bin/python3";

/// babeltrace2's reading of a generator's trace, checksums and order proven.
fn babeltrace(dir: &Path, trace: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify.py");
    let out = Command::new(PYTHON).arg(script).arg(dir.join(trace)).output().expect("runs");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    serde_json::from_slice(&out.stdout).expect("JSON")
}

#[test]
fn the_default_pipeline_works_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = include_str!("../../pipeline.toml").replace("\"10 s\"", "\"1 s\"");
    for _ in 0..2 {
        let (out, report) = run(dir.path(), &toml);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{said}");
        assert!(said.contains("rbpipe read trace"), "it says how to look at it: {said}");
        let channel = &report["channels"]["trace"];
        balance(channel);
        let read: u64 = report["sources"]
            .as_object()
            .expect("sources")
            .values()
            .filter_map(|s| s["read"].as_u64())
            .sum();
        assert_eq!(channel["offered"].as_u64(), Some(read));
        assert_eq!(counts(dir.path(), "trace").0, channel["recorded"].as_u64().expect("n"));
        // Room that was allocated ahead is given back.
        let (mut taken, mut used) = (0, 0);
        for file in std::fs::read_dir(dir.path().join("trace")).expect("a trace") {
            let file = file.expect("a file").metadata().expect("readable");
            (taken, used) = (taken + file.blocks() * 512, used + file.len());
        }
        assert!(taken < used + (64 << 10), "{taken} bytes on the disk for {used}");
    }
    let out = rbpipe().current_dir(dir.path()).args(["read", "trace"]).output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for name in ["host:cpu", "host:load", "host:memory", "host:net", "rbpipe:generated"] {
        assert!(text.contains(name), "{name}");
    }
    if have("default pipeline", "babeltrace2", &["--version"]) {
        let out = Command::new("babeltrace2")
            .arg(dir.path().join("trace"))
            .output()
            .expect("babeltrace2 runs");
        assert!(out.status.success());
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "no error and no warning");
        assert_eq!(out.stdout.split(|b| *b == b'\n').count(), text.lines().count() + 1);
    }
}

#[test]
fn every_mode_and_kind_reads_the_same_in_babeltrace2() {
    if !have("every_mode", PYTHON, &["-c", "import bt2"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let events_in_all = if std::env::var_os("RBPIPE_LONG").is_some() { 100_000 } else { 5000 };
    let mut lossy = 0;
    for mode in ["discard", "overwrite", "block"] {
        for streams in ["per-cpu", "per-thread", "single"] {
            for (size, count) in [("4 KiB", 2), ("64 KiB", 4), ("1 MiB", 2)] {
                let toml = format!(
                    r#"
                    [source.g]
                    type = "generator"
                    rate = "max"
                    events = {events_in_all}
                    writers = 2
                    payload = 11
                    channel = "c"
                    [channel.c]
                    mode = "{mode}"
                    streams = "{streams}"
                    subbuf_size = "{size}"
                    subbuf_count = {count}
                    block_timeout = "20 s"
                    [channel.c.backend]
                    type = "file"
                    path = "trace"
                    overwrite = true
                    "#
                );
                let (out, report) = run(dir.path(), &toml);
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert_eq!(out.status.code(), Some(0), "{said}");
                let c = &report["channels"]["c"];
                balance(c);
                c["streams"].as_array().expect("streams").iter().for_each(balance);
                assert_eq!(c["offered"], events_in_all);
                let n = |path: &str| c.pointer(path).and_then(Value::as_u64).expect(path);
                let lost = n("/lost/full") + n("/lost/wrap") + n("/lost/too_big");
                lossy += u64::from(lost > 0);
                let (events, discarded, packets) = counts(dir.path(), "trace");
                let what = format!("{mode} {streams} {size}: {c}");
                assert_eq!(events, n("/output/records"), "{what}");
                assert_eq!(discarded, lost, "{what}");
                assert!(mode != "block" || lost == 0, "{what}");
                let theirs = babeltrace(dir.path(), "trace");
                assert_eq!(theirs["events"].as_u64(), Some(events), "{what}");
                assert_eq!(theirs["discarded"].as_u64(), Some(discarded), "{what}");
                assert_eq!(theirs["packets_lost"].as_u64(), Some(packets), "{what}");
            }
        }
    }
    assert!(lossy > 0, "no run lost anything: the losses were not tested");
}

#[test]
fn json_is_merged_by_time_and_has_the_fields() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, _) = run(
        dir.path(),
        r#"
        source.a = {type = "generator", events = 300, rate = 3000, writers = 3, payload = 2, channel = ["x", "y"]}
        channel.x = {streams = "per-thread", backend = {type = "file", path = "t"}}
        channel.y = {streams = "per-cpu", backend = {type = "file", path = "t"}}
        "#,
    );
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let read = ["read", "t", "--format", "json"];
    let out = rbpipe().current_dir(dir.path()).args(read).output().expect("runs");
    let (mut last, mut events) = (0, 0);
    let mut cpus: BTreeMap<bool, u32> = BTreeMap::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let e: Value = serde_json::from_str(line).expect("JSON");
        let time = e["time"].as_u64().expect("time");
        assert!(time >= last, "merged by time");
        last = time;
        events += 1;
        *cpus.entry(e["cpu"].is_null()).or_default() += 1;
        assert_eq!(e["name"], "rbpipe:generated");
        assert_eq!(e["fields"]["_payload_length"], 2);
        assert_eq!(e["fields"]["payload"].as_array().map(Vec::len), Some(2));
    }
    assert_eq!(events, 600, "every named channel gets the record");
    assert_eq!(cpus.values().copied().collect::<Vec<_>>(), [300, 300]);
}

#[test]
fn lines_keep_what_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("in"), b"plain\nbad \xff nul \0 end\n\nlast").expect("written");
    let (out, report) = run(
        dir.path(),
        r#"
        source.l = {type = "lines", from = "file:in", channel = "c"}
        channel.c = {streams = "single", backend = {type = "file", path = "t"}}
        "#,
    );
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(report["sources"]["l"]["read"], 4);
    let read = ["read", "t", "--format", "json"];
    let out = rbpipe().current_dir(dir.path()).args(read).output().expect("runs");
    let lines: Vec<String> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON"))
        .map(|e| e["fields"]["line"].as_str().expect("a line").to_owned())
        .collect();
    assert_eq!(lines, ["plain", "bad \\xFF nul \\x00 end", "", "last"]);
}

#[test]
fn a_signal_ends_it_with_everything_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = start(
        dir.path(),
        r#"
        source.g = {type = "generator", rate = 20000, channel = "c"}
        channel.c = {switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#,
    );
    std::thread::sleep(Duration::from_millis(400));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read(dir.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&text).expect("JSON");
    let c = &report["channels"]["c"];
    balance(c);
    assert!(c["recorded"].as_u64() > Some(1000), "{c}");
    assert_eq!(Some(counts(dir.path(), "t").0), c["recorded"].as_u64());
}

/// The busiest processes of each interval, and none of them where none is asked for.
#[test]
fn the_busiest_processes_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let busy = |processes: u32| {
        let toml = format!(
            r#"
            pipeline.duration = "2 s"
            source.h = {{type = "host", processes = {processes}, channel = "h"}}
            source.g = {{type = "generator", rate = "max", channel = "g"}}
            channel.h = {{streams = "single", backend = {{type = "file", path = "t", overwrite = true}}}}
            channel.g = {{backend = {{type = "pages"}}}}
            "#
        );
        let (out, _) = run(dir.path(), &toml);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let read = ["read", "t", "--format", "json", "--event", "host:process"];
        let out = rbpipe().current_dir(dir.path()).args(read).output().expect("runs");
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")).collect::<Vec<_>>()
    };
    assert!(busy(0).is_empty());
    let found = busy(2);
    let mine: Vec<&Value> =
        found.iter().map(|e| &e["fields"]).filter(|f| f["comm"] == "rbpipe").collect();
    // In a second the generator's thread takes half a second of a CPU at least, on a machine
    // that has others to run, too.
    let took: u64 = mine.iter().map(|f| f["cpu_ns"].as_u64().expect("cpu_ns")).sum();
    assert!((100_000_000..4_000_000_000).contains(&took), "{took} ns: {found:?}");
    assert!(mine.iter().all(|f| f["threads"].as_u64() > Some(1) && f["rss"].as_u64() > Some(0)));
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for e in &found {
        // All of a look are recorded within it.
        *times.entry(e["time"].as_u64().expect("time") / 50_000_000).or_default() += 1;
    }
    assert!(times.values().all(|n| *n <= 4), "two of each interval: {times:?}");
}

/// kill -9 at a random moment under load: what is there is whole, and `recover` makes a
/// trace of it that others open.
#[test]
fn a_killed_pipeline_leaves_whole_packets() {
    let rounds = if std::env::var_os("RBPIPE_LONG").is_some() { 100 } else { 8 };
    let dir = tempfile::tempdir().expect("a directory");
    let mut with_events = 0;
    for round in 0..rounds {
        let _ = std::fs::remove_dir_all(dir.path().join("t"));
        let _ = std::fs::remove_dir_all(dir.path().join("whole"));
        let mut child = start(
            dir.path(),
            r#"
            source.g = {type = "generator", rate = "max", writers = 2, payload = 40, channel = "c"}
            channel.c = {subbuf_size = "16 KiB", backend = {type = "file", path = "t"}}
            "#,
        );
        let begin = Instant::now();
        while !dir.path().join("t/metadata").exists() && begin.elapsed().as_secs() < 10 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Another moment each round.
        std::thread::sleep(Duration::from_micros(300 + round * 7919 % 90_000));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let (events, _, _) = counts(dir.path(), "t");
        let args = ["recover", "t", "--out", "whole"];
        let out = rbpipe().current_dir(dir.path()).args(args).output().expect("runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(counts(dir.path(), "whole").0, events, "recovered to the last record");
        let found = records::verify_generated(&dir.path().join("whole"));
        assert_eq!(found.records, events, "nothing torn: every checksum is right");
        with_events += u64::from(events > 0);
        if round < 2 && have("killed", "babeltrace2", &["--version"]) {
            let out = Command::new("babeltrace2")
                .args(["--component", "sink.utils.dummy"])
                .arg(dir.path().join("whole"))
                .output()
                .expect("babeltrace2 runs");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
    assert!(with_events > rounds / 2, "most rounds were killed under load");
}

/// The second SIGINT does not wait for what the first one began: here, for somebody to read
/// the summary.
#[test]
fn a_second_interrupt_ends_it_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", channel = "c"}
        channel.c = {backend = {type = "pages"}}
        "#;
    std::fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
    let (_reader, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b' '; 64 << 10]).expect("just as much as it takes");
    let mut child = rbpipe()
        .current_dir(dir.path())
        .args(["--config", "pipeline.toml"])
        .stderr(full)
        .spawn()
        .expect("it starts");
    let pid = rustix::process::Pid::from_child(&child);
    let interrupt = || {
        std::thread::sleep(Duration::from_millis(400));
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    };
    interrupt();
    interrupt();
    let begin = Instant::now();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// The status line is for a terminal, and nothing of it is left behind.
#[test]
fn the_status_line_is_shown_on_a_terminal_alone() {
    if !have("status line", "script", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "900 ms"
        source.g = {type = "generator", rate = 1000, channel = "c"}
        channel.c = {backend = {type = "pages"}}
        "#;
    let (out, _) = run(dir.path(), toml);
    assert!(!String::from_utf8_lossy(&out.stderr).contains("events/s"), "{out:?}");
    let program = rbpipe().get_program().to_owned();
    let command = format!("{} --config pipeline.toml", program.display());
    let out = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("XDG_RUNTIME_DIR", runtime())
        .current_dir(dir.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs");
    let seen = String::from_utf8_lossy(&out.stdout).into_owned();
    // Rates, though no packet is delivered within this second.
    let line = seen.rsplit("\r\x1b[K").find(|l| l.contains("events/s")).expect("a line");
    let rate: f64 = line.split(' ').next().and_then(|n| n.parse().ok()).expect("a rate");
    assert!(rate > 0.0 && line.contains("lost 0"), "{line}");
    assert!(seen.contains("\r\x1b[Krbpipe: 0.9 s"), "taken away before the summary: {seen:?}");
}

#[test]
fn lines_come_from_stdin() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.l = {type = "lines", from = "stdin", channel = "c"}
        channel.c = {streams = "single", mode = "block", backend = {type = "file", path = "t"}}
        "#;
    std::fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
    let mut child = rbpipe()
        .current_dir(dir.path())
        .args(["--config", "pipeline.toml"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let text: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
    stdin.write_all(text.as_bytes()).expect("taken");
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(counts(dir.path(), "t"), (20_000, 0, 0));
}

/// A named pipe that nobody writes into keeps nobody waiting; one with writers is read.
#[test]
fn lines_come_from_a_named_pipe() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let toml = r#"
        source.l = {type = "lines", from = "file:fifo", follow = true, channel = "c"}
        channel.c = {streams = "single", backend = {type = "file", path = "t", overwrite = true}}
        "#;
    for texts in [&[][..], &["one\ntwo", "three\n"]] {
        let child = start(dir.path(), toml);
        std::thread::sleep(Duration::from_millis(200));
        for text in texts {
            // Opens, writes, closes: a writer that comes and goes.
            std::fs::write(&fifo, text).expect("written");
            std::thread::sleep(Duration::from_millis(200));
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
        let begin = Instant::now();
        let out = child.wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(begin.elapsed() < Duration::from_secs(5));
        let lines = if texts.is_empty() { 0 } else { 3 };
        assert_eq!(counts(dir.path(), "t").0, lines, "{texts:?}");
    }
}

/// A log that is rotated: renamed, and begun anew under its name.
#[test]
fn lines_follow_a_file_that_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    std::fs::write(&log, "one\n").expect("written");
    let child = start(
        dir.path(),
        r#"
        source.l = {type = "lines", from = "file:log", follow = true, channel = "c"}
        channel.c = {streams = "single", backend = {type = "file", path = "t"}}
        "#,
    );
    let pause = || std::thread::sleep(Duration::from_millis(250));
    let append = |text: &str| {
        let mut file = std::fs::File::options().append(true).open(&log).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    };
    pause();
    append("two\nthr");
    pause();
    append("ee\nfour");
    std::fs::rename(&log, dir.path().join("log.1")).expect("renamed");
    std::fs::write(&log, "five\n").expect("written");
    pause();
    append("six\n");
    pause();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(0));
    let out = rbpipe().current_dir(dir.path()).args(["read", "t"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lines: Vec<&str> =
        text.lines().filter_map(|l| l.split("line = \"").nth(1)?.split('"').next()).collect();
    assert_eq!(lines, ["one", "two", "three", "four", "five", "six"]);
}

#[test]
fn a_broken_pipe_is_success() {
    let dir = tempfile::tempdir().expect("a directory");
    run(
        dir.path(),
        r#"
        source.g = {type = "generator", events = 20000, rate = "max", channel = "c"}
        channel.c.mode = "block"
        channel.c.backend = {type = "file", path = "t"}
        "#,
    );
    let mut child = rbpipe()
        .current_dir(dir.path())
        .args(["read", "t"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
