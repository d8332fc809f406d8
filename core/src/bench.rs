//! How a backend is benched: with which configurations, against what, and who is at the other
//! end of it meanwhile.
//!
//! A backend says no more than that ([`Backend::bench_plans`](crate::backend::Backend)); what is
//! measured, and how, is the program's, and the same for all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{BackendError, Context};

/// One way to bench a backend.
pub struct BenchPlan<C> {
    /// Which one, beside the backend's type: `heap`, `text, 115200 baud`; may be empty.
    pub variant: String,
    /// What its output could do alone, without a ring in front of it; `None`: it has none, and
    /// the limit is the copying of the records' bytes in memory.
    pub limit: Option<BenchLimit>,
    /// Sets it up in this directory, which is empty and goes with all that is in it. Called once
    /// for each run.
    pub set_up: SetUp<C>,
}

/// See [`BenchPlan::set_up`].
pub type SetUp<C> = Box<dyn Fn(&Path) -> Result<BenchRig<C>, BackendError> + Send>;

/// What an output could do alone.
pub struct BenchLimit {
    /// In two or three words: `plain write`.
    pub what: String,
    /// Its bytes a second, found out within about the time that is given, in a directory as
    /// above.
    pub measure: Measure,
}

/// See [`BenchLimit::measure`].
pub type Measure = Box<dyn Fn(&Path, Duration) -> Result<f64, BackendError> + Send>;

/// A configuration, ready to be opened, and what it needs to stay alive.
pub struct BenchRig<C> {
    /// The configuration.
    pub config: C,
    /// No more bytes of records than this are written in one run: what it takes lies somewhere.
    pub most_bytes: Option<u64>,
    /// Takes what the output gives; dropped when the output is closed.
    pub other_end: Option<Box<dyn OtherEnd>>,
    /// What it finds open already: a device whose opening would take longer than the run. `None`:
    /// nothing, as in a pipeline that begins.
    pub context: Option<Arc<Context>>,
    /// Asked when the run is over: whether it was what it was to be. A run that something else
    /// took the place of has no figures.
    pub was_it: Option<WasIt>,
}

/// See [`BenchRig::was_it`].
pub type WasIt = Box<dyn FnOnce() -> Result<(), BackendError>>;

impl<C> BenchRig<C> {
    /// A configuration that needs nothing beside it.
    pub fn new(config: C) -> Self {
        Self { config, most_bytes: None, other_end: None, context: None, was_it: None }
    }
}

/// Whoever takes what an output gives, in this process.
pub trait OtherEnd: Send {
    /// Bytes that it has got by now.
    fn bytes(&self) -> u64;
    /// CPU seconds that it has used by now: they are not the output's.
    fn cpu_seconds(&self) -> f64;
}
