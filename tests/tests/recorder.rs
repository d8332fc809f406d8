//! Goal: a pipeline's flight recorders are copied when somebody asks, at SIGUSR1, at the end,
//! and never otherwise; what is said is one sentence; a memfd's ring can be mapped from outside.
//! Method: the program itself, talked to as people talk to it. How whole a snapshot is when
//! writers write at full speed: `snapshot.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use memmap2::MmapOptions;
use rbpipe_tests::have;
use rbpipe_tests::program::{self, balance, rbpipe, report};
use rbpipe_tests::records::{Run, verify_generated_snapshot};
use serde_json::Value;

/// A pipeline that runs in a directory of its own.
struct Pipeline {
    dir: tempfile::TempDir,
    child: Ours,
}

/// A process that does not outlive its test.
struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pipeline {
    /// Starts it, and waits until something was recorded.
    fn start(toml: &str) -> Self {
        let this = Self::begin(toml);
        let begin = Instant::now();
        loop {
            let out = this.talk(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            let channels = status["channels"].as_object().cloned().unwrap_or_default();
            let offered = |c: &Value| c["offered"].as_u64().unwrap_or(0);
            if !channels.is_empty() && channels.values().all(|c| offered(c) > 0) {
                return this;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not record: {out:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn begin(toml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
        let child = rbpipe()
            .current_dir(dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .args(["--config", "pipeline.toml", "--report", "report.json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self { dir, child: Ours(child) }
    }

    fn talk(&self, args: &[&str]) -> Output {
        let mut command = rbpipe();
        command.current_dir(self.dir.path()).env("XDG_RUNTIME_DIR", self.dir.path());
        command.args(args).output().expect("it runs")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn wait_for(&self, name: &str) -> PathBuf {
        let (path, begin) = (self.path(name), Instant::now());
        while !path.exists() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{name} does not come");
            std::thread::sleep(Duration::from_millis(5));
        }
        path
    }

    /// Ends it; gives its exit code, what it said, its report.
    fn end(mut self) -> (Option<i32>, String, Value, tempfile::TempDir) {
        self.signal("TERM");
        let status = self.child.0.wait().expect("it ends");
        let mut said = String::new();
        let mut stderr = self.child.0.stderr.take().expect("piped");
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        let report = report(self.dir.path());
        (status.code(), said, report, self.dir)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn records(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.records).sum()
}

/// Names in a directory that have to do with snapshots.
fn snapshots(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("listed").map(|e| e.expect("readable").file_name());
    let mut names: Vec<String> = names
        .map(|n| n.into_string().expect("UTF-8"))
        .filter(|n| n.contains("snap") || n.ends_with(".new"))
        .collect();
    names.sort();
    names
}

/// Two recorders into one, a third into one of its own, and a channel that keeps nothing.
const SEVERAL: &str = r#"
[pipeline]
name = "several"
[source.g]
type = "generator"
rate = 20000
writers = 2
payload = 40
channel = ["a", "b", "c", "d"]
[channel.a]
mode = "overwrite"
subbuf_size = "16 KiB"
[channel.a.backend]
type = "pages"
memory = "memfd"
snapshot_on = ["SIGUSR1", "exit"]
[channel.b]
mode = "overwrite"
streams = "single"
subbuf_size = "4 KiB"
subbuf_count = 4
[channel.b.backend]
type = "pages"
memory = "huge"
snapshot_on = ["exit", "SIGUSR1"]
[channel.c]
mode = "overwrite"
streams = "per-thread"
max_streams = 3
[channel.c.backend]
type = "pages"
snapshot_on = ["SIGUSR1"]
snapshot_path = "deep/snap-c"
[channel.d.backend]
type = "pages"
"#;

#[test]
fn snapshots_at_the_signal_and_at_the_end() {
    let p = Pipeline::start(SEVERAL);
    fs::create_dir(p.path("snapshot.2")).expect("made");
    p.signal("USR1");
    let first = p.wait_for("snapshot.1");
    let c = p.wait_for("deep/snap-c.1");
    // Channels with the same path share one, others are not in it.
    let files = |dir: &Path, channel: &str| {
        let names = fs::read_dir(dir).expect("listed").map(|e| e.expect("readable").file_name());
        names.filter(|n| n.to_string_lossy().starts_with(channel)).count()
    };
    assert!(files(&first, "a_") >= 1 && files(&first, "b_") == 1 && files(&first, "c_") == 0);
    assert!(files(&c, "c_") >= 1 && files(&c, "a_") == 0);
    let old = verify_generated_snapshot(&first);
    assert!(records(&old) > 0 && records(&verify_generated_snapshot(&c)) > 0);
    std::thread::sleep(Duration::from_millis(500));
    p.signal("USR1");
    let third = p.wait_for("snapshot.3");
    let mut newer = 0;
    for run in verify_generated_snapshot(&third) {
        let before = old.iter().find(|o| o.stream == run.stream).map_or(0, |o| o.last);
        // A stream on whose CPU no writer ran has nothing new.
        assert!(run.last >= before, "none is older than the last: {run:?}, {before}");
        newer += u32::from(run.last > before);
    }
    assert!(newer > 0, "the third is newer than the first");
    p.wait_for("deep/snap-c.2");
    let (code, said, report, dir) = p.end();
    assert_eq!(code, Some(0), "{said}");
    let kept = |c: &str| report["channels"][c]["kept"].as_u64().expect("kept");
    for c in ["a", "b", "c", "d"] {
        balance(&report["channels"][c]);
    }
    // Nothing was taken by the others, and the last one has all that was kept.
    let last = verify_generated_snapshot(&dir.path().join("snapshot.4"));
    assert_eq!(records(&last), kept("a") + kept("b"), "{said}");
    let expected = ["snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4"];
    assert_eq!(snapshots(dir.path()), expected);
    assert_eq!(snapshots(&dir.path().join("deep")), ["snap-c.1", "snap-c.2"]);
    assert_eq!(said.matches("INFO snapshot ").count(), 5, "{said}");
    assert!(said.contains("channel a: ") && said.contains("in a memfd for each stream"), "{said}");
    assert!(said.contains("channel b: ") && said.contains("huge"), "{said}");
}

/// Nobody asked for it: the signal does what it always does.
#[test]
fn the_signal_keeps_its_meaning_where_nobody_asks_for_it() {
    let mut p = Pipeline::start(&SEVERAL.replace("SIGUSR1", "exit"));
    p.signal("USR1");
    let status = p.child.0.wait().expect("it ends");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(rustix::process::Signal::USR1.as_raw()), "{status:?}");
}

#[test]
fn snapshots_for_who_asks() {
    let p = Pipeline::start(SEVERAL);
    let out = p.talk(&["snapshot", "--out", "one"]);
    assert!(out.status.success(), "{out:?}");
    let said = text(&out.stdout);
    for word in ["streams", "packets", "events", "B, ", " s of records, taken in ", " ms"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // As JSON, by name, into a directory that is there and empty.
    fs::create_dir(p.path("two")).expect("made");
    let before = std::time::SystemTime::now();
    let out = p.talk(&["snapshot", "several", "--out", "two", "--json"]);
    let reply: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let runs = verify_generated_snapshot(&p.path("two"));
    let n = |key: &str| reply[key].as_u64().unwrap_or_else(|| panic!("{key}: {reply}"));
    assert_eq!(n("streams"), runs.len() as u64);
    assert_eq!(n("packets"), runs.iter().map(|r| r.last - r.first + 1).sum::<u64>());
    assert_eq!(n("events"), records(&runs));
    let files = fs::read_dir(p.path("two")).expect("listed").map(|e| e.expect("readable"));
    let streams = files.filter(|f| f.file_name() != "metadata");
    let bytes: u64 = streams.map(|f| f.metadata().expect("there").len()).sum();
    // Each file begins with the empty packet.
    assert!(bytes > n("bytes") && bytes <= n("bytes") + 88 * n("streams"), "{bytes} {reply}");
    let now = before.duration_since(std::time::UNIX_EPOCH).expect("later").as_nanos() as u64;
    assert!(n("from") < n("to") && n("to").abs_diff(now) < 20_000_000_000, "{reply} {now}");
    assert!(reply["milliseconds"].as_f64().is_some_and(|ms| ms > 0.0));
    // The overwritten beginning is told.
    let (events, _, lost) = program::counts(p.dir.path(), "two");
    assert_eq!(events, records(&runs));
    assert_eq!(lost, runs.iter().map(|r| r.first - 1).sum::<u64>());
    // Refused in one sentence.
    let refuse = |args: &[&str], why: &str| {
        let out = p.talk(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{args:?}: {said}");
    };
    refuse(&["snapshot", "--out", "two"], "is not empty");
    refuse(&["snapshot", "--out", "three", "--splice"], "memory = \"memfd\"");
    assert!(!p.path("three").exists() && snapshots(p.dir.path()).is_empty());
    let (code, said, report, dir) = p.end();
    assert_eq!(code, Some(0), "{said}");
    for c in ["a", "b", "c", "d"] {
        balance(&report["channels"][c]);
        assert_eq!(report["channels"][c]["output"]["failed"], 0);
    }
    assert_eq!(snapshots(dir.path()), ["snapshot.1"]);
}

#[test]
fn a_pipeline_that_keeps_nothing_has_no_snapshot() {
    let p = Pipeline::start(
        r#"
        source.g = {type = "generator", rate = 1000, channel = "c"}
        [channel.c.backend]
        type = "pages"
        "#,
    );
    let out = p.talk(&["snapshot", "--out", "s"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("no channel of this pipeline keeps its records"), "{said}");
    assert!(said.contains("mode = \"overwrite\"") && said.lines().count() == 1, "{said}");
    assert!(!p.path("s").exists());
    assert_eq!(p.end().0, Some(0));
}

/// An end whose snapshot cannot be written has failed, and says why; the report is whole.
#[test]
fn a_snapshot_of_the_end_that_fails_is_said() {
    let p = Pipeline::start(
        r#"
        source.g = {type = "generator", rate = 1000, channel = "c"}
        [channel.c]
        mode = "overwrite"
        [channel.c.backend]
        type = "pages"
        snapshot_on = ["exit"]
        snapshot_path = "report.json/s"
        "#,
    );
    let (code, said, report, _dir) = p.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the snapshot at the end: report.json: cannot make"), "{said}");
    balance(&report["channels"]["c"]);
}

#[test]
fn what_cannot_be_meant_is_said_by_its_key() {
    let check = |mode: &str, backend: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("p.toml");
        let toml = format!(
            "source.g = {{type = \"generator\", channel = \"c\"}}\n[channel.c]\nmode = \"{mode}\"\n\
             [channel.c.backend]\ntype = \"pages\"\n{backend}\n"
        );
        fs::write(&config, toml).expect("written");
        let out = rbpipe().arg("check").arg("--config").arg(&config).output().expect("it runs");
        (out.status.code(), text(&out.stderr))
    };
    for (mode, backend, why) in [
        ("discard", "snapshot_on = [\"exit\"]", "needs a channel that keeps its records"),
        ("block", "snapshot_on = [\"SIGUSR1\"]", "mode = \\\"block\\\""),
        ("overwrite", "snapshot_on = [\"SIGUSR2\"]", "SIGUSR1"),
        ("overwrite", "snapshot_on = \"exit\"", "snapshot_on"),
        ("overwrite", "snapshot_path = \"\"", "names no directory"),
        ("overwrite", "snapshot_path = \"x/..\"", "names no directory"),
        ("overwrite", "memory = \"gpu\"", "memfd"),
    ] {
        let (code, said) = check(mode, backend);
        assert_eq!(code, Some(2), "{backend}: {said}");
        let why = why.replace('\\', "");
        let key = backend.split(' ').next().expect("a key");
        assert!(said.contains(&why) && said.contains(key), "{backend}: {said}");
    }
    assert_eq!(check("overwrite", "memory = \"huge\"\nsnapshot_on = [\"exit\"]").0, Some(0));
    assert_eq!(check("discard", "memory = \"memfd\"\nsnapshot_on = []").0, Some(0));
}

/// A recorder at full speed, with a snapshot every second: each opens, has no gap, and is newer
/// than the last. `RBPIPE_SECONDS=60` by hand.
#[test]
fn a_snapshot_every_second_of_a_recorder_at_full_speed() {
    let seconds = std::env::var("RBPIPE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let opens = have("recorder", "babeltrace2", &["--version"]);
    let p = Pipeline::start(
        r#"
        source.g = {type = "generator", rate = "max", writers = 2, payload = 32, channel = ["c", "one"]}
        channel.c = {mode = "overwrite", backend.type = "pages"}
        channel.one = {mode = "overwrite", streams = "single", subbuf_size = "64 KiB", backend = {type = "pages", memory = "memfd"}}
        "#,
    );
    let mut newest = std::collections::BTreeMap::new();
    // By stream id in the trace: records in packets that are delivered.
    let delivered = || {
        let out = p.talk(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let streams = |place: u64, channel: &str| -> Vec<(u64, u64)> {
            let all = status["channels"][channel]["streams"].as_array().cloned();
            let one = |s: &Value| {
                let id = place << 32 | s["id"].as_u64().expect("an id");
                (id, s["recorded"].as_u64().expect("a number"))
            };
            all.expect("streams").iter().map(one).collect()
        };
        let both = streams(0, "c").into_iter().chain(streams(1, "one"));
        both.collect::<std::collections::BTreeMap<u64, u64>>()
    };
    let mut then = std::collections::BTreeMap::new();
    let (mut took, mut bytes, mut outrun) = (Vec::new(), Vec::new(), 0);
    for n in 0..seconds {
        let begin = Instant::now();
        let now = delivered();
        let out = p.talk(&["snapshot", "--out", "s", "--json"]);
        let after = delivered();
        let reply: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"));
        let runs = verify_generated_snapshot(&p.path("s"));
        assert_eq!(reply["events"].as_u64(), Some(records(&runs)), "{reply}");
        for run in runs {
            let before = newest.insert(run.stream, run.last).unwrap_or(0);
            // A CPU on which no writer ran has nothing new.
            let grew = now.get(&run.stream) > then.get(&run.stream);
            let newer = if grew { run.last > before } else { run.last >= before };
            assert!(
                newer,
                "snapshot {n} is newer than the last: {run:?} {before} {then:?} {now:?}"
            );
        }
        then = after;
        if opens {
            let read = Command::new("babeltrace2").arg(p.path("s")).output().expect("it runs");
            let events = read.stdout.iter().filter(|b| **b == b'\n').count() as u64;
            assert_eq!((read.status.code(), Some(events)), (Some(0), reply["events"].as_u64()));
        }
        fs::remove_dir_all(p.path("s")).expect("removed");
        took.push(reply["milliseconds"].as_f64().expect("a number"));
        bytes.push(reply["bytes"].as_u64().expect("a number") as f64 / 1e6);
        outrun += reply["outrun"].as_u64().expect("a number");
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    }
    for (what, values) in [("ms", &mut took), ("MB", &mut bytes)] {
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[0], values[values.len() - 1]);
        println!("{what}: {:.1} [{low:.1} {high:.1}]", values[values.len() / 2]);
    }
    println!("{seconds} snapshots, {outrun} streams outrun");
    let (code, said, report, _dir) = p.end();
    assert_eq!(code, Some(0), "{said}");
    for c in ["c", "one"] {
        balance(&report["channels"][c]);
    }
}

/// A memfd's ring from outside: another process opens it through /proc, can only read it, and
/// finds there the packets of a snapshot, whole.
#[test]
fn another_process_maps_a_memfd_ring() {
    let p = Pipeline::start(
        r#"
        pipeline.name = "mapped"
        source.g = {type = "generator", rate = 3000, payload = 100, channel = "c"}
        [channel.c]
        mode = "overwrite"
        streams = "single"
        subbuf_size = "64 KiB"
        subbuf_count = 64
        [channel.c.backend]
        type = "pages"
        memory = "memfd"
        "#,
    );
    std::thread::sleep(Duration::from_millis(300));
    assert!(p.talk(&["snapshot", "--out", "s", "--splice"]).status.success());
    let fds = fs::read_dir(format!("/proc/{}/fd", p.child.0.id())).expect("ours");
    let named = fds.map(|e| e.expect("readable").path()).find(|p| {
        fs::read_link(p).is_ok_and(|to| to.to_string_lossy().contains("rbpipe:mapped:c_0"))
    });
    let named = named.expect("a memfd for the stream");
    // Its length is sealed, and nobody but the pipeline writes.
    let writable = fs::OpenOptions::new().read(true).write(true).open(&named).expect("ours");
    assert!(writable.set_len(0).is_err(), "its length is sealed");
    let write = std::os::unix::fs::FileExt::write_at(&writable, b"x", 0);
    assert!(write.is_err(), "others cannot write");
    let file = fs::File::open(&named).expect("to be read");
    // SAFETY: the pipeline writes into it while we read, but not into the packets that we look
    // at: the ring comes round to them in minutes.
    let map = unsafe { MmapOptions::new().map(&file).expect("it can be mapped") };
    assert_eq!(map.len(), (64 + 2) * (64 << 10), "sub-buffers, and the reader's");
    let snapshot = fs::read(p.path("s/c_0")).expect("a stream file");
    let size = |b: &[u8]| u64::from_le_bytes(b[56..64].try_into().expect("8")) as usize / 8;
    let (mut rest, mut found) = (&snapshot[size(&snapshot)..], 0);
    while !rest.is_empty() {
        let (packet, next) = rest.split_at(size(rest));
        let place = map.chunks(64 << 10).any(|memory| &memory[..packet.len()] == packet);
        assert!(place, "packet {found} is in the ring, whole");
        found += 1;
        rest = next;
    }
    assert!(found > 0);
    assert_eq!(p.end().0, Some(0));
}
