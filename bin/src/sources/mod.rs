//! Sources: what brings records into channels. One line each in the registry.
//!
//! A source runs on threads of its own (it may wait, in block mode too), and ends when it is
//! done or told to stop. It knows writers, no streams and no backends.

pub mod ftrace;
pub mod generator;
pub mod host;
pub mod lines;
pub mod payload;
pub mod serial;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::channel::Writer;
use rbpipe_core::class::{ClassError, ClassId, EventClass};
use rbpipe_core::drain::Control;
use rbpipe_core::stream::{ImportWriter, WriteError};
use serde::de::DeserializeOwned;

/// A kind of source.
pub trait Source {
    /// What `type = "…"` says.
    const TYPE: &'static str;
    /// One line for people.
    const ABOUT: &'static str;
    /// A documented TOML table of its keys.
    const SAMPLE: &'static str;
    /// Its keys.
    type Config: DeserializeOwned + Send + 'static;

    /// Checks what types cannot say: each key that cannot be meant.
    fn check(config: &Self::Config) -> Vec<ConfigProblem> {
        let _ = config;
        Vec::new()
    }
    /// The key and the name of something that one source alone may have (stdin).
    fn claims(config: &Self::Config) -> Option<(&'static str, String)> {
        let _ = config;
        None
    }
    /// What it runs with: devices that are open, sockets that listen. Dropped, it is closed,
    /// and what was changed is as it was.
    type Opened: Send + 'static;
    /// Opens what it reads from; reads nothing yet. Called before any channel has its output: a
    /// source that cannot begin keeps the pipeline from replacing an old trace.
    ///
    /// # Errors
    /// Why it cannot begin, in words.
    fn open(config: Self::Config) -> anyhow::Result<Self::Opened>;
    /// The CPUs whose records it brings with times of their own: it gets a stream for each, in
    /// each of its channels ([`Channels::imports`]).
    fn imports(opened: &Self::Opened) -> Vec<u32> {
        let _ = opened;
        Vec::new()
    }
    /// Runs until it is done or told to stop.
    ///
    /// # Errors
    /// Why it could not go on, in words.
    fn run(opened: Self::Opened, to: &Channels, stop: &Stop) -> anyhow::Result<()>;
}

/// Goes through the registry.
pub trait VisitSource {
    /// Called once for each source.
    fn visit<S: Source>(&mut self);
}

/// The registry: every source of this build.
pub fn for_each(visitor: &mut impl VisitSource) {
    visitor.visit::<ftrace::Ftrace>();
    visitor.visit::<generator::Generator>();
    visitor.visit::<host::Host>();
    visitor.visit::<lines::Lines>();
    visitor.visit::<serial::Serial>();
}

/// Before the program exits at once: what sources changed outside it is put back, if that does
/// not take long.
pub fn put_back() {
    ftrace::put_back();
}

/// The names of all sources.
pub fn types() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl VisitSource for Names {
        fn visit<S: Source>(&mut self) {
            self.0.push(S::TYPE);
        }
    }
    let mut names = Names(Vec::new());
    for_each(&mut names);
    names.0
}

/// What a source counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records read, each once however many channels it goes to.
    pub read: AtomicU64,
    /// Lost before rbpipe saw them.
    pub lost_before: AtomicU64,
}

/// The channels that a source writes into.
#[derive(Default)]
pub struct Channels {
    /// One for each.
    pub writers: Vec<Writer>,
    /// What asks each one's drain: for a stream more ([`Ask::Import`]).
    ///
    /// [`Ask::Import`]: rbpipe_core::drain::Ask::Import
    pub controls: Vec<Control>,
    /// Nanoseconds from the zero of their clock to the epoch.
    pub clock_offset: u64,
    /// What it counts.
    pub counts: Arc<Counts>,
    imports: Mutex<Vec<Vec<ImportWriter>>>,
}

/// A class in each of a source's channels.
#[derive(Clone, Debug)]
pub struct Class(Vec<ClassId>);

impl Class {
    /// Its id in the channel at this place.
    #[must_use]
    pub fn id(&self, channel: usize) -> ClassId {
        self.0[channel]
    }
}

impl Channels {
    /// Channels with these writers.
    #[must_use]
    pub fn new(writers: Vec<Writer>, counts: Arc<Counts>) -> Self {
        Self { writers, counts, ..Self::default() }
    }

    /// What asks their drains, and where their clock's zero is.
    #[must_use]
    pub fn with_drains(self, controls: Vec<Control>, clock_offset: u64) -> Self {
        Self { controls, clock_offset, ..self }
    }

    /// The streams that were asked for with [`Source::imports`]: a list for each channel, in
    /// that order.
    #[must_use]
    pub fn with_imports(self, imports: Vec<Vec<ImportWriter>>) -> Self {
        Self { imports: Mutex::new(imports), ..self }
    }

    /// The streams that were asked for with [`Source::imports`]: for each channel a list, in
    /// that order. They are given once.
    pub fn imports(&self) -> Vec<Vec<ImportWriter>> {
        std::mem::take(&mut self.imports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a class in every channel.
    ///
    /// # Errors
    /// A class that no trace could describe.
    pub fn class(&self, class: &EventClass) -> Result<Class, ClassError> {
        let ids = self.writers.iter().map(|w| w.classes().register(class.clone()));
        ids.collect::<Result<_, _>>().map(Class)
    }

    /// Records a payload in every channel; what is lost, the channels count. False: they
    /// are closed, there is no sense in going on.
    pub fn record(&self, class: &Class, payload: &[u8]) -> bool {
        let mut open = false;
        for (writer, id) in self.writers.iter().zip(&class.0) {
            open |= writer.record(*id, payload) != Err(WriteError::Closed);
        }
        self.counts.read.fetch_add(open.into(), Ordering::Relaxed);
        open
    }
}

/// Tells sources to stop; a place to wait until then.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Tells them.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
    /// Whether they were told.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits until `deadline` or until told to stop; true: told.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .0
            .1
            .wait_timeout_while(guard, left, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
    /// Waits this long or until told to stop; true: told.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        self.wait_until(Instant::now() + time)
    }
}
