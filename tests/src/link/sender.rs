//! The sender: rings that lose, and what their books say.

use std::collections::VecDeque;

use fastrand::Rng;
use rbpipe_backends::link::{Encoder, LinkRecord, LinkStream, Totals};

use super::traffic::Traffic;

/// A record as it was offered.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Nanoseconds.
    pub time: u64,
    /// Its class's place.
    pub class: usize,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A record that went to the line, in a stream's order.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What it is.
    pub record: Offered,
    /// How many were sent before it.
    pub place: u64,
    /// Losses of the ring that were told up to it.
    pub ring: u64,
}

/// A stream: a ring of a few records in front of the encoder.
#[derive(Debug)]
pub struct Stream {
    /// Its number at the encoder.
    pub number: u32,
    /// Who it is.
    pub who: LinkStream,
    overwrite: bool,
    most: usize,
    /// Records with their numbers among those that were not aborted.
    ring: VecDeque<(u64, Offered)>,
    offered: u64,
    time: u64,
    /// The number of the next record, if nothing is lost before it.
    next: u64,
    /// Losses that are told later than they could be.
    withheld: u64,
    /// Losses that were told.
    pub told: u64,
    /// What was sent.
    pub sent: Vec<Sent>,
    /// The ring's books.
    pub totals: Totals,
    too_big: u64,
    /// What was last told of them.
    pub said: Option<Totals>,
}

impl Stream {
    /// An empty one.
    #[must_use]
    pub fn new(encoder: &mut Encoder, rng: &mut Rng, id: u32, most: usize, time: u64) -> Self {
        let cpu = rng.bool().then_some(id);
        let channel = ["trace", "a channel with a longer name", "c"][rng.usize(0..3)];
        let who = LinkStream { channel: channel.into(), id, cpu };
        let number = encoder.stream(who.clone());
        Self {
            number,
            who,
            overwrite: rng.bool(),
            most,
            ring: VecDeque::new(),
            offered: 0,
            time,
            next: 0,
            withheld: 0,
            told: 0,
            sent: Vec::new(),
            totals: Totals::default(),
            too_big: 0,
            said: None,
        }
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// A record is offered, at some time up to `now`.
    pub fn offer(&mut self, rng: &mut Rng, traffic: &Traffic, now: u64) {
        self.totals.produced += 1;
        if rng.u8(..) < 4 {
            self.totals.aborted += 1;
            return;
        }
        let number = self.offered;
        self.offered += 1;
        if self.ring.len() == self.most {
            if !self.overwrite {
                self.totals.lost += 1;
                return;
            }
            self.ring.pop_front();
            self.totals.overwritten += 1;
        }
        let gap = now.saturating_sub(self.time);
        self.time += if rng.u8(..) < 16 { gap } else { rng.u64(0..=gap.min(100_000)) };
        let class = traffic.class(rng);
        let payload = traffic.payload(rng, class, number);
        self.ring.push_back((number, Offered { time: self.time, class, payload }));
    }

    /// Sends a frame of what waits, at most so many records of it.
    ///
    /// # Panics
    /// If the encoder takes none, or more than there are.
    pub fn send(
        &mut self,
        encoder: &mut Encoder,
        rng: &mut Rng,
        traffic: &Traffic,
        now: u64,
        most: usize,
        out: &mut Vec<u8>,
    ) {
        let (mut next, mut withheld) = (self.next, self.withheld);
        let mut after = Vec::new();
        let records: Vec<LinkRecord<'_>> = self
            .ring
            .iter()
            .take(most)
            .map(|(number, r)| {
                let mut lost = number - next + withheld;
                // In overwrite mode some of it may be known late only.
                withheld = if self.overwrite && rng.u8(..) < 8 { rng.u64(0..=lost) } else { 0 };
                lost -= withheld;
                next = number + 1;
                after.push((next, withheld));
                LinkRecord { time: r.time, class: r.class, payload: &r.payload, lost_before: lost }
            })
            .collect();
        let before = encoder.too_big(self.number);
        let taken = encoder.frame(self.number, now, &traffic.classes, &records, out);
        assert!(taken > 0 && taken <= records.len(), "{taken} of {} taken", records.len());
        let lost: Vec<u64> = records[..taken].iter().map(|r| r.lost_before).collect();
        let too_big = encoder.too_big(self.number) - before;
        assert!(too_big == 0 || (too_big, taken) == (1, 1), "one that is too big is alone");
        for lost in lost {
            self.told += lost;
            let (_, record) = self.ring.pop_front().expect("it was among them");
            if too_big > 0 {
                self.too_big += 1;
                self.told += 1;
            } else {
                let place = self.sent.len() as u64;
                self.sent.push(Sent { record, place, ring: self.told });
            }
        }
        (self.next, self.withheld) = after[taken - 1];
    }

    /// The books with what was too big for the link in them, as they are heard.
    #[must_use]
    pub fn books(&self) -> Totals {
        Totals { lost: self.totals.lost + self.too_big, ..self.totals }
    }

    /// Losses of the ring, all of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.totals.lost + self.too_big + self.totals.overwritten
    }

    /// Tells the books.
    pub fn tell(&mut self, encoder: &mut Encoder, last: bool, out: &mut Vec<u8>) {
        encoder.totals(self.number, &self.totals, last, out);
        self.said = Some(self.totals);
    }
}
