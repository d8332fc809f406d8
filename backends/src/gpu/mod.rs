//! `gpu`: records are written once, where the GPU finds them, and the newest of them stay in its
//! memory.
//!
//! ```text
//! writers ─▶ mapped buffers ─exchange─▶ owner thread: unmap, copy into the store, map again
//!            (memory.rs)                (owner.rs)     (store.rs)
//! ```
//!
//! The engine's exchange *is* the ownership that wgpu asks for: a packet has its buffer to
//! itself, so its view can end and the GPU have it, while writers go on in others. Any number of
//! them travels at once, up to the channel's `reader_subbufs`.
//!
//! One device and one thread for all channels that name their adapter alike (`device.rs`), a
//! store for each. Where there is no adapter, or it is lost, or its driver panics, ordinary
//! memory takes the buffers' place by the same exchange, packet by packet (`lane.rs`), and the
//! store is in ordinary memory: writers notice nothing, what was on its way fails and is counted.
//!
//! Not here: what is made of the records (who wants to know of them: `arrival.rs`).

mod adapter;
mod arrival;
mod config;
mod device;
mod facts;
mod lane;
mod memory;
mod owner;
mod read_back;
mod store;

use std::sync::Arc;

use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Facts, Identity, StreamInfo,
};

pub use adapter::{ADVICE, AdapterLine, adapters, quiet_drivers};
pub use arrival::Arrival;
pub use config::{Config, Keep, Kind, MOST_FOR_A_TIME, Wanted, Way};
use device::Found;
pub use device::{Device, Gpu as GpuDevice};
pub use lane::GpuOutput;
use lane::Lane;
pub use memory::GpuMemory;
pub use store::{ALIGNMENT, Kept, PacketEntry, Place, Store, Table};
#[doc(hidden)]
pub use wgpu;

/// This build has it.
pub const BUILT: bool = true;

/// The backend.
pub struct Gpu {
    lane: Arc<Lane>,
}

impl Gpu {
    /// What is kept of the channel.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.lane.store
    }

    /// The device; `None`: there is none, and the store is in ordinary memory.
    #[must_use]
    pub fn device(&self) -> Option<&Arc<GpuDevice>> {
        self.lane.device.as_ref().map(|device| device.gpu())
    }

    /// How records get into the store.
    #[must_use]
    pub fn way(&self) -> Way {
        self.lane.way
    }
}

/// How records get into the memory of this adapter, if it is left to us.
fn suits(gpu: &GpuDevice) -> Way {
    match gpu.kind {
        // What the processor writes is where shaders find it.
        Kind::Integrated if gpu.is_direct => Way::Direct,
        _ => Way::Staged,
    }
}

impl Backend for Gpu {
    const TYPE: &'static str = "gpu";
    const ABOUT: &'static str = "a GPU's memory, which keeps the newest";
    const SAMPLE: &'static str = "\
# Records are written where the GPU finds them; its memory keeps the newest. Without a GPU, or when
# it is lost, ordinary memory takes its place, which is said.
type = \"gpu\"
adapter = \"auto\"        # the best one, or none | discrete | integrated | virtual | cpu | a part of
                        # its name: `rbpipe devices`. One that is asked for must be there
memory = \"auto\"         # staged: mapped memory, which the GPU copies into its store
                        # | direct: mapped memory is the store (integrated, cpu: memory that the
                        #   processor shares) | heap: ordinary memory, copied twice
                        # auto: direct where the adapter is integrated, else staged
keep = \"512 MiB\"        # what the store keeps, or a time: \"30 s\" (of 1 GiB at most)
";
    const READER_SUBBUFS: u32 = 16;
    type Config = Config;
    type Memory = GpuMemory;
    type Output = GpuOutput;

    fn check(config: &Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        config.problems(plan)
    }
    fn open(config: Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        let key = format!("GPU {}", config.adapter);
        let found = context.shared(&key, || Found::open(&config.adapter))?;
        let device = found.0.clone();
        let way = match (&device, config.memory) {
            (None, _) => Way::Heap,
            (Some(device), Way::Auto) => suits(device.gpu()),
            (Some(device), Way::Direct) if !device.gpu().is_direct => {
                return Err(BackendError::new(format!(
                    "GPU {} ({}): memory = \"direct\" needs an adapter whose memory the processor \
                     shares: write \"staged\", \"heap\" or \"auto\"",
                    device.gpu().name,
                    device.gpu().kind.name()
                )));
            }
            (Some(_), way) => way,
        };
        let subbuf = plan.geometry.subbuf_size();
        if let Some(device) = device.as_ref().filter(|d| d.gpu().longest < subbuf) {
            return Err(BackendError::new(format!(
                "GPU {}: a buffer has at most {} bytes: make subbuf_size smaller",
                device.gpu().name,
                device.gpu().longest
            )));
        }
        let store = Arc::new(Store::new(&plan.name, config.keep));
        let reader = plan.geometry.reader_subbufs() as usize;
        Ok(Self { lane: Arc::new(Lane::new(store, device, (way, subbuf), reader)) })
    }
    fn identity(&self) -> Identity {
        // In no trace, so nobody asks.
        Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
    }
    fn facts(&self) -> Option<Facts> {
        Some(self.lane.facts())
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<GpuMemory, BackendError> {
        self.lane.memory(stream)
    }
    fn output(&mut self) -> Result<GpuOutput, BackendError> {
        self.lane.prepare();
        Ok(GpuOutput { lane: Arc::clone(&self.lane) })
    }
}
