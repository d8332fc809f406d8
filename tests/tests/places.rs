//! Goal: the place that a trace is written into is treated with care, and trouble with it is
//! one clear sentence, counted, and over when the place is well again. Method: the program
//! itself, and disks, directories and files that change under its feet.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, counts, rbpipe, run, start};
use rbpipe_tests::{have, records};
use serde_json::Value;

/// The report that a run left in `dir`.
fn report(dir: &Path) -> Value {
    let text = std::fs::read(dir.join("report.json")).expect("a report");
    serde_json::from_slice(&text).expect("JSON")
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

#[test]
fn a_removed_directory_is_said_and_writing_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "900 ms"
        source.g = {type = "generator", rate = 5000, channel = "c"}
        channel.c = {switch_timer = "20 ms", streams = "single", backend = {type = "file", path = "t"}}
        "#,
    );
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_dir_all(dir.path().join("t")).expect("removed");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(said.matches("while the pipeline runs").count(), 1, "{said}");
    let (events, discarded, packets) = counts(dir.path(), "t");
    assert!(events > 500 && packets > 0 && discarded == 0, "{events} {packets}");
}

#[test]
fn a_directory_that_is_moved_away_stays_whole_and_a_new_one_is_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "900 ms"
        source.g = {type = "generator", rate = 5000, channel = "c"}
        channel.c = {switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#,
    );
    std::thread::sleep(Duration::from_millis(400));
    std::fs::rename(dir.path().join("t"), dir.path().join("before")).expect("moved");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("while the pipeline runs").count(), 1, "{said}");
    let report = report(dir.path());
    let (before, after) = (counts(dir.path(), "before"), counts(dir.path(), "t"));
    assert!(before.0 > 500 && after.0 > 500, "{before:?} {after:?}");
    assert_eq!(Some(before.0 + after.0), report["channels"]["c"]["recorded"].as_u64());
    assert!(after.2 > 0, "the packets that are elsewhere are missed: {after:?}");
    records::verify_generated(&dir.path().join("before"));
}

/// A limit on the size of files is a full disk of its own kind.
#[test]
fn a_file_at_its_limit_is_an_output_that_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join("pipeline.toml"),
        r#"
        pipeline.duration = "500 ms"
        source.g = {type = "generator", rate = 50000, payload = 200, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", streams = "single", switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#,
    )
    .expect("written");
    let out = Command::new("bash")
        .args(["-c", "ulimit -f 1024; exec \"$0\" --config pipeline.toml --report report.json"])
        .arg(rbpipe().get_program())
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write: File too large"), "{said}");
    let report = report(dir.path());
    balance(&report["channels"]["c"]);
    let found = records::verify_generated(&dir.path().join("t"));
    let written = &report["channels"]["c"]["output"]["records"];
    assert_eq!(Some(found.records), written.as_u64(), "{said}");
}

#[test]
fn a_directory_that_rbpipe_did_not_write_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", events = 5, channel = "c"}
        channel.c.backend = {type = "file", path = "t", overwrite = true}
        "#;
    let t = dir.path().join("t");
    std::fs::create_dir(&t).expect("made");
    std::fs::write(t.join("diary"), "dear diary").expect("written");
    for _ in 0..2 {
        let (out, _) = run(dir.path(), toml);
        assert_eq!(out.status.code(), Some(1));
        assert!(t.join("diary").exists());
        // A trace of ours with a stranger's file in it is left alone as well.
        std::fs::write(t.join("metadata"), "/* CTF 1.8 */ tracer_name = \"rbpipe\"").expect("w");
    }
    std::fs::remove_file(t.join("diary")).expect("removed");
    assert_eq!(run(dir.path(), toml).0.status.code(), Some(0));
    // An empty file is a stranger's, too, and so is a packet of another trace.
    for (name, bytes) in [("TODO", &b""[..]), ("c_9", b"\xc1\x1f\xfc\xc1 another uuid ...")] {
        std::fs::write(t.join(name), bytes).expect("written");
        assert_eq!(run(dir.path(), toml).0.status.code(), Some(1), "{name}");
        assert!(t.join(name).exists());
        std::fs::remove_file(t.join(name)).expect("removed");
    }
    // And without `overwrite` nothing of ours either.
    let (out, _) = run(dir.path(), &toml.replace("overwrite = true", "overwrite = false"));
    assert_eq!(out.status.code(), Some(1));
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
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        assert_eq!(out.status.code(), Some(1), "{log}: {out:?}");
        let c = &report(dir.path())["channels"]["c"];
        balance(c);
        assert!(c["output"]["failed"].as_u64() > Some(0), "{log}: {c}");
    }
}

#[test]
fn one_directory_is_one_trace_however_it_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("real")).expect("made");
    std::os::unix::fs::symlink("real", dir.path().join("link")).expect("linked");
    let absolute = dir.path().join("real").display().to_string();
    for other in ["./real", "real/", "link", "link/../real", &absolute] {
        let toml = format!(
            r#"
            source.g = {{type = "generator", events = 100, rate = "max", channel = ["a", "b"]}}
            channel.a.backend = {{type = "file", path = "real", overwrite = true}}
            channel.b.backend = {{type = "file", path = "{other}", overwrite = true}}
            "#
        );
        let (out, _) = run(dir.path(), &toml);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        assert_eq!(counts(dir.path(), "real"), (200, 0, 0), "{other}");
    }
    // They must agree on what becomes of an old trace.
    let (out, _) = run(
        dir.path(),
        r#"
        source.g = {type = "generator", events = 100, channel = ["a", "b"]}
        channel.a.backend = {type = "file", path = "real", overwrite = true}
        channel.b.backend = {type = "file", path = "./real"}
        "#,
    );
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(counts(dir.path(), "real"), (200, 0, 0), "nothing was removed for it");
}

#[test]
fn a_trace_that_is_being_written_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "1 s"
        source.g = {type = "generator", rate = 5000, channel = "c"}
        channel.c = {switch_timer = "20 ms", backend = {type = "file", path = "t", overwrite = true}}
        "#;
    let first = start(dir.path(), toml);
    std::thread::sleep(Duration::from_millis(400));
    let second = rbpipe()
        .current_dir(dir.path())
        .args(["--config", "pipeline.toml"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another pipeline writes into it"), "{said}");
    assert_eq!(first.wait_with_output().expect("it ends").status.code(), Some(0));
    let recorded = report(dir.path())["channels"]["c"]["recorded"].as_u64();
    assert_eq!(Some(counts(dir.path(), "t").0), recorded);
}

#[test]
fn files_that_are_removed_or_cut_come_back_with_metadata() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "900 ms"
        source.g = {type = "generator", rate = 5000, channel = "c"}
        channel.c.switch_timer = "20 ms"
        channel.c.streams = "single"
        channel.c.backend = {type = "file", path = "t", overwrite = true}
        "#;
    for damage in ["rm -rf t/*", "rm t/metadata", ": > t/c_0", "rm t/c_0"] {
        let child = start(dir.path(), toml);
        std::thread::sleep(Duration::from_millis(400));
        let done = Command::new("sh").args(["-c", damage]).current_dir(dir.path()).status();
        assert!(done.expect("sh runs").success());
        let out = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("while the pipeline runs"), "{damage}: {said}");
        let (events, ..) = counts(dir.path(), "t");
        assert!(events > 500, "{damage}: {events} events: {said}");
        records::verify_generated(&dir.path().join("t"));
        if have("files removed", "babeltrace2", &["--version"]) {
            let out = Command::new("babeltrace2")
                .arg(dir.path().join("t"))
                .output()
                .expect("babeltrace2 runs");
            assert!(out.status.success(), "{damage}: {out:?}");
        }
    }
}

/// What cannot be opened is known before anything old is removed; and its report is no old one.
#[test]
fn a_start_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = r#"
        source.g = {type = "generator", events = 100, rate = "max", channel = ["a"]}
        channel.a.backend = {type = "file", path = "t", overwrite = true}
        "#;
    assert_eq!(run(dir.path(), good).0.status.code(), Some(0));
    let bad = format!("{good}\nchannel.b.backend = {{type = \"file\", path = \"/proc/no\"}}");
    let bad = bad.replace("[\"a\"]", "[\"a\", \"b\"]");
    std::fs::write(dir.path().join("report.json"), "{\"old\": true}").expect("written");
    std::fs::write(dir.path().join("pipeline.toml"), bad).expect("written");
    let out = rbpipe()
        .current_dir(dir.path())
        .args(["--config", "pipeline.toml", "--report", "report.json"])
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert_eq!(report(dir.path())["channels"], serde_json::json!({}), "nothing was recorded");
    assert_eq!(counts(dir.path(), "t"), (100, 0, 0), "the old trace is there");
    // A report that cannot be written is known at once.
    let out = rbpipe()
        .current_dir(dir.path())
        .args(["--config", "pipeline.toml", "--report", "no/report.json"])
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(2));
}

/// Metadata that is no file, or of no size that metadata has, keeps nobody waiting.
#[test]
fn odd_metadata_is_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = dir.path().join("t");
    std::fs::create_dir(&t).expect("made");
    let toml = r#"
        source.g = {type = "generator", events = 1, channel = "a"}
        channel.a.backend = {type = "file", path = "t", overwrite = true}
        "#;
    for make in ["mkfifo metadata", "ln -s /dev/zero metadata", "truncate -s 3G metadata"] {
        let made = Command::new("sh").args(["-c", make]).current_dir(&t).status();
        assert!(made.expect("sh runs").success());
        let begin = Instant::now();
        for args in [&["read", "t"][..], &["recover", "t", "--out", "o"]] {
            let out = rbpipe().current_dir(dir.path()).args(args).output().expect("it runs");
            assert_eq!(out.status.code(), Some(1), "{make}: {out:?}");
        }
        assert_eq!(run(dir.path(), toml).0.status.code(), Some(1), "{make}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        std::fs::remove_file(t.join("metadata")).expect("removed");
    }
}

#[test]
fn recover_does_not_write_into_its_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", events = 1, channel = "a"}
        channel.a.backend = {type = "file", path = "t"}
        "#;
    assert_eq!(run(dir.path(), toml).0.status.code(), Some(0));
    let args = ["recover", "t", "--out", "t/sub"];
    let out = rbpipe().current_dir(dir.path()).args(args).output().expect("it runs");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(!dir.path().join("t/sub").exists());
}

/// Where a trace was moved away and something else has its place, nothing is written there.
#[test]
fn the_place_of_a_moved_trace_may_be_somebody_else_s_by_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = |name: &str| {
        format!(
            r#"
            pipeline.duration = "1200 ms"
            source.g = {{type = "generator", rate = 5000, channel = "{name}"}}
            channel.{name} = {{switch_timer = "20 ms", streams = "single", backend = {{type = "file", path = "t"}}}}
            "#
        )
    };
    for other in ["pipeline", "directory"] {
        let _ = std::fs::remove_dir_all(dir.path().join("t"));
        let _ = std::fs::remove_dir_all(dir.path().join("before"));
        let first = start(dir.path(), &toml("a"));
        std::thread::sleep(Duration::from_millis(300));
        std::fs::rename(dir.path().join("t"), dir.path().join("before")).expect("moved");
        // At once: before the first one's next packet.
        let second = if other == "pipeline" {
            std::fs::write(dir.path().join("second.toml"), toml("b")).expect("written");
            let mut command = rbpipe();
            command.current_dir(dir.path()).args(["--config", "second.toml"]);
            Some(command.stderr(std::process::Stdio::piped()).spawn().expect("it starts"))
        } else {
            std::fs::create_dir(dir.path().join("t")).expect("made");
            std::fs::write(dir.path().join("t/metadata"), "mine").expect("written");
            None
        };
        let out = first.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let report = report(dir.path());
        let c = &report["channels"]["a"];
        balance(c);
        let (kept, ..) = counts(dir.path(), "before");
        if let Some(second) = second {
            // Whoever came first has the place. The other one has all or nothing.
            let out = second.wait_with_output().expect("it ends");
            let theirs = String::from_utf8_lossy(&out.stderr).into_owned();
            let (events, ..) = counts(dir.path(), "t");
            assert!(events > 500, "{said}{theirs}");
            let files = std::fs::read_dir(dir.path().join("t")).expect("there").count();
            assert_eq!(files, 2, "metadata and one stream file: {said}{theirs}");
        } else {
            assert_eq!(out.status.code(), Some(1), "{said}");
            assert!(said.contains("another directory has its place"), "{said}");
            let text = std::fs::read_to_string(dir.path().join("t/metadata")).expect("there");
            assert_eq!(text, "mine");
            assert_eq!(c["output"]["records"].as_u64(), Some(kept), "{c}");
            assert!(c["output"]["failed"].as_u64() > Some(0), "{c}");
        }
    }
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
    std::fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
    // The first metadata fits into 2 KiB, the next one does not.
    for limit in [2, 3, 4] {
        let script = format!("ulimit -f {limit}; exec \"$0\" --config pipeline.toml");
        let out = Command::new("bash")
            .args(["-c", &script])
            .arg(rbpipe().get_program())
            .current_dir(dir.path())
            .output()
            .expect("it runs");
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

/// The second channel gets no memory: nothing of the first one's old trace is gone.
#[test]
fn memory_that_cannot_be_had_costs_no_old_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = r#"
        source.g = {type = "generator", events = 100, rate = "max", channel = "a"}
        channel.a.backend = {type = "file", path = "t", overwrite = true}
        "#;
    assert_eq!(run(dir.path(), good).0.status.code(), Some(0));
    let bad = format!(
        "{good}
        channel.b = {{subbuf_size = \"64 MiB\", subbuf_count = 1048576, backend = {{type = \"pages\"}}}}"
    );
    let (out, _) = run(dir.path(), &bad);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("no memory for a ring"), "{said}");
    assert_eq!(counts(dir.path(), "t"), (100, 0, 0));
}

/// A pipe that nobody reads, and that is full.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;
    let (reader, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b' '; 64 << 10]).expect("just as much as it takes");
    (reader, full)
}

/// Nobody reads the log, and its pipe is full: what is said waits, nothing else does. And one
/// SIGINT while the program comes to its end does not cut that short.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join("pipeline.toml"),
        r#"
        pipeline.duration = "500 ms"
        source.g = {type = "generator", rate = 20000, payload = 200, writers = 2, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", switch_timer = "20 ms", backend = {type = "file", path = "t"}}
        "#,
    )
    .expect("written");
    let (_reader, full) = full_pipe();
    let mut child = Command::new("bash")
        .args(["-c", "ulimit -f 1024; exec \"$0\" --config pipeline.toml --report report.json"])
        .arg(rbpipe().get_program())
        .current_dir(dir.path())
        .stderr(full)
        .spawn()
        .expect("it starts");
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

/// Whoever asks it to end while it opens finds everything as it was.
#[test]
fn a_signal_while_it_opens_costs_no_old_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = r#"
        source.g = {type = "generator", events = 100, rate = "max", channel = "a"}
        channel.a.backend = {type = "file", path = "t", overwrite = true}
        "#;
    assert_eq!(run(dir.path(), good).0.status.code(), Some(0));
    // Some seconds' worth of pages to be mapped in.
    let slow = format!(
        "{good}
        channel.a.streams = \"single\"
        channel.a.prefault = true
        channel.a.subbuf_size = \"64 MiB\"
        channel.a.subbuf_count = 64"
    );
    let child = start(dir.path(), &slow);
    std::thread::sleep(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("before anything was recorded"), "{said}");
    assert_eq!(counts(dir.path(), "t"), (100, 0, 0));
}

/// A file that is cut after its last write is not filled with zeros when it is closed.
#[test]
fn a_file_that_is_cut_just_before_the_end_is_said_and_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", rate = 0.5, channel = "c"}
        channel.c = {switch_timer = "20 ms", streams = "single", backend = {type = "file", path = "t"}}
        "#;
    let child = start(dir.path(), toml);
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(dir.path().join("t/c_0"), "").expect("cut");
    std::thread::sleep(Duration::from_millis(100));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("removed or cut just before the end"), "{said}");
    assert_eq!(counts(dir.path(), "t"), (0, 0, 0));
}

/// What fails at the very end leaves a gap that is told, as long as an empty packet fits.
#[test]
fn packets_that_fail_at_the_end_are_missed_in_the_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join("pipeline.toml"),
        r#"
        source.g = {type = "generator", events = 2000, rate = "max", payload = 100, channel = "c"}
        channel.c = {mode = "block", streams = "single", subbuf_size = "64 KiB", backend = {type = "file", path = "t"}}
        "#,
    )
    .expect("written");
    let out = Command::new("bash")
        .args(["-c", "ulimit -f 100; exec \"$0\" --config pipeline.toml --report report.json"])
        .arg(rbpipe().get_program())
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let c = &report(dir.path())["channels"]["c"];
    balance(c);
    let n = |path: &str| c.pointer(path).and_then(Value::as_u64).expect(path);
    assert!(n("/output/failed") > 0, "{c}");
    let (events, _, packets) = counts(dir.path(), "t");
    assert_eq!((events, packets), (n("/output/records"), n("/output/failed")), "{c}");
}
