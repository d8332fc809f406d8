//! Goal: a serial line carries what it can, chosen as it was asked for; whatever it does, no
//! writer feels it, and every record is on it or counted. Method: channels with the backend
//! `serial` as text on a pseudo terminal, whose other end reads at the line's rate, or not, or
//! goes away; and the program where people see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_backends::serial::{Config, Keep, Level, Serial};
use rbpipe_core::backend::{Backend, BackendError, ChannelPlan, Context, FactSheet, Facts};
use rbpipe_core::channel::{Channel, ChannelOptions, Monitor, Streams, Writer};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType, LogLevel};
use rbpipe_core::drain::{Ask, Control, Done, Refused};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::terminal::{Came, Terminal};

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
    for (baud, oldest_ms) in [(115_200, 60.0), (921_600, 12.0)] {
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
        let came = terminal.came();
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
            "{baud}: line {:.2} %, age p50 {:.1} p99 {:.1} ms, {} of {offered}, {facts:?}",
            used * 100.0,
            at(50),
            at(99),
            books.sent
        );
        eprintln!("{figures}");
        assert!(used > 0.98, "{figures}");
        assert!(at(99) <= oldest_ms, "{figures}");
    }
}
