//! Takes something out of records as they arrive: what each CPU's scheduler tells, or values.

use wgpu::{BufferUsages, CommandEncoder};

use super::kernel::{Params, empty, upload_params};
use super::rings::Rings;
use super::{Compute, ComputeError, Pending, Spot};
use crate::timeline::{Aggregate, Field, Held, Kind, Name, Scheduler, Threads, Window};

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// What the scheduler's events tell of a stream's CPU: see
    /// [`switches`](crate::timeline::switches).
    Switches(Scheduler),
    /// A field's values, each beside its time.
    Values(Field),
}

/// What states are called, as far as that is still known: each as it was told last (of several
/// packets that came together: in any of them).
pub type StateNames = Vec<(u32, Name)>;

/// What each stream was in in each column, stream after stream, and what states are called.
pub type LaneStates = (Vec<Held>, StateNames);

/// States whose names are known in the shader, and words of one.
const LABELS: usize = 2048;
const LABEL: usize = 6;
const SIGNED: u32 = 0x200;

/// What is taken out of records: for each stream a ring of the newest of it.
pub struct Picker {
    /// More of the scheduler's events may come to be known.
    pub(super) take: Take,
    rings: Rings,
    labels: wgpu::Buffer,
}

/// A packet whose entries are made.
pub(super) struct Picked<'a> {
    pub data: &'a wgpu::Buffer,
    /// Which buffer its entries are in.
    pub buffer: usize,
    pub lane: u32,
    pub spot: Spot,
    /// From when on something is missing before it.
    pub lost: Option<u64>,
    /// From when on nothing is; `None`: its first records are not among the entries.
    pub begin: Option<u64>,
}

impl Picker {
    /// For so many streams (those beyond are left out), the newest `capacity` of each; more of
    /// those of which there is more, if the others do not need it.
    ///
    /// # Errors
    /// Rings that are larger than the device binds at once.
    pub fn new(
        compute: &Compute,
        take: Take,
        streams: u32,
        capacity: u32,
    ) -> Result<Self, ComputeError> {
        let rings = Rings::new(compute, streams, capacity)?;
        let bytes = (LABELS * LABEL * 4) as u64;
        let labels = empty(&compute.device, "names", bytes, BufferUsages::STORAGE);
        Ok(Self { take, rings, labels })
    }

    /// Encodes it for these packets, behind the walks that make their entries.
    pub(super) fn encode(
        &mut self,
        compute: &Compute,
        encoder: &mut CommandEncoder,
        buffers: &[wgpu::Buffer],
        packets: &[Picked<'_>],
    ) {
        self.rings.share(compute, encoder);
        // A dispatch sees one buffer of packets and one of entries. Each stream's packets are
        // to be gone through in their order, so none is put before an earlier one of its stream.
        let mut dispatches: Vec<(&wgpu::Buffer, usize, Vec<&Picked<'_>>)> = Vec::new();
        let mut last = vec![0; self.rings.streams as usize];
        for packet in packets.iter().filter(|p| p.lane < self.rings.streams) {
            let last = &mut last[packet.lane as usize];
            let fits = |(data, buffer, _): &(&wgpu::Buffer, usize, Vec<_>)| {
                *data == packet.data && *buffer == packet.buffer
            };
            match dispatches[*last..].iter().position(fits) {
                Some(place) => *last += place,
                None => {
                    *last = dispatches.len();
                    dispatches.push((packet.data, packet.buffer, Vec::new()));
                }
            }
            dispatches[*last].2.push(packet);
        }
        let (mut turns, mut places, mut params) = (Vec::new(), Vec::new(), Vec::new());
        for (_, _, packets) in &mut dispatches {
            packets.sort_by_key(|p| p.lane);
            let first = turns.len() as u32 / 4;
            for mine in packets.chunk_by(|a, b| a.lane == b.lane) {
                turns.extend([mine[0].lane, places.len() as u32 / 8, mine.len() as u32, 0]);
                places.extend(mine.iter().flat_map(|p| words(p)));
            }
            params.push(self.params(first, turns.len() as u32 / 4 - first));
        }
        if params.is_empty() {
            return;
        }
        let uniform = upload_params(&compute.device, &compute.queue, &params);
        let (turns, places) = (compute.upload("turns", &turns), compute.upload("packets", &places));
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (place, (data, buffer, _)) in dispatches.iter().enumerate() {
            let entries = &buffers[*buffer];
            let Rings { lanes, rings, .. } = &self.rings;
            let mut used = vec![&turns, &places, *data, entries, lanes, rings];
            let kernel = match self.take {
                Take::Values(_) => &compute.pick,
                Take::Switches(_) => {
                    used.push(&self.labels);
                    &compute.switches
                }
            };
            let group = kernel.bind(&compute.device, &uniform, &used);
            kernel.dispatch(&mut pass, &group, place, params[place].count);
        }
    }

    fn params(&self, first: u32, count: u32) -> Params {
        let bytes = |f: &Field| f.bytes | if f.signed { SIGNED } else { 0 };
        let mut params = Params { first, count, columns: u32::MAX, ..Params::default() };
        match &self.take {
            Take::Values(field) => {
                (params.columns, params.a, params.b) = (field.class, field.offset, bytes(field));
            }
            Take::Switches(scheduler) => {
                if let Some(s) = &scheduler.switch {
                    params.columns = s.next.class;
                    params.more[0] = [s.prev.offset, bytes(&s.prev), s.left.offset, bytes(&s.left)];
                    let (name, len) = s.name.map_or((0, 0), |l| (l.offset, l.bytes));
                    params.more[1] = [s.next.offset, bytes(&s.next), name, len];
                }
                for (words, wake) in params.more[2..].iter_mut().zip(&scheduler.wakes) {
                    *words = [u32::MAX; 4];
                    if let Some(wake) = wake {
                        let kind = if wake.early { Kind::Waking } else { Kind::Woken };
                        let task = &wake.task;
                        *words = [task.class, task.offset, bytes(task), kind as u32];
                    }
                }
            }
        }
        params
    }

    /// See [`super::Timeline::states`].
    pub(super) fn states(
        &self,
        compute: &Compute,
        streams: u32,
        window: &Window,
        until: u64,
    ) -> Result<Pending<LaneStates>, ComputeError> {
        let Rings { lanes, rings, .. } = &self.rings;
        let others = [&self.labels, lanes];
        let most = self.rings.streams.min(compute.most_lanes(window.columns));
        let mine = (lanes, streams.min(most));
        let pending = compute.states_in(rings, mine, (window, until), &others)?;
        let told = self.rings.told();
        Ok(pending.map(|(held, mut labels)| {
            told(labels.split_off((LABELS * LABEL).min(labels.len())));
            (held, labels.chunks(LABEL).filter_map(named).collect())
        }))
    }

    /// See [`super::Timeline::threads`].
    pub(super) fn threads(
        &self,
        compute: &Compute,
        streams: u32,
        window: &Window,
        times: (u64, u64),
        tasks: &[u32],
    ) -> Result<Pending<Threads>, ComputeError> {
        let Rings { lanes, rings, .. } = &self.rings;
        let mine = (lanes, streams.min(self.rings.streams));
        compute.threads_in(rings, mine, window, times, tasks)
    }

    /// See [`super::Timeline::values`].
    pub(super) fn values(
        &self,
        compute: &Compute,
        streams: u32,
        window: &Window,
    ) -> Result<Pending<Vec<Option<Aggregate>>>, ComputeError> {
        let Rings { lanes, rings, .. } = &self.rings;
        let mine = (lanes, streams.min(self.rings.streams));
        let pending = compute.aggregate_rings(rings, mine, window, lanes)?;
        let told = self.rings.told();
        Ok(pending.map(|(all, lanes)| {
            told(lanes);
            all
        }))
    }

    /// What is in the rings, stream after stream, the oldest first: for tests.
    #[cfg(test)]
    pub(super) fn read(&self, read: impl Fn(&wgpu::Buffer) -> Vec<u32>) -> Vec<Vec<[u32; 4]>> {
        let (lanes, rings) = (read(&self.rings.lanes), read(&self.rings.rings));
        let at = |i: u32| rings[i as usize * 4..][..4].try_into().unwrap_or_default();
        let lane = |l: &[u32]| (0..l[3]).map(|i| at(l[0] + (l[2] + i) % l[1])).collect();
        lanes.chunks_exact(super::rings::LANE).take(self.rings.streams as usize).map(lane).collect()
    }
}

/// A state's name as it lies in the shader's table; `None`: there is none, or it is made of two
/// that were told at once.
fn named(label: &[u32]) -> Option<(u32, Name)> {
    let &[state, ref words @ .., sum] = label else { return None };
    let scatter = |n: u32| n.wrapping_mul(0x9e37_79b1);
    let all = words.iter().fold(state, |sum, word| scatter(sum ^ word) ^ (sum >> 15));
    let mut name = Name::default();
    for (bytes, word) in name.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    (state != 0 && all == sum).then_some((state, name))
}

fn words(packet: &Picked<'_>) -> [u32; 8] {
    let (spot, since) = (&packet.spot, packet.lost.unwrap_or(0));
    let begin = packet.begin.unwrap_or(u64::MAX);
    [
        // An entry's offset has the packet's base in it.
        spot.data.wrapping_sub(spot.place.base),
        spot.entry,
        spot.place.room,
        packet.lost.is_some().into(),
        since as u32,
        (since >> 32) as u32,
        begin as u32,
        (begin >> 32) as u32,
    ]
}
