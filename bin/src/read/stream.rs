//! One stream file, read packet by packet into a buffer that is used again.
//!
//! A file that a killed writer left is read up to its last whole packet; what is wrong is
//! said once, and that file ends there. Nothing that the file says is believed before it is
//! held against the file's length. Packets that are not wanted are passed by their headers.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rbpipe_core::decode::{Cursor, Record};
use rbpipe_core::packet::{MAX_HEADER, PacketHeader};

use super::event::{Event, Lost, Origin};
use super::moment::Extent;
use super::tsdl::{Metadata, Stream};

/// No packet of ours is larger (a sub-buffer has 64 MiB at most).
const LARGEST: u64 = 64 << 20;

/// Which packets are read; of the others, the headers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Not those that end before, in nanoseconds since the epoch.
    pub from: u64,
    /// Not those that begin after.
    pub to: u64,
    /// Of these streams alone; empty: of all.
    pub streams: Vec<u64>,
    /// Of these CPUs alone; empty: of all.
    pub cpus: Vec<u32>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { from: 0, to: u64::MAX, streams: Vec::new(), cpus: Vec::new() }
    }
}

impl Wanted {
    /// Whether a moment is within it.
    #[inline]
    pub fn has(&self, time: u64) -> bool {
        (self.from..=self.to).contains(&time)
    }

    /// Whether a stream is.
    pub fn has_origin(&self, from: &Origin) -> bool {
        (self.streams.is_empty() || self.streams.contains(&from.stream))
            && (self.cpus.is_empty() || from.cpu().is_some_and(|cpu| self.cpus.contains(&cpu)))
    }
}

/// A stream file being read.
pub struct StreamReader {
    metadata: Arc<Metadata>,
    /// The metadata's: asked for with every event.
    offset: u64,
    /// Its path.
    pub path: PathBuf,
    file: File,
    length: u64,
    /// Where the next packet begins.
    pub next: u64,
    header: Option<PacketHeader>,
    stream: Option<Arc<Stream>>,
    content: Vec<u8>,
    cursor: Cursor,
    wanted: Arc<Wanted>,
    /// It may grow: a packet that is not whole is waited for.
    growing: bool,
    /// Its damage was asked for.
    told: bool,
    /// What could not be read, if anything.
    pub damage: Option<String>,
    /// Cumulative events_discarded of the last packet.
    pub discarded: u64,
    /// Packets that are missing, by their sequence numbers.
    pub packets_lost: u64,
    last_sequence: Option<u64>,
    /// Losses that the current packet told: events, packets.
    lost_here: (u64, u64),
}

/// What was found where a packet begins.
enum Found {
    Wanted,
    Unwanted,
    /// Its beginning.
    Part,
}

impl StreamReader {
    /// Opens a stream file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, metadata: &Arc<Metadata>) -> anyhow::Result<Self> {
        let file =
            File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
        Self::of(path, file, metadata)
    }

    /// Reads a file that is open.
    ///
    /// # Errors
    /// It does not say how long it is.
    pub fn of(path: &Path, file: File, metadata: &Arc<Metadata>) -> anyhow::Result<Self> {
        let length = file.metadata().with_context(|| path.display().to_string())?.len();
        Ok(Self {
            metadata: Arc::clone(metadata),
            offset: metadata.clock_offset,
            path: path.to_owned(),
            file,
            length,
            next: 0,
            header: None,
            stream: None,
            content: Vec::new(),
            cursor: Cursor::new(0, 0),
            wanted: Arc::default(),
            growing: false,
            told: false,
            damage: None,
            discarded: 0,
            packets_lost: 0,
            last_sequence: None,
            lost_here: (0, 0),
        })
    }

    /// Only these packets.
    pub fn want(&mut self, wanted: &Arc<Wanted>) {
        self.wanted = Arc::clone(wanted);
    }

    /// It is being written, or it is not any more.
    pub fn set_growing(&mut self, growing: bool) {
        self.growing = growing;
    }

    /// Whether it may grow.
    pub fn is_growing(&self) -> bool {
        self.growing
    }

    /// Device and inode.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.file.metadata().ok().map(|m| (m.dev(), m.ino()))
    }

    /// The same file, from its beginning.
    pub fn again(&self) -> Option<Self> {
        Self::of(&self.path, self.file.try_clone().ok()?, &self.metadata).ok()
    }

    /// What could not be read, if it has not been asked for before.
    pub fn new_damage(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.told, self.damage.is_some()) {
            return None;
        }
        self.damage.clone()
    }

    /// Looks how long the file is by now. False: it has no name any more.
    pub fn grow(&mut self) -> bool {
        let Ok(found) = self.file.metadata() else { return true };
        self.length = found.len();
        if self.length < self.next && self.damage.is_none() {
            self.damage = Some("it was cut while it was read; what comes is left out".into());
        }
        found.nlink() > 0
    }

    /// What there is to describe the packets that come.
    pub fn describe(&mut self, metadata: &Arc<Metadata>) {
        self.metadata = Arc::clone(metadata);
        self.offset = metadata.clock_offset;
    }

    /// From the clock's zero to the epoch.
    #[inline]
    pub fn clock_offset(&self) -> u64 {
        self.offset
    }

    /// The header of the current packet.
    #[inline]
    pub fn header(&self) -> Option<&PacketHeader> {
        self.header.as_ref()
    }

    /// A record of the current packet as an event; `None`: it was given up.
    #[inline]
    pub fn event(&self, record: &Record) -> Option<Event<'_>> {
        let (header, stream) = (self.header.as_ref()?, self.stream.as_ref()?);
        Some(Event {
            time: record.time.wrapping_add(self.offset),
            from: Origin::from(header),
            class: stream.classes.get(record.class?)?,
            payload: self.bytes(record.payload),
        })
    }

    /// What the current packet says is missing before it.
    pub fn lost(&self) -> Option<Lost> {
        let (events, packets) = self.lost_here;
        let from = Origin::from(self.header.as_ref()?);
        ((events, packets) != (0, 0)).then_some(Lost { from, events, packets, on_the_way: None })
    }

    /// A part of the current packet.
    #[inline]
    pub fn bytes(&self, (from, to): (usize, usize)) -> &[u8] {
        self.content.get(from..to).unwrap_or_default()
    }

    /// From when to when its events go, by the packets' headers; `None`: it has none. Reads to
    /// its end.
    pub fn extent(&mut self) -> Option<Extent> {
        self.wanted = Arc::new(Wanted { from: u64::MAX, ..Wanted::default() });
        let mut extent = None;
        while self.damage.is_none() && self.next < self.length {
            let found = self.read_packet();
            let Some(h) = self.header.filter(|_| found.is_ok()) else { break };
            if h.content_size > u64::from(h.stream_class.header_size()) {
                let at = |t: u64| t.saturating_add(self.metadata.clock_offset);
                let begin = extent.map_or(at(h.begin), |e: Extent| e.begin.min(at(h.begin)));
                let end = extent.map_or(at(h.end), |e: Extent| e.end.max(at(h.end)));
                extent = Some(Extent { begin, end });
            }
            if matches!(found, Ok(Found::Part)) {
                break;
            }
        }
        extent
    }

    /// Goes to the next packet. False: there is none (yet), or it is damaged.
    pub fn next_packet(&mut self) -> bool {
        while self.damage.is_none() && self.next < self.length {
            match self.read_packet() {
                Ok(Found::Wanted) => return true,
                Ok(Found::Unwanted) => {}
                Ok(Found::Part) => return false,
                Err(e) => {
                    let left = self.length - self.next;
                    self.damage = Some(format!("the last {left} bytes are left out: {e}"));
                }
            }
        }
        false
    }

    fn read_packet(&mut self) -> Result<Found, String> {
        let left = self.length - self.next;
        let mut head = [0; MAX_HEADER];
        let n = left.min(MAX_HEADER as u64) as usize;
        if self.growing && n < MAX_HEADER {
            return Ok(Found::Part);
        }
        self.read_at(&mut head[..n], self.next)?;
        let metadata = &self.metadata;
        let class_of = |id| metadata.streams.get(&id).map(|s| s.class);
        let header = PacketHeader::decode(&head[..n], class_of).map_err(|e| e.to_string())?;
        if header.content_size > LARGEST {
            return Err(format!("a packet of {} bytes is none of rbpipe's", header.content_size));
        }
        if header.packet_size > left {
            if self.growing && header.packet_size <= 2 * LARGEST {
                return Ok(Found::Part);
            }
            return Err(
                "a packet is not whole (it is being written just now, or its writer was killed)"
                    .into(),
            );
        }
        let wanted = self.wanted.has_origin(&Origin::from(&header));
        let in_time = {
            let at = |t: u64| t.saturating_add(metadata.clock_offset);
            at(header.end) >= self.wanted.from && at(header.begin) <= self.wanted.to
        };
        if wanted && in_time {
            let mut content = std::mem::take(&mut self.content);
            content.resize(header.content_size as usize, 0);
            let read = self.read_at(&mut content, self.next);
            self.content = content;
            read?;
        } else {
            self.content.clear();
        }
        self.next += header.packet_size;
        self.stream = self.metadata.streams.get(&header.stream_class_id).cloned();
        self.cursor = Cursor::new(header.stream_class.header_size() as usize, header.begin);
        self.header = Some(header);
        if !wanted {
            return Ok(Found::Unwanted);
        }
        let gap = self
            .last_sequence
            .map_or(header.sequence, |last| header.sequence.wrapping_sub(last).wrapping_sub(1));
        // A sequence that goes back is another writer's, not 2^64 lost packets.
        let gap = if gap > u64::MAX / 2 { 0 } else { gap };
        let more = header.discarded.saturating_sub(self.discarded);
        self.lost_here = (more, gap);
        self.packets_lost = self.packets_lost.saturating_add(gap);
        self.discarded = header.discarded;
        self.last_sequence = Some(header.sequence);
        Ok(if in_time { Found::Wanted } else { Found::Unwanted })
    }

    fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), String> {
        self.file.read_exact_at(to, at).map_err(|e| e.to_string())
    }

    /// The next record of the current packet.
    #[inline]
    pub fn next_record(&mut self) -> Option<Record> {
        match self.cursor.next(&self.content, &self.stream.as_ref()?.classes) {
            Ok(record) => record,
            Err(e) => {
                let at = self.next.saturating_sub(self.header.map_or(0, |h| h.packet_size));
                self.damage =
                    Some(format!("in the packet at byte {at}: {e}; the rest is left out"));
                None
            }
        }
    }
}
