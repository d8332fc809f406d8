//! An opened adapter, shared by the channels of a pipeline that name it alike: the device, its
//! health, and the thread that owns its work. Not here: what that thread does (`owner.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;
use wgpu::{
    Adapter, BufferDescriptor, BufferUsages, ErrorFilter, Features, PollType, SubmissionIndex,
};

use super::adapter::{self, panicked, words};
use super::config::{Kind, Wanted};
use super::owner::{Inbox, Owner};
use crate::units::Size;

/// Buffers of the store are no longer than this, whatever the adapter could do: what is
/// overwritten at once is a part of the store, not half of it.
const LONGEST: u64 = 128 << 20;

/// Held while work is handed over to a device, or waited for: where one thread waits for a
/// submission that another thread's call sees the end of, wgpu 30 panics ("if the queue is empty
/// …"). Who waits does so for [`TURN`] at most, and lets others have theirs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// See [`one_at_a_time`].
pub(super) const TURN: Duration = Duration::from_millis(1);

/// To be held around each `submit` and `poll`.
pub(super) fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for what a callback says through `told` when a submission has ended (`None`: all that
/// there are). `None`: it said nothing within this time.
pub(super) fn wait_for<T>(
    device: &wgpu::Device,
    submission: Option<SubmissionIndex>,
    told: &Receiver<T>,
    patience: Duration,
) -> Option<T> {
    let begin = Instant::now();
    loop {
        match told.try_recv() {
            Ok(what) => return Some(what),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if begin.elapsed() >= patience => return None,
            Err(TryRecvError::Empty) => {}
        }
        let submission_index = submission.clone();
        let turn = one_at_a_time();
        let polled = device.poll(PollType::Wait { submission_index, timeout: Some(TURN) });
        drop(turn);
        match polled {
            // It has ended, so another thread is in the middle of the callback.
            Ok(_) => thread::yield_now(),
            // It takes longer; the device's own thread is to have its turn, which a lock that is
            // taken again at once would not give it.
            Err(_) => thread::sleep(TURN / 10),
        }
    }
}

/// An opened adapter.
pub struct Device {
    gpu: Arc<Gpu>,
    pub(super) inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// The device itself, and what is known of it.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// The adapter's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether a buffer may be both written by the processor and bound in a shader.
    pub(super) is_direct: bool,
    /// The longest buffer that a shader can have.
    pub(super) longest: u64,
    /// The longest one that the store makes, for many packets.
    pub(super) segment: u64,
    health: Arc<Health>,
}

/// Whether a device still works.
#[derive(Default)]
struct Health {
    lost: AtomicBool,
    why: OnceLock<String>,
    /// It is given back: what is said then is no news.
    ends: AtomicBool,
}

impl Health {
    fn lose(&self, name: &str, why: &str) {
        if self.ends.load(Ordering::Acquire) || self.why.set(why.to_owned()).is_err() {
            return;
        }
        tracing::error!(
            "GPU {name}: {why}: what it kept is gone, packets on their way to it count as \
             output.failed, and records are kept in ordinary memory from now on"
        );
        self.lost.store(true, Ordering::Release);
    }
}

/// What a channel finds when it wants a device.
pub(super) struct Found(pub(super) Option<Arc<Device>>);

impl Found {
    /// Opens it; for `auto` there may be none, which is said.
    ///
    /// # Errors
    /// The adapter that was named is not there, or cannot be opened.
    pub(super) fn open(wanted: &Wanted) -> Result<Self, BackendError> {
        let opened = match adapter::choose(wanted) {
            Ok(Some(adapter)) => Device::open(&adapter).map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(e),
        };
        match opened {
            Ok(Some(device)) => Ok(Self(Some(Arc::new(device)))),
            Ok(None) => {
                tracing::warn!(
                    "no GPU adapter: records are kept in ordinary memory instead; {}",
                    adapter::ADVICE
                );
                Ok(Self(None))
            }
            Err(e) if *wanted == Wanted::Auto => {
                tracing::warn!("{e}: records are kept in ordinary memory instead");
                Ok(Self(None))
            }
            Err(e) => Err(e),
        }
    }
}

impl Device {
    /// Opens an adapter.
    ///
    /// # Errors
    /// It cannot be opened, in one sentence.
    pub(super) fn open(adapter: &Adapter) -> Result<Self, BackendError> {
        let gpu = Arc::new(Gpu::open(adapter)?);
        let inbox = Arc::new(Inbox::default());
        let owner = Owner::new(Arc::clone(&gpu), Arc::clone(&inbox));
        let thread = thread::Builder::new()
            .name("gpu".into())
            .spawn(move || owner.run())
            .map_err(|e| BackendError::io("cannot start a thread for the GPU", e))?;
        Ok(Self { gpu, inbox, thread: Some(thread) })
    }

    /// The device itself.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.gpu.health.ends.store(true, Ordering::Release);
        self.inbox.stop();
        // The last packet may have been the last to know of it.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Gpu {
    fn open(adapter: &Adapter) -> Result<Self, BackendError> {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let kind = adapter::kind_of(adapter);
        let name = info.name.clone();
        let is_direct = adapter::is_direct(adapter);
        let direct = Features::MAPPABLE_PRIMARY_BUFFERS;
        let longest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let request = || {
            pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
                label: Some("rbpipe"),
                required_features: if is_direct { direct } else { Features::empty() },
                required_limits: limits.clone(),
                ..Default::default()
            }))
        };
        let cannot = |why: String| BackendError::new(format!("GPU {name}: cannot open it: {why}"));
        let (device, queue) = catch_unwind(AssertUnwindSafe(request))
            .map_err(|panic| cannot(format!("its driver panicked: {}", panicked(&*panic))))?
            .map_err(|e| cannot(words(&e.to_string())))?;
        let health = Arc::new(Health::default());
        let (told, who) = (Arc::clone(&health), name.clone());
        device.set_device_lost_callback(move |_, why| {
            let why = words(&why);
            told.lose(&who, &format!("the device is lost ({why})"));
        });
        let (told, who) = (Arc::clone(&health), name.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            told.lose(&who, &trouble(&error));
        }));
        // Where making one is writing all of it, twice, it is to be short.
        let segment = longest.min(if kind == Kind::Noop { LONGEST / 32 } else { LONGEST });
        Ok(Self { device, queue, name, kind, is_direct, longest, segment, health })
    }

    /// Whether nothing is to be expected from it any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.health.lost.load(Ordering::Acquire)
    }

    /// It is given up: said once, with the first reason.
    pub(super) fn lose(&self, why: &str) {
        self.health.lose(&self.name, why);
    }

    /// Does something with the device; a panic of its driver's loses the device.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(panic) => {
                self.lose(&format!("its driver panicked ({})", panicked(&*panic)));
                None
            }
        }
    }

    /// A buffer.
    ///
    /// # Errors
    /// There is no memory for it, in words.
    pub fn buffer(
        &self,
        size: u64,
        usage: BufferUsages,
        mapped: bool,
    ) -> Result<wgpu::Buffer, BackendError> {
        let make = || {
            let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
            let validation = self.device.push_error_scope(ErrorFilter::Validation);
            let buffer = self.device.create_buffer(&BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: mapped,
            });
            let errors = [validation.pop(), memory.pop()].map(pollster::block_on);
            match errors.into_iter().flatten().next() {
                Some(error) => Err(trouble(&error)),
                None => Ok(buffer),
            }
        };
        let failed = |why: &str| {
            BackendError::new(format!("GPU {}: no buffer of {}: {why}", self.name, Size(size)))
        };
        match self.guard(make) {
            Some(Ok(buffer)) if !self.is_lost() => Ok(buffer),
            Some(Err(why)) => Err(failed(&why)),
            _ => Err(failed("the device is lost")),
        }
    }
}

/// An error of wgpu's, in a line.
fn trouble(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "it has no memory left".into(),
        other => format!("an error ({})", words(&other.to_string())),
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("name", &self.name).finish_non_exhaustive()
    }
}
