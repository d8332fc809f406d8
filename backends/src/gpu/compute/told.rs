//! What a live index makes of the packets that a store tells of: entries, on the device or here,
//! and what is taken out of their records.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::decode::Classes;
use wgpu::CommandEncoder;

use super::taken::{Picks, Schedule, Taken};
use super::{Arrival, Asking, Timeline, Totals};
use crate::gpu::{GpuDevice, PacketEntry, Place};
use crate::timeline::{self, Entry, Name, walk};

/// See the module.
pub(super) struct Index {
    pub registry: Arc<ClassRegistry>,
    /// Those that packets are read with.
    pub classes: Classes,
    /// The stream of each row, and when its last packet ended.
    pub streams: Vec<Arc<StreamInfo>>,
    pub ends: Vec<Option<u64>>,
    /// What is taken out of records: what the scheduler tells, and the values that are asked for.
    pub schedule: Schedule,
    pub taken: Vec<Taken>,
    /// What processes are called, by their states, as the device told.
    pub names: HashMap<u32, Name>,
    /// On the device, as long as there is one; it knows so many classes.
    pub device: Option<Timeline>,
    pub device_knows: usize,
    /// Of packets in ordinary memory, row after row.
    pub heap: Vec<VecDeque<Arc<Walked>>>,
    /// Packets that did not get their entries.
    pub failed: u64,
    /// What was found in packets in ordinary memory.
    pub totals: Totals,
}

/// A packet's entries, and what was taken out of it.
pub(super) struct Walked {
    pub number: u64,
    pub entries: Vec<Entry>,
    pub picks: Picks,
}

/// What the store tells the index.
pub(super) struct Told(pub Arc<Mutex<Index>>);

impl Index {
    pub fn new(registry: Arc<ClassRegistry>, device: Option<Timeline>, asking: Asking) -> Self {
        let (schedule, taken) = asking.taken();
        Self {
            registry,
            classes: Classes::default(),
            streams: Vec::new(),
            ends: Vec::new(),
            schedule,
            taken,
            names: HashMap::new(),
            device,
            device_knows: 0,
            heap: Vec::new(),
            failed: 0,
            totals: Totals::default(),
        }
    }

    fn row(&mut self, stream: &Arc<StreamInfo>) -> usize {
        if let Some(row) = self.streams.iter().position(|s| s.id == stream.id) {
            return row;
        }
        self.streams.push(Arc::clone(stream));
        self.heap.push(VecDeque::new());
        self.ends.push(None);
        self.streams.len() - 1
    }

    /// Since when something is missing before a packet, if it is: behind the one before. A
    /// packet is asked about once.
    fn lost(&mut self, row: usize, packet: &PacketEntry) -> Option<u64> {
        let before = self.ends[row].replace(packet.last);
        let since = before.map_or(packet.first, |end| end.saturating_add(1).min(packet.first));
        ((packet.lost, packet.missing) != (0, 0)).then_some(since)
    }

    /// New event classes are known before packets are that may have records of them.
    fn learn(&mut self) {
        let known = self.classes.len();
        if self.registry.len() == known {
            return;
        }
        let all = self.registry.all();
        for (place, class) in all.iter().enumerate().skip(known) {
            self.schedule.look(place, class);
            self.taken.iter_mut().for_each(|t| t.look(place, class));
        }
        self.classes = Classes::new(all);
    }
}

impl crate::gpu::Arrival for Told {
    fn in_gpu(&mut self, gpu: &GpuDevice, encoder: &mut CommandEncoder, packets: &[PacketEntry]) {
        let mut index = lock(&self.0);
        index.learn();
        let row = |p: &PacketEntry| {
            let row = index.row(&p.stream);
            (row, index.lost(row, p))
        };
        let rows: Vec<(usize, Option<u64>)> = packets.iter().map(row).collect();
        let Index { device: Some(timeline), device_knows, classes, schedule, taken, .. } =
            &mut *index
        else {
            return;
        };
        let arrivals: Vec<Arrival<'_>> = packets
            .iter()
            .zip(&rows)
            .filter_map(|(packet, (row, lost))| match &packet.place {
                Place::Gpu { buffer, offset } => Some(Arrival {
                    stream: *row as u32,
                    data: buffer,
                    offset: *offset as u32,
                    place: place(packet, *offset as u32),
                    lost: *lost,
                }),
                Place::Heap(_) => None,
            })
            .collect();
        let done = gpu.guard(|| {
            if *device_knows != classes.len() {
                *device_knows = classes.len();
                timeline.classes(classes.all().map(|c| &**c));
                schedule.begin(timeline);
                taken.iter_mut().for_each(|t| t.begin(timeline));
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
        let place = place(packet, 0);
        let walk = walk(bytes, &place, &index.classes);
        let found = walk.entries.len() as u32;
        let totals = &mut index.totals;
        totals.records = totals.records.wrapping_add(found);
        totals.aborted = totals.aborted.wrapping_add(walk.aborted);
        totals.missing = totals.missing.wrapping_add((packet.records as u32).wrapping_sub(found));
        totals.damaged += u32::from(walk.stop != timeline::Stop::End);
        let mut picks = Picks::default();
        let before = (index.lost(row, packet), packet.first);
        // Where records are missing that are to be there, nothing is known any more.
        let damaged = walk.entries.len() < place.room as usize;
        let filled = damaged.then(|| walk.filled(&place));
        let entries = filled.as_ref().unwrap_or(&walk.entries);
        index.schedule.pick(bytes, entries, before, &mut picks);
        index.taken.iter().for_each(|t| t.pick(bytes, entries, &mut picks));
        let walked = Walked { number: packet.number, entries: walk.entries, picks };
        index.heap[row].push_back(Arc::new(walked));
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

pub(super) fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
