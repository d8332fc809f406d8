//! Where the records of a store are in time, and how many are in each column of a picture: on
//! the device, or, of packets in ordinary memory, here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::class::{ClassId, ClassRegistry};
use rbpipe_core::decode::Classes;
use wgpu::CommandEncoder;

use super::super::arrival::Arrival;
use super::super::compute::{self, ComputeError, Pending, Timeline};
use super::super::config::Kind;
use super::super::device::Gpu;
use super::super::store::{PacketEntry, Place, Store};
use crate::timeline::{self, Entry, Rows, Window, count_rows};

/// Event classes that are counted apart.
const CLASSES: usize = 1024;
/// Entries of an index, at least and at most: 1 MiB and 512 MiB of video memory.
const ENTRIES: (u64, u64) = (1 << 16, 1 << 25);

/// Events of each stream, and of each class, in each column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bins {
    /// By the stream's number.
    pub(super) streams: BTreeMap<u32, Vec<u32>>,
    /// By the class's place in the registry.
    pub(super) classes: Vec<Vec<u32>>,
}

/// What is known of the records of a store.
pub(super) struct Index {
    registry: Arc<ClassRegistry>,
    known: usize,
    decode: Classes,
    /// `None`: there is no device that could count.
    timeline: Option<(Arc<Gpu>, Timeline)>,
    /// What came into ordinary memory, by stream: packets' numbers and their records.
    heap: BTreeMap<u32, VecDeque<(u64, Vec<Entry>)>>,
}

pub(super) type Shared = Arc<Mutex<Index>>;

fn lock(index: &Shared) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    /// With so many bytes of memory for entries, where there is a device.
    pub(super) fn shared(
        device: Option<&Arc<Gpu>>,
        registry: &Arc<ClassRegistry>,
        bytes: u64,
    ) -> Shared {
        let entries = (bytes / 16).clamp(ENTRIES.0, ENTRIES.1);
        // One that only copies cannot count.
        let device = device.filter(|gpu| gpu.kind != Kind::Noop);
        let timeline = device.and_then(|gpu| {
            let made = gpu.guard(|| Timeline::new(&gpu.device, &gpu.queue, entries));
            match made? {
                Ok(timeline) => Some((Arc::clone(gpu), timeline)),
                Err(e) => {
                    tracing::warn!("GPU {}: {e}: pictures are counted by the processor", gpu.name);
                    None
                }
            }
        });
        let (registry, heap) = (Arc::clone(registry), BTreeMap::new());
        let decode = Classes::default();
        Arc::new(Mutex::new(Self { registry, known: 0, decode, timeline, heap }))
    }

    /// New event classes, if there are.
    fn learn(&mut self) {
        if self.registry.len() == self.known {
            return;
        }
        let all = self.registry.all();
        self.known = all.len();
        self.decode = Classes::new(all.iter().cloned());
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.classes(all.iter().map(|class| &**class));
        }
    }
}

/// What is known of a packet before its records are.
fn place(packet: &PacketEntry, room: u32) -> timeline::Place {
    timeline::Place {
        header: packet.stream.class.header_size(),
        content: u32::try_from(packet.content).unwrap_or(u32::MAX),
        begin: packet.first,
        end: packet.last,
        base: 0,
        skip: 0,
        room,
    }
}

/// Told of what comes into the store.
pub(super) struct Arriving(pub(super) Shared);

impl Arrival for Arriving {
    fn in_gpu(&mut self, gpu: &Gpu, encoder: &mut CommandEncoder, packets: &[PacketEntry]) {
        let mut index = lock(&self.0);
        index.learn();
        let Some((_, timeline)) = &mut index.timeline else { return };
        let in_buffers = packets.iter().filter_map(|packet| {
            let Place::Gpu { buffer, offset } = &packet.place else { return None };
            let place = place(packet, u32::try_from(packet.records).unwrap_or(u32::MAX));
            let offset = u32::try_from(*offset).ok()?;
            Some(compute::Arrival { stream: packet.stream.id, data: buffer, offset, place })
        });
        let packets: Vec<_> = in_buffers.collect();
        if let Err(e) = timeline.arrive(encoder, &packets) {
            tracing::warn!("GPU {}: {e}: a picture lacks records", gpu.name);
        }
    }

    fn in_heap(&mut self, packet: &PacketEntry, bytes: &[u8]) {
        let mut index = lock(&self.0);
        index.learn();
        // What a lost device had has left the store.
        index.timeline.take_if(|(gpu, _)| gpu.is_lost());
        let walk = timeline::walk(bytes, &place(packet, u32::MAX), &index.decode);
        let stream = index.heap.entry(packet.stream.id).or_default();
        stream.push_back((packet.number, walk.entries));
    }

    fn forgotten(&mut self, oldest: u64) {
        for packets in lock(&self.0).heap.values_mut() {
            let gone = packets.iter().take_while(|(number, _)| *number < oldest).count();
            packets.drain(..gone);
        }
    }
}

/// Counts what is in a window.
///
/// # Errors
/// The device does not.
pub(super) fn count(
    index: &Shared,
    store: &Store,
    window: &Window,
    classes: usize,
) -> Result<Bins, String> {
    let classes: Vec<u32> =
        (0..classes.min(CLASSES) as u32).map(|i| ClassId::from_index(i).number()).collect();
    let mut again = true;
    loop {
        let (gpu, was_missing, asked) = {
            // Nothing is overwritten between what is asked for and its submission.
            let _table = store.lock();
            let mut index = lock(index);
            index.timeline.take_if(|(gpu, _)| gpu.is_lost());
            let Some((gpu, timeline)) = &index.timeline else {
                return Ok(here(&index.heap, window, &classes));
            };
            let ask = || Ok((timeline.density(window)?, timeline.by_class(window, &classes)?));
            (Arc::clone(gpu), timeline.totals().missing, gpu.guard(ask))
        };
        let failed = |e: ComputeError| format!("GPU {}: {e}", gpu.name);
        let lost = || format!("GPU {}: its driver panicked", gpu.name);
        let (streams, by_class) = asked.ok_or_else(lost)?.map_err(failed)?;
        let wait = |pending: Pending<Vec<u32>>| gpu.guard(|| pending.wait()).ok_or_else(lost);
        let streams = wait(streams)?.map_err(failed)?;
        let by_class = wait(by_class)?.map_err(failed)?;
        // Records that were given up have no class, and are counted as records until it is known
        // that there are some, which it is now.
        let missing = lock(index).timeline.as_ref().map_or(0, |(_, t)| t.totals().missing);
        if was_missing == 0 && missing > 0 && std::mem::take(&mut again) {
            continue;
        }
        let columns = window.columns as usize;
        return Ok(Bins {
            streams: (0..).zip(streams.chunks_exact(columns).map(<[u32]>::to_vec)).collect(),
            classes: by_class.chunks_exact(columns).map(<[u32]>::to_vec).collect(),
        });
    }
}

/// Counts packets that are in ordinary memory.
fn here(
    heap: &BTreeMap<u32, VecDeque<(u64, Vec<Entry>)>>,
    window: &Window,
    classes: &[u32],
) -> Bins {
    let columns = window.columns as usize;
    let mut of_classes = vec![0; classes.len() * columns];
    let (each, mut streams) = (Rows::each(classes), BTreeMap::new());
    for (stream, packets) in heap {
        let bins = streams.entry(*stream).or_insert_with(|| vec![0; columns]);
        for (_, entries) in packets {
            let is_in = entries.first().is_some_and(|e| e.time() < window.to)
                && entries.last().is_some_and(|e| e.time() >= window.from);
            if !is_in {
                continue;
            }
            for entry in entries {
                if let Some(column) = window.column(entry.time()) {
                    bins[column as usize] += 1;
                }
            }
            let counted = count_rows(entries, window, &each);
            of_classes.iter_mut().zip(counted).for_each(|(sum, n)| *sum += n);
        }
    }
    Bins { streams, classes: of_classes.chunks_exact(columns).map(<[u32]>::to_vec).collect() }
}
