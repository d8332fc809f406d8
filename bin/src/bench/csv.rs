//! All figures as CSV (RFC 4180): a line for each row, a column for each figure.

use super::report::{Report, Row, Spread};

type Column = (&'static str, fn(&Row) -> String);

fn number(value: f64) -> String {
    format!("{value}")
}

fn of(spread: Option<Spread>, get: fn(&Spread) -> f64) -> String {
    spread.as_ref().map(get).map_or_else(String::new, number)
}

const COLUMNS: &[Column] = &[
    ("backend", |r| quoted(&r.backend)),
    ("variant", |r| quoted(&r.variant)),
    ("mode", |r| quoted(&r.mode)),
    ("payload", |r| r.payload.to_string()),
    ("writers", |r| r.writers.to_string()),
    ("streams", |r| quoted(&r.streams)),
    ("reader", |r| r.reader.to_string()),
    ("subbuf_size", |r| r.subbuf_size.to_string()),
    ("subbuf_count", |r| r.subbuf_count.to_string()),
    ("channels", |r| r.channels.to_string()),
    ("classes", |r| r.classes.to_string()),
    ("trace_bytes", |r| r.trace_bytes.to_string()),
    ("runs", |r| r.runs.to_string()),
    ("noisy_runs", |r| r.noisy_runs.to_string()),
    ("ns", |r| of(r.ns, |s| s.median)),
    ("ns_min", |r| of(r.ns, |s| s.min)),
    ("ns_max", |r| of(r.ns, |s| s.max)),
    ("parts_ns", |r| number(r.parts_ns)),
    ("p99_ns", |r| of(r.p99_ns, |s| s.median)),
    ("p999_ns", |r| of(r.p999_ns, |s| s.median)),
    ("longest_ns", |r| number(r.max_ns)),
    ("records_per_second", |r| number(r.records_per_second.median)),
    ("bytes_per_second", |r| number(r.bytes_per_second.median)),
    ("bytes_per_second_min", |r| number(r.bytes_per_second.min)),
    ("bytes_per_second_max", |r| number(r.bytes_per_second.max)),
    ("limit", |r| quoted(&r.limit)),
    ("limit_bytes_per_second", |r| of(r.limit_bytes_per_second, |s| s.median)),
    ("cpu_seconds_per_gb", |r| of(r.cpu_seconds_per_gb, |s| s.median)),
    ("ring_bytes", |r| r.ring_bytes.to_string()),
    ("memory_bytes", |r| number(r.memory_bytes.median)),
    ("offered", |r| r.books.offered.to_string()),
    ("recorded", |r| r.books.recorded.to_string()),
    ("lost_full", |r| r.books.lost.full.to_string()),
    ("lost_wrap", |r| r.books.lost.wrap.to_string()),
    ("lost_too_big", |r| r.books.lost.too_big.to_string()),
    ("aborted", |r| r.books.aborted.to_string()),
    ("overwritten", |r| r.books.overwritten.to_string()),
    ("kept", |r| r.books.kept.to_string()),
    ("written", |r| r.books.written.to_string()),
    ("failed_records", |r| r.books.failed_records.to_string()),
];

/// All of it, with a header.
pub fn csv(report: &Report) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let head = line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let rows = report.rows.iter().map(|r| line(COLUMNS.iter().map(|(_, of)| of(r)).collect()));
    std::iter::once(head).chain(rows).collect()
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}
