//! What the benchmarks share: a channel made by hand, rounds, medians.

pub mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::frontend::{Geometry, Mode};
use rustix::time::{ClockId, clock_gettime};

/// Whether to measure (`cargo bench`), or only to run once (the test command).
#[must_use]
pub fn measuring() -> bool {
    std::env::args().any(|a| a == "--bench")
}

/// Minimum, median and maximum.
#[must_use]
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// Seconds that `f` takes.
pub fn seconds(f: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    f();
    begin.elapsed().as_secs_f64()
}

/// Seconds of this thread's CPU time that `f` takes: without those in which another program had the
/// CPU. For what one thread does alone and without waiting.
pub fn cpu_seconds(f: impl FnOnce()) -> f64 {
    let now = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
    };
    let begin = now();
    f();
    now() - begin
}

/// A channel in this backend, and a class for payloads of any length.
///
/// # Panics
/// If it cannot be opened.
pub fn channel<B: Backend>(
    config: B::Config,
    mode: Mode,
    streams: Streams,
    (size, count): (u64, u32),
) -> (Channel<B>, ClassId) {
    let ring = (size, count, B::READER_SUBBUFS);
    channel_in(&Context::new("bench"), config, mode, streams, ring)
}

/// The same in this pipeline, with so many memories that the reader owns.
///
/// # Panics
/// If it cannot be opened.
pub fn channel_in<B: Backend>(
    context: &Context,
    config: B::Config,
    mode: Mode,
    streams: Streams,
    (size, count, reader): (u64, u32, u32),
) -> (Channel<B>, ClassId) {
    let classes = Arc::new(ClassRegistry::new());
    let bytes = FieldType::Sequence(Box::new(FieldType::U8));
    let class = EventClass::new("bench:record", vec![Field::new("payload", bytes)]);
    let class = classes.register(class).expect("a class");
    let geometry = Geometry::new(size, count, reader, 84).expect("a geometry");
    let plan = ChannelPlan { name: "bench".into(), geometry, mode, classes };
    let backend = B::open(config, &plan, context).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams,
        block_timeout: Some(Duration::from_secs(10)),
        switch_timer: Some(Duration::from_secs(1)),
        read_timer: Some(Duration::from_millis(10)),
        prefault: true,
    };
    (Channel::open(options, backend).expect("it opens"), class)
}

/// A payload of `len` bytes in all, its own length at its beginning.
#[must_use]
pub fn payload(len: usize) -> Vec<u8> {
    let len = len.max(4);
    let mut bytes = vec![7; len];
    bytes[..4].copy_from_slice(&(len as u32 - 4).to_le_bytes());
    bytes
}
