//! Packet and record bytes: CTF 1.8, exactly as they lie in a sub-buffer.
//!
//! ```text
//! byte  0 magic u32        packet header
//!       4 uuid 16 bytes
//!      20 stream_id u32            which stream class of the trace
//!      24 stream_instance_id u64   which stream
//!      32 timestamp_begin u64      packet context
//!      40 timestamp_end u64
//!      48 content_size u64         bits, with headers
//!      56 packet_size u64          bits: content rounded up to 8 bytes
//!      64 packet_seq_num u64
//!      72 events_discarded u64     cumulative
//!      80 cpu_id u32 | tid i32 | nothing, by stream class
//!      84 or 80: records
//! record: 5 bits class id, 27 low bits of the time                       (compact, 4 bytes)
//!         5 bits of ones, 3 bits 0, class id u32, time u64               (extended, 13 bytes)
//!         payload, packed, little-endian
//! ```
//!
//! Nothing here touches a sub-buffer: functions give and take byte arrays. The deliverer
//! stores the header once, whole ([`crate::stream`]).
//!
//! A reservation that was given up becomes an event of its own size, because CTF 1.8 has
//! no padding inside a packet: class 28 without a field, 29 with `u8 n; bytes[n]` (payloads
//! of 1 to 256 bytes), 30 with `u32 n; bytes[n]` (longer ones). As all is packed, every
//! size is one of these.

use crate::class::ClassId;

/// CTF's packet magic.
pub const MAGIC: u32 = 0xC1FC_1FC1;
/// Bits of time in a compact record header.
pub const COMPACT_TIME_BITS: u32 = 27;
/// Bytes of a compact record header.
pub const COMPACT_HEADER: u32 = 4;
/// Bytes of an extended record header.
pub const EXTENDED_HEADER: u32 = 13;
/// The class number that says "extended" in a compact header.
pub const EXTENDED: u32 = 31;
/// Bytes before the field that only some stream classes have.
pub const COMMON_HEADER: u32 = 80;

/// What a stream's packets say of where their records came from; each kind that a channel
/// needs is a stream class of its own in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamClass {
    /// Nothing: one stream, or an origin that is no CPU.
    Plain,
    /// The CPU (`cpu_id`).
    Cpu,
    /// The thread whose records the packet holds (`tid`).
    Thread,
}

impl StreamClass {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Cpu, Self::Thread];

    /// Bytes of the packet header and context.
    #[must_use]
    pub const fn header_size(self) -> u32 {
        match self {
            Self::Plain => COMMON_HEADER,
            Self::Cpu | Self::Thread => COMMON_HEADER + 4,
        }
    }
    /// Its place among the three ids that a channel has in its trace.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Cpu => 1,
            Self::Thread => 2,
        }
    }
}

/// The longest packet header and context there is.
pub const MAX_HEADER: usize = COMMON_HEADER as usize + 4;

/// What a packet's header and context say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the format's own, in the file's picture")]
pub struct PacketHeader {
    pub uuid: [u8; 16],
    pub stream_class: StreamClass,
    pub stream_class_id: u32,
    pub stream_id: u64,
    pub begin: u64,
    pub end: u64,
    /// Bytes, with header.
    pub content_size: u64,
    /// Bytes, with header.
    pub packet_size: u64,
    pub sequence: u64,
    pub discarded: u64,
    /// cpu_id or tid; 0 where the stream class has none.
    pub origin: u32,
}

/// A packet's bytes in its file: the content rounded up to 8 bytes.
#[must_use]
pub const fn packet_size(content: u64) -> u64 {
    content.next_multiple_of(8)
}

impl PacketHeader {
    /// The bytes; the first `stream_class.header_size()` of them count.
    #[must_use]
    pub fn encode(&self) -> [u8; MAX_HEADER] {
        let mut b = [0; MAX_HEADER];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[4..20].copy_from_slice(&self.uuid);
        b[20..24].copy_from_slice(&self.stream_class_id.to_le_bytes());
        b[24..32].copy_from_slice(&self.stream_id.to_le_bytes());
        b[32..40].copy_from_slice(&self.begin.to_le_bytes());
        b[40..48].copy_from_slice(&self.end.to_le_bytes());
        b[48..56].copy_from_slice(&(self.content_size * 8).to_le_bytes());
        b[56..64].copy_from_slice(&(self.packet_size * 8).to_le_bytes());
        b[64..72].copy_from_slice(&self.sequence.to_le_bytes());
        b[72..80].copy_from_slice(&self.discarded.to_le_bytes());
        b[80..84].copy_from_slice(&self.origin.to_le_bytes());
        b
    }

    /// Reads a header back. `class_of` tells which stream class an id of the trace is;
    /// `None`: unknown.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words. Sizes are checked against each other and
    /// the header's own size; whether they fit the file is the caller's to check.
    pub fn decode(
        bytes: &[u8],
        class_of: impl Fn(u32) -> Option<StreamClass>,
    ) -> Result<Self, HeaderError> {
        let u32_at =
            |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let u64_at = |at: usize| {
            let b = bytes.get(at..at + 8)?;
            Some(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
        };
        let cut = HeaderError::Truncated;
        let magic = u32_at(0).ok_or(cut)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let stream_class_id = u32_at(20).ok_or(cut)?;
        let stream_class =
            class_of(stream_class_id).ok_or(HeaderError::StreamClass(stream_class_id))?;
        let header = u64::from(stream_class.header_size());
        let (content, packet) = (u64_at(48).ok_or(cut)?, u64_at(56).ok_or(cut)?);
        if content % 8 != 0 || packet % 8 != 0 || content > packet || content / 8 < header {
            return Err(HeaderError::Sizes { content, packet });
        }
        let origin = if stream_class == StreamClass::Plain { 0 } else { u32_at(80).ok_or(cut)? };
        let (begin, end) = (u64_at(32).ok_or(cut)?, u64_at(40).ok_or(cut)?);
        if begin > end {
            return Err(HeaderError::Times { begin, end });
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(bytes.get(4..20).ok_or(cut)?);
        Ok(Self {
            uuid,
            stream_class,
            stream_class_id,
            stream_id: u64_at(24).ok_or(cut)?,
            begin,
            end,
            content_size: content / 8,
            packet_size: packet / 8,
            sequence: u64_at(64).ok_or(cut)?,
            discarded: u64_at(72).ok_or(cut)?,
            origin,
        })
    }
}

/// The fields before [`COMMON_HEADER`] of a packet, as a copy, with another trace, sequence
/// number and cumulative loss; the packet itself is not touched. `None`: shorter than that.
#[must_use]
pub fn renumbered(
    packet: &[u8],
    uuid: [u8; 16],
    sequence: u64,
    discarded: u64,
) -> Option<[u8; COMMON_HEADER as usize]> {
    let mut head = *packet.first_chunk::<{ COMMON_HEADER as usize }>()?;
    head[4..20].copy_from_slice(&uuid);
    head[64..72].copy_from_slice(&sequence.to_le_bytes());
    head[72..80].copy_from_slice(&discarded.to_le_bytes());
    Some(head)
}

/// Why bytes are no packet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header.
    #[error("the packet header is cut off")]
    Truncated,
    /// Another magic number.
    #[error("no packet begins here (magic {0:#010x}, not {MAGIC:#010x})")]
    Magic(u32),
    /// A stream class that the metadata does not describe.
    #[error("stream class {0} is not in the metadata")]
    StreamClass(u32),
    /// Sizes (in bits) that contradict each other.
    #[error("impossible sizes (content {content} bits, packet {packet} bits)")]
    #[expect(missing_docs, reason = "named by the message")]
    Sizes { content: u64, packet: u64 },
    /// Begins after it ends.
    #[error("it begins at {begin} and ends at {end}")]
    #[expect(missing_docs, reason = "named by the message")]
    Times { begin: u64, end: u64 },
}

/// Which header a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHeader {
    /// 4 bytes: class id below 28 and a time less than 2^27 ns after the record before.
    Compact,
    /// 13 bytes: any class, full time.
    Extended,
}

impl RecordHeader {
    /// The smallest header for a record of class `id` at `now`, when the record before it
    /// in the packet was made at `last` or later (`None`: it is the packet's first, whose
    /// time the packet header tells).
    #[must_use]
    pub fn choose(id: ClassId, now: u64, last: Option<u64>) -> Self {
        let near = last.is_none_or(|last| now.wrapping_sub(last) >> COMPACT_TIME_BITS == 0);
        if id.number() < ClassId::FIRST_ABORTED && near { Self::Compact } else { Self::Extended }
    }
    /// Its bytes.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::Compact => COMPACT_HEADER,
            Self::Extended => EXTENDED_HEADER,
        }
    }
    /// The bytes of a compact header.
    #[must_use]
    pub const fn compact(id: u32, time: u64) -> [u8; COMPACT_HEADER as usize] {
        (((time as u32) << 5) | id).to_le_bytes()
    }
    /// The bytes of an extended header.
    #[inline]
    #[must_use]
    pub fn extended(id: u32, time: u64) -> [u8; EXTENDED_HEADER as usize] {
        let mut b = [0; EXTENDED_HEADER as usize];
        b[0] = EXTENDED as u8;
        b[1..5].copy_from_slice(&id.to_le_bytes());
        b[5..13].copy_from_slice(&time.to_le_bytes());
        b
    }
}

/// How a given-up reservation with that many payload bytes is told: its class number, and
/// the first bytes of its payload (how many count is the first of the pair).
#[must_use]
pub fn aborted(payload: u32) -> (u32, usize, [u8; 4]) {
    match payload {
        0 => (28, 0, [0; 4]),
        1..=256 => (29, 1, [(payload - 1) as u8, 0, 0, 0]),
        _ => (30, 4, (payload - 4).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(stream_class: StreamClass) -> PacketHeader {
        PacketHeader {
            uuid: *b"0123456789abcdef",
            stream_class,
            stream_class_id: 4,
            stream_id: 77,
            begin: 10,
            end: 20,
            content_size: 101,
            packet_size: packet_size(101),
            sequence: 3,
            discarded: 9,
            origin: if stream_class == StreamClass::Plain { 0 } else { 1 },
        }
    }

    #[test]
    fn header_reads_back() {
        for class in StreamClass::ALL {
            let h = header(class);
            let bytes = h.encode();
            let back =
                PacketHeader::decode(&bytes[..class.header_size() as usize], |_| Some(class));
            assert_eq!(back, Ok(h));
        }
    }

    #[test]
    fn damaged_headers_are_refused_not_believed() {
        let good = header(StreamClass::Cpu).encode();
        let decode = |b: &[u8]| PacketHeader::decode(b, |id| (id == 4).then_some(StreamClass::Cpu));
        for n in 0..good.len() {
            assert!(decode(&good[..n]).is_err(), "{n} bytes");
        }
        let with = |at: usize, v: u64| {
            let mut b = good;
            b[at..at + 8].copy_from_slice(&v.to_le_bytes());
            decode(&b)
        };
        assert!(with(56, 0).is_err(), "packet size 0 makes others loop for ever");
        assert!(with(48, 8).is_err(), "content smaller than the header");
        assert!(with(48, 999).is_err(), "no whole bytes");
        assert!(with(48, 1 << 40).is_err(), "content larger than the packet");
        assert!(with(32, 21).is_err(), "begins after it ends");
        assert!(with(0, 0).is_err(), "magic");
        assert!(with(20, 5).is_err(), "unknown stream class");
    }

    #[test]
    fn compact_only_while_the_time_is_near_and_the_id_small() {
        let c = |id, now, last| RecordHeader::choose(ClassId::from_index(id), now, last);
        let edge = 1 << COMPACT_TIME_BITS;
        assert_eq!(c(27, 100 + edge - 1, Some(100)), RecordHeader::Compact);
        assert_eq!(c(27, 100 + edge, Some(100)), RecordHeader::Extended);
        assert_eq!(c(28, 100, Some(100)), RecordHeader::Extended);
        assert_eq!(c(0, u64::MAX, None), RecordHeader::Compact);
    }

    #[test]
    fn every_size_can_be_given_up() {
        for n in (0..2000u32).chain([1 << 16, (64 << 20) - 84 - 4]) {
            let (id, bytes, length) = aborted(n);
            let told = match id {
                28 => 0,
                29 => 1 + u32::from(length[0]),
                _ => 4 + u32::from_le_bytes(length),
            };
            assert_eq!(told, n);
            assert!(bytes as u32 <= n);
        }
    }
}
