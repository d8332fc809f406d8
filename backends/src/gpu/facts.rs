//! What the device did and holds, for the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rbpipe_core::backend::{FactSheet, Facts};

use super::lane::Lane;
use crate::units::Size;

impl Lane {
    /// What the report asks.
    pub(super) fn facts(self: &Arc<Self>) -> Facts {
        let this = Arc::clone(self);
        Arc::new(move || this.sheet())
    }

    fn sheet(&self) -> FactSheet {
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed) as f64;
        let counts = &self.counts;
        let table = self.store.lock();
        let (packets, records) = table.came();
        let (gone, gone_records) = table.gone();
        let kept = table.packets().count();
        let bytes = table.bytes();
        let seconds = table.span().map_or(0.0, |(from, to)| (to - from) as f64 / 1e9);
        drop(table);
        let (handed, submits) = (load(&counts.handed), load(&counts.submits));
        let each = |total: f64, n: f64| if n > 0.0 { total / n } else { 0.0 };
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        let where_to = match &self.device {
            None => "no GPU: ordinary memory".into(),
            Some(d) if d.gpu().is_lost() => format!("{}: lost, ordinary memory", d.gpu().name),
            Some(d) => format!("{}, {}", d.gpu().name, self.way.name()),
        };
        let of = if kept as u64 == packets { "all".into() } else { format!("{kept} of") };
        let mut words = format!(
            "{where_to}: {of} {packets} packets kept, {seconds:.2} s, {}",
            megabytes(bytes)
        );
        if gone > 0 {
            words += &format!("; {gone} packets with {gone_records} records went with the device");
        }
        FactSheet {
            name: "gpu",
            values: vec![
                ("packets", packets as f64),
                ("records", records as f64),
                ("kept_packets", kept as f64),
                ("kept_bytes", bytes as f64),
                ("kept_seconds", round(seconds)),
                ("gone_packets", gone as f64),
                ("gone_records", gone_records as f64),
                ("copied_bytes", load(&counts.copied)),
                ("uploaded_bytes", load(&counts.uploaded)),
                ("submits", submits),
                ("packets_each", round(each(handed, submits))),
                ("hand_over_us", round(each(load(&counts.busy) / 1000.0, handed))),
            ],
            words,
        }
    }
}

/// Bytes, to be read.
pub(super) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => Size(bytes).to_string(),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
