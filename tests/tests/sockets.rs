//! Goal: lines that come over sockets are recorded as they were sent, each connection's by
//! itself, and what is lost is counted exactly. Method: a pipeline, and senders of each kind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Output, Stdio};
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, rbpipe, report, run, runtime};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A pipeline that listens, and where.
struct Listening {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
    addresses: Vec<String>,
}

fn pipeline(from: &str, channel: &str) -> String {
    format!(
        "[source.l]\ntype = \"lines\"\nfrom = \"{from}\"\nchannel = \"c\"\n[channel.c]\n\
         streams = \"single\"\n{channel}\n[channel.c.backend]\ntype = \"file\"\npath = \"t\"\n\
         overwrite = true\n"
    )
}

impl Listening {
    fn start(dir: &Path, from: &str, channel: &str) -> Self {
        fs::write(dir.join("pipeline.toml"), pipeline(from, channel)).expect("written");
        let place = runtime();
        let mut child = rbpipe()
            .current_dir(dir)
            .env("XDG_RUNTIME_DIR", &place)
            .args(["--config", "pipeline.toml", "--report", "report.json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut this = Self { child, stderr, said: String::new(), addresses: Vec::new() };
        this.wait_for("listening at ");
        // It listens before it begins to record; told to stop before that, it has failed. It
        // answers when it records (a trace that has begun is a little earlier).
        let answers = || {
            let mut status = rbpipe();
            status.env("XDG_RUNTIME_DIR", &place).args(["status", "pipeline"]);
            status.output().expect("it runs").status.success()
        };
        let begin = Instant::now();
        while !(dir.join("t/metadata").exists() && answers()) {
            assert!(begin.elapsed().as_secs() < 10, "it does not answer: {}", this.said);
            std::thread::sleep(Duration::from_millis(1));
        }
        this
    }

    /// Reads what is said up to a line with these words.
    fn wait_for(&mut self, words: &str) {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).expect("text") > 0, "{}", self.said);
            self.said.push_str(&line);
            if let Some((_, after)) = line.trim_end().split_once(words) {
                self.addresses.push(after.to_owned());
                return;
            }
        }
    }

    fn address(&self) -> &str {
        self.addresses[0].split_once(':').expect("KIND:ADDRESS").1
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("told");
    }

    /// Tells it to stop; gives all that it said.
    fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        let _ = self.stderr.read_to_string(&mut self.said);
        assert_eq!(self.child.wait().expect("ends").code(), Some(0), "{}", self.said);
        assert!(begin.elapsed() < Duration::from_secs(5), "it ends soon");
        std::mem::take(&mut self.said)
    }
}

/// A test that fails leaves nothing running.
impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(dir: &Path) -> Vec<String> {
    let read = ["read", "t", "--format", "json"];
    let out = rbpipe().current_dir(dir).args(read).output().expect("runs");
    let text = String::from_utf8(out.stdout).expect("text");
    let line = |l: &str| {
        let e: Value = serde_json::from_str(l).expect("JSON");
        e["fields"]["line"].as_str().expect("a line").to_owned()
    };
    text.lines().map(line).collect()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn numbers(report: &Value) -> (u64, u64) {
    let n = |key: &str| report["sources"]["l"][key].as_u64().expect("a number");
    (n("read"), n("lost_before"))
}

/// Several at once, cut in odd places: each line is one sender's, in the sender's order.
#[test]
fn each_connection_has_its_own_lines() {
    for from in ["unix:s", "tcp:127.0.0.1:0", "tcp:[::1]:0", "tcp:localhost:0"] {
        let dir = dir();
        let running = Listening::start(dir.path(), from, "mode = \"block\"");
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let (address, path) = (running.address().to_owned(), dir.path().join("s"));
                let unix = from.starts_with("unix");
                std::thread::spawn(move || {
                    let mut to: Box<dyn Write> = if unix {
                        Box::new(UnixStream::connect(path).expect("connected"))
                    } else {
                        Box::new(TcpStream::connect(address).expect("connected"))
                    };
                    let text: String = (0..2000)
                        .map(|n| format!("{sender} {n} {}\n", "x".repeat(n % 50)))
                        .collect();
                    for part in text.as_bytes().chunks(97 + sender) {
                        to.write_all(part).expect("sent");
                    }
                    // In the middle of a line.
                    write!(to, "{sender} last").expect("sent");
                })
            })
            .collect();
        senders.into_iter().for_each(|s| s.join().expect("a sender"));
        running.stop();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines(dir.path()) {
            let (sender, rest) = line.split_once(' ').expect("two words");
            found.entry(sender.to_owned()).or_default().push(rest.to_owned());
        }
        assert_eq!(found.len(), 8, "{from}");
        for lines in found.values() {
            assert_eq!(lines.len(), 2001, "{from}");
            assert_eq!(lines[2000], "last");
            for (n, line) in lines[..2000].iter().enumerate() {
                assert_eq!(*line, format!("{n} {}", "x".repeat(n % 50)));
            }
        }
        assert_eq!(numbers(&report(dir.path())), (8 * 2001, 0));
        assert!(!dir.path().join("s").exists(), "its socket is taken away");
    }
}

#[test]
fn a_datagram_holds_lines_and_none_goes_on_in_the_next() {
    for from in ["udp:127.0.0.1:0", "udp:[::1]:0"] {
        let dir = dir();
        let running = Listening::start(dir.path(), from, "mode = \"block\"");
        let here = if from.contains("::1") { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = UdpSocket::bind(here).expect("a socket");
        socket.connect(running.address()).expect("an address");
        let long = "y".repeat(65_000);
        for text in ["one\n", "two", "three\nfour\n\nfive", "", &long, "\n"] {
            socket.send(text.as_bytes()).expect("sent");
        }
        std::thread::sleep(Duration::from_millis(200));
        running.stop();
        let found = lines(dir.path());
        assert_eq!(found[..6], ["one", "two", "three", "four", "", "five"]);
        assert!(found[6].len() <= 4096 && found[6].ends_with("y…"), "{}", found[6].len());
        assert_eq!(found[7..], [""]);
    }
}

/// It stands still while more comes than the kernel keeps: recorded and lost are what was sent.
#[test]
fn datagrams_that_the_kernel_loses_are_counted() {
    let dir = dir();
    let running = Listening::start(dir.path(), "udp:127.0.0.1:0", "mode = \"block\"");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(running.address()).expect("an address");
    running.signal(Signal::STOP);
    let sent = 60_000u64;
    for n in 0..sent {
        socket.send(format!("{n}").as_bytes()).expect("sent");
    }
    running.signal(Signal::CONT);
    running.stop();
    let report = report(dir.path());
    let (read, lost) = numbers(&report);
    assert!(lost > 0 && read > 0, "{read} read, {lost} lost: this tests nothing");
    assert_eq!(read + lost, sent);
    let found = lines(dir.path());
    assert_eq!(found.len() as u64, read);
    // They are the first ones: what is lost is lost at the end of a full queue.
    assert_eq!(found[0], "0");
    balance(&report["channels"]["c"]);
}

/// In block mode who sends waits, and nothing is lost; at the end it is let go.
#[test]
fn who_sends_waits_for_a_channel_that_is_full() {
    let dir = dir();
    // A ring that nobody empties: stopped, the program takes nothing either.
    let running = Listening::start(
        dir.path(),
        "tcp:127.0.0.1:0",
        "mode = \"block\"\nblock_timeout = \"0 s\"\nsubbuf_size = \"4 KiB\"\nsubbuf_count = 2",
    );
    let mut to = TcpStream::connect(running.address()).expect("connected");
    to.set_write_timeout(Some(Duration::from_millis(300))).expect("set");
    running.signal(Signal::STOP);
    let text = "z".repeat(99) + "\n";
    let mut sent = 0u64;
    while to.write_all(text.repeat(100).as_bytes()).is_ok() {
        sent += 100;
        assert!(sent < 10_000_000, "somebody takes all of it");
    }
    running.signal(Signal::CONT);
    drop(to);
    std::thread::sleep(Duration::from_secs(1));
    running.stop();
    let report = report(dir.path());
    let channel = &report["channels"]["c"];
    balance(channel);
    assert_eq!(channel["offered"], channel["recorded"], "nothing is lost: {channel}");
    let read = numbers(&report).0;
    // What a write that timed out had sent of its hundred lines is not known.
    assert!((sent..=sent + 101).contains(&read), "{read} of {sent} lines");
}

#[test]
fn what_has_come_in_before_the_end_is_recorded() {
    let dir = dir();
    let running = Listening::start(dir.path(), "tcp:127.0.0.1:0", "mode = \"block\"");
    running.signal(Signal::STOP);
    // Connected, sent and gone before it could look.
    for n in 0..20 {
        let mut to = TcpStream::connect(running.address()).expect("connected");
        to.write_all(format!("{n}\n").repeat(50).as_bytes()).expect("sent");
    }
    running.signal(Signal::TERM);
    running.signal(Signal::CONT);
    running.stop();
    assert_eq!(numbers(&report(dir.path())), (1000, 0));
}

/// More connections than it takes wait, and are served when others have ended.
#[test]
fn connections_have_a_bound() {
    let dir = dir();
    let mut running = Listening::start(dir.path(), "unix:s", "mode = \"block\"");
    let connect = || UnixStream::connect(dir.path().join("s")).expect("connected");
    let mut first: Vec<_> = (0..256).map(|_| connect()).collect();
    running.wait_for("256 connections, the most");
    let mut late = connect();
    late.write_all(b"late\n").expect("sent");
    first[0].write_all(b"early\n").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    first.truncate(200);
    std::thread::sleep(Duration::from_millis(200));
    running.stop();
    assert_eq!(lines(dir.path()), ["early", "late"]);
}

#[test]
fn a_socket_is_its_owner_s_and_replaces_nothing_but_a_stale_one() {
    let dir = dir();
    let path = dir.path().join("s");
    // Left by a program that was killed.
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let running = Listening::start(dir.path(), "unix:s", "");
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(UnixStream::connect(&path).expect("connected"));
    // Somebody answers there.
    let refused = |from: &str| -> Output {
        let config = pipeline(from, "").replace("\"t\"", "\"other\"");
        fs::write(dir.path().join("p.toml"), config).expect("written");
        let args = ["--config", "p.toml"];
        rbpipe().current_dir(dir.path()).args(args).output().expect("runs")
    };
    let said = |out: &Output| String::from_utf8_lossy(&out.stderr).into_owned();
    let out = refused("unix:s");
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("s: another program listens there"), "{}", said(&out));
    running.stop();
    assert!(!path.exists());
    fs::write(&path, "a file").expect("written");
    let out = refused("unix:s");
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("exists and is no socket"), "{}", said(&out));
    assert_eq!(fs::read(&path).expect("still there"), b"a file");
    // Nothing was begun: no trace, and an old one would still be there.
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("an address").port();
    let out = refused(&format!("tcp:127.0.0.1:{port}"));
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("another program has this port"), "{}", said(&out));
    assert!(!dir.path().join("other/metadata").exists());
    let out = refused("tcp:192.0.2.1:4000");
    assert!(said(&out).contains("this machine has no such address"), "{}", said(&out));
    let out = refused("tcp:nosuch.invalid:4000");
    assert!(said(&out).contains("there is no such address"), "{}", said(&out));
}

#[test]
fn an_address_that_is_none_is_refused_before() {
    let dir = dir();
    for (from, words) in [
        ("tcp:5140", "it has no port; accepted: \"tcp:127.0.0.1:5140\""),
        ("udp:::1:5140", "stands in brackets"),
        ("ftp:x", "accepted: \"stdin\", \"file:PATH\", \"unix:PATH\""),
    ] {
        let (out, _) = run(dir.path(), &pipeline(from, ""));
        let said = String::from_utf8_lossy(&out.stderr).replace("\\\"", "\"");
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{from}: {said}");
    }
    let twice = pipeline("udp:127.0.0.1:5140", "")
        + "[source.m]\ntype = \"lines\"\nfrom = \"udp:127.0.0.1:5140\"\nchannel = \"c\"\n";
    let (out, _) = run(dir.path(), &twice);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("already"), "{out:?}");
}
