//! What does a record cost a writer in mapped memory, beside ordinary memory, in turns in one run?
//! What does handing over a sub-buffer of 64 KiB cost the device's own thread (unmap, encode,
//! submit, new view) at 16 in a submission? And at what rate do bytes come into the store, beside
//! the same bytes copied by the processor from as many sub-buffers to as much memory, in one run?
//!
//! `cargo bench --bench gpu -- rate` asks one of them: `writer`, `hand-over`, `rate`.
//!
//! On a GPU in software the "GPU" is this processor: no figure says how a card behaves.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::gpu::{Config, Gpu, Keep, Wanted, Way, adapters};
use rbpipe_backends::pages::{self, Pages};
use rbpipe_benches::{channel_in, measuring, payload, seconds, spread};
use rbpipe_core::backend::{Backend, ChannelPlan, Context, Facts};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};

const SUBBUF: u64 = 64 << 10;
/// A ring that fits into a processor's cache, so that memory is not what is measured.
const RING: u32 = 8;

fn config(adapter: &Wanted, memory: Way, keep: u64) -> Config {
    Config { adapter: adapter.clone(), memory, keep: Keep::Bytes(keep), ..Config::default() }
}

/// Nanoseconds a record, in a ring that goes round and round: nobody takes packets.
fn writes<B: Backend>((channel, class): &(Channel<B>, ClassId), bytes: &[u8], count: u64) -> f64 {
    let writer = channel.writer();
    let time = seconds(|| {
        for _ in 0..count {
            let _ = black_box(writer.record(*class, black_box(bytes)));
        }
    });
    time * 1e9 / count as f64
}

fn writer_cost(adapter: &Wanted) {
    let (rounds, count) = if measuring() { (41, 400_000) } else { (1, 1000) };
    let context = Context::new("bench");
    let open = |way| {
        let ring = (SUBBUF, RING, 16);
        let config = config(adapter, way, 64 << 20);
        channel_in::<Gpu>(&context, config, Mode::Overwrite, Streams::Single, ring)
    };
    let (mapped, own) = (open(Way::Staged), open(Way::Heap));
    let pages = channel_in::<Pages>(
        &context,
        pages::Config::default(),
        Mode::Overwrite,
        Streams::Single,
        (SUBBUF, RING, 16),
    );
    for size in [4, 32, 256] {
        let bytes = payload(size);
        let (mut ns, mut ratios) = ([vec![], vec![], vec![]], [vec![], vec![]]);
        for _ in 0..rounds {
            let p = writes(&pages, &bytes, count);
            let o = writes(&own, &bytes, count);
            let m = writes(&mapped, &bytes, count);
            ratios[0].push(m / p);
            ratios[1].push(o / p);
            ns.iter_mut().zip([p, o, m]).for_each(|(all, v)| all.push(v));
        }
        let [p, o, m] = ns.map(|v| spread(v).1);
        let [of_mapped, of_own] = ratios.map(spread);
        println!(
            "writer, {size:>3} bytes: pages {p:5.1} ns, gpu heap {o:5.1}, mapped {m:5.1}; mapped / \
             pages {:.3} [{:.3}..{:.3}], gpu heap / pages {:.3}",
            of_mapped.1, of_mapped.0, of_mapped.2, of_own.1
        );
    }
}

/// Records of `size` bytes, `total` bytes of them, through a channel that is drained: seconds, and
/// what the backend has to say.
fn through(config: Config, (count, reader): (u32, u32), size: usize, total: u64) -> (f64, Facts) {
    let classes = Arc::new(ClassRegistry::new());
    let field = FieldType::Sequence(Box::new(FieldType::U8));
    let class = EventClass::new("bench:record", vec![Field::new("payload", field)]);
    let class = classes.register(class).expect("a class");
    let geometry = Geometry::new(SUBBUF, count, reader, 84).expect("a geometry");
    let plan = ChannelPlan { name: "bench".into(), geometry, mode: Mode::Block, classes };
    let backend = Gpu::open(config, &plan, &Context::new("bench")).expect("it opens");
    let facts = backend.facts().expect("it has facts");
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: Some(Duration::from_secs(20)),
        switch_timer: None,
        read_timer: Some(Duration::from_millis(1)),
        prefault: true,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, control) = (channel.writer(), Control::new(channel.waker()));
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(5), &mut |n| eprintln!("{n}")).expect("it closes");
    });
    let bytes = payload(size);
    let records = total / (size as u64 + 4);
    let time = seconds(|| {
        for _ in 0..records {
            writer.record(class, &bytes).expect("room");
        }
        control.stop();
        drain.join().expect("the drain");
    });
    (time, facts)
}

fn value(facts: &Facts, key: &str) -> f64 {
    facts().values.iter().find(|(k, _)| *k == key).expect("a value").1
}

/// The device's thread's own time for a sub-buffer.
fn hand_over(adapter: &Wanted) {
    let (rounds, total) = if measuring() { (9, 1 << 30) } else { (1, 4 << 20) };
    // Of 32 memories half is handed over at once.
    for (way, reader) in [(Way::Staged, 32), (Way::Staged, 64), (Way::Direct, 32), (Way::Heap, 32)]
    {
        let (mut us, mut each) = (vec![], vec![]);
        for _ in 0..rounds {
            let config = config(adapter, way, 128 << 20);
            let (_, facts) = through(config, (2 * reader, reader), 32, total);
            us.push(value(&facts, "hand_over_us"));
            each.push(value(&facts, "packets_each"));
        }
        let ((least, middle, most), each) = (spread(us), spread(each).1);
        println!(
            "hand-over, {:<6} {each:>4.1} in a submission: {middle:.2} us [{least:.2}..{most:.2}] \
             of its thread for 64 KiB",
            way.name()
        );
    }
}

/// Bytes per second into the store, beside a copy by the processor.
fn rate(adapter: &Wanted) {
    let (rounds, total) = if measuring() { (9, 2u64 << 30) } else { (1, 8 << 20) };
    const KEEP: u64 = 128 << 20;
    let ring = vec![7u8; (SUBBUF * u64::from(RING)) as usize];
    let mut store = vec![1u8; KEEP as usize];
    for way in [Way::Staged, Way::Direct, Way::Heap] {
        let (mut copy, mut into, mut ratio) = (vec![], vec![], vec![]);
        for _ in 0..rounds {
            let time = seconds(|| {
                let from = ring.chunks(SUBBUF as usize).cycle();
                let parts = (KEEP / SUBBUF) as usize;
                for (n, from) in (0..total / SUBBUF).zip(from) {
                    let at = n as usize % parts * SUBBUF as usize;
                    black_box(&mut store)[at..][..SUBBUF as usize].copy_from_slice(from);
                }
            });
            let memcpy = total as f64 / time / 1e9;
            let (time, _) = through(config(adapter, way, KEEP), (RING, 64), 8000, total);
            let rate = total as f64 / time / 1e9;
            ratio.push(rate / memcpy);
            copy.push(memcpy);
            into.push(rate);
        }
        let (least, middle, most) = spread(ratio);
        println!(
            "rate, {:<6}: {:.2} GB/s; memcpy {:.2} GB/s; ratio {middle:.3} [{least:.3}..{most:.3}]",
            way.name(),
            spread(into).1,
            spread(copy).1
        );
    }
}

fn main() {
    let found = adapters().unwrap_or_default();
    let Some(best) = found.first() else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "a Vulkan driver is missing under CI"
        );
        println!("SKIPPED: no Vulkan driver finds an adapter (mesa-vulkan-drivers has one)");
        return;
    };
    println!("{} ({}), {}", best.name, best.kind, best.driver);
    let adapter = Wanted::Named(best.name.clone());
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    if wanted("writer") {
        writer_cost(&adapter);
    }
    if wanted("hand-over") {
        hand_over(&adapter);
    }
    if wanted("rate") {
        rate(&adapter);
    }
}
