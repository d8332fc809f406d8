//! Tries to break the engine, for as long as it is let: `cargo run --release -p rbpipe-tests
//! --example torture -- --seconds 7200`.
//!
//! Round after round, each drawn from a seed: modes, kinds of streams, geometries, record
//! sizes; writers that are pinned or move between CPUs, rest between reserve and commit, give
//! up, never come back, and are interrupted by nested handlers that trace; readers that hold
//! 1..K packets and put them back in any order; flush storms; snapshots; outputs that fail, are cancelled,
//! spoil their memory or panic between unmap and map; the end in the midst of it. Every record
//! carries its writer, its number and a checksum. After each round the books must balance to
//! the record, no record may be torn, out of order or there twice, and each memory must have
//! been given back.
//!
//! At the first difference it prints the round's seed and ends with status 1. `--seed S` begins
//! with that round; the threads' interleaving is the machine's own, so a round may have to be
//! repeated (`--repeat`).

mod draw;
mod output;
mod snapshots;
mod writers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use rbpipe_backends::file;
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, StreamReport};
use rbpipe_core::class::{ClassId, ClassRegistry};
use rbpipe_core::drain::{Control, Notice};
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_tests::records::{self, Found};

use draw::{Home, Round};
use output::{OnPurpose, Torture};
use snapshots::Snapshots;
use writers::{Handlers, Offered};

#[derive(Parser)]
struct Cli {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The first round's seed; without it one is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// The same round again and again.
    #[arg(long)]
    repeat: bool,
    /// A round that lasts for so many seconds hangs: the program aborts, and leaves a core
    /// where the system keeps one.
    #[arg(long, default_value_t = 300)]
    hangs: u64,
}

/// What all rounds so far came to.
#[derive(Default)]
struct Sums {
    rounds: u64,
    offered: u64,
    recorded: u64,
    written: u64,
    full: u64,
    wrap: u64,
    too_big: u64,
    aborted: u64,
    overwritten: u64,
    failed: u64,
    failed_records: u64,
    kept: u64,
    packets: u64,
    in_handlers: u64,
    nested: u64,
    forgotten: u64,
    snapshots: u64,
    snapshot_packets: u64,
    begun_again: u64,
    outrun: u64,
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rounds, {} records offered ({} in handlers, {} inside another handler): \
             {} recorded ({} written in {} packets, {} in {} failed ones, {} overwritten, \
             {} kept), \
             lost {} full, {} wrap, {} too big; {} aborted, {} never committed; \
             {} snapshots of {} packets, {} runs begun again, {} outrun",
            self.rounds,
            self.offered,
            self.in_handlers,
            self.nested,
            self.recorded,
            self.written,
            self.packets,
            self.failed_records,
            self.failed,
            self.overwritten,
            self.kept,
            self.full,
            self.wrap,
            self.too_big,
            self.aborted,
            self.forgotten,
            self.snapshots,
            self.snapshot_packets,
            self.begun_again,
            self.outrun
        )
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
    eprintln!("torture: {} s, from seed {seed}", cli.seconds);
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<OnPurpose>() {
            said(info);
        }
    }));
    let (begin, mut told) = (Instant::now(), Instant::now());
    let mut sums = Sums::default();
    let underway = Arc::new(Mutex::new((Instant::now(), String::new())));
    watch(Arc::clone(&underway), Duration::from_secs(cli.hangs));
    while begin.elapsed().as_secs_f64() < cli.seconds {
        let round = Round::draw(seed);
        *underway.lock().expect("no panic holds it") = (Instant::now(), format!("{round:?}"));
        if catch_unwind(AssertUnwindSafe(|| run(&round, &mut sums))).is_err() {
            eprintln!("torture: DIFFERENCE in round {} (--seed {seed}): {round:?}", sums.rounds);
            return ExitCode::FAILURE;
        }
        sums.rounds += 1;
        if !cli.repeat {
            seed += 1;
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            eprintln!("torture: {:.0} s: {sums}", begin.elapsed().as_secs_f64());
        }
    }
    println!("torture: {:.0} s: {sums}; no difference", begin.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Ends the program when a round does not end.
fn watch(underway: Arc<Mutex<(Instant, String)>>, hangs: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let (since, round) = &*underway.lock().expect("no panic holds it");
            if since.elapsed() > hangs {
                eprintln!("torture: HANGS: {round}");
                std::process::abort();
            }
        }
    });
}

fn run(round: &Round, sums: &mut Sums) {
    let (classes, class) = records::classes();
    let plan = ChannelPlan {
        name: "c".into(),
        geometry: Geometry::new(round.size, round.count, round.reader, 84).expect("a geometry"),
        mode: round.mode,
        classes: Arc::clone(&classes),
    };
    match round.home {
        Home::File => {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("t");
            let config = file::Config::new(path.clone());
            let backend =
                file::File::open(config, &plan, &Context::new("torture")).expect("it opens");
            let ended = write(round, plan, backend, class, sums);
            ended.check(&read(&path, &classes), sums);
        }
        Home::Memory { fence: true } => in_memory::<true>(round, plan, class, true, sums),
        Home::Memory { fence: false } => in_memory::<false>(round, plan, class, true, sums),
        Home::Kept => in_memory::<false>(round, plan, class, false, sums),
    }
}

fn read(path: &Path, classes: &ClassRegistry) -> Found {
    if path.exists() { records::verify(path, classes) } else { Found::default() }
}

fn in_memory<const FENCE: bool>(
    round: &Round,
    plan: ChannelPlan,
    class: ClassId,
    takes: bool,
    sums: &mut Sums,
) {
    let backend = Torture::<FENCE>::new(round.temper, takes, round.seed, &plan.classes);
    let (checks, alive) = (Arc::clone(&backend.checks), Arc::clone(&backend.alive));
    let changed = Arc::clone(&backend.changed);
    let ended = write(round, plan, backend, class, sums);
    let mut all = Found::default();
    for check in checks.lock().expect("no panic holds it").values() {
        all.records += check.found.records;
        all.aborted += check.found.aborted;
        all.discarded += check.found.discarded;
        all.packets_lost += check.found.packets_lost;
        all.packets += check.found.packets;
    }
    ended.check(&all, sums);
    assert_eq!(alive.load(Ordering::Relaxed), 0, "each memory was given back");
    assert!(!changed.load(Ordering::Relaxed), "a packet that its reader held changed");
}

/// A round whose channel has ended.
struct Ended<'a> {
    round: &'a Round,
    reports: Vec<StreamReport>,
    offered: Offered,
    /// The drain said so: what is in the trace may lack something.
    untold: bool,
    /// A writer was to leave a record open, and the end waits for 2 s alone.
    forgetful: bool,
}

/// Makes the channel, writes, ends it.
fn write<'a, B: Backend>(
    round: &'a Round,
    plan: ChannelPlan,
    backend: B,
    class: ClassId,
    sums: &mut Sums,
) -> Ended<'a> {
    let options = ChannelOptions {
        plan,
        streams: round.streams,
        block_timeout: round.block_timeout,
        switch_timer: round.switch_timer,
        read_timer: round.read_timer,
        prefault: false,
    };
    let classes = Arc::clone(&options.plan.classes);
    let snapshots = Arc::new(Snapshots::default());
    let mut channel = Channel::open(options, backend).expect("it opens");
    let import = round.import.then(|| channel.import(None).expect("a stream"));
    let (writer, monitor) = (channel.writer(), channel.monitor());
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&notices);
    // The machine may be busy with other things: nobody but who never comes is passed over.
    let forgetful = round.writers.iter().any(|w| w.forgets.is_some());
    let stop_timeout = Duration::from_secs(if forgetful { 2 } else { 60 });
    let drain = std::thread::spawn(move || {
        channel.run(&asked, stop_timeout, &mut |n| said.lock().unwrap().push(n))
    });
    let stop = AtomicBool::new(false);
    let handlers = Handlers {
        writer: writer.for_handlers(),
        class,
        offered: AtomicU64::new(0),
        nested: AtomicU64::new(0),
    };
    // Runs of several records only where the channel is not closed under them.
    let runs = !round.ends_early && round.temper.panics_at.is_none();
    let offered = writers::with_handlers(&handlers, || {
        std::thread::scope(|s| {
            let (stop, writer) = (&stop, &writer);
            let mut threads: Vec<_> = (0..)
                .zip(&round.writers)
                .map(|(me, plan)| {
                    let seed = round.seed ^ u64::from(me) << 50;
                    s.spawn(move || writers::write(me, plan, seed, writer, class, stop))
                })
                .collect();
            if let Some(mut import) = import {
                let seed = round.seed;
                threads
                    .push(s.spawn(move || writers::import(seed, runs, &mut import, class, stop)));
            }
            if let Some(every) = round.flush {
                let control = &control;
                s.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        control.flush();
                        std::thread::sleep(every);
                    }
                });
            }
            if let Some(every) = round.snapshots {
                let (control, classes, sums) = (&control, &classes, &snapshots);
                s.spawn(move || snapshots::take(control, every, classes, stop, sums));
            }
            if round.ends_early {
                std::thread::sleep(round.length.div_f64(2.0));
                control.stop();
            }
            std::thread::sleep(round.length);
            stop.store(true, Ordering::Relaxed);
            threads.into_iter().fold(Offered::default(), |sum, t| {
                let one = t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Offered {
                    all: sum.all + one.all,
                    aborted: sum.aborted + one.aborted,
                    forgotten: sum.forgotten + one.forgotten,
                }
            })
        })
    });
    control.stop();
    match drain.join() {
        Ok(closed) => closed.expect("it closes"),
        Err(panic) if panic.is::<OnPurpose>() => {}
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let notices = std::mem::take(&mut *notices.lock().expect("no panic holds it"));
    let mut untold = false;
    for notice in notices {
        match notice {
            Notice::Stalled { .. } | Notice::Retired { .. } => {}
            Notice::NoMemory { .. } => assert!(round.temper.no_memory > 0, "{notice}"),
            // Its stop_timeout is short: another one may be late, too.
            Notice::PassedOver { .. } => assert!(forgetful, "{notice}"),
            Notice::Left { .. } | Notice::Untold { .. } => {
                assert!(round.temper.no_memory > 0, "{notice}");
                untold = true;
            }
        }
    }
    let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
    assert!(!snapshots.wrong.load(Ordering::Relaxed), "a snapshot is not as it should be");
    sums.snapshots += load(&snapshots.taken);
    sums.snapshot_packets += load(&snapshots.packets);
    sums.begun_again += load(&snapshots.begun_again);
    sums.outrun += load(&snapshots.outrun);
    let in_handlers = handlers.offered.into_inner();
    sums.in_handlers += in_handlers;
    sums.nested += handlers.nested.into_inner();
    let offered = Offered { all: offered.all + in_handlers, ..offered };
    Ended { round, reports: monitor.streams(), offered, untold, forgetful }
}

impl Ended<'_> {
    /// The books against what writers did and what was `found` in the packets.
    fn check(&self, found: &Found, sums: &mut Sums) {
        let (round, offered) = (self.round, self.offered);
        let panicked = round.temper.panics_at.is_some();
        let (mut all, mut taken, mut lost, mut aborted, mut kept) = (0, 0, 0, 0, 0);
        let (mut recorded, mut overwritten) = (0, 0);
        for report in &self.reports {
            let (b, e) = (&report.books, &report.books.engine);
            let read = b.output_records + b.failed_records;
            assert!(e.recorded >= read + e.kept, "{report:?}");
            if round.mode == Mode::Overwrite {
                assert_eq!(e.full, 0, "overwrite never finds a ring full: {report:?}");
            } else {
                assert_eq!(b.overwritten(), 0, "nothing is overwritten: {report:?}");
                // A reader that panics waits for nobody: open sub-buffers are given up.
                let gives_up = self.forgetful || panicked;
                assert!(e.wrap == 0 || gives_up, "nobody was given up: {report:?}");
            }
            all += e.offered();
            taken += read;
            lost += e.full + e.wrap + e.too_big;
            aborted += e.aborted;
            kept += e.kept;
            recorded += e.recorded;
            overwritten += b.overwritten();
            sums.recorded += e.recorded;
            sums.written += b.output_records;
            sums.failed_records += b.failed_records;
            sums.kept += e.kept;
            sums.full += e.full;
            sums.wrap += e.wrap;
            sums.too_big += e.too_big;
            sums.overwritten += b.overwritten();
            sums.failed += b.failed;
            sums.packets += b.output_packets;
        }
        let what = || format!("{found:?} {offered:?} {:?}", self.reports);
        assert_eq!(all + offered.forgotten, offered.all, "offered: {}", what());
        assert_eq!(aborted, offered.aborted, "given up: {}", what());
        assert_eq!(found.records, taken, "what was read is in the books: {}", what());
        let takes = round.home != Home::Kept;
        if round.temper.is_good() && takes && !self.untold {
            // Who comes later than the end waits is in the books alone.
            let told = found.discarded == lost || self.forgetful;
            assert!(told, "the trace tells every loss: {}", what());
        }
        let settled = !self.forgetful && !panicked && !self.untold;
        if settled && takes {
            assert_eq!(kept, 0, "what was not overwritten was read: {}", what());
            let packets = self.reports.iter().map(|r| r.books.packets).sum::<u64>();
            let seen = found.packets + found.packets_lost;
            assert_eq!(seen, packets, "a gap for each packet that is missing: {}", what());
            assert!(overwritten == 0 || found.packets_lost > 0, "{}", what());
        }
        if settled && !takes {
            assert!(kept > 0 || recorded == 0, "the ring keeps the newest: {}", what());
        }
        if settled && round.mode != Mode::Overwrite {
            assert_eq!(found.packets_lost, 0, "no packet is missing: {}", what());
            assert_eq!(found.aborted, aborted, "{}", what());
        }
        sums.offered += offered.all;
        sums.aborted += aborted;
        sums.forgotten += offered.forgotten;
    }
}
