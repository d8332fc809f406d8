//! What was found, as Markdown.

use std::fmt::Write;

use crate::file::Files;
use crate::session::{PAYLOADS, Row, Spread};

fn ns(v: Option<Spread>) -> String {
    v.map_or("–".into(), |s| format!("{:.1} [{:.1} {:.1}]", s.mid, s.least, s.most))
}

fn times(v: Option<Spread>) -> String {
    v.map_or("–".into(), |s| format!("{:.2}", s.mid))
}

fn percent(v: Option<Spread>) -> String {
    v.map_or("–".into(), |s| match s.mid * 100.0 {
        0.0 => "0".into(),
        p if p < 0.1 => "< 0.1".into(),
        p => format!("{p:.1}"),
    })
}

type Column<'a> = (&'a str, &'a dyn Fn(&Row) -> String);

fn table(out: &mut String, rows: &[Row], columns: &[Column<'_>]) {
    let heads = columns.iter().flat_map(|(name, _)| PAYLOADS.map(|n| format!(" {name} {n} B |")));
    let _ = writeln!(out, "| |{}", heads.collect::<String>());
    let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len() * PAYLOADS.len()));
    for peer in rows.chunk_by(|a, b| a.name == b.name) {
        let cells = columns.iter().flat_map(|(_, show)| peer.iter().map(show));
        let cells: String = cells.map(|c| format!(" {c} |")).collect();
        let _ = writeln!(out, "| {} |{cells}", peer[0].name);
    }
}

/// All of it.
#[must_use]
pub fn show(rows: &[Row], files: Option<&Files>) -> String {
    let mut out = String::from(
        "ns of a record, median of rounds [least most]. A: one thread, no consumer. C: a consumer \
         on the other core, which keeps up (the writer waits outside the timed slices). E: two threads, no consumer; each its own stream or queue, or one that \
         they share. The floor with a consumer hands over pieces of 256 KiB: what is more than \
         without is this machine's memory.\n\n",
    );
    table(
        &mut out,
        rows,
        &[("A", &|r| ns(r.alone)), ("C", &|r| ns(r.drained)), ("E", &|r| ns(r.two))],
    );
    out.push_str(
        "\nRatios of runs of one round; % lost where the writer never waits; p99.9 of single records in C, ns, and in \
         brackets beside their median.\n\n",
    );
    table(
        &mut out,
        rows,
        &[
            ("C ÷ A", &|r| times(r.drained_by_alone)),
            ("E ÷ A", &|r| times(r.two_by_alone)),
            ("lost %", &|r| percent(r.lost)),
            ("p99.9", &|r| {
                r.p999.map_or("–".into(), |s| {
                    format!("{:.0} (× {})", s.mid, times(r.p999_by_median))
                })
            }),
        ],
    );
    if let Some(f) = files {
        let gb = |s: Spread| format!("{:.2} [{:.2} {:.2}] GB/s", s.mid, s.least, s.most);
        let _ = writeln!(
            out,
            "\nTo a file, records of 256 bytes, block mode: {}; pwrite of the same bytes {}: × \
             {:.2} [{:.2} {:.2}]; into room asked for ahead {}: × {:.2} [{:.2} {:.2}]; lost {} of \
             {}.",
            gb(f.ours),
            gb(f.pwrite),
            f.by_pwrite.mid,
            f.by_pwrite.least,
            f.by_pwrite.most,
            gb(f.pwrite_ahead),
            f.by_pwrite_ahead.mid,
            f.by_pwrite_ahead.least,
            f.by_pwrite_ahead.most,
            f.lost,
            f.records,
        );
    }
    out
}
