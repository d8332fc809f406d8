//! One run of a case: the same for every backend. Opens its channels, writes as fast as it goes,
//! closes them, and looks at the books.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::bench::BenchPlan;
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Geometry;
use rbpipe_core::packet::MAX_HEADER;

use super::case::Case;
use super::histogram::Histogram;
use super::machine::{self, Ticks};
use super::report::Books;
use super::writer::{Job, Written, process_seconds};

/// How long a writer in block mode waits, as channels do where nothing is said.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the end waits for anybody.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How a case is run.
pub struct How<'a> {
    /// An empty directory.
    pub place: &'a Path,
    /// How long it is written.
    pub time: Duration,
    /// Nanoseconds that a clock read takes.
    pub clock_ns: f64,
    /// Outputs that need one find it.
    pub runtime: &'a tokio::runtime::Runtime,
    /// Somebody wants it to end.
    pub stop: &'a AtomicBool,
}

/// What one run has given.
pub struct Sample {
    /// Nanoseconds of a record at its writer; none where no slice of records was recorded whole.
    pub ns: Option<f64>,
    /// Of records one by one.
    pub single: Histogram,
    /// Of all channels and streams.
    pub books: Books,
    /// From the first record until all was out.
    pub seconds: f64,
    /// What came out: of a line's other end, of stream files; where nothing comes out, what
    /// lay in packets.
    pub bytes: u64,
    /// CPU seconds of what is not a writer.
    pub output_cpu: f64,
    /// The rings' bytes.
    pub ring: u64,
    /// By how much the process grew.
    pub grown: u64,
    /// Packets were taken, in this mode and with a reader.
    pub takes: bool,
    /// How often its writers lost their CPU.
    pub pushed_aside: u64,
    /// Somebody else used the machine meanwhile.
    pub noisy: bool,
}

/// Runs a case.
///
/// # Errors
/// It cannot be opened or closed, or its books are wrong.
pub fn run<B: Backend>(
    plan: &BenchPlan<B::Config>,
    case: &Case,
    how: &How<'_>,
) -> anyhow::Result<Sample> {
    let own = Arc::new(Context::new("bench"));
    let before = machine::resident();
    let (mut channels, mut other_ends, mut most_bytes) = (Vec::new(), Vec::new(), u64::MAX);
    let (mut classes, mut takes, mut was_it) = (Vec::new(), false, Vec::new());
    let _runtime = how.runtime.enter();
    for i in 0..case.channels {
        let place = how.place.join(format!("{i}"));
        std::fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let rig = (plan.set_up)(&place)?;
        other_ends.extend(rig.other_end);
        was_it.extend(rig.was_it);
        let context = rig.context.unwrap_or_else(|| Arc::clone(&own));
        most_bytes = most_bytes.min(rig.most_bytes.unwrap_or(u64::MAX));
        let (options, ids) = options::<B>(case, i)?;
        classes = ids;
        if let Some(p) = B::check(&rig.config, &options.plan).first() {
            bail!("`{}` {}", p.key, p.message);
        }
        let backend = B::open(rig.config, &options.plan, &context)?;
        takes = case.reader && backend.takes(case.mode);
        channels.push(Channel::open(options, backend)?);
    }
    let writers: Vec<_> = channels.iter().map(Channel::writer).collect();
    let monitors: Vec<_> = channels.iter().map(Channel::monitor).collect();
    let controls: Vec<_> = channels.iter().map(|c| Control::new(c.waker())).collect();
    let start = Barrier::new(case.writers as usize + 1);
    let job = Job {
        writers: &writers,
        classes: &classes,
        case,
        start: &start,
        time: how.time,
        most_bytes: most_bytes / u64::from(case.writers),
        clock_ns: how.clock_ns,
        stop: how.stop,
    };
    let drained = |channel: Channel<B>, control: &Control| {
        let _runtime = how.runtime.enter();
        channel.run(control, STOP_TIMEOUT, &mut |notice| tracing::debug!("{notice}"))
    };
    let drained = &drained;
    let (ticks, cpu) = (Ticks::now(), process_seconds());
    let run = thread::scope(|scope| -> anyhow::Result<_> {
        let mut waiting = Vec::new();
        let mut drains = Vec::new();
        for (channel, control) in channels.into_iter().zip(&controls) {
            if case.reader {
                drains.push(scope.spawn(move || drained(channel, control)));
            } else {
                waiting.push((channel, control));
            }
        }
        let job = &job;
        let threads: Vec<_> = (0..case.writers).map(|_| scope.spawn(move || job.run())).collect();
        start.wait();
        let begin = Instant::now();
        let written: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let alone = begin.elapsed();
        let grown = machine::resident().saturating_sub(before);
        controls.iter().for_each(Control::stop);
        let mut ends = Vec::new();
        for drain in drains {
            ends.push(drain.join().unwrap_or_else(|_| panicked()));
        }
        let seconds = if case.reader { begin.elapsed() } else { alone };
        for (channel, control) in waiting {
            ends.push(drained(channel, control));
        }
        ends.into_iter().collect::<Result<(), _>>()?;
        let written: Result<Vec<_>, _> = written.into_iter().collect();
        let written = written.map_err(|_| anyhow!("a writer failed badly (a panic)"))?;
        Ok((written, seconds.as_secs_f64(), grown))
    });
    let (written, seconds, grown) = run?;
    was_it.into_iter().try_for_each(|asked| asked())?;
    let cpu = process_seconds() - cpu;
    let noisy = ticks.others(cpu) > 0.25;
    let (books, content, output_bytes) = books(&monitors);
    exact(&books, &written)?;
    let other_bytes = other_ends.iter().map(|e| e.bytes()).sum();
    let others: f64 = other_ends.iter().map(|e| e.cpu_seconds()).sum();
    let bytes = match (other_ends.is_empty(), output_bytes) {
        // What comes out later is none of the rate at which it was written.
        _ if !takes => content,
        (false, _) => other_bytes,
        (true, 0) => content,
        (true, n) => n,
    };
    let writers_cpu: f64 = written.iter().map(|w| w.cpu_seconds).sum();
    let mut single = Histogram::new();
    written.iter().for_each(|w| single.merge(&w.single));
    let memories = u64::from(case.subbuf_count + B::READER_SUBBUFS);
    let streams = monitors.iter().map(|m| m.streams().len() as u64).sum::<u64>();
    Ok(Sample {
        ns: median(written.iter().flat_map(|w| w.slices.iter().copied()).collect()),
        single,
        books,
        seconds,
        bytes,
        output_cpu: (cpu - writers_cpu - others).max(0.0),
        ring: streams * memories * case.subbuf_size,
        grown,
        takes,
        pushed_aside: written.iter().map(|w| w.pushed_aside).sum(),
        noisy,
    })
}

fn panicked() -> Result<(), rbpipe_core::backend::BackendError> {
    Err(rbpipe_core::backend::BackendError::new("its output failed badly (a panic)"))
}

/// A channel of this case, and its event classes.
fn options<B: Backend>(case: &Case, i: u32) -> anyhow::Result<(ChannelOptions, Vec<ClassId>)> {
    let classes = Arc::new(ClassRegistry::new());
    let bytes = || FieldType::Array(Box::new(FieldType::U8), case.payload as u32);
    let class = |n| EventClass::new(format!("bench:record{n}"), vec![Field::new("data", bytes())]);
    let ids = (0..case.classes).map(|n| classes.register(class(n)));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let (size, count) = (case.subbuf_size, case.subbuf_count);
    let geometry = Geometry::new(size, count, B::READER_SUBBUFS, MAX_HEADER as u32)?;
    let plan = ChannelPlan { name: format!("bench{i}"), geometry, mode: case.mode, classes };
    let options = ChannelOptions {
        plan,
        streams: case.streams.streams(case.writers),
        block_timeout: Some(BLOCK_TIMEOUT),
        switch_timer: Some(Duration::from_secs(1)),
        read_timer: Some(Duration::from_millis(10)),
        // What a ring costs when it is first touched is no record's doing.
        prefault: true,
    };
    Ok((options, ids))
}

/// All books added up, the bytes that lay in packets, and those that were written.
fn books(monitors: &[Monitor]) -> (Books, u64, u64) {
    let (mut sum, mut content, mut written) = (Books::default(), 0, 0);
    for stream in monitors.iter().flat_map(Monitor::streams) {
        let b = &stream.books;
        let e = &b.engine;
        sum.offered += e.offered();
        sum.recorded += e.recorded;
        sum.lost.full += e.full;
        sum.lost.wrap += e.wrap;
        sum.lost.too_big += e.too_big;
        sum.aborted += e.aborted;
        sum.overwritten += b.overwritten();
        sum.kept += e.kept;
        sum.written += b.output_records;
        sum.failed_records += b.failed_records;
        content += b.bytes + b.underway.1;
        written += b.output_bytes;
    }
    (sum, content, written)
}

/// Whether every record that was offered is somewhere, once.
fn exact(books: &Books, written: &[Written]) -> anyhow::Result<()> {
    let offered: u64 = written.iter().map(|w| w.offered).sum();
    if offered != books.offered || !books.balance() {
        bail!("{offered} records were offered, and the books say {books:?}: please report this");
    }
    Ok(())
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
