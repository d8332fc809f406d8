//! A channel: streams with the same attributes, and the writer that chooses among them.
//!
//! Streams are made when the channel is opened, ahead of need, never by a writer: one for
//! each CPU that the machine may have, or a pool for threads that come and go, or one.
//! Their memory is only reserved then; pages appear when they are first written (or at
//! once, with `prefault`). An importing source gets streams of its own
//! ([`Channel::import`]), because timestamps that are brought and timestamps that are taken
//! here never mix in one stream.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::backend::{Backend, ChannelPlan, StreamInfo};
use crate::class::{ClassId, ClassRegistry};
use crate::clock;
use crate::drain::Reply;
use crate::frontend::Timestamps;
use crate::packet::StreamClass;
use crate::snapshot::SnapshotTo;
use crate::stream::{
    ImportWriter, Reservation, Stream, StreamBooks, StreamCore, StreamError, StreamOptions,
    WakeReader, WriteError,
};
use crate::wake::Wake;

/// Which streams a channel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// One for each CPU.
    PerCpu,
    /// A pool of this many, one for each thread while it lives, and a shared one for
    /// threads beyond.
    PerThread(u32),
    /// One.
    Single,
}

/// What a channel is made with.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Name, sizes, mode, classes.
    pub plan: ChannelPlan,
    /// Which streams.
    pub streams: Streams,
    /// Block mode: how long a writer waits; `None`: for ever.
    pub block_timeout: Option<Duration>,
    /// A part-filled sub-buffer is handed over after this long; `None`: never.
    pub switch_timer: Option<Duration>,
    /// How long an idle reader sleeps at most; `None`: every delivery wakes it.
    pub read_timer: Option<Duration>,
    /// Map memory in when it is made.
    pub prefault: bool,
}

/// What writers and the rest of the pipeline share of a channel.
struct Shared {
    key: u64,
    streams: Streams,
    cores: Box<[Arc<StreamCore>]>,
    imports: Mutex<Vec<Arc<StreamCore>>>,
    classes: Arc<ClassRegistry>,
}

/// An opened channel: the reader's side, to be drained on a thread of its own
/// ([`Channel::run`]).
pub struct Channel<B: Backend> {
    shared: Arc<Shared>,
    pub(crate) backend: B,
    pub(crate) output: B::Output,
    pub(crate) streams: Vec<Stream<B::Memory>>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) options: ChannelOptions,
    /// To be made when it ends.
    pub(crate) last_snapshots: Vec<(Arc<dyn SnapshotTo>, Reply)>,
}

/// The number of CPUs that this machine may have (hot-plugged ones included).
#[must_use]
pub fn possible_cpus() -> u32 {
    std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|text| text.trim().split([',', '-']).filter_map(|n| n.parse::<u32>().ok()).max())
        .map_or_else(
            || std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            |last| last + 1,
        )
        .clamp(1, 4096)
}

/// A channel whose streams are made, and whose output is not: nothing that could not be taken
/// back has been done yet.
pub struct Prepared<B: Backend> {
    backend: B,
    streams: Vec<Stream<B::Memory>>,
    /// How many of them are not imports.
    own: usize,
    wake: Arc<Wake>,
    options: ChannelOptions,
}

impl<B: Backend> Channel<B> {
    /// Makes the channel's streams in the backend's memory, and opens its output.
    ///
    /// # Errors
    /// No memory, or device trouble.
    pub fn open(options: ChannelOptions, backend: B) -> Result<Self, StreamError> {
        Self::prepare(options, backend)?.open()
    }

    /// Makes the channel's streams in the backend's memory.
    ///
    /// # Errors
    /// No memory.
    pub fn prepare(
        mut options: ChannelOptions,
        mut backend: B,
    ) -> Result<Prepared<B>, StreamError> {
        let timer = [options.switch_timer, backend.switch_within()];
        options.switch_timer = timer.into_iter().flatten().min();
        let wake = Arc::new(Wake::new());
        let mut streams = Vec::new();
        let mut make = |class, cpu| {
            let id = streams.len() as u32;
            let wake = Arc::clone(&wake);
            let who = Who { id, class, cpu, start: clock::now() };
            streams.push(make_stream(&mut backend, &options, who, Timestamps::Clock, wake)?);
            Ok::<_, StreamError>(())
        };
        match options.streams {
            Streams::Single => make(StreamClass::Plain, None)?,
            Streams::PerCpu => {
                for cpu in 0..possible_cpus() {
                    make(StreamClass::Cpu, Some(cpu))?;
                }
            }
            Streams::PerThread(max) => {
                make(StreamClass::Plain, None)?;
                for _ in 0..max {
                    make(StreamClass::Thread, None)?;
                }
            }
        }
        let own = streams.len();
        Ok(Prepared { backend, streams, own, wake, options })
    }
}

impl<B: Backend> Prepared<B> {
    /// See [`Channel::import`].
    ///
    /// # Errors
    /// No memory.
    pub fn import(&mut self, cpu: Option<u32>) -> Result<ImportWriter, StreamError> {
        let id = self.streams.len() as u32;
        let start = clock::now();
        let stream = make_import(&mut self.backend, &self.options, id, cpu, start, &self.wake)?;
        let core = Arc::clone(stream.core());
        self.streams.push(stream);
        Ok(ImportWriter::new(core))
    }

    /// Opens the output.
    ///
    /// # Errors
    /// Device trouble.
    pub fn open(self) -> Result<Channel<B>, StreamError> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let Self { mut backend, streams, own, wake, options } = self;
        let output = backend.output()?;
        let cores = |streams: &[Stream<B::Memory>]| {
            streams.iter().map(|s| Arc::clone(s.core())).collect::<Vec<_>>()
        };
        let shared = Arc::new(Shared {
            key: KEYS.fetch_add(1, Ordering::Relaxed),
            streams: options.streams,
            cores: cores(&streams[..own]).into(),
            imports: Mutex::new(cores(&streams[own..])),
            classes: Arc::clone(&options.plan.classes),
        });
        Ok(Channel { shared, backend, output, streams, wake, options, last_snapshots: Vec::new() })
    }
}

impl<B: Backend> Channel<B> {
    /// A writer: cheap to clone, for any thread.
    pub fn writer(&self) -> Writer {
        Writer {
            first: Arc::clone(&self.shared.cores[SHARED]),
            shared: Arc::clone(&self.shared),
            streams: self.shared.streams,
            registers: true,
        }
    }

    /// A stream for records that bring their own timestamps, and its one writer.
    ///
    /// # Errors
    /// No memory.
    pub fn import(&mut self, cpu: Option<u32>) -> Result<ImportWriter, StreamError> {
        self.import_from(cpu, clock::now())
    }

    /// The same for a stream that begins at `start` (nanoseconds, on its records' clock): records
    /// that come from elsewhere are older than now, or of another clock.
    ///
    /// # Errors
    /// No memory.
    pub fn import_from(
        &mut self,
        cpu: Option<u32>,
        start: u64,
    ) -> Result<ImportWriter, StreamError> {
        let id = self.streams.len() as u32;
        let stream = make_import(&mut self.backend, &self.options, id, cpu, start, &self.wake)?;
        let core = Arc::clone(stream.core());
        self.shared.imports().push(Arc::clone(&core));
        self.streams.push(stream);
        Ok(ImportWriter::new(core))
    }

    /// The books, for a report or a status line.
    pub fn monitor(&self) -> Monitor {
        Monitor { shared: Arc::clone(&self.shared) }
    }

    /// What asks the channel's drain to stop or to flush.
    pub fn waker(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }
}

/// Who a stream is that is to be made.
struct Who {
    id: u32,
    class: StreamClass,
    cpu: Option<u32>,
    start: u64,
}

fn make_import<B: Backend>(
    backend: &mut B,
    options: &ChannelOptions,
    id: u32,
    cpu: Option<u32>,
    start: u64,
    wake: &Arc<Wake>,
) -> Result<Stream<B::Memory>, StreamError> {
    let class = if cpu.is_some() { StreamClass::Cpu } else { StreamClass::Plain };
    let who = Who { id, class, cpu, start };
    make_stream(backend, options, who, Timestamps::Given, Arc::clone(wake))
}

fn make_stream<B: Backend>(
    backend: &mut B,
    options: &ChannelOptions,
    Who { id, class, cpu, start }: Who,
    timestamps: Timestamps,
    wake: Arc<Wake>,
) -> Result<Stream<B::Memory>, StreamError> {
    let plan = &options.plan;
    let geometry = plan
        .geometry
        .with_header(class.header_size())
        .map_err(|e| StreamError::Backend(crate::backend::BackendError::new(e.to_string())))?;
    let info = Arc::new(StreamInfo {
        id,
        class,
        cpu,
        start,
        identity: backend.identity(),
        subbuf_size: geometry.subbuf_size() as usize,
        memories: geometry.memories() as usize,
        prefault: options.prefault,
    });
    let stream_options = StreamOptions {
        geometry,
        mode: plan.mode,
        timestamps,
        block_timeout: options.block_timeout,
        wake_reader: match options.read_timer {
            _ if !backend.takes(plan.mode) || backend.is_paced() => WakeReader::Never,
            Some(_) => WakeReader::HalfFull,
            None => WakeReader::Always,
        },
    };
    Stream::new(Arc::clone(&info), &stream_options, wake, || backend.memory(&info))
}

impl Shared {
    fn imports(&self) -> std::sync::MutexGuard<'_, Vec<Arc<StreamCore>>> {
        self.imports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// --- the writer ---------------------------------------------------------------------

/// Writes into a channel: chooses the stream, reserves, and may be used from any thread.
///
/// ```no_run
/// # use rbpipe_core::{channel::Writer, class::ClassId};
/// # fn f(writer: &Writer, tick: ClassId) {
/// let mut record = writer.reserve(tick, 8).unwrap();
/// record.write(&7u64.to_le_bytes());
/// record.commit();
/// # }
/// ```
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
    /// The only stream, or that of threads that have none: a record finds it here, with which
    /// streams there are, and looks at neither `shared` nor its list.
    first: Arc<StreamCore>,
    streams: Streams,
    registers: bool,
}

impl Writer {
    /// The channel's event classes.
    #[must_use]
    pub fn classes(&self) -> &ClassRegistry {
        &self.shared.classes
    }

    /// The same for signal handlers: it never registers a thread (which allocates once). In
    /// a thread that has a stream it uses that one, elsewhere the shared one.
    #[must_use]
    pub fn for_handlers(&self) -> Self {
        Self { registers: false, ..self.clone() }
    }

    /// Takes a stream from the pool for this thread (per-thread channels; else nothing),
    /// as its first record would. It goes back when the thread ends.
    pub fn register(&self) {
        if matches!(self.shared.streams, Streams::PerThread(_)) && leased(self.shared.key).is_none()
        {
            lease(&self.shared);
        }
    }

    /// Reserves a record of class `class` with `payload` bytes.
    ///
    /// # Errors
    /// See [`WriteError`]; what is lost has been counted.
    #[inline]
    pub fn reserve(&self, class: ClassId, payload: usize) -> Result<Reservation<'_>, WriteError> {
        self.core().reserve_record(class, payload)
    }

    /// Records a payload that lies ready.
    ///
    /// # Errors
    /// See [`WriteError`].
    #[inline]
    pub fn record(&self, class: ClassId, payload: &[u8]) -> Result<(), WriteError> {
        self.core().record(class, payload)
    }

    #[inline]
    fn core(&self) -> &StreamCore {
        let cores = &self.shared.cores;
        match self.streams {
            Streams::Single => &self.first,
            // Migration between this and the reserve is harmless: streams take writers
            // from anywhere, the CPU is where most of them are.
            Streams::PerCpu => &cores[rustix::thread::sched_getcpu() % cores.len()],
            Streams::PerThread(_) => match leased(self.shared.key) {
                Some(place) => &cores[place],
                None if self.registers => &cores[lease(&self.shared)],
                None => &self.first,
            },
        }
    }
}

/// The place of the shared stream of a per-thread channel.
const SHARED: usize = 0;
/// Channels in which one thread can have a stream of its own.
const LEASES: usize = 16;

thread_local! {
    // Looked at for each record and from signal handlers: const, no destructor.
    static PLACES: [Cell<(u64, u32)>; LEASES] = const { [const { Cell::new((0, 0)) }; LEASES] };
    // Gives the streams back when the thread ends; touched only to register.
    static HELD: RefCell<Vec<Lease>> = const { RefCell::new(Vec::new()) };
}

/// A stream that this thread has.
struct Lease {
    shared: Weak<Shared>,
    key: u64,
    place: usize,
}

#[inline]
fn leased(key: u64) -> Option<usize> {
    PLACES.with(|places| {
        places.iter().map(Cell::get).find(|(k, _)| *k == key).map(|(_, place)| place as usize)
    })
}

/// Takes a stream from the pool; the shared one when there is none.
#[cold]
fn lease(shared: &Arc<Shared>) -> usize {
    HELD.try_with(|held| {
        // Borrowed: a handler came in while this thread registers.
        let Ok(mut held) = held.try_borrow_mut() else { return SHARED };
        held.retain(|l| l.shared.strong_count() > 0);
        let Some(free) = PLACES.with(|p| p.iter().position(|c| c.get().0 == 0)) else {
            return SHARED;
        };
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let place = (1..shared.cores.len())
            .find(|place| {
                // AcqRel: after the switch of the thread that gave it back.
                let origin = &shared.cores[*place].origin;
                origin.load(Ordering::Relaxed) == 0
                    && origin
                        .compare_exchange(0, thread, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
            })
            .unwrap_or(SHARED);
        held.push(Lease { shared: Arc::downgrade(shared), key: shared.key, place });
        PLACES.with(|p| p[free].set((shared.key, place as u32)));
        place
    })
    // The thread is ending and has given its streams back.
    .unwrap_or(SHARED)
}

impl Drop for Lease {
    fn drop(&mut self) {
        PLACES.with(|places| {
            for p in places.iter().filter(|p| p.get().0 == self.key) {
                p.set((0, 0));
            }
        });
        if let (Some(shared), true) = (self.shared.upgrade(), self.place != SHARED) {
            let core = &shared.cores[self.place];
            // A packet holds one thread's records and names it.
            core.switch();
            core.origin.store(0, Ordering::Release);
        }
    }
}

// --- the books ----------------------------------------------------------------------

/// The books of one stream, for a report.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// Its number in the channel.
    pub id: u32,
    /// Its CPU.
    pub cpu: Option<u32>,
    /// Its books.
    pub books: StreamBooks,
}

/// Reads a channel's books from outside.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

impl Monitor {
    /// All streams, in the order of their ids.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamReport> {
        let imports = self.shared.imports().clone();
        let cores = self.shared.cores.iter().chain(&imports);
        cores.map(|c| StreamReport { id: c.info.id, cpu: c.info.cpu, books: c.books() }).collect()
    }

    /// How full the fullest stream is: sub-buffers in use, of how many.
    #[must_use]
    pub fn fullest(&self) -> (u64, u64) {
        let imports = self.shared.imports().clone();
        let cores = self.shared.cores.iter().chain(&imports);
        cores.map(|c| c.fill()).max_by_key(|(fill, _)| *fill).unwrap_or((0, 0))
    }
}
