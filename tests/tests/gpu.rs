//! Goal: the GPU backend brings records into the store as they were written, keeps the newest,
//! and when its device fails costs what is counted, no more. Method: wgpu's noop device (copies
//! and mapping are real there, in ordinary memory) everywhere; a Vulkan one, be it in software,
//! where there is one; stores read back and checked as traces are.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rbpipe_backends::gpu::wgpu::CommandEncoder;
use rbpipe_backends::gpu::{
    Arrival, Config, Gpu, GpuDevice, Keep, Kind, PacketEntry, Place, Store, Wanted, Way,
};
use rbpipe_core::backend::{Backend, ChannelPlan, Context, Facts};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::ClassId;
use rbpipe_core::decode::Classes;
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::have_gpu;
use rbpipe_tests::kept::KeptCheck;
use rbpipe_tests::records;

const NOOP: Wanted = Wanted::Kind(Kind::Noop);
const WAYS: [Way; 3] = [Way::Staged, Way::Direct, Way::Heap];

fn config(adapter: &Wanted, memory: Way, keep: Keep) -> Config {
    Config { adapter: adapter.clone(), memory, keep, ..Config::default() }
}

/// A channel that runs.
struct Running {
    writer: Writer,
    class: ClassId,
    classes: Classes,
    monitor: Monitor,
    store: Arc<Store>,
    device: Option<Arc<GpuDevice>>,
    facts: Facts,
    control: Control,
    drain: std::thread::JoinHandle<()>,
}

fn start(config: Config, mode: Mode, (size, count, reader): (u64, u32, u32)) -> Running {
    let (classes, class) = records::classes();
    let geometry = Geometry::new(size, count, reader, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode, classes: Arc::clone(&classes) };
    let backend = Gpu::open(config, &plan, &Context::new("gpu")).expect("it opens");
    let (store, device) = (Arc::clone(backend.store()), backend.device().cloned());
    let facts = backend.facts().expect("it has facts");
    let options = ChannelOptions {
        plan,
        streams: Streams::PerThread(2),
        block_timeout: Some(Duration::from_secs(20)),
        switch_timer: Some(Duration::from_millis(20)),
        read_timer: Some(Duration::from_millis(1)),
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        let mut notice = |n: Notice| assert!(matches!(n, Notice::Stalled { .. }), "{n}");
        channel.run(&asked, Duration::from_secs(5), &mut notice).expect("it closes");
    });
    let classes = Classes::new(classes.all());
    Running { writer, class, classes, monitor, store, device, facts, control, drain }
}

/// Totals of a channel's books, which balance.
#[derive(Debug, Default)]
struct Books {
    offered: u64,
    recorded: u64,
    written: u64,
    failed: u64,
    lost: u64,
}

impl Running {
    fn write(&self, writers: u32, count: u64) -> Vec<std::thread::JoinHandle<u64>> {
        self.write_as(0..writers, count)
    }

    fn write_as(&self, writers: Range<u32>, count: u64) -> Vec<std::thread::JoinHandle<u64>> {
        writers
            .map(|w| {
                let (writer, class) = (self.writer.clone(), self.class);
                let len = |seq: u64| (seq as usize * 7) % 60;
                std::thread::spawn(move || records::write(&writer, class, w, count, len, 0))
            })
            .collect()
    }

    fn books(&self) -> Books {
        let mut all = Books::default();
        for s in self.monitor.streams() {
            let (b, e) = (&s.books, &s.books.engine);
            all.offered += e.offered();
            all.recorded += e.recorded;
            all.written += b.output_records;
            all.failed += b.failed_records;
            all.lost += e.full + e.wrap + e.too_big;
            let sum = b.output_records + b.failed_records + b.overwritten() + e.kept;
            assert_eq!(e.recorded, sum, "{s:?}");
        }
        all
    }

    fn check(&self, check: &mut KeptCheck) {
        check.read(&self.store, self.device.as_ref(), &self.classes);
    }

    fn value(&self, key: &str) -> f64 {
        let sheet = (self.facts)();
        sheet.values.iter().find(|(k, _)| *k == key).expect("a value").1
    }

    fn stop(self) -> Stopped {
        self.control.stop();
        // Then its books are final.
        while !self.drain.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Self { writer, class, classes, monitor, store, device, facts, control, drain } = self;
        drain.join().expect("the drain");
        let drain = std::thread::spawn(|| {});
        Stopped(Running { writer, class, classes, monitor, store, device, facts, control, drain })
    }
}

struct Stopped(Running);

fn join(writers: Vec<std::thread::JoinHandle<u64>>) -> u64 {
    writers.into_iter().map(|w| w.join().expect("a writer")).sum()
}

/// Every way into the store, in every mode, writers and exchange at once: what the store has is
/// what was written, whole, in order, and says what was lost.
fn all_arrives(adapter: &Wanted) {
    for way in WAYS {
        for mode in Mode::ALL {
            for shape in [(4096, 4, 1), (4096, 8, 16), (64 << 10, 4, 4)] {
                let what = format!("{adapter} {way:?} {mode:?} {shape:?}");
                let run = start(config(adapter, way, Keep::default()), mode, shape);
                let offered = join(run.write(3, 20_000));
                let Stopped(run) = run.stop();
                let books = run.books();
                let mut check = KeptCheck::default();
                run.check(&mut check);
                let found = check.found();
                assert_eq!(books.offered, offered, "{what}");
                assert_eq!(found.records, books.written, "{what}: {books:?}");
                assert_eq!((books.failed, check.overwritten), (0, 0), "{what}");
                assert!(books.written > 0, "{what}");
                if mode == Mode::Overwrite {
                    assert!(books.written <= books.recorded, "{what}");
                } else {
                    assert_eq!(found.packets_lost, 0, "{what}");
                    assert_eq!(found.discarded, books.lost, "{what}");
                }
                let copied = [run.value("copied_bytes"), run.value("uploaded_bytes")];
                let bytes = check.bytes as f64;
                let expected = match way {
                    Way::Staged => [bytes, 0.0],
                    Way::Direct => [0.0, 0.0],
                    _ => [bytes, bytes],
                };
                assert_eq!(copied, expected, "{what}: copied by the GPU, and by the processor");
            }
        }
    }
}

#[test]
fn all_arrives_on_a_device_that_only_copies() {
    all_arrives(&NOOP);
}

#[test]
fn all_arrives_on_a_vulkan_device() {
    if have_gpu("all_arrives_on_a_vulkan_device") {
        // Direct needs shared memory; in CI it is a processor's.
        all_arrives(&Wanted::Kind(Kind::Cpu));
    }
}

/// More than it keeps: the newest stay, in one run, in the room that was given.
fn the_newest_stay(adapter: &Wanted) {
    const KEEP: u64 = 256 << 10;
    for way in WAYS {
        let run = start(config(adapter, way, Keep::Bytes(KEEP)), Mode::Block, (4096, 8, 8));
        let mut longest = 0;
        let writers = run.write(2, 60_000);
        // While writers write, what is read back is whole, too.
        let mut check = KeptCheck::default();
        while writers.iter().any(|w| !w.is_finished()) {
            run.check(&mut check);
            let table = run.store.lock();
            longest = longest.max(table.bytes());
            let numbers: Vec<u64> = table.packets().map(|e| e.number).collect();
            assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{way:?}: a gap: {numbers:?}");
        }
        let offered = join(writers);
        let Stopped(run) = run.stop();
        let books = run.books();
        assert_eq!((books.written, books.lost, books.failed), (offered, 0, 0), "{way:?}");
        run.check(&mut check);
        let mut last = KeptCheck::default();
        run.check(&mut last);
        let table = run.store.lock();
        let (packets, all) = table.came();
        assert_eq!(all, offered, "{way:?}");
        assert!(longest <= KEEP && table.bytes() <= KEEP, "{way:?}: {longest}");
        // No less than what is left when a segment of eight begins anew, packets end in gaps of
        // 256 bytes, and those of a switch timer are short.
        assert!(table.bytes() >= KEEP / 2, "{way:?}: {}", table.bytes());
        assert_eq!(table.packets().last().map(|e| e.number + 1), Some(packets), "{way:?}");
        let (from, to) = table.span().expect("records");
        let half = from + (to - from) / 2;
        let newer = table.packets_in(half, u64::MAX);
        assert!(!newer.is_empty() && newer.len() < table.packets().count(), "{way:?}");
        assert!(newer.iter().all(|e| e.last >= half), "{way:?}");
        assert!(table.packets_in(0, from).is_empty(), "{way:?}: before the first");
        assert!(!table.buffers().is_empty(), "{way:?}");
        let of_last = last.found();
        assert!(of_last.records > 0 && of_last.records < offered, "{way:?}");
    }
}

#[test]
fn the_newest_stay_on_a_device_that_only_copies() {
    the_newest_stay(&NOOP);
}

#[test]
fn the_newest_stay_on_a_vulkan_device() {
    if have_gpu("the_newest_stay_on_a_vulkan_device") {
        the_newest_stay(&Wanted::Kind(Kind::Cpu));
    }
}

/// A time instead of a size: older records go, newer ones do not.
#[test]
fn a_time_is_kept() {
    let keep = Duration::from_millis(300);
    for way in WAYS {
        let run = start(config(&NOOP, way, Keep::Time(keep)), Mode::Block, (1 << 20, 4, 4));
        let end = Instant::now() + 4 * keep;
        let mut seq = 0;
        let longest = |seq: u64| if seq.is_multiple_of(2) { 4000 } else { 10 };
        let (writer, class) = (run.writer.clone(), run.class);
        // More than a segment of it (16 MiB) in each period.
        let writer = std::thread::spawn(move || {
            while Instant::now() < end {
                let bytes = records::record(0, seq, longest(seq));
                let mut r = writer.reserve(class, bytes.len()).expect("room");
                r.write(&bytes);
                r.commit();
                seq += 1;
            }
        });
        writer.join().expect("a writer");
        let Stopped(run) = run.stop();
        let table = run.store.lock();
        let (from, to) = table.span().expect("records");
        let kept = Duration::from_nanos(to - from);
        assert!(kept >= keep, "{way:?}: {kept:?}");
        assert!(kept < 3 * keep, "{way:?}: {kept:?} of {:?}", table.came());
        assert!(table.oldest() > 0, "{way:?}");
    }
}

/// The device is destroyed under the channel's feet: writers go on in ordinary memory, all that
/// is missing is counted, and what comes afterwards is kept.
fn a_lost_device_costs_what_is_counted(adapter: &Wanted) {
    for way in WAYS {
        for mode in [Mode::Block, Mode::Overwrite, Mode::Discard] {
            let what = format!("{adapter} {way:?} {mode:?}");
            let run = start(config(adapter, way, Keep::default()), mode, (4096, 8, 8));
            let writers = run.write(2, 60_000);
            let device = Arc::clone(run.device.as_ref().expect("a device"));
            while run.store.lock().came().0 < 20 {
                std::thread::yield_now();
            }
            device.device.destroy();
            let offered = join(writers);
            // So much more, and it is in the store.
            let after = run.write_as(2..4, 10_000);
            let offered = offered + join(after);
            let Stopped(run) = run.stop();
            let books = run.books();
            assert!(device.is_lost(), "{what}");
            assert_eq!(books.offered, offered, "{what}");
            if mode == Mode::Block {
                assert_eq!(books.lost, 0, "{what}: writers noticed: {books:?}");
            }
            let table = run.store.lock();
            let in_heap = table.packets().all(|e| matches!(e.place, Place::Heap(_)));
            assert!(in_heap, "{what}: what is named is there");
            assert!(table.packets().count() > 0, "{what}: nothing came afterwards");
            let kept: u64 = table.packets().map(|e| e.records).sum();
            let (_, gone) = table.gone();
            drop(table);
            assert!(gone > 0, "{what}");
            // What was on its way may have been placed, and gone, and counted as failed.
            assert!(kept + gone >= books.written, "{what}: {kept} + {gone}, {books:?}");
            assert!(
                kept + gone <= books.written + books.failed,
                "{what}: {kept} + {gone}, {books:?}"
            );
            let words = (run.facts)().words;
            assert!(words.contains("lost, ordinary memory"), "{words}");
            let mut streams = KeptCheck::default();
            streams.read(&run.store, None, &run.classes);
            assert_eq!(streams.found().records, kept, "{what}: what is kept is whole");
        }
    }
}

#[test]
fn a_lost_device_costs_what_is_counted_where_it_only_copies() {
    a_lost_device_costs_what_is_counted(&NOOP);
}

#[test]
fn a_lost_vulkan_device_costs_what_is_counted() {
    if have_gpu("a_lost_vulkan_device_costs_what_is_counted") {
        a_lost_device_costs_what_is_counted(&Wanted::Kind(Kind::Cpu));
    }
}

/// Panics when it has been told so often.
struct Panics {
    left: u32,
    in_heap: Arc<AtomicU64>,
}

impl Arrival for Panics {
    fn in_gpu(&mut self, _: &GpuDevice, _: &mut CommandEncoder, packets: &[PacketEntry]) {
        assert!(!packets.is_empty());
        self.left = self.left.checked_sub(1).expect("the driver's own trouble");
    }
    fn in_heap(&mut self, packet: &PacketEntry, bytes: &[u8]) {
        assert_eq!(packet.bytes, bytes.len() as u64);
        self.in_heap.fetch_add(1, Ordering::Relaxed);
    }
    fn forgotten(&mut self, _: u64) {}
}

/// A driver that panics on the device's own thread is a lost device.
#[test]
fn a_driver_that_panics_is_a_lost_device() {
    for way in WAYS {
        let run = start(config(&NOOP, way, Keep::default()), Mode::Block, (4096, 8, 8));
        let in_heap = Arc::new(AtomicU64::new(0));
        run.store.on_arrival(Box::new(Panics { left: 3, in_heap: Arc::clone(&in_heap) }));
        let offered = join(run.write(2, 30_000));
        let Stopped(run) = run.stop();
        let books = run.books();
        assert_eq!((books.offered, books.lost), (offered, 0), "{way:?}: {books:?}");
        assert!(books.failed > 0 && books.written > 0, "{way:?}: {books:?}");
        let kept = run.store.lock().packets().count() as u64;
        assert_eq!(in_heap.load(Ordering::Relaxed), kept, "{way:?}: told of each");
        assert!(kept > 0, "{way:?}");
    }
}

/// What is told of packets is told once, in their order, in the GPU's own order of work.
struct Counts {
    next: u64,
    records: Arc<AtomicU64>,
    oldest: Arc<AtomicU64>,
    wrong: Arc<AtomicBool>,
}

impl Arrival for Counts {
    fn in_gpu(&mut self, _: &GpuDevice, _: &mut CommandEncoder, packets: &[PacketEntry]) {
        for packet in packets {
            if packet.number != self.next {
                self.wrong.store(true, Ordering::Relaxed);
            }
            self.next += 1;
            self.records.fetch_add(packet.records, Ordering::Relaxed);
        }
    }
    fn in_heap(&mut self, _: &PacketEntry, _: &[u8]) {
        self.wrong.store(true, Ordering::Relaxed);
    }
    fn forgotten(&mut self, oldest: u64) {
        self.oldest.fetch_max(oldest, Ordering::Relaxed);
    }
}

#[test]
fn who_indexes_is_told_of_each_packet_once() {
    for way in WAYS {
        let keep = Keep::Bytes(128 << 10);
        let run = start(config(&NOOP, way, keep), Mode::Block, (4096, 8, 8));
        let (records, oldest, wrong) = <(Arc<_>, Arc<_>, Arc<AtomicBool>)>::default();
        run.store.on_arrival(Box::new(Counts {
            next: 0,
            records: Arc::clone(&records),
            oldest: Arc::clone(&oldest),
            wrong: Arc::clone(&wrong),
        }));
        let offered = join(run.write(2, 30_000));
        let Stopped(run) = run.stop();
        assert!(!wrong.load(Ordering::Relaxed), "{way:?}");
        assert_eq!(records.load(Ordering::Relaxed), offered, "{way:?}");
        assert_eq!(oldest.load(Ordering::Relaxed), run.store.lock().oldest(), "{way:?}");
    }
}

/// Records through mapped memory while it is exchanged, in rounds that the store holds: none is
/// lost, none is torn. `RBPIPE_LONG`: 10^8 of them, else 10^6.
#[test]
fn a_hundred_million_records_are_whole() {
    let long = std::env::var_os("RBPIPE_LONG").is_some();
    if !have_gpu("a_hundred_million_records_are_whole") {
        return;
    }
    let rounds = if long { 20 } else { 2 };
    let each: u64 = if long { 2_500_000 } else { 250_000 };
    for way in [Way::Staged, Way::Direct] {
        let adapter = Wanted::Kind(Kind::Cpu);
        let run = start(config(&adapter, way, Keep::default()), Mode::Block, (64 << 10, 8, 16));
        let mut check = KeptCheck::default();
        let began = Instant::now();
        let mut sequence = 0;
        for _ in 0..rounds {
            let writers: Vec<_> = (0..2)
                .map(|w| {
                    let (writer, class, from) = (run.writer.clone(), run.class, sequence);
                    std::thread::spawn(move || {
                        for seq in from..from + each {
                            let bytes = records::record(w, seq, (seq % 9) as usize);
                            let mut r = writer.reserve(class, bytes.len()).expect("room");
                            r.write(&bytes);
                            r.commit();
                        }
                        each
                    })
                })
                .collect();
            sequence += each;
            let half = join(writers) / 2;
            assert_eq!(half, each);
            // All of this round's that is in the store by now; the rest with the next one.
            run.check(&mut check);
        }
        let Stopped(run) = run.stop();
        let books = run.books();
        run.check(&mut check);
        let found = check.found();
        let offered = 2 * rounds * each;
        assert_eq!((books.offered, books.recorded, books.written), (offered, offered, offered));
        assert_eq!((books.lost, books.failed, check.overwritten), (0, 0, 0), "{way:?}");
        assert_eq!((found.records, found.packets_lost), (offered, 0), "{way:?}");
        eprintln!(
            "{way:?}: {offered} records in {} packets, {:.1} s: {}",
            found.packets,
            began.elapsed().as_secs_f64(),
            (run.facts)().words
        );
    }
}
