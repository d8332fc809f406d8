//! Goal: a serial line carries what it can, chosen as it was asked for; whatever it does, no
//! writer feels it, and every record is on it or counted. Method: channels with the backend
//! `serial` on pseudo terminals, whose other end reads at the line's rate, or not, or goes away;
//! text is read as a person reads it, frames with the link's decoder.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_backends::serial::{Config, Format, Keep, Level, Parity, Serial};
use rbpipe_backends::units::Time;
use rbpipe_core::backend::{Backend, BackendError, ChannelPlan, Context, FactSheet, Facts};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType, LogLevel};
use rbpipe_core::drain::{Ask, Control, Done, Refused};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::terminal::{Came, Terminal};
use rbpipe_tests::wire::{Ear, Side, Wire, WireOptions};

/// A channel on a line.
struct Run {
    writer: Writer,
    monitor: Monitor,
    control: Control,
    facts: Facts,
    drain: JoinHandle<Result<(), BackendError>>,
    classes: Arc<ClassRegistry>,
}

fn start(config: Config, mode: Mode, streams: Streams) -> Run {
    start_with(config, mode, streams, 64 << 10, 8)
}

fn start_with(config: Config, mode: Mode, streams: Streams, size: u64, count: u32) -> Run {
    let classes = Arc::new(ClassRegistry::new());
    let geometry = Geometry::new(size, count, Serial::READER_SUBBUFS, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode, classes: Arc::clone(&classes) };
    assert_eq!(Serial::check(&config, &plan), []);
    let backend = Serial::open(config, &plan, &Context::new("test")).expect("it opens");
    let facts = backend.facts().expect("it has some");
    let options = ChannelOptions {
        plan,
        streams,
        block_timeout: Some(Duration::from_millis(100)),
        switch_timer: Some(Duration::from_secs(1)),
        read_timer: Some(Duration::from_millis(10)),
        prefault: false,
    };
    let channel = Channel::open(options, backend).expect("it opens");
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain = std::thread::spawn(move || {
        channel.run(&asked, Duration::from_secs(1), &mut |n| eprintln!("{n}"))
    });
    Run { writer, monitor, control, facts, drain, classes }
}

impl Run {
    fn class(&self, name: &str, level: Option<LogLevel>) -> ClassId {
        let mut class = EventClass::new(name, vec![Field::new("seq", FieldType::U64)]);
        class.level = level;
        self.classes.register(class).expect("registered")
    }

    /// Ends it; gives what the close said, and the line's facts.
    fn end(self) -> (Result<(), BackendError>, FactSheet, Books) {
        self.control.stop();
        let result = self.drain.join().expect("no panic");
        let books = balance(&self.monitor);
        (result, (self.facts)(), books)
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Books {
    offered: u64,
    sent: u64,
    overwritten: u64,
    lost: u64,
}

/// The books of all streams, which balance.
fn balance(monitor: &Monitor) -> Books {
    let mut all = Books::default();
    for s in monitor.streams() {
        let (b, e) = (&s.books, &s.books.engine);
        let lost = e.full + e.wrap + e.too_big;
        assert_eq!(e.offered(), e.recorded + lost + e.aborted);
        assert_eq!(e.recorded, b.output_records + b.failed_records + b.overwritten() + e.kept);
        assert_eq!((b.failed_records, e.kept), (0, 0), "{b:?}");
        all.offered += e.offered();
        all.sent += b.output_records;
        all.overwritten += b.overwritten();
        all.lost += lost;
    }
    all
}

/// What is on a terminal: of each record its time and number, with the place of its line's end;
/// and the sum of `!lost`.
#[derive(Debug, Default)]
struct Lines {
    records: Vec<(u64, u64, usize)>,
    lost: u64,
    replies: Vec<String>,
}

fn lines(came: &Came) -> Lines {
    let mut out = Lines::default();
    for (line, end) in came.lines() {
        if let Some(rest) = line.strip_prefix("!lost ") {
            out.lost += rest.split(' ').next().expect("N").parse::<u64>().expect("a number");
        } else if let Some(reply) = line.strip_prefix('!') {
            out.replies.push(reply.to_owned());
        } else {
            let (time, rest) = line.strip_prefix('[').expect("[").split_once(']').expect("]");
            let (seconds, micros) = time.trim().split_once('.').expect("a point");
            let micros: u64 = micros.parse().expect("micros");
            let ns = (seconds.parse::<u64>().expect("seconds") * 1_000_000 + micros) * 1000;
            let seq = rest.rsplit_once("seq=").expect("seq").1.parse().expect("a number");
            out.records.push((ns, seq, end));
        }
    }
    out
}

fn config(terminal: &Terminal, baud: u32) -> Config {
    Config { baud, ..Config::new(&terminal.path) }
}

/// Writes numbered records until it is told to stop, or so many; some pause after each.
fn load(run: &Run, class: ClassId, pause: Duration, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (writer, stop) = (run.writer.clone(), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut seq = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let _ = writer.record(class, &seq.to_le_bytes());
            seq += 1;
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        seq
    })
}

/// In overload the line is never idle, what arrives is new, and what does not is counted.
#[test]
fn newest_survive_and_are_young() {
    for (baud, age) in [(115_200, 60.0), (921_600, 12.0)] {
        let terminal = Terminal::new(baud / 10);
        let run = start(config(&terminal, baud), Mode::Overwrite, Streams::Single);
        let class = run.class("test:event", None);
        let stop = Arc::default();
        let writer = load(&run, class, Duration::from_micros(50), &stop);
        std::thread::sleep(Duration::from_millis(500));
        let (begin, from) = (Instant::now(), terminal.came().bytes.len());
        std::thread::sleep(Duration::from_secs(3));
        let (to, seconds) = (terminal.came().bytes.len(), begin.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        let offered = writer.join().expect("no panic");
        let (result, facts, books) = run.end();
        result.expect("it closes");
        let came = terminal.all();
        let found = lines(&came);
        assert_eq!(books.offered, offered);
        assert_eq!(books.sent, found.records.len() as u64, "{books:?}");
        assert_eq!(found.lost + books.sent, offered, "{books:?} {}", found.lost);
        assert!(found.records.is_sorted_by(|a, b| a.0 <= b.0 && a.1 < b.1));
        assert_eq!(found.records.last().map(|r| r.1), Some(offered - 1), "the newest of all");
        let used = (to - from) as f64 / (seconds * f64::from(baud) / 10.0);
        let mut ages: Vec<f64> = found
            .records
            .iter()
            .map(|(time, _, end)| came.at(*end).saturating_sub(*time) as f64 / 1e6)
            .collect();
        ages.sort_by(f64::total_cmp);
        let at = |p: usize| ages[ages.len() * p / 100];
        let figures = format!(
            "{baud}: line {:.2} %, age p50 {:.1} p99 {:.1} ms, {} of {offered}, {}",
            used * 100.0,
            at(50),
            at(99),
            books.sent,
            facts.words
        );
        // The exact figures are a bench's: here other tests run beside it. Without pacing the
        // age is a second and more; without a frame in time the line is half empty.
        eprintln!("{figures}");
        assert!(used > 0.5, "{figures}");
        assert!(at(50) <= age, "{figures}");
        let told = facts.values.iter().find(|(name, _)| *name == "use").expect("it is told").1;
        assert!(told > 50.0 && told <= 100.0, "{figures}");
    }
}

/// What came first is on the line, whole and in order; what found the ring full is counted.
#[test]
fn oldest_survive_in_discard_mode() {
    let terminal = Terminal::new(92_160);
    let config = Config { drain_timeout: time(20_000), ..config(&terminal, 921_600) };
    // Whoever looks for records leaves a part-filled sub-buffer: of eight some may have little.
    let run = start_with(config, Mode::Discard, Streams::Single, 4096, 8);
    let class = run.class("test:event", None);
    for seq in 0..10_000u64 {
        let _ = run.writer.record(class, &seq.to_le_bytes());
    }
    let (result, _, books) = run.end();
    result.expect("it closes");
    let found = lines(&terminal.all());
    assert_eq!((books.offered, books.overwritten), (10_000, 0), "{books:?}");
    assert_eq!((found.records.len() as u64, found.lost), (books.sent, books.lost), "{books:?}");
    assert!(books.sent >= 2000 && books.lost > 0, "{books:?}");
    // Six sub-buffers' worth without a gap, at least.
    let numbers: Vec<u64> = found.records.iter().map(|r| r.1).collect();
    assert!(numbers.iter().take(2000).copied().eq(0..2000), "{:?}", &numbers[..2000]);
    assert!(numbers.is_sorted());
}

/// The end does not wait for a backlog that takes a minute; what is left is told as lost.
#[test]
fn the_end_is_bounded_and_tells_the_rest() {
    let terminal = Terminal::new(960);
    let config = Config { drain_timeout: time(300), ..config(&terminal, 9600) };
    let run = start(config, Mode::Discard, Streams::Single);
    let class = run.class("test:event", None);
    for seq in 0..3000u64 {
        run.writer.record(class, &seq.to_le_bytes()).expect("room");
    }
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    let (result, _, books) = run.end();
    let took = begin.elapsed();
    result.expect("it closes");
    assert!(took < Duration::from_millis(2500), "{took:?}");
    assert!(took > Duration::from_millis(300), "{took:?}");
    terminal.wait("the last line", |came| came.bytes.ends_with(b"\r\n"));
    let found = lines(&terminal.all());
    assert_eq!(found.records.len() as u64, books.sent, "{books:?}");
    assert_eq!(found.lost + books.sent, 3000, "{books:?}");
    assert!(books.overwritten > 2000, "{books:?}");
}

/// Writers in block mode wait for the line, and lose nothing.
#[test]
fn block_mode_waits_for_the_line() {
    let terminal = Terminal::new(300_000);
    let config = Config { drain_timeout: time(20_000), ..config(&terminal, 3_000_000) };
    let run = start_with(config, Mode::Block, Streams::Single, 4096, 2);
    let class = run.class("test:event", None);
    // More than the ring and all that the output may hold.
    for seq in 0..6000u64 {
        run.writer.record(class, &seq.to_le_bytes()).expect("waited for");
    }
    let (result, _, books) = run.end();
    result.expect("it closes");
    let found = lines(&terminal.all());
    assert_eq!((books.sent, books.lost, found.lost), (6000, 0, 0), "{books:?}");
    assert!(found.records.iter().map(|r| r.1).eq(0..6000));
}

/// A line that is stopped costs its writers nothing, and nobody waits for it without end.
#[test]
fn a_stopped_line_is_felt_by_nobody() {
    let terminal = Terminal::new(0);
    let config = Config { drain_timeout: time(200), ..config(&terminal, 3_000_000) };
    let run = start(config, Mode::Overwrite, Streams::Single);
    let class = run.class("test:event", None);
    let (mut longest, begin) = (Duration::ZERO, Instant::now());
    let mut offered = 0u64;
    while begin.elapsed() < Duration::from_secs(1) {
        let before = Instant::now();
        let _ = run.writer.record(class, &offered.to_le_bytes());
        longest = longest.max(before.elapsed());
        offered += 1;
    }
    // A scheduler's turn, not a line's.
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    let begin = Instant::now();
    let answer = run.control.request(Ask::Flush).recv().expect("an answer");
    assert!(matches!(answer, Err(Refused::Slow)), "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let (result, _, books) = run.end();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    let said = result.expect_err("the end of it was not sent").to_string();
    assert!(said.contains("takes nothing"), "{said}");
    assert_eq!(books.offered, offered);
}

/// A flush is done when what was recorded before it is on the line.
#[test]
fn a_flush_waits_for_the_line() {
    let terminal = Terminal::new(11_520);
    let run = start(config(&terminal, 115_200), Mode::Discard, Streams::Single);
    let class = run.class("test:event", None);
    for seq in 0..100u64 {
        run.writer.record(class, &seq.to_le_bytes()).expect("room");
    }
    let answer = run.control.request(Ask::Flush).recv().expect("an answer");
    assert!(matches!(answer, Ok(Done::Flushed)), "{answer:?}");
    assert_eq!(run.monitor.streams()[0].books.output_records, 100);
    run.end().0.expect("it closes");
    assert_eq!(lines(&terminal.all()).records.len(), 100);
}

/// The port goes and comes back under its name: recording goes on, and so does the line.
#[test]
fn a_port_that_was_unplugged_is_opened_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("port");
    let first = Terminal::new(11_520);
    symlink(&first.path, &path).expect("linked");
    let run = start(Config::new(&path), Mode::Overwrite, Streams::Single);
    let class = run.class("test:event", None);
    let stop = Arc::default();
    let writer = load(&run, class, Duration::from_micros(500), &stop);
    first.wait("lines", |came| came.bytes.len() > 2000);
    let before = lines(&first.came());
    drop(first);
    std::thread::sleep(Duration::from_millis(700));
    std::fs::remove_file(&path).expect("removed");
    std::thread::sleep(Duration::from_millis(300));
    let second = Terminal::new(11_520);
    symlink(&second.path, &path).expect("linked");
    let back = Instant::now();
    second.wait("lines again", |came| !came.bytes.is_empty());
    let back = back.elapsed();
    assert!(back < Duration::from_millis(1500), "{back:?}");
    second.wait("more lines", |came| came.bytes.len() > 2000);
    stop.store(true, Ordering::Relaxed);
    let offered = writer.join().expect("no panic");
    let (result, facts, books) = run.end();
    result.expect("it closes");
    assert!(facts.values.contains(&("reconnects", 1.0)), "{facts:?}");
    let after = lines(&second.all());
    let found = (before.records.len() + after.records.len()) as u64;
    assert_eq!(books.offered, offered);
    // What was in the terminal when it went is gone, and was sent: some lines of 512 bytes.
    let gone = books.sent - found;
    assert!(gone < 40, "{books:?} {found}");
    // So is what it told.
    let untold = books.overwritten - before.lost - after.lost;
    assert!(untold < 400, "{books:?} {untold}");
    assert!(after.lost > 1000, "what was not sent meanwhile is told: {}", after.lost);
}

/// The other side chooses what is sent; what is held back is counted.
#[test]
fn lines_from_the_other_side_are_obeyed_where_that_is_allowed() {
    let terminal = Terminal::new(92_160);
    let config = Config { back_channel: true, ..config(&terminal, 921_600) };
    let run = start(config, Mode::Overwrite, Streams::Single);
    let (loud, quiet) = (run.class("a:loud", Some(LogLevel::Error)), run.class("b:quiet", None));
    let (writer, stop) = (run.writer.clone(), Arc::new(AtomicBool::new(false)));
    let end = Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let mut seq = 0u64;
        while !end.load(Ordering::Relaxed) {
            for class in [loud, quiet] {
                let _ = writer.record(class, &seq.to_le_bytes());
                seq += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        seq
    });
    let has =
        |text: &'static str| move |came: &Came| String::from_utf8_lossy(&came.bytes).contains(text);
    terminal.wait("a line", has("b:quiet"));
    let since = |what: &str| {
        terminal.say(&format!("{what}\r\n"));
        let reply = format!("!ok {what}\r\n");
        terminal.wait(&reply, |came| String::from_utf8_lossy(&came.bytes).contains(&reply));
        std::thread::sleep(Duration::from_millis(200));
        let text = String::from_utf8_lossy(&terminal.came().bytes).into_owned();
        text.split_once(&reply).expect("it is there").1.to_owned()
    };
    let text = since("disable b:*");
    assert!(text.contains("a:loud") && !text.contains("b:quiet"), "{text}");
    let text = since("enable *");
    assert!(text.contains("a:loud") && text.contains("b:quiet"), "{text}");
    let text = since("level error");
    assert!(text.contains("a:loud") && !text.contains("b:quiet"), "{text}");
    let text = since("level debug");
    assert!(text.contains("b:quiet"), "{text}");
    let text = since("pause");
    assert!(!text.contains("seq="), "{text}");
    let text = since("dump");
    assert!(text.contains("b:quiet") && text.contains("!dump done"), "{text}");
    assert!(!text.split_once("!dump done").expect("there").1.contains("seq="), "{text}");
    let text = since("resume");
    assert!(text.contains("b:quiet"), "{text}");
    terminal.say("make coffee\n");
    terminal.wait("a reply", has("!not understood: \"make coffee\""));
    stop.store(true, Ordering::Relaxed);
    let offered = writing.join().expect("no panic");
    let (result, _, books) = run.end();
    result.expect("it closes");
    let found = lines(&terminal.all());
    assert_eq!(books.sent, found.records.len() as u64, "{books:?}");
    assert_eq!(found.lost + books.sent, offered, "{books:?} {}", found.lost);
    assert!(found.lost > 50 && books.overwritten == found.lost, "{books:?}");
}

/// Not allowed, they are not even answered.
#[test]
fn the_back_channel_is_off_by_default() {
    let terminal = Terminal::new(11_520);
    let run = start(config(&terminal, 115_200), Mode::Overwrite, Streams::Single);
    let class = run.class("test:event", None);
    terminal.say("pause\nbogus\n");
    std::thread::sleep(Duration::from_millis(100));
    run.writer.record(class, &0u64.to_le_bytes()).expect("room");
    terminal.wait("a line", |came| came.bytes.ends_with(b"seq=0\r\n"));
    run.end().0.expect("it closes");
    assert!(lines(&terminal.all()).replies.is_empty());
}

/// Few important records among many others all arrive, whatever is kept of the others.
#[test]
fn important_records_come_first() {
    for (mode, keep) in [(Mode::Overwrite, Keep::Newest), (Mode::Discard, Keep::Oldest)] {
        let terminal = Terminal::new(1920);
        let level = "warning".parse::<Level>().expect("a level");
        let config = Config {
            reserve_for: Some(level),
            keep: Some(keep),
            drain_timeout: time(3000),
            ..config(&terminal, 19_200)
        };
        let run = start_with(config, mode, Streams::Single, 4096, 8);
        let debug = run.class("test:debug", Some(LogLevel::Debug));
        let error = run.class("test:error", Some(LogLevel::Error));
        let (mut offered, mut lost) = (0u64, 0);
        for n in 0..60 {
            lost += u64::from(run.writer.record(error, &(n as u64).to_le_bytes()).is_err());
            for _ in 0..50 {
                let _ = run.writer.record(debug, &offered.to_le_bytes());
                offered += 1;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let (result, _, books) = run.end();
        result.expect("it closes");
        let text = String::from_utf8_lossy(&terminal.all().bytes).into_owned();
        let errors = text.matches("test:error").count();
        let others = text.matches("test:debug").count();
        assert_eq!((errors, lost), (60, 0), "{mode:?} {books:?} others {others}");
        assert!(others > 0 && others < 3000, "{mode:?} {books:?} others {others}");
        let found = lines(&terminal.all());
        assert_eq!(found.lost + books.sent, offered + 60, "{mode:?} {books:?}");
    }
}

/// Frames in overload: the receiver knows of every record, and all that is missing was given up.
#[test]
fn frames_are_new_and_the_receiver_knows_of_every_record() {
    let dir = tempfile::tempdir().expect("a directory");
    for (mode, streams) in [(Mode::Overwrite, Streams::Single), (Mode::Discard, Streams::PerCpu)] {
        let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
        let ear = Ear::listen(&wire.port(Side::B));
        let config = Config { format: Format::Binary, ..Config::new(wire.port(Side::A)) };
        let run = start_with(config, mode, streams, 4096, 4);
        let class = run.class("test:event", None);
        let stop = Arc::default();
        let writers: Vec<_> =
            (0..2).map(|_| load(&run, class, Duration::from_micros(60), &stop)).collect();
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
        let offered: u64 = writers.into_iter().map(|w| w.join().expect("no panic")).sum();
        let (result, facts, books) = run.end();
        result.expect("it closes");
        let all = run_streams(&books, offered);
        assert!(ear.wait(Duration::from_secs(5), |h| h.sum() == all), "{:?}", ear.heard().missing);
        let heard = ear.stop();
        eprintln!("{mode:?}: {books:?} {} age p99 {:?}", facts.words, heard.age(99));
        assert_eq!((heard.ages.len() as u64, heard.missing.line), (books.sent, 0), "{books:?}");
        assert_eq!(heard.missing.ring, books.overwritten + books.lost, "{books:?}");
        assert!(heard.missing.ring > 0, "it was an overload");
        let ended: u64 = heard.ended.iter().map(|t| t.produced).sum();
        assert_eq!(ended, offered);
        if mode == Mode::Overwrite {
            assert!(heard.age(50) < Duration::from_millis(80), "{:?}", heard.age(50));
        }
    }
}

fn run_streams(books: &Books, offered: u64) -> u64 {
    assert_eq!(books.offered, offered);
    offered
}

/// Frames over a port that goes and comes back: another generation, and the books are exact.
#[test]
fn frames_of_a_port_that_comes_back_are_another_generation() {
    let dir = tempfile::tempdir().expect("a directory");
    let wire = Wire::lay(dir.path(), WireOptions::clean(115_200));
    let ear = Ear::listen(&wire.port(Side::B));
    let config = Config { format: Format::Binary, ..Config::new(wire.port(Side::A)) };
    let run = start(config, Mode::Overwrite, Streams::Single);
    let class = run.class("test:event", None);
    let stop = Arc::default();
    let writer = load(&run, class, Duration::from_millis(1), &stop);
    assert!(ear.wait(Duration::from_secs(20), |h| h.ages.len() > 100), "nothing comes");
    wire.unplug(Side::A);
    std::thread::sleep(Duration::from_millis(500));
    wire.plug(Side::A);
    let before = ear.heard().ages.len();
    assert!(ear.wait(Duration::from_secs(20), |h| h.ages.len() > before + 100), "nothing more");
    stop.store(true, Ordering::Relaxed);
    let offered = writer.join().expect("no panic");
    let (result, facts, books) = run.end();
    result.expect("it closes");
    assert!(facts.values.contains(&("reconnects", 1.0)), "{facts:?}");
    assert!(ear.wait(Duration::from_secs(5), |h| h.sum() == offered), "{:?}", ear.heard());
    let heard = ear.stop();
    assert_eq!(heard.ages.len() as u64 + heard.missing.line, books.sent, "{books:?}");
    assert_eq!(heard.missing.ring, books.overwritten + books.lost, "{books:?}");
    let generations: Vec<u8> = heard.sessions.iter().map(|s| s.generation).collect();
    assert_eq!(generations.len(), 2, "{generations:?}");
    assert_eq!(generations[1], generations[0].wrapping_add(1));
}

fn time(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn refusal(config: Config, context: &Context) -> String {
    let classes = Arc::new(ClassRegistry::new());
    let geometry = Geometry::new(4096, 2, 1, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Discard, classes };
    match Serial::open(config, &plan, context) {
        Ok(_) => panic!("it opens"),
        Err(e) => e.to_string(),
    }
}

/// What cannot be opened is named, with what to do.
#[test]
fn a_port_that_cannot_be_had_is_named() {
    let (terminal, context) = (Terminal::new(1000), Context::new("test"));
    let shown = terminal.path.display().to_string();
    let parity = Config { parity: Parity::Even, ..Config::new(&terminal.path) };
    let said = refusal(parity, &Context::new("test"));
    assert!(said.starts_with(&shown) && said.contains("parity = \"even\""), "{said}");
    let bits = Config { data_bits: 7, ..Config::new(&terminal.path) };
    let said = refusal(bits, &Context::new("test"));
    assert!(said.contains("data_bits = 7") && said.contains("stays at 8"), "{said}");
    let said = refusal(Config::new("/dev/nothing-here"), &context);
    assert!(said.starts_with("/dev/nothing-here: is not there"), "{said}");
    let said = refusal(Config::new("/etc/passwd"), &context);
    assert!(said.contains("is no device"), "{said}");
    let said = refusal(Config::new("/dev/null"), &context);
    assert!(said.contains("is no serial port"), "{said}");
    // Two channels, however the path is spelt; and another pipeline.
    let run = start(Config::new(&terminal.path), Mode::Discard, Streams::Single);
    let said = refusal(Config::new(&terminal.path), &Context::new("other"));
    assert!(said.contains("is open in another program"), "{said}");
    run.end().0.expect("it closes");
    let dir = tempfile::tempdir().expect("a directory");
    let link = dir.path().join("link");
    symlink(&terminal.path, &link).expect("linked");
    second_channel(&terminal.path, &link);
}

fn second_channel(path: &Path, link: &Path) {
    let context = Context::new("test");
    let classes = Arc::new(ClassRegistry::new());
    let geometry = Geometry::new(4096, 2, 1, 84).expect("a geometry");
    let plan = ChannelPlan { name: "c".into(), geometry, mode: Mode::Discard, classes };
    let _first = Serial::open(Config::new(path), &plan, &context).expect("it opens");
    let said = refusal(Config::new(link), &context);
    assert!(said.contains("is the port of another channel"), "{said}");
}
