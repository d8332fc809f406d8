//! `file`: a CTF 1.8 trace directory: `metadata`, and one file for each stream.
//!
//! Memory is the heap's. A packet's bytes go to its stream's file as they lie in the
//! sub-buffer; nothing is converted. One write at a time for each file (it may carry several
//! packets), several files at once, on threads of their own and, for short writes, on the
//! drain's (`writer.rs`): never on a runtime's worker.
//!
//! It does not rotate, compress or index; it does not retry a packet: a write that fails is
//! cut back to the last whole packet, counted and said, and the next packet is tried.

mod directory;
pub(crate) mod stream_file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::stream::Packet;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use crate::heap::{Heap, HeapMemory};
use crate::units::Time;
use directory::Directory;
pub use directory::read_metadata;
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
";
    const READER_SUBBUFS: u32 = 4;
    type Config = Config;
    type Memory = HeapMemory;
    type Output = FileOutput;

    fn check(config: &Config, _: &ChannelPlan) -> Vec<ConfigProblem> {
        let path = config.path.as_os_str().as_encoded_bytes();
        let message = match path {
            [] => "is empty: name the trace's directory".into(),
            _ if path.contains(&0) => "has a NUL in it, which no path can have".into(),
            _ => return Vec::new(),
        };
        vec![ConfigProblem { key: "path", message }]
    }
    fn open(config: Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        // By its one name: `t` and `./t` are one trace.
        let path = directory::find(&config.path)?;
        let key = format!("trace directory {}", path.display());
        let directory =
            context.shared(&key, || Directory::open(&path, config.path.clone(), context))?;
        directory.may_write(config.overwrite)?;
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
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<FileOutput, BackendError> {
        self.directory.begin()?;
        let pool = Pool::start(Arc::clone(&self.directory), self.channel.clone(), self.sync)?;
        Ok(FileOutput { pool })
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
    async fn close(&mut self) -> Result<(), BackendError> {
        self.pool.close()
    }
}
