//! The picture (SVG): what each backend costs its writers and what comes out of it; or, of `--scale`,
//! how the cost grows.

use super::growth::growth;
use super::report::{Report, Row, Spread};
use super::svg::Svg;
use super::words::{digits, rate, unit};

/// Colours that people who see fewer of them tell apart (Okabe and Ito).
pub(super) const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// Draws it.
pub fn plot(report: &Report) -> String {
    if report.kind == "scale" { growth(report) } else { backends(report) }
}

/// Pixels of one row.
const LINE: f64 = 17.0;

/// A line for each backend and payload: a dot for the middle, a bar from the least to the most,
/// and a mark for the limit.
fn backends(report: &Report) -> String {
    let shown = |mode: &str| {
        let usual =
            move |r: &&Row| r.mode == mode && r.writers == 1 && r.reader && r.streams == "per-cpu";
        report.rows.iter().filter(usual).collect::<Vec<_>>()
    };
    // All records are recorded in overwrite mode, and all come out in block mode.
    let pick = |modes: [&str; 3]| {
        modes.into_iter().map(shown).find(|rows| !rows.is_empty()).unwrap_or_default()
    };
    let costs = pick(["overwrite", "discard", "block"]);
    let outs = pick(["block", "discard", "overwrite"]);
    let mut subjects: Vec<_> = costs.iter().chain(&outs).map(|r| r.subject()).collect();
    subjects.dedup();
    let mut names: Vec<String> = Vec::new();
    for s in subjects {
        if !names.contains(&s) {
            names.push(s);
        }
    }
    let mut payloads: Vec<_> = report.rows.iter().map(|r| r.payload).collect();
    payloads.sort_unstable();
    payloads.dedup();
    let group = (payloads.len() as f64 + 0.6) * LINE;
    let (top, height) = (160.0, group * names.len() as f64);
    let mut svg = Svg::new(1080.0, top + height + 70.0);
    head(&mut svg, report, "What a record costs its writer, and what comes out");
    legend(&mut svg, 92.0);
    let most = |rows: &[&Row], of: fn(&Row) -> f64| rows.iter().map(|r| of(r)).fold(0.0, f64::max);
    // One round that had bad luck is not to leave no room for all others.
    let ns = most(&costs, |r| r.ns.map_or(0.0, |n| 1.3 * n.median).max(r.parts_ns));
    let (left, right) = ((230.0, 330.0), (650.0, 260.0));
    let linear = |v: f64| left.0 + left.1 * (v / (ns * 1.05).max(1.0)).clamp(0.0, 1.0);
    let all = outs.iter().flat_map(|r| {
        [r.bytes_per_second.median, r.limit_bytes_per_second.map_or(0.0, |l| l.median)]
    });
    let all: Vec<f64> = all.filter(|v| *v > 0.0).map(f64::log10).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min).floor().min(9.0);
    let high = all.iter().copied().fold(0.0, f64::max).ceil().max(low + 1.0);
    let log =
        |v: f64| right.0 + right.1 * ((v.max(1.0).log10() - low) / (high - low)).clamp(0.0, 1.0);
    axis_ns(&mut svg, ns, (top, height), &linear);
    let ns_end = (ns * 1.05).max(1.0);
    for power in low as i32..=high as i32 {
        // Not all have room for a label.
        if high - low > 6.0 && power % 2 != 0 {
            continue;
        }
        let (unit, name) = unit(10f64.powi(power));
        let label = format!("{:.0} {name}B/s", 10f64.powi(power) / unit);
        svg.grid(log(10f64.powi(power)), top, height, &label);
    }
    let words = format!("ns a record at the writer, {} mode", mode_of(&costs));
    svg.text(left.0, top - 12.0, "start", 13, &words);
    let words = format!("bytes a second that come out, {} mode", mode_of(&outs));
    svg.text(right.0, top - 12.0, "start", 13, &words);
    svg.aside(1072.0, top - 12.0, "end", 11, "of limit");
    let below = top + height + 32.0;
    svg.aside(left.0, below, "start", 11, "nanoseconds");
    let times = if high - low > 6.0 { 100 } else { 10 };
    let words = format!("bytes a second; each line is {times} times the one before");
    svg.aside(right.0, below, "start", 11, &words);
    for (i, name) in names.iter().enumerate() {
        let y = top + group * i as f64;
        svg.text(8.0, y + 15.0, "start", 13, name);
        if let Some(row) = outs.iter().find(|r| r.subject() == *name) {
            svg.aside(8.0, y + 31.0, "start", 10, &format!("limit: {}", row.limit));
        }
        for (p, payload) in payloads.iter().enumerate() {
            let (y, colour) = (y + (p as f64 + 0.65) * LINE, COLOURS[p % COLOURS.len()]);
            svg.text(left.0 - 8.0, y + 4.0, "end", 11, &format!("{payload} B"));
            let of = |rows: &[&Row]| -> Option<Row> {
                let row = rows.iter().find(|r| r.subject() == *name && r.payload == *payload);
                row.map(|r| (*r).clone())
            };
            if let Some((row, ns)) = of(&costs).and_then(|r| Some((r.clone(), r.ns?))) {
                svg.mark(linear(row.parts_ns), y);
                bar(&mut svg, &ns, y, colour, &linear);
                let mut label = digits(ns.median, ns.width() > 0.1);
                if ns.max > ns_end {
                    label += &format!(" (to {})", digits(ns.max, true));
                }
                svg.text(linear(ns.median.max(ns.max)) + 7.0, y + 4.0, "start", 10, &label);
            }
            if let Some(row) = of(&outs) {
                if let Some(limit) = row.limit_bytes_per_second {
                    svg.mark(log(limit.median), y);
                }
                bar(&mut svg, &row.bytes_per_second, y, colour, &log);
                svg.text(1020.0, y + 4.0, "end", 10, &rate(&row.bytes_per_second));
                let part = row.of_limit().map_or_else(|| "-".into(), |of| format!("{of:.2}"));
                svg.text(1072.0, y + 4.0, "end", 10, &part);
            }
        }
    }
    svg.text(8.0, top + height + 58.0, "start", 11, &report.noise.words());
    svg.end()
}

fn mode_of<'a>(rows: &[&'a Row]) -> &'a str {
    rows.first().map_or("no", |r| &r.mode)
}

/// What is shown, by which version, on which machine.
pub(super) fn head(svg: &mut Svg, report: &Report, title: &str) {
    svg.text(8.0, 22.0, "start", 16, title);
    svg.aside(1072.0, 22.0, "end", 11, &format!("rbpipe {}", report.rbpipe));
    for (i, line) in report.machine.words().lines().enumerate() {
        svg.text(8.0, 42.0 + 16.0 * i as f64, "start", 11, line);
    }
}

/// What dots, bars and marks are.
fn legend(svg: &mut Svg, y: f64) {
    let middle = Spread { median: 30.0, min: 14.0, max: 52.0 };
    bar(svg, &middle, y, COLOURS[0], &|v| v);
    svg.text(60.0, y + 4.0, "start", 11, "middle of the rounds, from the least to the most");
    svg.mark(16.0, y + 20.0);
    let words = "the limit, measured in the same minute. Left: a clock read, two locked operations \
                 and the copy of the bytes, each alone. Right: the same bytes without rbpipe, as \
                 named at the left";
    svg.text(60.0, y + 24.0, "start", 11, words);
}

fn bar(svg: &mut Svg, spread: &Spread, y: f64, colour: &str, x: &dyn Fn(f64) -> f64) {
    svg.line(x(spread.min), y, x(spread.max), y, colour, 2.0);
    svg.dot(x(spread.median), y, colour);
}

fn axis_ns(svg: &mut Svg, most: f64, (top, height): (f64, f64), x: &dyn Fn(f64) -> f64) {
    let step = step(most);
    let mut at = 0.0;
    while at <= most * 1.05 {
        svg.grid(x(at), top, height, &round(at));
        at += step;
    }
}

/// A round number as it is said.
pub(super) fn round(value: f64) -> String {
    // What was added up step by step is a little off.
    format!("{}", (value * 1e6).round() / 1e6)
}

/// A round step that makes four to nine of so much.
pub(super) fn step(most: f64) -> f64 {
    let power = 10f64.powf((most.max(1e-9) / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|s| s * power).find(|s| most / s <= 8.0).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!((round(5.0), round(0.1 + 0.2)), ("5".into(), "0.3".into()));
        for (most, want) in [(52.0, 10.0), (80.0, 10.0), (100.0, 20.0), (7.0, 1.0), (0.4, 0.05)] {
            assert!((step(most) - want).abs() < 1e-9, "{most}: {}", step(most));
        }
    }
}
