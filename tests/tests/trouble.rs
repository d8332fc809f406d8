//! Goal: a disk that is full and a log that cannot be written are one clear sentence (where
//! there is somebody to read it), counted, told in the trace, and over when there is room
//! again. Method: the program itself, on a disk of its own, under a limit, with a log that
//! takes nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, counts, limited, rbpipe, report, run_limited, runtime};
use rbpipe_tests::{have, records};
use serde_json::Value;

/// A pipe that nobody reads, and that is full.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;
    let (reader, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b' '; 64 << 10]).expect("just as much as it takes");
    (reader, full)
}

/// A disk that fills up and is freed again, in a name space of the test's own.
#[test]
fn a_full_disk_is_said_and_counted_and_writing_goes_on_when_there_is_room() {
    if !have("full disk", "unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        || !have("full disk", "babeltrace2", &["--version"])
    {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("disk")).expect("made");
    std::fs::write(
        dir.path().join("pipeline.toml"),
        r#"
        source.g = {type = "generator", rate = 5000, payload = 200, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", streams = "single", switch_timer = "20 ms", backend = {type = "file", path = "disk/t"}}
        "#,
    )
    .expect("written");
    let script = r#"
        mount -t tmpfs -o size=8m none disk
        head -c 7900000 /dev/zero > disk/other
        "$0" --config pipeline.toml --report report.json 2> said &
        waits() { for i in $(seq 400); do grep -q "$1" said && return; sleep 0.05; done; exit 9; }
        waits 'cannot write'
        sleep 1.2
        rm disk/other
        waits 'writing again'
        sleep 0.1
        kill -TERM $!
        wait $!
        echo "ended $?"
        "$0" read disk/t > read
        babeltrace2 disk/t > babeltrace2 2> warnings
        echo "babeltrace2 $?"
        cp -r disk/t .
    "#;
    let program = rbpipe();
    let out = Command::new("unshare")
        .args(["-rm", "bash", "-c", script])
        .arg(program.get_program())
        .env("XDG_RUNTIME_DIR", runtime())
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    let said = text("said");
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(told, "ended 1\nbabeltrace2 0\n", "{said} {out:?}");
    // Once, and at most once a second.
    let complaints = said.matches("cannot write").count();
    assert!((1..=4).contains(&complaints), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    let report: Value = serde_json::from_str(&text("report.json")).expect("JSON");
    let c = &report["channels"]["c"];
    balance(c);
    assert!(c["output"]["failed"].as_u64() > Some(0), "{c}");
    assert_eq!(c["lost"]["full"], 0, "a failing output stops no writer: {c}");
    let found = records::verify_generated(&dir.path().join("t"));
    assert_eq!(Some(found.records), c["output"]["records"].as_u64(), "{found:?} {c}");
    assert_eq!(Some(found.packets_lost), c["output"]["failed"].as_u64(), "{found:?} {c}");
    let events = text("read").lines().filter(|l| !l.starts_with("!lost")).count() as u64;
    assert_eq!((events, text("babeltrace2").lines().count() as u64), (found.records, events));
    let warnings = text("warnings");
    assert!(warnings.lines().all(|l| l.contains("discarded")), "{warnings}");
}

/// A limit on the size of files is a full disk of its own kind.
#[test]
fn a_file_at_its_limit_is_an_output_that_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "500 ms"
        source.g = {type = "generator", rate = 50000, payload = 200, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", streams = "single", switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#;
    let out = run_limited(dir.path(), toml, 1024);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write: File too large"), "{said}");
    let report = report(dir.path());
    balance(&report["channels"]["c"]);
    let found = records::verify_generated(&dir.path().join("t"));
    let written = &report["channels"]["c"]["output"]["records"];
    assert_eq!(Some(found.records), written.as_u64(), "{said}");
}

/// Whoever reads the log may be gone, or the log's disk full: the report is there, and it ends.
#[test]
fn a_log_that_cannot_be_written_changes_nothing() {
    if !have("log", "unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("disk")).expect("made");
    std::fs::write(
        dir.path().join("pipeline.toml"),
        r#"
        pipeline.duration = "600 ms"
        source.g = {type = "generator", rate = 20000, payload = 200, writers = 2, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", switch_timer = "20 ms", backend = {type = "file", path = "disk/t"}}
        "#,
    )
    .expect("written");
    // The trace's disk fills up, and what is said of it goes nowhere: each in a way of its own.
    for log in ["2>/dev/full", "2>disk/log", "2>&1 >/dev/null | true"] {
        let script = format!(
            "mount -t tmpfs -o size=1m none disk; set -o pipefail
             timeout 20 \"$0\" --config pipeline.toml --report report.json {log}"
        );
        let _ = std::fs::remove_file(dir.path().join("report.json"));
        let out = Command::new("unshare")
            .args(["-rm", "bash", "-c", &script])
            .arg(rbpipe().get_program())
            .env("XDG_RUNTIME_DIR", runtime())
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        assert_eq!(out.status.code(), Some(1), "{log}: {out:?}");
        let c = &report(dir.path())["channels"]["c"];
        balance(c);
        assert!(c["output"]["failed"].as_u64() > Some(0), "{log}: {c}");
    }
}

/// Nobody reads the log, and its pipe is full: what is said waits, nothing else does. And one
/// SIGINT while the program comes to its end does not cut that short.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "500 ms"
        source.g = {type = "generator", rate = 20000, payload = 200, writers = 2, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#;
    let (_reader, full) = full_pipe();
    let mut child = limited(dir.path(), toml, 1024).stderr(full).spawn().expect("it starts");
    let begin = Instant::now();
    while std::fs::metadata(dir.path().join("report.json")).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(Duration::from_millis(5));
        assert!(begin.elapsed() < Duration::from_secs(20), "it waits for its log");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    assert_eq!(child.wait().expect("it ends").code(), Some(1), "the limit, not the signal");
    let c = &report(dir.path())["channels"]["c"];
    balance(c);
    assert!(c["output"]["failed"].as_u64() > Some(0), "{c}");
}

/// A stream file is made only when the metadata describes it, whatever fails in between.
#[test]
fn a_disk_that_is_full_at_the_start_leaves_a_trace_that_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "300 ms"
        source.g = {type = "generator", rate = 1000, channel = "c"}
        channel.c = {switch_timer = "20 ms", backend = {type = "file", path = "t", overwrite = true}}
        "#;
    // The first metadata fits into 2 KiB, the next one does not.
    for limit in [2, 3, 4] {
        let out = run_limited(dir.path(), toml, limit);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let read = rbpipe().arg("read").arg(dir.path().join("t")).output().expect("it runs");
        assert!(read.status.success() && read.stderr.is_empty(), "{limit}: {read:?} {said}");
        if have("full at the start", "babeltrace2", &["--version"]) {
            let out = Command::new("babeltrace2").arg(dir.path().join("t")).output();
            let out = out.expect("babeltrace2 runs");
            assert!(out.status.success(), "{limit}: {out:?} {said}");
        }
    }
}

/// What fails at the very end leaves a gap that is told, as long as an empty packet fits.
#[test]
fn packets_that_fail_at_the_end_are_missed_in_the_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", events = 2000, rate = "max", payload = 100, channel = "c"}
        channel.c = {mode = "block", streams = "single", subbuf_size = "64 KiB", backend = {type = "file", path = "t"}}
        "#;
    let out = run_limited(dir.path(), toml, 100);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let c = &report(dir.path())["channels"]["c"];
    balance(c);
    let n = |path: &str| c.pointer(path).and_then(Value::as_u64).expect(path);
    assert!(n("/output/failed") > 0, "{c}");
    let (events, _, packets) = counts(dir.path(), "t");
    assert_eq!((events, packets), (n("/output/records"), n("/output/failed")), "{c}");
}
