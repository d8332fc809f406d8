//! What `rbpipe read` costs an event, and how much memory it takes, as traces grow: made beside
//! each other, read in turns, each time by a process of its own (`walk`), so that its memory is
//! its own. A bigger one is made only when there is time and room for it; if not, that is said.

mod make;
mod walk;

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::statvfs;

use super::machine::Ticks;
use super::progress::Progress;
use super::report::{Absent, Books, Row, Spread};
use super::words::bytes;
use walk::Walked;
pub use walk::run as walk;

/// What such rows have in a backend's place.
pub const NAME: &str = "read";
/// Bytes of the traces.
pub const SIZES: [u64; 5] = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];
/// So much more than a trace is to be free, beside a tenth of it.
const MARGIN: u64 = 256 << 20;
/// More rounds say no more.
const MOST_ROUNDS: usize = 5;
/// What is foreseen is off by as much.
const CAUTION: f64 = 1.3;

/// A trace, and what its readers found.
struct Trace {
    size: u64,
    path: PathBuf,
    walked: Vec<(Walked, bool)>,
    /// How long it takes to read it.
    takes: Duration,
}

/// What was measured, and what was left out.
#[derive(Default)]
pub struct Found {
    pub rows: Vec<Row>,
    pub left_out: Vec<Absent>,
    /// Of the processes that read.
    pub cpu_seconds: f64,
}

/// Where it is done, and until when.
pub struct Place<'a> {
    /// An empty directory.
    pub dir: &'a Path,
    pub begin: Instant,
    pub end: Instant,
    /// The part of all time that this may take.
    pub share: f64,
    pub stop: &'a AtomicBool,
}

/// Makes and reads traces until the time is over. What goes wrong is told with what was left out.
pub fn run(place: &Place<'_>, runtime: &tokio::runtime::Runtime, progress: &mut Progress) -> Found {
    let (mut traces, mut found) = (Vec::new(), Found::default());
    if let Err(why) = all(place, runtime, progress, &mut traces, &mut found) {
        let (backend, variant) = (NAME.into(), String::new());
        let why = format!("{why:#}");
        found.left_out.push(Absent { backend, variant, why, failed: true });
    }
    found.rows = traces.iter().filter_map(Trace::row).collect();
    found
}

/// … with errors: a trace cannot be written, or is not read as it was written.
fn all(
    place: &Place<'_>,
    runtime: &tokio::runtime::Runtime,
    progress: &mut Progress,
    traces: &mut Vec<Trace>,
    found: &mut Found,
) -> anyhow::Result<()> {
    // Seconds that a byte takes to be written and read, as known by now.
    let mut each = 0.0;
    for size in SIZES {
        if place.is_stopped() {
            break;
        }
        if let Some(why) = place.refuses(size, each) {
            let (backend, variant) = (NAME.into(), bytes(size));
            found.left_out.push(Absent { backend, variant, why, failed: false });
            continue;
        }
        let (begin, path) = (Instant::now(), place.dir.join(bytes(size).replace(' ', "")));
        progress.show(&format!("a trace of {} is made", bytes(size)));
        make::make(&path, size, runtime, place.stop)?;
        if place.is_stopped() {
            break;
        }
        let mut trace = Trace { size, path, walked: Vec::new(), takes: Duration::ZERO };
        trace.read(place, progress, found)?;
        each = begin.elapsed().as_secs_f64() / size as f64;
        traces.push(trace);
    }
    for _ in 1..MOST_ROUNDS {
        for trace in traces.iter_mut() {
            if !place.is_stopped() && Instant::now() + trace.takes.mul_f64(CAUTION) < place.end {
                trace.read(place, progress, found)?;
            }
        }
    }
    Ok(())
}

impl Place<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Why a trace of so many bytes is not made.
    fn refuses(&self, size: u64, each: f64) -> Option<String> {
        let free = statvfs(self.dir).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
        let wanted = size + size / 10 + MARGIN;
        if free < wanted {
            let shown = |n: u64| format!("{:.1} GB", n as f64 / 1e9);
            let (free, wanted) = (shown(free), shown(wanted));
            return Some(format!(
                "{free} are free, and {wanted} are wanted: name a place with more (--dir)"
            ));
        }
        let takes = size as f64 * each * CAUTION;
        let left = self.end.saturating_duration_since(Instant::now()).as_secs_f64();
        (takes > left).then(|| {
            let all = (self.begin.elapsed().as_secs_f64() + takes) / self.share;
            let all = (all / 10.0).ceil() * 10.0;
            format!(
                "to write and read it takes about {takes:.0} s, and {left:.0} s were left: \
                 --seconds {all:.0}"
            )
        })
    }
}

impl Trace {
    fn read(
        &mut self,
        place: &Place<'_>,
        progress: &mut Progress,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        progress.show(&format!("a trace of {} is read", bytes(self.size)));
        let (begin, ticks) = (Instant::now(), Ticks::now());
        let Some(walked) = reader(&self.path, place, progress, self.size)? else { return Ok(()) };
        if walked.events != make::events(self.size) {
            let (made, read) = (make::events(self.size), walked.events);
            bail!("{made} events were written to a trace, and {read} are read: please report this");
        }
        self.takes = begin.elapsed();
        found.cpu_seconds += walked.all_cpu_seconds;
        self.walked.push((walked, ticks.others(walked.all_cpu_seconds) > 0.25));
        Ok(())
    }

    /// As a row; `None`: it was not read.
    fn row(&self) -> Option<Row> {
        let of = |f: &dyn Fn(&Walked) -> f64| Spread::of(self.walked.iter().map(|(w, _)| f(w)));
        let events = make::events(self.size);
        let all = events * self.walked.len() as u64;
        Some(Row {
            backend: NAME.into(),
            mode: NAME.into(),
            payload: make::PAYLOAD,
            writers: 1,
            streams: "single".into(),
            reader: true,
            subbuf_size: make::SUBBUF_SIZE,
            subbuf_count: make::SUBBUF_COUNT,
            channels: make::STREAMS,
            classes: 1,
            trace_bytes: self.size,
            runs: self.walked.len(),
            noisy_runs: self.walked.iter().filter(|(_, noisy)| *noisy).count(),
            ns: Some(of(&|w| w.seconds * 1e9 / events as f64)?),
            records_per_second: of(&|w| events as f64 / w.seconds)?,
            bytes_per_second: of(&|w| w.bytes as f64 / w.seconds)?,
            limit: "plain read".into(),
            limit_bytes_per_second: of(&|w| w.bytes as f64 / w.plain_seconds),
            cpu_seconds_per_gb: of(&|w| w.cpu_seconds / (w.bytes as f64 / 1e9)),
            memory_bytes: of(&|w| w.peak as f64)?,
            books: Books { offered: all, recorded: all, written: all, ..Books::default() },
            ..Row::default()
        })
    }
}

/// Reads a trace in a process of its own; `None`: somebody wanted all to end.
fn reader(
    trace: &Path,
    place: &Place<'_>,
    progress: &mut Progress,
    size: u64,
) -> anyhow::Result<Option<Walked>> {
    let child = Command::new("/proc/self/exe")
        .arg0("rbpipe")
        .args(["bench", "--read-once"])
        .arg(trace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A terminal's SIGINT is ours, and this ends it then.
        .process_group(0)
        .spawn()
        .context("the program cannot be started again, to read a trace")?;
    let mut child = Ends(child);
    let ended = loop {
        if let Some(ended) = child.0.try_wait()? {
            break ended;
        }
        if place.is_stopped() {
            return Ok(None);
        }
        progress.show(&format!("a trace of {} is read", bytes(size)));
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut said = String::new();
    if let Some(mut stdout) = child.0.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    if place.is_stopped() {
        return Ok(None);
    }
    if !ended.success() {
        bail!("{}: it could not be read ({ended})", trace.display());
    }
    Ok(Some(serde_json::from_str(&said).context("the process that reads a trace said nothing")?))
}

/// Does not outlive this process's interest in it.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
