//! What a backend is: where a channel's sub-buffers live, and what becomes of a packet.
//!
//! The engine (`frontend`) owns synchronisation and the exchange. A backend makes memories
//! and, in its [`Output`], takes packets by value. It holds no atomic, lock or counter of the
//! ring buffer; a packet that it drops without [`Packet::written`] is counted as failed by
//! the engine, so an output that fails, panics or is cancelled cannot lose in silence.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::bench::BenchPlan;
use crate::class::ClassRegistry;
use crate::drain::Refused;
use crate::frontend::{Geometry, Mode};
use crate::memory::Memory;
use crate::packet::StreamClass;
use crate::snapshot::{PacketView, SnapshotPlan};
use crate::stream::{LentPacket, Packet};

/// Device trouble, in words for people: what was tried, on what, and what went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    message: String,
    #[source]
    source: Option<std::io::Error>,
}

impl BackendError {
    /// An error without a system error behind it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
    /// What was tried, and the system's answer.
    pub fn io(message: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }
}

/// A configuration that can be read but not meant: the key to change, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key in the backend's table.
    pub key: &'static str,
    /// What is wrong with it and what would be accepted.
    pub message: String,
}

/// Who a channel is in the trace that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The trace's.
    pub uuid: [u8; 16],
    /// Stream class ids of this channel begin here ([`StreamClass::number`] is added).
    pub first_stream_class: u32,
    /// Stream ids of this channel begin here.
    pub first_stream: u64,
}

/// What is known of a channel before its backend is opened.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// Its name in the configuration.
    pub name: String,
    /// Sizes and counts.
    pub geometry: Geometry,
    /// What a full ring does.
    pub mode: Mode,
    /// Its event classes, a list that grows.
    pub classes: Arc<ClassRegistry>,
}

/// One stream of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its number in the channel, from 0.
    pub id: u32,
    /// What its packets say of their origin.
    pub class: StreamClass,
    /// Its CPU, where it has one.
    pub cpu: Option<u32>,
    /// When it was made (CLOCK_MONOTONIC, ns): no packet begins before.
    pub start: u64,
    /// The channel's identity.
    pub identity: Identity,
    /// Bytes of each of its memories.
    pub subbuf_size: usize,
    /// Memories that it is made with: sub-buffers, and those that the reader owns.
    pub memories: usize,
    /// Memory is written once when it is made, so that no writer meets a page fault.
    pub prefault: bool,
}

/// What the channels of one pipeline share.
pub struct Context {
    /// The pipeline's name.
    pub pipeline: String,
    /// Nanoseconds from CLOCK_MONOTONIC's zero to the epoch.
    pub clock_offset: u64,
    shared: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
}

impl Context {
    /// The context of a pipeline of that name.
    pub fn new(pipeline: impl Into<String>) -> Self {
        Self {
            pipeline: pipeline.into(),
            clock_offset: crate::clock::epoch_offset(),
            shared: Mutex::default(),
        }
    }

    /// The object that all channels share under this key (a trace directory under its
    /// path), made at first use.
    ///
    /// # Errors
    /// What `make` says, or that the key is taken by an object of another type.
    pub fn shared<T: Any + Send + Sync>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<Arc<T>, BackendError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(key) {
            return Arc::clone(known)
                .downcast()
                .map_err(|_| BackendError::new(format!("{key} is in use by another backend")));
        }
        let made = Arc::new(make()?);
        shared.insert(key.to_owned(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }
}

/// Called when the channel has ended: lines for people.
pub type AtTheEnd = Box<dyn Fn() -> Vec<String> + Send>;

/// What a backend has to say of itself, asked for at any time: for programs a name and values
/// under it, for people the same in a few words.
pub type Facts = Arc<dyn Fn() -> FactSheet + Send + Sync>;

/// See [`Facts`].
#[derive(Clone, Debug, PartialEq)]
pub struct FactSheet {
    /// The key in the channel's report.
    pub name: &'static str,
    /// What is under it.
    pub values: Vec<(&'static str, f64)>,
    /// One line for people.
    pub words: String,
}

/// A kind of backend, one line in the registry.
pub trait Backend: Sized + Send + 'static {
    /// What `type = "…"` says.
    const TYPE: &'static str;
    /// One line for people.
    const ABOUT: &'static str;
    /// A documented TOML table of its keys with their defaults: parsed by a test, printed by
    /// `rbpipe backends TYPE`.
    const SAMPLE: &'static str;
    /// Sub-buffers that the output may hold at once, where the configuration says nothing.
    const READER_SUBBUFS: u32 = 2;
    /// Its keys. `deny_unknown_fields`, no `flatten`.
    type Config: DeserializeOwned + Send + 'static;
    /// Its memory.
    type Memory: Memory;
    /// What becomes of packets.
    type Output: Output<Self::Memory>;

    /// Checks what the types of the configuration cannot say: each key that cannot be meant.
    /// Opens nothing.
    fn check(config: &Self::Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        let _ = (config, plan);
        Vec::new()
    }
    /// With what `rbpipe bench` runs it. None (the default): once, with [`Backend::SAMPLE`], whose
    /// `path` is replaced by one in an empty directory.
    fn bench_plans() -> Vec<BenchPlan<Self::Config>> {
        Vec::new()
    }
    /// Opens the device. Called once the whole configuration has been checked, and before any
    /// backend of the pipeline makes its output: what cannot be taken back (an old trace that
    /// is replaced) is left to [`Backend::output`].
    ///
    /// # Errors
    /// Device trouble, in one sentence.
    fn open(
        config: Self::Config,
        plan: &ChannelPlan,
        context: &Context,
    ) -> Result<Self, BackendError>;
    /// Who the channel is in its trace.
    fn identity(&self) -> Identity;
    /// How to look at what was recorded, for the program's last words.
    fn look_with(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether its output has a pace of its own ([`Output::pace`]): deliveries then wake nobody,
    /// and the switch timer is left to it.
    fn is_paced(&self) -> bool {
        false
    }
    /// Records are to be handed over no later than this after their commit, whatever the
    /// channel's switch timer is: somebody looks at them.
    fn switch_within(&self) -> Option<Duration> {
        None
    }
    /// What it has to say of itself while it runs and at the end, beside the books.
    fn facts(&self) -> Option<Facts> {
        None
    }
    /// What else there is to say at the end of where the records are.
    fn at_the_end(&self) -> Option<AtTheEnd> {
        None
    }
    /// Whether packets are taken in this mode; if not, they stay in the ring (*kept*).
    fn takes(&self, mode: Mode) -> bool {
        let _ = mode;
        true
    }
    /// The bytes of a packet that is lent to a snapshot, for memory that can be read back.
    fn view<'a>(packet: &'a LentPacket<'_, Self::Memory>) -> Option<PacketView<'a>> {
        let _ = packet;
        None
    }
    /// When its channel is to be copied without being asked by name.
    fn snapshot_plan(&self) -> Option<SnapshotPlan> {
        None
    }
    /// A memory of `stream.subbuf_size` bytes for this stream, ready to be written.
    ///
    /// # Errors
    /// No memory to be had.
    fn memory(&mut self, stream: &StreamInfo) -> Result<Self::Memory, BackendError>;
    /// The channel's output; called once.
    ///
    /// # Errors
    /// Device trouble.
    fn output(&mut self) -> Result<Self::Output, BackendError>;
}

/// Why an output is to begin a new piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// Somebody asked for it.
    Asked {
        /// When. Outputs that share a place begin one piece between them: one that was begun
        /// since then does.
        since: Instant,
    },
    /// Its own time has come ([`Output::rotate_at`]).
    Due,
}

/// When an output wants its turn, and what it wants to find then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The drain sleeps until then, whatever there is to take.
    pub at: Instant,
    /// What the drain does before the turn.
    pub then: Before,
    /// It has something in its hands that is not where it belongs yet.
    pub behind: bool,
}

/// What the drain does before it gives an output with a pace its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: what is in the ring stays there.
    Nothing,
    /// Takes what is delivered.
    Take,
    /// Leaves the part-filled sub-buffers, and takes all there is: the newest records, too.
    Switch,
}

/// What becomes of a channel's packets. One for each channel; called once per packet,
/// never per record.
///
/// An output words its own trouble (once, then at most once a second) in the program's log;
/// the books need nothing from it: a packet is counted as written by [`Packet::written`], as
/// failed when it is dropped without.
#[async_trait]
pub trait Output<M: Memory>: Send + 'static {
    /// Takes a packet. May keep it for a while, and others with it, up to
    /// `reader_subbufs` for each stream. Returns when it can take the next one.
    async fn write_packet(&mut self, packet: Packet<M>);
    /// The drain has handed over all that it could take at the moment: the time for work that
    /// is cheaper on its thread, several packets at once, than handed to another one. While
    /// this runs no packet is taken, so it is to be short.
    async fn turn(&mut self) {}
    /// For an output that is slower than what it is given and chooses for itself when to take
    /// ([`Backend::is_paced`]): when it wants its turn, which it gets whether there was a packet
    /// or not. `None`: whenever there is something.
    fn pace(&self) -> Option<Pace> {
        None
    }
    /// Nothing will be recorded any more; what is in the ring is still to come. An output with
    /// a pace is not behind for ever after this: it gives up what it cannot bring out in time.
    fn ending(&mut self) {}
    /// Returns when all packets taken so far are where they belong.
    async fn flush(&mut self);
    /// Begins a new piece of the output: what it takes from here on goes there. Called with
    /// nothing in its hands ([`Output::flush`]). Gives where the piece is that has ended, if one
    /// has.
    ///
    /// # Errors
    /// That it has no pieces, or why a new one cannot be begun; it then goes on as it was.
    async fn rotate(&mut self, why: Rotate) -> Result<Option<String>, Refused> {
        let _ = why;
        Err(Refused::NoPieces)
    }
    /// When it wants a rotation without being asked for one; the drain looks between packets,
    /// and sleeps no longer than this. What goes wrong with it the output says itself.
    fn rotate_at(&self) -> Option<Instant> {
        None
    }
    /// Flushes, and closes what was opened.
    ///
    /// # Errors
    /// What could not be brought to its end; packets are counted apart from that.
    async fn close(&mut self) -> Result<(), BackendError>;
}

/// Goes through the registry: the program, the conformance tests and the benches are
/// visitors.
pub trait Visit {
    /// Called once for each backend.
    fn visit<B: Backend>(&mut self);
}
