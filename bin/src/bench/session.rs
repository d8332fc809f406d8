//! The order of things: rounds, in which every row has its turn once, so that what disturbs the
//! machine for a while disturbs all of them; then, in the time that is left, more turns for
//! the rows whose rounds differ most.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::case::Case;
use super::histogram::Histogram;
use super::limits::Measured;
use super::machine::{self, Machine, Noise, Ticks};
use super::progress::Progress;
use super::reads::{self, Place};
use super::report::{Absent, Books, Report, Row, Spread};
use super::run::{How, Sample};
use super::subject::Subject;
use super::writer::process_seconds;

/// Shorter turns say little.
const SHORTEST: Duration = Duration::from_millis(2);
/// Longer ones are better cut into more rounds.
const LONG: f64 = 0.08;
const MOST_ROUNDS: f64 = 9.0;
/// For a comparison five rounds are wanted, if turns are not shorter than this for it.
const SHORT: f64 = 0.02;
const ENOUGH: f64 = super::compare::ENOUGH as f64;
/// Of the time of `--scale` this part is for traces that are read.
const SHARE: f64 = 0.4;
/// Rows whose rounds differ by more than this are run again while there is time.
const WIDE: f64 = 0.10;

/// A subject, what is held against it, and its cases.
struct Group {
    subject: Box<dyn Subject>,
    limits: Vec<f64>,
    cases: Vec<(Case, Vec<Sample>)>,
    /// Why it has no (further) turns.
    absent: Option<String>,
    /// … though it had some.
    failed: bool,
}

/// Everything that is measured in one call of the command.
pub struct Session {
    groups: Vec<Group>,
    measured: Measured,
    time: Duration,
    dir: PathBuf,
    runtime: tokio::runtime::Runtime,
    /// Set by SIGINT.
    stop: Arc<AtomicBool>,
    pushed: u64,
    /// Traces are read, too.
    reads: bool,
}

impl Session {
    /// These cases of these subjects, in about this time, with files in `dir`.
    ///
    /// # Errors
    /// No runtime.
    pub fn new(
        subjects: Vec<(Box<dyn Subject>, Vec<Case>)>,
        payloads: &[usize],
        time: Duration,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if asked.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
        let groups = subjects.into_iter().map(|(subject, cases)| Group {
            subject,
            limits: Vec::new(),
            cases: cases.into_iter().map(|c| (c, Vec::new())).collect(),
            absent: None,
            failed: false,
        });
        Ok(Self {
            groups: groups.collect(),
            measured: Measured::new(payloads),
            time,
            dir: dir.to_owned(),
            runtime,
            stop,
            pushed: 0,
            reads: false,
        })
    }

    /// … and, in a part of the time, what `rbpipe read` costs.
    pub fn and_read(self, reads: bool) -> Self {
        Self { reads, ..self }
    }

    /// Measures; gives what was found.
    ///
    /// # Errors
    /// No directory can be made, or no trace be read.
    pub fn run(mut self, kind: &str) -> anyhow::Result<Report> {
        let begin = Instant::now();
        let mut progress = Progress::until(begin + self.time);
        if self.reads {
            self.time = self.time.mul_f64(1.0 - SHARE);
        }
        let end = begin + self.time;
        let (load, ticks, cpu) = (machine::load(), Ticks::now(), process_seconds());
        let rows: usize = self.groups.iter().map(|g| g.cases.len()).sum();
        let slot = self.time.as_secs_f64() * 0.85 / rows.max(1) as f64;
        let rounds = (slot / LONG).max((slot / SHORT).min(ENOUGH)).clamp(1.0, MOST_ROUNDS) as usize;
        let mut left = (rows + self.groups.len()) * rounds;
        // What a turn takes beside the writing: opening and closing.
        let mut beside = Duration::from_millis(3);
        for _ in 0..rounds {
            self.measured.round();
            for g in 0..self.groups.len() {
                self.limit(g, turn_of(end, left, beside));
                left -= 1;
                for c in 0..self.groups[g].cases.len() {
                    if self.is_stopped() {
                        break;
                    }
                    progress.show(&self.groups[g].subject.name());
                    let time = turn_of(end, left, beside);
                    left -= 1;
                    let turn = Instant::now();
                    self.turn(g, c, time)?;
                    beside = (beside * 7 + turn.elapsed().saturating_sub(time)) / 8;
                }
            }
        }
        let time = Duration::from_secs_f64(LONG / 2.0);
        while Instant::now() + time + beside < end && !self.is_stopped() {
            let Some((g, c)) = self.widest() else { break };
            progress.show("once more where rounds differ");
            self.turn(g, c, time)?;
        }
        let traces = if self.reads && !self.is_stopped() {
            let dir = self.place()?;
            let end = Instant::now() + self.time.mul_f64(SHARE / (1.0 - SHARE));
            let (dir, begin, stop) = (dir.path(), Instant::now(), &*self.stop);
            let place = Place { dir, begin, end, share: SHARE, stop };
            reads::run(&place, &self.runtime, &mut progress)
        } else {
            reads::Found::default()
        };
        progress.clear();
        let seconds = begin.elapsed().as_secs_f64();
        let samples = || self.groups.iter().flat_map(|g| &g.cases).flat_map(|(_, s)| s);
        let noise = Noise {
            others: ticks.others(process_seconds() - cpu + traces.cpu_seconds),
            stolen: ticks.stolen(),
            load,
            pushed_aside: self.pushed as f64 / seconds,
            runs: samples().count() as u64,
            noisy_runs: samples().filter(|s| s.noisy).count() as u64,
        };
        let mut report = self.report(kind, seconds, noise);
        report.rows.extend(traces.rows);
        report.absent.extend(traces.left_out);
        Ok(report)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An empty directory, which goes when it is dropped.
    fn place(&self) -> anyhow::Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix("rbpipe-bench-").tempdir_in(&self.dir);
        made.with_context(|| format!("no directory can be made in {} (--dir)", self.dir.display()))
    }

    /// One measurement of a subject's limit.
    fn limit(&mut self, g: usize, time: Duration) {
        let Ok(place) = self.place() else { return };
        let group = &mut self.groups[g];
        if group.absent.is_some() || self.stop.load(Ordering::Relaxed) {
            return;
        }
        match group.subject.measure_limit(place.path(), time.max(SHORTEST)) {
            Some(Ok(limit)) => group.limits.push(limit),
            Some(Err(why)) => {
                group.failed = group.cases.iter().any(|(_, samples)| !samples.is_empty());
                group.absent = Some(format!("{why:#}"));
            }
            None => {}
        }
    }

    /// One turn of one row. A subject whose turn fails has no others: at the first it is not
    /// here; later it is a failure, which is told when the others have their figures.
    fn turn(&mut self, g: usize, c: usize, time: Duration) -> anyhow::Result<()> {
        let place = self.place()?;
        let group = &mut self.groups[g];
        if group.absent.is_some() {
            return Ok(());
        }
        let how = How {
            place: place.path(),
            time,
            clock_ns: self.measured.clock_ns(),
            runtime: &self.runtime,
            stop: &self.stop,
        };
        let first = group.cases.iter().all(|(_, samples)| samples.is_empty());
        match group.subject.run(&group.cases[c].0, &how) {
            Ok(sample) => {
                self.pushed += sample.pushed_aside;
                group.cases[c].1.push(sample);
            }
            Err(why) => {
                group.absent = Some(format!("{why:#}"));
                group.failed = !first;
            }
        }
        Ok(())
    }

    /// The row whose rounds differ most, for the number of them; `None`: none differs much.
    fn widest(&self) -> Option<(usize, usize)> {
        let mut widest: Option<(f64, usize, usize)> = None;
        for (g, group) in self.groups.iter().enumerate() {
            for (c, (_, samples)) in group.cases.iter().enumerate() {
                let spread = Spread::of(samples.iter().filter_map(|s| s.ns));
                let Some(width) = spread.map(|s| s.width()).filter(|w| *w > WIDE) else { continue };
                // More rounds do not make it narrower, but the middle surer.
                let need = width / samples.len() as f64;
                if widest.is_none_or(|(most, ..)| need > most) {
                    widest = Some((need, g, c));
                }
            }
        }
        widest.map(|(_, g, c)| (g, c))
    }

    fn report(&self, kind: &str, seconds: f64, noise: Noise) -> Report {
        let limits = self.measured.limits();
        let mut rows = Vec::new();
        for group in &self.groups {
            for (case, samples) in &group.cases {
                let limit = limits.payloads.iter().find(|p| p.payload == case.payload);
                let copy = limit.map(|l| (l.copy_ns.median, l.copy_bytes_per_second));
                let (copy_ns, copy_rate) = copy.unwrap_or_default();
                let parts = limits.clock_ns.median + limits.locked_ns.median + copy_ns;
                let of = Spread::of(group.limits.iter().copied()).or(Some(copy_rate));
                rows.extend(row(&*group.subject, case, samples, parts, of));
            }
        }
        let absent = self.groups.iter().filter_map(|g| {
            let (backend, variant) = (g.subject.backend().into(), g.subject.variant().into());
            Some(Absent { backend, variant, why: g.absent.clone()?, failed: g.failed })
        });
        Report {
            rbpipe: env!("CARGO_PKG_VERSION").into(),
            kind: kind.into(),
            machine: Machine::look(&self.dir),
            noise,
            seconds,
            interrupted: self.is_stopped(),
            absent: absent.collect(),
            limits,
            rows,
        }
    }
}

/// How long a turn may be, with so many left.
fn turn_of(end: Instant, left: usize, beside: Duration) -> Duration {
    let rest = end.saturating_duration_since(Instant::now()).mul_f64(0.88);
    (rest / left.max(1) as u32).saturating_sub(beside).max(SHORTEST)
}

/// A row of its rounds; none of none.
fn row(
    subject: &dyn Subject,
    case: &Case,
    samples: &[Sample],
    parts_ns: f64,
    limit: Option<Spread>,
) -> Option<Row> {
    let first = samples.first()?;
    let of = |f: &dyn Fn(&Sample) -> Option<f64>| Spread::of(samples.iter().filter_map(f));
    let mut books = Books::default();
    let mut single = Histogram::new();
    for s in samples {
        books.add(&s.books);
        single.merge(&s.single);
    }
    let out = |s: &Sample| if s.takes { s.books.written } else { s.books.recorded };
    let quantile = |part: f64| {
        let spread = of(&|s| s.single.quantile(part))?;
        // All rounds together have more of the rare ones.
        let median = single.quantile(part).unwrap_or(spread.median);
        Some(Spread { median: median.clamp(spread.min, spread.max), ..spread })
    };
    Some(Row {
        backend: subject.backend().into(),
        variant: subject.variant().into(),
        mode: case.mode.name().into(),
        payload: case.payload,
        writers: case.writers,
        streams: case.streams.name().into(),
        reader: case.reader,
        subbuf_size: case.subbuf_size,
        subbuf_count: case.subbuf_count,
        channels: case.channels,
        classes: case.classes,
        trace_bytes: 0,
        runs: samples.len(),
        noisy_runs: samples.iter().filter(|s| s.noisy).count(),
        ns: of(&|s| s.ns),
        p99_ns: quantile(0.99),
        p999_ns: quantile(0.999),
        max_ns: single.max() as f64,
        parts_ns,
        records_per_second: of(&|s| Some(out(s) as f64 / s.seconds)).unwrap_or_default(),
        bytes_per_second: of(&|s| Some(s.bytes as f64 / s.seconds)).unwrap_or_default(),
        limit: subject.limit().into(),
        limit_bytes_per_second: limit,
        cpu_seconds_per_gb: of(&|s| {
            (case.reader && s.takes && s.bytes > 0).then(|| s.output_cpu / (s.bytes as f64 / 1e9))
        }),
        ring_bytes: first.ring,
        memory_bytes: of(&|s| Some(s.grown as f64)).unwrap_or_default(),
        books,
    })
}
