//! `pages`: memory without an output. The null of everything: packets are taken, counted and
//! dropped; in overwrite mode they are never taken, and the ring keeps the newest: a flight
//! recorder, whose snapshots are `snapshot.rs`'s.

use std::path::PathBuf;

use async_trait::async_trait;
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::bench::{BenchPlan, BenchRig};
use rbpipe_core::frontend::Mode;
use rbpipe_core::snapshot::{PacketView, SnapshotPlan};
use rbpipe_core::stream::{LentPacket, Packet};
use serde::Deserialize;

use crate::heap::{Heap, HeapMemory};
use crate::mapping::Pages as PageKind;
use crate::snapshot::Recorders;

/// Keys of `type = "pages"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which pages the ring has.
    #[serde(default)]
    pub memory: PageKind,
    /// What makes a snapshot without being asked by name.
    #[serde(default)]
    pub snapshot_on: Vec<Occasion>,
    /// Where such a snapshot goes; a number is added. Channels with the same path share one.
    pub snapshot_path: Option<PathBuf>,
}

/// What makes a snapshot without being asked by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Occasion {
    /// The signal.
    #[serde(rename = "SIGUSR1")]
    Signal,
    /// The pipeline's end.
    #[serde(rename = "exit")]
    Exit,
}

/// The backend.
pub struct Pages {
    heap: Heap,
    identity: Identity,
    plan: Option<SnapshotPlan>,
    channel: String,
    kind: PageKind,
}

/// Whether a channel in this mode keeps its records.
fn keeps(mode: Mode) -> bool {
    mode == Mode::Overwrite
}

impl Backend for Pages {
    const TYPE: &'static str = "pages";
    const ABOUT: &'static str = "memory, no output: counts packets, or keeps the newest";
    const SAMPLE: &'static str = "\
# Memory without an output. In discard and block mode packets are taken, counted in the
# report's `output`, and dropped; in overwrite mode they are never taken: the ring keeps the
# newest (`kept`), a flight recorder. `rbpipe snapshot --out DIR` copies what it holds into a
# trace, while it goes on.
type = \"pages\"
memory = \"heap\"         # heap | huge: huge pages, reserved ones or else transparent, for rings
                        # of 2 MiB and more | memfd: others may map it, --splice can carry it
snapshot_on = []        # overwrite mode: \"SIGUSR1\", \"exit\": copies it then, too, into
snapshot_path = \"snapshot\"  # snapshot.1, snapshot.2, …: nothing is replaced; channels with the
                        # same path share one
";
    type Config = Config;
    type Memory = HeapMemory;
    type Output = Dropped;

    fn check(config: &Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key, message: String| problems.push(ConfigProblem { key, message });
        if !config.snapshot_on.is_empty() && !keeps(plan.mode) {
            problem(
                "snapshot_on",
                format!(
                    "needs a channel that keeps its records, which mode = \"{}\" does not: set \
                     mode = \"overwrite\", or leave it out",
                    plan.mode.name()
                ),
            );
        }
        if let Some(path) = &config.snapshot_path {
            let bytes = path.as_os_str().as_encoded_bytes();
            if bytes.contains(&0) {
                problem("snapshot_path", "has a NUL in it, which no path can have".into());
            } else if path.file_name().is_none() || bytes.ends_with(b"/") {
                problem(
                    "snapshot_path",
                    "names no directory that a number could be added to: write \"snapshot\"".into(),
                );
            }
        }
        problems
    }
    fn bench_plans() -> Vec<BenchPlan<Config>> {
        let kinds = [PageKind::Heap, PageKind::Huge, PageKind::Memfd];
        let plan = |(name, memory): (&str, PageKind)| BenchPlan {
            variant: name.into(),
            limit: None,
            set_up: Box::new(move |_| Ok(BenchRig::new(Config { memory, ..Config::default() }))),
        };
        ["heap", "huge", "memfd"].into_iter().zip(kinds).map(plan).collect()
    }
    fn open(config: Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        let identity = if keeps(plan.mode) {
            Recorders::of(context)?.join(plan)
        } else {
            // In no trace, so nobody asks.
            Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
        };
        let on = |occasion| config.snapshot_on.contains(&occasion);
        let snapshot_plan = SnapshotPlan {
            on_signal: on(Occasion::Signal),
            on_exit: on(Occasion::Exit),
            path: config.snapshot_path.clone().unwrap_or_else(|| "snapshot".into()),
        };
        let name = format!("rbpipe:{}:{}", context.pipeline, plan.name);
        Ok(Self {
            heap: Heap::of(config.memory, &name),
            identity,
            plan: keeps(plan.mode).then_some(snapshot_plan),
            channel: plan.name.clone(),
            kind: config.memory,
        })
    }
    fn identity(&self) -> Identity {
        self.identity
    }
    fn takes(&self, mode: Mode) -> bool {
        !keeps(mode)
    }
    fn view<'a>(packet: &'a LentPacket<'_, HeapMemory>) -> Option<PacketView<'a>> {
        let file = packet.memory()?.file();
        Some(PacketView { bytes: packet.bytes(), file })
    }
    fn snapshot_plan(&self) -> Option<SnapshotPlan> {
        self.plan.clone()
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<Dropped, BackendError> {
        if self.kind != PageKind::Heap {
            tracing::info!("channel {}: {}", self.channel, self.heap.words());
        }
        Ok(Dropped)
    }
}

/// The output: counts and drops.
pub struct Dropped;

#[async_trait]
impl Output<HeapMemory> for Dropped {
    async fn write_packet(&mut self, packet: Packet<HeapMemory>) {
        // Nothing is written, so no bytes are.
        packet.written(0);
    }
    async fn flush(&mut self) {}
    async fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
