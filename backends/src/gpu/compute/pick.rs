//! Takes a field out of records as they arrive: the states of each stream's lane, or values.

use wgpu::{BufferUsages, CommandEncoder};

use super::kernel::{Params, empty, upload_params, words_bytes};
use super::{Compute, ComputeError, Pending, Spot};
use crate::timeline::{Field, Window};

/// What becomes of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is the state that the stream's lane is in from then on: `next_pid` of a
    /// `sched_switch`. Its low 32 bits tell states apart; the first 1022 of them that come get
    /// a number of their own, the others share 1023. 0 is what is not known, as behind a loss.
    States,
    /// It is a value, beside its time.
    Values,
}

/// The value that each state stands for, from state 1 on; `None`: no value has had it yet.
pub type StateNames = Vec<Option<u32>>;

/// The state of each stream in each column, stream after stream, and what states stand for.
pub type LaneStates = (Vec<u32>, StateNames);

/// Names of states in the shader.
const NAMES: usize = 1022;
const STATES: u32 = 0x100;
const SIGNED: u32 = 0x200;

/// A field that is taken out of records: for each stream a ring of the newest of them.
pub struct Picker {
    field: Field,
    take: Take,
    streams: u32,
    lanes: wgpu::Buffer,
    rings: wgpu::Buffer,
    names: wgpu::Buffer,
}

/// A packet whose entries are made.
pub(super) struct Picked<'a> {
    pub data: &'a wgpu::Buffer,
    /// Which buffer its entries are in.
    pub buffer: usize,
    pub lane: u32,
    pub spot: Spot,
    pub lost: bool,
}

impl Picker {
    /// For so many streams (those beyond are left out), the newest `capacity` of each.
    ///
    /// # Errors
    /// Rings that are larger than the device binds at once.
    pub fn new(
        compute: &Compute,
        field: Field,
        take: Take,
        streams: u32,
        capacity: u32,
    ) -> Result<Self, ComputeError> {
        let (capacity, device) = (capacity.max(1), &compute.device);
        let bytes = (u64::from(streams) * u64::from(capacity)).saturating_mul(16);
        if bytes > compute.binding_size() || bytes / 16 > u64::from(u32::MAX) {
            return Err(ComputeError(format!(
                "{capacity} transitions of {streams} streams are {bytes} bytes, and this GPU's \
                 shaders see {}: keep fewer",
                compute.binding_size()
            )));
        }
        let lanes: Vec<u32> =
            (0..streams.max(1)).flat_map(|s| [s * capacity, capacity, 0, 0]).collect();
        let list = empty(device, "lanes", lanes.len() as u64 * 4, BufferUsages::STORAGE);
        compute.queue.write_buffer(&list, 0, &words_bytes(&lanes));
        Ok(Self {
            field,
            take,
            streams,
            lanes: list,
            rings: empty(device, "transitions", bytes, BufferUsages::STORAGE),
            names: empty(device, "names of states", NAMES as u64 * 4, BufferUsages::STORAGE),
        })
    }

    /// Encodes it for these packets, behind the walks that make their entries.
    pub(super) fn encode(
        &self,
        compute: &Compute,
        encoder: &mut CommandEncoder,
        buffers: &[wgpu::Buffer],
        packets: &[Picked<'_>],
    ) {
        // A dispatch sees one buffer of packets and one of entries. Each stream's packets are
        // to be gone through in their order, so none is put before an earlier one of its stream.
        let mut dispatches: Vec<(&wgpu::Buffer, usize, Vec<&Picked<'_>>)> = Vec::new();
        let mut last = vec![0; self.streams as usize];
        for packet in packets.iter().filter(|p| p.lane < self.streams) {
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
            let used = [&turns, &places, *data, entries, &self.lanes, &self.rings, &self.names];
            let group = compute.pick.bind(&compute.device, &uniform, &used);
            compute.pick.dispatch(&mut pass, &group, place, params[place].count);
        }
    }

    fn params(&self, first: u32, count: u32) -> Params {
        let mut wanted = self.field.bytes;
        if self.take == Take::States {
            wanted |= STATES;
        }
        if self.field.signed {
            wanted |= SIGNED;
        }
        Params { first, count, columns: self.field.class, a: self.field.offset, b: wanted }
    }

    /// See [`super::Timeline::states`].
    pub(super) fn states(
        &self,
        compute: &Compute,
        streams: u32,
        window: &Window,
    ) -> Result<Pending<LaneStates>, ComputeError> {
        let lanes = streams.min(self.streams);
        let twice = compute.bins(lanes, window, 8)?;
        let list = (&self.lanes, lanes, twice);
        let names = Some(&self.names);
        let pending = compute.states_in(&self.rings, list, NAMES as u32 + 2, window, names)?;
        let bins = twice as usize / 8;
        Ok(pending.map(move |mut words| {
            let names = words[bins..].iter().take(NAMES).map(|key| key.checked_sub(1)).collect();
            words.truncate(bins);
            (words, names)
        }))
    }

    /// What is in the rings, stream after stream, the oldest first, and the names: for tests.
    #[cfg(test)]
    pub(super) fn read(&self, read: impl Fn(&wgpu::Buffer) -> Vec<u32>) -> Vec<Vec<[u32; 4]>> {
        let (lanes, rings) = (read(&self.lanes), read(&self.rings));
        let at = |i: u32| rings[i as usize * 4..][..4].try_into().unwrap_or_default();
        let lane = |l: &[u32]| (0..l[3]).map(|i| at(l[0] + (l[2] + i) % l[1])).collect();
        lanes.chunks_exact(4).take(self.streams as usize).map(lane).collect()
    }
}

fn words(packet: &Picked<'_>) -> [u32; 8] {
    let (spot, begin) = (&packet.spot, packet.spot.place.begin);
    [
        // An entry's offset has the packet's base in it.
        spot.data.wrapping_sub(spot.place.base),
        spot.entry,
        spot.place.room,
        packet.lost.into(),
        begin as u32,
        (begin >> 32) as u32,
        0,
        0,
    ]
}
