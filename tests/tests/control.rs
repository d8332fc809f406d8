//! Goal: a running pipeline does what it is told, says so when it is done and not before, and
//! nobody who talks to it, or does not, is in its way or in another one's. Method: the program
//! itself, its commands, and clients that behave badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rbpipe_tests::program::{
    Pipeline, balance, counts, launch, launch_in, limited, rbpipe, report, run, runtime,
};
use rbpipe_tests::{have, records};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// As fast as it goes, into too small a ring.
const LOADED: &str = r#"
    source.g = {type = "generator", rate = "max", writers = 2, payload = 40, channel = "c"}
    channel.c = {subbuf_size = "16 KiB", subbuf_count = 4, backend = {type = "file", path = "t", overwrite = true}}
"#;
/// Nearly nothing, for ever.
const IDLE: &str = r#"
    source.g = {type = "generator", rate = 10, channel = "c"}
    channel.c = {switch_timer = "0 s", backend = {type = "pages"}}
"#;

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).expect(path)
}

fn socket(pipeline: &Pipeline) -> PathBuf {
    pipeline.runtime.join("rbpipe/pipeline.sock")
}

fn connect(pipeline: &Pipeline) -> UnixStream {
    let stream = UnixStream::connect(socket(pipeline)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

fn status(pipeline: &Pipeline) -> Value {
    serde_json::from_str(&pipeline.told(&["status", "--json"])).expect("JSON")
}

/// What the other end says until it closes.
fn rest(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    // Closed with something unread, it is reset, after what was said.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(k, v)| {
                let below = keys(v).into_iter().map(move |b| format!("{k}.{b}"));
                std::iter::once(k.clone()).chain(below)
            })
            .collect(),
        Value::Array(list) => list.first().map(keys).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[test]
fn status_has_the_report_s_form_and_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipeline = launch(dir.path(), LOADED);
    pipeline.wait_until_it_answers();
    let first = status(&pipeline);
    assert_eq!(first["name"], "pipeline");
    let begin = Instant::now();
    let recorded = |status: &Value| number(status, "/channels/c/recorded");
    loop {
        let second = status(&pipeline);
        assert!(first["seconds"].as_f64() < second["seconds"].as_f64());
        if recorded(&first) < recorded(&second) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{second}");
    }
    let words = pipeline.told(&["status", "pipeline"]);
    for part in ["pipeline: running for", "channel c (file, discard)", "events/s", "source g:"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    pipeline.told(&["stop"]);
    assert_eq!(pipeline.wait_with_output().status.code(), Some(0));
    assert_eq!(keys(&first), keys(&report(dir.path())), "the same form");
}

/// The trace is read right when the reply has come: what was recorded before is in it.
#[test]
fn flush_returns_when_all_is_in_the_output() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", rate = 2000, payload = 10, writers = 3, channel = ["c", "d"]}
        channel.c = {switch_timer = "0 s", read_timer = "0 s", backend = {type = "file", path = "t"}}
        channel.d = {switch_timer = "0 s", streams = "single", backend = {type = "file", path = "u"}}
    "#;
    let pipeline = launch(dir.path(), toml);
    pipeline.wait_until_it_answers();
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(30));
        // All of it lies in sub-buffers that are not full.
        let read = number(&status(&pipeline), "/sources/g/read");
        // A record is counted as read when all channels have it, but for one a writer.
        pipeline.told(&["flush"]);
        for trace in ["t", "u"] {
            let (events, ..) = counts(dir.path(), trace);
            assert!(events + 3 >= read, "{trace}: {events} of {read}");
        }
    }
    assert!(counts(dir.path(), "t").0 > 500);
    pipeline.told(&["stop"]);
    assert_eq!(pipeline.wait_with_output().status.code(), Some(0));
    let report = report(dir.path());
    assert_eq!(counts(dir.path(), "t").0, number(&report, "/channels/c/offered"));
}

#[test]
fn stop_under_full_load_leaves_exact_books() {
    for _ in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        let pipeline =
            launch(dir.path(), &format!("pipeline.name = \"stop-under-load\"\n{LOADED}"));
        pipeline.wait_until_it_answers();
        std::thread::sleep(Duration::from_millis(200));
        // Twice, and while others ask: all of them are answered, or come too late.
        let asks = ["stop", "stop", "flush", "rotate"];
        let all = std::thread::scope(|s| {
            let pipeline = &pipeline;
            let ask = |what| s.spawn(move || pipeline.talk(&[what, "stop-under-load"]));
            asks.map(ask).map(|t| t.join().expect("it runs"))
        });
        assert!(all[..2].iter().any(|out| out.status.success()), "{all:?}");
        for out in &all[..2] {
            assert!(out.status.success() || said(out).contains("no pipeline "), "{all:?}");
        }
        // It has ended: nothing of it is left, not even for a moment.
        let left = std::fs::read_dir(pipeline.runtime.join("rbpipe")).expect("there").count();
        assert_eq!(left, 0, "socket and lock");
        let books = report(dir.path());
        let out = pipeline.wait_with_output();
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let c = &books["channels"]["c"];
        balance(c);
        assert!(number(c, "/lost/full") > 0, "{c}");
        let found = records::verify_pieces(&rbpipe_tests::program::pieces(&dir.path().join("t")));
        assert_eq!(found["c"].records, number(c, "/output/records"));
        assert_eq!(found["c"].discarded, number(c, "/lost/full") + number(c, "/lost/wrap"));
    }
}

#[test]
fn stop_tells_that_it_ended_badly() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", rate = 20000, payload = 200, channel = "c"}
        channel.c = {subbuf_size = "16 KiB", switch_timer = "10 ms", streams = "single", backend = {type = "file", path = "t"}}
    "#;
    let runtime = runtime();
    let mut command = limited(dir.path(), toml, 256);
    let child = command
        .env("XDG_RUNTIME_DIR", &runtime)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let mut pipeline = Pipeline::of(child, runtime.clone());
    let talk =
        |what: &str| rbpipe().arg(what).env("XDG_RUNTIME_DIR", &runtime).output().expect("it runs");
    let begin = Instant::now();
    let flushed = loop {
        let out = talk("flush");
        if said(&out).contains("could not be written") {
            break out;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", said(&out));
    };
    assert_eq!(flushed.status.code(), Some(1), "what failed is not flushed");
    let out = talk("stop");
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("not well (exit code 1)"), "{}", said(&out));
    assert_eq!(pipeline.child().wait().expect("it has ended").code(), Some(1));
}

#[test]
fn clients_that_behave_badly_are_in_nobody_s_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipeline = launch(dir.path(), LOADED);
    pipeline.wait_until_it_answers();
    let soon = |what: &str| {
        let begin = Instant::now();
        let _ = status(&pipeline);
        assert!(begin.elapsed() < Duration::from_secs(3), "{what}");
    };
    // Garbage: one line, and the end.
    for garbage in [
        &b"\n"[..],
        b"hello\nhello\n",
        b"\xff\xfe\0\n",
        b"[1, 2]\n",
        b"{\"version\":1,\"command\":\"explode\"}\n",
        b"{\"version\":9,\"command\":\"status\"}\n",
    ] {
        let mut stream = connect(&pipeline);
        stream.write_all(garbage).expect("taken");
        let text = rest(&mut stream);
        assert_eq!(text.matches("\"error\"").count(), 1, "{garbage:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{garbage:?}: {text}");
    }
    // A line without end: an end to it.
    let mut stream = connect(&pipeline);
    let written = stream.write_all(&vec![b'x'; 1 << 20]);
    let text = rest(&mut stream);
    assert!(text.contains("at most 64 KiB") && written.is_err(), "{text} {written:?}");
    // Half a line, and gone.
    let mut stream = connect(&pipeline);
    stream.write_all(b"{\"version\":1,").expect("taken");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    assert!(rest(&mut stream).contains("has no end"));
    // A request in pieces, and two at once, are requests.
    let mut stream = connect(&pipeline);
    for part in
        ["{\"version\":1,\"com", "mand\":\"flush\"}\n{\"version\":1,", "\"command\":\"flush\"}\n"]
    {
        stream.write_all(part.as_bytes()).expect("taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut lines = BufReader::new(&stream).lines();
    for _ in 0..2 {
        assert_eq!(lines.next().expect("one").expect("read"), "{\"version\":1}");
    }
    soon("after those");
    // Who never sends, and who sends half and waits, are let go; others are served.
    let begin = Instant::now();
    let (mut silent, mut half) = (connect(&pipeline), connect(&pipeline));
    half.write_all(b"{\"version\":").expect("taken");
    soon("beside the silent ones");
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..5 {
                    pipeline.told(&["flush"]);
                    let _ = status(&pipeline);
                }
            });
        }
    });
    assert_eq!(rest(&mut silent), "");
    assert!(rest(&mut half).contains("no whole request"));
    assert!(begin.elapsed() < Duration::from_secs(15), "let go at last");
    // More than there is room for.
    let mut many: Vec<UnixStream> = (0..40).map(|_| connect(&pipeline)).collect();
    let told = rest(many.last_mut().expect("one"));
    assert!(told.contains("too many clients"), "{told}");
    let begin = Instant::now();
    while pipeline.talk(&["flush"]).status.code() != Some(0) {
        assert!(begin.elapsed() < Duration::from_secs(15), "there is room again");
        std::thread::sleep(Duration::from_millis(100));
    }
    // One who asks and does not read.
    let mut deaf = connect(&pipeline);
    deaf.set_write_timeout(Some(Duration::from_secs(1))).expect("set");
    let asks = "{\"version\":1,\"command\":\"status\"}\n".repeat(1000);
    for _ in 0..20 {
        if deaf.write_all(asks.as_bytes()).is_err() {
            break;
        }
    }
    soon("beside the deaf one");
    drop((silent, half, many));
    pipeline.told(&["stop"]);
    let out = pipeline.wait_with_output();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    balance(&report(dir.path())["channels"]["c"]);
}

/// A socket that others can reach is not for others all the same.
#[test]
fn another_user_is_refused() {
    let try_it = ["--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", "import socket"];
    if !have("another user", "setpriv", &try_it) {
        return;
    }
    let dir = tempfile::tempdir_in("/tmp").expect("a directory");
    let runtime = dir.path().join("run");
    std::fs::create_dir(&runtime).expect("made");
    let pipeline = launch_in(dir.path(), IDLE, runtime.clone());
    pipeline.wait_until_it_answers();
    for open in [dir.path(), &runtime, &runtime.join("rbpipe"), &socket(&pipeline)] {
        std::fs::set_permissions(open, PermissionsExt::from_mode(0o777)).expect("set");
    }
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
try: s.sendall(b'{\"version\":1,\"command\":\"stop\"}\\n')
except BrokenPipeError: pass
print(s.recv(9999).decode())";
    let out = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", script])
        .arg(socket(&pipeline))
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(told.contains("another user's"), "{told} {}", said(&out));
    // Ours, too, is not used while others may enter.
    let out = pipeline.talk(&["status"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("others may enter it (mode 0777)"), "{}", said(&out));
    std::fs::set_permissions(runtime.join("rbpipe"), PermissionsExt::from_mode(0o700))
        .expect("set");
    pipeline.told(&["stop"]);
}

/// Directories that are not to be trusted: one sentence, and the pipeline runs without.
#[test]
fn a_directory_that_others_made_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = format!("pipeline.duration = \"100 ms\"\n{IDLE}");
    std::fs::write(dir.path().join("pipeline.toml"), &toml).expect("written");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED a stranger's directory: only root can give one away");
    }
    type Make<'a> = &'a dyn Fn(&Path);
    let link: Make<'_> = &|at| symlink(&elsewhere, at).expect("made");
    let open: Make<'_> = &|at| {
        std::fs::create_dir(at).expect("made");
        std::fs::set_permissions(at, PermissionsExt::from_mode(0o755)).expect("set");
    };
    let file: Make<'_> = &|at| std::fs::write(at, "").expect("written");
    let stranger: Make<'_> = &|at| {
        std::fs::create_dir(at).expect("made");
        std::os::unix::fs::chown(at, Some(65534), None).expect("root may");
    };
    for (make, words) in [
        (link, "is no directory (or a link to one)"),
        (open, "others may enter it"),
        (file, "is no directory"),
        (stranger, "belongs to another user"),
    ] {
        if words.contains("another user") && !root {
            continue;
        }
        let runtime = runtime();
        make(&runtime.join("rbpipe"));
        let start = |args: &[&str]| {
            let mut command = rbpipe();
            command.current_dir(dir.path()).env("XDG_RUNTIME_DIR", &runtime).args(args);
            command.output().expect("it runs")
        };
        let out = start(&["--config", "pipeline.toml"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert_eq!(said(&out).matches(words).count(), 1, "{words}: {}", said(&out));
        assert!(said(&out).contains("without a control socket"), "{}", said(&out));
        let out = start(&["status"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(said(&out).contains(words), "{words}: {}", said(&out));
        // Said to whoever wants none: nothing.
        let out = start(&["--config", "pipeline.toml", "--set", "pipeline.control=false"]);
        assert!(out.status.success() && !said(&out).contains(words), "{}", said(&out));
    }
    assert_eq!(std::fs::read_dir(&elsewhere).expect("there").count(), 0);
}

/// No place for a socket: a warning, and it runs.
#[test]
fn without_a_place_for_a_socket_it_runs() {
    if !have("read-only", "unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let toml = format!("pipeline.duration = \"100 ms\"\n{IDLE}");
    std::fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
    // What may be in /tmp stays where it is.
    let script = "mkdir run && mount -t tmpfs -o ro none run && mount --rbind /tmp /tmp &&
        mount -o remount,ro,bind /tmp && cd \"$PWD\" && exec \"$0\" --config pipeline.toml";
    let out = Command::new("unshare")
        .args(["-rm", "bash", "-c", script])
        .arg(rbpipe().get_program())
        .env("XDG_RUNTIME_DIR", dir.path().join("run"))
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(said(&out).matches("without a control socket").count(), 1, "{}", said(&out));
}

#[test]
fn one_pipeline_of_a_name_and_a_dead_one_s_socket_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let loaded = format!("pipeline.name = \"only-one\"\n{LOADED}");
    let loaded = loaded.as_str();
    let first = launch(dir.path(), loaded);
    first.wait_until_it_answers();
    let (runtime, before) = (first.runtime.clone(), status(&first));
    std::fs::write(dir.path().join("old.json"), "an old report").expect("written");
    let again = || {
        rbpipe()
            .current_dir(dir.path())
            .env("XDG_RUNTIME_DIR", &runtime)
            .args(["--config", "pipeline.toml", "--report", "old.json"])
            .output()
            .expect("it runs")
    };
    let out = again();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("a pipeline called \"only-one\" runs already"), "{}", said(&out));
    assert_eq!(std::fs::read(dir.path().join("old.json")).expect("there"), b"an old report");
    assert!(
        number(&status(&first), "/channels/c/recorded") >= number(&before, "/channels/c/recorded")
    );
    // Killed, it leaves its socket; nobody is there, and the next one replaces it.
    let socket = socket(&first).with_file_name("only-one.sock");
    first.kill();
    assert!(socket.exists());
    let out = rbpipe()
        .args(["status", "only-one"])
        .env("XDG_RUNTIME_DIR", &runtime)
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("no pipeline "), "{}", said(&out));
    let mut second = launch_in(dir.path(), loaded, runtime.clone());
    second.wait_until_it_answers();
    // Ended by a signal, it takes it away.
    kill_process(Pid::from_child(second.child()), Signal::TERM).expect("told");
    assert_eq!(second.wait_with_output().status.code(), Some(0));
    assert!(!socket.exists());
    // Without a connection to listen for there is none, and nobody is refused.
    let mut quiet = Vec::new();
    for n in 0..2 {
        let toml = format!(
            "pipeline.duration = \"300 ms\"\npipeline.control = false\n{}",
            loaded.replace("\"t\"", &format!("\"q{n}\""))
        );
        quiet.push(launch_in(dir.path(), &toml, runtime.clone()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!socket.exists());
    for one in quiet {
        assert_eq!(one.wait_with_output().status.code(), Some(0));
    }
    // A second interrupt ends it at once; its socket goes all the same.
    let mut third = launch_in(
        dir.path(),
        &loaded.replace("\"file\"", "\"pages\"").replace(", path = \"t\", overwrite = true", ""),
        runtime,
    );
    third.wait_until_it_answers();
    kill_process(Pid::from_child(third.child()), Signal::STOP).expect("told");
    for _ in 0..2 {
        kill_process(Pid::from_child(third.child()), Signal::INT).expect("told");
    }
    kill_process(Pid::from_child(third.child()), Signal::CONT).expect("told");
    let _ = third.wait_with_output();
    assert!(!socket.exists());
}

#[test]
fn a_name_may_be_left_out_when_one_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = rbpipe().args(["flush", "nobody-s-name"]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("no pipeline "), "{}", said(&nobody));
    let usage = rbpipe().args(["flush", "one", "two"]).output().expect("it runs");
    assert_eq!(usage.status.code(), Some(2));
    let named = |name: &str| format!("pipeline.name = \"{name}\"\n{IDLE}");
    let one = launch(dir.path(), &named("one"));
    one.wait_until_it_answers();
    assert!(one.told(&["status"]).starts_with("one: "));
    assert_eq!(one.told(&["flush", "one"]), "");
    let two = launch_in(dir.path(), &named("two"), one.runtime.clone());
    let begin = Instant::now();
    while two.talk(&["flush", "two"]).status.code() != Some(0) {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    let out = two.talk(&["stop"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("name one of \"one\", \"two\""), "{}", said(&out));
    let out = two.talk(&["stop", "three"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("there are \"one\", \"two\""), "{}", said(&out));
    // What has no pieces says so.
    let out = two.talk(&["rotate", "two"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("no channel's backend has pieces"), "{}", said(&out));
    two.told(&["stop", "two"]);
    assert_eq!(two.wait_with_output().status.code(), Some(0));
    one.told(&["stop"]);
    assert_eq!(one.wait_with_output().status.code(), Some(0));
}

/// A pipeline without a name has its file's, whatever that is, and directories may be deep.
#[test]
fn any_name_and_any_directory_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = runtime().join("deep".repeat(30));
    std::fs::create_dir(&deep).expect("made");
    let long = "long".repeat(60);
    for name in ["with space", ".hidden", "100%", "stra\u{df}e \u{1f980}", "quo\"te'", &long] {
        let config = dir.path().join(format!("{name}.toml"));
        std::fs::write(&config, IDLE).expect("written");
        let runtimes = [runtime(), deep.clone()];
        for at in &runtimes {
            let child = rbpipe()
                .env("XDG_RUNTIME_DIR", at)
                .arg("--config")
                .arg(&config)
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("it starts");
            let mut pipeline = Pipeline::of(child, at.clone());
            let talk = |args: &[&str]| {
                rbpipe().args(args).env("XDG_RUNTIME_DIR", at).output().expect("it runs")
            };
            let begin = Instant::now();
            while talk(&["flush", name]).status.code() != Some(0) {
                assert!(begin.elapsed() < Duration::from_secs(20), "{name}");
            }
            let out = talk(&["status"]);
            let words = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(words.starts_with(&format!("{name}: ")), "{words}");
            assert_eq!(talk(&["stop", name]).status.code(), Some(0), "{name}");
            assert_eq!(pipeline.child().wait().expect("it has ended").code(), Some(0));
        }
    }
    // Nothing stays.
    assert_eq!(std::fs::read_dir(deep.join("rbpipe")).expect("there").count(), 0);
}

/// A start that fails leaves no socket.
#[test]
fn a_start_that_fails_takes_its_socket_away() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("t")).expect("made");
    std::fs::write(dir.path().join("t/diary"), "dear diary").expect("written");
    let pipeline = launch(dir.path(), LOADED);
    let runtime = pipeline.runtime.clone();
    assert_eq!(pipeline.wait_with_output().status.code(), Some(1));
    assert_eq!(std::fs::read_dir(runtime.join("rbpipe")).expect("there").count(), 0);
    std::fs::remove_dir_all(dir.path().join("t")).expect("removed");
    assert_eq!(
        run(dir.path(), &format!("pipeline.duration = \"50 ms\"\n{LOADED}")).0.status.code(),
        Some(0)
    );
}
