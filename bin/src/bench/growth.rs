//! The picture of `--scale` (SVG): a panel for each thing that grows, a line for each backend, and
//! where a line bends, why.

use super::plot::{COLOURS, head, round, step};
use super::reads;
use super::report::{Report, Row, Spread};
use super::scale::{self, Bend};
use super::svg::Svg;
use super::words::{bytes, digits};

/// A panel's size, and what is between two of them.
const SIZE: (f64, f64) = (296.0, 180.0);
const BETWEEN: (f64, f64) = (54.0, 100.0);
/// Where the first one begins.
const FIRST: (f64, f64) = (48.0, 152.0);

/// What a panel shows.
struct Panel<'a> {
    title: String,
    /// What the numbers below it are.
    below: &'a str,
    /// A name's place in the list of all, and how its cost grows.
    lines: Vec<(usize, Vec<(u64, Spread)>)>,
    bends: &'a [Bend],
    /// A number below it, in words.
    tick: fn(u64) -> String,
    /// A second line of words below, for some of the numbers.
    more: Vec<(u64, String)>,
}

/// Draws it.
pub fn growth(report: &Report) -> String {
    let mut names: Vec<String> = Vec::new();
    for row in &report.rows {
        if !names.contains(&row.subject()) {
            names.push(row.subject());
        }
    }
    let mut panels: Vec<_> = scale::AXES.iter().map(|axis| along(axis, report, &names)).collect();
    panels.extend(read(report, &names));
    let lines = panels.len().div_ceil(3) as f64;
    let foot = FIRST.1 + lines * (SIZE.1 + BETWEEN.1) - 20.0;
    let mut svg = Svg::new(1080.0, foot + 24.0);
    head(&mut svg, report, "How the cost of a record grows");
    let mut x = 8.0;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        svg.line(x, 84.0, x + 22.0, 84.0, colour, 2.0);
        svg.text(x + 28.0, 88.0, "start", 12, name);
        x += 56.0 + 7.5 * name.chars().count() as f64;
    }
    let words = "dot: the middle of the rounds; upright line: from the least to the most. A record \
                 has 32 bytes and costs its writer so many nanoseconds";
    svg.aside(8.0, 108.0, "start", 11, words);
    for (i, panel) in panels.iter().enumerate() {
        let x = FIRST.0 + (i % 3) as f64 * (SIZE.0 + BETWEEN.0);
        let y = FIRST.1 + (i / 3) as f64 * (SIZE.1 + BETWEEN.1);
        draw(&mut svg, panel, (x, y));
    }
    svg.text(8.0, foot + 12.0, "start", 11, &report.noise.words());
    svg.end()
}

/// The panel of one thing that grows.
fn along<'a>(axis: &'a scale::Axis, report: &Report, names: &[String]) -> Panel<'a> {
    let rows = scale::rows(axis, report.rows.iter());
    let lines = names.iter().enumerate().filter_map(|(i, name)| {
        let of = rows.iter().filter(|r| r.subject() == *name);
        let points: Vec<_> = of.filter_map(|r| Some(((axis.get)(r), r.ns?))).collect();
        (!points.is_empty()).then_some((i, points))
    });
    Panel {
        title: format!("ns a record, by {}", axis.name),
        below: axis.below,
        lines: lines.collect(),
        bends: axis.bends,
        tick: |n| n.to_string(),
        more: Vec::new(),
    }
}

/// The panel of traces that were read; `None`: none was.
fn read<'a>(report: &Report, names: &[String]) -> Option<Panel<'a>> {
    let rows: Vec<&Row> = report.rows.iter().filter(|r| r.trace_bytes > 0).collect();
    let points = rows.iter().filter_map(|r| Some((r.trace_bytes, r.ns?))).collect();
    let memory = |r: &&Row| {
        let mib = digits(r.memory_bytes.max / f64::from(1 << 20), true);
        (r.trace_bytes, format!("{mib} MiB"))
    };
    Some(Panel {
        title: "ns an event that is read, by trace size".into(),
        below: "the trace; below it, the most memory that reading it took",
        lines: vec![(names.iter().position(|n| n == reads::NAME)?, points)],
        bends: &[],
        tick: bytes,
        more: rows.iter().map(memory).collect(),
    })
}

fn draw(svg: &mut Svg, panel: &Panel<'_>, (left, top): (f64, f64)) {
    let (width, height) = SIZE;
    let all = || panel.lines.iter().flat_map(|(_, points)| points);
    let mut ticks: Vec<u64> = all().map(|(n, _)| *n).collect();
    ticks.sort_unstable();
    ticks.dedup();
    let (Some(least), Some(most)) = (ticks.first(), ticks.last()) else { return };
    let (least, most) = (*least as f64, *most as f64);
    // One round that had bad luck is not to leave no room for all others.
    let ns = all().map(|(_, ns)| ns.max.min(1.5 * ns.median)).fold(1.0, f64::max);
    let x = |v: f64| left + width * ((v / least).ln() / (most / least).ln().max(1e-9)).max(0.0);
    let y = |v: f64| top + height - height * (v / (ns * 1.25)).min(1.0);
    svg.text(left - 30.0, top - 12.0, "start", 13, &panel.title);
    let step = step(ns);
    let mut at = 0.0;
    while at <= ns * 1.08 {
        svg.line(left, y(at), left + width, y(at), "#dddddd", 1.0);
        svg.text(left - 6.0, y(at) + 4.0, "end", 10, &round(at));
        at += step;
    }
    let below = top + height;
    for tick in &ticks {
        svg.text(x(*tick as f64), below + 16.0, "middle", 10, &(panel.tick)(*tick));
    }
    for (tick, words) in &panel.more {
        svg.aside(x(*tick as f64), below + 30.0, "middle", 10, words);
    }
    let under = if panel.more.is_empty() { 32.0 } else { 46.0 };
    svg.aside(left - 30.0, below + under, "start", 10, panel.below);
    for (i, points) in &panel.lines {
        let colour = COLOURS[i % COLOURS.len()];
        for pair in points.windows(2) {
            let [(a, from), (b, to)] = [pair[0], pair[1]];
            svg.line(x(a as f64), y(from.median), x(b as f64), y(to.median), colour, 2.0);
        }
        for (n, ns) in points {
            let at = x(*n as f64);
            svg.line(at, y(ns.min), at, y(ns.max), colour, 1.0);
            svg.dot(at, y(ns.median), colour);
        }
    }
    for bend in panel.bends {
        if panel.lines.iter().any(|(_, points)| bend.is_in(points)) {
            let at = x(bend.at as f64);
            svg.dashes(at, top + 10.0, below);
            let right = at > left + width / 2.0;
            let (anchor, at) = if right { ("end", at + 4.0) } else { ("start", at - 4.0) };
            svg.aside(at, top + 4.0, anchor, 10, bend.why);
        }
    }
}
