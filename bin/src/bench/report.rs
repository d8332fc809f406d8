//! What `rbpipe bench` has found, as it is written to a file and read again.

use serde::{Deserialize, Serialize};

use super::machine::{Machine, Noise};

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The program's version.
    pub rbpipe: String,
    /// `bench`, or `scale`.
    pub kind: String,
    pub machine: Machine,
    pub noise: Noise,
    /// How long it took.
    pub seconds: f64,
    /// It was ended before its time.
    pub interrupted: bool,
    pub limits: Limits,
    pub rows: Vec<Row>,
    /// What could not be run here, and why.
    pub absent: Vec<Absent>,
}

/// The machine's own limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// A clock read.
    pub clock_ns: Spread,
    /// A locked compare-and-swap and a locked add: what a reserve and a commit need.
    pub locked_ns: Spread,
    pub payloads: Vec<PayloadLimit>,
}

/// What the copying of records of one size costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PayloadLimit {
    /// Bytes.
    pub payload: usize,
    /// One copy, into a ring of 2 MiB.
    pub copy_ns: Spread,
    /// The same as bytes a second.
    pub copy_bytes_per_second: Spread,
}

/// A backend that is not here, or went away; a trace that was left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Absent {
    pub backend: String,
    pub variant: String,
    pub why: String,
    /// It was here, and failed.
    #[serde(default)]
    pub failed: bool,
}

/// The middle of several rounds, the least and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of these; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { median: values[values.len() / 2], min, max })
    }

    /// How far least and most are apart, as a part of the middle.
    pub fn width(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// One case of one backend; or, of `--scale`, a trace that `rbpipe read` reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub backend: String,
    /// Which of its kinds; may be empty.
    pub variant: String,
    pub mode: String,
    pub payload: usize,
    pub writers: u32,
    pub streams: String,
    pub reader: bool,
    pub subbuf_size: u64,
    pub subbuf_count: u32,
    pub channels: u32,
    pub classes: u32,
    /// Bytes of the trace that is read, about; 0: a backend is written to. Then backend and mode
    /// are `read`, and channels are its streams.
    #[serde(default)]
    pub trace_bytes: u64,
    /// How often it was run.
    pub runs: usize,
    /// … while others used more than a quarter of the CPUs.
    pub noisy_runs: usize,
    /// Nanoseconds of a record at the writer; none where records were lost in every slice.
    pub ns: Option<Spread>,
    pub p99_ns: Option<Spread>,
    pub p999_ns: Option<Spread>,
    /// The longest of all rounds.
    pub max_ns: f64,
    /// Clock read, locked operations and copy, each alone, added up.
    pub parts_ns: f64,
    /// Records that came out.
    pub records_per_second: Spread,
    /// Bytes that came out.
    pub bytes_per_second: Spread,
    /// What they are held against.
    pub limit: String,
    pub limit_bytes_per_second: Option<Spread>,
    /// CPU seconds of reader and output for 10^9 bytes.
    pub cpu_seconds_per_gb: Option<Spread>,
    /// Bytes of the rings.
    pub ring_bytes: u64,
    /// By how much the process grew; where a trace is read, all that the process had.
    pub memory_bytes: Spread,
    /// Of all rounds.
    pub books: Books,
}

impl Row {
    /// What it is, for comparison with another run's.
    pub fn key(&self) -> (&str, &str, &str, usize, u32, &str, bool, u64, [u64; 4]) {
        (
            &self.backend,
            &self.variant,
            &self.mode,
            self.payload,
            self.writers,
            &self.streams,
            self.reader,
            self.subbuf_size,
            [self.subbuf_count.into(), self.channels.into(), self.classes.into(), self.trace_bytes],
        )
    }

    /// Its backend, for people.
    pub fn subject(&self) -> String {
        named(&self.backend, &self.variant)
    }

    /// Cost at the writer beside the parts of it.
    pub fn of_parts(&self) -> Option<f64> {
        Some(self.ns?.median / self.parts_ns).filter(|r| r.is_finite())
    }

    /// What came out beside the limit.
    pub fn of_limit(&self) -> Option<f64> {
        let limit = self.limit_bytes_per_second?.median;
        Some(self.bytes_per_second.median / limit).filter(|r| r.is_finite())
    }
}

/// A backend and which of its kinds, for people.
pub fn named(backend: &str, variant: &str) -> String {
    if variant.is_empty() { backend.into() } else { format!("{backend}, {variant}") }
}

/// What became of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Books {
    pub offered: u64,
    pub recorded: u64,
    pub lost: Lost,
    pub aborted: u64,
    /// By newer ones, or given up for a slow line.
    pub overwritten: u64,
    /// In the ring at the end.
    pub kept: u64,
    /// Came out.
    pub written: u64,
    pub failed_records: u64,
}

/// … under which name it is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    pub full: u64,
    pub wrap: u64,
    pub too_big: u64,
}

impl Books {
    /// With another run's.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.recorded += other.recorded;
        self.lost.full += other.lost.full;
        self.lost.wrap += other.lost.wrap;
        self.lost.too_big += other.lost.too_big;
        self.aborted += other.aborted;
        self.overwritten += other.overwritten;
        self.kept += other.kept;
        self.written += other.written;
        self.failed_records += other.failed_records;
    }

    /// Records that never lay in the ring.
    pub fn lost(&self) -> u64 {
        self.lost.full + self.lost.wrap + self.lost.too_big
    }

    /// Whether every record is somewhere, once.
    pub fn balance(&self) -> bool {
        self.offered == self.recorded + self.lost() + self.aborted
            && self.recorded == self.written + self.failed_records + self.overwritten + self.kept
    }
}
