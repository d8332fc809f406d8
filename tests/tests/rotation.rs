//! Goal: a trace that is cut into pieces loses nothing at the cuts: each piece opens by itself,
//! together they hold every record once, and what is missing, summed over them, is what the
//! report says. Method: the program itself at full load, with rings that are too small, and
//! pieces that end by time, by size, and by being asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rbpipe_tests::program::{balance, counts, launch, pieces, rbpipe, report, run, runtime};
use rbpipe_tests::records::{self, Found};
use rbpipe_tests::{have, program};
use serde_json::Value;

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).expect(path)
}

/// The pieces of `t` in `dir` against the report; gives how many there are.
fn agree(dir: &Path, report: &Value) -> usize {
    let pieces = pieces(&dir.join("t"));
    let mut found = records::verify_pieces(&pieces);
    for (name, channel) in report["channels"].as_object().expect("channels") {
        balance(channel);
        channel["streams"].as_array().expect("streams").iter().for_each(balance);
        let n = |path: &str| number(channel, path);
        let found = found.remove(name).unwrap_or_default();
        assert_eq!(found.records, n("/output/records"), "{name}: {found:?} {channel}");
        let lost = n("/lost/full") + n("/lost/wrap") + n("/lost/too_big");
        assert_eq!(found.discarded, lost, "{name}: {found:?} {channel}");
        // Those that were overwritten, and those that could not be written.
        let gaps = n("/packets") - n("/output/packets");
        assert_eq!(found.packets_lost, gaps, "{name}: {found:?} {channel}");
    }
    assert!(found.is_empty(), "{found:?}");
    pieces.len()
}

/// Every piece opens in babeltrace2, which sees what is lost as we do.
fn babeltrace2_agrees(pieces: &[PathBuf]) {
    if !have("rotation", "babeltrace2", &["--version"]) {
        return;
    }
    let (mut theirs, mut told) = (Found::default(), 0);
    for piece in pieces {
        let out = Command::new("babeltrace2").arg(piece).output().expect("it runs");
        let said = said(&out);
        assert!(out.status.success(), "{}: {said}", piece.display());
        theirs.records += out.stdout.iter().filter(|b| **b == b'\n').count() as u64;
        for line in said.lines() {
            told += 1;
            let mut words = line.split("Tracer discarded ").nth(1).expect(line).split(' ');
            let count: u64 = words.next().and_then(|n| n.parse().ok()).expect(line);
            match words.next().expect(line) {
                "event" | "events" => theirs.discarded += count,
                _ => theirs.packets_lost += count,
            }
        }
    }
    // … and all of them at once are as many traces, not one that jumps.
    let out = Command::new("babeltrace2").args(pieces).output().expect("it runs");
    assert!(out.status.success(), "{}", said(&out));
    let events = out.stdout.iter().filter(|b| **b == b'\n').count() as u64;
    let warnings = said(&out).lines().count();
    assert_eq!((events, warnings), (theirs.records, told), "{}", said(&out));
    let mut ours = Found::default();
    for found in records::verify_pieces(pieces).values() {
        ours.records += found.records;
        ours.discarded += found.discarded;
        ours.packets_lost += found.packets_lost;
    }
    assert_eq!(theirs, ours);
}

#[test]
fn pieces_by_time_hold_every_record_once_and_tell_every_loss() {
    for (streams, mode) in
        [("per-cpu", "discard"), ("per-thread", "overwrite"), ("single", "discard")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        let toml = format!(
            r#"
            pipeline.duration = "1200 ms"
            source.g = {{type = "generator", rate = "max", writers = 3, payload = 40, channel = "c"}}
            [channel.c]
            mode = "{mode}"
            streams = "{streams}"
            subbuf_size = "8 KiB"
            subbuf_count = 2
            backend = {{type = "file", path = "t", rotate_every = "100 ms"}}
            "#
        );
        let (out, report) = run(dir.path(), &toml);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let c = &report["channels"]["c"];
        let lost = number(c, "/lost/full") + number(c, "/overwritten");
        assert!(lost > 0, "the ring is too small: {c}");
        let count = agree(dir.path(), &report);
        assert!((4..=13).contains(&count), "{count} pieces");
        let words = said(&out);
        assert!(words.contains(&format!("the last of {count} pieces")), "{words}");
        assert!(!words.contains("WARN") && !words.contains("ERROR"), "{words}");
    }
}

/// Fewer records, and the reader that others use.
#[test]
fn pieces_open_in_babeltrace2() {
    for (streams, mode) in
        [("per-cpu", "discard"), ("per-thread", "overwrite"), ("single", "overwrite")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        let toml = format!(
            r#"
            pipeline.duration = "400 ms"
            source.g = {{type = "generator", rate = 150000, writers = 3, payload = 40, channel = "c"}}
            [channel.c]
            mode = "{mode}"
            streams = "{streams}"
            subbuf_size = "4 KiB"
            subbuf_count = 2
            backend = {{type = "file", path = "t", rotate_every = "30 ms"}}
            "#
        );
        let (out, report) = run(dir.path(), &toml);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(agree(dir.path(), &report) > 4);
        babeltrace2_agrees(&pieces(&dir.path().join("t")));
    }
}

#[test]
fn pieces_by_size_are_not_larger() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "800 ms"
        source.g = {type = "generator", rate = 60000, writers = 3, payload = 90, channel = "c"}
        [channel.c]
        subbuf_size = "4 KiB"
        subbuf_count = 8
        switch_timer = "10 ms"
        backend = {type = "file", path = "t", rotate_size = "200 KiB"}
        "#;
    let (out, report) = run(dir.path(), toml);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let count = agree(dir.path(), &report);
    assert!(count > 8, "{count} pieces");
    let sizes = sizes(dir.path());
    assert!(sizes.iter().all(|s| *s <= 200 << 10), "{sizes:?}");
    // … and full: no write that would have gone in is more than a few sub-buffers.
    assert!(sizes[..count - 1].iter().all(|s| *s > 100 << 10), "{sizes:?}");
    babeltrace2_agrees(&pieces(&dir.path().join("t")));
}

/// What waits for a slow writer is more than a piece may have: it is written in parts.
#[test]
fn a_write_is_not_larger_than_a_piece() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", rate = "max", events = 300000, payload = 90, channel = "c"}
        [channel.c]
        mode = "block"
        streams = "single"
        subbuf_size = "4 KiB"
        subbuf_count = 128
        reader_subbufs = 128
        backend = {type = "file", path = "t", rotate_size = "32 KiB"}
        "#;
    let (out, report) = run(dir.path(), toml);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(agree(dir.path(), &report) > 800);
    let sizes = sizes(dir.path());
    assert!(sizes.iter().all(|s| *s <= 32 << 10), "{sizes:?}");
}

/// Bytes of each piece's stream files.
fn sizes(dir: &Path) -> Vec<u64> {
    let size = |piece: &PathBuf| -> u64 {
        let files = std::fs::read_dir(piece).expect("there").map(|e| e.expect("readable"));
        let streams = files.filter(|e| e.file_name() != "metadata");
        streams.map(|e| e.metadata().expect("readable").len()).sum()
    };
    pieces(&dir.join("t")).iter().map(size).collect()
}

/// Two channels in one trace, both of them losing, one of them by overwriting.
#[test]
fn channels_that_share_a_path_rotate_together_when_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = launch(
        dir.path(),
        r#"
        pipeline.name = "shared"
        source.g = {type = "generator", rate = "max", writers = 3, payload = 30, channel = ["c", "d"]}
        [channel.c]
        subbuf_size = "16 KiB"
        subbuf_count = 2
        backend = {type = "file", path = "t"}
        [channel.d]
        mode = "overwrite"
        streams = "single"
        subbuf_size = "8 KiB"
        subbuf_count = 2
        backend = {type = "file", path = "t"}
        "#,
    );
    child.wait_until_it_answers();
    for n in 1..=8 {
        let ended = child.told(&["rotate", "shared"]);
        let piece = std::fs::canonicalize(dir.path()).expect("there").join(format!("t.{n:06}"));
        assert_eq!(ended, format!("{}\n", piece.display()), "one for both");
        // It will not change any more: read it right now.
        let (events, _, _) = counts(dir.path(), &format!("t.{n:06}"));
        assert!(events > 0);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.told(&["stop"]), "");
    let out = child.wait_with_output();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let report = report(dir.path());
    assert_eq!(agree(dir.path(), &report), 9);
    for channel in ["c", "d"] {
        let c = &report["channels"][channel];
        assert!(number(c, "/lost/full") + number(c, "/overwritten") > 0, "{c}");
    }
    let all = pieces(&dir.path().join("t"));
    babeltrace2_agrees(&all[3..4]);
    babeltrace2_agrees(&all[8..]);
}

/// Packets that fail are missed in the piece that comes after them, or in their own: once.
#[test]
fn packets_that_cannot_be_written_are_missed_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        pipeline.duration = "1 s"
        source.g = {type = "generator", rate = 40000, payload = 200, channel = "c"}
        [channel.c]
        streams = "single"
        subbuf_size = "16 KiB"
        switch_timer = "20 ms"
        backend = {type = "file", path = "t", rotate_every = "100 ms"}
        "#;
    // A file takes half of what a piece has.
    let out = program::run_limited(dir.path(), toml, 512);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let report = report(dir.path());
    assert!(number(&report, "/channels/c/output/failed") > 0, "{report}");
    assert!(agree(dir.path(), &report) > 4);
    babeltrace2_agrees(&pieces(&dir.path().join("t")));
}

#[test]
fn old_pieces_are_removed_and_strangers_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let t = dir.path().join("t");
    let toml = |more: &str| {
        format!(
            r#"
            pipeline.duration = "500 ms"
            source.g = {{type = "generator", rate = 20000, channel = "c"}}
            [channel.c]
            switch_timer = "5 ms"
            backend = {{type = "file", path = "t", rotate_every = "50 ms", {more}}}
            "#
        )
    };
    let names = || -> Vec<String> {
        pieces(&t).iter().map(|p| p.file_name().expect("a name").to_string_lossy().into()).collect()
    };
    let (out, _) = run(dir.path(), &toml("rotate_keep = 2"));
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let first = names();
    assert_eq!(first.len(), 3, "two and the current one: {first:?}");
    let last: u64 = first[1][2..].parse().expect("a number");
    assert!(last >= 4, "{first:?}");
    // Numbers go on after what is there.
    std::fs::remove_dir_all(&t).expect("removed");
    let (out, _) = run(dir.path(), &toml(""));
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let second = names();
    assert_eq!(second[..2], first[..2]);
    assert_eq!(second[2], format!("t.{:06}", last + 1));
    // A directory that is not ours is left alone, and its number not used.
    std::fs::create_dir(dir.path().join("t.000900")).expect("made");
    std::fs::write(dir.path().join("t.000900/diary"), "dear diary").expect("written");
    // Nor is one with something of a stranger's in it.
    std::fs::write(dir.path().join(&second[2]).join("diary"), "dear diary").expect("written");
    let (out, _) = run(dir.path(), &toml("overwrite = true"));
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let third = names();
    assert_eq!(third[..3], [second[2].clone(), "t.000900".into(), "t.000901".into()]);
    assert!(dir.path().join("t.000900/diary").exists());
    assert!(said(&out).contains("t.000900: is not removed"), "{}", said(&out));
    let found = records::verify_pieces(&pieces(&t)[2..]);
    assert!(found["c"].records > 0);
}

/// Killed at any moment, it leaves pieces that open.
#[test]
fn a_killed_pipeline_leaves_pieces_that_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = r#"
        source.g = {type = "generator", rate = "max", writers = 2, payload = 40, channel = "c"}
        [channel.c]
        subbuf_size = "8 KiB"
        backend = {type = "file", path = "t", overwrite = true, rotate_every = "10 ms"}
        "#;
    for round in 0..6 {
        let child = launch(dir.path(), toml);
        let t = dir.path().join("t");
        let begin = Instant::now();
        // Those of the round before are replaced first.
        std::thread::sleep(Duration::from_millis(100));
        while !child.answers() || pieces(&t).len() < 6 {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", pieces(&t));
        }
        std::thread::sleep(Duration::from_millis(3 * round));
        child.kill();
        let mut all = pieces(&t);
        // Killed between two names there is no current one.
        let current = all.pop().filter(|p| p.exists());
        // What has ended is whole, but for files that nobody had closed yet.
        let _ = records::verify_pieces(&all);
        for piece in all.iter().rev().take(3).chain(&current) {
            let out = rbpipe().args(["read", "--count"]).arg(piece).output().expect("it runs");
            assert_eq!(out.status.code(), Some(0), "{}: {}", piece.display(), said(&out));
            let mended = dir.path().join("mended");
            let out = rbpipe().arg("recover").arg(piece).arg("--out").arg(&mended).output();
            let out = out.expect("it runs");
            assert_eq!(out.status.code(), Some(0), "{}", said(&out));
            let _ = records::verify_pieces(std::slice::from_ref(&mended));
            if have("killed", "babeltrace2", &["--version"]) {
                let out = Command::new("babeltrace2").arg(&mended).output().expect("it runs");
                assert!(out.status.success(), "{}", said(&out));
            }
            std::fs::remove_dir_all(&mended).expect("removed");
        }
    }
    // The next one replaces all that.
    let (out, _) = run(dir.path(), &format!("pipeline.duration = \"50 ms\"\n{toml}"));
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(!dir.path().join(".t.next").exists());
    assert!(pieces(&dir.path().join("t")).len() < 12);
}

/// What is in the way of the next piece is said, recording goes on, and so does rotation when
/// it is gone.
#[test]
fn a_piece_that_cannot_be_begun_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = launch(
        dir.path(),
        r#"
        pipeline.duration = "3 s"
        source.g = {type = "generator", rate = 20000, channel = "c"}
        [channel.c]
        switch_timer = "10 ms"
        backend = {type = "file", path = "t", rotate_every = "100 ms"}
        "#,
    );
    std::thread::sleep(Duration::from_millis(450));
    // A file where the next piece is made ready. It may just be there.
    let next = dir.path().join(".t.next");
    let begin = Instant::now();
    while std::fs::write(&next, "in the way").is_err() {
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_millis(700));
    let before = pieces(&dir.path().join("t")).len();
    assert!(next.is_file() && before > 1);
    std::fs::remove_file(&next).expect("removed");
    let out = child.wait_with_output();
    let words = said(&out);
    assert_eq!(out.status.code(), Some(0), "{words}");
    let complaints = words.matches("a new piece cannot be begun").count();
    assert!((1..=2).contains(&complaints), "at most once a second: {words}");
    let report = report(dir.path());
    assert_eq!(number(&report, "/channels/c/lost/full"), 0);
    assert!(agree(dir.path(), &report) > before + 3);
}

/// Somebody moves the trace away while it is rotated: what is moved stays whole.
#[test]
fn a_trace_that_is_moved_away_is_begun_anew_and_rotates_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = launch(
        dir.path(),
        r#"
        pipeline.duration = "1 s"
        source.g = {type = "generator", rate = 20000, channel = "c"}
        [channel.c]
        streams = "single"
        switch_timer = "10 ms"
        backend = {type = "file", path = "t", rotate_every = "100 ms"}
        "#,
    );
    std::thread::sleep(Duration::from_millis(450));
    std::fs::rename(dir.path().join("t"), dir.path().join("moved")).expect("moved");
    let out = child.wait_with_output();
    let words = said(&out);
    assert_eq!(out.status.code(), Some(0), "{words}");
    assert_eq!(words.matches("while the pipeline runs").count(), 1, "{words}");
    let all = pieces(&dir.path().join("t"));
    assert!(all.len() > 5, "{all:?}");
    let moved = records::verify_pieces(&[dir.path().join("moved")]);
    let rest = records::verify_pieces(&all);
    let c = &report(dir.path())["channels"]["c"];
    assert_eq!(moved["c"].records + rest["c"].records, number(c, "/output/records"));
    // It began anew within a piece: what was moved is missed there.
    assert_eq!(rest["c"].packets_lost, moved["c"].packets, "{moved:?} {rest:?}");
}

#[test]
fn a_piece_without_records_lasts_unless_somebody_asks() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = launch(
        dir.path(),
        r#"
        source.g = {type = "generator", rate = 2, channel = "c"}
        channel.c.backend = {type = "file", path = "t", rotate_every = "20 ms"}
        "#,
    );
    child.wait_until_it_answers();
    std::thread::sleep(Duration::from_millis(1500));
    let by_time = pieces(&dir.path().join("t")).len();
    assert!((2..=6).contains(&by_time), "{by_time}");
    for _ in 0..5 {
        assert!(!child.told(&["rotate"]).is_empty());
    }
    assert!(pieces(&dir.path().join("t")).len() >= by_time + 5);
    assert_eq!(child.told(&["stop"]), "");
    let out = child.wait_with_output();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    agree(dir.path(), &report(dir.path()));
    for piece in pieces(&dir.path().join("t")) {
        let out = rbpipe().args(["read", "--count"]).arg(piece).output().expect("it runs");
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    }
}

#[test]
fn what_cannot_be_rotated_is_said_before_anything_is_recorded() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = |c: &str, d: &str| {
        format!(
            r#"
            source.g = {{type = "generator", events = 10, channel = ["c", "d"]}}
            channel.c.backend = {{type = "file", path = "t", {c}}}
            channel.d.backend = {{type = "file", path = "t", {d}}}
            "#
        )
    };
    for (c, d, code, words) in [
        ("rotate_size = \"1 MiB\"", "rotate_size = \"2 MiB\"", 1, "differ in `rotate_size`"),
        ("rotate_every = \"1 s\"", "rotate_every = \"1 h\"", 1, "differ in `rotate_every`"),
        ("rotate_size = \"1 KiB\"", "", 2, "is too small"),
        ("rotate_every = \"1 ms\"", "", 2, "is too short"),
        ("rotate_size = 0", "rotate_every = \"0 s\", rotate_keep = 0", 0, ""),
        ("rotate_size = \"1 MiB\", overwrite = true", "rotate_keep = 3, overwrite = true", 0, ""),
    ] {
        let (out, _) = run(dir.path(), &toml(c, d));
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        assert!(said(&out).contains(words), "{}", said(&out));
    }
    if !have("mounted", "unshare", &["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return;
    }
    std::fs::create_dir(dir.path().join("disk")).expect("made");
    let toml = toml("rotate_size = \"1 MiB\"", "").replace("\"t\"", "\"disk\"");
    std::fs::write(dir.path().join("pipeline.toml"), toml).expect("written");
    let script = "mount -t tmpfs none disk && exec \"$0\" --config pipeline.toml";
    let out = Command::new("unshare")
        .args(["-rm", "bash", "-c", script])
        .arg(rbpipe().get_program())
        .env("XDG_RUNTIME_DIR", runtime())
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("a disk is mounted there"), "{}", said(&out));
}

/// How the pieces of a long run under full load add up, and what rotation costs: a figure, not
/// a test. `cargo test --release --test rotation -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes and gigabytes"]
fn a_minute_at_full_load() {
    let seconds: u64 =
        std::env::var("RBPIPE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let toml = |more: &str, seconds: u64| {
        format!(
            r#"
            pipeline.duration = "{seconds} s"
            source.g = {{type = "generator", rate = "max", writers = 2, payload = 40, channel = "c"}}
            [channel.c]
            subbuf_size = "256 KiB"
            subbuf_count = 8
            backend = {{type = "file", path = "t", overwrite = true, {more}}}
            "#
        )
    };
    let every = "rotate_every = \"100 ms\"";
    let mut rates: BTreeMap<bool, Vec<f64>> = BTreeMap::new();
    for round in 0..10 {
        let rotates = round % 2 == 0;
        let dir = tempfile::tempdir().expect("a directory");
        let (out, report) = run(dir.path(), &toml(if rotates { every } else { "" }, 6));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let c = &report["channels"]["c"];
        let rate = number(c, "/output/records") as f64 / report["seconds"].as_f64().expect("s");
        eprintln!(
            "rotates {rotates}: {:.2} M records/s written, {c:.0}",
            rate / 1e6,
            c = number(c, "/lost/full")
        );
        rates.entry(rotates).or_default().push(rate);
    }
    let median = |of: bool| {
        let mut all = rates[&of].clone();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    eprintln!(
        "median with {:.2} M/s, without {:.2} M/s, ratio {:.3}",
        median(true) / 1e6,
        median(false) / 1e6,
        median(true) / median(false)
    );
    let dir = tempfile::tempdir().expect("a directory");
    let (out, report) = run(dir.path(), &toml(every, seconds));
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let count = agree(dir.path(), &report);
    eprintln!("{seconds} s: {count} pieces; {}", said(&out));
}
