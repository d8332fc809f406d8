//! Goal: `rbpipe view` draws what happened, when it happened, and says what it cannot draw.
//! Method: traces whose schedule is known; the PNG is decoded, and colours are looked for in it.

use std::path::Path;
use std::process::Output;

use rbpipe_backends::picture::{Ink, Rgb, Theme};
use rbpipe_tests::growing::Growing;
use rbpipe_tests::program::{launch, rbpipe, run};
use rbpipe_tests::schedule::{BLOCKED, IDLE, RUNNABLE, SLEEPS, packet, switch, trace, wake};

const MS: u64 = 1_000_000;
/// When the schedules begin: 2023-11-14 22:13:20 UTC.
const BEGIN: u64 = 1_700_000_000_000 * MS;
const A: (i32, &str) = (101, "alpha");
const B: (i32, &str) = (102, "beta");

fn view(dir: &Path, args: &[&str]) -> Output {
    rbpipe().current_dir(dir).arg("view").args(args).output().expect("it runs")
}

fn view_well(dir: &Path, args: &[&str]) -> String {
    let out = view(dir, args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{args:?}: {said}");
    assert_eq!(said, "", "{args:?}");
    String::from_utf8(out.stdout).expect("text")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A PNG's pixels.
struct Picture {
    size: (u32, u32),
    pixels: Vec<Rgb>,
}

impl Picture {
    fn open(path: &Path) -> Self {
        let file = std::io::BufReader::new(std::fs::File::open(path).expect("there"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut bytes).expect("whole");
        let pixels = bytes.chunks_exact(3).map(|p| Rgb(p[0], p[1], p[2])).collect();
        Self { size: (info.width, info.height), pixels }
    }

    fn row(&self, y: u32) -> &[Rgb] {
        let w = self.size.0 as usize;
        &self.pixels[y as usize * w..(y as usize + 1) * w]
    }

    /// Whether some row has all these colours, each between two moments of the time that is
    /// drawn, in thousandths of the lanes' width; `left`: where lanes begin. (Lines of the axis
    /// go through them: most of it has that colour, and nothing else in the list.)
    fn has_lane(&self, left: u32, boxes: &[(u32, u32, Rgb)]) -> bool {
        let right = self.size.0 - 7;
        let x = |part: u32| (left + (right - left) * part / 1000) as usize;
        (0..self.size.1).any(|y| {
            boxes.iter().all(|(from, to, colour)| {
                let part = &self.row(y)[x(*from) + 2..x(*to) - 2];
                let is = part.iter().filter(|p| *p == colour).count();
                let others = boxes.iter().filter(|b| b.2 != *colour);
                let strange = others.filter(|b| part.contains(&b.2)).count();
                is * 100 > part.len() * 85 && strange == 0
            })
        })
    }

    /// Where the lanes begin: the first pixel of a colour.
    fn first(&self, colour: Rgb) -> Option<u32> {
        // Not those of the legend, at the top.
        (100..self.size.1)
            .filter_map(|y| self.row(y).iter().position(|p| *p == colour))
            .min()
            .map(|x| x as u32)
    }
}

/// A second of one CPU: alpha, beta, nobody, beta; a quarter each. Another CPU idles, and wakes.
fn second(dir: &Path) {
    let trace = trace(&dir.join("t"));
    let at = |ms: u64| BEGIN + ms * MS;
    packet(
        &trace,
        0,
        0,
        0,
        &[
            switch(at(0), IDLE, RUNNABLE, A),
            wake(at(125), B),
            switch(at(250), A, SLEEPS, B),
            switch(at(500), B, BLOCKED, IDLE),
        ],
    );
    packet(
        &trace,
        0,
        1,
        0,
        &[switch(at(750), IDLE, RUNNABLE, B), switch(at(1000) - 1, B, SLEEPS, IDLE)],
    );
    packet(&trace, 1, 0, 0, &[switch(at(10), IDLE, RUNNABLE, IDLE)]);
}

#[test]
fn a_known_schedule_is_seen_on_its_cpu_and_in_its_threads() {
    let dir = dir();
    second(dir.path());
    for (name, theme) in [("dark", Theme::Dark), ("light", Theme::Light)] {
        let out =
            view_well(dir.path(), &["t", "--png", "p.png", "--size", "1200x700", "--theme", name]);
        assert_eq!(out, "");
        let picture = Picture::open(&dir.path().join("p.png"));
        assert_eq!(picture.size, (1200, 700));
        let ink = |i: Ink| theme.ink(i);
        let (a, b) = (ink(Ink::of("alpha")), ink(Ink::of("beta")));
        let left = picture.first(a).expect("it ran");
        let cpu = [(0, 250, a), (250, 500, b), (500, 750, theme.lane()), (750, 1000, b)];
        assert!(picture.has_lane(left, &cpu), "{name}: the CPU");
        let alpha = [(0, 250, a), (250, 1000, theme.lane())];
        assert!(picture.has_lane(left, &alpha), "{name}: alpha sleeps then");
        let beta = [
            (125, 250, ink(Ink::Waiting)),
            (250, 500, b),
            (500, 750, ink(Ink::Blocked)),
            (750, 1000, b),
        ];
        assert!(picture.has_lane(left, &beta), "{name}: beta was woken, ran, was blocked, ran");
        let wrong = [(0, 250, b), (250, 500, a)];
        assert!(!picture.has_lane(left, &wrong), "the search can fail");
    }
}

/// Of a part of the time, what is before and after it tells who ran.
#[test]
fn a_part_of_the_time_knows_who_ran_at_its_edges() {
    let dir = dir();
    second(dir.path());
    let args = ["t", "--png", "p.png", "--size", "800x400", "--from", "+0.3s", "--to", "+0.4s"];
    let out = view(dir.path(), &args);
    assert_eq!(out.status.code(), Some(1), "no event in it: nothing to draw");
    let args = ["t", "--png", "p.png", "--size", "800x400", "--from", "+0.2s", "--to", "+0.3s"];
    view_well(dir.path(), &args);
    let picture = Picture::open(&dir.path().join("p.png"));
    let (a, b) = (Theme::Dark.ink(Ink::of("alpha")), Theme::Dark.ink(Ink::of("beta")));
    let left = picture.first(a).expect("it ran");
    assert!(picture.has_lane(left, &[(0, 500, a), (500, 1000, b)]));
}

#[test]
fn what_was_lost_is_hatched_and_nothing_is_claimed_there() {
    let dir = dir();
    let t = trace(&dir.path().join("t"));
    let at = |ms: u64| BEGIN + ms * MS;
    packet(&t, 0, 0, 0, &[switch(at(0), IDLE, RUNNABLE, A), switch(at(200), A, RUNNABLE, A)]);
    packet(&t, 0, 1, 7, &[switch(at(600), A, RUNNABLE, A), switch(at(1000), A, SLEEPS, IDLE)]);
    drop(t);
    view_well(dir.path(), &["t", "--png", "p.png", "--size", "1200x700"]);
    let picture = Picture::open(&dir.path().join("p.png"));
    let a = Theme::Dark.ink(Ink::of("alpha"));
    let left = picture.first(a).expect("it ran");
    assert!(picture.has_lane(left, &[(0, 200, a), (600, 1000, a)]));
    assert!(!picture.has_lane(left, &[(0, 250, a)]), "not in the gap");
    let red =
        |p: &Rgb| i32::from(p.0) - i32::from(p.1) > 90 && i32::from(p.0) - i32::from(p.2) > 90;
    let x = |part: u32| (left + (1193 - left) * part / 1000) as usize;
    let hatched = |from: u32, to: u32| {
        let rows =
            (120..700).map(|y| picture.row(y)[x(from)..x(to)].iter().filter(|p| red(p)).count());
        rows.max().unwrap_or(0) > (x(to) - x(from)) / 5
    };
    assert!(hatched(210, 590) && !hatched(10, 190) && !hatched(610, 990));
    let text = view_well(dir.path(), &["t"]);
    assert!(text.contains("7 events lost"), "{text}");
}

#[test]
fn the_same_trace_gives_the_same_bytes() {
    let dir = dir();
    second(dir.path());
    let args = |png| ["t", "--png", png, "--value", "sched:sched_switch.next_pid"];
    view_well(dir.path(), &args("a.png"));
    view_well(dir.path(), &args("b.png"));
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("there");
    assert!(read("a.png") == read("b.png"));
    assert_eq!(Picture::open(&dir.path().join("a.png")).size, (1600, 900));
}

/// Without a scheduler: a lane for each stream and for each event; in text where there is no
/// terminal.
#[test]
fn streams_and_events_are_counted_where_there_is_no_scheduler() {
    let dir = dir();
    let trace = Growing::new(&dir.path().join("t"));
    // Twice as many in the second half of the first stream, none in that of the other.
    let times = (0..2000u64).map(|n| n * 250).chain((0..4000).map(|n| 500_000 + n * 125));
    let records: Vec<_> = times.map(|t| (BEGIN + t * 1000, 0, t, "")).collect();
    trace.packet(0, 0, &records);
    trace.packet(1, 0, &records[..2000]);
    drop(trace);
    let text = view_well(dir.path(), &["t"]);
    let lane = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
        line.chars().skip(line.chars().count() - 80).collect::<Vec<char>>()
    };
    assert!(text.contains("8 000 events") && text.contains("2023-11-14 22:13:20"), "{text}");
    let (one, other) = (lane("CPU 0"), lane("CPU 1"));
    assert!(
        one.len() > 60 && matches!(one[70], '▇' | '█') && matches!(one[20], '▃'..='▅'),
        "{one:?}"
    );
    assert!(matches!(other[20], '▇' | '█') && other[70] == ' ', "{other:?}");
    assert!(text.contains("t:e"), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    view_well(dir.path(), &["t", "--png", "p.png", "--value", "t:e.seq"]);
    let picture = Picture::open(&dir.path().join("p.png"));
    assert!(picture.first(Theme::Dark.ink(Ink::Value)).is_some());
}

#[test]
fn what_cannot_be_drawn_gets_a_sentence() {
    let dir = dir();
    second(dir.path());
    let empty = Growing::new(&dir.path().join("empty"));
    drop(empty);
    std::fs::write(dir.path().join("file"), "no trace").expect("written");
    for (code, args, words) in [
        (1, &["nosuch", "--png", "p.png"][..], "nosuch: no trace here"),
        (1, &["file", "--png", "p.png"], "file: is no directory; a trace is one"),
        (1, &["empty", "--png", "p.png"], "empty: has no event: there is nothing to draw"),
        (1, &["t", "--from", "now"], "t: has no event that is selected"),
        (1, &["t", "--from", "+0.5s", "--to", "+0.2s"], "--from is not before --to"),
        (1, &["t", "--png", "none/p.png"], "none/p.png: cannot be written: No such file"),
        (1, &["t", "--png", "."], ".: cannot be written"),
        (1, &["t", "--value", "sched:sched_swich.x"], "did you mean `sched:sched_switch`"),
        (1, &["t", "--value", "sched:sched_switch.prev_pit"], "did you mean `prev_pid`"),
        (1, &["t", "--value", "sched:sched_switch.prev_comm"], "prev_comm is no number"),
        (2, &["t", "--size", "0x0"], "no picture is 0x0: its size is from 320x200 to 8192x8192"),
        (2, &["t", "--size", "9000x100"], "no picture is 9000x100"),
        (2, &["t", "--size", "large"], "a size is WIDTHxHEIGHT"),
        (2, &["t", "--value", "x"], "write EVENT.FIELD"),
        (2, &["t", "--theme", "blue"], "dark"),
        (2, &[], "TRACE"),
        (1, &["--config", "file", "--png", "p.png"], "file: is no configuration that runs"),
    ] {
        let out = view(dir.path(), args);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert!(!dir.path().join("p.png").exists(), "none of them left a picture");
}

/// What a pipeline writes is shown while it does, and the command ends when it has.
#[test]
fn a_running_pipeline_is_shown_until_it_ends() {
    let dir = dir();
    let toml = r#"
        pipeline.duration = "3 s"
        source.g = {type = "generator", rate = 20000, channel = "c"}
        channel.c = {switch_timer = "50 ms", backend = {type = "file", path = "t"}}
    "#;
    let pipeline = launch(dir.path(), toml);
    pipeline.wait_until_it_answers();
    let follower = rbpipe()
        .current_dir(dir.path())
        .args(["view", "--config", "pipeline.toml", "--png", "live.png", "--last", "1 s"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let (mut seen, begin) = (Vec::new(), std::time::Instant::now());
    while pipeline.answers() && begin.elapsed() < std::time::Duration::from_secs(20) {
        let now = std::fs::read(dir.path().join("live.png")).unwrap_or_default();
        if !now.is_empty() && seen.last() != Some(&now) {
            // Whole, whenever it is looked at.
            assert_eq!(Picture::open(&dir.path().join("live.png")).size, (1600, 900));
            seen.push(now);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(seen.len() >= 2, "{} pictures while it ran", seen.len());
    assert_eq!(pipeline.wait_with_output().status.code(), Some(0));
    let out = follower.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("nobody writes into it any more"), "{said}");
    let (out, _) = run(
        dir.path(),
        "source.g = {type = \"generator\", events = 1, channel = \"c\"}\n\
        channel.c = {backend = {type = \"pages\"}}",
    );
    assert_eq!(out.status.code(), Some(0));
    let out = view(dir.path(), &["--config", "pipeline.toml", "--png", "live.png"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("no channel writes a trace"));
}
