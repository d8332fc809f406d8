//! Goal: `source.ftrace` on the kernel that is there: what it loses is counted exactly and told
//! at its place, what it changes is put back however it ends, and where kernel tracing is not to
//! be had it says so. Method: numbered markers, written into the instance of the program's own
//! from outside, so that the truth is known. Needs tracefs (root).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rbpipe::fuzz::EventFormat;
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_tests::program::{balance, counts, rbpipe, report, run, signal, start};
use rbpipe_tests::tracefs::{Tracefs, tracefs};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

/// One at a time: they look at what is left of instances, and at the kernel's own files.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pipeline whose only kernel events are markers: the event that is asked for never happens.
fn markers(source: &str, channel: &str) -> String {
    format!(
        r#"
[pipeline]
name = "markers"
[source.kernel]
type = "ftrace"
events = [{{ event = "signal:signal_generate", filter = "sig == 99" }}]
channel = "trace"
{source}
[channel.trace]
streams = "single"
{channel}
[channel.trace.backend]
type = "file"
path = "trace"
"#
    )
}

fn ends_well(mut program: Child) {
    signal(&program, Signal::INT);
    let mut said = String::new();
    let stderr = program.stderr.take().expect("a pipe");
    for line in BufReader::new(stderr).lines() {
        said.push_str(&line.expect("text"));
        said.push('\n');
    }
    assert!(program.wait().expect("it ends").success(), "{said}");
}

/// Writes `count` numbered markers on one CPU, of some twenty bytes; gives how many the kernel
/// took. (In discard mode a full ring refuses: EBADF.)
fn write_markers(tracefs: &Tracefs, instance: &str, cpu: usize, count: u32) -> u32 {
    write_some(tracefs, instance, cpu, 0..count)
}

/// 200,000 of them; while half of them are written the program stands still, so that its reader
/// loses, however fast it is.
fn write_beside_a_pause(tracefs: &Tracefs, instance: &str, program: &Child) -> u32 {
    let mut taken = write_some(tracefs, instance, 0, 0..50_000);
    signal(program, Signal::STOP);
    taken += write_some(tracefs, instance, 0, 50_000..150_000);
    signal(program, Signal::CONT);
    taken + write_some(tracefs, instance, 0, 150_000..200_000)
}

fn write_some(tracefs: &Tracefs, instance: &str, cpu: usize, numbers: Range<u32>) -> u32 {
    let path = tracefs.path(&format!("instances/{instance}/trace_marker_raw"));
    thread::spawn(move || {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).expect("this CPU");
        let mut file = fs::OpenOptions::new().write(true).open(path).expect("it opens");
        let mut taken = 0;
        for seq in numbers {
            taken += u32::from(file.write(&marker(seq)).is_ok());
        }
        taken
    })
    .join()
    .expect("it writes")
}

/// The id, then bytes that follow from it.
fn marker(seq: u32) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.extend((0..12 + seq % 8).map(|i| (seq.wrapping_mul(31) + i) as u8));
    bytes
}

/// A packet of a stream file: the losses it tells, and the markers in it, checked.
struct Told {
    discarded: u64,
    markers: Vec<u32>,
}

/// The packets of each stream file of a trace, by CPU.
fn packets(tracefs: &Tracefs, trace: &Path) -> BTreeMap<u32, Vec<Told>> {
    let text = fs::read_to_string(tracefs.path("events/ftrace/raw_data/format")).expect("a format");
    let format = EventFormat::parse("ftrace", "raw_data", &text).expect("a class");
    let classes = Classes::new([std::sync::Arc::new(format.class().clone())]);
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(trace).expect("a trace") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|n| n == "metadata") {
            continue;
        }
        let bytes = fs::read(path).expect("read");
        let (mut rest, mut told, mut cpu) = (&bytes[..], Vec::new(), 0);
        while !rest.is_empty() {
            let header = PacketHeader::decode(rest, |_| Some(StreamClass::Cpu)).expect("a packet");
            let content = &rest[..header.content_size as usize];
            let mut cursor = Cursor::new(StreamClass::Cpu.header_size() as usize, header.begin);
            let mut markers = Vec::new();
            while let Some(r) = cursor.next(content, &classes).expect("a record") {
                markers.push(checked(&content[r.payload.0..r.payload.1]));
            }
            cpu = header.origin;
            told.push(Told { discarded: header.discarded, markers });
            rest = &rest[header.packet_size as usize..];
        }
        all.insert(cpu, told);
    }
    all
}

/// A marker's number; its bytes are those that were written. (The kernel rounds a record up to
/// four bytes, and tells no more.)
fn checked(payload: &[u8]) -> u32 {
    // The common fields, the id, the length of what follows.
    let seq = u32::from_le_bytes(payload[8..12].try_into().expect("4"));
    let (expected, bytes) = (marker(seq), &payload[16..]);
    assert_eq!(bytes[..expected.len() - 4], expected[4..], "marker {seq}");
    assert!(bytes.len() - (expected.len() - 4) < 4, "marker {seq}: {} bytes", bytes.len());
    seq
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).expect(path)
}

#[test]
fn markers_come_through_the_kernels_ring_as_they_were_written() {
    let Some(tracefs) = tracefs("markers_come_through…") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    // Into every backend: a flight recorder's pages are looked at in its snapshot.
    let ring = "subbuf_count = 64\n[channel.ring]\nmode = \"overwrite\"\nsubbuf_count = 64\n\
                [channel.ring.backend]\ntype = \"pages\"\nsnapshot_on = [\"exit\"]";
    let both = markers("", ring).replace("channel = \"trace\"", "channel = [\"trace\", \"ring\"]");
    let program = start(dir.path(), &both);
    let name = tracefs.instance_of(&program);
    let cpus = thread::available_parallelism().expect("known").get().min(2);
    for cpu in 0..cpus {
        assert_eq!(write_markers(&tracefs, &name, cpu, 30_000), 30_000);
    }
    ends_well(program);
    let report = report(dir.path());
    assert_eq!(number(&report, "/sources/kernel/lost_before"), 0);
    assert_eq!(number(&report, "/sources/kernel/read"), 30_000 * cpus as u64);
    for trace in ["trace", "snapshot.1"] {
        let all = packets(&tracefs, &dir.path().join(trace));
        assert_eq!(all.len(), cpus, "{trace}");
        for packets in all.values() {
            let seen = packets.iter().flat_map(|p| p.markers.iter().copied());
            assert!(seen.eq(0..30_000), "{trace}: all of them, in order");
        }
    }
    assert_eq!(counts(dir.path(), "trace"), (30_000 * cpus as u64, 0, 0));
}

/// In overwrite mode the kernel tells where it lost, so a gap in the numbers is just what the
/// packet behind it tells, and packets have none inside.
#[test]
fn what_the_kernel_overwrote_is_told_where_it_is_missing() {
    let Some(tracefs) = tracefs("what_the_kernel_overwrote…") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let small = "buffer_size = \"64 KiB\"\nsubbuf_size = \"4 KiB\"\nbuffer_percent = 100\nflush = \"30 ms\"";
    let program = start(dir.path(), &markers(small, ""));
    let name = tracefs.instance_of(&program);
    assert_eq!(write_beside_a_pause(&tracefs, &name, &program), 200_000);
    ends_well(program);
    let report = report(dir.path());
    let (read, lost) =
        (number(&report, "/sources/kernel/read"), number(&report, "/sources/kernel/lost_before"));
    assert_eq!(read + lost, 200_000, "{report}");
    assert!(read > 1000 && lost > 1000, "{read} read, {lost} lost: a test of losses");
    balance(&report["channels"]["trace"]);
    let packets = &packets(&tracefs, &dir.path().join("trace"))[&0];
    let (mut next, mut told) = (0, 0);
    for packet in packets {
        let before = u64::from(packet.markers.first().map_or(next, |first| first - next));
        let here = packet.discarded - told;
        if packet.markers.is_empty() {
            // The file's first, and the last words.
            next += here as u32;
        } else {
            assert_eq!(here, before, "before marker {:?}", packet.markers.first());
        }
        for pair in packet.markers.windows(2) {
            assert_eq!(pair[0] + 1, pair[1], "no gap in a packet");
        }
        next = packet.markers.last().map_or(next, |last| last + 1);
        told = packet.discarded;
    }
    assert_eq!((u64::from(next), told), (200_000, lost));
    assert_eq!(counts(dir.path(), "trace"), (read, lost, 0));
}

/// In discard mode the kernel tells no more than how many.
#[test]
fn what_the_kernel_refused_is_counted() {
    let Some(tracefs) = tracefs("what_the_kernel_refused…") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let small = "buffer_size = \"16 KiB\"\nsubbuf_size = \"4 KiB\"\nkernel_mode = \"discard\"\n\
                 buffer_percent = 100\nflush = \"30 ms\"";
    let program = start(dir.path(), &markers(small, ""));
    let name = tracefs.instance_of(&program);
    let taken = u64::from(write_beside_a_pause(&tracefs, &name, &program));
    ends_well(program);
    let report = report(dir.path());
    assert_eq!(number(&report, "/sources/kernel/read"), taken, "{report}");
    assert_eq!(number(&report, "/sources/kernel/lost_before"), 200_000 - taken);
    assert!((1000..110_000).contains(&taken), "{taken} taken: a test of losses");
    assert_eq!(counts(dir.path(), "trace"), (taken, 200_000 - taken, 0));
    let seen: Vec<u32> = packets(&tracefs, &dir.path().join("trace"))[&0]
        .iter()
        .flat_map(|p| p.markers.iter().copied())
        .collect();
    assert!(seen.is_sorted_by(|a, b| a < b), "in order");
}

/// A ring of ours that is smaller than what comes at once: records wait in the kernel's.
#[test]
fn a_small_ring_of_ours_loses_nothing_while_the_kernels_has_room() {
    let Some(tracefs) = tracefs("a_small_ring_of_ours…") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let ring = "subbuf_size = \"64 KiB\"\nsubbuf_count = 4";
    let program = start(dir.path(), &markers("flush = \"50 ms\"", ring));
    let name = tracefs.instance_of(&program);
    write_markers(&tracefs, &name, 0, 50_000);
    ends_well(program);
    let report = report(dir.path());
    assert_eq!(number(&report, "/channels/trace/recorded"), 50_000, "{report}");
}

#[test]
fn tracing_is_as_it_was_however_it_ends() {
    let Some(tracefs) = tracefs("tracing_is_as_it_was…") else { return };
    let _alone = alone();
    let before = tracefs.top_level();
    for (how, times, code) in [
        (Signal::INT, 1, Some(0)),
        (Signal::TERM, 1, Some(0)),
        (Signal::INT, 2, Some(130)),
        (Signal::KILL, 1, None),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut program = start(dir.path(), &markers("priority = 10", ""));
        let name = tracefs.instance_of(&program);
        assert_eq!(tracefs.top_level(), before, "while it runs");
        // So that the second one finds it still ending.
        write_markers(&tracefs, &name, 0, 50_000);
        for _ in 0..times {
            signal(&program, how);
        }
        let status = program.wait().expect("it ends");
        if times == 1 {
            assert_eq!(status.code(), code, "{how:?}");
        } else {
            assert!([code, Some(0)].contains(&status.code()), "{how:?} twice: {status}");
        }
        if how == Signal::KILL {
            let left = tracefs.path(&format!("instances/{name}/tracing_on"));
            let on = fs::read_to_string(left).expect("the kernel keeps it");
            assert_eq!(on.trim(), "0", "what is left does not trace");
            // The next start sweeps it.
            let dir = tempfile::tempdir().expect("a directory");
            let next = start(dir.path(), &markers("", ""));
            tracefs.instance_of(&next);
            ends_well(next);
        }
        assert_eq!(tracefs.instances_of(program.id()), Vec::<String>::new(), "{how:?}");
        assert_eq!(tracefs.top_level(), before, "{how:?}");
    }
}

/// Two pipelines at once, each with an instance of its own; neither sweeps the other's.
#[test]
fn others_instances_are_left_alone() {
    let Some(tracefs) = tracefs("others_instances…") else { return };
    let _alone = alone();
    let mine = tracefs.instance("other");
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let first = start(one.path(), &markers("", ""));
    let name = tracefs.instance_of(&first);
    let second = start(two.path(), &markers("", "").replace("\"markers\"", "\"second\""));
    let other = tracefs.instance_of(&second);
    assert_eq!(write_markers(&tracefs, &name, 0, 10), 10);
    assert_eq!(write_markers(&tracefs, &other, 0, 20), 20);
    ends_well(second);
    assert!(mine.path().exists() && tracefs.path(&format!("instances/{name}")).exists());
    ends_well(first);
    assert_eq!(number(&report(one.path()), "/sources/kernel/read"), 10);
    assert_eq!(number(&report(two.path()), "/sources/kernel/read"), 20);
}

#[test]
fn what_is_asked_for_and_cannot_be_is_one_sentence() {
    let Some(tracefs) = tracefs("what_is_asked_for…") else { return };
    let _alone = alone();
    let before = tracefs.top_level();
    for (events, said) in [
        (
            "[{ event = \"sched:sched_switch\", filter = \"prev_pidd != 0\" }]",
            "sched:sched_switch: the kernel refuses its filter: Field not found\n    \
             prev_pidd != 0\n",
        ),
        ("[\"sched:sched_swich\"]", "did you mean `sched:sched_switch`?"),
        ("[\"sched:*\", \"!sched:*\"]", "`events` takes away all that it names"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        // An old trace is not replaced by a pipeline that cannot begin.
        let old = markers("", "").replace("path =", "overwrite = true\npath =");
        let list = "events = [{ event = \"signal:signal_generate\", filter = \"sig == 99\" }]";
        assert!(old.contains(list));
        let (_, first) =
            run(dir.path(), &old.replace("[pipeline]", "[pipeline]\nduration = \"100 ms\""));
        assert_eq!(number(&first, "/sources/kernel/lost_before"), 0);
        let kept = fs::read(dir.path().join("trace/metadata")).expect("a trace");
        let (out, _) = run(dir.path(), &old.replace(list, &format!("events = {events}")));
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert_eq!(fs::read(dir.path().join("trace/metadata")).expect("still"), kept);
    }
    assert_eq!(tracefs.top_level(), before);
}

/// As somebody else: one sentence and exit 1, or with `optional` a warning and on without it.
#[test]
fn without_the_right_to_it_it_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED without_the_right…: only root can become somebody else");
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("everybody's");
    // The program where everybody can reach it.
    let copy = dir.path().join("rbpipe");
    fs::copy(rbpipe().get_program(), &copy).expect("copied");
    let as_nobody = |toml: &str| {
        fs::write(dir.path().join("p.toml"), toml).expect("written");
        let mut command = Command::new(&copy);
        command.current_dir(dir.path()).args(["--config", "p.toml"]).uid(65534).gid(65534);
        command.env("XDG_RUNTIME_DIR", dir.path()).stdin(Stdio::null());
        command.output().expect("it runs")
    };
    let out = as_nobody(&markers("", ""));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("kernel tracing is not to be had: "), "{stderr}");
    assert!(stderr.contains("run it as root; `optional = true` would"), "{stderr}");
    assert!(!dir.path().join("trace/metadata").exists(), "nothing was begun");

    let with_other = format!(
        "{}\n[source.other]\ntype = \"generator\"\nevents = 100\nchannel = \"trace\"\n",
        markers("optional = true", "")
    );
    let out = as_nobody(&with_other);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("kernel events are left out (optional): "), "{stderr}");
    assert!(stderr.contains("100 events recorded"), "{stderr}");
}
