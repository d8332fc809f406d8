//! `gpu` in a build without it: its face, and a word on which build has it.

use std::path::Path;

use async_trait::async_trait;
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::bench::BenchPlan;
use rbpipe_core::stream::Packet;
use serde::Deserialize;

use crate::heap::HeapMemory;

/// This build has it not.
pub const BUILT: bool = false;

/// What to do where no adapter is found.
pub const ADVICE: &str =
    "build rbpipe with its feature \"gpu\": cargo build --features gpu (the default has it)";

/// An adapter, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "there are none; said in the other build's")]
pub struct AdapterLine {
    pub name: String,
    pub kind: &'static str,
    pub driver: String,
    pub limits: String,
}

/// The adapters that this build can use: none.
///
/// # Errors
/// Always.
pub fn adapters() -> Result<Vec<AdapterLine>, BackendError> {
    Err(BackendError::new("this rbpipe was built without GPUs"))
}

/// There are none to be quieted.
pub fn quiet_drivers() {}

fn not_here() -> BackendError {
    BackendError::new(format!("this rbpipe was built without GPUs: {ADVICE}"))
}

/// Whatever is written.
#[derive(Debug, Deserialize)]
pub struct Config(serde::de::IgnoredAny);

/// The backend: nobody has one.
pub enum Gpu {}

impl Backend for Gpu {
    const TYPE: &'static str = "gpu";
    const ABOUT: &'static str = "not in this build: cargo build --features gpu";
    const SAMPLE: &'static str = "\
# Not in this build: cargo build --features gpu (the default has it).
type = \"gpu\"
";
    type Config = Config;
    type Memory = HeapMemory;
    type Output = Never;

    fn check(_: &Config, _: &ChannelPlan) -> Vec<ConfigProblem> {
        let message = format!("\"gpu\" is not in this build: {ADVICE}");
        vec![ConfigProblem { key: "type", message }]
    }
    fn bench_plans() -> Vec<BenchPlan<Config>> {
        let set_up = Box::new(|_: &Path| Err(not_here()));
        vec![BenchPlan { variant: String::new(), limit: None, set_up }]
    }
    fn open(_: Config, _: &ChannelPlan, _: &Context) -> Result<Self, BackendError> {
        Err(not_here())
    }
    fn identity(&self) -> Identity {
        match *self {}
    }
    fn memory(&mut self, _: &StreamInfo) -> Result<HeapMemory, BackendError> {
        match *self {}
    }
    fn output(&mut self) -> Result<Never, BackendError> {
        match *self {}
    }
}

/// Its output: nobody has one.
pub enum Never {}

#[async_trait]
impl Output<HeapMemory> for Never {
    async fn write_packet(&mut self, _: Packet<HeapMemory>) {
        match *self {}
    }
    async fn flush(&mut self) {
        match *self {}
    }
    async fn close(&mut self) -> Result<(), BackendError> {
        match *self {}
    }
}
