//! A channel's picture while it is recorded: an index of its store that grows with it, on the
//! device, or on the processor where there is none.
//!
//! ```text
//! let live = Live::watch(store, device, classes, entries)?;   before the channel is opened
//! live.density(&window)?                                      for each frame, on any thread
//! ```
//!
//! Packets are told on the thread that puts them into the store, which waits for nothing here.
//! A frame locks the store and then the index for as long as it is encoded and submitted; it is
//! waited for without a lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::class::ClassRegistry;

use super::taken::{Found, lanes};
use super::told::{Index, Told, Walked, lock};
use super::{Asking, ComputeError, Pending, Timeline, Totals, Wanted};
use crate::gpu::{GpuDevice, Store};
use crate::timeline::{
    self, Aggregate, Entry, Filter, Held, Kind, Name, Rows, Threads, Transition, Value, Window,
    settle,
};

/// See the module.
pub struct Live {
    store: Arc<Store>,
    device: Option<Arc<GpuDevice>>,
    index: Arc<Mutex<Index>>,
}

/// Rows of bins: each stream that has had a packet, and its columns.
pub type StreamRows = Vec<(Arc<StreamInfo>, Vec<u32>)>;

/// What processes did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadRows {
    /// It.
    pub threads: Threads,
    /// The streams that it names by their places.
    pub streams: Vec<Arc<StreamInfo>>,
    /// Whether it is told where somebody is woken, too: there is `sched_waking`.
    pub early: bool,
}

/// What streams were in, and what their states are called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    /// Streams, and what each was in in each column.
    pub rows: Vec<(Arc<StreamInfo>, Vec<Held>)>,
    /// By the state; those that are in the columns, as far as they are known.
    pub names: HashMap<u32, Name>,
}

/// So many names of states are kept at least.
const NAMES: usize = 4096;

/// What a frame is made of: the device's part of it, and the rest.
struct Asked<T> {
    pending: Option<Pending<T>>,
    streams: Vec<Arc<StreamInfo>>,
    heap: Vec<Vec<Arc<Walked>>>,
}

impl Live {
    /// Has a store's packets indexed from now on: the newest `entries` records of them (16
    /// bytes each) on its device; all that are kept where they are in ordinary memory. And has
    /// what is asked for taken out of them.
    ///
    /// # Errors
    /// A device that is lost, or does not take so many entries.
    pub fn watch(
        store: &Arc<Store>,
        device: Option<&Arc<GpuDevice>>,
        registry: Arc<ClassRegistry>,
        entries: u64,
        asking: Asking,
    ) -> Result<Self, ComputeError> {
        let make = |gpu: &Arc<GpuDevice>| {
            let made = gpu.guard(|| Timeline::new(&gpu.device, &gpu.queue, entries));
            made.unwrap_or_else(|| Err(ComputeError("the GPU's driver panicked".into())))
        };
        let device_index = device.map(make).transpose()?;
        let index = Arc::new(Mutex::new(Index::new(registry, device_index, asking)));
        store.on_arrival(Box::new(Told(Arc::clone(&index))));
        Ok(Self { store: Arc::clone(store), device: device.cloned(), index })
    }

    /// Events of each stream in each column.
    ///
    /// # Errors
    /// The device was lost, or has no room for so many bins.
    pub fn density(&self, window: &Window) -> Result<StreamRows, ComputeError> {
        let asked = self.ask(|t| t.density(window))?;
        rows(asked, window, |parts| timeline::density_parts(parts, window))
    }

    /// Events of some classes, of each stream in each column.
    ///
    /// # Errors
    /// As for [`Live::density`].
    pub fn count(&self, window: &Window, filter: &Filter) -> Result<StreamRows, ComputeError> {
        let wanted = Wanted::from(filter);
        let asked = self.ask(|t| t.count(window, &wanted))?;
        rows(asked, window, |parts| timeline::count_parts(parts.iter().copied(), window, filter))
    }

    /// Events of each of these classes in each column, class after class.
    ///
    /// # Errors
    /// As for [`Live::density`].
    pub fn by_class(&self, window: &Window, classes: &[u32]) -> Result<Vec<u32>, ComputeError> {
        let Asked { pending, heap, .. } = self.ask(|t| t.by_class(window, classes))?;
        let parts = heap.iter().flatten().map(|w| &w.entries[..]);
        let mut sum = timeline::count_rows_parts(parts, window, &Rows::each(classes));
        if let Some(pending) = pending {
            add(&mut sum, &pending.wait()?);
        }
        Ok(sum)
    }

    /// Who ran on each CPU's stream in each column, until a time: as its `sched_switch` tells.
    /// `None`: there is no such event yet.
    ///
    /// # Errors
    /// As for [`Live::density`].
    pub fn states(&self, window: &Window, until: u64) -> Result<Option<States>, ComputeError> {
        let Some(number) = self.schedule() else { return Ok(None) };
        let asked = self.ask_maybe(|t| t.states(number?, window, until))?;
        let mut states = States::default();
        let Some(pending) = asked.pending else {
            for (stream, heap) in asked.streams.into_iter().zip(&asked.heap) {
                let mine = told(heap, window.from, window.to);
                states.rows.push((stream, timeline::states(&mine, window, until)));
            }
            let told = asked.heap.iter().flatten().flat_map(|w| &w.picks.names);
            states.names = told.copied().collect();
            states.keep_names();
            return Ok(Some(states));
        };
        let (held, names) = pending.wait()?;
        let columns = window.columns.max(1) as usize;
        let held = held.chunks(columns).map(<[Held]>::to_vec);
        states.rows = asked.streams.into_iter().zip(held).collect();
        let mut index = lock(&self.index);
        index.names.extend(names);
        states.names.clone_from(&index.names);
        states.keep_names();
        // The device's table has room for some; here are those that may still be seen.
        if index.names.len() > NAMES {
            index.names.clone_from(&states.names);
        }
        Ok(Some(states))
    }

    /// What these processes did in each column, until a time: as the scheduler's events tell of
    /// the window, and of a quarter as long a time before it. Processes are told by their ids and 1, each
    /// once. `None`: there are no such events yet.
    ///
    /// # Errors
    /// As for [`Live::density`].
    pub fn threads(
        &self,
        window: &Window,
        until: u64,
        tasks: &[u32],
    ) -> Result<Option<ThreadRows>, ComputeError> {
        let Some(number) = self.schedule() else { return Ok(None) };
        let since = window.from.saturating_sub(window.span() / 4);
        let asked = self.ask_maybe(|t| t.threads(number?, window, (since, until), tasks))?;
        let threads = match asked.pending {
            Some(pending) => pending.wait()?,
            None => {
                let told: Vec<_> = asked.heap.iter().map(|h| told(h, since, window.to)).collect();
                let told: Vec<&[Transition]> = told.iter().map(|t| &t[..]).collect();
                timeline::threads(&told, window, (since, until), tasks)
            }
        };
        let early = lock(&self.index).schedule.known.is_early();
        Ok(Some(ThreadRows { threads, streams: asked.streams, early }))
    }

    /// What the values of the field of this number among those that are asked for have in common
    /// in each column; a column that some of them have been overwritten of has none. `None`:
    /// there is no such event yet, or [`Live::missing`] says why there are none.
    ///
    /// # Errors
    /// As for [`Live::density`].
    pub fn values(
        &self,
        value: usize,
        window: &Window,
    ) -> Result<Option<Vec<Option<Aggregate>>>, ComputeError> {
        let Some(number) = self.number(value) else { return Ok(None) };
        let asked = self.ask_maybe(|t| t.values(number?, window))?;
        if let Some(pending) = asked.pending {
            return pending.wait().map(Some);
        }
        let mut all = vec![Aggregate::NONE; window.columns as usize];
        for heap in &asked.heap {
            let parts = heap.iter().filter_map(|w| w.picks.values.get(value)).map(|v| &v[..]);
            let mine = within(parts, (window.from, window.to), Value::time);
            let found = timeline::aggregate(&mine.copied().collect::<Vec<_>>(), window);
            all.iter_mut().zip(found).for_each(|(sum, one)| *sum = sum.and(one));
        }
        Ok(Some(all.into_iter().map(Some).collect()))
    }

    /// Why there are no values of the field of this number; `None`: there are, or, if it is not
    /// the end, may still come.
    #[must_use]
    pub fn missing(&self, value: usize, is_end: bool) -> Option<String> {
        let index = lock(&self.index);
        index.taken.get(value)?.missing(&index.registry.all(), is_end)
    }

    /// Streams that have no state in so many columns, and, mostly, whose values do not count,
    /// because the device has no room for them.
    #[must_use]
    pub fn left_out(&self, columns: u32) -> usize {
        let index = lock(&self.index);
        let Some(timeline) = &index.device else { return 0 };
        let most = lanes().min(timeline.compute().most_lanes(columns));
        index.streams.len().saturating_sub(most as usize)
    }

    /// The number on the device, if it has one, of what the scheduler tells, if it does.
    fn schedule(&self) -> Option<Option<usize>> {
        let schedule = &lock(&self.index).schedule;
        let is_told = !schedule.refused && schedule.known.switch.is_some();
        is_told.then_some(schedule.number)
    }

    /// The same of a field whose values are asked for.
    fn number(&self, taken: usize) -> Option<Option<usize>> {
        match lock(&self.index).taken.get(taken)?.found {
            Found::Here { number, .. } => Some(number),
            Found::Awaited | Found::Refused(_) => None,
        }
    }

    /// What was found in packets, as of the last frame, and how many packets are not in the
    /// index because the device did not take them.
    #[must_use]
    pub fn totals(&self) -> (Totals, u64) {
        let index = lock(&self.index);
        let (device, heap) = (index.device.as_ref().map(Timeline::totals), index.totals);
        let device = device.unwrap_or_default();
        let totals = Totals {
            records: device.records.wrapping_add(heap.records),
            aborted: device.aborted.wrapping_add(heap.aborted),
            missing: device.missing.wrapping_add(heap.missing),
            damaged: device.damaged.wrapping_add(heap.damaged),
        };
        (totals, index.failed)
    }

    /// Asks the device, if there still is one, for one thing.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Timeline) -> Result<Pending<T>, ComputeError>,
    ) -> Result<Asked<T>, ComputeError> {
        self.ask_maybe(|timeline| Some(question(timeline)))
    }

    /// The same for what it may not have.
    fn ask_maybe<T>(
        &self,
        question: impl FnOnce(&Timeline) -> Option<Result<Pending<T>, ComputeError>>,
    ) -> Result<Asked<T>, ComputeError> {
        // Not between an arrival's encoding and its submission, and in the order in which the
        // thread that tells of arrivals locks.
        let _kept = self.store.lock();
        let mut index = lock(&self.index);
        let device = self.device.as_ref().filter(|d| !d.is_lost());
        if device.is_none() {
            index.device = None;
        }
        let panicked = || Some(Err(ComputeError("the GPU's driver panicked".into())));
        let pending = match (device, &index.device) {
            (Some(device), Some(timeline)) => {
                device.guard(|| question(timeline)).unwrap_or_else(panicked).transpose()?
            }
            _ => None,
        };
        let heap = index.heap.iter().map(|row| row.iter().cloned().collect()).collect();
        Ok(Asked { pending, streams: index.streams.clone(), heap })
    }
}

fn rows(
    asked: Asked<Vec<u32>>,
    window: &Window,
    twin: impl Fn(&[&[Entry]]) -> Vec<u32>,
) -> Result<StreamRows, ComputeError> {
    let mut rows = StreamRows::new();
    for (stream, heap) in asked.streams.into_iter().zip(&asked.heap) {
        let parts: Vec<&[Entry]> = heap.iter().map(|w| &w.entries[..]).collect();
        rows.push((stream, twin(&parts)));
    }
    if let Some(pending) = asked.pending {
        let found = pending.wait()?;
        // A stream whose packets all came in ordinary memory has no row of the device's.
        for ((_, bins), found) in rows.iter_mut().zip(found.chunks(window.columns.max(1) as usize))
        {
            add(bins, found);
        }
    }
    Ok(rows)
}

/// What packets tell of a CPU that may be in this time, or hold when it begins. Packets may tell
/// nothing of who runs: it is told from the switch before the time (or since when something is
/// missing) on, and the switch behind it tells back who ran at its end.
fn told(heap: &[Arc<Walked>], from: u64, to: u64) -> Vec<Transition> {
    let parts = heap.iter().map(|w| &w.picks.states[..]).filter(|p| !p.is_empty());
    let parts: Vec<&[Transition]> = parts.collect();
    let tells =
        |one: &Transition| !matches!(one.told().0, Kind::Woken | Kind::Waking | Kind::Begins);
    let before = parts.partition_point(|p| p[0].time() < from);
    let earlier = |p: &&[Transition]| p.iter().any(|one| one.time() < from && tells(one));
    let first = parts[..before].iter().rposition(earlier).unwrap_or(0);
    let behind = first + parts[first..].partition_point(|p| p[0].time() < to);
    let last = parts[behind..].iter().position(|p| p.iter().any(tells));
    let last = last.map_or(parts.len(), |place| behind + place + 1);
    settle(parts[first..last].iter().copied().flatten().copied())
}

/// What may be in a time, or hold when it begins, of what lies in several places, one after the
/// other in time.
fn within<'a, T: 'a>(
    parts: impl Iterator<Item = &'a [T]>,
    (from, to): (u64, u64),
    time: impl Fn(&T) -> u64,
) -> impl Iterator<Item = &'a T> {
    let parts: Vec<&[T]> = parts.filter(|p| !p.is_empty()).collect();
    let first = parts.partition_point(|p| time(&p[0]) <= from).saturating_sub(1);
    let last = parts.partition_point(|p| time(&p[0]) < to.max(from.saturating_add(1)));
    let mine = parts[first..last.max(first)].to_vec();
    mine.into_iter().flatten()
}

impl States {
    /// Keeps the names of those that are there.
    fn keep_names(&mut self) {
        let held = self.rows.iter().flat_map(|(_, held)| held).flat_map(|h| h.longest);
        let there: HashSet<u32> = held.map(|(state, _)| state).collect();
        self.names.retain(|state, _| there.contains(state));
    }
}

fn add(sum: &mut [u32], bins: &[u32]) {
    sum.iter_mut().zip(bins).for_each(|(a, b)| *a = a.wrapping_add(*b));
}

#[cfg(test)]
mod tests {
    use super::super::taken::Picks;
    use super::*;
    use crate::timeline::tests::Random;

    /// Packets of a CPU, which tell who runs, or of wake-ups alone, or of nothing.
    fn packets(random: &mut Random) -> Vec<Arc<Walked>> {
        let mut time = 100;
        let mut packet = |number| {
            let mut states = Vec::new();
            if random.below(8) == 0 {
                states.push(Transition::telling(time, 0, Kind::Lost, 0));
            }
            time += random.below(3);
            states.push(Transition::telling(time, 0, Kind::Begins, 0));
            let switches = random.below(3) == 0;
            for _ in 0..random.below(4) {
                time += random.below(3);
                let task = 1 + random.below(3) as u32;
                states.push(match switches {
                    true => {
                        let prev = 1 + random.below(3) as u32;
                        Transition::telling(time, task, Kind::LeftAsleep, prev)
                    }
                    false => Transition::telling(time, 0, Kind::Waking, task),
                });
            }
            let picks = Picks { states, ..Picks::default() };
            Arc::new(Walked { number, entries: Vec::new(), picks })
        };
        (0..30).map(&mut packet).collect()
    }

    #[test]
    fn what_a_time_needs_of_packets_tells_as_much_as_all_of_them() {
        let mut random = Random(31);
        for _ in 0..300 {
            let heap = packets(&mut random);
            let all = settle(heap.iter().flat_map(|w| w.picks.states.iter().copied()));
            let end = all[all.len() - 1].time() + 5;
            let from = random.below(end);
            let to = from + random.below(20);
            let window = Window { from, to, columns: 1 + random.below(4) as u32 };
            let mine = told(&heap, from, to);
            let until = u64::MAX;
            assert_eq!(
                timeline::states(&mine, &window, until),
                timeline::states(&all, &window, until),
                "{window:?} of {all:?}"
            );
            let since = from.saturating_sub(random.below(9));
            let mine = told(&heap, since, to);
            let threads =
                |all: &[Transition]| timeline::threads(&[all], &window, (since, until), &[1, 2, 3]);
            assert_eq!(threads(&mine), threads(&all), "{window:?} since {since} of {all:?}");
        }
    }
}
