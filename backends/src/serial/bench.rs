//! How `serial` is benched: over a pseudo terminal that is opened for it, whose other end reads as
//! fast as the line would carry, or all it can get.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;
use rbpipe_core::bench::{BenchLimit, BenchPlan, BenchRig, OtherEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};

use super::{Config, Format};
use crate::units::Time;

/// More than any pseudo terminal carries: what holds it up is not its rate.
const UNTHROTTLED: u32 = 4_000_000_000;

pub(super) fn plans() -> Vec<BenchPlan<Config>> {
    let rated = |baud, format, word: &str| {
        let rate = f64::from(baud) / 10.0;
        let measure = Box::new(move |_: &Path, _| Ok(rate));
        let limit = BenchLimit { what: "the line's rate".into(), measure };
        let variant = format!("{baud} baud, {word}");
        plan(variant, baud, format, Some(rate), limit)
    };
    let limit = BenchLimit { what: "plain write".into(), measure: Box::new(plain_write) };
    let free = "no rate, frames".to_owned();
    vec![
        rated(115_200, Format::Text, "text"),
        rated(921_600, Format::Binary, "frames"),
        plan(free, UNTHROTTLED, Format::Binary, None, limit),
    ]
}

fn plan(
    variant: String,
    baud: u32,
    format: Format,
    rate: Option<f64>,
    limit: BenchLimit,
) -> BenchPlan<Config> {
    let set_up = move |_: &Path| {
        let ear = Ear::open(rate)?;
        let mut config = Config::new(&ear.port);
        (config.baud, config.format) = (baud, format);
        // The end waits for nothing: what a slow line has not taken by then is told as lost.
        config.drain_timeout = Time(Duration::ZERO);
        Ok(BenchRig { other_end: Some(Box::new(ear)), ..BenchRig::new(config) })
    };
    BenchPlan { variant, limit: Some(limit), set_up: Box::new(set_up) }
}

/// Writes in pieces of a frame's usual length.
fn plain_write(_: &Path, time: Duration) -> Result<f64, BackendError> {
    let ear = Ear::open(None)?;
    let failed = |e| BackendError::io(format!("{}: cannot be written", ear.port.display()), e);
    let mut port = open(&ear.port).map_err(failed)?;
    let begin = Instant::now();
    while begin.elapsed() < time {
        port.write_all(&[0x55; 254]).map_err(failed)?;
    }
    Ok(ear.bytes() as f64 / begin.elapsed().as_secs_f64())
}

fn open(port: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOCTTY.bits().cast_signed();
    std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(port)
}

/// The other end of a pseudo terminal, read by a thread of its own.
struct Ear {
    port: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    cpu_ns: AtomicU64,
    stop: AtomicBool,
}

impl Ear {
    /// Reads so many bytes a second at most.
    fn open(rate: Option<f64>) -> Result<Self, BackendError> {
        let failed = |e: std::io::Error| BackendError::io("no pseudo terminal can be opened", e);
        let (ours, port) = pair().map_err(failed)?;
        // Held, so that the port is never seen closed.
        let held = open(&port).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let of = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("line".into())
            .spawn(move || {
                listen(&ours, rate, &of);
                drop(held);
            })
            .map_err(failed)?;
        Ok(Self { port, shared, thread: Some(thread) })
    }
}

impl OtherEnd for Ear {
    fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
    fn cpu_seconds(&self) -> f64 {
        self.shared.cpu_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Our end, and the port's name; raw.
fn pair() -> std::io::Result<(OwnedFd, PathBuf)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    let mut termios = tcgetattr(&ours)?;
    termios.make_raw();
    tcsetattr(&ours, OptionalActions::Now, &termios)?;
    let name = ptsname(&ours, Vec::new())?;
    Ok((ours, PathBuf::from(name.to_str().map_err(std::io::Error::other)?)))
}

/// How long a byte may wait to be read, and an end to be seen.
const TICK: Duration = Duration::from_millis(1);

fn listen(ours: &OwnedFd, rate: Option<f64>, shared: &Shared) {
    let (begin, mut got, mut buffer) = (Instant::now(), 0, vec![0; 64 << 10]);
    while !shared.stop.load(Ordering::Relaxed) {
        let room = match rate {
            None => buffer.len(),
            // What the line could have carried and did not is not made up for.
            Some(rate) => {
                let carried = (begin.elapsed().as_secs_f64() * rate) as u64;
                got = got.max(carried.saturating_sub((rate * 0.02) as u64));
                (carried.saturating_sub(got) as usize).min(buffer.len())
            }
        };
        let read =
            if room == 0 { 0 } else { rustix::io::read(ours, &mut buffer[..room]).unwrap_or(0) };
        if read > 0 {
            got += read as u64;
            shared.bytes.fetch_add(read as u64, Ordering::Relaxed);
        } else if rate.is_some() {
            thread::sleep(TICK);
        } else {
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
            let _ = poll(&mut [PollFd::new(ours, PollFlags::IN)], Some(&tick));
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu = cpu.tv_sec.cast_unsigned() * 1_000_000_000 + cpu.tv_nsec.cast_unsigned();
        shared.cpu_ns.store(cpu, Ordering::Relaxed);
    }
}
