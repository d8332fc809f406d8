//! The report: what was offered, recorded, lost, and what became of it; for programs
//! (`--report`) and, in words, for people.

use std::fmt::Write;

use rbpipe_core::channel::StreamReport;
use rbpipe_core::stream::StreamBooks;
use serde_json::{Map, Value, json};

use crate::status::{count, short};
use crate::walk::{ChannelView, Ended, SourceView, source_counts};

/// The report of a pipeline that has ended.
pub fn json(ended: &Ended) -> Value {
    let (channels, sources) = (&ended.channels, &ended.sources);
    of(&ended.name, ended.seconds, channels.iter().map(|c| &**c), sources.iter().map(|s| &**s))
}

/// The report's form, fixed by the contract: other people's scripts lean on it. Of a pipeline
/// that runs the numbers are read one after the other: they add up when it has ended.
pub fn of<'a>(
    name: &str,
    seconds: f64,
    all: impl Iterator<Item = &'a ChannelView>,
    sources: impl Iterator<Item = &'a SourceView>,
) -> Value {
    let mut channels = Map::new();
    for c in all {
        let streams = c.monitor.streams();
        let mut body = books(&sum(&streams));
        body.insert("backend".into(), json!(c.backend));
        body.insert("mode".into(), json!(c.mode.name()));
        let list = streams.iter().map(|s| {
            let mut body = books(&s.books);
            body.insert("id".into(), json!(s.id));
            body.insert("cpu".into(), json!(s.cpu));
            Value::Object(body)
        });
        body.insert("streams".into(), list.collect());
        if let Some(facts) = &c.facts {
            let sheet = facts();
            let values = sheet.values.iter().map(|(key, v)| ((*key).to_owned(), fact(*v)));
            body.insert(sheet.name.into(), Value::Object(values.collect()));
        }
        channels.insert(c.name.clone(), Value::Object(body));
    }
    let sources: Map<String, Value> = sources
        .map(|s| {
            let (read, lost_before) = source_counts(s);
            (s.name.clone(), json!({"read": read, "lost_before": lost_before}))
        })
        .collect();
    json!({
        "name": name,
        "seconds": seconds,
        "channels": channels,
        "sources": sources,
    })
}

/// A whole number as one.
fn fact(v: f64) -> Value {
    if v.fract() == 0.0 && v.abs() < 2f64.powi(53) { json!(v as i64) } else { json!(v) }
}

fn books(b: &StreamBooks) -> Map<String, Value> {
    let Value::Object(mut map) = json!({
        "offered": b.engine.offered(),
        "recorded": b.engine.recorded,
        "bytes": b.bytes,
        "packets": b.packets,
        "lost": {"full": b.engine.full, "wrap": b.engine.wrap, "too_big": b.engine.too_big},
        "overwritten": b.overwritten(),
        "aborted": b.engine.aborted,
        "kept": b.engine.kept,
        "output": {
            "packets": b.output_packets,
            "records": b.output_records,
            "bytes": b.output_bytes,
            "failed": b.failed,
            "failed_records": b.failed_records,
        },
    }) else {
        return Map::new();
    };
    // Only records that bring their own time can have one that went back.
    if b.raised > 0 {
        map.insert("raised".into(), json!(b.raised));
    }
    map
}

/// A channel's books: the sum of its streams'.
pub fn sum(streams: &[StreamReport]) -> StreamBooks {
    let mut out = StreamBooks::default();
    for s in streams {
        let b = &s.books;
        out.engine.recorded += b.engine.recorded;
        out.engine.full += b.engine.full;
        out.engine.wrap += b.engine.wrap;
        out.engine.too_big += b.engine.too_big;
        out.engine.aborted += b.engine.aborted;
        out.engine.kept += b.engine.kept;
        out.bytes += b.bytes;
        out.packets += b.packets;
        out.output_packets += b.output_packets;
        out.output_records += b.output_records;
        out.output_bytes += b.output_bytes;
        out.failed += b.failed;
        out.failed_records += b.failed_records;
        out.raised += b.raised;
        out.underway.0 += b.underway.0;
        out.underway.1 += b.underway.1;
    }
    out
}

/// The summary for people.
pub fn summary(ended: &Ended) -> String {
    let mut out = format!("rbpipe: {:.1} s\n", ended.seconds);
    // Writing to a String cannot fail.
    let (mut looks, mut ends): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    for c in &ended.channels {
        let b = sum(&c.monitor.streams());
        let _ = write!(
            out,
            "  channel {}: {} recorded ({}B, {})",
            c.name,
            count(b.engine.recorded, "event"),
            short(b.bytes as f64),
            count(b.packets, "packet")
        );
        for (n, what) in [
            (b.engine.full, "lost because the ring was full"),
            (b.engine.wrap, "lost behind a stalled writer"),
            (b.engine.too_big, "too big for a sub-buffer"),
            (b.overwritten(), "overwritten"),
            (b.engine.aborted, "aborted"),
            (b.engine.kept, "kept in the ring"),
            (b.failed_records, "in packets that could not be written"),
        ] {
            if n > 0 {
                let _ = write!(out, ", {n} {what}");
            }
        }
        let e = &b.engine;
        if e.full + e.wrap + e.too_big + e.aborted + b.overwritten() + b.failed_records == 0 {
            out.push_str(", none lost");
        }
        if let Some(facts) = &c.facts {
            let _ = write!(out, "; {}", facts().words);
        }
        out.push('\n');
        for l in &c.look_with {
            if !looks.contains(&l.as_str()) {
                looks.push(l);
            }
        }
    }
    for c in &ended.channels {
        for line in c.at_the_end.iter().flat_map(|lines| lines()) {
            // Channels that share a place say the same of it.
            if !ends.contains(&line) {
                let _ = writeln!(out, "  {line}");
                ends.push(line);
            }
        }
    }
    // As it was called: what is said can be typed.
    let me = std::env::args().next().unwrap_or_else(|| "rbpipe".into());
    let typed = |command: &str| match command.strip_prefix("rbpipe ") {
        Some(rest) => format!("{me} {rest}"),
        None => command.to_owned(),
    };
    if !looks.is_empty() {
        let looks: Vec<String> = looks.into_iter().map(typed).collect();
        let _ = writeln!(out, "  look at it: {}", looks.join("   or   "));
    }
    let _ = writeln!(out, "  what more there is: {me} sources | backends | --help");
    out
}
