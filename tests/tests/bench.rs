//! `rbpipe bench` end to end: every backend of the build has all its rows, whose books are exact;
//! what it writes can be read; what cannot be meant is said. No figure is asserted: machines are
//! shared. Method: the program as people run it, a second at a time; comparisons with made-up files.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{rbpipe, signal};
use rbpipe_tests::terminal::Terminal;
use serde_json::Value;

fn bench(dir: &Path, args: &[&str]) -> Output {
    rbpipe().current_dir(dir).arg("bench").args(args).output().expect("it runs")
}

/// … which succeeds, and says nothing on stderr, which is no terminal; gives its stdout.
fn benched(dir: &Path, args: &[&str]) -> String {
    let out = bench(dir, args);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), &*err), (Some(0), ""), "{args:?}");
    String::from_utf8(out.stdout).expect("text")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn rows(report: &Value) -> &Vec<Value> {
    report["rows"].as_array().expect("rows")
}

/// Offered = recorded + lost + aborted; recorded = written + failed + overwritten + kept.
fn balance(row: &Value) {
    let n = |path: &str| row["books"].pointer(path).and_then(Value::as_u64).expect(path);
    let lost = n("/lost/full") + n("/lost/wrap") + n("/lost/too_big");
    assert!(n("/offered") > 0, "{row}");
    assert_eq!(n("/offered"), n("/recorded") + lost + n("/aborted"), "{row}");
    let told = n("/written") + n("/failed_records") + n("/overwritten") + n("/kept");
    assert_eq!(n("/recorded"), told, "{row}");
    assert_eq!(n("/failed_records"), 0, "{row}");
    if row["mode"] == "overwrite" {
        // Nothing but a writer that stands still in a whole lap loses there.
        assert_eq!(n("/lost/full"), 0, "{row}");
    }
}

/// Whether every element is closed, in order; gives all texts.
fn texts_of(svg: &str) -> String {
    let (mut open, mut texts) = (Vec::new(), String::new());
    let mut rest = svg.trim();
    assert!(rest.starts_with("<svg "), "{rest:.40}");
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        let entities = text.matches('&').count();
        let known: usize = ["&lt;", "&gt;", "&amp;"].iter().map(|e| text.matches(e).count()).sum();
        assert_eq!(entities, known, "{text}");
        assert!(!text.contains('>'), "{text}");
        texts += text;
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!tag.contains('<') && !tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        let name = |t: &str| t.split([' ', '/']).next().unwrap_or("").to_owned();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed));
        } else if !tag.ends_with('/') {
            open.push(name(tag));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest:?}");
    texts
}

/// Lines of fields (RFC 4180).
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for line in text.split_terminator("\r\n") {
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                c => field.push(c),
            }
        }
        assert!(!quoted, "{line}");
        fields.push(field);
        lines.push(fields);
    }
    lines
}

/// Whatever is in the registry, without a list here.
#[test]
fn every_backend_has_every_row_and_exact_books() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let args = ["--seconds", "1", "--writers", "2", "--json", "a.json", "--csv", "a.csv"];
    let table = benched(place, &[&args[..], &["--plot", "a.svg"]].concat());
    assert_eq!(names(place), ["a.csv", "a.json", "a.svg"], "nothing else is left");
    let report = json(&place.join("a.json"));
    let list = rbpipe().arg("backends").output().expect("it runs").stdout;
    let list = String::from_utf8(list).expect("text");
    let svg = texts_of(&std::fs::read_to_string(place.join("a.svg")).expect("drawn"));
    for backend in list.lines().filter_map(|l| l.split_whitespace().next()) {
        let of = |r: &&Value| r["backend"] == backend;
        let mut variants: Vec<&str> =
            rows(&report).iter().filter(of).filter_map(|r| r["variant"].as_str()).collect();
        variants.dedup();
        let absent = report["absent"].as_array().expect("a list");
        let absent: Vec<_> = absent.iter().filter(of).collect();
        for a in &absent {
            assert!(a["why"].as_str().is_some_and(|w| w.len() > 10), "{a}");
            eprintln!("SKIPPED: bench of {backend}, {}: {}", a["variant"], a["why"]);
        }
        assert!(!variants.is_empty() || !absent.is_empty(), "{backend}: {table}");
        for variant in variants {
            let rows: Vec<_> =
                rows(&report).iter().filter(of).filter(|r| r["variant"] == variant).collect();
            let has = |want: &dyn Fn(&Value) -> bool| rows.iter().filter(|r| want(r)).count();
            for mode in ["discard", "overwrite", "block"] {
                for payload in [8, 32, 256, 1024] {
                    let usual = |r: &Value| {
                        r["mode"] == mode
                            && r["payload"] == payload
                            && r["writers"] == 1
                            && r["streams"] == "per-cpu"
                            && r["reader"] == true
                    };
                    assert_eq!(has(&usual), 1, "{backend} {variant} {mode} {payload}");
                }
            }
            assert_eq!(has(&|r| r["writers"] == 2), 1);
            assert_eq!(has(&|r| r["streams"] == "single"), 1);
            assert_eq!(has(&|r| r["streams"] == "per-thread"), 1);
            assert_eq!(has(&|r| r["reader"] == false), 1);
            assert_eq!(rows.len(), 16, "{backend} {variant}");
            let shown =
                if variant.is_empty() { backend.into() } else { format!("{backend}, {variant}") };
            assert!(table.contains(&shown) && svg.contains(&shown), "{shown}");
        }
    }
    rows(&report).iter().for_each(balance);
    // A file gets all that is recorded in block mode.
    let file = rows(&report).iter().find(|r| r["backend"] == "file" && r["mode"] == "block");
    let file = &file.expect("a row")["books"];
    assert_eq!(file["written"], file["recorded"]);
    let lines = csv(&std::fs::read_to_string(place.join("a.csv")).expect("written"));
    assert_eq!(lines.len(), rows(&report).len() + 1);
    let at = |name: &str| lines[0].iter().position(|n| n == name).expect(name);
    for (line, row) in lines[1..].iter().zip(rows(&report)) {
        assert_eq!(line.len(), lines[0].len());
        assert_eq!(line[at("variant")], row["variant"].as_str().expect("text"));
        assert_eq!(line[at("offered")], row["books"]["offered"].to_string());
        let ns: Option<f64> = line[at("ns")].parse().ok();
        assert_eq!(ns, row["ns"]["median"].as_f64());
    }
    let machine = &report["machine"];
    assert!(machine["cores"].as_u64() > Some(0) && machine["kernel"].is_string(), "{machine}");
    assert!(report["limits"]["clock_ns"]["median"].as_f64() > Some(0.0));
}

/// Equal files have no changes; a made-up one is told by its row, in both figures; few rounds are
/// no ground for anything.
#[test]
fn a_comparison_says_what_changed_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let args = ["--seconds", "0.5", "--backend", "pages:heap", "--payload", "8,100"];
    benched(place, &[&args[..], &["--json", "now.json"]].concat());
    let mut now = json(&place.join("now.json"));
    for row in now["rows"].as_array_mut().expect("rows") {
        row["runs"] = 9.into();
    }
    let write = |name: &str, report: &Value| {
        std::fs::write(place.join(name), report.to_string()).expect("written");
    };
    write("now.json", &now);
    let compared = || benched(place, &["--from", "now.json", "--compare", "old.json"]);
    write("old.json", &now);
    let count = rows(&now).len();
    let nothing = format!("nothing changed beyond the noise since the earlier run ({count} rows)");
    assert!(compared().contains(&nothing));

    let mut old = now.clone();
    let spread = |n: f64| serde_json::json!({"median": n, "min": n * 0.99, "max": n * 1.01});
    let row = &mut old["rows"][1];
    let median = |v: &Value| v["median"].as_f64().expect("a figure");
    let (ns, rate) = (median(&row["ns"]), median(&row["bytes_per_second"]));
    // Rounds of the real one may be any distance apart: far away from all of them.
    (row["ns"], row["bytes_per_second"]) = (spread(ns / 100.0), spread(rate * 100.0));
    now["rows"][1]["ns"] = spread(ns);
    now["rows"][1]["bytes_per_second"] = spread(rate);
    write("now.json", &now);
    write("old.json", &old);
    let said = compared();
    assert!(said.contains(&format!("1 of {count} rows changed beyond the noise")), "{said}");
    let line = said.lines().find(|l| l.contains("a record costs")).expect("a line");
    assert!(line.contains("pages, heap, discard, 100 B: a record costs 9900 % more"), "{line}");
    assert!(line.contains("99 % less comes out"), "{line}");

    old["rows"][1]["runs"] = 2.into();
    old["machine"]["cpu"] = "another\u{1b}[2J".into();
    write("old.json", &old);
    let said = compared();
    assert!(said.contains("1 rows had fewer than 5 rounds"), "{said}");
    assert!(
        said.contains("but the machine or the place is another one: then another?[2J"),
        "{said}"
    );
    old["rows"] = Value::Array(Vec::new());
    write("old.json", &old);
    assert!(compared().contains("no row of the earlier run was run again"));
}

/// Where stderr is a terminal it says how long it takes, and leaves nothing there.
#[test]
fn a_terminal_is_told_how_long_it_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let terminal = Terminal::new(1_000_000);
    let stderr = std::fs::OpenOptions::new().write(true).open(&terminal.path).expect("opened");
    let out = rbpipe()
        .current_dir(dir.path())
        .args(["bench", "--seconds", "1", "--backend", "pages:heap", "--payload", "8"])
        .stderr(stderr)
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(0));
    let begin = Instant::now();
    let ends = |text: &str| text.ends_with("\r\u{1b}[K");
    let mut text = String::new();
    while !ends(&text) && begin.elapsed() < Duration::from_secs(10) {
        text = String::from_utf8_lossy(&terminal.came().bytes).into_owned();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(ends(&text) && text.contains(" s left  pages, heap"), "{text:?}");
    assert!(!String::from_utf8_lossy(&out.stdout).contains('\u{1b}'), "data is no progress");
}

/// Each adapter that a pipeline can name is benched in each way that it can do, beside what it
/// could do alone; and its device was there all the time, else there would be no row.
#[test]
fn every_adapter_has_its_rows_and_its_limit() {
    if !rbpipe_tests::have_gpu("every_adapter_has_its_rows_and_its_limit") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let args = ["--seconds", "1", "--backend", "gpu", "--payload", "256", "--mode", "block"];
    let table = benched(place, &[&args[..], &["--writers", "1", "--json", "g.json"]].concat());
    let report = json(&place.join("g.json"));
    assert!(report["absent"].as_array().is_some_and(Vec::is_empty), "{report}");
    rows(&report).iter().for_each(balance);
    let adapters = rbpipe_backends::gpu::adapters().expect("adapters");
    let named = report["machine"]["gpus"].as_array().expect("GPUs");
    for adapter in &adapters {
        let is_it = |v: &Value| v.as_str().is_some_and(|n| n.starts_with(&adapter.name));
        assert!(named.iter().any(is_it) && table.contains(&adapter.name), "{}", adapter.name);
        let name = adapter.name.split(" (").next().expect("a name");
        for (way, limit) in [("staged", "GPU copy"), ("heap", "upload")] {
            let of = |r: &&Value| {
                let variant = r["variant"].as_str().expect("text");
                variant.starts_with(name) && variant.ends_with(way)
            };
            let mine: Vec<_> = rows(&report).iter().filter(of).collect();
            assert!(mine.len() >= 3, "{name}, {way}: {mine:?}");
            for row in mine {
                assert_eq!(row["limit"], limit, "{row}");
                assert!(row["limit_bytes_per_second"]["median"].as_f64() > Some(1e6), "{row}");
                // What a block-mode channel has, it has all in the store.
                assert_eq!(row["books"]["written"], row["books"]["recorded"], "{row}");
            }
        }
        // One in software shares its memory with the processor.
        let is_direct = |r: &Value| r["limit"] == "copy into mapped memory";
        assert!(adapter.kind != "cpu" || rows(&report).iter().any(is_direct), "{table}");
    }
    // A part of a kind's name picks it.
    let args = ["--seconds", "0.3", "--backend", "gpu:heap", "--payload", "8", "--mode", "block"];
    let table = benched(place, &[&args[..], &["--json", "h.json"]].concat());
    let is_heap = |r: &Value| r["variant"].as_str().is_some_and(|v| v.ends_with(", heap"));
    let picked = json(&place.join("h.json"));
    assert!(!rows(&picked).is_empty() && rows(&picked).iter().all(is_heap), "{table}");
}

/// No driver: one sentence, and no failure of the others.
#[test]
fn without_a_gpu_one_sentence_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let run = |backends: &str| {
        let mut program = rbpipe();
        // No file there, so no driver.
        program.env("VK_DRIVER_FILES", place.join("none.json"));
        program.env("VK_ICD_FILENAMES", place.join("none.json"));
        let args = ["bench", "--seconds", "0.3", "--backend", backends, "--payload", "8"];
        program.current_dir(place).args(args).output().expect("it runs")
    };
    let out = run("pages:heap,gpu");
    let (text, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!((out.status.code(), &*err), (Some(0), ""), "{text}");
    let said = text.lines().filter(|l| l.starts_with("gpu")).collect::<Vec<_>>();
    let why = "gpu: not here: no Vulkan driver finds a GPU adapter: install ";
    assert!(said.len() == 1 && said[0].starts_with(why), "{text}");
    assert!(text.contains("GPU none"), "{text}");
    // Of nothing else there is no table.
    let out = run("gpu");
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{err}");
    assert!(err.contains("nothing could be benched"), "{err}");
}

/// The cost of reading is measured of every trace that there is time for, each event of which is
/// read; those that there is none for are named. Memory does not grow with the trace.
#[test]
fn reading_is_measured_by_trace_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let args = ["--scale", "--seconds", "6", "--backend", "file", "--json", "r.json"];
    let args = [&args[..], &["--csv", "r.csv", "--plot", "r.svg"]].concat();
    let table = benched(place, &args);
    assert_eq!(names(place), ["r.csv", "r.json", "r.svg"], "no trace is left");
    let report = json(&place.join("r.json"));
    let read: Vec<_> = rows(&report).iter().filter(|r| r["backend"] == "read").collect();
    let absent = report["absent"].as_array().expect("a list");
    assert!(read.len() >= 2, "{table}");
    assert_eq!(read.len() + absent.len(), 5, "{table}");
    let mut size = 100_000;
    for row in &read {
        size *= 10;
        balance(row);
        assert_eq!(row["trace_bytes"], size, "{row}");
        let runs = row["runs"].as_u64().expect("runs");
        assert_eq!(row["books"]["written"].as_u64(), Some(size / 28 * runs), "{row}");
        assert!(row["ns"]["median"].as_f64() > Some(1.0), "{row}");
        assert!(row["limit_bytes_per_second"]["median"].as_f64() > Some(1e6), "{row}");
        // A tenth of the larger traces, whatever of the program itself is in it.
        let most = row["memory_bytes"]["max"].as_f64().expect("bytes");
        assert!((1e6..64e6).contains(&most), "{row}");
    }
    let memory = |row: &Value| row["memory_bytes"]["max"].as_f64().expect("bytes");
    let (least, most) = (memory(read[0]), memory(read[read.len() - 1]));
    assert!(most - least < 4e6, "memory grows with the trace: {least} to {most}");
    for left_out in absent {
        let why = left_out["why"].as_str().expect("text");
        assert!(why.contains("--seconds") || why.contains("--dir"), "{why}");
        let variant = left_out["variant"].as_str().expect("text");
        assert!(table.contains(&format!("read, {variant}: left out: ")), "{table}");
    }
    assert!(table.contains("\nread   (limit: plain read") && table.contains("ns an event"));
    let svg = texts_of(&std::fs::read_to_string(place.join("r.svg")).expect("drawn"));
    for words in ["ns an event that is read, by trace size", "1 MB", "10 MB", "MiB"] {
        assert!(svg.contains(words), "{words}");
    }
    let lines = csv(&std::fs::read_to_string(place.join("r.csv")).expect("written"));
    let at = |name: &str| lines[0].iter().position(|n| n == name).expect(name);
    let of = |l: &&Vec<String>| l[at("backend")] == "read" && l[at("trace_bytes")] != "0";
    assert_eq!(lines.iter().filter(of).count(), read.len());

    // Another run's reading is compared by size.
    let mut old = report.clone();
    for report in [&mut old, &mut report.clone()] {
        for row in report["rows"].as_array_mut().expect("rows") {
            row["runs"] = 9.into();
        }
    }
    let write = |name: &str, report: &Value| {
        std::fs::write(place.join(name), report.to_string()).expect("written");
    };
    write("now.json", &old);
    let is_10 = |r: &&mut Value| r["trace_bytes"] == 10_000_000;
    let row = old["rows"].as_array_mut().expect("rows").iter_mut().find(is_10).expect("a row");
    row["ns"] = serde_json::json!({"median": 1.0, "min": 1.0, "max": 1.0});
    write("old.json", &old);
    let said = benched(place, &["--from", "now.json", "--compare", "old.json"]);
    let line = said.lines().find(|l| l.contains("a record costs")).expect("a line");
    assert!(line.trim_start().starts_with("read, trace of 10 MB"), "{line}");
}

/// A trace that there is no room for is not begun.
#[test]
fn a_small_disk_leaves_big_traces_out() {
    if !rbpipe_tests::have("small", "unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = "mkdir small && mount -t tmpfs -o size=600m none small && exec \"$0\" bench \
                  --scale --seconds 2 --backend file --dir small --json o.json";
    let out = std::process::Command::new("unshare")
        .args(["-rm", "bash", "-c", script])
        .arg(rbpipe().get_program())
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), &*err), (Some(0), ""));
    let report = json(&dir.path().join("o.json"));
    let absent = report["absent"].as_array().expect("a list");
    for size in ["1 GB", "10 GB"] {
        let left_out = absent.iter().find(|a| a["variant"] == size).expect(size);
        let why = left_out["why"].as_str().expect("text");
        assert!(why.contains(" are free, and ") && why.ends_with("(--dir)"), "{why}");
    }
    assert!(rows(&report).iter().any(|r| r["trace_bytes"] == 1_000_000), "{report}");
}

#[test]
fn what_grows_is_drawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let args = ["--scale", "--seconds", "1", "--backend", "pages:heap", "--json", "s.json"];
    benched(place, &[&args[..], &["--plot", "s.svg"]].concat());
    let report = json(&place.join("s.json"));
    rows(&report).iter().for_each(balance);
    let most = |key: &str| rows(&report).iter().filter_map(|r| r[key].as_u64()).max();
    assert_eq!(most("writers"), Some(8));
    assert_eq!(most("channels"), Some(64));
    assert_eq!(most("subbuf_count"), Some(1024));
    assert_eq!(most("subbuf_size"), Some(4 << 20));
    assert_eq!(most("classes"), Some(10_000));
    let svg = texts_of(&std::fs::read_to_string(place.join("s.svg")).expect("drawn"));
    for axis in ["writers", "channels", "sub-buffers", "KiB of a sub-buffer", "event classes"] {
        assert!(svg.contains(&format!("ns a record, by {axis}")), "{axis}");
    }
}

/// Told before anything is measured, in a sentence, with code 2; nothing is left.
#[test]
fn what_cannot_be_meant_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    std::fs::write(place.join("other.json"), "{\"name\": 1}").expect("written");
    let cases: [(&[&str], &str); 10] = [
        (&["--backend", "pagse"], "--backend pagse: there is none in this build; did you mean"),
        (&["--backend", "pages:hug"], "--backend pages:hug: there is none in this build"),
        (&["--payload", "0"], "--payload 0: a record has 1 to 65536 bytes here"),
        (&["--payload", "8,70000"], "--payload 70000: a record has"),
        (&["--mode", "overwrit"], "--mode overwrit: there is no such mode; did you mean"),
        (&["--seconds", "0"], "--seconds 0: 0.1 to 86400 can be meant"),
        (&["--writers", "0"], "--writers 0: 1 to 64 threads can write here"),
        (&["--compare", "none.json"], "--compare none.json: cannot be read: No such file"),
        (&["--compare", "other.json"], "--compare other.json: is not what `rbpipe bench --json`"),
        (&["--dir", "nowhere"], "--dir nowhere: there is no such directory"),
    ];
    for (args, said) in cases {
        let begin = Instant::now();
        let out = bench(place, args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.starts_with(&format!("rbpipe bench: {said}")), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.matches("`serial:frames`").count() <= 1, "what is accepted, once: {err}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{args:?} was measured first");
    }
    let out = bench(place, &["--json", "no/such/place.json"]);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{err}");
    assert!(err.starts_with("rbpipe bench: no/such/place.json: cannot be written: "), "{err}");
    assert_eq!(names(place), ["other.json"]);
}

/// SIGINT: what was found is shown, and nothing stays behind.
#[test]
fn it_can_be_ended_early() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path();
    let child = rbpipe()
        .current_dir(place)
        .args(["bench", "--seconds", "600", "--backend", "file,pages:heap"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let begin = Instant::now();
    while names(place).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, rustix::process::Signal::INT);
    let out = child.wait_with_output().expect("it ends");
    assert!(begin.elapsed() < Duration::from_secs(60), "it went on");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(130), "{text}");
    assert!(text.contains("it was ended before its time"), "{text}");
    assert_eq!(names(place), Vec::<String>::new());
}
