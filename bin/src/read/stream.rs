//! One stream file, read packet by packet into a buffer that is used again.
//!
//! A file that a killed writer left is read up to its last whole packet; what is wrong is
//! said once, and that file ends there. Nothing that the file says is believed before it is
//! held against the file's length.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rbpipe_core::decode::{Cursor, Record};
use rbpipe_core::packet::{MAX_HEADER, PacketHeader};

use super::tsdl::{Metadata, Stream};

/// No packet of ours is larger (a sub-buffer has 64 MiB at most).
const LARGEST: u64 = 64 << 20;

/// A stream file being read.
pub struct StreamReader<'m> {
    metadata: &'m Metadata,
    /// Its path.
    pub path: PathBuf,
    file: File,
    length: u64,
    /// Where the next packet begins.
    pub next: u64,
    header: Option<PacketHeader>,
    stream: Option<&'m Stream>,
    content: Vec<u8>,
    cursor: Cursor,
    /// What could not be read, if anything.
    pub damage: Option<String>,
    /// Cumulative events_discarded of the last packet.
    pub discarded: u64,
    /// Packets that are missing, by their sequence numbers.
    pub packets_lost: u64,
    last_sequence: Option<u64>,
    /// Losses that the current packet told: events, packets.
    pub lost_here: (u64, u64),
}

impl<'m> StreamReader<'m> {
    /// Opens a stream file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, metadata: &'m Metadata) -> anyhow::Result<Self> {
        let file =
            File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
        Self::of(path, file, metadata)
    }

    /// Reads a file that is open.
    ///
    /// # Errors
    /// It does not say how long it is.
    pub fn of(path: &Path, file: File, metadata: &'m Metadata) -> anyhow::Result<Self> {
        let length = file.metadata().with_context(|| path.display().to_string())?.len();
        Ok(Self {
            metadata,
            path: path.to_owned(),
            file,
            length,
            next: 0,
            header: None,
            stream: None,
            content: Vec::new(),
            cursor: Cursor::new(0, 0),
            damage: None,
            discarded: 0,
            packets_lost: 0,
            last_sequence: None,
            lost_here: (0, 0),
        })
    }

    /// The header of the current packet.
    pub fn header(&self) -> Option<&PacketHeader> {
        self.header.as_ref()
    }

    /// The current packet's stream class.
    pub fn stream(&self) -> Option<&'m Stream> {
        self.stream
    }

    /// A part of the current packet.
    pub fn bytes(&self, (from, to): (usize, usize)) -> &[u8] {
        self.content.get(from..to).unwrap_or_default()
    }

    /// Goes to the next packet. False: there is none, or it is damaged.
    pub fn next_packet(&mut self) -> bool {
        if self.damage.is_some() || self.next >= self.length {
            return false;
        }
        match self.read_packet() {
            Ok(()) => true,
            Err(e) => {
                let left = self.length - self.next;
                self.damage = Some(format!("the last {left} bytes are left out: {e}"));
                false
            }
        }
    }

    fn read_packet(&mut self) -> Result<(), String> {
        let left = self.length - self.next;
        let mut head = [0; MAX_HEADER];
        let n = left.min(MAX_HEADER as u64) as usize;
        self.read_at(&mut head[..n], self.next)?;
        let metadata = self.metadata;
        let class_of = |id| metadata.streams.get(&id).map(|s| s.class);
        let header = PacketHeader::decode(&head[..n], class_of).map_err(|e| e.to_string())?;
        if header.packet_size > left {
            return Err(
                "a packet is not whole (it is being written just now, or its writer was killed)"
                    .into(),
            );
        }
        if header.content_size > LARGEST {
            return Err(format!("a packet of {} bytes is none of rbpipe's", header.content_size));
        }
        let mut content = std::mem::take(&mut self.content);
        content.resize(header.content_size as usize, 0);
        let read = self.read_at(&mut content, self.next);
        self.content = content;
        read?;
        self.next += header.packet_size;
        self.stream = self.metadata.streams.get(&header.stream_class_id);
        self.cursor = Cursor::new(header.stream_class.header_size() as usize, header.begin);
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
        self.header = Some(header);
        Ok(())
    }

    fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), String> {
        self.file.read_exact_at(to, at).map_err(|e| e.to_string())
    }

    /// The next record of the current packet.
    #[inline]
    pub fn next_record(&mut self) -> Option<Record> {
        match self.cursor.next(&self.content, &self.stream?.classes) {
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
