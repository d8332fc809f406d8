//! Goal: the place that a trace is written into is treated with care: nothing of others' is
//! touched, nothing old lost before it must be, and what changes there is one clear sentence.
//! Method: the program itself, and directories and files that change under its feet. (Disks
//! that are full: `trouble.rs`.)

use std::process::Command;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, counts, rbpipe, report, run, start};
use rbpipe_tests::{have, records};

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
