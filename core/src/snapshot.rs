//! A snapshot of a channel: what its streams hold, handed to whoever asked for it, on the
//! drain's thread (one reader at a time). What a stream gives is in `stream/snapshot.rs`; what
//! becomes of it (a trace directory) is not the engine's: see [`SnapshotTo`].

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::backend::{Backend, BackendError, StreamInfo};
use crate::channel::Channel;
use crate::frontend::PacketFacts;
use crate::stream::Gathered;

/// When a channel is to be copied without being asked by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// At SIGUSR1.
    pub on_signal: bool,
    /// At the pipeline's end.
    pub on_exit: bool,
    /// Where to, without the number that is added.
    pub path: PathBuf,
}

/// A packet's bytes, for as long as it is lent.
#[derive(Clone, Copy, Debug)]
pub struct PacketView<'a> {
    /// Header and content, rounded up to 8 bytes.
    pub bytes: &'a [u8],
    /// The file that holds the same bytes, and where they begin in it, where there is one.
    pub file: Option<(BorrowedFd<'a>, u64)>,
}

/// Where a snapshot goes. Several channels may write into it at the same time.
pub trait SnapshotTo: std::fmt::Debug + Send + Sync {
    /// Begins a stream: called once for each that has a packet.
    ///
    /// # Errors
    /// Device trouble, in words.
    fn stream(
        &self,
        channel: &str,
        info: &StreamInfo,
    ) -> Result<Box<dyn SnapshotStream + '_>, BackendError>;
}

/// One stream's place in a snapshot.
pub trait SnapshotStream {
    /// Forgets what it has got so far.
    fn begin_again(&mut self);
    /// The next packet.
    ///
    /// # Errors
    /// Device trouble, in words: the snapshot is given up.
    fn packet(&mut self, facts: &PacketFacts, packet: PacketView<'_>) -> Result<(), BackendError>;
    /// All packets have come.
    ///
    /// # Errors
    /// Device trouble, in words: the snapshot is given up.
    fn finish(&mut self) -> Result<(), BackendError>;
}

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the reply's")]
pub struct Snapped {
    /// Those with a packet.
    pub streams: u64,
    pub packets: u64,
    pub events: u64,
    pub bytes: u64,
    /// From the first packet's begin to the last one's end (CLOCK_MONOTONIC, ns); 0 without.
    pub from: u64,
    pub to: u64,
    /// Streams whose writers were faster than the copy, however little was asked for.
    pub outrun: u64,
}

impl Snapped {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let from = match (self.packets, other.packets) {
            (_, 0) => self.from,
            (0, _) => other.from,
            _ => self.from.min(other.from),
        };
        Self {
            streams: self.streams + other.streams,
            packets: self.packets + other.packets,
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
            from,
            to: self.to.max(other.to),
            outrun: self.outrun + other.outrun,
        }
    }
}

impl<B: Backend> Channel<B> {
    /// Copies what the channel's streams hold to `to`, stream by stream, while writers go on.
    pub(crate) fn snapshot(&mut self, to: &dyn SnapshotTo) -> Result<Snapped, BackendError> {
        let name = &self.options.plan.name;
        let mut all = Snapped::default();
        for stream in &mut self.streams {
            let id = stream.info().id;
            let mut place: Option<Box<dyn SnapshotStream + '_>> = None;
            let run = stream.snapshot(|gathered| match gathered {
                Gathered::BeginAgain => {
                    if let Some(place) = &mut place {
                        place.begin_again();
                    }
                    Ok(())
                }
                Gathered::Packet(packet) => {
                    let view = B::view(&packet).ok_or_else(|| {
                        BackendError::new(format!(
                            "what a {} backend holds cannot be read back, so there is no snapshot \
                             of it",
                            B::TYPE
                        ))
                    })?;
                    let place = match &mut place {
                        Some(place) => place,
                        None => place.insert(to.stream(name, packet.stream())?),
                    };
                    place.packet(packet.facts(), view)
                }
            })?;
            let Some(run) = run else {
                return Err(BackendError::new(format!(
                    "stream {id} has no memory to put in a packet's place: its output holds all"
                )));
            };
            if let Some(place) = &mut place {
                place.finish()?;
            }
            all = all.and(Snapped {
                streams: u64::from(run.packets > 0),
                packets: run.packets,
                events: run.records,
                bytes: run.bytes,
                from: run.begin,
                to: run.end,
                outrun: u64::from(run.outrun),
            });
        }
        Ok(all)
    }
}
