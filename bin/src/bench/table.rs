//! The table on the terminal.

use std::fmt::Write as _;

use super::report::{Limits, Report, Row};
use super::words::{case, middle, part, rate, time, whole};

/// All of it, as text.
pub fn table(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.machine.words(), report.noise.words());
    if !report.machine.optimised {
        text.push_str("this program was built without optimisation: its figures say nothing\n");
    }
    if report.interrupted {
        text.push_str("it was ended before its time: rows may be missing\n");
    }
    text.push('\n');
    limits(&report.limits, &mut text);
    let mut at = 0;
    while at < report.rows.len() {
        let subject = report.rows[at].subject();
        let more = report.rows[at..].iter().take_while(|r| r.subject() == subject).count();
        rows(&report.rows[at..at + more], &mut text);
        at += more;
    }
    for absent in &report.absent {
        let name = super::report::named(&absent.backend, &absent.variant);
        let _ = writeln!(text, "\n{name}: not here: {}", absent.why);
    }
    if report.kind == "bench" {
        short(report, &mut text);
    }
    text.push('\n');
    text.push_str(LEGEND);
    // Names of machines and devices are the system's: none is to drive a terminal.
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

const LEGEND: &str = "\
middle of the rounds [least most]; ~: rounds differ by more than 10 %. x parts: beside a clock read,
two locked operations and the copy, each alone. p99, p99.9, max: one record, delivery included.
lost: not recorded; given up: recorded, then overwritten. What each column is: docs/bench.md
";

fn limits(limits: &Limits, text: &mut String) {
    let _ = write!(
        text,
        "this machine alone: clock read {} ns, two locked operations {} ns; copy",
        middle(&limits.clock_ns, 1.0),
        middle(&limits.locked_ns, 1.0)
    );
    for (i, p) in limits.payloads.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let ns = middle(&p.copy_ns, 1.0);
        let _ =
            write!(text, "{comma} {} B {ns} ns ({})", p.payload, rate(&p.copy_bytes_per_second));
    }
    text.push('\n');
}

/// The columns' heads, and how wide they are; the first is as wide as it needs.
const HEADS: [(&str, usize); 12] = [
    ("payload", 7),
    ("ns a record", 18),
    ("x parts", 7),
    ("p99", 7),
    ("p99.9", 7),
    ("max", 7),
    ("M rec/s", 8),
    ("out", 11),
    ("of limit", 8),
    ("lost", 7),
    ("given up", 8),
    ("CPU s/GB", 8),
];

fn rows(rows: &[Row], text: &mut String) {
    let Some(first) = rows.first() else { return };
    let limit = first.limit_bytes_per_second.filter(|_| first.limit != "memory copy");
    let limit = limit.map_or(String::new(), |l| format!(" {}", rate(&l)));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let _ = writeln!(
        text,
        "\n{}   (limit: {}{limit}; a ring of {:.1} MiB, the process grew by {:.1} MiB)",
        first.subject(),
        first.limit,
        mib(first.ring_bytes as f64),
        mib(first.memory_bytes.median)
    );
    let width = rows.iter().map(|r| case(r).chars().count()).max().unwrap_or(0).max(9);
    let mut line = format!("  {:width$}", "");
    for (head, width) in HEADS {
        let _ = write!(line, " {head:>width$}");
    }
    let _ = writeln!(text, "{}", line.trim_end());
    for row in rows {
        let mut line = format!("  {:width$}", case(row));
        for (cell, (_, width)) in cells(row).iter().zip(HEADS) {
            let _ = write!(line, " {cell:>width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn cells(row: &Row) -> [String; 12] {
    let dash = || "-".to_owned();
    let books = &row.books;
    [
        format!("{} B", row.payload),
        row.ns.map_or_else(dash, |ns| whole(&ns, 1.0)),
        row.of_parts().map_or_else(dash, |r| format!("{r:.2}")),
        row.p99_ns.map_or_else(dash, |s| time(s.median)),
        row.p999_ns.map_or_else(dash, |s| time(s.median)),
        time(row.max_ns),
        middle(&row.records_per_second, 1e6),
        rate(&row.bytes_per_second),
        row.of_limit().map_or_else(dash, |r| format!("{r:.2}")),
        part(books.lost(), books.offered),
        part(books.overwritten, books.recorded),
        row.cpu_seconds_per_gb.map_or_else(dash, |s| middle(&s, 1.0)),
    ]
}

/// One line for each backend: what a user asks first.
fn short(report: &Report, text: &mut String) {
    let mut names: Vec<_> = report.rows.iter().map(Row::subject).collect();
    names.dedup();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let _ = writeln!(text, "\nin short");
    for name in names {
        let of = || report.rows.iter().filter(|r| r.subject() == name);
        let cost = of().filter(|r| r.ns.is_some()).min_by_key(|r| r.payload.abs_diff(32));
        let block = of().filter(|r| r.mode == "block" && r.writers == 1);
        let most =
            |a: &&Row, b: &&Row| a.bytes_per_second.median.total_cmp(&b.bytes_per_second.median);
        let best = block.max_by(most);
        let cost = cost.and_then(|r| Some((r, r.ns?)));
        let cost =
            cost.map(|(r, ns)| format!("{} B cost the writer {} ns", r.payload, middle(&ns, 1.0)));
        let best = best.map(|r| {
            let rate = rate(&r.bytes_per_second);
            let of = r.of_limit().map_or(String::new(), |of| format!(", {of:.2} of its limit"));
            let lost = match r.books.lost() {
                0 => "without loss".to_owned(),
                lost => format!("with a loss of {}", part(lost, r.books.offered)),
            };
            format!("{rate} come out {lost} ({} B, block{of})", r.payload)
        });
        let words: Vec<_> = [cost, best].into_iter().flatten().collect();
        let _ = writeln!(text, "  {name:width$}  {}", words.join("; "));
    }
}
