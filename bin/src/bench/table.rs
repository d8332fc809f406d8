//! The table on the terminal.

use std::fmt::Write as _;

use super::reads;
use super::report::{Limits, Report, Row, Spread};
use super::words::{case, digits, middle, part, rate, time, unit, whole};

/// All of it, as text; where `room` is given, no wider than that, as far as columns can be left
/// out.
pub fn table(report: &Report, room: Option<usize>) -> String {
    let mut text = format!("{}\n{}\n", report.machine.words(), report.noise.words());
    let changed = report.limits.locked_ns.width();
    if changed > 0.1 {
        let percent = changed * 100.0;
        let _ = writeln!(text, "its speed was not the same all the time: by {percent:.0} % of it");
    }
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
        let scale = report.kind == "scale";
        let more = report.rows[at..].iter().take_while(|r| r.subject() == subject).count();
        rows(&report.rows[at..at + more], scale, room, &mut text);
        at += more;
    }
    for absent in &report.absent {
        let name = super::report::named(&absent.backend, &absent.variant);
        let what = match absent {
            a if a.failed => "failed, and had no more turns",
            a if a.backend == reads::NAME => "left out",
            _ => "not here",
        };
        let _ = writeln!(text, "\n{name}: {what}: {}", absent.why);
    }
    if report.kind == "bench" {
        short(report, &mut text);
    }
    text.push('\n');
    if room.is_some_and(|_| columns(COLUMNS.iter().collect(), 20, room).len() < COLUMNS.len()) {
        text.push_str(
            "the terminal has no room for some columns: --csv and --json have them all\n",
        );
    }
    text.push_str(LEGEND);
    if let Some(room) = room {
        text = text.lines().map(|line| wrapped(line, room)).collect();
    }
    // Names of machines and devices are the system's: none is to drive a terminal.
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// A line that is not longer than there is room: broken between words, then indented. A word that
/// is longer stays whole.
fn wrapped(line: &str, room: usize) -> String {
    let mut out = String::new();
    let (mut rest, mut indent) = (line.trim_end(), 0);
    while rest.chars().count() + indent > room {
        // With the blank behind a word that just fits.
        let fits = rest.char_indices().nth(room.saturating_sub(indent) + 1);
        let fits = &rest[..fits.map_or(rest.len(), |(at, _)| at)];
        let word = rest.len() - rest.trim_start().len();
        let last = fits.rfind(' ').filter(|at| *at > word);
        let Some(at) = last.or_else(|| Some(word + rest[word..].find(' ')?)) else { break };
        out += &format!("{:indent$}{}\n", "", rest[..at].trim_end());
        rest = rest[at..].trim_start();
        indent = 4.min(room / 2);
    }
    out + &format!("{:indent$}{rest}\n", "")
}

const LEGEND: &str = "\
middle of the rounds [least most]; ~: rounds differ by more than 10 %.
x parts: beside a clock read, two locked operations and the copy, each alone.
p99, p99.9, max: one record, delivery included. lost: not recorded;
given up: recorded, then overwritten. What each column is: docs/bench.md
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

/// A column: its head, how wide it is, how early it is left out where there is no room for all
/// (0: never), and what is in it.
struct Column(&'static str, usize, u32, fn(&Row) -> Option<String>);

/// All but the first, which says what a row is.
const COLUMNS: [Column; 12] = [
    Column("payload", 7, 0, |r| Some(format!("{} B", r.payload))),
    Column("ns a record", 17, 0, |r| Some(whole(&r.ns?, 1.0, r.runs))),
    Column("x parts", 7, 6, |r| Some(format!("{:.2}", r.of_parts()?))),
    Column("p99", 7, 1, |r| Some(time(r.p99_ns?.median))),
    Column("p99.9", 7, 5, |r| Some(time(r.p999_ns?.median))),
    Column("max", 7, 3, |r| Some(time(r.max_ns))),
    Column("records/s", 9, 4, |r| Some(count(out(r)?))),
    Column("out", 10, 0, |r| out(r).map(|r| rate(&r.bytes_per_second))),
    Column("of limit", 8, 0, |r| Some(format!("{:.2}", out(r)?.of_limit()?))),
    Column("lost", 7, 0, |r| out(r).map(|r| part(r.books.lost(), r.books.offered))),
    Column("given up", 8, 2, |r| out(r).map(|r| part(r.books.overwritten, r.books.recorded))),
    Column("CPU s/GB", 8, 2, |r| Some(middle(&r.cpu_seconds_per_gb?, 1.0))),
];

/// The same where a trace is read.
const READS: [Column; 7] = [
    Column("events", 8, 0, |r| Some(events(r.books.written / r.runs.max(1) as u64))),
    Column("ns an event", 17, 0, |r| Some(whole(&r.ns?, 1.0, r.runs))),
    Column("CPU ns", 8, 3, cpu),
    Column("events/s", 9, 1, |r| Some(count(r))),
    Column("read", 10, 0, |r| Some(rate(&r.bytes_per_second))),
    Column("of limit", 8, 2, |r| Some(format!("{:.2}", r.of_limit()?))),
    Column("memory at most", 14, 0, |r| Some(format!("{} MiB", mib(&r.memory_bytes)))),
];

fn events(n: u64) -> String {
    let (unit, name) = unit(n as f64);
    format!("{} {name}", digits(n as f64 / unit, false)).trim_end().to_owned()
}

/// Nanoseconds of the CPU's that an event took.
fn cpu(row: &Row) -> Option<String> {
    let bytes = row.bytes_per_second.median / row.records_per_second.median;
    let spread = row.cpu_seconds_per_gb?;
    let each = |v: f64| v * bytes;
    let (median, min, max) = (each(spread.median), each(spread.min), each(spread.max));
    Some(middle(&Spread { median, min, max }, 1.0))
}

fn mib(bytes: &Spread) -> String {
    digits(bytes.max / f64::from(1 << 20), false)
}

/// The row, if something comes out of it while it is written.
fn out(row: &Row) -> Option<&Row> {
    row.reader.then_some(row)
}

fn count(row: &Row) -> String {
    let (unit, name) = unit(row.records_per_second.median);
    format!("{} {name}", middle(&row.records_per_second, unit)).trim_end().to_owned()
}

/// The columns that there is room for beside a first one of this width.
fn columns(mut all: Vec<&Column>, first: usize, room: Option<usize>) -> Vec<&Column> {
    let width = |c: &[&Column]| 2 + first + c.iter().map(|c| c.1 + 1).sum::<usize>();
    while room.is_some_and(|room| width(&all) > room) {
        let Some(least) = all.iter().map(|c| c.2).filter(|n| *n > 0).min() else { break };
        all.retain(|c| c.2 != least);
    }
    all
}

fn rows(rows: &[Row], scale: bool, room: Option<usize>, text: &mut String) {
    let Some(first) = rows.first() else { return };
    let is_read = first.trace_bytes > 0;
    let limit = first.limit_bytes_per_second.filter(|_| first.limit != "memory copy");
    let limit = limit.map_or(String::new(), |l| format!(" {}", rate(&l)));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let _ = write!(text, "\n{}   (limit: {}{limit}", first.subject(), first.limit);
    if is_read {
        let _ = write!(text, "; {} streams, as text, into nowhere", first.channels);
    } else if !scale {
        let (ring, grown) = (mib(first.ring_bytes as f64), mib(first.memory_bytes.median));
        let _ = write!(text, "; a ring of {ring:.1} MiB, the process grew by {grown:.1} MiB");
    }
    text.push_str(")\n");
    let width = rows.iter().map(|r| case(r).chars().count()).max().unwrap_or(0).max(9);
    let all = match (is_read, scale) {
        (true, _) => READS.iter().collect(),
        (false, false) => COLUMNS.iter().collect(),
        // All rows write the same, and what comes out is not what grows.
        (false, true) => {
            let is_other = |c: &&Column| !["payload", "out", "of limit"].contains(&c.0);
            COLUMNS.iter().filter(is_other).collect()
        }
    };
    let columns = columns(all, width, room);
    let mut line = format!("  {:width$}", "");
    for Column(head, width, ..) in &columns {
        let _ = write!(line, " {head:>width$}");
    }
    let _ = writeln!(text, "{}", line.trim_end());
    for row in rows {
        let mut line = format!("  {:width$}", case(row));
        for Column(_, width, _, cell) in &columns {
            let _ = write!(line, " {:>width$}", cell(row).unwrap_or_else(|| "-".into()));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is no room, the least important columns go; those that say most stay.
    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        assert_eq!(columns(COLUMNS.iter().collect(), 20, None).len(), COLUMNS.len());
        assert_eq!(columns(COLUMNS.iter().collect(), 20, Some(200)).len(), COLUMNS.len());
        let heads = |room| {
            columns(COLUMNS.iter().collect(), 20, Some(room))
                .iter()
                .map(|c| c.0)
                .collect::<Vec<_>>()
        };
        assert!(!heads(120).contains(&"p99") && heads(120).contains(&"max"));
        assert_eq!(heads(80), ["payload", "ns a record", "out", "of limit", "lost"]);
        assert_eq!(heads(10), heads(80));
    }

    /// No line is longer than the terminal, no word is lost; one that is too long stays whole.
    #[test]
    fn a_long_line_is_broken_between_words() {
        assert_eq!(wrapped("  a line", 10), "  a line\n");
        assert_eq!(wrapped("exactly it", 10), "exactly it\n");
        assert_eq!(wrapped("one two three four", 10), "one two\n    three\n    four\n");
        assert_eq!(wrapped("one two three", 7), "one two\n   three\n");
        assert_eq!(wrapped("  one two three", 9), "  one two\n    three\n");
        assert_eq!(wrapped("inseparable  words are", 8), "inseparable\n    words\n    are\n");
        assert_eq!(wrapped("  inseparable", 8), "  inseparable\n");
        assert_eq!(wrapped("four µs, four µs", 8), "four µs,\n    four\n    µs\n");
        assert_eq!(wrapped("µµµ µµµ", 7), "µµµ µµµ\n");
        assert_eq!(wrapped("one  two", 6), "one\n   two\n");
        assert_eq!(wrapped("a b c d", 4), "a b\n  c\n  d\n");
        assert_eq!(wrapped("it ends in blanks    ", 10), "it ends in\n    blanks\n");
        assert_eq!(wrapped("", 10), "\n");
        let long = "gpu, llvmpipe, staged   (limit: GPU copy ~8.8 GB/s; a ring of 12.0 MiB)";
        for room in 20..90 {
            let out = wrapped(long, room);
            assert!(out.lines().all(|l| l.chars().count() <= room), "{room}: {out}");
            let words = |t: &str| t.split_whitespace().map(String::from).collect::<Vec<_>>();
            assert_eq!(words(&out), words(long));
        }
    }
}
