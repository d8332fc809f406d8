//! One stream's records between the ring and the line, oldest to newest: copies first, then
//! packets in hand. What is given up is counted before the record that follows, so that each
//! record knows how many are missing before it, and what was sent is booked when it has left.

use std::collections::VecDeque;
use std::sync::Arc;

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::decode::{Classes, Cursor, Record};
use rbpipe_core::stream::{Copied, Packet, StreamMonitor};

use crate::HeapMemory;
use crate::link::{LinkRecord, Totals};

/// Important records that wait, of one stream; older ones are given up.
const MOST_IMPORTANT: usize = 1024;
/// Bytes of a record that is copied; a longer one is given up where only a copy could wait.
const LONGEST_COPY: usize = 4096;

/// What is to be done with records of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Held back.
    Nothing,
    /// Sent, if there is room.
    Ordinary,
    /// Sent before others.
    Important,
}

/// By the place of a class.
pub(super) type Worths = [Worth];

fn worth(worths: &Worths, class: usize) -> Worth {
    worths.get(class).copied().unwrap_or(Worth::Ordinary)
}

/// A copy of a record.
struct Saved {
    time: u64,
    class: usize,
    payload: Box<[u8]>,
    lost_before: u64,
    important: bool,
}

/// A packet in hand.
struct Held {
    packet: Packet<HeapMemory>,
    cursor: Cursor,
    /// Records not sent and not given up.
    left: u64,
    /// Missing before the next of them.
    lost: u64,
    sent: u64,
}

impl Held {
    fn content(&self) -> &[u8] {
        let bytes = self.packet.bytes();
        let content = usize::try_from(self.packet.facts().content).unwrap_or(usize::MAX);
        &bytes[..content.min(bytes.len())]
    }
    /// The next record from `cursor` on that is one.
    fn next(&self, cursor: &mut Cursor, classes: &Classes) -> Option<(Record, usize)> {
        loop {
            // What cannot be read is given up with the rest of its packet.
            let record = cursor.next(self.content(), classes).ok()??;
            if let Some(class) = record.class {
                return Some((record, class));
            }
        }
    }
}

/// How far a lane is when a record of a batch has been taken.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// The packet's place; `None`: a copy.
    packet: Option<usize>,
    cursor: Cursor,
    left: u64,
}

/// See above.
pub(super) struct Lane {
    pub(super) info: Arc<StreamInfo>,
    pub(super) monitor: StreamMonitor,
    /// Its number on the link.
    pub(super) number: u32,
    saved: VecDeque<Saved>,
    packets: VecDeque<Held>,
    /// Missing after all that is in hand.
    tail: u64,
    /// Sent, of packets that have been put back, and not booked.
    copied: Option<Copied>,
    /// What has left and is not booked: records, bytes.
    credit: (u64, u64),
    /// Records in the packets that were taken, and those of them that were sent.
    taken: u64,
    sent: u64,
    /// The last packet's number, and the losses that it told.
    last: (u64, u64),
    /// Overwritten in the ring, as far as it has been told.
    overwritten: u64,
    /// A frame took so many records and more would have fitted, for all that is known.
    pub(super) fits: usize,
    /// What was last told in all.
    pub(super) told: Option<Totals>,
}

impl Lane {
    /// Of the stream that this packet is from.
    pub(super) fn new(packet: &Packet<HeapMemory>, number: u32) -> Self {
        Self {
            info: Arc::clone(packet.stream()),
            monitor: packet.monitor(),
            number,
            saved: VecDeque::new(),
            packets: VecDeque::new(),
            tail: 0,
            copied: None,
            credit: (0, 0),
            taken: 0,
            sent: 0,
            last: (0, 0),
            overwritten: 0,
            fits: 0,
            told: None,
        }
    }

    /// Takes a packet.
    pub(super) fn take(&mut self, packet: Packet<HeapMemory>) {
        let facts = *packet.facts();
        self.taken += facts.records;
        let (sequence, told) = self.last;
        let mut lost = facts.lost.saturating_sub(told);
        self.last = (facts.sequence, facts.lost.max(told));
        if facts.sequence > sequence + 1 {
            lost += self.newly_overwritten();
        }
        let lost = lost + std::mem::take(&mut self.tail);
        let header = self.info.class.header_size() as usize;
        let cursor = Cursor::new(header, facts.begin);
        let held = Held { packet, cursor, left: facts.records, lost, sent: 0 };
        if held.left == 0 {
            self.release(held);
        } else {
            self.packets.push_back(held);
        }
    }

    /// Records that were overwritten in the ring since this was last asked: not more than there
    /// were, and in the end all of them.
    fn newly_overwritten(&mut self) -> u64 {
        // In this order: what is delivered in between counts as kept.
        let recorded = self.monitor.books().engine.recorded;
        let kept = self.monitor.books().engine.kept;
        let now = recorded.saturating_sub(kept).saturating_sub(self.taken);
        let newly = now.saturating_sub(self.overwritten);
        self.overwritten += newly;
        newly
    }

    /// Records in hand.
    pub(super) fn in_hand(&self) -> u64 {
        self.saved.len() as u64 + self.packets.iter().map(|p| p.left).sum::<u64>()
    }

    /// Packets in hand.
    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Missing after all that is in hand, and not told yet.
    pub(super) fn untold(&self) -> u64 {
        self.tail
    }

    /// It has been told.
    pub(super) fn tell(&mut self) -> u64 {
        std::mem::take(&mut self.tail)
    }

    /// Missing before the first record in hand, beside what is known.
    pub(super) fn miss(&mut self, lost: u64) {
        match (self.saved.front_mut(), self.packets.front_mut()) {
            (Some(saved), _) => saved.lost_before += lost,
            (None, Some(held)) => held.lost += lost,
            (None, None) => self.tail += lost,
        }
    }

    /// The same, between the copies and the packets.
    fn miss_after_copies(&mut self, lost: u64) {
        match self.packets.front_mut() {
            Some(held) => held.lost += lost,
            None => self.tail += lost,
        }
    }

    /// The first records in hand, at most so many, as they are to be sent.
    pub(super) fn gather<'a>(
        &'a self,
        classes: &Classes,
        worths: &Worths,
        most: usize,
        marks: &mut Vec<Mark>,
    ) -> Vec<LinkRecord<'a>> {
        marks.clear();
        let mut records = Vec::new();
        for s in self.saved.iter().take(most) {
            let (time, class, payload) = (s.time, s.class, &*s.payload);
            records.push(LinkRecord { time, class, payload, lost_before: s.lost_before });
            marks.push(Mark { packet: None, cursor: Cursor::new(0, 0), left: 0 });
        }
        let mut lost_before = 0;
        for (place, held) in self.packets.iter().enumerate() {
            let (mut cursor, mut left) = (held.cursor, held.left);
            lost_before += held.lost;
            while left > 0 && records.len() < most {
                let Some((record, class)) = held.next(&mut cursor, classes) else { break };
                left -= 1;
                if worth(worths, class) == Worth::Nothing {
                    lost_before += 1;
                    continue;
                }
                let payload = &held.content()[record.payload.0..record.payload.1];
                records.push(LinkRecord { time: record.time, class, payload, lost_before });
                lost_before = 0;
                marks.push(Mark { packet: Some(place), cursor, left });
            }
            if records.len() >= most {
                break;
            }
            lost_before += left;
        }
        records
    }

    /// The first `count` of what was gathered are on their way.
    pub(super) fn sent(&mut self, count: usize, marks: &[Mark]) {
        let copies = count.min(self.saved.len());
        self.saved.drain(..copies);
        self.sent += count as u64;
        let Some(marks) = marks.get(copies..count) else { return };
        for place in marks.iter().filter_map(|m| m.packet) {
            if let Some(held) = self.packets.get_mut(place) {
                held.sent += 1;
            }
        }
        let Some(Mark { packet: Some(place), cursor, left }) = marks.last().copied() else {
            return;
        };
        for _ in 0..place {
            // What was left of them was told before the last record.
            if let Some(held) = self.packets.pop_front() {
                self.release(Held { left: 0, lost: 0, ..held });
            }
        }
        let Some(held) = self.packets.front_mut() else { return };
        (held.cursor, held.left, held.lost) = (cursor, left, 0);
        if left == 0
            && let Some(held) = self.packets.pop_front()
        {
            self.release(held);
        }
    }

    /// Puts a packet back; what is left of it is given up.
    fn release(&mut self, held: Held) {
        self.put_back(held, 0);
    }

    /// The same, where `copies` of what is left have been copied.
    fn put_back(&mut self, held: Held, copies: u64) {
        let missing = held.lost + held.left.saturating_sub(copies);
        if copies == 0 {
            self.miss_after_copies(missing);
        }
        let copied = held.packet.copied(0, 0, held.sent + copies);
        match &mut self.copied {
            Some(all) => all.and(copied),
            None => self.copied = Some(copied),
        }
        self.book();
    }

    /// So many of those that were on their way went with the port, before what is in hand.
    pub(super) fn unsent(&mut self, records: u64) {
        self.sent -= records.min(self.sent);
        self.miss(records);
    }

    /// So many of those that were on their way do not go out; who does not send them tells it.
    pub(super) fn lost_on_the_way(&mut self, records: u64) {
        self.sent -= records.min(self.sent);
    }

    /// So many records have left, in so many bytes.
    pub(super) fn left(&mut self, records: u64, bytes: u64) {
        self.credit.0 += records;
        self.credit.1 += bytes;
        self.book();
    }

    fn book(&mut self) {
        let Some(copied) = &mut self.copied else { return };
        let (records, bytes) = self.credit;
        let records = records.min(copied.left());
        copied.written(bytes, records);
        self.credit = (self.credit.0 - records, 0);
    }

    /// Gives up all but the newest `most` records.
    pub(super) fn keep_newest(&mut self, most: u64, classes: &Classes) {
        let mut excess = self.in_hand().saturating_sub(most);
        while excess > 0 {
            if let Some(saved) = self.saved.pop_front() {
                self.miss(saved.lost_before + 1);
                excess -= 1;
                continue;
            }
            let Some(front) = self.packets.front_mut() else { return };
            if front.left <= excess {
                excess -= front.left;
                if let Some(held) = self.packets.pop_front() {
                    self.release(held);
                }
                continue;
            }
            let mut cursor = front.cursor;
            for _ in 0..excess {
                if front.next(&mut cursor, classes).is_none() {
                    break;
                }
            }
            front.cursor = cursor;
            front.left -= excess;
            front.lost += excess;
            return;
        }
    }

    /// Copies what is worth it of the oldest packet in hand, and puts it back: all that is
    /// important, and of the others the newest `most`.
    pub(super) fn copy_oldest(&mut self, classes: &Classes, worths: &Worths, most: usize) {
        let Some(held) = self.packets.pop_front() else { return };
        let each = |to: &mut dyn FnMut(Record, Worth, usize)| {
            let mut cursor = held.cursor;
            for _ in 0..held.left {
                let Some((record, class)) = held.next(&mut cursor, classes) else { break };
                to(record, worth(worths, class), class);
            }
        };
        let mut ordinary = 0usize;
        each(&mut |_, worth, _| ordinary += usize::from(worth == Worth::Ordinary));
        let mut skip = ordinary.saturating_sub(most);
        let (mut lost_before, mut copies) = (held.lost, Vec::new());
        let mut seen = 0;
        each(&mut |record, worth, class| {
            seen += 1;
            let (from, to) = record.payload;
            let skipped = worth == Worth::Ordinary && skip > 0;
            skip -= usize::from(skipped);
            if worth == Worth::Nothing || skipped || to - from > LONGEST_COPY {
                lost_before += 1;
                return;
            }
            copies.push(Saved {
                time: record.time,
                class,
                payload: held.content()[from..to].into(),
                lost_before: std::mem::take(&mut lost_before),
                important: worth == Worth::Important,
            });
        });
        // What could not be read.
        lost_before += held.left - seen;
        let count = copies.len() as u64;
        self.saved.extend(copies);
        self.miss_after_copies(lost_before);
        if count > 0 {
            self.put_back(held, count);
        } else {
            // All of it has been counted just now.
            self.put_back(Held { left: 0, lost: 0, ..held }, 0);
        }
        self.trim(most);
    }

    /// Gives up copies that are more than may wait: a quarter of the room is the others' when
    /// important ones take all.
    fn trim(&mut self, most: usize) {
        let important = self.saved.iter().filter(|s| s.important).count();
        let ordinary = self.saved.len() - important;
        let allowed = most.saturating_sub(important).max(most / 4).max(1);
        let mut excess =
            [ordinary.saturating_sub(allowed), important.saturating_sub(MOST_IMPORTANT)];
        if excess == [0, 0] {
            return;
        }
        let mut lost = 0;
        for mut saved in std::mem::take(&mut self.saved) {
            let excess = &mut excess[usize::from(saved.important)];
            if *excess > 0 {
                *excess -= 1;
                lost += saved.lost_before + 1;
            } else {
                saved.lost_before += std::mem::take(&mut lost);
                self.saved.push_back(saved);
            }
        }
        self.miss_after_copies(lost);
    }

    /// Gives up all that is in hand.
    pub(super) fn give_up(&mut self) {
        let copies: u64 = self.saved.drain(..).map(|s| s.lost_before + 1).sum();
        let mut lost = copies;
        while let Some(held) = self.packets.pop_front() {
            lost += held.lost + held.left;
            self.release(Held { left: 0, lost: 0, ..held });
        }
        self.tail += lost;
    }

    /// What became of the stream's records so far; `end`: nothing is recorded or in hand any
    /// more, so that it is exact.
    pub(super) fn totals(&mut self, end: bool) -> Totals {
        let newly = self.newly_overwritten();
        let books = self.monitor.books();
        let engine = &books.engine;
        let lost = engine.full + engine.wrap + engine.too_big + engine.before;
        if end {
            // What nobody told: after the last record.
            let (_, told) = self.last;
            self.tail += lost.saturating_sub(told) + newly;
            self.last.1 = lost.max(told);
        } else {
            self.tail += newly;
        }
        let given_up = (self.taken - self.sent).saturating_sub(self.in_hand());
        Totals {
            produced: engine.offered() + engine.before,
            lost,
            overwritten: self.overwritten + given_up,
            aborted: engine.aborted,
        }
    }
}
