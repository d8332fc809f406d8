//! The link protocol: traces over a wire that loses, doubles and damages bytes.
//!
//! Bytes in, bytes out: nothing here knows a port, a clock or a channel. The sender is an
//! [`Encoder`], the receiver a [`Decoder`] that tells a [`Receive`] what it finds. What lies on
//! the wire is in docs/link.md.

mod bounds;
mod coder;
mod column;
mod decoder;
mod encoder;
mod layout;
mod model;
mod split;
mod wire;

use std::sync::Arc;

use rbpipe_core::class::EventClass;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// How a link is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// Nanoseconds of one step of time on the link: 1 to 1,000,000.
    pub tick: u64,
    /// Bytes of the longest frame as it lies on the wire, delimiter included: 64 to 4096.
    pub frame: usize,
    /// What is in use is announced again after this long (nanoseconds).
    pub announce_every: u64,
    /// A number for this run of the sender, unlike that of any other.
    pub session: u64,
    /// Nanoseconds from the sender's CLOCK_MONOTONIC's zero to the epoch.
    pub clock_offset: u64,
    /// Bits a second, for people.
    pub baud: u32,
    /// Others print text on the same line: each frame begins with a delimiter, too.
    pub mixed: bool,
}

/// Who a stream of the sender is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkStream {
    /// The sender's channel.
    pub channel: String,
    /// Its number in the channel.
    pub id: u32,
    /// Its CPU, where it has one.
    pub cpu: Option<u32>,
}

/// A record to be sent.
#[derive(Clone, Copy, Debug)]
pub struct LinkRecord<'a> {
    /// CLOCK_MONOTONIC, nanoseconds; not before the stream's record before it.
    pub time: u64,
    /// The place of its class in the list that the encoder is given.
    pub class: usize,
    /// Its payload, as it lies in a sub-buffer.
    pub payload: &'a [u8],
    /// Records of this stream that were lost (ring full, overwritten, given up for newer ones)
    /// between the record before and this one.
    pub lost_before: u64,
}

/// What became of a stream's records at the sender, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Offered to the stream: the sum of the others, once the stream has ended.
    pub produced: u64,
    /// Lost in the ring: it was full, or they were too big (for the link, too: the encoder adds
    /// those).
    pub lost: u64,
    /// Overwritten, or given up for newer or more important ones.
    pub overwritten: u64,
    /// Begun and given up by their writer.
    pub aborted: u64,
}

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// Which opening of its port this is; a new one has a new dictionary.
    pub generation: u8,
    /// Nanoseconds of one step of time.
    pub tick: u64,
    /// Nanoseconds from its CLOCK_MONOTONIC's zero to the epoch.
    pub clock_offset: u64,
    /// Bits a second that it thinks the line has.
    pub baud: u32,
}

/// A record that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its stream's number in the session.
    pub stream: u32,
    /// The sender's CLOCK_MONOTONIC, nanoseconds (a whole number of ticks).
    pub time: u64,
    /// Its class's number in the session.
    pub class: u32,
    /// Its payload, as it would lie in a sub-buffer.
    pub payload: &'a [u8],
}

/// What is missing before a record (or before a stream's end).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Lost at the sender: in its ring, or given up for others.
    pub ring: u64,
    /// Sent, and lost or damaged on the line.
    pub line: u64,
    /// Lost or sent before this receiver heard of the sender for the first time.
    pub before: u64,
}

/// Who is told what a decoder finds, in the order of the wire.
pub trait Receive {
    /// A sender said who it is: the first time, after a new opening of its port (same id), or
    /// another sender (another id: streams and classes are numbered anew).
    fn session(&mut self, session: &Session) {
        let _ = session;
    }
    /// A stream was announced for the first time in this session.
    fn stream(&mut self, number: u32, stream: &LinkStream) {
        let _ = (number, stream);
    }
    /// A class was announced for the first time in this session.
    fn class(&mut self, number: u32, class: &Arc<EventClass>) {
        let _ = (number, class);
    }
    /// A record; its stream and its class were announced before.
    fn record(&mut self, record: Received<'_>);
    /// Records of this stream are missing: before its next record, or before its end. `ring` may
    /// come late: in overwrite mode the sender knows only afterwards.
    fn missing(&mut self, stream: u32, missing: Missing) {
        let _ = (stream, missing);
    }
    /// What the sender counts in all; `last`: the stream has ended, and all that is missing has
    /// been told.
    fn totals(&mut self, stream: u32, totals: &Totals, last: bool) {
        let _ = (stream, totals, last);
    }
    /// Text that others printed on the line, as it came: lines with their ends.
    fn text(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }
    /// A line that the sender answers to one that it was sent.
    fn reply(&mut self, line: &str) {
        let _ = line;
    }
}

/// What a decoder has seen of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Bytes that came.
    pub bytes: u64,
    /// Frames that were whole.
    pub frames: u64,
    /// Stretches between delimiters that were neither a whole frame nor text.
    pub damaged: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// Bytes that were text.
    pub text: u64,
    /// Whole frames that mean nothing to this version, or contradict themselves.
    pub strange: u64,
    /// Openings of the port that came after the first.
    pub generations: u64,
    /// Frames that wait for an announcement.
    pub waiting: u64,
    /// Frames that waited in vain: their records count as lost on the line.
    pub given_up: u64,
    /// Bytes since the last whole frame.
    pub since_frame: u64,
}

#[cfg(test)]
mod tests;
