//! `png = "live.png"`: a picture of the newest, every while and at the end, for machines without
//! a display.
//!
//! ```text
//! on arrival    the walker makes entries of a packet's records; what the scheduler tells
//!               and values are taken out of them                 (index.rs; in video memory)
//! each picture  bins are counted there, and come back            (index.rs)
//!               lanes, axis and legend are drawn
//!                             (scene.rs, states.rs, threads.rs, crate::picture)
//! ```
//!
//! Where there is no device, or no more, the same is counted by the functions of
//! [`crate::timeline`] from packets in ordinary memory.

mod index;
mod scene;
mod states;
#[cfg(test)]
mod tests;
mod threads;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::clock;

use super::compute;
use super::device::Gpu;
use super::store::Store;
use crate::picture::{Effort, SizeError, Theme, draw, plan};
use crate::timeline::Window;
use scene::Scene;

/// Records are to be in the store this long after their commit, at most: a picture has them all.
pub(super) const WITHIN: Duration = Duration::from_millis(10);

/// So many rows of pixels a process's lane has at least; more of them are not tried.
const THREAD: u32 = 14;
const THREADS: usize = 128;

fn most_threads((_, height): (u32, u32)) -> usize {
    ((height / THREAD) as usize).min(THREADS)
}

/// What is asked for.
pub(super) struct Wish {
    /// Where the picture is written.
    pub(super) path: PathBuf,
    /// How often.
    pub(super) every: Duration,
    /// Columns and rows of pixels.
    pub(super) size: (u32, u32),
    /// How much time it shows.
    pub(super) window: Duration,
    /// On dark or on light ground.
    pub(super) theme: Theme,
    /// Numeric fields that have a lane: (event, field).
    pub(super) values: Vec<(String, String)>,
}

/// What a picture is made of.
struct Painter {
    wish: Wish,
    store: Arc<Store>,
    index: compute::Live,
    scene: Scene,
    /// Columns of the last picture's lanes.
    columns: u32,
    /// Processes that the next one is to ask for.
    threads: usize,
    /// Said once, until it can be written again.
    failed: bool,
    /// Values that there are none of, and that was said.
    without: Vec<usize>,
}

/// A thread that makes pictures, until it is told to end.
pub(super) struct Live {
    stop: Arc<(Mutex<bool>, Condvar)>,
    /// Gives whether there is a last picture.
    thread: Option<JoinHandle<Result<(), BackendError>>>,
}

impl Live {
    /// Begins: has the store tell of what comes, and starts the thread.
    ///
    /// # Errors
    /// The device has no room for an index, or there is no thread to be had.
    pub(super) fn begin(
        wish: Wish,
        store: &Arc<Store>,
        device: Option<&Arc<Gpu>>,
        classes: &Arc<ClassRegistry>,
        (pipeline, clock_offset): (&str, u64),
        bytes: u64,
    ) -> Result<Self, BackendError> {
        let index = index::watch(store, device, classes, bytes, wish.values.clone())
            .map_err(|e| BackendError::new(format!("{}: no picture: {e}", wish.path.display())))?;
        let title = format!("{pipeline}, channel {}", store.channel);
        let mut painter = Painter {
            scene: Scene {
                title,
                clock_offset,
                classes: Arc::clone(classes),
                values: wish.values.iter().map(|(e, f)| format!("{e}.{f}")).collect(),
            },
            columns: wish.size.0,
            threads: most_threads(wish.size),
            wish,
            store: Arc::clone(store),
            index,
            failed: false,
            without: Vec::new(),
        };
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let end = Arc::clone(&stop);
        let thread = thread::Builder::new().name("picture".into()).spawn(move || {
            let every = painter.wish.every;
            let (mut next, mut before) = (Instant::now() + every, Duration::ZERO);
            while !sleep_until(&end, next) {
                let begin = Instant::now();
                painter.paint(clock::now());
                painter.say_what_is_missing(false);
                let took = begin.elapsed();
                next = (next + period(every, took.max(before))).max(Instant::now());
                before = took;
            }
            // All that is kept, to its last record.
            let newest = painter.store.lock().span().map(|(_, newest)| newest + 1);
            let last = painter.last(newest.unwrap_or_else(clock::now), Effort::Small);
            painter.say_what_is_missing(true);
            last
        });
        let thread =
            thread.map_err(|e| BackendError::io("cannot start a thread for the picture", e))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Live {
    /// Has the last picture made, and waits for it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn end(&mut self) -> Result<(), BackendError> {
        let (stop, wake) = &*self.stop;
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let panicked = || BackendError::new("the picture's thread panicked: its last one is old");
        thread.join().unwrap_or_else(|_| Err(panicked()))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            tracing::error!("{e}");
        }
    }
}

/// From the beginning of one picture to that of the next, if they take so long: an event is in one
/// `every` and 50 ms after its commit at most, so those that take longer begin earlier (up to half
/// of the time is theirs).
fn period(every: Duration, took: Duration) -> Duration {
    const FREE: Duration = Duration::from_millis(30);
    every - took.saturating_sub(FREE).min(every / 2)
}

/// Sleeps; true: it is to end.
fn sleep_until((stop, wake): &(Mutex<bool>, Condvar), at: Instant) -> bool {
    let mut stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Instant::now();
        if *stopped || now >= at {
            return *stopped;
        }
        let woken = wake.wait_timeout(stopped, at - now);
        stopped = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Painter {
    /// A picture of the time before `to`; if there is none, that is said once.
    fn paint(&mut self, to: u64) {
        let result = self.last(to, Effort::Fast);
        let failed = result.is_err();
        if let (Err(why), false) = (result, self.failed) {
            tracing::error!("{why}");
        }
        self.failed = failed;
    }

    /// Says, once, which values there are none of: what cannot be drawn as soon as that is known,
    /// what has not come at the end.
    fn say_what_is_missing(&mut self, is_end: bool) {
        for n in 0..self.wish.values.len() {
            if self.without.contains(&n) {
                continue;
            }
            if let Some(why) = self.index.missing(n, is_end) {
                tracing::warn!("{}: png_value: {why}", self.wish.path.display());
                self.without.push(n);
            }
        }
    }

    /// A picture of the time before `to`.
    fn last(&mut self, to: u64, effort: Effort) -> Result<(), BackendError> {
        let painted = self.try_paint(to, effort);
        let path = self.wish.path.display();
        painted.map_err(|why| BackendError::new(format!("{path}: no picture: {why}")))
    }

    fn try_paint(&mut self, to: u64, effort: Effort) -> Result<(), String> {
        let window = u64::try_from(self.wish.window.as_nanos()).unwrap_or(u64::MAX);
        let sketch = {
            let table = self.store.lock();
            let oldest = table.span().map_or(to, |(oldest, _)| oldest);
            let from = to.saturating_sub(window).max(oldest).min(to.saturating_sub(1));
            self.scene.sketch(&table, (from, to))
        };
        let wrong = |e: SizeError| e.to_string();
        let room = |p: &_| plan(p, self.wish.size).map_or(0, |plan| plan.lanes.len());
        let mut tries = 0;
        let picture = loop {
            let (from, to, columns) = (sketch.from, sketch.to, self.columns);
            let window = Window { from, to, columns };
            let rows = (self.scene.classes.len(), self.wish.values.len(), self.threads);
            let bins = index::count(&self.index, (&window, sketch.until), rows)
                .map_err(|e| e.to_string())?;
            let all_threads = bins.threads.as_ref().map_or(0, |did| did.all);
            let mut picture = self.scene.fill(&sketch, bins, columns, &room);
            if let n @ 1.. = self.index.left_out(columns) {
                picture.facts.push(format!("{n} streams are too many for states and values"));
            }
            // How wide the lanes are depends on their names, and which there are on the counts:
            // mostly it is as in the last picture.
            self.columns = plan(&picture, self.wish.size).map_err(wrong)?.columns;
            let shown = Scene::threads(&picture);
            // How many threads have room is not known before either: some more than there were.
            let most = most_threads(self.wish.size);
            let is_short = shown == rows.2 && all_threads > shown && shown < most;
            self.threads = (shown + shown / 2 + 4).min(most);
            tries += 1;
            if (self.columns == columns && !is_short) || tries == 3 {
                break picture;
            }
        };
        let image = draw(&picture, self.wish.size, self.wish.theme).map_err(wrong)?;
        image.write_png(&self.wish.path, effort).map_err(|e| e.to_string())
    }
}
