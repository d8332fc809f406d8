//! Goal: what `rbpipe read` selects and how it prints it is what was asked for, and a mistake
//! gets a sentence. Method: traces written by hand and by a pipeline; JSON, selected here, is the
//! reference for every filter.

use std::path::Path;
use std::process::Output;

use rbpipe_core::class::{EventClass, Field, FieldType, Integer, Label};
use rbpipe_tests::growing::{Growing, packet};
use rbpipe_tests::program::{rbpipe, run};
use serde_json::Value;

fn read(dir: &Path, args: &[&str]) -> Output {
    rbpipe().current_dir(dir).arg("read").args(args).output().expect("it runs")
}

/// What is printed, and what is said.
fn read_well(dir: &Path, args: &[&str]) -> (String, String) {
    let out = read(dir, args);
    let said = String::from_utf8(out.stderr).expect("text");
    assert_eq!(out.status.code(), Some(0), "{args:?}: {said}");
    (String::from_utf8(out.stdout).expect("text"), said)
}

fn json(dir: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["--format", "json"], args].concat();
    let (text, _) = read_well(dir, &args);
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A parser of RFC 4180 that takes nothing else.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut rest) = (Vec::new(), Vec::new(), text);
    while !rest.is_empty() {
        let cell = if let Some(quoted) = rest.strip_prefix('"') {
            let (mut cell, mut at) = (String::new(), quoted);
            loop {
                let end = at.find('"').expect("a quote has an end");
                cell.push_str(&at[..end]);
                at = &at[end + 1..];
                let Some(more) = at.strip_prefix('"') else { break };
                cell.push('"');
                at = more;
            }
            rest = at;
            cell
        } else {
            let end = rest.find([',', '\r', '\n']).expect("a line has an end");
            let (cell, after) = rest.split_at(end);
            assert!(!cell.contains('"'), "{cell}");
            rest = after;
            cell.to_owned()
        };
        row.push(cell);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else {
            rest = rest.strip_prefix("\r\n").unwrap_or_else(|| panic!("no end of line: {rest:?}"));
            rows.push(std::mem::take(&mut row));
        }
    }
    assert!(rows.iter().all(|r| r.len() == rows[0].len()), "as many cells in each line");
    rows
}

#[test]
fn csv_is_valid_whatever_the_fields_hold() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    let texts = ["plain", "a,b", "say \"hi\"", "two\nlines\r\n", "", " é ", "'", "\"", ",\"\r\n,"];
    for (n, text) in (0..).zip(texts) {
        trace.packet(0, n, &[(1000 + n, 0, n, text)]);
    }
    drop(trace);
    let (text, said) = read_well(dir.path(), &["t", "--format", "csv"]);
    let rows = csv(&text);
    assert_eq!(said, "");
    assert_eq!(rows[0], ["time", "stream", "cpu", "name", "seq", "text"], "one event class");
    assert_eq!(rows.len(), 1 + texts.len());
    for (n, text) in texts.iter().enumerate() {
        let number = n.to_string();
        assert_eq!(rows[1 + n], [&(1000 + n).to_string(), "0", "0", "t:e", &number, text]);
    }
}

/// A trace with many kinds of fields in two classes.
fn mixed(dir: &Path) {
    let states = vec![
        Label { name: "R".into(), first: 0, last: 0 },
        Label { name: "S, sleeping".into(), first: 1, last: 1 },
    ];
    let switch = EventClass::new(
        "sched:switch",
        vec![
            Field::new("state", FieldType::Enumeration(Integer::unsigned(8), states)),
            Field::new("time", FieldType::U16),
            Field::new("load", FieldType::Float64),
            Field::new("list", FieldType::Sequence(Box::new(FieldType::U8))),
            Field::new("comm", FieldType::String),
        ],
    );
    let wake = EventClass::new("sched:wake", vec![Field::new("pid", FieldType::I32)]);
    let trace = Growing::with(&dir.join("t"), vec![switch, wake], 1_700_000_000_000_000_000);
    // By hand: the harness writes its own class alone.
    let header = packet(0, 0, 0, &[]);
    let mut bytes = header.clone();
    bytes.truncate(84);
    for n in 0..100u64 {
        use rbpipe_core::packet::RecordHeader;
        if n % 2 == 0 {
            bytes.extend(RecordHeader::extended(0, n * 10_000_000));
            bytes.push((n % 4 / 2) as u8);
            bytes.extend((n as u16).to_le_bytes());
            bytes.extend((n as f64 / 4.0).to_le_bytes());
            bytes.extend(2u32.to_le_bytes());
            bytes.extend([n as u8, 7]);
            bytes.extend(format!("kw{n}\"\0").as_bytes());
        } else {
            bytes.extend(RecordHeader::extended(1, n * 10_000_000));
            bytes.extend((50 - n as i32).to_le_bytes());
        }
    }
    let content = bytes.len() as u64;
    bytes.resize(content.next_multiple_of(8) as usize, 0);
    let size = bytes.len() as u64;
    bytes[40..48].copy_from_slice(&990_000_000u64.to_le_bytes());
    bytes[48..56].copy_from_slice(&(content * 8).to_le_bytes());
    bytes[56..64].copy_from_slice(&(size * 8).to_le_bytes());
    trace.append(0, &bytes);
}

#[test]
fn csv_of_several_events_has_their_fields_as_json() {
    let dir = dir();
    mixed(dir.path());
    let all = json(dir.path(), &["t"]);
    assert_eq!(all.len(), 100);
    let rows = csv(&read_well(dir.path(), &["t", "--format", "csv"]).0);
    assert_eq!(rows[0], ["time", "stream", "cpu", "name", "fields"]);
    for (row, event) in rows[1..].iter().zip(&all) {
        assert_eq!(row[0], event["time"].to_string());
        assert_eq!(row[3], event["name"].as_str().expect("a name"));
        assert_eq!(serde_json::from_str::<Value>(&row[4]).expect("JSON"), event["fields"]);
    }
    let args = ["t", "--format", "csv", "--event", "sched:s*"];
    let rows = csv(&read_well(dir.path(), &args).0);
    let columns = ["time", "stream", "cpu", "name", "state", "fields.time", "load", "list", "comm"];
    assert_eq!(rows[0], columns, "one selected event; no two columns of one name");
    assert_eq!(rows.len(), 51);
    assert_eq!(rows[2][4..], ["S, sleeping", "2", "0.5", "[2,7]", "kw2\""]);
    let args = ["t", "--format", "csv", "--fields", "pid,comm,_list_length,nosuch"];
    let rows = csv(&read_well(dir.path(), &args).0);
    assert_eq!(rows[0][4..], ["pid", "comm", "_list_length", "nosuch"]);
    assert_eq!(rows[1][4..], ["", "kw0\"", "2", ""]);
    assert_eq!(rows[2][4..], ["49", "", "", ""]);
    let out = read(dir.path(), &["t", "--fields", "pid"]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn filters_select_what_json_selected_here_has() {
    let dir = dir();
    mixed(dir.path());
    let all = json(dir.path(), &["t"]);
    type Is = fn(&Value) -> bool;
    let cases: &[(&[&str], Is)] = &[
        (&["--event", "sched:w*"], |e| e["name"] == "sched:wake"),
        (&["--event", "!sched:w*"], |e| e["name"] != "sched:wake"),
        (&["--event", "sched:*", "--event", "!*switch"], |e| e["name"] == "sched:wake"),
        (&["--filter", "pid < 0 && pid != -1"], |e| {
            e["fields"]["pid"].as_i64().is_some_and(|p| p < 0 && p != -1)
        }),
        (&["--filter", "!(pid < 0)"], |e| e["fields"]["pid"].as_i64().is_some_and(|p| p >= 0)),
        (&["--filter", "comm ~ \"kw?[\\\"]\""], |e| {
            e["fields"]["comm"].as_str().is_some_and(|c| c.len() == 4)
        }),
        (&["--filter", "state == R || pid == 1"], |e| {
            e["fields"]["state"] == "R" || e["fields"]["pid"] == 1
        }),
        (&["--filter", "state == \"S, sleeping\""], |e| e["fields"]["state"] == "S, sleeping"),
        (&["--filter", "fields.time >= 90"], |e| {
            e["fields"]["time"].as_u64().is_some_and(|t| t >= 90)
        }),
        (&["--filter", "load > 10.25 && load < 13"], |e| {
            e["fields"]["load"].as_f64().is_some_and(|l| l > 10.25 && l < 13.0)
        }),
        (&["--filter", "pid & 0x10"], |e| e["fields"]["pid"].as_i64().is_some_and(|p| p & 16 != 0)),
        (&["--filter", "name == sched:wake && cpu == 0"], |e| e["name"] == "sched:wake"),
        (&["--filter", "cpu == 1"], |_| false),
        (&["--cpu", "0"], |_| true),
        (&["--cpu", "1"], |_| false),
        (&["--stream", "0", "--stream", "3"], |_| true),
        (&["--stream", "3"], |_| false),
        (&["--from", "+0.5s"], |e| e["time"].as_u64() >= Some(1_700_000_000_500_000_000)),
        (&["--from", "-100ms", "--to", "-50ms"], |e| {
            let t = e["time"].as_u64().expect("time") - 1_700_000_000_000_000_000;
            (890_000_000..=940_000_000).contains(&t)
        }),
        (&["--to", "2023-11-14T22:13:20.25Z"], |e| {
            e["time"].as_u64() <= Some(1_700_000_000_250_000_000)
        }),
        (&["--from", "22:13:20.9", "--event", "*wake"], |e| {
            e["time"].as_u64() >= Some(1_700_000_000_900_000_000) && e["name"] == "sched:wake"
        }),
        (&["--from", "1700000000.25", "--to", "1700000000.26"], |e| {
            let t = e["time"].as_u64().expect("time") - 1_700_000_000_000_000_000;
            (250_000_000..=260_000_000).contains(&t)
        }),
        (&["--from", "now"], |_| false),
    ];
    for (args, is) in cases {
        let args = [&["t"], *args].concat();
        let expected: Vec<&Value> = all.iter().filter(|e| is(e)).collect();
        let found = json(dir.path(), &args);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{args:?}");
        let (counted, _) = read_well(dir.path(), &[&args[..], &["--count"]].concat());
        let count = format!("events {}\n", expected.len());
        assert!(counted.starts_with(&count), "{args:?}: {counted}");
    }
}

#[test]
fn what_finds_nothing_says_so_and_what_is_wrong_is_refused() {
    let dir = dir();
    mixed(dir.path());
    for (args, words) in [
        (
            ["--event", "shed:*"],
            "--event \"shed:*\" matches no event of the trace: did you mean `sched:*`",
        ),
        (["--event", "!nosuch"], "matches no event of the trace: it has"),
        (["--filter", "pud == 1"], "has a field `pud`; did you mean `pid`?"),
        (
            ["--filter", "comm ~ x && pid == abc"],
            "`pid` is a number, which \"abc\" is not\n  comm ~ x && pid == abc\n              ^^^\n",
        ),
    ] {
        let (_, said) = read_well(dir.path(), &[&["t"], &args[..]].concat());
        assert!(said.contains(words), "{args:?}: {said}");
    }
    let (_, said) = read_well(dir.path(), &["t", "--count", "--event", "*wake"]);
    assert!(said.contains("`events` are those selected"), "{said}");
    for (args, words) in [
        (["--filter", "pid = 1"], "`=` is no comparison: write `==`\n  pid = 1\n      ^"),
        (["--filter", "(pid == 1"], "this `(` has no `)`"),
        (["--from", "yesterday"], "no moment: write"),
        (["--to", "-5 parsecs"], "no moment: write"),
        (["--cpu", "x"], "invalid digit"),
    ] {
        let out = read(dir.path(), &[&["t"], &args[..]].concat());
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(read(dir.path(), &["t", "--follow", "--count"]).status.code(), Some(2));
    assert_eq!(read(dir.path(), &[]).status.code(), Some(2));
}

/// Events' names are a trace's: no sentence about them drives a terminal.
#[test]
fn names_in_sentences_cannot_drive_a_terminal() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    let path = trace.path.join("metadata");
    let text = std::fs::read_to_string(&path).expect("metadata").replace("t:e", "t:\x1b[2Je");
    std::fs::write(&path, text).expect("written");
    let (_, said) = read_well(dir.path(), &["t", "--event", "nosuch"]);
    assert!(said.contains("matches no event") && !said.contains('\x1b'), "{said:?}");
}

#[test]
fn several_traces_are_merged_by_time() {
    let dir = dir();
    // Their clocks begin at different moments.
    for (name, offset, first) in [("t.000001", 1000, 1), ("t.000002", 500, 2), ("t", 0, 3)] {
        let class = rbpipe_tests::growing::class("e");
        let trace = Growing::with(&dir.path().join(name), vec![class], offset);
        for n in 0..50u64 {
            let time = 10_000 + first + n * 3;
            trace.packet(n % 2, n / 2, &[(time - offset, 0, time, name)]);
        }
    }
    let events = json(dir.path(), &["t.000001", "t.000002", "t"]);
    assert_eq!(events.len(), 150);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["time"].as_u64(), Some(10_001 + n as u64));
        assert_eq!(event["time"], event["fields"]["seq"], "each trace by its own clock");
    }
    let (counted, _) = read_well(dir.path(), &["--count", "t", "t.000001", "t.000002"]);
    assert_eq!(counted, "events 150\ndiscarded 0\npackets_lost 0\n");
}

/// Packets out of the range are passed, not decoded; a damaged one among them shows nothing.
#[test]
fn packets_out_of_the_range_are_not_looked_into() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    trace.packet(0, 0, &[(1000, 0, 0, "")]);
    let mut damaged = packet(0, 1, 5, &[(2000, 0, 1, "")]);
    damaged[84..97].copy_from_slice(&[0xFF; 13]);
    trace.append(0, &damaged);
    trace.append(0, &packet(0, 2, 5, &[(3000, 0, 2, "")]));
    drop(trace);
    let (text, said) = read_well(dir.path(), &["t", "--from", "0.0000025"]);
    assert_eq!((text.lines().count(), said.as_str()), (1, ""));
    assert!(text.contains("seq = 2") && !text.contains("lost"), "{text}");
    let (text, said) = read_well(dir.path(), &["t"]);
    assert!(text.contains("!lost 5 events") && said.contains("c_0"), "{text}{said}");
    let (counted, _) = read_well(dir.path(), &["t", "--from", "0.0000025", "--count"]);
    assert_eq!(counted, "events 1\ndiscarded 5\npackets_lost 0\n", "losses are the stream's");
}

/// The generator's trace through csv, by pandas' like: every column is there for every event.
#[test]
fn a_pipeline_s_trace_as_csv() {
    let dir = dir();
    let (out, _) = run(
        dir.path(),
        r#"
        source.g = {type = "generator", events = 500, writers = 2, rate = "max", payload = 3, channel = "c"}
        channel.c = {mode = "block", backend = {type = "file", path = "t"}}
        "#,
    );
    assert_eq!(out.status.code(), Some(0));
    let rows = csv(&read_well(dir.path(), &["t", "--format", "csv"]).0);
    assert_eq!(rows[0][4..], ["writer", "seq", "check", "payload"]);
    assert_eq!(rows.len(), 501);
    assert!(rows[1..].iter().all(|r| r[7].starts_with('[') && r[4].parse::<u32>().is_ok()));
}
