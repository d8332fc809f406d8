//! How long does it take to count a picture of many events? A density frame from the index on
//! the GPU (lavapipe where there is none of hardware), asked for to read back, of 10 and of 100
//! million events in 16 streams whose packets lie between each other's; the walker that makes
//! the index; a scan of all events by the GPU and by its twin on the processor; who ran, what
//! threads did and a field's values, of a tenth of the events, by both; and a memory
//! copy in the same run, which none of them can pass. Medians, with the least and the greatest.

use std::hint::black_box;
use std::sync::Arc;

use rbpipe_backends::gpu::compute::{Arrival, Compute, Index, Lane, Run, Timeline, Wanted};
use rbpipe_backends::gpu::wgpu;
use rbpipe_backends::timeline::{
    self, Aggregate, Entry, Filter, Kind, Place, Transition, Value, Window, count, count_threads,
    density, walk,
};
use rbpipe_benches::{measuring, seconds, spread};
use rbpipe_core::class::{EventClass, Field, FieldType};
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::RecordHeader;

const STREAMS: u32 = 16;
/// Records of a packet.
const PACKET: usize = 4000;
/// Entries of a page of the index.
const PAGE: u32 = 1 << 16;
const COLUMNS: u32 = 1600;
/// Of classes that are counted, one in four.
const CLASSES: u32 = 16;

fn main() {
    let Some((device, queue, name)) = device() else {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        assert!(!ci, "no Vulkan adapter, and CI is to have one: install mesa-vulkan-drivers");
        eprintln!("SKIPPED: no Vulkan adapter; Debian's mesa-vulkan-drivers has one");
        return;
    };
    println!("{name}, {STREAMS} streams, {COLUMNS} columns; ms [min max], and what that is\n");
    let (sizes, rounds): (&[usize], _) =
        if measuring() { (&[1_000_000, 10_000_000, 100_000_000], 15) } else { (&[100_000], 1) };
    for events in sizes {
        let rounds = if *events > 50_000_000 { rounds.min(7) } else { rounds };
        frames(&device, &queue, *events, rounds);
        // The transitions of more are longer than a buffer that can be bound (the product's rings
        // of them never are).
        if *events <= 10_000_000 {
            lanes(&device, &queue, *events, rounds);
        }
    }
    walker(&device, &queue, if measuring() { 10_000_000 } else { 50_000 }, rounds);
}

fn device() -> Option<(wgpu::Device, wgpu::Queue, String)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.ok()?;
    let wanted = wgpu::DeviceDescriptor {
        required_limits: adapter.limits(),
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&wanted)).ok()?;
    Some((device, queue, adapter.get_info().name))
}

/// So many entries of a stream, sorted: some ten nanoseconds to some microseconds apart.
fn stream(number: u32, events: usize) -> Vec<Entry> {
    let mut random = fastrand(u64::from(number) + 1);
    let mut time = 1 << 40;
    let entry = |i: usize| {
        let r = random();
        time += r & 0x3ff;
        Entry::new(time, (r >> 32) as u32 % CLASSES, i as u32 * 16)
    };
    (0..events).map(entry).collect()
}

/// A small xorshift.
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    }
}

/// Medians of rounds, in milliseconds, and how many things a second that is.
fn row(what: &str, things: f64, unit: &str, times: Vec<f64>) -> f64 {
    let (low, mid, high) = spread(times.iter().map(|t| t * 1e3).collect());
    let rate = things / mid * 1e3;
    println!("  {what:44} {mid:9.2} [{low:.2} {high:.2}]   {rate:10.1} {unit}");
    mid
}

/// An index of these streams' entries in buffers of the device's.
fn index(
    compute: &Compute,
    (device, queue): (&wgpu::Device, &wgpu::Queue),
    streams: &[Vec<Entry>],
) -> (Vec<wgpu::Buffer>, Vec<Run>) {
    let all: usize = streams.iter().map(Vec::len).sum();
    let per_buffer = (compute.binding_size() / 16 / u64::from(PAGE)) as u32;
    let pages = all as u32 / PAGE + 2 * STREAMS;
    let mut index = Index::new(PAGE, per_buffer, pages);
    let buffers: Vec<wgpu::Buffer> = (0..pages.div_ceil(per_buffer))
        .map(|_| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: u64::from(per_buffer) * u64::from(PAGE) * 16,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
        .collect();
    let mut at = 0;
    let mut bytes = Vec::new();
    while at < all.div_ceil(streams.len()) {
        for (number, stream) in (0u32..).zip(streams) {
            let mut packet = &stream[at.min(stream.len())..(at + PACKET).min(stream.len())];
            while let [first, .., last] | [first @ last] = packet {
                let (begin, end) = (first.time(), last.time());
                let part = index.place(number, packet.len() as u32, begin, end).expect("room");
                let (mine, rest) = packet.split_at(part.len as usize);
                packet = rest;
                bytes.clear();
                let words = mine.iter().flat_map(|e| [e.low, e.high, e.class, e.offset]);
                words.for_each(|w| bytes.extend(w.to_ne_bytes()));
                queue.write_buffer(&buffers[part.buffer], u64::from(part.first) * 16, &bytes);
            }
        }
        at += PACKET;
        // What is written waits in memory for the next submission.
        if at % (PACKET * 64) == 0 {
            queue.submit([]);
            device.poll(wgpu::PollType::wait_indefinitely()).expect("a device");
        }
    }
    queue.submit([]);
    device.poll(wgpu::PollType::wait_indefinitely()).expect("a device");
    (buffers, index.runs())
}

fn frames(device: &wgpu::Device, queue: &wgpu::Queue, events: usize, rounds: usize) {
    let compute = Compute::new(device, queue);
    let streams: Vec<Vec<Entry>> =
        (0..STREAMS).map(|s| stream(s, events / STREAMS as usize)).collect();
    let (buffers, runs) = index(&compute, (device, queue), &streams);
    let to = streams.iter().filter_map(|s| s.last()).map(Entry::time).max().unwrap_or(0) + 1;
    let window = Window { from: 1 << 40, to, columns: COLUMNS };
    let filter = Filter::of((0..CLASSES).filter(|c| c % 4 == 0));
    let wanted = Wanted::from(&filter);
    let mega = events as f64 / 1e6;
    println!("{mega} million events, {} runs in {} buffers", runs.len(), buffers.len());

    let gpu_density = || compute.density(&buffers, &runs, STREAMS, &window).expect("bins");
    let gpu_scan = || compute.count(&buffers, &runs, STREAMS, &window, &wanted).expect("bins");
    let twin =
        |f: &dyn Fn(&[Entry]) -> Vec<u32>| streams.iter().flat_map(|s| f(s)).collect::<Vec<u32>>();
    // What is measured is right.
    let bins = gpu_density().wait().expect("a frame");
    assert_eq!(bins, twin(&|s| density(s, &window)));
    assert_eq!(bins.iter().map(|n| *n as usize).sum::<usize>(), events / 16 * 16);
    assert_eq!(gpu_scan().wait().expect("a frame"), twin(&|s| count(s, &window, &filter)));

    let mut times: [Vec<f64>; 7] = Default::default();
    let mut device_copy = copies(device, queue);
    let mut copy = vec![0u8; 64 << 20];
    let from = vec![1u8; copy.len()];
    for round in 0..rounds {
        times[0].push(seconds(|| drop(black_box(gpu_density().wait()))));
        times[1].push(seconds(|| drop(black_box(twin(&|s| density(s, &window))))));
        if round < 5 {
            times[2].push(seconds(|| drop(black_box(gpu_scan().wait()))));
            times[3].push(seconds(|| drop(black_box(twin(&|s| count(s, &window, &filter))))));
            let two = |s: &[Entry]| count_threads(s, &window, &filter, 2);
            times[4].push(seconds(|| drop(black_box(twin(&two)))));
            times[5].push(seconds(|| {
                black_box(&mut copy).copy_from_slice(black_box(&from));
            }));
            times[6].push(seconds(&mut device_copy));
        }
    }
    let [frame, search, scan, one, two, copied, on_device] = times;
    row("density frame from the index, GPU", mega, "M events/s", frame);
    row("the same search on the processor, 1 thread", mega, "M events/s", search);
    let scan = row("scan with a filter, GPU", mega, "M events/s", scan);
    row("scan with a filter, twin, 1 thread", mega, "M events/s", one);
    row("scan with a filter, twin, 2 threads", mega, "M events/s", two);
    let copied = row("memory copy of 64 MiB", 67.1e-3, "GB/s", copied);
    let (scanned, copy) = (mega * 16e-3 / scan * 1e3, 67.1e-3 / copied * 1e3);
    println!("  GPU scan {scanned:.2} GB/s, {:.2} of the copy's", scanned / copy);
    let moved = (2 * COPIES * COPY) as f64 / 1e9;
    let on_device = moved / row("copies on the device, read and written", moved, "GB/s", on_device);
    println!(
        "  GPU scan {:.2} of what the device reads and writes then\n",
        scanned / on_device / 1e3
    );
}

/// Bytes of a copy on the device, and how many are made at once.
const COPY: u64 = 128 << 20;
const COPIES: u64 = 8;

/// Copies from one buffer of the device's to another, and waits for it: what its memory can do.
fn copies<'a>(device: &'a wgpu::Device, queue: &'a wgpu::Queue) -> impl FnMut() + 'a {
    let buffers = [0, 1].map(|_| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: COPY,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    });
    move || {
        let mut encoder = device.create_command_encoder(&Default::default());
        for _ in 0..COPIES {
            encoder.copy_buffer_to_buffer(&buffers[0], 0, &buffers[1], 0, Some(COPY));
        }
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).expect("a device");
    }
}

/// Who ran on each CPU, and a field's values, where a tenth of the events tell them: beside the
/// density frame of all of them.
fn lanes(device: &wgpu::Device, queue: &wgpu::Queue, events: usize, rounds: usize) {
    let compute = Compute::new(device, queue);
    let each = events / 10 / STREAMS as usize;
    let (mut states, mut values) = (Vec::new(), Vec::new());
    for number in 0..STREAMS {
        let mut random = fastrand(u64::from(number) + 100);
        let (mut time, mut ran) = (1 << 40, 1);
        let mut one = |_| {
            let r = random();
            // A tenth as often as other events; every other time nobody runs. Who leaves sleeps.
            time += (r & 0x3ff) * 10;
            let pid = if r >> 20 & 1 == 0 { 0 } else { (r >> 32) as u32 % 300 };
            let left = std::mem::replace(&mut ran, 1 + pid);
            let switch = Transition::telling(time, 1 + pid, Kind::LeftAsleep, left);
            (switch, Value::new(time, i64::from(pid)))
        };
        let (mine, mine_too): (Vec<_>, Vec<_>) = (0..each).map(&mut one).unzip();
        states.push(mine);
        values.push(mine_too);
    }
    let to = states.iter().filter_map(|s| s.last()).map(Transition::time).max().unwrap_or(0) + 1;
    let window = Window { from: 1 << 40, to, columns: COLUMNS };
    let buffer = |words: Vec<u32>| {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: words.len().max(4) as u64 * 4,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        queue.write_buffer(&buffer, 0, &bytes);
        buffer
    };
    let words = |t: &Transition| [t.low, t.high, t.state, t.told];
    let transitions = buffer(states.iter().flatten().flat_map(words).collect());
    let words = |v: &Value| [v.low, v.high, v.value_low, v.value_high];
    let buffers = [buffer(values.iter().flatten().flat_map(words).collect())];
    let size = each as u32;
    let rings: Vec<Lane> = (0..STREAMS)
        .map(|s| Lane { base: s * size, capacity: size, first: 0, len: size })
        .collect();
    let runs: Vec<Run> = (0..STREAMS)
        .map(|s| Run { buffer: 0, first: s * size, len: size, begin: 0, end: u64::MAX, row: 0 })
        .collect();
    let gpu_states = || compute.states(&transitions, &rings, &window, to).expect("bins").wait();
    let gpu_values = || compute.aggregate(&buffers, &runs, 1, &window).expect("bins").wait();
    let twin_states =
        || states.iter().flat_map(|s| timeline::states(s, &window, to)).collect::<Vec<_>>();
    let twin_values = || {
        let mut all = vec![Aggregate::NONE; COLUMNS as usize];
        for values in &values {
            let found = timeline::aggregate(values, &window);
            all.iter_mut().zip(found).for_each(|(sum, one)| *sum = sum.and(one));
        }
        all
    };
    // What half a screen of lanes has, of as many processes.
    let tasks: Vec<u32> = (2..42).collect();
    let gpu_threads = || {
        let times = (window.from, to);
        compute.threads(&transitions, &rings, &window, times, &tasks).expect("bins").wait()
    };
    let slices: Vec<&[Transition]> = states.iter().map(|s| &s[..]).collect();
    let twin_threads = || timeline::threads(&slices, &window, (window.from, to), &tasks);
    assert_eq!(gpu_threads().expect("a frame"), twin_threads());
    assert_eq!(gpu_states().expect("a frame"), twin_states());
    assert_eq!(gpu_values().expect("a frame"), twin_values());
    let mut times: [Vec<f64>; 6] = Default::default();
    for _ in 0..rounds {
        times[0].push(seconds(|| drop(black_box(gpu_states()))));
        times[1].push(seconds(|| drop(black_box(twin_states()))));
        times[2].push(seconds(|| drop(black_box(gpu_values()))));
        times[3].push(seconds(|| drop(black_box(twin_values()))));
        times[4].push(seconds(|| drop(black_box(gpu_threads()))));
        times[5].push(seconds(|| drop(black_box(twin_threads()))));
    }
    let mega = (each * STREAMS as usize) as f64 / 1e6;
    let [states, twin, values, other, threads, alike] = times;
    println!("of them {mega} million that tell who runs, {STREAMS} CPUs");
    row("frame of who ran, GPU", mega, "M transitions/s", states);
    row("its twin, 1 thread", mega, "M transitions/s", twin);
    row("frame of what 40 threads did, GPU", mega, "M transitions/s", threads);
    row("its twin, 1 thread", mega, "M transitions/s", alike);
    row("frame of values, GPU", mega, "M values/s", values);
    row("its twin, 1 thread", mega, "M values/s", other);
    println!();
}

/// Packets of records of 16 bytes, some with text: their entries made on arrival, 64 at once.
fn walker(device: &wgpu::Device, queue: &wgpu::Queue, events: usize, rounds: usize) {
    let fields = vec![Field::new("a", FieldType::U32), Field::new("b", FieldType::U64)];
    let fixed = EventClass::new("fixed", fields);
    let text = EventClass::new("text", vec![Field::new("s", FieldType::String)]);
    for (what, class, payload) in [
        ("records of 16 bytes", 0, &[7u8; 12]),
        ("records with text of 11 bytes", 1, b"hello walk!\0"),
    ] {
        let mut bytes = vec![0u8; 84];
        for i in 0..PACKET as u64 {
            bytes.extend(RecordHeader::compact(class, (1 << 40) + i * 100));
            bytes.extend(payload);
        }
        let content = bytes.len() as u32;
        bytes.resize(bytes.len().next_multiple_of(256), 0);
        let stride = bytes.len();
        let data = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (stride * 64) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        queue.write_buffer(&data, 0, &bytes.repeat(64));
        let mut timeline = Timeline::new(device, queue, 4_000_000).expect("an index");
        timeline.classes([&fixed, &text]);
        let end = (1 << 40) + PACKET as u64 * 100;
        let whole = Place {
            header: 84,
            content,
            begin: 1 << 40,
            end,
            base: 0,
            skip: 0,
            room: PACKET as u32,
        };
        let packets: Vec<Arrival<'_>> = (0..64u32)
            .map(|i| Arrival {
                stream: i % STREAMS,
                data: &data,
                offset: i * stride as u32,
                place: whole,
                lost: None,
            })
            .collect();
        let batches = (events / PACKET / 64).max(1);
        let mut times = Vec::new();
        let mut encoding = Vec::new();
        for _ in 0..rounds.min(5) {
            let mut encoded = 0.0;
            times.push(seconds(|| {
                for _ in 0..batches {
                    let mut encoder = device.create_command_encoder(&Default::default());
                    encoded += seconds(|| {
                        timeline.arrive(&mut encoder, &packets).expect("it fits");
                    });
                    queue.submit([encoder.finish()]);
                }
                device.poll(wgpu::PollType::wait_indefinitely()).expect("a device");
            }));
            encoding.push(encoded / (batches * 64) as f64 * 1e6);
        }
        let totals = timeline.ask_totals().wait().expect("totals");
        let made = (rounds.min(5) * batches * 64 * PACKET) as u64;
        assert_eq!((u64::from(totals.records), totals.missing), (made & 0xffff_ffff, 0));
        let walked = (batches * 64 * PACKET) as f64 / 1e6;
        println!("{walked} million {what}, {batches} batches of 64 packets");
        row("walker, GPU", walked, "M records/s", times);
        let (low, mid, high) = spread(encoding);
        println!("  of it our own thread's: {mid:.2} [{low:.2} {high:.2}] µs a packet");
        let classes = Classes::new([fixed.clone(), text.clone()].map(Arc::new));
        let twin = (0..rounds.min(5)).map(|_| {
            seconds(|| {
                for _ in 0..64 {
                    drop(black_box(walk(&bytes, &whole, &classes)));
                }
            })
        });
        row("its twin, 1 thread", 64.0 * PACKET as f64 / 1e6, "M records/s", twin.collect());
    }
}
