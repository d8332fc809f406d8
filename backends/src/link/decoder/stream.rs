//! One stream of the sender, as it arrives.

use std::collections::VecDeque;

use super::super::{LinkStream, Missing, Receive, Received, Totals};
use super::frame::{Decoding, Frame, Key};

/// A frame that waits for an announcement, or behind one that does.
pub(super) struct Held {
    pub(super) body: Vec<u8>,
    pub(super) missing: Option<Key>,
    /// The sender's time when it is given up (ticks).
    pub(super) until: u64,
    /// How often it was read again.
    pub(super) reads: u8,
}

/// A stream's books.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) who: Option<LinkStream>,
    /// Records sent up to the last frame that arrived, held ones included.
    pub(super) arrived: u64,
    /// Where that frame began (ticks since the session's start).
    pub(super) base: Option<i64>,
    pub(super) held: VecDeque<Held>,
    /// Records of it were delivered, or its end.
    heard: bool,
    /// Records sent up to the last frame that was delivered.
    next: u64,
    /// Records lost at the sender, as told up to there.
    gone: u64,
    told: Option<(Totals, bool)>,
}

impl Stream {
    /// What the decoding has read goes to who waits for it; `false`: the frame contradicts those
    /// before it. (`start`, `tick`, and whether the session was heard from its beginning.)
    pub(super) fn deliver(
        &mut self,
        number: u32,
        frame: &Frame,
        decoding: &Decoding,
        (start, tick, from_the_start): (u64, u64, bool),
        to: &mut impl Receive,
    ) -> bool {
        let Some(line) = frame.sent.checked_sub(self.next) else { return false };
        let gone = match frame.totals {
            // In the middle of a stream they tell of losses that come behind records that are still to be sent.
            Some((totals, true)) => totals.lost.saturating_add(totals.overwritten).max(self.gone),
            Some((_, false)) => self.gone,
            None => frame.gone,
        };
        let Some(ring) = gone.checked_sub(self.gone) else { return false };
        // Totals in the middle tell what was sent, and not yet what was lost: until the first frame
        // of records all that is missing is from before.
        let mut missing = if self.heard || from_the_start {
            Missing { ring, line, before: 0 }
        } else {
            Missing { ring: 0, line: 0, before: ring.saturating_add(line) }
        };
        self.heard |= frame.totals.is_none_or(|(_, last)| last);
        self.next = frame.sent + frame.count;
        self.gone = gone;
        let base = start.wrapping_add_signed(frame.base.unwrap_or(0));
        for item in &decoding.items {
            missing.ring = missing.ring.saturating_add(item.lost);
            self.gone = self.gone.saturating_add(item.lost);
            let Some((begin, end)) = item.payload else {
                missing.line += 1;
                continue;
            };
            tell(number, &mut missing, to);
            to.record(Received {
                stream: number,
                time: base.saturating_add(item.ticks).saturating_mul(tick),
                class: item.class,
                payload: &decoding.bytes[begin..end],
            });
        }
        missing.line += frame.count - decoding.items.len() as u64;
        tell(number, &mut missing, to);
        if let Some(totals) = frame.totals
            && self.told != Some(totals)
        {
            self.told = Some(totals);
            to.totals(number, &totals.0, totals.1);
        }
        true
    }
}

fn tell(number: u32, missing: &mut Missing, to: &mut impl Receive) {
    if *missing != Missing::default() {
        to.missing(number, *missing);
        *missing = Missing::default();
    }
}
