//! How long is it from the ask for a snapshot to its last byte written, of 4 MiB and of 64 MiB,
//! from each kind of memory, by write and by splice, to a disk's file system and to tmpfs, and
//! what CPU time does that take? What when writers write at full speed meanwhile? And what does
//! a record cost a writer while snapshots are taken, beside the same writer's cost without, in
//! turns in one run?

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rbpipe_backends::PageKind;
use rbpipe_backends::pages::{self, Pages};
use rbpipe_backends::snapshot::{By, Place, Snapshot};
use rbpipe_benches::{channel_in, measuring, payload, seconds, spread};
use rbpipe_core::backend::Context;
use rbpipe_core::channel::{Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::drain::{Ask, Control, Done};
use rbpipe_core::frontend::Mode;
use rbpipe_core::snapshot::Snapped;
use rustix::time::{ClockId, clock_gettime};

fn cpu() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// A flight recorder of one stream, and its drain.
struct Recorder {
    context: Context,
    writer: Writer,
    class: ClassId,
    control: Control,
    drain: Option<std::thread::JoinHandle<()>>,
}

impl Recorder {
    fn start(memory: PageKind, (size, count): (u64, u32), reader: u32) -> Self {
        let context = Context::new("bench");
        let config = pages::Config { memory, ..pages::Config::default() };
        let ring = (size, count, reader);
        let (channel, class) =
            channel_in::<Pages>(&context, config, Mode::Overwrite, Streams::Single, ring);
        let (writer, control) = (channel.writer(), Control::new(channel.waker()));
        let asked = control.clone();
        let drain = std::thread::spawn(move || {
            channel
                .run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"))
                .expect("it closes");
        });
        Self { context, writer, class, control, drain: Some(drain) }
    }

    /// Fills the ring, once round.
    fn fill(&self, bytes: u64) {
        let record = payload(256);
        for _ in 0..bytes / 260 + 1 {
            let _ = self.writer.record(self.class, &record);
        }
    }

    /// From the ask to the last byte written.
    fn snapshot(&self, to: &Path, by: By) -> (f64, f64, Snapped) {
        let (begin, before) = (Instant::now(), cpu());
        let place = Place::Exactly(to.to_owned());
        let snapshot = Arc::new(Snapshot::begin(&self.context, place, by).expect("begun"));
        let ask = Ask::Snapshot { to: Arc::clone(&snapshot) as Arc<_>, at_the_end: false };
        let Ok(Ok(Done::Snapped(snapped))) = self.control.request(ask).recv() else {
            panic!("no snapshot");
        };
        Arc::into_inner(snapshot).expect("ours").finish().expect("finished");
        let (time, used) = (begin.elapsed().as_secs_f64(), cpu() - before);
        std::fs::remove_dir_all(to).expect("removed");
        (time * 1e3, used * 1e3, snapped)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.control.stop();
        let _ = self.drain.take().map(std::thread::JoinHandle::join);
    }
}

const WAYS: [(&str, PageKind, By); 4] = [
    ("heap, write", PageKind::Heap, By::Write),
    ("huge, write", PageKind::Huge, By::Write),
    ("memfd, write", PageKind::Memfd, By::Write),
    ("memfd, splice", PageKind::Memfd, By::Splice),
];

fn show(values: Vec<f64>) -> String {
    let (low, median, high) = spread(values);
    format!("{median:7.2} [{low:.2} {high:.2}]")
}

/// Quiet rings, each way in turn.
fn quiet(place: &str, dir: &Path, rounds: usize, ring: (u64, u32)) {
    let bytes = ring.0 * u64::from(ring.1);
    let recorders = WAYS.map(|(_, memory, _)| Recorder::start(memory, ring, 2));
    recorders.iter().for_each(|r| r.fill(2 * bytes));
    let mut found: [Vec<(f64, f64)>; 4] = Default::default();
    for _ in 0..rounds {
        for (i, (recorder, (_, _, by))) in recorders.iter().zip(WAYS).enumerate() {
            let (time, used, snapped) = recorder.snapshot(&dir.join("s"), by);
            assert!(snapped.packets + 1 >= u64::from(ring.1), "{snapped:?}");
            found[i].push((time, used));
        }
    }
    println!("{} MiB to {place}, quiet: ms from ask to written; ms of CPU time", bytes >> 20);
    for ((name, ..), values) in WAYS.iter().zip(found) {
        let (times, used) = values.into_iter().unzip();
        println!("  {name:14} {}   {}", show(times), show(used));
    }
}

/// Two writers at full speed meanwhile.
fn busy(place: &str, dir: &Path, rounds: usize, ring: (u64, u32), reader: u32) {
    let recorder = Recorder::start(PageKind::Heap, ring, reader);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            let (writer, class, stop) = (recorder.writer.clone(), recorder.class, &stop);
            s.spawn(move || {
                let record = payload(256);
                while !stop.load(Ordering::Relaxed) {
                    let _ = writer.record(class, &record);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let (mut times, mut packets, mut outrun) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let (time, _, snapped) = recorder.snapshot(&dir.join("s"), By::Write);
            times.push(time);
            packets.push(snapped.packets as f64);
            outrun += snapped.outrun;
        }
        stop.store(true, Ordering::Relaxed);
        println!(
            "{} MiB to {place}, two writers at full speed, reader_subbufs {reader}: {} ms, {} of {} \
             packets, {outrun} outrun",
            (ring.0 * u64::from(ring.1)) >> 20,
            show(times),
            show(packets),
            ring.1
        );
    });
}

/// ns a record, in turns without and with snapshots at this distance.
fn writers_cost(dir: &Path, rounds: usize, turn: Duration, every: Duration) {
    let recorder = Recorder::start(PageKind::Heap, (256 << 10, 16), 2);
    let (records, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|s| {
        s.spawn(|| {
            let record = payload(256);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    let _ = recorder.writer.record(recorder.class, &record);
                }
                records.fetch_add(64, Ordering::Relaxed);
            }
        });
        let (mut without, mut with, mut ratios, mut taken) =
            (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let mut cost = |snapshots: bool| {
                let before = records.load(Ordering::Relaxed);
                let time = seconds(|| {
                    let end = Instant::now() + turn;
                    while Instant::now() < end {
                        if snapshots {
                            recorder.snapshot(&dir.join("s"), By::Write);
                            taken += 1;
                        }
                        std::thread::sleep(
                            every.min(end.saturating_duration_since(Instant::now())),
                        );
                    }
                });
                time * 1e9 / (records.load(Ordering::Relaxed) - before).max(1) as f64
            };
            let (a, b) = (cost(false), cost(true));
            without.push(a);
            with.push(b);
            ratios.push(b / a);
        }
        stop.store(true, Ordering::Relaxed);
        println!(
            "a snapshot of 4 MiB every {every:?}: ns a record without {}, with {}, ratio {} \
             ({taken} snapshots)",
            show(without),
            show(with),
            show(ratios)
        );
    });
}

fn main() {
    let disk = tempfile::tempdir_in(".").expect("a directory");
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    let places = [("disk", Some(&disk)), ("tmpfs", memory.as_ref())];
    let measuring = measuring();
    let rings: &[(u64, u32)] =
        if measuring { &[(256 << 10, 16), (1 << 20, 64)] } else { &[(64 << 10, 4)] };
    let rounds = if measuring { 15 } else { 1 };
    for ring in rings {
        for (name, dir) in places {
            let Some(dir) = dir else {
                println!("{name}: there is none here");
                continue;
            };
            quiet(name, dir.path(), rounds, *ring);
            for reader in [2, ring.1] {
                busy(name, dir.path(), rounds, *ring, reader);
            }
        }
    }
    let dir = memory.as_ref().unwrap_or(&disk).path();
    let ms = Duration::from_millis;
    if measuring {
        writers_cost(dir, 15, ms(1000), ms(1000));
        writers_cost(dir, 15, ms(500), ms(0));
    } else {
        writers_cost(dir, 1, ms(10), ms(1));
    }
}
