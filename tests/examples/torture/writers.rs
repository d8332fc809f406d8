//! Writers: threads that trace, rest, give up, forget, move between CPUs, and are interrupted
//! by handlers that trace, too.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rbpipe_core::channel::Writer;
use rbpipe_core::class::ClassId;
use rbpipe_core::stream::{GivenRecord, ImportWriter, WriteError};
use rbpipe_tests::records;
use rbpipe_tests::timer::{ThreadTimer, handle};

use crate::draw::{Place, WriterPlan};

/// The signals whose handlers trace.
const SIGNALS: [libc::c_int; 2] = [libc::SIGUSR1, libc::SIGUSR2];
/// Writers' names in records: threads from 0, the source of given times, handlers.
const IMPORT: u32 = 500;
const HANDLERS: u32 = 1000;

/// What one writer offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    /// Records, recorded or lost or given up; those that came to a closed channel do not count.
    pub all: u64,
    /// Given up.
    pub aborted: u64,
    /// Reserved and never committed.
    pub forgotten: u64,
}

/// What the handlers of a round use.
pub struct Handlers {
    pub writer: Writer,
    pub class: ClassId,
    pub offered: AtomicU64,
    pub nested: AtomicU64,
}

static ROUND: AtomicPtr<Handlers> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    // const, no destructor: touched from handlers.
    static ME: Cell<u32> = const { Cell::new(u32::MAX) };
    static SEQ: [Cell<u64>; 2] = const { [const { Cell::new(0) }; 2] };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

extern "C" fn trace(signal: libc::c_int) {
    // SAFETY: set by `with_handlers` for as long as any thread has timers.
    let Some(round) = (unsafe { ROUND.load(Ordering::Acquire).as_ref() }) else { return };
    let me = ME.get();
    if me == u32::MAX {
        return;
    }
    let depth = DEPTH.replace(DEPTH.get() + 1);
    let which = usize::from(signal == SIGNALS[1]);
    let seq = SEQ.with(|s| s[which].replace(s[which].get() + 1));
    let bytes = records::bare(HANDLERS + 2 * me + which as u32, seq);
    match round.writer.record(round.class, &bytes) {
        Ok(()) | Err(WriteError::Lost(_)) => {
            round.offered.fetch_add(1, Ordering::Relaxed);
        }
        Err(WriteError::Closed) => {}
    }
    if depth > 0 {
        round.nested.fetch_add(1, Ordering::Relaxed);
    }
    DEPTH.set(depth);
}

/// Runs `during` with handlers in place that trace into this channel.
pub fn with_handlers<T>(handlers: &Handlers, during: impl FnOnce() -> T) -> T {
    // Its tables and its choice of code are made before a handler needs them.
    let _ = records::bare(0, 0);
    ROUND.store(std::ptr::from_ref(handlers).cast_mut(), Ordering::Release);
    for signal in SIGNALS {
        // SAFETY: the handler touches atomics, thread-locals without a destructor and a writer
        // that is made for handlers.
        unsafe { handle(signal, trace) };
    }
    let out = during();
    ROUND.store(std::ptr::null_mut(), Ordering::Release);
    out
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    // Not every CPU may be ours; then it runs where it runs.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Sleeps, however often it is interrupted. (The standard library's sleep takes up the rest of
/// its time after each signal: with one every 80 µs it did not end within minutes.)
fn rest(time: Duration) {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let left = rustix::thread::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        // Interrupted or not: we look at the clock.
        let _ = rustix::thread::nanosleep(&left);
    }
}

/// A writer's life, until it is told to stop or the channel is closed.
pub fn write(
    me: u32,
    plan: &WriterPlan,
    seed: u64,
    to: &Writer,
    class: ClassId,
    stop: &AtomicBool,
) -> Offered {
    let mut random = fastrand::Rng::with_seed(seed);
    if let Place::Pinned(cpu) = plan.place {
        pin(cpu);
    }
    ME.set(me);
    let timers = || {
        plan.signals.map(|every| {
            let ns = every.as_nanos() as i64;
            // Not the same period, so that they meet at every point of each other.
            [ThreadTimer::start(SIGNALS[0], ns), ThreadTimer::start(SIGNALS[1], ns * 97 / 100)]
        })
    };
    let _timers = if plan.signals_first {
        let timers = timers();
        to.register();
        timers
    } else {
        to.register();
        timers()
    };
    let mut offered = Offered::default();
    let mut seq = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Place::Migrating(every) = plan.place
            && seq % every == 0
        {
            pin((seq / every) as usize
                % std::thread::available_parallelism().map_or(1, usize::from));
        }
        let bytes = records::record(me, seq, random.usize(..=plan.longest));
        seq += 1;
        // The short way now and then.
        if random.u32(..4) == 0 && plan.forgets != Some(seq) {
            match to.record(class, &bytes) {
                Ok(()) | Err(WriteError::Lost(_)) => offered.all += 1,
                Err(WriteError::Closed) => break,
            }
            continue;
        }
        let mut r = match to.reserve(class, bytes.len()) {
            Ok(r) => r,
            Err(WriteError::Lost(_)) => {
                offered.all += 1;
                continue;
            }
            Err(WriteError::Closed) => break,
        };
        offered.all += 1;
        if plan.forgets.is_some_and(|n| n <= seq) && offered.forgotten == 0 {
            std::mem::forget(r);
            offered.forgotten = 1;
            continue;
        }
        let (a, b) = bytes.split_at(random.usize(..=bytes.len()));
        r.write(a);
        if random.u32(..1000) < plan.rests {
            rest(plan.rest.mul_f64(random.f64()));
        }
        if random.u32(..1000) < plan.aborts {
            offered.aborted += 1;
            drop(r);
            continue;
        }
        r.write(b);
        r.commit();
    }
    offered
}

/// A source that brings its own times, which go back now and then. `runs`: several records
/// at once; a run that a closed channel breaks does not say how much of it was offered.
pub fn import(
    seed: u64,
    runs: bool,
    to: &mut ImportWriter,
    class: ClassId,
    stop: &AtomicBool,
) -> Offered {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut seq, mut time, mut offered) = (0, rbpipe_core::clock::now(), Offered::default());
    while !stop.load(Ordering::Relaxed) {
        let run: Vec<(u64, Vec<u8>)> = (0..if runs { random.u64(1..40) } else { 1 })
            .map(|i| {
                let step = 1 << random.u32(1..40);
                time += random.u64(..step);
                let back = if random.u32(..50) == 0 { random.u64(..1000) } else { 0 };
                (time - back, records::record(IMPORT, seq + i, random.usize(..300)))
            })
            .collect();
        seq += run.len() as u64;
        let given: Vec<GivenRecord<'_>> =
            run.iter().map(|(time, payload)| GivenRecord { time: *time, class, payload }).collect();
        match to.write_run(&given) {
            Ok(_) => offered.all += given.len() as u64,
            Err(WriteError::Lost(_)) => unreachable!("what is lost is left out"),
            Err(WriteError::Closed) => {
                assert!(!runs, "closed before its time");
                break;
            }
        }
        if random.u32(..4) == 0 {
            to.switch();
        }
        if random.u32(..4) == 0 {
            std::thread::sleep(Duration::from_micros(random.u64(..300)));
        }
    }
    offered
}
