//! The index of a live backend's records in video memory, and what a picture of it shows.
//!
//! ```text
//! on arrival   timeline.classes(…)                    when there are new event classes
//!              timeline.arrive(&mut encoder, packets)  behind the copies into the store
//!              queue.submit(encoder)                   before anything else is asked
//! each frame   timeline.density(&window)?.wait()?
//! ```
//!
//! One lock around it serves an owner thread and a picture's thread: it is held from `arrive`
//! to the submission, and while a frame is asked for, but not while it is waited for.

use std::sync::{Arc, Mutex, PoisonError};

use rbpipe_core::class::EventClass;
use wgpu::{BufferUsages, CommandEncoder};

use super::kernel::empty;
use super::pick::{LaneStates, Picked, Picker, Take};
use super::walk::{Walker, totals};
use super::{Compute, ComputeError, Index, Pending, Run, Spot, Totals, Wanted, class_table};
use crate::timeline::{Aggregate, Filter, Place, Rows, Scheduler, Threads, Window};

/// A packet in the store.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// Its stream: streams count from 0, and have a row of the picture each.
    pub stream: u32,
    /// The buffer that it lies in: `STORAGE`, not larger than a binding.
    pub data: &'a wgpu::Buffer,
    /// Where it begins in the buffer, in bytes: a multiple of 4.
    pub offset: u32,
    /// What is known of it: `room` is how many records it has. Its `skip` is not used.
    pub place: Place,
    /// Since when records of its stream are missing before it, if some are.
    pub lost: Option<u64>,
}

/// See the module.
pub struct Timeline {
    compute: Compute,
    walker: Walker,
    index: Index,
    buffers: Vec<wgpu::Buffer>,
    pickers: Vec<Picker>,
    seen: Arc<Mutex<Seen>>,
}

/// What frames have learned.
#[derive(Default)]
struct Seen {
    /// As the last one saw them.
    totals: Totals,
    /// How many records were missing when `suspect` was set.
    missing: u32,
    /// So many of the first pages may have entries of records that are missing.
    suspect: u64,
}

/// Walks that are dispatched together: the buffers of packets and of entries that they see.
type Groups<'a> = Vec<(&'a wgpu::Buffer, usize, Vec<Spot>)>;

/// The largest and the smallest page, in entries.
const PAGE: (u64, u64) = (1 << 16, 1 << 8);

impl Timeline {
    /// An index of at least `entries` entries (16 bytes each) of video memory. Its pages are
    /// given to streams whole: let there be some more entries than are wanted for each stream.
    ///
    /// # Errors
    /// More than 2^32 pages.
    pub fn new(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        entries: u64,
    ) -> Result<Self, ComputeError> {
        let compute = Compute::new(device, queue);
        let page = (entries / 512).next_power_of_two().clamp(PAGE.1, PAGE.0);
        let per_buffer = (compute.binding_size() / 16 / page).clamp(1, 1 << 15);
        let pages = entries.div_ceil(page).max(4);
        let count = u32::try_from(pages)
            .map_err(|_| ComputeError(format!("an index of {entries} entries is too large")))?;
        let buffers = (0..pages.div_ceil(per_buffer)).map(|i| {
            let mine = per_buffer.min(pages - i * per_buffer);
            empty(device, "index", mine * page * 16, BufferUsages::STORAGE)
        });
        Ok(Self {
            walker: Walker::new(&compute),
            index: Index::new(page as u32, per_buffer as u32, count),
            buffers: buffers.collect(),
            pickers: Vec::new(),
            seen: Arc::default(),
            compute,
        })
    }

    /// The shaders, for what is not here.
    #[must_use]
    pub fn compute(&self) -> &Compute {
        &self.compute
    }
    /// Which stream's entries lie where.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }
    /// The buffers that entries lie in.
    #[must_use]
    pub fn buffers(&self) -> &[wgpu::Buffer] {
        &self.buffers
    }
    /// What was found in packets, as of the last frame that was waited for.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).totals
    }
    /// Asks for the same as it stands.
    pub fn ask_totals(&self) -> Pending<Totals> {
        self.walker.totals(&self.compute)
    }

    /// From now on these are the event classes, in the order of their ids. Packets that arrive
    /// later may have them.
    pub fn classes<'a>(&mut self, classes: impl IntoIterator<Item = &'a EventClass>) {
        self.walker.classes(&self.compute, &class_table(classes));
    }

    /// Has a field taken out of records that arrive from now on; gives its number, for
    /// [`Timeline::states`] and [`Timeline::values`].
    pub fn pick(&mut self, picker: Picker) -> usize {
        self.pickers.push(picker);
        self.pickers.len() - 1
    }

    /// More of the scheduler's events are known from now on.
    pub fn know(&mut self, picked: usize, scheduler: Scheduler) {
        if let Some(picker) = self.pickers.get_mut(picked) {
            picker.take = Take::Switches(scheduler);
        }
    }

    /// Who ran on each stream's CPU in each column, until a time, stream after stream, and what
    /// processes are called: of what is picked with [`Take::Switches`]. `None`: nothing is.
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn states(
        &self,
        field: usize,
        window: &Window,
        until: u64,
    ) -> Option<Result<Pending<LaneStates>, ComputeError>> {
        let picker = self.pickers.get(field)?;
        Some(picker.states(&self.compute, self.index.streams(), window, until))
    }

    /// What these processes did: [`threads`](crate::timeline::threads) of what is picked with
    /// [`Take::Switches`]. `None`: nothing is.
    ///
    /// # Errors
    /// More columns and processes than the device binds at once.
    pub fn threads(
        &self,
        picked: usize,
        window: &Window,
        times: (u64, u64),
        tasks: &[u32],
    ) -> Option<Result<Pending<Threads>, ComputeError>> {
        let picker = self.pickers.get(picked)?;
        Some(picker.threads(&self.compute, self.index.streams(), window, times, tasks))
    }

    /// What the values of all streams have in common in each column: of a field that is picked
    /// with [`Take::Values`]. A column that a stream's older values have
    /// been overwritten of has `None`. `None` of all: no such field.
    ///
    /// # Errors
    /// More columns than the device binds at once.
    pub fn values(
        &self,
        field: usize,
        window: &Window,
    ) -> Option<Result<Pending<Vec<Option<Aggregate>>>, ComputeError>> {
        let picker = self.pickers.get(field)?;
        Some(picker.values(&self.compute, self.index.streams(), window))
    }

    #[cfg(test)]
    pub(super) fn pickers(&self) -> &[Picker] {
        &self.pickers
    }

    /// Lets go of what is older, in whole pages.
    pub fn forget(&mut self, before: u64) {
        self.index.forget(before);
    }

    /// Encodes that these packets get their entries, each stream's in the order in which they
    /// come. The oldest entries of the index make room. Of a packet with more records than the
    /// whole index, the last ones are in it.
    ///
    /// # Errors
    /// A packet that lies outside its buffer. None of the packets that are encoded with it
    /// then get what their entries say: the index counts them, and no class has them.
    pub fn arrive(
        &mut self,
        encoder: &mut CommandEncoder,
        packets: &[Arrival<'_>],
    ) -> Result<(), ComputeError> {
        self.index.next_batch();
        let (mut groups, mut picks) = (Groups::new(), Vec::new());
        for packet in packets {
            let (records, lane) = (packet.place.room, packet.stream);
            let (begin, end) = (packet.place.begin, packet.place.end);
            let most = u32::try_from(self.index.capacity()).unwrap_or(u32::MAX);
            let mut skip = records.saturating_sub(most);
            // What is left out of it is missing.
            let (mut lost, mut since) = match skip {
                0 => (packet.lost, Some(begin)),
                _ => (packet.lost.or(Some(begin)), None),
            };
            // A packet without records is walked, too: it may have some that were given up.
            loop {
                let part = self.index.place(packet.stream, records - skip, begin, end);
                let Some(part) = part else {
                    self.encode(encoder, &mut groups, &mut picks)?;
                    self.index.next_batch();
                    continue;
                };
                let last = skip + part.len == records;
                let place = Place { skip, room: part.len, ..packet.place };
                let spot = Spot { place, data: packet.offset, entry: part.first, last };
                let is_its = |g: &&mut (&wgpu::Buffer, usize, Vec<Spot>)| {
                    g.0 == packet.data && g.1 == part.buffer
                };
                match groups.iter_mut().rfind(is_its) {
                    Some((_, _, spots)) => spots.push(spot),
                    None => groups.push((packet.data, part.buffer, vec![spot])),
                }
                if !self.pickers.is_empty() {
                    let (lost, begin) = (lost.take(), since.take());
                    let (data, buffer) = (packet.data, part.buffer);
                    picks.push(Picked { data, buffer, lane, spot, lost, begin });
                }
                skip += part.len;
                if last {
                    break;
                }
            }
        }
        self.encode(encoder, &mut groups, &mut picks)
    }

    fn encode<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        groups: &mut Groups<'a>,
        picks: &mut Vec<Picked<'a>>,
    ) -> Result<(), ComputeError> {
        let mut result = Ok(());
        for (data, entries, spots) in std::mem::take(groups) {
            let entries = &self.buffers[entries];
            let done = self.walker.encode(&self.compute, encoder, data, entries, &spots);
            result = result.and(done);
        }
        for picker in &mut self.pickers {
            picker.encode(&self.compute, encoder, &self.buffers, picks);
        }
        picks.clear();
        result
    }

    /// Events of each stream in each column, stream after stream: by search where it can be,
    /// whatever their number. (As long as the index has pages that records may be missing in,
    /// because a packet was damaged, all entries are looked at instead. A frame learns it from
    /// the one before: in that one they are counted.)
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn density(&self, window: &Window) -> Result<Pending<Vec<u32>>, ComputeError> {
        let (runs, rows) = (self.index.runs(), self.index.streams());
        let (compute, buffers, other) =
            (&self.compute, &self.buffers, Some(self.walker.totals_buffer()));
        let (pending, bins) = if self.is_whole() {
            compute.density_and(buffers, &runs, rows, window, other)?
        } else {
            let all = Wanted::from(&Filter::all());
            compute.count_and(buffers, &runs, rows, window, &all, other)?
        };
        let seen = Arc::clone(&self.seen);
        Ok(pending.map(move |mut words| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.totals = totals(&words[bins..]);
            words.truncate(bins);
            words
        }))
    }

    /// Whether each entry of the index is a record, as far as is known.
    pub(super) fn is_whole(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.totals.missing != seen.missing {
            seen.missing = seen.totals.missing;
            seen.suspect = self.index.taken();
        }
        !self.index.has_of_first(seen.suspect)
    }

    /// Events of the wanted classes in each column, stream after stream, row after row: looks
    /// at all entries in the window.
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn count(
        &self,
        window: &Window,
        wanted: &Wanted,
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        self.compute.count(&self.buffers, &self.index.runs(), self.index.streams(), window, wanted)
    }

    /// Events of each of these classes in each column, class after class, of all streams
    /// together.
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn by_class(
        &self,
        window: &Window,
        classes: &[u32],
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        let runs: Vec<Run> = self.index.runs().into_iter().map(|r| Run { row: 0, ..r }).collect();
        self.compute.count(&self.buffers, &runs, 1, window, &Wanted::from(&Rows::each(classes)))
    }
}
