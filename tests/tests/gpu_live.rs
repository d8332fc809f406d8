//! Goal: the live picture's counts are those of the records that are in the store, whatever way
//! they came, while they come, and after the device was lost. Method: writers of two classes, one
//! of which is new in the middle, with records that are given up; frames all the while; at the end
//! the store is read back and counted by the twins. On a Vulkan device, be it in software.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rbpipe_backends::gpu::compute::{Asking, Live};
use rbpipe_backends::gpu::{Config, Gpu, GpuDevice, Keep, Kind, Store, Wanted, Way};
use rbpipe_backends::timeline::{self, Entry, Filter, Rows, Window, walk};
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams, Writer};
use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::decode::Classes;
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::have_gpu;

const WAYS: [Way; 3] = [Way::Staged, Way::Direct, Way::Heap];

/// A channel that runs, and its picture.
struct Running {
    live: Arc<Live>,
    store: Arc<Store>,
    device: Arc<GpuDevice>,
    registry: Arc<ClassRegistry>,
    writer: Writer,
    control: Control,
    drain: JoinHandle<()>,
}

fn start(way: Way) -> Running {
    start_with(Config { adapter: Wanted::Kind(Kind::Cpu), memory: way, ..Config::default() })
}

fn start_with(config: Config) -> Running {
    let registry = Arc::new(ClassRegistry::new());
    let geometry = Geometry::new(4096, 8, 8, 84).expect("a geometry");
    let classes = Arc::clone(&registry);
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Block, classes };
    let backend = Gpu::open(config, &plan, &Context::new("live")).expect("it opens");
    let (store, device) = (Arc::clone(backend.store()), backend.device().cloned());
    let classes = Arc::clone(&registry);
    let live = Live::watch(&store, device.as_ref(), classes, 1 << 20, Asking::default())
        .expect("an index");
    let options = ChannelOptions {
        plan,
        streams: Streams::PerThread(4),
        block_timeout: Some(Duration::from_secs(20)),
        switch_timer: Some(Duration::from_millis(20)),
        read_timer: Some(Duration::from_millis(1)),
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let writer = channel.writer();
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = thread::spawn(move || {
        let mut notice = |n: Notice| assert!(matches!(n, Notice::Stalled { .. }), "{n}");
        channel.run(&asked, Duration::from_secs(5), &mut notice).expect("it closes");
    });
    let (live, device) = (Arc::new(live), device.expect("a device"));
    Running { live, store, device, registry, writer, control, drain }
}

/// Records of fixed size, from the middle on others with text between them, and every 50th is
/// given up. Gives how many were not.
fn write(run: &Running, count: u64) -> JoinHandle<u64> {
    let (writer, registry) = (run.writer.clone(), Arc::clone(&run.registry));
    let fixed = EventClass::new("fixed", vec![Field::new("n", FieldType::U64)]);
    let text = EventClass::new("text", vec![Field::new("s", FieldType::String)]);
    thread::spawn(move || {
        let fixed = registry.register(fixed).expect("a class");
        let mut written = 0;
        for n in 0..count {
            let late = n > count / 2 && n % 3 == 0;
            let bytes = if late {
                "text\0".as_bytes()[n as usize % 5..].to_vec()
            } else {
                n.to_le_bytes().to_vec()
            };
            let class =
                if late { registry.register(text.clone()).expect("a class") } else { fixed };
            let mut record = writer.reserve(class, bytes.len()).expect("room");
            if n % 50 == 7 {
                continue;
            }
            record.write(&bytes);
            record.commit();
            written += 1;
        }
        written
    })
}

fn all() -> Window {
    Window { from: 0, to: u64::MAX, columns: 3 }
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Vec<u32>>) -> u64 {
    rows.into_iter().flatten().map(|n| u64::from(*n)).sum()
}

fn stop(run: Running) -> (Arc<Live>, Arc<Store>, Arc<GpuDevice>, Classes) {
    run.control.stop();
    run.drain.join().expect("the drain");
    (run.live, run.store, run.device, Classes::new(run.registry.all()))
}

/// The entries of what the store keeps, by stream.
fn entries(store: &Store, device: &Arc<GpuDevice>, classes: &Classes) -> Vec<(u32, Vec<Entry>)> {
    let mut streams: Vec<(u32, Vec<Entry>)> = Vec::new();
    let device = (!device.is_lost()).then_some(device);
    for (packet, bytes) in store.read_back(device, 0).expect("it can be read back") {
        let place = timeline::Place {
            header: packet.stream.class.header_size(),
            content: packet.content as u32,
            begin: packet.first,
            end: packet.last,
            base: 0,
            skip: 0,
            room: packet.records as u32,
        };
        let walked = walk(&bytes, &place, classes);
        assert_eq!(walked.entries.len() as u64, packet.records, "aborted ones are no records");
        let id = packet.stream.id;
        match streams.iter_mut().find(|(s, _)| *s == id) {
            Some((_, entries)) => entries.extend(walked.entries),
            None => streams.push((id, walked.entries)),
        }
    }
    streams
}

/// Each count of the live picture is that of these entries.
fn agrees(live: &Live, streams: &[(u32, Vec<Entry>)], what: &str) {
    let times = || streams.iter().flat_map(|(_, e)| e).map(Entry::time);
    let (from, to) = (times().min().expect("records"), times().max().expect("records") + 1);
    let half = from + (to - from) / 2;
    for window in [all(), Window { from, to, columns: 700 }, Window { from: half, to, columns: 9 }]
    {
        let filter = Filter::of([1]);
        let density = live.density(&window).expect("a frame");
        let texts = live.count(&window, &filter).expect("a frame");
        for (id, entries) in streams {
            let row = |rows: &[(Arc<_>, Vec<u32>)]| -> Vec<u32> {
                let is_it = |(s, _): &&(Arc<rbpipe_core::backend::StreamInfo>, _)| s.id == *id;
                rows.iter().find(is_it).expect("a row").1.clone()
            };
            assert_eq!(row(&density), timeline::density(entries, &window), "{what}");
            assert_eq!(row(&texts), timeline::count(entries, &window, &filter), "{what}");
        }
        let every: Vec<Entry> = streams.iter().flat_map(|(_, e)| e.clone()).collect();
        let by_class = live.by_class(&window, &[1, 0]).expect("a frame");
        let plain = timeline::count_rows(&every, &window, &Rows::each(&[1, 0]));
        assert_eq!(by_class, plain, "{what}");
        assert!(sum([&by_class]) > 0, "{what}");
    }
}

#[test]
fn frames_count_what_the_store_has() {
    if !have_gpu("frames_count_what_the_store_has") {
        return;
    }
    for way in WAYS {
        let what = format!("{way:?}");
        let run = start(way);
        let writers = [write(&run, 60_000), write(&run, 60_000)];
        let done = Arc::new(AtomicBool::new(false));
        let (live, over) = (Arc::clone(&run.live), Arc::clone(&done));
        let frames = thread::spawn(move || {
            let (mut last, mut frames) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let rows = live.density(&all()).expect("a frame");
                let events = sum(rows.iter().map(|(_, bins)| bins));
                assert!(events >= last, "{events} after {last}");
                (last, frames) = (events, frames + 1);
            }
            frames
        });
        let written: u64 = writers.into_iter().map(|w| w.join().expect("a writer")).sum();
        let (live, store, device, classes) = stop(run);
        done.store(true, Ordering::Relaxed);
        let frames: u64 = frames.join().expect("frames");
        assert!(frames > 3, "{what}: {frames} frames");
        let streams = entries(&store, &device, &classes);
        assert_eq!(streams.iter().map(|(_, e)| e.len() as u64).sum::<u64>(), written, "{what}");
        agrees(&live, &streams, &what);
        let (totals, failed) = live.totals();
        assert_eq!((totals.missing, totals.damaged, failed), (0, 0, 0), "{what}");
        assert_eq!((u64::from(totals.records), totals.aborted), (written, 2 * 1200), "{what}");
    }
}

#[test]
fn a_lost_device_leaves_a_picture_of_what_is_kept() {
    if !have_gpu("a_lost_device_leaves_a_picture_of_what_is_kept") {
        return;
    }
    for way in WAYS {
        let run = start(way);
        let first = write(&run, 20_000);
        while run.store.lock().came().0 < 5 {
            thread::yield_now();
        }
        run.device.device.destroy();
        first.join().expect("a writer");
        write(&run, 20_000).join().expect("a writer");
        let (live, store, device, classes) = stop(run);
        assert!(device.is_lost());
        agrees(&live, &entries(&store, &device, &classes), &format!("{way:?}"));
    }
}

#[test]
fn what_the_store_forgot_is_not_counted() {
    if !have_gpu("what_the_store_forgot_is_not_counted") {
        return;
    }
    let (adapter, keep) = (Wanted::Kind(Kind::Cpu), Keep::Bytes(256 << 10));
    let run = start_with(Config { adapter, memory: Way::Staged, keep, ..Config::default() });
    // From now on packets are in ordinary memory.
    run.device.device.destroy();
    write(&run, 60_000).join().expect("a writer");
    let (live, store, device, classes) = stop(run);
    assert!(device.is_lost());
    let (packets, _) = store.lock().came();
    let kept = store.lock().packets().count() as u64;
    assert!(0 < kept && kept < packets / 2, "{kept} of {packets}");
    agrees(&live, &entries(&store, &device, &classes), "of 256 KiB");
}
