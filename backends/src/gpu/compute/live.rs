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

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::decode::Classes;
use wgpu::CommandEncoder;

use super::{Arrival, ComputeError, Pending, Timeline, Totals, Wanted};
use crate::gpu::{GpuDevice, PacketEntry, Place, Store};
use crate::timeline::{self, Entry, Filter, Rows, Window, walk};

/// See the module.
pub struct Live {
    store: Arc<Store>,
    device: Option<Arc<GpuDevice>>,
    index: Arc<Mutex<Index>>,
}

/// Rows of bins: each stream that has had a packet, and its columns.
pub type StreamRows = Vec<(Arc<StreamInfo>, Vec<u32>)>;

struct Index {
    registry: Arc<ClassRegistry>,
    /// Those that packets are read with.
    classes: Classes,
    /// The stream of each row.
    streams: Vec<Arc<StreamInfo>>,
    /// On the device, as long as there is one; it knows so many classes.
    device: Option<Timeline>,
    device_knows: usize,
    /// Of packets in ordinary memory, row after row.
    heap: Vec<VecDeque<Walked>>,
    /// Packets that did not get their entries.
    failed: u64,
    /// What was found in packets in ordinary memory.
    totals: Totals,
}

/// A packet's entries.
#[derive(Clone)]
struct Walked {
    number: u64,
    entries: Arc<[Entry]>,
}

/// What a frame is made of: the device's part of it, and the rest.
struct Asked<T> {
    pending: Option<Pending<T>>,
    streams: Vec<Arc<StreamInfo>>,
    heap: Vec<Vec<Walked>>,
}

/// What the store tells the index.
struct Told(Arc<Mutex<Index>>);

impl Live {
    /// Has a store's packets indexed from now on: the newest `entries` records of them (16
    /// bytes each) on its device; all that are kept where they are in ordinary memory.
    ///
    /// # Errors
    /// A device that is lost, or does not take so many entries.
    pub fn watch(
        store: &Arc<Store>,
        device: Option<&Arc<GpuDevice>>,
        registry: Arc<ClassRegistry>,
        entries: u64,
    ) -> Result<Self, ComputeError> {
        let make = |gpu: &Arc<GpuDevice>| {
            let made = gpu.guard(|| Timeline::new(&gpu.device, &gpu.queue, entries));
            made.unwrap_or_else(|| Err(ComputeError("the GPU's driver panicked".into())))
        };
        let index = Arc::new(Mutex::new(Index {
            registry,
            classes: Classes::default(),
            streams: Vec::new(),
            device: device.map(make).transpose()?,
            device_knows: 0,
            heap: Vec::new(),
            failed: 0,
            totals: Totals::default(),
        }));
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
        let parts = heap.iter().flatten().map(|w| &*w.entries);
        let mut sum = timeline::count_rows_parts(parts, window, &Rows::each(classes));
        if let Some(pending) = pending {
            add(&mut sum, &pending.wait()?);
        }
        Ok(sum)
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
        // Not between an arrival's encoding and its submission, and in the order in which the
        // thread that tells of arrivals locks.
        let _kept = self.store.lock();
        let mut index = lock(&self.index);
        let device = self.device.as_ref().filter(|d| !d.is_lost());
        if device.is_none() {
            index.device = None;
        }
        let panicked = || Err(ComputeError("the GPU's driver panicked".into()));
        let pending = match (device, &index.device) {
            (Some(device), Some(timeline)) => {
                Some(device.guard(|| question(timeline)).unwrap_or_else(panicked)?)
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
        let parts: Vec<&[Entry]> = heap.iter().map(|w| &*w.entries).collect();
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

impl Index {
    fn row(&mut self, stream: &Arc<StreamInfo>) -> usize {
        if let Some(row) = self.streams.iter().position(|s| s.id == stream.id) {
            return row;
        }
        self.streams.push(Arc::clone(stream));
        self.heap.push(VecDeque::new());
        self.streams.len() - 1
    }

    /// New event classes are known before packets are that may have records of them.
    fn learn(&mut self) {
        if self.registry.len() != self.classes.len() {
            self.classes = Classes::new(self.registry.all());
        }
    }
}

impl crate::gpu::Arrival for Told {
    fn in_gpu(&mut self, gpu: &GpuDevice, encoder: &mut CommandEncoder, packets: &[PacketEntry]) {
        let mut index = lock(&self.0);
        index.learn();
        let rows: Vec<usize> = packets.iter().map(|p| index.row(&p.stream)).collect();
        let Index { device: Some(timeline), device_knows, classes, .. } = &mut *index else {
            return;
        };
        let arrivals: Vec<Arrival<'_>> = packets
            .iter()
            .zip(&rows)
            .filter_map(|(packet, row)| match &packet.place {
                Place::Gpu { buffer, offset } => Some(Arrival {
                    stream: *row as u32,
                    data: buffer,
                    offset: *offset as u32,
                    place: place(packet, *offset as u32),
                    lost: packet.lost > 0 || packet.missing > 0,
                }),
                Place::Heap(_) => None,
            })
            .collect();
        let done = gpu.guard(|| {
            if *device_knows != classes.len() {
                *device_knows = classes.len();
                timeline.classes(classes.all().map(|c| &**c));
            }
            timeline.arrive(encoder, &arrivals)
        });
        if !matches!(done, Some(Ok(()))) {
            index.failed += arrivals.len() as u64;
        }
    }

    fn in_heap(&mut self, packet: &PacketEntry, bytes: &[u8]) {
        let mut index = lock(&self.0);
        index.learn();
        let row = index.row(&packet.stream);
        let walk = walk(bytes, &place(packet, 0), &index.classes);
        let found = walk.entries.len() as u32;
        let totals = &mut index.totals;
        totals.records = totals.records.wrapping_add(found);
        totals.aborted = totals.aborted.wrapping_add(walk.aborted);
        totals.missing = totals.missing.wrapping_add((packet.records as u32).wrapping_sub(found));
        totals.damaged += u32::from(walk.stop != timeline::Stop::End);
        let walked = Walked { number: packet.number, entries: walk.entries.into() };
        index.heap[row].push_back(walked);
    }

    fn forgotten(&mut self, oldest: u64) {
        // The device's index is a ring of its own.
        for heap in &mut lock(&self.0).heap {
            while heap.front().is_some_and(|w| w.number < oldest) {
                heap.pop_front();
            }
        }
    }
}

/// What is known of a packet that lies at `base`.
fn place(packet: &PacketEntry, base: u32) -> timeline::Place {
    timeline::Place {
        header: packet.stream.class.header_size(),
        content: u32::try_from(packet.content).unwrap_or(u32::MAX),
        begin: packet.first,
        end: packet.last,
        base,
        skip: 0,
        room: u32::try_from(packet.records).unwrap_or(u32::MAX),
    }
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(sum: &mut [u32], bins: &[u32]) {
    sum.iter_mut().zip(bins).for_each(|(a, b)| *a = a.wrapping_add(*b));
}
