//! Goal: what a sender sends over a line is in the receiver's trace and on its stdout, field by
//! field, and what is missing is counted under its right name. Method: the program itself on a
//! pseudo terminal, and a sender whose frames are known one by one, so that some can be lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rbpipe_tests::have;
use rbpipe_tests::line::{Pty, Sender, point};
use rbpipe_tests::program::{counts, launch, rbpipe, signal};
use rustix::process::Signal;
use serde_json::Value;

/// A date like any other: 2025.
const OFFSET: u64 = 1_750_000_000_123_456_789;

/// The program, receiving.
fn receive(dir: &Path, port: &Path, args: &[&str]) -> Child {
    let mut command = rbpipe();
    command.current_dir(dir).arg("receive").arg("--port").arg(port).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// What a pipe says, line by line, while it is open.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
    lines
}

/// Takes a trace from a port behind a link, which can be another one's: the link, the port, the
/// receiver, and what it says.
fn receive_link(dir: &Path) -> (PathBuf, Pty, Child, Receiver<String>) {
    let (link, pty) = (dir.join("port"), Pty::new());
    point(&link, &pty.path);
    let mut child = receive(dir, &link, &["--out", "trace"]);
    let words = lines(child.stderr.take().expect("piped"));
    (link, pty, child, words)
}

/// Waits for a line that has this in it.
fn wait_for(lines: &Receiver<String>, word: &str) -> String {
    let (end, mut seen) = (Instant::now() + Duration::from_secs(20), Vec::new());
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(word) => return line,
            Ok(line) => seen.push(line),
            Err(e) => panic!("{word}: {e}: {seen:#?}"),
        }
    }
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends it as Ctrl-C does.
fn stop(child: Child) -> Output {
    // What was sent is with it: nothing is lost on a pseudo terminal.
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::INT);
    child.wait_with_output().expect("it ends")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Events that `rbpipe read --format json` prints: the sender's without their streams, and what
/// is told of the line.
fn events(json: &[u8]) -> (Vec<Value>, Vec<Value>) {
    let mut all = Vec::new();
    for line in String::from_utf8_lossy(json).lines() {
        let mut event: Value = serde_json::from_str(line).expect(line);
        event.as_object_mut().expect("an object").remove("stream");
        all.push(event);
    }
    all.into_iter().partition(|e| !e["name"].as_str().expect("a name").starts_with("link:"))
}

fn read(dir: &Path, args: &[&str]) -> Output {
    let out = rbpipe().current_dir(dir).arg("read").args(args).output().expect("it runs");
    assert!(out.status.success(), "{args:?}: {}", said(&out));
    out
}

fn sum(told: &[Value], name: &str, field: &str) -> u64 {
    let of = told.iter().filter(|e| e["name"] == name);
    of.map(|e| e["fields"][field].as_u64().expect(field)).sum()
}

/// By time, ties in the order in which they were sent.
fn sorted(mut events: Vec<Value>) -> Vec<Value> {
    events.sort_by_key(|e| e["time"].as_u64().expect("a time"));
    events
}

/// What a lossy line carries: the bytes, the records that arrive, and how many were lost at the
/// sender and on the line.
struct Carried {
    bytes: Vec<u8>,
    arrive: Vec<Value>,
    ring: u64,
    line: u64,
}

fn carry(sender: &mut Sender) -> Carried {
    let mut c = Carried { bytes: sender.hello(), arrive: Vec::new(), ring: 0, line: 0 };
    let streams = [sender.stream(0, Some(0)), sender.stream(1, Some(3)), sender.stream(9, None)];
    let mut frames = 0;
    for round in 0..40u64 {
        for (place, stream) in streams.into_iter().enumerate() {
            let lost = if round % 7 == 3 { round + place as u64 } else { 0 };
            c.ring += lost;
            for (bytes, told) in sender.records(stream, 20 + round, lost) {
                frames += 1;
                // Not what announces: later frames need that.
                if round > 5 && frames % 9 == 4 {
                    c.line += told.len() as u64;
                    // Damaged, or not there at all.
                    if frames % 2 == 0 {
                        let mut bytes = bytes;
                        let at = bytes.len() / 2;
                        bytes[at] ^= 0x20;
                        c.bytes.extend(bytes);
                    }
                } else {
                    c.bytes.extend(bytes);
                    c.arrive.extend(told);
                }
            }
        }
        if round % 10 == 4 {
            c.bytes.extend(b"[    1.5] usb 1-1: new device\r\n");
        }
        c.bytes.extend(sender.hello());
    }
    c.bytes.extend(sender.totals(true));
    assert!(c.ring > 0 && c.line > 0, "nothing was lost: losses were not tested");
    c.arrive = sorted(c.arrive);
    c
}

#[test]
fn a_trace_has_what_was_sent_and_tells_losses_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pty = Pty::new();
    let child = receive(dir.path(), &pty.path, &["--out", "trace"]);
    let carried = carry(&mut Sender::new(1, OFFSET));
    for part in carried.bytes.chunks(777) {
        pty.send(part);
    }
    let out = stop(child);
    let words = said(&out);
    assert_eq!(out.status.code(), Some(0), "{words}");
    let n = carried.arrive.len();
    let summary = format!(
        "; {n} events, {} lost on the line, {} lost at the sender",
        carried.line, carried.ring
    );
    assert!(words.contains(&summary), "{summary}: {words}");
    let json = read(dir.path(), &["trace", "--format", "json"]).stdout;
    let (events, told) = events(&json);
    assert_eq!(events.len(), n);
    assert_eq!(events, carried.arrive);
    assert_eq!(sum(&told, "link:loss", "ring"), carried.ring);
    assert_eq!(sum(&told, "link:loss", "line"), carried.line);
    let text = told.iter().filter(|e| e["name"] == "link:text");
    let text: Vec<_> = text.map(|e| e["fields"]["line"].as_str().expect("text")).collect();
    assert_eq!(text, ["[    1.5] usb 1-1: new device"; 4]);
    let produced = sum(&told, "link:end", "produced");
    assert_eq!(produced, n as u64 + carried.ring + carried.line, "the books");
    let (all, discarded, packets) = counts(dir.path(), "trace");
    assert_eq!(all, json.split(|b| *b == b'\n').count() as u64 - 1);
    assert_eq!((discarded, packets), (carried.ring + carried.line, 0));
    if have("receive", "babeltrace2", &["--version"]) {
        let out = Command::new("babeltrace2").arg(dir.path().join("trace")).output().expect("runs");
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count() as u64, all);
        // "WARNING: Tracer discarded 12 events between …"
        let told = said(&out);
        let words = told.split("discarded ").skip(1);
        let theirs: u64 = words.filter_map(|w| w.split(' ').next()?.parse::<u64>().ok()).sum();
        assert_eq!(theirs, discarded, "{told}");
    }
}

#[test]
fn a_capture_is_read_like_the_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let carried = carry(&mut Sender::new(1, OFFSET));
    std::fs::write(dir.path().join("capture"), &carried.bytes).expect("written");
    let out = read(dir.path(), &["capture", "--format", "json"]);
    let (found, told) = events(&out.stdout);
    assert_eq!(found, carried.arrive);
    assert_eq!(sum(&told, "link:loss", "ring"), carried.ring);
    assert_eq!(sum(&told, "link:loss", "line"), carried.line);
    assert!(said(&out).contains("damaged"), "{}", said(&out));
    let (ring, line) = (carried.ring, carried.line);
    let out = read(dir.path(), &["capture", "--count"]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        format!(
            "events {}\ndiscarded {}\npackets_lost 0\nlost_ring {ring}\nlost_line {line}\n",
            carried.arrive.len(),
            ring + line
        )
    );
    // Text: events as `read` prints them, losses in their places, text of others as it came.
    let text = read(dir.path(), &["capture"]).stdout;
    let text = String::from_utf8_lossy(&text);
    let lost: u64 = text
        .lines()
        .filter_map(|l| l.strip_prefix("!lost ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(lost, ring + line);
    assert_eq!(text.matches("[    1.5] usb 1-1: new device\r\n").count(), 4);
    let shown = text.lines().filter(|l| l.contains(": { ") || l.contains("test:bare")).count();
    assert_eq!(shown, carried.arrive.len());
    // stdin.
    let mut child = rbpipe()
        .args(["read", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = carried.bytes.clone();
    let writer = std::thread::spawn(move || bytes.chunks(999).try_for_each(|b| stdin.write_all(b)));
    let out = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all was taken");
    assert_eq!(sorted(events(&out.stdout).0), carried.arrive);
}

#[test]
fn a_captures_filters_select() {
    let dir = tempfile::tempdir().expect("a directory");
    let carried = carry(&mut Sender::new(1, OFFSET));
    std::fs::write(dir.path().join("c"), &carried.bytes).expect("written");
    let of = |is: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        carried.arrive.iter().filter(|e| is(e)).cloned().collect()
    };
    let found = |args: &[&str]| {
        let args = [&["c", "--format", "json"], args].concat();
        events(&read(dir.path(), &args).stdout).0
    };
    assert_eq!(found(&["--event", "test:list"]), of(&|e| e["name"] == "test:list"));
    assert_eq!(
        found(&["--filter", "pid > 2 && cpu == 3"]),
        of(&|e| e["fields"]["pid"].as_i64().is_some_and(|p| p > 2) && e["cpu"] == 3)
    );
    assert_eq!(found(&["--cpu", "0"]), of(&|e| e["cpu"] == 0));
    let begin = carried.arrive[0]["time"].as_u64().expect("a time");
    let after = |e: &Value| e["time"].as_u64().expect("a time") - begin;
    assert_eq!(
        found(&["--from", "+5ms", "--to", "+9ms"]),
        of(&|e| { (5_000_000..=9_000_000).contains(&after(e)) })
    );
    let csv = read(dir.path(), &["c", "--format", "csv", "--event", "test:switch"]).stdout;
    let csv = String::from_utf8_lossy(&csv);
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("time,stream,cpu,name,comm,pid,n"));
    assert_eq!(rows.count(), of(&|e| e["name"] == "test:switch").len());
    let (_, told) =
        events(&read(dir.path(), &["c", "--format", "json", "--event", "link:"]).stdout);
    assert!(told.iter().any(|e| e["name"] == "link:session"));
    for (args, code, word) in [
        (&["c", "c"][..], 1, "read alone"),
        (&["c", "--follow"], 1, "--follow"),
        (&["none"], 1, "no trace here"),
    ] {
        let out = rbpipe().current_dir(dir.path()).arg("read").args(args).output().expect("runs");
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert!(said(&out).contains(word), "{}", said(&out));
    }
    std::fs::write(dir.path().join("text"), "nothing but text\n".repeat(100)).expect("written");
    let out = rbpipe().current_dir(dir.path()).args(["read", "text"]).output().expect("runs");
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(1), &b""[..]));
    assert!(said(&out).contains("no frame in 1700 bytes"), "{}", said(&out));
}

#[test]
fn events_are_printed_when_they_come_and_text_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pty = Pty::new();
    let mut child = receive(dir.path(), &pty.path, &["--print"]);
    let printed = lines(child.stdout.take().expect("piped"));
    let mut sender = Sender::new(7, OFFSET);
    let stream = sender.stream(0, Some(1));
    pty.send(b"U-Boot 2025.01\r\n");
    assert_eq!(wait_for(&printed, "U-Boot"), "U-Boot 2025.01");
    pty.send(&sender.hello());
    let mut late = Vec::new();
    for _ in 0..30 {
        let bytes: Vec<u8> = sender.records(stream, 1, 0).into_iter().flat_map(|f| f.0).collect();
        let begin = Instant::now();
        pty.send(&bytes);
        let line = wait_for(&printed, "test:");
        late.push(begin.elapsed());
        assert!(line.starts_with("[15:06:45."), "{line}");
        assert!(line.contains("{ cpu_id = 1 }"), "{line}");
        std::thread::sleep(Duration::from_millis(20));
    }
    late.sort();
    assert!(late[15] < Duration::from_millis(20), "{late:?}");
    // A frame is lost, and what the sender lost.
    let lost = sender.records(stream, 3, 0).into_iter().map(|f| f.1.len()).sum::<usize>();
    let next: Vec<u8> = sender.records(stream, 1, 5).into_iter().flat_map(|f| f.0).collect();
    pty.send(&next);
    assert_eq!(
        wait_for(&printed, "!lost"),
        format!("!lost {} events (stream 1, cpu 1): 5 at the sender, {lost} on the line", lost + 5)
    );
    // A prompt has no end of line; an event begins one of its own.
    pty.send(b"login: ");
    std::thread::sleep(Duration::from_millis(300));
    let next: Vec<u8> = sender.records(stream, 1, 0).into_iter().flat_map(|f| f.0).collect();
    pty.send(&next);
    assert_eq!(wait_for(&printed, "login"), "login: ");
    assert!(wait_for(&printed, "test:").starts_with('['));
    let out = stop(child);
    assert_eq!(out.status.code(), Some(0));
    let words = said(&out);
    assert!(words.contains("32 events, 3 lost on the line, 5 lost at the sender"), "{words}");
}

#[test]
fn a_port_that_goes_away_and_a_sender_that_begins_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (link, mut pty, mut child, words) = receive_link(dir.path());
    let mut sender = Sender::new(7, OFFSET);
    let stream = sender.stream(0, Some(1));
    let mut all = Vec::new();
    let mut send = |pty: &mut Pty, sender: &mut Sender, count| {
        for (bytes, told) in sender.records(stream, count, 0) {
            pty.send(&bytes);
            all.extend(told);
        }
    };
    pty.send(&sender.hello());
    send(&mut pty, &mut sender, 50);
    std::thread::sleep(Duration::from_millis(300));
    drop(pty);
    wait_for(&words, "the port is gone");
    // Sent while there was no port.
    let lost: usize = sender.records(stream, 20, 0).into_iter().map(|f| f.1.len()).sum();
    let mut pty = Pty::new();
    let begin = Instant::now();
    point(&link, &pty.path);
    wait_for(&words, "the port is back");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    sender.reopened();
    pty.send(&sender.hello());
    send(&mut pty, &mut sender, 50);
    // It was started anew on a machine that was, too: its clock begins at the beginning.
    let mut again = Sender::new(8, OFFSET + 60_000_000_000);
    assert_eq!(again.stream(0, Some(1)), stream);
    pty.send(&again.hello());
    send(&mut pty, &mut again, 50);
    let cleanly = again.totals(true);
    pty.send(&cleanly);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    let summary = wait_for(&words, "lost on the line");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let expected = format!("150 events, {lost} lost on the line, 0 lost at the sender");
    assert!(summary.contains(&expected), "{summary}");
    assert!(summary.contains("2 senders") && summary.contains("went away once"), "{summary}");
    let json = read(dir.path(), &["trace", "--format", "json"]).stdout;
    let (found, told) = events(&json);
    assert_eq!(found, sorted(all));
    assert_eq!(told.iter().filter(|e| e["name"] == "link:session").count(), 3);
    // One stream, and that of the line.
    assert_eq!(told.iter().filter(|e| e["name"] == "link:stream").count(), 1);
}

/// The receiver's port goes in the middle of a frame, and the sender knows nothing of it.
#[test]
fn a_frame_that_a_port_cut_costs_nothing_behind_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (link, mut pty, mut child, words) = receive_link(dir.path());
    let mut sender = Sender::new(7, OFFSET);
    let stream = sender.stream(0, Some(1));
    pty.send(&sender.hello());
    let before = sender.records(stream, 50, 0);
    before.iter().for_each(|(bytes, _)| pty.send(bytes));
    let (cut, lost) = sender.records(stream, 1, 0).swap_remove(0);
    pty.send(&cut[..cut.len() - 3]);
    std::thread::sleep(Duration::from_millis(300));
    drop(pty);
    wait_for(&words, "the port is gone");
    let mut pty = Pty::new();
    point(&link, &pty.path);
    wait_for(&words, "the port is back");
    let after = sender.records(stream, 50, 0);
    // A line of frames alone has no delimiter in front of them.
    assert_eq!(after[0].0[0], 0);
    pty.send(&after[0].0[1..]);
    after[1..].iter().for_each(|(bytes, _)| pty.send(bytes));
    let cleanly = sender.totals(true);
    pty.send(&cleanly);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    let summary = wait_for(&words, "lost at the sender");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(summary.contains("100 events, 1 lost on the line, 0 lost at"), "{summary}");
    let json = read(dir.path(), &["trace", "--format", "json"]).stdout;
    let all = before.into_iter().chain(after).flat_map(|(_, told)| told).collect();
    assert_eq!((events(&json).0, lost.len()), (sorted(all), 1));
}

#[test]
fn what_is_wrong_is_said_once_and_nothing_ends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pty = Pty::new();
    let mut child = receive(dir.path(), &pty.path, &["--print", "--quiet", "1 s"]);
    let words = lines(child.stderr.take().expect("piped"));
    let printed = lines(child.stdout.take().expect("piped"));
    wait_for(&words, "nothing has come for 1 s");
    let mut random = fastrand::Rng::with_seed(1);
    let begin = Instant::now();
    let mut noise = |pty: &mut Pty| {
        let bytes: Vec<u8> = (0..100).map(|_| random.u8(..)).collect();
        pty.send(&bytes);
        std::thread::sleep(Duration::from_millis(20));
    };
    while begin.elapsed() < Duration::from_secs(4) {
        noise(&mut pty);
    }
    wait_for(&words, "is 115200 baud the sender's rate?");
    for _ in 0..80 {
        pty.send(b"\r\njust a console that prints on and on\r\n");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for(&words, "text comes, but no frame");
    wait_for(&printed, "just a console");
    let mut sender = Sender::new(7, OFFSET);
    let stream = sender.stream(0, None);
    pty.send(&sender.hello());
    for (bytes, _) in sender.records(stream, 10, 0) {
        pty.send(&bytes);
    }
    wait_for(&words, "frames come");
    for _ in 0..6 {
        wait_for(&printed, "test:");
    }
    signal(&child, Signal::INT);
    let rest: Vec<String> = words.iter().collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let again = rest.iter().filter(|l| l.contains("WARN")).count();
    assert_eq!(again, 0, "each once: {rest:#?}");
    assert!(rest.iter().any(|l| l.contains("10 events, 0 lost on the line")), "{rest:#?}");
}

#[test]
fn nobody_sends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pty = Pty::new();
    let child = receive(dir.path(), &pty.path, &["--out", "trace"]);
    pty.send(b"a console\n");
    let out = stop(child);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("ended before a sender said who it is"), "{}", said(&out));
    assert!(!dir.path().join("trace").exists());
    for (port, args, word) in [
        ("/dev/no-such-port", &["--print"][..], "is not there"),
        ("/dev/null", &["--print"], "is no serial port"),
        ("/dev/null", &["--out", "x"], "is no serial port"),
    ] {
        let out = receive(dir.path(), Path::new(port), args).wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(1), "{port}");
        assert!(said(&out).contains(word), "{}", said(&out));
    }
    for args in [&["--out", "x", "--print"][..], &[], &["--print", "--baud", "0"]] {
        let out = receive(dir.path(), &pty.path, args).wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", said(&out));
    }
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let pty = Pty::new();
    let mut child = receive(dir.path(), &pty.path, &["--print"]);
    std::thread::sleep(Duration::from_millis(300));
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends by itself");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
}

/// A source among others: its records are on this machine's clock.
#[test]
fn a_pipeline_takes_a_line_like_any_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pty = Pty::new();
    let toml = format!(
        r#"
        [source.board]
        type = "serial"
        path = "{}"
        channel = ["trace", "copy"]
        [source.g]
        type = "generator"
        rate = 100
        channel = "trace"
        [channel.trace.backend]
        type = "file"
        path = "trace"
        [channel.copy.backend]
        type = "file"
        path = "copy"
        "#,
        pty.path.display()
    );
    let pipeline = launch(dir.path(), &toml);
    pipeline.wait_until_it_answers();
    // A board that was started when this machine's clock was at 100 s … and is not set.
    let now = || {
        let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        t.expect("after 1970").as_nanos() as u64
    };
    for (session, offset) in [(1, now() - 5_100_000_000), (2, 1_000_000_000)] {
        let mut sender = Sender::new(session, offset);
        let stream = sender.stream(0, Some(2));
        let mut bytes = sender.hello();
        for (frame, _) in sender.records(stream, 100, 0) {
            bytes.extend(frame);
        }
        bytes.extend(sender.totals(true));
        pty.send(&bytes);
        std::thread::sleep(Duration::from_millis(300));
    }
    wait_until("all is read", || {
        let status = pipeline.told(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status).expect("JSON");
        status["sources"]["board"]["read"] == 200
    });
    let told = pipeline.told(&["stop"]);
    let out = pipeline.wait_with_output();
    assert_eq!(out.status.code(), Some(0), "{told}{}", said(&out));
    assert!(said(&out).contains("days from this one"), "{}", said(&out));
    for trace in ["trace", "copy"] {
        let json = read(dir.path(), &[trace, "--format", "json"]).stdout;
        let (found, told) = events(&json);
        let mine: Vec<_> = found.iter().filter(|e| e["name"] != "rbpipe:generated").collect();
        assert_eq!(mine.len(), 200, "{trace}");
        let seconds =
            |e: &Value| e["time"].as_u64().expect("a time").abs_diff(now()) / 1_000_000_000;
        assert!(mine.iter().all(|e| seconds(e) < 60), "{:?}", mine[0]);
        assert_eq!(told.iter().filter(|e| e["name"] == "link:session").count(), 2);
        let n: Vec<_> = mine.iter().filter_map(|e| e["fields"]["n"].as_u64()).collect();
        // The third class has none.
        assert_eq!(n.len(), 2 * 67);
    }
}
