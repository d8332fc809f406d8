//! The sender's half.

use std::sync::Arc;

use rbpipe_core::class::EventClass;

use super::{LinkOptions, LinkRecord, LinkStream, Totals};

/// Makes frames of records.
pub struct Encoder {}

impl Encoder {
    /// A link's beginning.
    #[must_use]
    pub fn new(options: LinkOptions) -> Self {
        let _ = options;
        unimplemented!()
    }
    /// A new stream; gives its number.
    pub fn stream(&mut self, stream: LinkStream) -> u32 {
        let _ = stream;
        unimplemented!()
    }
    /// The port was opened again: a new generation, everything is announced anew.
    pub fn reopened(&mut self) {
        unimplemented!()
    }
    /// Everything is announced again before it is next used, and who the sender is at once.
    pub fn resync(&mut self) {
        unimplemented!()
    }
    /// What is due at `now` (CLOCK_MONOTONIC, ns) whatever is sent: who the sender is, every 2 s.
    pub fn due(&mut self, now: u64, out: &mut Vec<u8>) {
        let _ = (now, out);
        unimplemented!()
    }
    /// One frame with as many of these records of one stream as fit, in their order, and before
    /// it what has to be announced for it; appended to `out`. Gives how many were taken: at least
    /// one, where there is one. `classes`: by their places; it only grows.
    ///
    /// A record that no frame holds goes out in several; one of more than 64 KiB does not, and is
    /// counted: it is taken and told as lost (see [`Encoder::too_big`]).
    pub fn frame(
        &mut self,
        stream: u32,
        now: u64,
        classes: &[Arc<EventClass>],
        records: &[LinkRecord<'_>],
        out: &mut Vec<u8>,
    ) -> usize {
        let _ = (stream, now, classes, records, out);
        unimplemented!()
    }
    /// Records of this stream that were too big for the link, so far.
    #[must_use]
    pub fn too_big(&self, stream: u32) -> u64 {
        let _ = stream;
        unimplemented!()
    }
    /// What became of a stream's records so far; `last`: there will be no more. To be sent once a
    /// second for each stream with something new, and at the end.
    pub fn totals(&mut self, stream: u32, totals: &Totals, last: bool, out: &mut Vec<u8>) {
        let _ = (stream, totals, last, out);
        unimplemented!()
    }
    /// Answers a line of the other side.
    pub fn reply(&mut self, line: &str, out: &mut Vec<u8>) {
        let _ = (line, out);
        unimplemented!()
    }
    /// How many records a frame of this stream holds, as far as can be told: a mean of the last
    /// ones; at first a guess.
    #[must_use]
    pub fn typical(&self, stream: u32) -> usize {
        let _ = stream;
        unimplemented!()
    }
}
