//! Goal: `rbpipe read --follow` prints each record of a trace that is being written once, soon
//! after its packet is whole in its file, across new files, changed metadata and rotations, and
//! ends when the writer has; damage neither ends it nor makes it spin. Method: traces written by
//! hand and by pipelines, the program at their other end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rbpipe_tests::growing::{Growing, packet};
use rbpipe_tests::program::{counts, rbpipe, report, start};
use serde_json::Value;

/// The program, following; its lines come with the moment of their arrival.
struct Follower {
    child: Child,
    lines: Receiver<(SystemTime, String)>,
}

impl Follower {
    fn new(dir: &Path, args: &[&str]) -> Self {
        let mut child = command(dir, args).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let _ = to.send((SystemTime::now(), line.expect("text")));
            }
        });
        Self { child, lines }
    }

    /// The next `n` lines' `seq`s.
    fn seqs(&self, n: usize) -> Vec<u64> {
        (0..n)
            .map(|_| seq(&self.lines.recv_timeout(Duration::from_secs(10)).expect("a line").1))
            .collect()
    }

    /// Nothing comes for a while.
    fn is_quiet(&self) -> bool {
        self.lines.recv_timeout(Duration::from_millis(400)).is_err()
    }

    fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("stat").split(' ').collect();
        let ticks = |n: usize| fields[n].parse::<u64>().expect("ticks");
        Duration::from_millis((ticks(12) + ticks(13)) * 10)
    }

    /// It ends by itself; gives what came, and what it said.
    fn end(mut self) -> (Vec<u64>, String) {
        let begin = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            if begin.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert_eq!(self.child.wait().expect("ended").code(), Some(0), "{said}");
        (self.lines.iter().map(|(_, l)| seq(&l)).collect(), said)
    }
}

/// A test that fails leaves nothing running.
impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = rbpipe();
    command.current_dir(dir).args(["read", "--follow", "--format", "json"]).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn seq(line: &str) -> u64 {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    event["fields"]["seq"].as_u64().expect("seq")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn what_is_there_and_what_comes_until_the_writer_ends() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    trace.packet(0, 0, &[(1, 0, 1, ""), (5, 0, 3, "")]);
    trace.packet(1, 0, &[(2, 0, 2, "")]);
    let follower = Follower::new(dir.path(), &["t"]);
    assert_eq!(follower.seqs(3), [1, 2, 3], "merged by time");
    assert!(follower.is_quiet());
    trace.packet(1, 1, &[(6, 0, 4, "")]);
    trace.packet(0, 1, &[(7, 0, 5, "")]);
    assert_eq!(follower.seqs(2), [4, 5]);
    // A packet that comes in parts is none until it is whole.
    let late = packet(0, 2, 0, &[(8, 0, 6, "in parts")]);
    for part in [&late[..40], &late[40..100], &late[100..late.len() - 1]] {
        trace.append(0, part);
        assert!(follower.lines.recv_timeout(Duration::from_millis(100)).is_err());
    }
    trace.append(0, &late[late.len() - 1..]);
    assert_eq!(follower.seqs(1), [6]);
    // The last one, just before the end.
    trace.packet(0, 3, &[(9, 0, 7, "")]);
    drop(trace);
    let (rest, said) = follower.end();
    assert_eq!((rest, said.as_str()), (vec![7], ""));
}

/// Not of an event, but of a packet: from the write to the arrival in another program.
#[test]
fn a_packet_is_printed_within_milliseconds() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    let follower = Follower::new(dir.path(), &["t"]);
    std::thread::sleep(Duration::from_millis(300));
    let mut took = Vec::new();
    for n in 0..200 {
        let bytes = packet(0, n, 0, &[(n, 0, n, "")]);
        let written = SystemTime::now();
        trace.append(0, &bytes);
        let (arrived, line) = follower.lines.recv_timeout(Duration::from_secs(5)).expect("a line");
        assert_eq!(seq(&line), n);
        took.push(arrived.duration_since(written).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort();
    println!("from write to arrival: p50 {:?}, p99 {:?}", took[100], took[197]);
    assert!(took[100] < Duration::from_millis(5), "p50 {:?}", took[100]);
    drop(trace);
    follower.end();
}

#[test]
fn an_idle_follower_takes_no_time() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    trace.packet(0, 0, &[(1, 0, 1, "")]);
    let follower = Follower::new(dir.path(), &["t"]);
    follower.seqs(1);
    let before = follower.cpu_time();
    std::thread::sleep(Duration::from_secs(2));
    let took = follower.cpu_time() - before;
    assert!(took <= Duration::from_millis(20), "{took:?} of CPU in two idle seconds");
    drop(trace);
    follower.end();
}

#[test]
fn new_streams_and_new_event_classes_are_picked_up() {
    let dir = dir();
    let mut trace = Growing::new(&dir.path().join("t"));
    let follower = Follower::new(dir.path(), &["t"]);
    assert!(follower.is_quiet(), "there is nothing yet");
    let mut expected = Vec::new();
    for n in 0..40u64 {
        // Described first, as the writer does; another stream every tenth time.
        trace.add_class(&format!("c{n}"));
        let id = rbpipe_core::class::ClassId::from_index(n as u32 + 1).number();
        trace.packet(n / 10, n % 10, &[(n, id, n, "x")]);
        expected.push(n);
    }
    assert_eq!(follower.seqs(40), expected);
    drop(trace);
    assert_eq!(follower.end(), (vec![], String::new()));
}

/// The directory is renamed away and another one has its path, once with time between and then
/// so fast that a look cannot see each of them under its path.
#[test]
fn a_rotated_trace_is_followed_without_losing_or_doubling() {
    let dir = dir();
    let path = dir.path().join("t");
    // One that was finished before is not what is asked for.
    Growing::new(&dir.path().join("t.000001")).packet(0, 0, &[(0, 0, 999, "")]);
    let mut trace = Growing::new(&path);
    let follower = Follower::new(dir.path(), &["t"]);
    let (mut n, mut expected) = (0, Vec::new());
    let mut write = |trace: &Growing, sequence: u64| {
        trace.packet(0, sequence, &[(n, 0, n, "")]);
        expected.push(n);
        n += 1;
    };
    for (round, pause) in [300, 50, 0, 0, 0, 0, 300].into_iter().enumerate() {
        for sequence in 0..3 {
            write(&trace, sequence);
        }
        std::thread::sleep(Duration::from_millis(pause));
        fs::rename(&path, dir.path().join(format!("t.{:06}", round + 2))).expect("renamed");
        let next = Growing::new(&path);
        // What was under way when it was rotated.
        write(&trace, 3);
        trace = next;
    }
    write(&trace, 0);
    drop(trace);
    let (mut seqs, said) = follower.end();
    // Between pieces that are read in one turn, by time; a late packet when it comes.
    seqs.sort_unstable();
    assert_eq!((seqs, said.as_str()), (expected, ""));
}

#[test]
fn pieces_that_somebody_removed_end_nothing() {
    let dir = dir();
    let path = dir.path().join("t");
    let trace = Growing::new(&path);
    trace.packet(0, 0, &[(0, 0, 0, "")]);
    let follower = Follower::new(dir.path(), &["t"]);
    follower.seqs(1);
    fs::remove_dir_all(&path).expect("removed");
    std::thread::sleep(Duration::from_millis(300));
    // The writer makes it anew.
    let again = Growing::new(&path);
    drop(trace);
    again.packet(0, 0, &[(1, 0, 1, "")]);
    assert_eq!(follower.seqs(1), [1]);
    // Files, too, may be removed and made anew.
    fs::remove_file(again.file(0)).expect("removed");
    again.packet(0, 0, &[(2, 0, 2, "")]);
    assert_eq!(follower.seqs(1), [2]);
    drop(again);
    follower.end();
}

#[test]
fn damage_is_said_and_the_rest_goes_on() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    for stream in 0..4 {
        trace.packet(stream, 0, &[(stream, 0, stream, "")]);
    }
    let follower = Follower::new(dir.path(), &["t"]);
    assert_eq!(follower.seqs(4), [0, 1, 2, 3]);
    // Cut, and longer again than before.
    fs::File::options().write(true).open(trace.file(0)).expect("opened").set_len(10).expect("cut");
    std::thread::sleep(Duration::from_millis(300));
    trace.append(0, &[0; 4096]);
    // No packet.
    trace.append(1, &[0xAA; 4096]);
    // A packet that claims to be longer than any.
    let mut claims = packet(2, 1, 0, &[(9, 0, 9, "")]);
    claims[56..64].copy_from_slice(&(1u64 << 60).to_le_bytes());
    trace.append(2, &claims);
    // Metadata that is none, in its place.
    fs::write(trace.path.join("new"), "/* CTF 1.8 */ {{{{").expect("written");
    fs::rename(trace.path.join("new"), trace.path.join("metadata")).expect("renamed");
    std::thread::sleep(Duration::from_millis(300));
    trace.packet(3, 1, &[(10, 0, 10, "")]);
    assert_eq!(follower.seqs(1), [10], "the one that is not damaged");
    let before = follower.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(follower.cpu_time() - before <= Duration::from_millis(20), "it spins");
    // What is not whole at the end never will be.
    trace.append(3, &packet(3, 2, 0, &[(11, 0, 11, "")])[..90]);
    drop(trace);
    let (rest, said) = follower.end();
    assert!(rest.is_empty(), "{rest:?}");
    for (file, what) in [
        ("c_0: it was cut while it was read", 1),
        ("c_1: the last 4096 bytes are left out: no packet begins here", 1),
        ("c_2: the last", 1),
        ("c_3: the last 90 bytes are left out: a packet is not whole", 1),
        ("metadata: line 1", 1),
    ] {
        assert_eq!(said.matches(file).count(), what, "{file}: {said}");
    }
}

#[test]
fn a_trace_that_nobody_writes_is_printed_and_that_is_all() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    trace.packet(0, 0, &[(1, 0, 1, "")]);
    drop(trace);
    let (seqs, said) = Follower::new(dir.path(), &["t"]).end();
    assert_eq!(seqs, [1]);
    assert!(said.contains("nobody writes into it"), "{said}");
    let out = command(dir.path(), &["nosuch"]).output().expect("runs");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("nosuch: no trace here"), "{out:?}");
}

/// `| head`: the reader goes away while nothing comes.
#[test]
fn it_ends_when_nobody_reads_what_it_prints() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    trace.packet(0, 0, &[(1, 0, 1, "")]);
    let mut child = command(dir.path(), &["t"]).spawn().expect("it starts");
    let mut stdout: BufReader<ChildStdout> = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    drop(stdout);
    let begin = Instant::now();
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(2));
    drop(trace);
}

#[test]
fn from_now_on_is_without_what_was_there() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_nanos() as u64;
    let at = now();
    trace.packet(0, 0, &[(at - 2_000_000_000, 0, 1, ""), (at - 1_000_000_000, 0, 2, "")]);
    let follower = Follower::new(dir.path(), &["t", "--from", "now", "--filter", "seq != 4"]);
    std::thread::sleep(Duration::from_millis(400));
    let at = now();
    trace.packet(0, 1, &[(at, 0, 3, ""), (at + 1, 0, 4, ""), (at + 2, 0, 5, "")]);
    assert_eq!(follower.seqs(2), [3, 5]);
    drop(trace);
    follower.end();
}

/// A pipeline as it is, from its first moment to its last.
#[test]
fn all_of_a_running_pipeline_is_printed() {
    let dir = dir();
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "2 s"
        source.g = {type = "generator", rate = 20000, writers = 3, channel = "c"}
        channel.c = {switch_timer = "5 ms", subbuf_size = "4 KiB", subbuf_count = 64, backend = {type = "file", path = "t"}}
        "#,
    );
    while !dir.path().join("t").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let follower = Follower::new(dir.path(), &["t"]);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let (seqs, said) = follower.end();
    let written = report(dir.path())["channels"]["c"]["output"]["records"].as_u64();
    assert_eq!(Some(seqs.len() as u64), written, "{said}");
    assert_eq!(counts(dir.path(), "t").0, seqs.len() as u64);
}

/// A pipeline that rotates as fast as it can, and keeps few of its pieces: what it wrote is
/// printed once, each writer's records in order.
#[test]
fn a_pipeline_that_rotates_is_followed() {
    let dir = dir();
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "2 s"
        source.g = {type = "generator", rate = 20000, writers = 2, channel = "c"}
        [channel.c]
        streams = "per-thread"
        switch_timer = "5 ms"
        subbuf_size = "4 KiB"
        subbuf_count = 64
        backend = {type = "file", path = "t", rotate_every = "30 ms", rotate_keep = 20}
        "#,
    );
    while !dir.path().join("t/metadata").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let follower = Follower::new(dir.path(), &["t"]);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let mut pieces = 0;
    for entry in fs::read_dir(dir.path()).expect("listed") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("t.").and_then(|n| n.parse::<u64>().ok());
        pieces = pieces.max(number.unwrap_or(0));
    }
    assert!(pieces > 20, "{pieces} pieces: it did not rotate");
    let mut child = follower;
    let begin = Instant::now();
    while child.child.try_wait().expect("a child").is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    child.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    let (mut next, mut events) = ([0u64; 2], 0);
    for (_, line) in child.lines.iter() {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        let writer = event["fields"]["writer"].as_u64().expect("writer") as usize;
        assert_eq!(event["fields"]["seq"].as_u64(), Some(next[writer]), "{said}");
        next[writer] += 1;
        events += 1;
    }
    let report = report(dir.path());
    assert_eq!(report["channels"]["c"]["output"]["records"].as_u64(), Some(events), "{said}");
    assert!(!said.contains("removed before"), "{said}");
}

/// From inside the trace, whose directory moves on with its name: what comes is in another one.
#[test]
fn a_rotated_trace_is_followed_from_inside() {
    let dir = dir();
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "1 s"
        source.g = {type = "generator", rate = 5000, writers = 1, channel = "c"}
        channel.c = {switch_timer = "5 ms", backend = {type = "file", path = "t", rotate_every = "200 ms"}}
        "#,
    );
    while !dir.path().join("t/metadata").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let follower = Follower::new(&dir.path().join("t"), &["."]);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let (seqs, said) = follower.end();
    let written = report(dir.path())["channels"]["c"]["output"]["records"].as_u64();
    // What ended before it began to look is not its; it is one writer's.
    let (first, last) = (seqs.iter().min().expect("some"), seqs.iter().max().expect("some"));
    assert_eq!(seqs.len() as u64, last - first + 1, "{said}");
    assert_eq!(Some(last + 1), written, "{said}");
}

/// Pieces that are removed faster than they can be read: what is not printed is said.
#[test]
fn pieces_that_are_removed_before_they_are_read_are_told() {
    let dir = dir();
    let child = start(
        dir.path(),
        r#"
        pipeline.duration = "2 s"
        source.g = {type = "generator", rate = 50000, writers = 1, channel = "c"}
        [channel.c]
        switch_timer = "5 ms"
        backend = {type = "file", path = "t", rotate_every = "10 ms", rotate_keep = 1}
        "#,
    );
    while !dir.path().join("t/metadata").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let follower = Follower::new(dir.path(), &["t"]);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let (seqs, said) = follower.end();
    // What ended before it began to look is not its.
    let (first, last) = (seqs.iter().min().expect("some"), seqs.iter().max().expect("some"));
    let all = (last - first + 1) as usize;
    assert!(
        all == seqs.len() || said.contains(" removed"),
        "{} of {all}, and not a word: {said}",
        seqs.len()
    );
}
