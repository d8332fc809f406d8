//! The threads that read: each has some CPUs, sleeps until one of their rings is filled to
//! `buffer_percent` or it is time to look at all of them, and ends when the kernel's ring is
//! stopped and empty.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rbpipe_core::clock;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::cpu::{Closed, Cpu, Left, Shared, Until};

/// CPUs that one thread reads: it takes some tens of millions of records a second, a busy CPU
/// makes a few.
pub const CPUS_PER_THREAD: usize = 8;

/// A channel without room is asked again after this long.
const SOON: Duration = Duration::from_millis(1);

/// What epoll says when it is the bell; else it is the place of a CPU.
const RUNG: u64 = u64::MAX;

/// Rung once: what is in the kernel's ring is the rest.
pub struct Bell(OwnedFd);

/// The bells of all sources that run.
static BELLS: Mutex<Vec<Weak<Bell>>> = Mutex::new(Vec::new());

impl Bell {
    /// A bell, among those that [`ring_all`] rings.
    ///
    /// # Errors
    /// The system has none.
    pub fn new() -> io::Result<Arc<Self>> {
        let bell = Arc::new(Self(eventfd(0, EventfdFlags::CLOEXEC)?));
        let mut all = BELLS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|b| b.strong_count() > 0);
        all.push(Arc::downgrade(&bell));
        Ok(bell)
    }

    /// Rings it.
    pub fn ring(&self) {
        // Fails only if it has rung 2^64 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Rings the bells of all sources: the program is about to exit, whatever is not read yet.
pub fn ring_all() {
    let all = BELLS.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
}

/// How a thread reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// All CPUs are looked at so often.
    pub flush: Duration,
    /// SCHED_FIFO, if not 0.
    pub priority: u8,
    /// The kernel's ring refuses what does not fit: only `stats` tell.
    pub refuses: bool,
}

/// Reads these CPUs until the bell rings, then the rest.
///
/// # Errors
/// The system has no epoll. Channels that are closed end it, and are none.
pub fn read(
    cpus: &mut [Cpu],
    shared: &mut Shared<'_>,
    pace: Pace,
    bell: &Bell,
) -> anyhow::Result<()> {
    take_priority(pace.priority);
    match read_on(cpus, shared, pace, bell) {
        Ok(()) | Err(Ended::Closed) => Ok(()),
        Err(Ended::Failed(e)) => Err(e).context("cannot wait for the kernel's pages"),
    }
}

enum Ended {
    Closed,
    Failed(io::Error),
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}
impl From<rustix::io::Errno> for Ended {
    fn from(e: rustix::io::Errno) -> Self {
        Self::Failed(e.into())
    }
}

fn read_on(
    cpus: &mut [Cpu],
    shared: &mut Shared<'_>,
    pace: Pace,
    bell: &Bell,
) -> Result<(), Ended> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &bell.0, EventData::new_u64(RUNG), EventFlags::IN)?;
    let mut next = Instant::now() + pace.flush;
    let mut events: Vec<Event> = Vec::with_capacity(cpus.len() + 1);
    // At once, not after the first tick: a CPU that is there is waited for.
    open(cpus, &epoll)?;
    let mut no_room = false;
    loop {
        let now = Instant::now();
        if no_room {
            // Those that are full enough to be read would end each wait at once.
            thread::sleep(SOON);
        }
        let left = next.saturating_duration_since(now);
        // Rounded up: a time that is nearly there must not be waited for in circles.
        let wait = Timespec::try_from(left + Duration::from_micros(50)).unwrap_or_default();
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&wait)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        if events.iter().any(|e| e.data.u64() == RUNG) {
            break;
        }
        no_room = false;
        for event in &events {
            let Some(cpu) = cpus.get_mut(event.data.u64() as usize) else { continue };
            match cpu.drain(shared, Until::Whole, pace.refuses)? {
                Left::NoRoom => no_room = true,
                // Readable, and there is nothing: a CPU that was never online is so for ever (an
                // error), and all are with the tracer's option `block`. Each wait would end at
                // once, so it is left to the ticks.
                Left::NotOne => {
                    if let Some(fd) = cpu.fd() {
                        epoll::delete(&epoll, fd)?;
                    }
                    cpu.forgotten();
                }
                Left::Nothing | Left::More => {}
            }
        }
        let now = Instant::now();
        if now >= next {
            open(cpus, &epoll)?;
            let then = Until::Then(clock::now());
            for cpu in &mut *cpus {
                cpu.drain(shared, then, pace.refuses)?;
            }
            next = (next + pace.flush).max(now);
        }
    }
    for cpu in cpus {
        cpu.finish(shared)?;
    }
    Ok(())
}

/// Opens those that are not, and waits for them from now on. One that is closed is forgotten by
/// the system itself.
fn open(cpus: &mut [Cpu], epoll: &OwnedFd) -> Result<(), Ended> {
    for (place, cpu) in cpus.iter_mut().enumerate() {
        if cpu.open()
            && let Some(fd) = cpu.fd()
        {
            epoll::add(epoll, fd, EventData::new_u64(place as u64), EventFlags::IN)?;
        }
    }
    Ok(())
}

/// A reader that is not kept waiting loses least. Without the right to it, it is an ordinary one.
fn take_priority(priority: u8) {
    let Ok(value) = thread_priority::ThreadPriorityValue::try_from(priority) else { return };
    if priority == 0 {
        return;
    }
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let wanted = ThreadPriority::Crossplatform(value);
    if let Err(e) = set_thread_priority_and_policy(thread_native_id(), wanted, policy) {
        tracing::warn!("priority {priority}: {e:?}: it reads with an ordinary one (CAP_SYS_NICE?)");
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::time::{ClockId, clock_gettime};

    use super::super::decoder::{Decoded, Formats};
    use super::*;
    use crate::sources::Channels;

    fn thread_time() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
    }

    /// As that of a CPU that was never online: epoll reports it at once, each time.
    #[test]
    fn a_ring_that_is_readable_for_ever_is_not_asked_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("trace_pipe_raw");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        std::fs::write(dir.path().join("stats"), "entries: 0\n").unwrap();
        let mut cpus = [Cpu::new(0, dir.path().into(), Vec::new())];
        cpus[0].begin().unwrap();
        // Opened and closed: it has ended.
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
        let (formats, to) = (Formats::new(), Channels::default());
        let bell = Bell::new().unwrap();
        let pace = Pace { flush: Duration::from_millis(50), priority: 0, refuses: false };
        let used = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut shared = Shared {
                    formats: &formats,
                    to: &to,
                    classes: Vec::new(),
                    ring: 1 << 20,
                    page: vec![0; 4096],
                    decoded: Decoded::default(),
                    said: None,
                };
                read(&mut cpus, &mut shared, pace, &bell).unwrap();
                thread_time()
            });
            thread::sleep(Duration::from_millis(500));
            bell.ring();
            reader.join().unwrap()
        });
        assert!(used < Duration::from_millis(50), "{used:?} of half a second");
    }
}
