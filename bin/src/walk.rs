//! The walk: sources → channels → backends, from opening to the last packet.
//!
//! Order at the start: every source is opened, then every backend is and makes its memory, then
//! every output is made, then sources run. At the end: sources are told to stop and joined, then
//! every channel is finalised, drained and closed.

mod asked;
mod source;

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rbpipe_core::backend::{AtTheEnd, Backend, Context, Facts, Visit};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Prepared, Writer};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::Mode;
use rbpipe_core::snapshot::SnapshotPlan;
use rbpipe_core::stream::ImportWriter;

use crate::config::{ChannelConfig, PipelineConfig};
use crate::control::claim::Claim;
use crate::control::server::{self, Server};
use crate::snapshots::{Recorder, Recorders};
use crate::sources::{Counts, Stop};
use crate::status::{StatusLine, count};

pub use asked::Asked;
use asked::at_signal;
use source::open_source;

/// A channel that runs, as others see it.
#[derive(Clone)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// Its backend's type.
    pub backend: &'static str,
    /// What a full ring does.
    pub mode: Mode,
    /// Its books.
    pub monitor: Monitor,
    /// Asks its drain.
    pub control: Control,
    /// What its backend has to say of itself.
    pub facts: Option<Facts>,
}

/// A channel that runs.
pub struct Running {
    view: ChannelView,
    /// Commands that show what was recorded.
    pub look_with: Vec<String>,
    /// What else there is to say of where it is.
    pub at_the_end: Option<AtTheEnd>,
    writer: Writer,
    /// It keeps its records.
    recorder: Option<Recorder>,
    drain: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Deref for Running {
    type Target = ChannelView;
    fn deref(&self) -> &ChannelView {
        &self.view
    }
}

/// A source that runs, or ran, as others see it.
#[derive(Clone)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// What it counted.
    pub counts: Arc<Counts>,
    /// Set when it has come to its end.
    over: Arc<AtomicBool>,
}

/// A source that runs, or ran.
pub struct RunningSource {
    view: SourceView,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Deref for RunningSource {
    type Target = SourceView;
    fn deref(&self) -> &SourceView {
        &self.view
    }
}

/// A running pipeline, as others see it.
pub struct Outside {
    /// Its name.
    pub name: String,
    /// Its first record comes after this.
    pub begin: Instant,
    /// Its channels.
    pub channels: Vec<ChannelView>,
    /// Its sources.
    pub sources: Vec<SourceView>,
    /// Those of its channels that keep their records.
    pub recorders: Recorders,
}

impl SourceView {
    /// Whether it has not come to its end.
    pub fn is_running(&self) -> bool {
        // Acquire: with the Release in `Start`.
        !self.over.load(Ordering::Acquire)
    }
}

/// What is left when the pipeline has ended.
pub struct Ended {
    /// The pipeline's name.
    pub name: String,
    /// From the first record to the last packet.
    pub seconds: f64,
    /// Its channels.
    pub channels: Vec<Running>,
    /// Its sources.
    pub sources: Vec<RunningSource>,
    /// Something went wrong.
    pub failed: bool,
    /// What of it has not been said yet.
    pub errors: Vec<anyhow::Error>,
    /// Is to be told how it ended.
    pub server: Option<Server>,
    /// Answers the second SIGINT for as long as there is something left to say or write.
    _runtime: Option<tokio::runtime::Runtime>,
}

impl Ended {
    /// Nothing has been recorded, because of this.
    pub fn nothing(name: String, error: anyhow::Error) -> Self {
        let (channels, sources, errors) = (Vec::new(), Vec::new(), vec![error]);
        let (failed, server, _runtime) = (true, None, None);
        Self { name, seconds: 0.0, channels, sources, failed, errors, server, _runtime }
    }
}

/// Runs a pipeline to its end, and answers at its control socket while it runs.
///
/// # Errors
/// A device that cannot be opened; nothing has been recorded then. What goes wrong later is
/// in [`Ended::errors`].
pub fn run(config: PipelineConfig, claim: Option<Arc<Claim>>) -> anyhow::Result<Ended> {
    run_when(claim, |_| {
        let context = Context::new(config.name.clone());
        Ok((config, context))
    })
}

/// The same for a pipeline that is known only when something has come, which `ready` waits for:
/// not longer than until it is asked to end.
///
/// # Errors
/// As above, and what `ready` says.
pub fn run_when(
    claim: Option<Arc<Claim>>,
    ready: impl FnOnce(&Asked) -> anyhow::Result<(PipelineConfig, Context)>,
) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let asked = {
        let _runtime = runtime.enter();
        Asked::listen(claim.clone()).context("cannot listen for signals")?
    };
    let (config, context) = ready(&asked)?;
    let context = Arc::new(context);
    let clock_offset = context.clock_offset;
    let mut sources =
        config.sources.into_iter().map(open_source).collect::<anyhow::Result<Vec<_>>>()?;
    asked.check()?;
    let mut opened = Vec::new();
    for (place, channel) in config.channels.into_iter().enumerate() {
        let name = channel.options.plan.name.clone();
        let imports: Vec<u32> =
            sources.iter().flat_map(|s| s.imports_into(place)).copied().collect();
        let opening = Opening { imports, stop_timeout: config.stop_timeout, runtime: &runtime };
        let (start, mut imports) =
            open(channel, &context, opening).with_context(|| format!("channel {name}"))?;
        for source in &mut sources {
            source.take_imports(place, &mut imports);
        }
        opened.push((start, name));
        asked.check()?;
    }
    let mut channels = Vec::new();
    for (start, name) in opened {
        asked.check()?;
        channels.push(start().with_context(|| format!("channel {name}"))?);
    }
    asked.check()?;
    let recorders = channels.iter().filter_map(|c| c.recorder.clone()).collect();
    let recorders = Recorders::new(context, recorders);
    if recorders.listen() {
        let _runtime = runtime.enter();
        at_signal(recorders.clone()).context("cannot listen for SIGUSR1")?;
    }
    // Its time runs from here: opening (a ring that is mapped in, a slow device) is not in it.
    let begin = Instant::now();
    let stop = Stop::default();
    let ended = Arc::new(tokio::sync::Notify::new());
    let sources: Vec<RunningSource> = sources
        .into_iter()
        .map(|s| s.start(&channels, clock_offset, &stop, &ended))
        .collect::<anyhow::Result<_>>()?;
    let server = claim.and_then(|claim| {
        let outside = Outside {
            name: config.name.clone(),
            begin,
            channels: channels.iter().map(|c| c.view.clone()).collect(),
            sources: sources.iter().map(|s| s.view.clone()).collect(),
            recorders: recorders.clone(),
        };
        let _runtime = runtime.enter();
        let server = server::serve(claim, outside, asked.clone());
        server.inspect_err(|e| tracing::warn!("its control socket cannot be used: {e}")).ok()
    });
    let end = config.duration.map(|d| begin + d);
    runtime.block_on(wait(&asked, &channels, &sources, end, &ended));
    let parts = (channels, sources, recorders);
    let mut ended = finish(config.name, begin, parts, &stop, config.stop_timeout);
    (ended.server, ended._runtime) = (server, Some(runtime));
    Ok(ended)
}

/// Opens what a pipeline needs, and closes it again: nothing is recorded, nothing replaced. (A
/// trace's directory is made, if there is none.) Gives what cannot be opened.
pub fn try_to_open(config: PipelineConfig) -> Vec<anyhow::Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(e) => return vec![e],
    };
    let context = Arc::new(Context::new(config.name));
    let mut errors = Vec::new();
    // Kept open to the end: two that want one thing are told.
    let sources: Vec<_> = config.sources.into_iter().map(open_source).collect();
    let mut opened = Vec::new();
    for channel in config.channels {
        let name = channel.options.plan.name.clone();
        let with =
            Opening { imports: Vec::new(), stop_timeout: config.stop_timeout, runtime: &runtime };
        opened.push(open(channel, &context, with).with_context(|| format!("channel {name}")));
    }
    errors.extend(sources.into_iter().filter_map(Result::err));
    errors.extend(opened.into_iter().filter_map(Result::err));
    errors
}

// --- the beginning ------------------------------------------------------------------

/// What a channel is opened with, beside its configuration.
struct Opening<'a> {
    /// CPUs of streams with given times.
    imports: Vec<u32>,
    stop_timeout: Duration,
    runtime: &'a tokio::runtime::Runtime,
}

/// The visitor that opens a channel with the backend that its configuration names.
struct Open<'a> {
    channel: Option<ChannelConfig>,
    context: &'a Context,
    with: Opening<'a>,
    opened: Option<anyhow::Result<Opened>>,
}

/// What makes an opened channel run, and the writers of its streams with given times.
type Opened = (Box<dyn FnOnce() -> anyhow::Result<Running>>, VecDeque<ImportWriter>);

fn open(channel: ChannelConfig, context: &Context, with: Opening<'_>) -> anyhow::Result<Opened> {
    let mut open = Open { channel: Some(channel), context, with, opened: None };
    rbpipe_backends::for_each(&mut open);
    open.opened.unwrap_or_else(|| Err(anyhow!("its backend is not in this build")))
}

impl Visit for Open<'_> {
    fn visit<B: Backend>(&mut self) {
        let Some(channel) = self.channel.take_if(|c| c.backend == B::TYPE) else { return };
        self.opened = Some(self.start::<B>(channel));
    }
}

impl Open<'_> {
    fn start<B: Backend>(&self, channel: ChannelConfig) -> anyhow::Result<Opened> {
        let config = own::<B::Config>(channel.config)?;
        let options = channel.options;
        let backend = B::open(config, &options.plan, self.context)?;
        let plan = (!backend.takes(options.plan.mode)).then(|| backend.snapshot_plan()).flatten();
        let shows = (backend.look_with(), backend.at_the_end(), plan, backend.facts());
        let mut prepared = Channel::prepare(options.clone(), backend)?;
        let imports = self.with.imports.iter().map(|cpu| prepared.import(Some(*cpu)));
        let imports = imports.collect::<Result<_, _>>()?;
        let (stop_timeout, runtime) = (self.with.stop_timeout, self.with.runtime.handle().clone());
        let begin = move || begin(prepared, &options, shows, stop_timeout, runtime);
        Ok((Box::new(begin), imports))
    }
}

/// What a backend says of itself: see [`Running`].
type Shows = (Vec<String>, Option<AtTheEnd>, Option<SnapshotPlan>, Option<Facts>);

/// Makes the channel's output, and starts its drain.
fn begin<B: Backend>(
    prepared: Prepared<B>,
    options: &ChannelOptions,
    (look_with, at_the_end, plan, facts): Shows,
    stop_timeout: Duration,
    runtime: tokio::runtime::Handle,
) -> anyhow::Result<Running> {
    let (name, mode) = (options.plan.name.clone(), options.plan.mode);
    let opened = prepared.open()?;
    tracing::debug!("channel {name}: {} mode into {}", mode.name(), B::TYPE);
    let (monitor, writer) = (opened.monitor(), opened.writer());
    let control = Control::new(opened.waker());
    let (asked, of) = (control.clone(), name.clone());
    let drain = thread::Builder::new()
        .name(format!("drain {name}"))
        .spawn(move || {
            let _runtime = runtime.enter();
            let mut notice = |n| tracing::warn!("channel {of}: {n}");
            let run = || opened.run(&asked, stop_timeout, &mut notice);
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(result) => result.with_context(|| format!("channel {of}")),
                Err(_) => Err(anyhow!("channel {of}: its output failed badly (a panic)")),
            }
        })
        .context("cannot start a thread")?;
    let drain = Some(drain);
    let backend = B::TYPE;
    let recorder = plan.map(|plan| Recorder { name: name.clone(), control: control.clone(), plan });
    let view = ChannelView { name, backend, mode, monitor, control, facts };
    Ok(Running { view, look_with, at_the_end, writer, recorder, drain })
}

fn own<T: Any>(config: Box<dyn Any + Send>) -> anyhow::Result<T> {
    let typed = config.downcast::<T>();
    typed.map(|c| *c).map_err(|_| anyhow!("a configuration was read as another type"))
}

// --- the middle ---------------------------------------------------------------------

/// Waits for the end: all sources have ended, time is up, or a signal.
async fn wait(
    asked: &Asked,
    channels: &[Running],
    sources: &[RunningSource],
    end: Option<Instant>,
    ended: &tokio::sync::Notify,
) {
    let mut status = StatusLine::new();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        let time_is_up = async {
            match end {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time_is_up => break,
            () = asked.notified() => break,
            () = ended.notified() => {}
            _ = tick.tick(), if status.is_shown() => status.show(channels),
        }
        if !sources.iter().any(|s| s.is_running()) {
            break;
        }
    }
    status.clear();
    asked.is_ending();
}

// --- the end ------------------------------------------------------------------------

fn finish(
    name: String,
    begin: Instant,
    (mut channels, mut sources, recorders): (Vec<Running>, Vec<RunningSource>, Recorders),
    stop: &Stop,
    stop_timeout: Duration,
) -> Ended {
    let (mut failed, mut errors) = (false, Vec::new());
    stop.stop();
    wait_for(&sources, stop_timeout);
    // Before they are told: they make them when all records are in their rings.
    let snapshots = recorders.at_the_end();
    for c in &channels {
        c.control.stop();
    }
    // A source that waited for room (block mode, for ever) is let go by that; one that waits
    // for something else is not waited for.
    wait_for(&sources, stop_timeout);
    for s in &mut sources {
        if s.is_running() {
            tracing::warn!("source {}: does not end when it is told to; it is left behind", s.name);
        } else {
            // Said when it happened.
            failed |= join(s.thread.take()).is_err();
        }
    }
    for c in &mut channels {
        errors.extend(join(c.drain.take()).err());
    }
    errors.extend(snapshots.finish());
    for c in &channels {
        let packets: u64 = c.monitor.streams().iter().map(|s| s.books.failed).sum();
        if packets > 0 {
            let packets = count(packets, "packet");
            errors.push(anyhow!("channel {}: {packets} could not be written", c.name));
        }
    }
    failed |= !errors.is_empty();
    let seconds = begin.elapsed().as_secs_f64();
    Ended { name, seconds, channels, sources, failed, errors, server: None, _runtime: None }
}

/// Waits until all sources have ended, but not for ever.
fn wait_for(sources: &[RunningSource], at_most: Duration) {
    let deadline = Instant::now() + at_most;
    while sources.iter().any(|s| s.is_running()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

fn join(thread: Option<JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    match thread.map(JoinHandle::join) {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(anyhow!("a thread failed badly (a panic)")),
        None => Ok(()),
    }
}

/// Reads a source's counters.
pub fn source_counts(source: &SourceView) -> (u64, u64) {
    let load = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
    (load(&source.counts.read), load(&source.counts.lost_before))
}
