//! A packet's records as entries of the index: what the walker's shader does, with the
//! decoder that everything else reads packets with.

use rbpipe_core::class::ClassId;
use rbpipe_core::decode::{Classes, Cursor, DecodeError};
use rbpipe_core::packet::PacketHeader;

use super::{Entry, NO_CLASS};

/// What is known of a packet before its records are: from control words, or from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes of its header, behind which its records begin.
    pub header: u32,
    /// Bytes of its content, header included.
    pub content: u32,
    /// No record is earlier.
    pub begin: u64,
    /// No record is later.
    pub end: u64,
    /// What is added to the offset of each entry (and wraps): where the packet lies.
    pub base: u32,
    /// So many of its records get no entry: another part of the index has them.
    pub skip: u32,
    /// So many entries there are at most.
    pub room: u32,
}

impl Place {
    /// That of a whole packet that lies at `base`, by its header. A content of 4 GiB or more,
    /// which no packet has, counts as one of a byte less.
    #[must_use]
    pub fn of(header: &PacketHeader, base: u32) -> Self {
        Self {
            header: header.stream_class.header_size(),
            content: u32::try_from(header.content_size).unwrap_or(u32::MAX),
            begin: header.begin,
            end: header.end,
            base,
            skip: 0,
            room: u32::MAX,
        }
    }
}

/// How the way through a packet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stop {
    /// At its end.
    End = 0,
    /// At a record that goes beyond the packet's end.
    Truncated = 1,
    /// At a record of an event class that is not known.
    Class = 2,
    /// At a record that is earlier than the one before, or later than the packet.
    Time = 3,
    /// At a record that there was no room for.
    Room = 4,
}

/// A packet's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// An entry for each record that is not aborted, in order: sorted by time.
    pub entries: Vec<Entry>,
    /// Records that were given up while they were written.
    pub aborted: u32,
    /// The time of the last record; of none: when the packet begins.
    pub last: u64,
    /// How it ended: what is behind a damaged record cannot be read.
    pub stop: Stop,
}

impl Walk {
    /// The entries, and behind them those of [`NO_CLASS`] that the shader fills its room with
    /// where a packet has fewer records than it should: at the time of the last one.
    #[must_use]
    pub fn filled(&self, place: &Place) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.resize(place.room as usize, Entry::new(self.last, NO_CLASS, 0));
        entries
    }
}

/// Goes through the records of a packet (its bytes, from the header on). Whatever the bytes
/// are, it ends.
#[must_use]
pub fn walk(packet: &[u8], place: &Place, classes: &Classes) -> Walk {
    let content = &packet[..packet.len().min(place.content as usize)];
    let mut cursor = Cursor::new(place.header as usize, place.begin);
    let mut found = 0u32;
    // Where the next record's header begins: records lie one behind the other.
    let mut at = place.header as usize;
    let mut walk = Walk { entries: Vec::new(), aborted: 0, last: place.begin, stop: Stop::End };
    loop {
        let record = match cursor.next(content, classes) {
            Ok(Some(record)) => record,
            Ok(None) => return walk,
            Err(e) => {
                walk.stop = match e {
                    DecodeError::Truncated(_) => Stop::Truncated,
                    DecodeError::Class { .. } => Stop::Class,
                };
                return walk;
            }
        };
        if record.time < walk.last || record.time > place.end {
            walk.stop = Stop::Time;
            return walk;
        }
        walk.last = record.time;
        let offset = place.base.wrapping_add(at as u32);
        at = record.payload.1;
        let Some(class) = record.class else {
            walk.aborted += 1;
            continue;
        };
        if found >= place.skip {
            if walk.entries.len() as u32 >= place.room {
                walk.stop = Stop::Room;
                return walk;
            }
            let class = ClassId::from_index(class as u32).number();
            walk.entries.push(Entry::new(record.time, class, offset));
        }
        found += 1;
    }
}
