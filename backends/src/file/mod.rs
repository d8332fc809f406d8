//! `file`: a CTF 1.8 trace directory: `metadata`, and one file for each stream.
//!
//! Memory is the heap's. A packet's bytes go to its stream's file as they lie in the
//! sub-buffer; nothing is converted. One write at a time for each file (it may carry several
//! packets), several files at once, on threads of their own and, for short writes, on the
//! drain's (`writer.rs`): never on a runtime's worker.
//!
//! A trace may be cut into pieces (`rotation.rs`, `pieces.rs`): each is a trace by itself, with
//! counters from 0, and what a piece tells of losses is what was not told before it.
//!
//! It does not compress or index; it does not retry a packet: a write that fails is
//! cut back to the last whole packet, counted and said, and the next packet is tried.

mod bench;
mod chores;
mod directory;
mod pieces;
mod place;
mod rotation;
pub(crate) mod stream_file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rbpipe_core::backend::{
    AtTheEnd, Backend, BackendError, ChannelPlan, ConfigProblem, Context, Identity, Output, Rotate,
    StreamInfo,
};
use rbpipe_core::bench::BenchPlan;
use rbpipe_core::drain::Refused;
use rbpipe_core::stream::Packet;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use crate::heap::{Heap, HeapMemory};
use crate::units::{Size, Time};
use directory::Directory;
pub use directory::read_metadata;
use rotation::{EMPTY, Limits, Why};
use writer::Pool;

/// Keys of `type = "file"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trace's directory. Channels with the same path make one trace.
    pub path: PathBuf,
    /// Replace what is there, if rbpipe wrote it.
    #[serde(default)]
    pub overwrite: bool,
    /// When written packets are forced to the disk.
    #[serde(default)]
    pub sync: Sync,
    /// A piece of the trace has at most so many bytes; 0: no bound.
    pub rotate_size: Option<Size>,
    /// … and becomes at most this old; 0: no bound.
    pub rotate_every: Option<Time>,
    /// So many pieces are kept beside the current one; 0: all.
    pub rotate_keep: Option<u64>,
}

impl Config {
    /// A trace at `path`, in a directory that is empty, in one piece.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            overwrite: false,
            sync: Sync::Never,
            rotate_size: None,
            rotate_every: None,
            rotate_keep: None,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            size: self.rotate_size.map(|Size(s)| s).filter(|n| *n > 0),
            every: self.rotate_every.map(|Time(t)| t).filter(|t| !t.is_zero()),
            keep: self.rotate_keep.filter(|n| *n > 0),
        }
    }
}

/// When written packets are forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Left to the system: survives the death of the program, not of the machine.
    #[default]
    Never,
    /// Once, at the end.
    Close,
    /// Once in each interval with something new, and at the end.
    Every(Duration),
}

impl<'de> Deserialize<'de> for Sync {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Sync;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"never\", \"close\" or a time such as \"1 s\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Sync, E> {
                match (v, v.parse::<Time>()) {
                    ("never", _) => Ok(Sync::Never),
                    ("close", _) => Ok(Sync::Close),
                    (_, Ok(Time(t))) if !t.is_zero() => Ok(Sync::Every(t)),
                    _ => Err(E::invalid_value(Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_str(V)
    }
}

/// Pieces that are younger are mostly file names.
const LEAST_AGE: Duration = Duration::from_millis(10);

/// The backend. Nothing of an old trace is removed before its output is made.
pub struct File {
    heap: Heap,
    identity: Identity,
    directory: Arc<Directory>,
    sync: Sync,
    channel: String,
}

impl Backend for File {
    const TYPE: &'static str = "file";
    const ABOUT: &'static str = "a CTF 1.8 trace directory that babeltrace2 and others open";
    const SAMPLE: &'static str = "\
# A CTF 1.8 trace directory: `rbpipe read PATH`, `babeltrace2 PATH`, Trace Compass.
type = \"file\"
path = \"trace\"          # the directory; channels with the same path make one trace
overwrite = false       # true (in all of them): replace what is there, if rbpipe wrote it
sync = \"never\"          # never | close | a time: force to the disk once in each \"1 s\"
# Rotation: the trace is cut into pieces, each a trace by itself. The current one is always at
# `path`; one that has ended is path.000001, path.000002, … (`rbpipe rotate` ends one, too).
# Channels with the same path rotate together; those that say nothing here agree with the others.
rotate_size = 0         # \"64 MiB\": a piece has at most so many bytes, all its files together
rotate_every = \"0 s\"    # \"1 h\": it becomes at most this old; one without records lasts
rotate_keep = 0         # 10: so many beside the current one, older ones are removed; 0: all
";
    const READER_SUBBUFS: u32 = 4;
    type Config = Config;
    type Memory = HeapMemory;
    type Output = FileOutput;

    fn check(config: &Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        let path = config.path.as_os_str().as_encoded_bytes();
        let message = match path {
            [] => Some("is empty: name the trace's directory"),
            _ if path.contains(&0) => Some("has a NUL in it, which no path can have"),
            _ => None,
        };
        let mut problems: Vec<_> =
            message.map(|m| ConfigProblem { key: "path", message: m.into() }).into_iter().collect();
        // A packet and the empty one before it.
        let least = plan.geometry.subbuf_size() + EMPTY;
        if let Some(size) = config.rotate_size.filter(|Size(size)| (1..least).contains(size)) {
            let message = format!(
                "{size} is too small: a piece holds at least one sub-buffer and its beginning, \
                 {least} bytes here"
            );
            problems.push(ConfigProblem { key: "rotate_size", message });
        }
        if config.rotate_every.is_some_and(|Time(t)| !t.is_zero() && t < LEAST_AGE) {
            let message = "is too short: \"10 ms\" or more, or leave it out".into();
            problems.push(ConfigProblem { key: "rotate_every", message });
        }
        problems
    }
    fn bench_plans() -> Vec<BenchPlan<Config>> {
        bench::plans()
    }
    fn open(config: Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        // By its one name: `t` and `./t` are one trace.
        let path = directory::find(&config.path)?;
        let key = format!("trace directory {}", path.display());
        let directory =
            context.shared(&key, || Directory::open(&path, config.path.clone(), context))?;
        directory.may_write(config.overwrite, config.limits())?;
        let identity = directory.join(plan);
        Ok(Self {
            heap: Heap::default(),
            identity,
            directory,
            sync: config.sync,
            channel: plan.name.clone(),
        })
    }
    fn identity(&self) -> Identity {
        self.identity
    }
    fn look_with(&self) -> Vec<String> {
        let path = typed(self.directory.shown());
        vec![format!("rbpipe read {path}"), format!("babeltrace2 {path}")]
    }
    fn at_the_end(&self) -> Option<AtTheEnd> {
        let directory = Arc::clone(&self.directory);
        Some(Box::new(move || rotation::told(&directory)))
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<FileOutput, BackendError> {
        self.directory.begin()?;
        let pool = Pool::start(Arc::clone(&self.directory), self.channel.clone(), self.sync)?;
        Ok(FileOutput { pool, directory: Arc::clone(&self.directory) })
    }
}

/// A path as it is typed in a shell.
fn typed(path: &Path) -> String {
    let mut text = path.display().to_string();
    if text.starts_with('-') {
        text.insert_str(0, "./");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The output: hands packets to the threads that write.
pub struct FileOutput {
    pool: Pool,
    directory: Arc<Directory>,
}

#[async_trait]
impl Output<HeapMemory> for FileOutput {
    async fn write_packet(&mut self, packet: Packet<HeapMemory>) {
        // Never waits: a stream has `reader_subbufs` packets out at most.
        self.pool.write(packet);
    }
    async fn turn(&mut self) {
        self.pool.turn();
    }
    async fn flush(&mut self) {
        // Called on the drain's own thread, which may wait.
        self.pool.wait_idle();
    }
    async fn rotate(&mut self, why: Rotate) -> Result<Option<String>, Refused> {
        let why = match why {
            Rotate::Asked { since } => Why::Asked(since),
            Rotate::Due => Why::Due,
        };
        let ended = self.directory.rotate(why)?;
        Ok(ended.map(|piece| piece.display().to_string()))
    }
    fn rotate_at(&self) -> Option<Instant> {
        self.directory.due()
    }
    async fn close(&mut self) -> Result<(), BackendError> {
        self.pool.close()
    }
}
