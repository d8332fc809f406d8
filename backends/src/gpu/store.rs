//! What is kept of a channel's packets: an overwrite ring in the GPU's memory, and a table of
//! what is where, which is its time index.
//!
//! Packets are placed one after the other in *segments* (buffers that a shader can bind whole);
//! when all are full the oldest segment begins anew, and its packets leave the table at once.
//! With `memory = "direct"` each packet has its own buffer. Where there is no device, packets are
//! kept in ordinary memory, under the same table.
//!
//! Whoever binds what the table names holds the table's lock from looking until its commands are
//! submitted: the queue then runs them before anything that overwrites it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::frontend::PacketFacts;
use wgpu::Buffer;

use super::arrival::Arrival;
use super::config::Keep;

/// Packets begin at a multiple of this in their segment: any adapter can bind them there.
pub const ALIGNMENT: u64 = 256;

/// A packet that is kept.
#[derive(Clone, Debug)]
pub struct PacketEntry {
    /// Packets of a store are numbered from 0, as they came.
    pub number: u64,
    /// Its stream.
    pub stream: Arc<StreamInfo>,
    /// Its place in its stream.
    pub sequence: u64,
    /// The first record's time (the channel's clock, ns).
    pub first: u64,
    /// No record is later.
    pub last: u64,
    /// Bytes, with header.
    pub content: u64,
    /// Bytes that it takes, a multiple of 8.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
    /// Records that its stream lost since its last packet before this one came here.
    pub lost: u64,
    /// Packets of its stream that are missing before it (overwritten, failed).
    pub missing: u64,
    /// Where its bytes are.
    pub place: Place,
    /// Bytes of the memory that is its own; 0: it is in a segment.
    own: u64,
}

/// Where a packet's bytes are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a buffer of the device's.
    Gpu {
        /// It can be bound as storage, and copied from.
        buffer: Buffer,
        /// Where they begin, a multiple of [`ALIGNMENT`].
        offset: u64,
    },
    /// In ordinary memory.
    Heap(Arc<[u8]>),
}

/// What is kept of a channel.
pub struct Store {
    /// The channel's name.
    pub channel: String,
    pub(super) keep: Keep,
    table: Mutex<Table>,
}

/// The table, and the memory that it names.
#[derive(Default)]
pub struct Table {
    entries: VecDeque<PacketEntry>,
    /// The oldest segment first; the last one is being filled.
    segments: VecDeque<Segment>,
    /// The next one, made before it is wanted.
    ahead: Option<Buffer>,
    /// No more segments than this, once the device had no memory for another.
    most_segments: Option<usize>,
    /// Bytes that the entries take, and those of memory that is each one's own.
    bytes: u64,
    own: u64,
    /// All that ever came.
    packets: u64,
    records: u64,
    /// Gone with a lost device: packets, records.
    gone: (u64, u64),
    /// By stream: losses and sequence number of its last packet.
    last: Vec<(u64, u64)>,
    pub(super) arrival: Option<Box<dyn Arrival>>,
}

struct Segment {
    buffer: Buffer,
    /// Bytes taken.
    fill: u64,
    /// Entries in it.
    packets: usize,
    /// The newest record's time.
    newest: u64,
}

/// A table that is looked at: nothing is overwritten while this lives.
pub struct Kept<'a>(MutexGuard<'a, Table>);

impl Deref for Kept<'_> {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.0
    }
}

impl DerefMut for Kept<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.0
    }
}

impl Store {
    pub(super) fn new(channel: &str, keep: Keep) -> Self {
        Self { channel: channel.to_owned(), keep, table: Mutex::default() }
    }

    /// Holds the store still.
    pub fn lock(&self) -> Kept<'_> {
        Kept(self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has somebody told of each packet that comes from now on.
    pub fn on_arrival(&self, arrival: Box<dyn Arrival>) {
        self.lock().arrival = Some(arrival);
    }

    /// Bytes of a segment, for packets of at most `subbuf` bytes.
    pub(super) fn segment_size(&self, subbuf: u64, longest: u64) -> u64 {
        let wanted = match self.keep {
            Keep::Bytes(bytes) => bytes / 8,
            Keep::Time(_) => 16 << 20,
        };
        // Whole sub-buffers, so that full ones leave no gap at its end.
        let whole = wanted.min(longest) / subbuf * subbuf;
        whole.max(subbuf).next_multiple_of(ALIGNMENT)
    }
}

/// Room for a packet in a segment.
pub(super) enum Room {
    /// There.
    Here { buffer: Buffer, offset: u64 },
    /// A further segment is wanted.
    Another,
}

impl Table {
    /// The packets that are kept, in the order in which they came: each stream's in its own.
    pub fn packets(&self) -> impl Iterator<Item = &PacketEntry> {
        self.entries.iter()
    }

    /// The packets that may have records in [`from`, `to`).
    #[must_use]
    pub fn packets_in(&self, from: u64, to: u64) -> Vec<PacketEntry> {
        let is_in = |e: &&PacketEntry| e.first < to && e.last >= from;
        self.entries.iter().filter(is_in).cloned().collect()
    }

    /// The buffers that packets are in, each once, the oldest first.
    #[must_use]
    pub fn buffers(&self) -> Vec<Buffer> {
        let mut all: Vec<Buffer> = Vec::new();
        for entry in &self.entries {
            if let Place::Gpu { buffer, .. } = &entry.place
                && all.last() != Some(buffer)
            {
                all.push(buffer.clone());
            }
        }
        all
    }

    /// The times of the oldest and of the newest record that is kept.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        let first = self.entries.iter().map(|e| e.first).min()?;
        Some((first, self.entries.iter().map(|e| e.last).max()?))
    }

    /// The number of the oldest packet that is kept, or of the next one.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.entries.front().map_or(self.packets, |e| e.number)
    }

    /// Bytes of the packets that are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets and records that ever came.
    #[must_use]
    pub fn came(&self) -> (u64, u64) {
        (self.packets, self.records)
    }

    /// Packets and records that went with a lost device.
    #[must_use]
    pub fn gone(&self) -> (u64, u64) {
        self.gone
    }

    /// Looks for room in the segments; makes it, if that is the time.
    pub(super) fn room(&mut self, keep: Keep, size: u64, segment: u64, end: u64) -> Room {
        if let Some(here) = self.fill(size, end) {
            return here;
        }
        let most = self.most(keep, segment);
        let is_old = |s: &Segment| keep.time().is_some_and(|t| s.newest.saturating_add(t) < end);
        let begin_anew = self.segments.len() >= most
            || (self.segments.len() > 1 && self.segments.front().is_some_and(is_old));
        if !begin_anew {
            return Room::Another;
        }
        let Some(mut oldest) = self.segments.pop_front() else { return Room::Another };
        for _ in 0..oldest.packets {
            self.forget_oldest();
        }
        oldest = Segment { fill: 0, packets: 0, newest: 0, ..oldest };
        self.segments.push_back(oldest);
        self.fill(size, end).unwrap_or(Room::Another)
    }

    fn most(&self, keep: Keep, segment: u64) -> usize {
        let most = usize::try_from(keep.bytes() / segment).unwrap_or(usize::MAX).max(2);
        self.most_segments.map_or(most, |m| m.min(most))
    }

    /// Whether a further segment will be wanted soon.
    pub(super) fn wants_ahead(&self, keep: Keep, segment: u64) -> bool {
        let is_half_full = |s: &Segment| s.fill >= s.buffer.size() / 2;
        self.ahead.is_none()
            && self.segments.len() < self.most(keep, segment)
            && self.segments.back().is_none_or(is_half_full)
    }

    /// It was made.
    pub(super) fn have_ahead(&mut self, segment: Option<Buffer>) {
        if segment.is_none() && !self.segments.is_empty() {
            self.most_segments = Some(self.segments.len());
        }
        self.ahead = segment;
    }

    /// The segment that was made before it was wanted.
    pub(super) fn ahead(&mut self) -> Option<Buffer> {
        self.ahead.take()
    }

    fn fill(&mut self, size: u64, end: u64) -> Option<Room> {
        let segment = self.segments.back_mut()?;
        if segment.fill + size > segment.buffer.size() {
            return None;
        }
        let offset = segment.fill;
        segment.fill = (offset + size).next_multiple_of(ALIGNMENT);
        segment.packets += 1;
        segment.newest = segment.newest.max(end);
        Some(Room::Here { buffer: segment.buffer.clone(), offset })
    }

    /// One more segment; `None`: there is no memory for it, so there will be no more. False: and
    /// there are too few to go on with.
    pub(super) fn another(&mut self, segment: Option<Buffer>) -> bool {
        match segment {
            Some(buffer) => {
                self.segments.push_back(Segment { buffer, fill: 0, packets: 0, newest: 0 });
                true
            }
            None => {
                self.most_segments = Some(self.segments.len());
                self.segments.len() >= 2
            }
        }
    }

    /// A packet is kept.
    pub(super) fn insert(
        &mut self,
        stream: &Arc<StreamInfo>,
        facts: &PacketFacts,
        (bytes, own): (u64, u64),
        place: Place,
    ) -> &PacketEntry {
        let at = stream.id as usize;
        if self.last.len() <= at {
            self.last.resize(at + 1, (0, 0));
        }
        let (lost, sequence) = std::mem::replace(&mut self.last[at], (facts.lost, facts.sequence));
        let entry = PacketEntry {
            number: self.packets,
            stream: Arc::clone(stream),
            sequence: facts.sequence,
            first: facts.begin,
            last: facts.end,
            content: facts.content,
            bytes,
            records: facts.records,
            lost: facts.lost.saturating_sub(lost),
            missing: facts.sequence.saturating_sub(sequence + 1),
            place,
            own,
        };
        self.own += own;
        self.packets += 1;
        self.records += facts.records;
        self.bytes += bytes;
        self.entries.push_back(entry);
        &self.entries[self.entries.len() - 1]
    }

    /// Forgets the oldest packets that are more than is kept, where each has memory of its own;
    /// gives their buffers.
    pub(super) fn trim(&mut self, keep: Keep) -> Vec<Buffer> {
        let newest = self.entries.back().map_or(0, |e| e.last);
        let mut freed = Vec::new();
        while let Some(oldest) = self.entries.front() {
            let is_old = keep.time().is_some_and(|t| oldest.last.saturating_add(t) < newest);
            if self.own <= keep.bytes() && !is_old {
                break;
            }
            if let Some(PacketEntry { place: Place::Gpu { buffer, .. }, .. }) = self.forget_oldest()
            {
                freed.push(buffer);
            }
        }
        freed
    }

    /// Makes room in the table for one more entry; false: there is no memory for it.
    pub(super) fn has_room(&mut self) -> bool {
        self.entries.try_reserve(1).is_ok()
    }

    /// Forgets the oldest packets that are in ordinary memory: so many bytes of them, and an eighth
    /// of all; gives how many bytes went.
    pub(super) fn let_go(&mut self, wanted: u64) -> u64 {
        let (before, wanted) = (self.own, wanted.max(self.own / 8));
        let is_ordinary = |e: &PacketEntry| matches!(e.place, Place::Heap(_));
        while before - self.own < wanted && self.entries.front().is_some_and(is_ordinary) {
            self.forget_oldest();
        }
        before - self.own
    }

    fn forget_oldest(&mut self) -> Option<PacketEntry> {
        let gone = self.entries.pop_front()?;
        self.bytes -= gone.bytes;
        self.own -= gone.own;
        let oldest = self.oldest();
        if let Some(arrival) = &mut self.arrival {
            arrival.forgotten(oldest);
        }
        Some(gone)
    }

    /// The device is lost, and what was in its memory with it.
    pub(super) fn lose_device(&mut self) {
        self.segments.clear();
        self.ahead = None;
        let is_lost = |e: &PacketEntry| matches!(e.place, Place::Gpu { .. });
        let lost = self.entries.iter().filter(|e| is_lost(e));
        let (mut packets, mut bytes, mut own) = (0, 0, 0);
        for entry in lost {
            packets += 1;
            self.gone.1 += entry.records;
            bytes += entry.bytes;
            own += entry.own;
        }
        self.gone.0 += packets;
        self.bytes -= bytes;
        self.own -= own;
        self.entries.retain(|e| !is_lost(e));
        let oldest = self.oldest();
        if let Some(arrival) = self.arrival.as_mut().filter(|_| packets > 0) {
            arrival.forgotten(oldest);
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("channel", &self.channel).finish_non_exhaustive()
    }
}
