//! Crates that have a thread of their own that takes what was put, and cannot be without it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use fastrace::collector::{Config, Reporter, SpanContext, SpanRecord};
use fastrace::local::LocalSpan;
use fastrace::{Event, Span};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::peer::{Case, HEADER, Opened, Put, Sink, Take, Taken, header, items};

/// Waits until it is told to end; then `end` brings out the rest.
struct Worker<F> {
    end: F,
}

impl<F: FnMut() + Send> Take for Worker<F> {
    fn some(&mut self, _: &mut Sink) -> usize {
        0
    }
    fn all(&mut self, ended: &AtomicBool, _: &Taken) {
        while !ended.load(Ordering::Acquire) {
            sleep(Duration::from_millis(1));
        }
        (self.end)();
    }
}

// --- tracing-appender ---------------------------------------------------------------

/// What its worker writes to.
struct Lines(Arc<Taken>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut one = Sink::default();
        one.add(&line[HEADER..]);
        self.0.add(one);
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Appender {
    to: NonBlocking,
    errors: ErrorCounter,
    lost: usize,
}

impl<const N: usize> Put<N> for Appender {
    #[inline(always)]
    fn put(&mut self, payload: &[u8; N]) -> bool {
        let mut line = [0; HEADER + 256];
        line[..HEADER].copy_from_slice(&header());
        line[HEADER..HEADER + N].copy_from_slice(payload);
        let _ = self.to.write(&line[..HEADER + N]);
        // It says nowhere else that it has lost one.
        let lost = self.errors.dropped_lines();
        std::mem::replace(&mut self.lost, lost) == lost
    }
}

/// `tracing-appender`'s non-blocking writer: as many lines as others have items, lossy as it is
/// by default. (It takes no longer records than of 256 bytes here.)
pub fn tracing_appender<const N: usize>(_: Case) -> Opened<impl Put<N>> {
    let taken = Arc::new(Taken::default());
    let builder = NonBlockingBuilder::default().buffered_lines_limit(items::<N>());
    let (to, guard) = builder.finish(Lines(Arc::clone(&taken)));
    let mut guard: Option<WorkerGuard> = Some(guard);
    let errors = to.error_counter();
    // The guard waits until its thread has written what is there.
    let worker = Worker { end: move || drop(guard.take()) };
    let puts = vec![Appender { to, errors, lost: 0 }];
    Opened { puts, takes: vec![Box::new(worker)], taken, room: items::<N>() }
}

// --- fastrace -----------------------------------------------------------------------

/// There is one collector in a process, and so one count.
static COLLECTED: OnceLock<Arc<Taken>> = OnceLock::new();

struct Collector(Arc<Taken>);

impl Reporter for Collector {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        let mut some = Sink::default();
        for event in spans.iter().flat_map(|s| &s.events) {
            some.add(event.properties.first().map_or(b"", |(_, v)| v.as_bytes()));
        }
        self.0.add(some);
    }
}

struct Events;

impl<const N: usize> Put<N> for Events {
    #[inline(always)]
    fn put(&mut self, payload: &[u8; N]) -> bool {
        // Properties are text; its own clock is read by the event.
        let text = String::from_utf8_lossy(payload).into_owned();
        LocalSpan::add_event(Event::new("record").with_property(|| ("payload", text)));
        true
    }
    #[inline(always)]
    fn slice<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        let root = Span::root("slice", SpanContext::random());
        let _parent = root.set_local_parent();
        body(self)
    }
}

/// `fastrace`: a record is an event with a property, a slice of records is a trace. It loses none:
/// what its collector has not taken is kept in memory.
pub fn fastrace<const N: usize>(_: Case) -> Opened<impl Put<N>> {
    let taken = COLLECTED.get_or_init(|| {
        let taken = Arc::new(Taken::default());
        let config = Config::default().report_interval(Duration::from_millis(10));
        fastrace::set_reporter(Collector(Arc::clone(&taken)), config);
        taken
    });
    let worker: Box<dyn Take> = Box::new(Worker { end: fastrace::flush });
    let taken = Arc::clone(taken);
    Opened { puts: vec![Events], takes: vec![worker], taken, room: items::<N>() }
}
