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
//! Where that is short, too, the store keeps less (`ordinary.rs`).
//!
//! Not here: what is made of the records (who wants to know of them: `arrival.rs`).

mod adapter;
mod arrival;
mod bench;
pub mod compute;
mod config;
mod device;
mod facts;
mod lane;
mod live;
mod memory;
mod ordinary;
mod owner;
mod read_back;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Facts, Identity, StreamInfo,
};
use rbpipe_core::bench::BenchPlan;
use rbpipe_core::class::ClassRegistry;

pub use adapter::{ADVICE, AdapterLine, adapters, quiet_drivers};
pub use arrival::Arrival;
pub use config::{Config, Fields, Keep, Kind, MOST_FOR_A_TIME, PngSize, Wanted, Way};
use device::Found;
pub use device::{Device, Gpu as GpuDevice};
pub use lane::GpuOutput;
use lane::Lane;
use live::{Live, Wish};
pub use memory::GpuMemory;
pub use store::{ALIGNMENT, Kept, PacketEntry, Place, Store, Table};
#[doc(hidden)]
pub use wgpu;

/// This build has it.
pub const BUILT: bool = true;

/// The backend.
pub struct Gpu {
    lane: Arc<Lane>,
    picture: Option<Pictured>,
}

/// A picture that is wanted, until its thread begins.
struct Pictured {
    wish: Wish,
    classes: Arc<ClassRegistry>,
    /// The pipeline's name, and the time from its clock's zero to the epoch.
    pipeline: (String, u64),
    /// For its index.
    bytes: u64,
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

/// Whether a picture can be written there, and is no other channel's.
fn alone(path: &Path, context: &Context) -> Result<(), BackendError> {
    let shown = path.display();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let message = format!("{shown}: {} is no directory: make it", dir.display());
        return Err(BackendError::new(message));
    }
    if path.is_dir() {
        let message = format!("{shown}: is a directory: name a file for the picture");
        return Err(BackendError::new(message));
    }
    let real =
        dir.canonicalize().map_err(|e| BackendError::io(format!("{shown}: no picture"), e))?;
    let name = path.file_name().unwrap_or_default();
    let key = format!("picture {}", real.join(name).display());
    let taken = context.shared(&key, || Ok(AtomicBool::new(false)))?;
    if taken.swap(true, Ordering::Relaxed) {
        let message = format!("{shown}: is the picture of another channel: name another file");
        return Err(BackendError::new(message));
    }
    Ok(())
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
# A picture of the newest, for machines without a display: written anew every while and at the end.
# A third of `keep` is for its index then.
# png = \"live.png\"
# png_interval = \"1 s\"
# png_size = \"1600x900\"
# png_window = \"10 s\"    # how much time it shows
# png_theme = \"dark\"     # | light
# png_value = \"sched:sched_switch.next_prio\"   # a lane with the least, mean and largest value of
#                         # an integer field, EVENT.FIELD; or a list
";
    const READER_SUBBUFS: u32 = 16;
    type Config = Config;
    type Memory = GpuMemory;
    type Output = GpuOutput;

    fn check(config: &Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        config.problems(plan)
    }
    fn bench_plans() -> Vec<BenchPlan<Config>> {
        bench::plans()
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
        let (keep, bytes) = config.shares();
        let store = Arc::new(Store::new(&plan.name, keep));
        let picture = config.wish().map(|wish| {
            alone(&wish.path, context)?;
            let classes = Arc::clone(&plan.classes);
            let pipeline = (context.pipeline.clone(), context.clock_offset);
            Ok::<_, BackendError>(Pictured { wish, classes, pipeline, bytes })
        });
        let reader = plan.geometry.reader_subbufs() as usize;
        let lane = Arc::new(Lane::new(store, device, (way, subbuf), reader));
        Ok(Self { lane, picture: picture.transpose()? })
    }
    fn identity(&self) -> Identity {
        // In no trace, so nobody asks.
        Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
    }
    fn facts(&self) -> Option<Facts> {
        Some(self.lane.facts())
    }
    fn switch_within(&self) -> Option<Duration> {
        self.picture.as_ref().map(|_| live::WITHIN)
    }
    fn look_with(&self) -> Vec<String> {
        self.picture.iter().map(|p| p.wish.path.display().to_string()).collect()
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<GpuMemory, BackendError> {
        self.lane.memory(stream)
    }
    fn output(&mut self) -> Result<GpuOutput, BackendError> {
        self.lane.prepare();
        let begin = |Pictured { wish, classes, pipeline: (name, offset), bytes }: Pictured| {
            let (store, device) = (&self.lane.store, self.lane.gpu());
            Live::begin(wish, store, device, &classes, (&name, offset), bytes)
        };
        let live = self.picture.take().map(begin).transpose()?;
        Ok(GpuOutput { lane: Arc::clone(&self.lane), live })
    }
}
