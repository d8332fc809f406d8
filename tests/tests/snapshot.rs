//! Goal: a snapshot is one run of whole packets for each stream, which ends at the newest, and
//! takes nothing: the engine and the trace directory that it becomes.
//! Method: channels whose writers write at full speed, with records that prove themselves, in
//! rings from tiny to large, with each kind of memory; what is written is read back, and then
//! the books must balance. What the program makes of it: `recorder.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_backends::PageKind;
use rbpipe_backends::pages::{self, Pages};
use rbpipe_backends::snapshot::{By, Place, Snapshot};
use rbpipe_core::backend::{Backend, BackendError, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::{ClassId, ClassRegistry};
use rbpipe_core::drain::{Ask, Control, Done, Refused};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::snapshot::Snapped;
use rbpipe_tests::have;
use rbpipe_tests::records::{self, Run};

/// Threads that write into a recorder.
const WRITERS: u64 = 4;

/// A channel that keeps the newest, and its drain.
struct Recorder {
    context: Context,
    classes: Arc<ClassRegistry>,
    class: ClassId,
    writer: Writer,
    monitor: Monitor,
    control: Control,
    drain: JoinHandle<Result<(), BackendError>>,
}

impl Recorder {
    fn start(size: u64, count: u32, streams: Streams, memory: PageKind) -> Self {
        Self::with_memories((size, count, 2), streams, memory)
    }

    /// The same, whose reader owns so many memories.
    fn with_memories(
        (size, count, reader): (u64, u32, u32),
        streams: Streams,
        memory: PageKind,
    ) -> Self {
        let (classes, class) = records::classes();
        let context = Context::new("test");
        let plan = ChannelPlan {
            name: "c".into(),
            geometry: Geometry::new(size, count, reader, 84).expect("a geometry"),
            mode: Mode::Overwrite,
            classes: Arc::clone(&classes),
        };
        let config = pages::Config { memory, ..pages::Config::default() };
        let backend = Pages::open(config, &plan, &context).expect("it opens");
        let options = ChannelOptions {
            plan,
            streams,
            block_timeout: None,
            switch_timer: None,
            read_timer: Some(Duration::from_millis(1)),
            prefault: false,
        };
        let channel = Channel::open(options, backend).expect("it opens");
        let (writer, monitor) = (channel.writer(), channel.monitor());
        let control = Control::new(channel.waker());
        let asked = control.clone();
        let drain = std::thread::spawn(move || {
            channel.run(&asked, Duration::from_secs(5), &mut |n| panic!("{n}"))
        });
        Self { context, classes, class, writer, monitor, control, drain }
    }

    /// Four threads that write until they are told to stop; gives how many each one offered.
    fn write(&self, stop: &Arc<AtomicBool>, payload: usize) -> Vec<JoinHandle<u64>> {
        let write = |me: u32| {
            let (writer, class, stop) = (self.writer.clone(), self.class, Arc::clone(stop));
            std::thread::spawn(move || {
                let mut seq = 0;
                while !stop.load(Ordering::Relaxed) {
                    let bytes = records::record(me, seq, (seq as usize * 7) % (payload + 1));
                    // What is lost is counted.
                    let _ = writer.record(class, &bytes);
                    seq += 1;
                }
                seq
            })
        };
        (0..WRITERS as u32).map(write).collect()
    }

    /// A snapshot into `to`, as the program takes it.
    fn snapshot(&self, to: &Path, by: By, at_the_end: bool) -> Result<Snapped, String> {
        let place = Place::Exactly(to.to_owned());
        let snapshot = Snapshot::begin(&self.context, place, by).map_err(|e| e.to_string())?;
        let snapshot = Arc::new(snapshot);
        let to = Arc::clone(&snapshot) as Arc<_>;
        match self.control.request(Ask::Snapshot { to, at_the_end }).recv().expect("a reply") {
            Ok(Done::Snapped(snapped)) => {
                let snapshot = Arc::into_inner(snapshot).expect("nobody else has it");
                snapshot.finish().map_err(|e| e.to_string())?;
                Ok(snapped)
            }
            Err(Refused::Output(e)) => Err(words(&e)),
            other => Err(format!("{other:?}")),
        }
    }

    /// Ends the channel and checks its books; gives what is kept.
    fn end(self, offered: u64) -> u64 {
        self.control.stop();
        self.drain.join().expect("the drain").expect("it closes");
        let mut kept = 0;
        let mut all = 0;
        for s in self.monitor.streams() {
            let e = &s.books.engine;
            assert_eq!((s.books.output_packets, s.books.failed), (0, 0), "nothing is taken");
            assert_eq!(e.recorded, s.books.overwritten() + e.kept, "{s:?}");
            all += e.offered();
            kept += e.kept;
        }
        assert_eq!(all, offered, "offered");
        kept
    }
}

fn words(e: &BackendError) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

fn sum(threads: Vec<JoinHandle<u64>>) -> u64 {
    threads.into_iter().map(|t| t.join().expect("a writer")).sum()
}

/// Checks a snapshot that was taken: one run for each stream, of what it says, not older than
/// what was delivered `before` (packets by stream) and than the last one.
fn check(dir: &Path, r: &Recorder, snapped: &Snapped, before: &[u64], last: &mut [u64]) {
    let runs = records::verify_snapshot(dir, &r.classes);
    let records: u64 = runs.iter().map(|run| run.records).sum();
    let packets: u64 = runs.iter().map(|run| run.last - run.first + 1).sum();
    assert_eq!((snapped.streams, snapped.packets), (runs.len() as u64, packets), "{snapped:?}");
    assert_eq!(snapped.events, records, "{snapped:?}");
    for Run { stream, last: newest, .. } in runs {
        let stream = stream as usize;
        if snapped.outrun == 0 {
            // Each of the writers may have counted a packet that it has not handed over yet.
            let handed_over = before[stream].saturating_sub(WRITERS);
            assert!(newest >= handed_over, "it ends at the newest: {newest} {before:?}");
        }
        assert!(newest >= last[stream], "it is newer than the last: {newest} {last:?}");
        last[stream] = newest;
    }
}

fn delivered(r: &Recorder) -> Vec<u64> {
    r.monitor.streams().iter().map(|s| s.books.packets).collect()
}

#[test]
fn snapshots_of_a_recorder_at_full_speed() {
    let kinds = [PageKind::Heap, PageKind::Huge, PageKind::Memfd];
    for (i, (size, count)) in [
        (4096, 2),
        (4096, 8),
        (4096, 256),
        (64 << 10, 4),
        (256 << 10, 8),
        (1 << 20, 2),
        (4 << 20, 4),
    ]
    .into_iter()
    .enumerate()
    {
        for streams in [Streams::Single, Streams::PerCpu, Streams::PerThread(4)] {
            let memory = kinds[i % kinds.len()];
            let r = Recorder::start(size, count, streams, memory);
            let dir = tempfile::tempdir().expect("a directory");
            let stop = Arc::new(AtomicBool::new(false));
            let writers = r.write(&stop, (size / 8).min(700) as usize);
            let mut last = vec![0; r.monitor.streams().len()];
            let (begin, mut taken, mut packets) = (Instant::now(), 0, 0);
            while begin.elapsed() < Duration::from_millis(250) {
                let out = dir.path().join(taken.to_string());
                // Now and then by splice, where that can be.
                let by = if memory == PageKind::Memfd && taken % 2 == 1 {
                    By::Splice
                } else {
                    By::Write
                };
                let before = delivered(&r);
                let snapped = r.snapshot(&out, by, false).expect("a snapshot");
                check(&out, &r, &snapped, &before, &mut last);
                std::fs::remove_dir_all(&out).expect("removed");
                taken += 1;
                packets += snapped.packets;
            }
            stop.store(true, Ordering::Relaxed);
            let offered = sum(writers);
            // Nobody writes: all that is kept is in it.
            let out = dir.path().join("quiet");
            let snapped = r.snapshot(&out, By::Write, false).expect("a snapshot");
            let kept: u64 = r.monitor.streams().iter().map(|s| s.books.engine.kept).sum();
            let runs = records::verify_snapshot(&out, &r.classes);
            assert_eq!(runs.iter().map(|run| run.records).sum::<u64>(), kept);
            assert_eq!((snapped.events, snapped.outrun), (kept, 0));
            assert!(taken > 0 && packets > 0, "{size} x {count}, {streams:?}: {taken}, {packets}");
            assert_eq!(r.end(offered), kept, "a snapshot takes nothing");
        }
    }
}

/// With as many memories as the ring has sub-buffers, the whole ring is caught whatever writers
/// do: it is lent before the first packet is copied.
#[test]
fn with_memories_for_all_the_whole_ring_is_caught() {
    let count = 32;
    let caught = |reader: u32| {
        let ring = (64 << 10, count, reader);
        let r = Recorder::with_memories(ring, Streams::Single, PageKind::Heap);
        let dir = tempfile::tempdir().expect("a directory");
        let stop = Arc::new(AtomicBool::new(false));
        let writers = r.write(&stop, 300);
        std::thread::sleep(Duration::from_millis(50));
        let mut packets: Vec<u64> = (0..31)
            .map(|n| {
                let out = dir.path().join(n.to_string());
                let snapped = r.snapshot(&out, By::Write, false).expect("a snapshot");
                records::verify_snapshot(&out, &r.classes);
                snapped.packets
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        r.end(sum(writers));
        packets.sort_unstable();
        packets[packets.len() / 2]
    };
    let (few, all) = (caught(1), caught(count));
    println!("of {count} packets, median: {few} with one memory, {all} with {count}");
    // One that is preempted in the midst of it may have fewer.
    assert!(all >= u64::from(count) - 4, "{few} {all}");
}

/// The end waits for what is open, and the last snapshot has all that is kept.
#[test]
fn the_last_snapshot_has_all_that_is_kept() {
    for size in [4096, 64 << 10] {
        let r = Recorder::start(size, 8, Streams::PerCpu, PageKind::Heap);
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("end");
        let stop = Arc::new(AtomicBool::new(false));
        let writers = r.write(&stop, 100);
        std::thread::sleep(Duration::from_millis(50));
        let (snapped, offered) = std::thread::scope(|s| {
            let last = s.spawn(|| r.snapshot(&out, By::Write, true).expect("a snapshot"));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!last.is_finished(), "it waits for the end");
            stop.store(true, Ordering::Relaxed);
            let offered = sum(writers);
            r.control.stop();
            (last.join().expect("it is taken"), offered)
        });
        let runs = records::verify_snapshot(&out, &r.classes);
        let found: u64 = runs.iter().map(|run| run.records).sum();
        assert_eq!((r.end(offered), snapped.events), (found, found));
    }
}

#[test]
fn two_clients_at_once_have_a_snapshot_each() {
    let r = Recorder::start(16 << 10, 16, Streams::PerCpu, PageKind::Heap);
    let dir = tempfile::tempdir().expect("a directory");
    let stop = Arc::new(AtomicBool::new(false));
    let writers = r.write(&stop, 100);
    for round in 0..20 {
        let out = |me: u32| dir.path().join(format!("{round}.{me}"));
        let before = delivered(&r);
        std::thread::scope(|s| {
            for me in 0..2 {
                let (r, before, out) = (&r, &before, out(me));
                s.spawn(move || {
                    let snapped = r.snapshot(&out, By::Write, false).expect("a snapshot");
                    check(&out, r, &snapped, before, &mut vec![0; before.len()]);
                });
            }
        });
        // The same name for both: one has it.
        let same = dir.path().join(format!("{round}.same"));
        let got = std::thread::scope(|s| {
            let take = || s.spawn(|| r.snapshot(&same, By::Write, false).is_ok());
            let both = [take(), take()];
            both.map(|t| t.join().expect("no panic")).into_iter().filter(|ok| *ok).count()
        });
        assert_eq!(got, 1, "one of the two");
        records::verify_snapshot(&same, &r.classes);
    }
    stop.store(true, Ordering::Relaxed);
    let offered = sum(writers);
    r.end(offered);
    let left = std::fs::read_dir(dir.path()).expect("listed").count();
    assert_eq!(left, 20 * 3, "nothing half is left");
}

/// Asked for while the channel ends: it is whole, or it is said that there is none.
#[test]
fn a_snapshot_that_meets_the_end_is_whole_or_refused() {
    let (mut whole, mut refused) = (0, 0);
    for round in 0..60 {
        let r = Recorder::start(4096, 16, Streams::Single, PageKind::Heap);
        let dir = tempfile::tempdir().expect("a directory");
        let stop = Arc::new(AtomicBool::new(false));
        let writers = r.write(&stop, 60);
        std::thread::sleep(Duration::from_millis(2));
        let out = dir.path().join("s");
        let taken = std::thread::scope(|s| {
            let taken = s.spawn(|| r.snapshot(&out, By::Write, false));
            std::thread::sleep(Duration::from_micros(round * 10));
            r.control.stop();
            taken.join().expect("no panic")
        });
        stop.store(true, Ordering::Relaxed);
        match taken {
            Ok(snapped) => {
                let runs = records::verify_snapshot(&out, &r.classes);
                assert_eq!(runs.iter().map(|run| run.records).sum::<u64>(), snapped.events);
                whole += 1;
            }
            Err(why) => {
                assert!(why.contains("Ended"), "{why}");
                refused += 1;
            }
        }
        let _offered = sum(writers);
        r.control.stop();
        r.drain.join().expect("the drain").expect("it closes");
        let left = std::fs::read_dir(dir.path()).expect("listed").count();
        assert!(left <= 1, "nothing half is left");
    }
    assert!(whole > 0, "{whole} whole, {refused} refused");
}

/// Where it may go, and what it says where it may not.
#[test]
fn a_snapshot_replaces_nothing() {
    let r = Recorder::start(4096, 4, Streams::Single, PageKind::Heap);
    assert_eq!(records::write(&r.writer, r.class, 0, 50, |_| 20, 0), 50);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let take = |name: &str| r.snapshot(&at(name), By::Write, false);
    std::fs::create_dir(at("empty")).expect("made");
    std::fs::create_dir(at("full")).expect("made");
    std::fs::write(at("full/x"), "").expect("made");
    std::fs::write(at("file"), "").expect("made");
    std::os::unix::fs::symlink("full", at("link")).expect("made");
    for good in ["new", "empty", "deep/er/one"] {
        take(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        assert_eq!(records::verify_snapshot(&at(good), &r.classes)[0].records, 50);
    }
    for (bad, why) in [
        ("full", "is not empty: a snapshot replaces nothing"),
        ("new", "is not empty: a snapshot replaces nothing"),
        ("file", "exists and is no directory"),
        ("link", "exists and is no directory"),
        ("file/x", "cannot"),
        ("..", "names no directory"),
    ] {
        let said = take(bad).expect_err(bad);
        assert!(said.contains(why) && !said.contains('\n'), "{bad}: {said}");
    }
    let said = r.snapshot(&at("spliced"), By::Splice, false).expect_err("heap memory");
    assert!(said.contains("memory = \"memfd\""), "{said}");
    // Numbered ones take the next number that is free.
    for taken in ["n.1", "n.3"] {
        std::fs::create_dir(at(taken)).expect("made");
    }
    for expected in ["n.2", "n.4"] {
        let snapshot = Snapshot::begin(&r.context, Place::Numbered(at("n")), By::Write);
        let path = snapshot.expect("begun").finish().expect("finished");
        assert_eq!(path, at(expected));
    }
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("listed")
        .map(|e| e.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let all = ["deep", "empty", "file", "full", "link", "n.1", "n.2", "n.3", "n.4", "new"];
    assert_eq!(names, all, "nothing half is left");
    assert_eq!(r.end(50), 50);
}

/// A disk that is full: one sentence, nothing left, and the recorder goes on.
#[test]
fn a_full_disk_fails_a_snapshot_and_nothing_else() {
    // A name space of its own is a process's: where this one cannot mount, it cannot be tried.
    let dir = tempfile::tempdir().expect("a directory");
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&disk)
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "mount needs root under CI");
        eprintln!("SKIPPED full disk of a snapshot: mounting a tmpfs needs root");
        return;
    }
    let unmount = Unmount(&disk);
    for memory in [PageKind::Heap, PageKind::Memfd] {
        let r = Recorder::start(256 << 10, 16, Streams::Single, memory);
        let count = 40_000;
        assert_eq!(records::write(&r.writer, r.class, 0, count, |_| 100, 0), count);
        for by in [By::Write, By::Splice] {
            if memory == PageKind::Heap && by == By::Splice {
                continue;
            }
            let said = r.snapshot(&disk.join("s"), by, false).expect_err("too large");
            assert!(said.contains("No space left on device"), "{memory:?} {by:?}: {said}");
            let left = std::fs::read_dir(&disk).expect("listed").count();
            assert_eq!(left, 0, "nothing half is left");
        }
        // Elsewhere there is room, and nothing is missing.
        let out = dir.path().join(format!("{memory:?}"));
        let snapped = r.snapshot(&out, By::Write, false).expect("a snapshot");
        records::verify_snapshot(&out, &r.classes);
        assert_eq!(r.end(count), snapped.events);
    }
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

/// babeltrace2 opens a snapshot, counts the same events, and warns of nothing but true losses.
#[test]
fn babeltrace2_opens_snapshots() {
    if !have("snapshots", "babeltrace2", &["--version"]) {
        return;
    }
    let r = Recorder::start(16 << 10, 4, Streams::PerThread(4), PageKind::Memfd);
    let dir = tempfile::tempdir().expect("a directory");
    let stop = Arc::new(AtomicBool::new(false));
    let writers = r.write(&stop, 100);
    let (mut all, mut most) = (0, 0);
    for n in 0..4 {
        std::thread::sleep(Duration::from_millis(20));
        let out = dir.path().join(n.to_string());
        let by = if n % 2 == 0 { By::Write } else { By::Splice };
        let snapped = r.snapshot(&out, by, false).expect("a snapshot");
        let read = std::process::Command::new("babeltrace2").arg(&out).output().expect("it runs");
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success(), "{said}");
        let events = read.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count() as u64;
        assert_eq!(events, snapped.events, "{said}");
        for line in said.lines() {
            assert!(line.starts_with("WARNING: Tracer discarded"), "{line}");
        }
        // What was overwritten is told.
        assert!(n == 0 || said.contains("packets between"), "{said}");
        (all, most) = (all + events, most.max(events));
    }
    // Together they are one trace; what is in several of them is printed once.
    let together = std::process::Command::new("babeltrace2")
        .args((0..4).map(|n| dir.path().join(n.to_string())))
        .output()
        .expect("it runs");
    assert!(together.status.success(), "{}", String::from_utf8_lossy(&together.stderr));
    let events = together.stdout.iter().filter(|b| **b == b'\n').count() as u64;
    assert!((most..=all).contains(&events), "{events} of {most} to {all}");
    stop.store(true, Ordering::Relaxed);
    r.end(sum(writers));
}
