//! A source from its configuration to its thread: opened before any channel has its output, run
//! when all have.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};
use rbpipe_core::stream::ImportWriter;

use super::{Running, RunningSource, SourceView, own};
use crate::config::SourceConfig;
use crate::sources::{self, Channels, Counts, Source, Stop, VisitSource};

/// A source that is open and does not run yet.
pub(super) struct OpenedSource {
    name: String,
    /// Places of its channels.
    channels: Vec<usize>,
    /// CPUs whose records it brings with times of their own.
    cpus: Vec<u32>,
    /// Its streams with given times: a list for each of its channels.
    imports: Vec<Vec<ImportWriter>>,
    run: Run,
}

/// What makes an opened source run to its end.
type Run = Box<dyn FnOnce(&Channels, &Stop) -> anyhow::Result<()> + Send>;

/// The visitor that opens the source that its configuration names.
struct OpenSource {
    config: Option<SourceConfig>,
    opened: Option<anyhow::Result<OpenedSource>>,
}

pub(super) fn open_source(config: SourceConfig) -> anyhow::Result<OpenedSource> {
    let name = config.name.clone();
    let mut open = OpenSource { config: Some(config), opened: None };
    sources::for_each(&mut open);
    let opened = open.opened.unwrap_or_else(|| Err(anyhow!("its type is not in this build")));
    opened.with_context(|| format!("source {name}"))
}

impl VisitSource for OpenSource {
    fn visit<S: Source>(&mut self) {
        let Some(source) = self.config.take_if(|c| c.type_name == S::TYPE) else { return };
        let opened = own::<S::Config>(source.config).and_then(S::open);
        self.opened = Some(opened.map(|opened| OpenedSource {
            name: source.name,
            imports: source.channels.iter().map(|_| Vec::new()).collect(),
            channels: source.channels,
            cpus: S::imports(&opened),
            run: Box::new(move |to, stop| S::run(opened, to, stop)),
        }));
    }
}

impl OpenedSource {
    /// CPUs of the streams that it needs in the channel at this place.
    pub(super) fn imports_into(&self, channel: usize) -> &[u32] {
        if self.channels.contains(&channel) { &self.cpus } else { &[] }
    }

    /// Takes its writers of that channel, which come in the order in which they were asked for.
    pub(super) fn take_imports(&mut self, channel: usize, writers: &mut VecDeque<ImportWriter>) {
        if let Some(at) = self.channels.iter().position(|c| *c == channel) {
            self.imports[at].extend(writers.drain(..self.cpus.len()));
        }
    }

    pub(super) fn start(
        self,
        channels: &[Running],
        clock_offset: u64,
        stop: &Stop,
        ended: &Arc<tokio::sync::Notify>,
    ) -> anyhow::Result<RunningSource> {
        let Self { name, channels: places, imports, run, .. } = self;
        let counts = Arc::new(Counts::default());
        let mine = || places.iter().map(|c| &channels[*c]);
        let to = Channels::new(mine().map(|c| c.writer.clone()).collect(), Arc::clone(&counts))
            .with_imports(imports)
            .with_drains(mine().map(|c| c.control.clone()).collect(), clock_offset);
        let over = Arc::new(AtomicBool::new(false));
        let (stop, ended) = (stop.clone(), Arc::clone(ended));
        let (named, is_over) = (name.clone(), Arc::clone(&over));
        let thread = thread::Builder::new()
            .name(format!("source {name}"))
            .spawn(move || {
                let result = match catch_unwind(AssertUnwindSafe(|| run(&to, &stop))) {
                    Ok(result) => result.with_context(|| format!("source {named}")),
                    Err(_) => Err(anyhow!("source {named}: it failed badly (a panic)")),
                };
                match &result {
                    Ok(()) => tracing::debug!("source {named}: has ended"),
                    Err(e) => tracing::error!("{e:#}"),
                }
                is_over.store(true, Ordering::Release);
                ended.notify_one();
                result
            })
            .with_context(|| format!("source {name}: cannot start a thread"))?;
        let view = SourceView { name, counts, over };
        Ok(RunningSource { view, thread: Some(thread) })
    }
}
