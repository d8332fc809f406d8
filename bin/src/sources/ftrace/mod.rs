//! `ftrace`: the kernel's own events, from an instance of its tracer that is ours alone.
//!
//! Pages are read (not mapped: the map costs the kernel 2.5 to 5.8 times as much) and their
//! records written as runs into a stream for each CPU, with the kernel's timestamps. What the
//! kernel lost is counted exactly and told at its place. When it ends, tracing is as it was
//! found.

mod config;
mod constant;
mod cpu;
pub mod decoder;
mod fields;
mod format;
mod instance;
mod loss;
pub mod mount;
pub mod page;
mod print;
mod select;
mod threads;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rbpipe_backends::units::Size;
use rbpipe_core::backend::ConfigProblem;

use super::{Channels, Source, Stop};
use config::{Config, KernelMode};
use cpu::{Cpu, Shared};
use decoder::{Decoded, Formats};
use instance::Instance;
use mount::{NoTracefs, Tracefs};
use threads::{Bell, CPUS_PER_THREAD, Pace};

/// The source.
pub struct Ftrace;

/// An instance that is set up and stands still; `None`: it is not to be had, and optional.
pub struct Opened(Option<Ready>);

struct Ready {
    formats: Formats,
    cpus: Vec<u32>,
    page: usize,
    /// Bytes of a CPU's ring.
    ring: u64,
    pace: Pace,
    bell: Arc<Bell>,
    // Last: it goes when nobody reads it any more.
    instance: Instance,
}

impl Source for Ftrace {
    const TYPE: &'static str = "ftrace";
    const ABOUT: &'static str = "the kernel's own events: scheduler, interrupts, system calls, …";
    const SAMPLE: &'static str = "\
# The kernel's own events (SYSTEM:EVENT), with the kernel's fields and times; needs root. The
# tracer's instance is rbpipe's own: nobody else's tracing is touched.
type = \"ftrace\"
events = [
  \"sched:sched_switch\",
  \"sched:sched_process_*\",     # `*`, `?`, `[a-z]`; SYSTEM or EVENT alone will do
  \"irq:*\",
  \"!irq:tasklet_*\",            # takes away again
  { event = \"sched:sched_wakeup\", filter = \"prio < 100\" },  # the kernel's filter language
]
# filter = \"common_pid != 0\"   # for all that have none of their own
buffer_size = \"8 MiB\"         # the kernel's ring, for each CPU
subbuf_size = \"64 KiB\"        # its sub-buffers (4 KiB to 512 KiB), where the kernel has them
kernel_mode = \"overwrite\"     # a full ring of the kernel's loses the oldest; discard: the newest
buffer_percent = 25           # a ring that is so full is read at once
flush = \"100 ms\"              # all are read so often
priority = 0                  # 1 to 99: the reader's real-time priority (SCHED_FIFO)
optional = false              # true: where it is not to be had, say so and go on without it
";
    type Config = Config;
    type Opened = Opened;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        config.problems()
    }

    fn open(config: Config) -> anyhow::Result<Opened> {
        let optional = config.optional;
        match open(&config) {
            Ok(ready) => Ok(Opened(Some(ready))),
            Err(e) if optional => {
                tracing::warn!("kernel events are left out (optional): {e:#}");
                Ok(Opened(None))
            }
            Err(e) if e.is::<NoTracefs>() => {
                Err(anyhow!("{e:#}; `optional = true` would go on without it"))
            }
            Err(e) => Err(e),
        }
    }

    fn imports(opened: &Opened) -> Vec<u32> {
        opened.0.as_ref().map_or(Vec::new(), |ready| ready.cpus.clone())
    }

    fn run(opened: Opened, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        opened.0.map_or(Ok(()), |ready| ready.run(to, stop))
    }
}

/// Finds tracefs, makes an instance, sets it up. It stands still until it runs.
fn open(config: &Config) -> anyhow::Result<Ready> {
    let tracefs = Tracefs::find()?;
    let available = std::fs::read_to_string(tracefs.path("available_events"))
        .context("the kernel's list of events cannot be read")?;
    let events = select::select(&available, &config.events, config.filter.as_deref())?;
    let instance = Instance::create(tracefs)?;
    let page = set_up(&instance, config)?;
    let formats = select::formats(&instance, &events)?;
    let mut cpus: Vec<u32> = std::fs::read_dir(instance.file("per_cpu"))
        .context("the kernel's list of CPUs cannot be read")?
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().strip_prefix("cpu")?.parse().ok())
        .collect();
    cpus.sort_unstable();
    select::switch_on(&instance, &events)?;
    let pace = Pace {
        flush: config.flush.0,
        priority: config.priority,
        refuses: config.kernel_mode == KernelMode::Discard,
    };
    let bell = Bell::new().context("no eventfd")?;
    tracing::debug!("{} kernel events on {} CPUs", events.len(), cpus.len());
    let ring = config.buffer_size.0;
    Ok(Ready { formats, cpus, page, ring, pace, bell, instance })
}

/// Clock, sizes and mode; gives the bytes of a sub-buffer.
fn set_up(instance: &Instance, config: &Config) -> anyhow::Result<usize> {
    instance.set("trace_clock", "mono")?;
    let mut subbuf = 4096;
    if instance.has("buffer_subbuf_size_kb") {
        // Refused (no memory in one piece): smaller ones serve, too.
        let wanted = (config.subbuf_size.0 >> 10).to_string();
        if let Err(e) = instance.set("buffer_subbuf_size_kb", &wanted) {
            tracing::warn!("{e:#}: 4 KiB are used");
        }
        let kib = instance.get("buffer_subbuf_size_kb")?.parse::<usize>().unwrap_or(4);
        subbuf = kib.clamp(4, 1024) << 10;
    }
    instance.set("buffer_size_kb", &(config.buffer_size.0 >> 10).to_string())?;
    let overwrite = config.kernel_mode == KernelMode::Overwrite;
    instance.set("options/overwrite", if overwrite { "1" } else { "0" })?;
    if instance.has("buffer_percent") {
        instance.set("buffer_percent", &config.buffer_percent.to_string())?;
    }
    Ok(subbuf)
}

impl Ready {
    fn run(self, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let Self { formats, cpus, page, ring, pace, bell, instance } = self;
        let mut imports: Vec<_> = to.imports().into_iter().map(Vec::into_iter).collect();
        let mut readers: Vec<Cpu> = cpus
            .iter()
            .map(|cpu| {
                let directory = instance.file(&format!("per_cpu/cpu{cpu}"));
                let streams = imports.iter_mut().filter_map(Iterator::next).collect();
                Cpu::new(*cpu, directory, streams)
            })
            .collect();
        if let Some(ring) = readers.iter().filter_map(Cpu::smallest_ring).min()
            && ring < 4 * page as u64
        {
            let (ring, page) = (Size(ring), Size(page as u64));
            tracing::warn!(
                "a channel's ring of {ring} is small beside the kernel's sub-buffers of {page}: \
                 with less than four of them it loses records that come at once"
            );
        }
        for cpu in &mut readers {
            cpu.begin().with_context(|| {
                format!("the kernel's ring of CPU {} cannot be opened", cpu.number())
            })?;
        }
        instance.trace(true)?;
        let (formats, bell) = (&formats, &bell);
        let result = thread::scope(|scope| {
            let threads: Vec<_> = readers
                .chunks_mut(CPUS_PER_THREAD)
                .map(|cpus| {
                    let name = format!("ftrace cpu{}", cpus[0].number());
                    thread::Builder::new().name(name).spawn_scoped(scope, move || {
                        let mut shared = Shared {
                            formats,
                            to,
                            classes: Vec::new(),
                            ring,
                            page: vec![0; page],
                            decoded: Decoded::default(),
                            said: None,
                        };
                        threads::read(cpus, &mut shared, pace, bell)
                    })
                })
                .collect();
            // Until it is told to stop, or all threads have ended: the channels are closed.
            while !stop.wait(Duration::from_secs(1)) {
                if threads.iter().flatten().all(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
            }
            let stopped = instance.trace(false);
            bell.ring();
            for thread in threads {
                thread
                    .context("cannot start a thread")?
                    .join()
                    .map_err(|_| anyhow!("a thread that reads failed badly (a panic)"))??;
            }
            stopped
        });
        readers.iter_mut().for_each(|cpu| cpu.abandon(to));
        result
    }
}

/// Before the program exits at once: kernel tracing is to be as it was found, but nobody is
/// kept waiting for long.
pub fn put_back() {
    threads::ring_all();
    instance::put_back(Duration::from_millis(300));
}
