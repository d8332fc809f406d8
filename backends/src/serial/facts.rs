//! What the line did, for the report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rbpipe_core::backend::{FactSheet, Facts};

/// Counted by the output, read by whoever reports.
pub(super) struct LineFacts {
    bits_per_byte: f64,
    baud: f64,
    begin: OnceLock<Instant>,
    end: OnceLock<Instant>,
    bytes: AtomicU64,
    backlog: AtomicU64,
    reconnects: AtomicU64,
}

impl LineFacts {
    /// Of a line with this rate.
    pub(super) fn new(baud: u32, bits_per_byte: u32) -> Arc<Self> {
        Arc::new(Self {
            bits_per_byte: bits_per_byte.into(),
            baud: baud.into(),
            begin: OnceLock::new(),
            end: OnceLock::new(),
            bytes: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        })
    }

    // Relaxed, all of them: each number is by itself.

    /// So many bytes were handed over.
    pub(super) fn wrote(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// The port came back.
    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }
    /// So many bytes wait for the line.
    pub(super) fn waits(&self, bytes: u64) {
        self.backlog.store(bytes, Ordering::Relaxed);
    }
    /// The line is used from now on.
    pub(super) fn begin(&self) {
        let _ = self.begin.set(Instant::now());
    }
    /// … and not any more.
    pub(super) fn end(&self) {
        let _ = self.end.set(Instant::now());
    }

    fn sheet(&self) -> FactSheet {
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let (bytes, reconnects) = (load(&self.bytes), load(&self.reconnects));
        let end = self.end.get().copied().unwrap_or_else(Instant::now);
        let seconds = self.begin.get().map_or(0.0, |b| end.duration_since(*b).as_secs_f64());
        let bits = bytes as f64 * self.bits_per_byte;
        // What is handed over is ahead of the line a little.
        let used = (100.0 * bits / (seconds * self.baud).max(1.0)).min(100.0);
        let backlog = load(&self.backlog) as f64 * self.bits_per_byte / self.baud;
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        let times = if reconnects == 1 { "once" } else { "times" };
        let mut words = format!("line {used:.1} % used, {backlog:.2} s behind");
        match reconnects {
            0 => {}
            1 => words += ", came back once",
            n => words += &format!(", came back {n} {times}"),
        }
        FactSheet {
            name: "line",
            values: vec![
                ("baud", self.baud),
                ("bytes", bytes as f64),
                ("use", round(used)),
                ("backlog", round(backlog)),
                ("reconnects", reconnects as f64),
            ],
            words,
        }
    }

    /// What the report asks.
    pub(super) fn facts(self: &Arc<Self>) -> Facts {
        let this = Arc::clone(self);
        Arc::new(move || this.sheet())
    }
}
