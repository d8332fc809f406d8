//! What a receiver keeps of one session: as much as this, whatever comes in. A sender keeps to it,
//! so that what it sends is never in vain.

/// Streams.
pub(super) const MOST_STREAMS: u32 = 4096;
/// Event classes.
pub(super) const MOST_CLASSES: u32 = 4096;
/// Fields of one class.
pub(super) const MOST_FIELDS: usize = 4096;
/// Bytes of all descriptions of classes.
pub(super) const CLASS_BYTES: usize = 1 << 20;
/// Bytes of a channel's name.
pub(super) const LONGEST_NAME: usize = 255;
/// A record's payload is not longer than this.
pub(super) const LONGEST_PAYLOAD: usize = 64 << 10;
/// A body that comes in pieces: a record of the longest payload, coded badly.
pub(super) const LONGEST_BODY: usize = 2 * LONGEST_PAYLOAD + 256;
/// Words of one dictionary.
pub(super) const MOST_WORDS: usize = 4096;
/// Words of all dictionaries of a generation.
pub(super) const ALL_WORDS: usize = 16 << 10;
/// A longer text has no place in a dictionary.
pub(super) const LONGEST_WORD: usize = 64;
