//! The walker: makes entries of packets' records, on arrival.

use std::collections::HashMap;

use wgpu::{BufferUsages, CommandEncoder};

use super::kernel::{Params, empty, params_bytes, words_bytes};
use super::{Compute, ComputeError, Pending};
use crate::timeline::Place;

/// A packet, or the part of it whose entries lie together, as the walker goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// What is known of the packet, and which of its records these are.
    pub place: Place,
    /// Where it begins in its buffer, in bytes: a multiple of 4.
    pub data: u32,
    /// Its first entry's place in the buffer of entries.
    pub entry: u32,
    /// Whether this is the packet's only or last part.
    pub last: bool,
}

/// What all walks found together; each wraps at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that have an entry.
    pub records: u32,
    /// Records that were given up while they were written.
    pub aborted: u32,
    /// Records that were to be there and were not found: their entries are of no class.
    pub missing: u32,
    /// Packets that could not be read to their end.
    pub damaged: u32,
}

/// Words of a spot in the shader.
const SPOT: usize = 12;
/// Spots that may be encoded and not yet submitted.
const SPOTS: usize = 1 << 14;
/// The same of dispatches.
const DISPATCHES: usize = 1 << 10;
/// Invocations of a workgroup: packets that one after the other would be waited for.
const WALKERS: usize = 8;
/// Bind groups that are kept.
const GROUPS: usize = 256;

/// The walker's own buffers on a device.
///
/// What is encoded goes through rings of spots and parameters that the queue fills at its next
/// submission, so an encoder is to be submitted before 16 384 spots or 1024 calls more are
/// encoded.
pub struct Walker {
    spots: wgpu::Buffer,
    params: wgpu::Buffer,
    totals: wgpu::Buffer,
    classes: wgpu::Buffer,
    next_spot: usize,
    next_params: usize,
    groups: HashMap<(wgpu::Buffer, wgpu::Buffer), wgpu::BindGroup>,
}

impl Walker {
    /// One that knows no class yet.
    #[must_use]
    pub fn new(compute: &Compute) -> Self {
        let (device, storage) = (&compute.device, BufferUsages::STORAGE);
        let params = params_bytes(&[Params::default(); DISPATCHES]).len() as u64;
        Self {
            spots: empty(device, "packets", (SPOTS * SPOT * 4) as u64, storage),
            params: empty(device, "params", params, BufferUsages::UNIFORM),
            totals: empty(device, "totals", 16, storage),
            classes: compute.upload("classes", &[0]),
            next_spot: 0,
            next_params: 0,
            groups: HashMap::new(),
        }
    }

    /// From now on these are the event classes ([`super::class_table`]): what is encoded later
    /// is read with them.
    pub fn classes(&mut self, compute: &Compute, table: &[u32]) {
        self.classes = compute.upload("classes", table);
        self.groups.clear();
    }

    /// Encodes the walk through these packets, all in one buffer, with entries in one buffer
    /// that is none of the packets'. No two of them write the same entries.
    ///
    /// # Errors
    /// One of them lies outside a buffer. Nothing is encoded then.
    pub fn encode(
        &mut self,
        compute: &Compute,
        encoder: &mut CommandEncoder,
        data: &wgpu::Buffer,
        entries: &wgpu::Buffer,
        spots: &[Spot],
    ) -> Result<(), ComputeError> {
        let fits = |s: &&Spot| {
            u64::from(s.data) + u64::from(s.place.content) <= data.size()
                && s.data.is_multiple_of(4)
                && u64::from(s.entry) + u64::from(s.place.room) <= entries.size() / 16
        };
        if let Some(spot) = spots.iter().find(|s| !fits(s)) {
            return Err(ComputeError(format!(
                "a packet of {} bytes at byte {} with {} records lies outside its buffers",
                spot.place.content, spot.data, spot.place.room
            )));
        }
        for spots in spots.chunks(SPOTS / 4) {
            self.encode_some(compute, encoder, data, entries, spots);
        }
        Ok(())
    }

    fn encode_some(
        &mut self,
        compute: &Compute,
        encoder: &mut CommandEncoder,
        data: &wgpu::Buffer,
        entries: &wgpu::Buffer,
        spots: &[Spot],
    ) {
        if self.next_spot + spots.len() > SPOTS {
            self.next_spot = 0;
        }
        let first = self.next_spot;
        self.next_spot += spots.len();
        let place = self.next_params;
        self.next_params = (place + 1) % DISPATCHES;

        let words: Vec<u32> = spots.iter().flat_map(words).collect();
        compute.queue.write_buffer(&self.spots, (first * SPOT * 4) as u64, &words_bytes(&words));
        let count = spots.len() as u32;
        let params = params_bytes(&[Params { first: first as u32, count, ..Params::default() }]);
        compute.queue.write_buffer(&self.params, (place * params.len()) as u64, &params);

        if self.groups.len() >= GROUPS {
            self.groups.clear();
        }
        let group = self.groups.entry((data.clone(), entries.clone())).or_insert_with(|| {
            let used = [&self.spots, &self.classes, &self.totals, data, entries];
            compute.walk.bind(&compute.device, &self.params, &used)
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let workgroups = spots.len().div_ceil(WALKERS) as u32;
        compute.walk.dispatch(&mut pass, group, place, workgroups);
    }

    /// Asks for what all walks found by now.
    pub fn totals(&self, compute: &Compute) -> Pending<Totals> {
        compute.submit(compute.encoder("totals"), &[(&self.totals, 16)]).map(|w| totals(&w))
    }

    /// The buffer of totals, to be read back with other things.
    pub(super) fn totals_buffer(&self) -> &wgpu::Buffer {
        &self.totals
    }
}

pub(super) fn totals(words: &[u32]) -> Totals {
    let at = |i: usize| words.get(i).copied().unwrap_or(0);
    Totals { records: at(0), aborted: at(1), missing: at(2), damaged: at(3) }
}

fn words(spot: &Spot) -> [u32; SPOT] {
    let p = &spot.place;
    let (begin, end) = (p.begin, p.end);
    [
        spot.data,
        p.header,
        p.content,
        begin as u32,
        (begin >> 32) as u32,
        end as u32,
        (end >> 32) as u32,
        p.base,
        p.skip,
        p.room,
        spot.entry,
        spot.last.into(),
    ]
}
