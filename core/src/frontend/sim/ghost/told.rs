//! What a stream tells: packets as they are read, the books.

use super::{ABORTED, Delivery, FULL, Fate, Ghost, Place, TOO_BIG, WINDOW, WRAP};
use crate::frontend::sim::tally_many;
use crate::frontend::{Books, MemoryIndex, Mode, PacketFacts, Timestamps};

impl Ghost {
    /// Reads a packet that the reader holds.
    pub fn read(&self, m: MemoryIndex, facts: &PacketFacts) {
        let start = self.holds[m.get()].expect("a packet lies there");
        assert_eq!(self.named[m.get()], None, "the reader's own (I2)");
        let packet = &self.packets[&start];
        assert_eq!(&packet.facts, facts, "the facts are those of the packet (I5)");
        assert_eq!(facts.records, packet.counted, "records of {start} (I7)");
        let mut at = self.g.header();
        let mut time = facts.begin;
        for (n, r) in packet.records.iter().enumerate() {
            let record = self.records[*r];
            for k in 0..record.size {
                let cell = self.cells[m.get()].get((at + k) as usize).copied().flatten();
                assert_eq!(cell, Some((*r, k)), "record {r} is torn at {} (I3)", at + k);
            }
            at += record.size;
            assert!(n > 0 || record.time == time, "a packet begins with its first record (I6)");
            if record.compact {
                let told = time + (record.time.wrapping_sub(time)) % WINDOW;
                assert_eq!(told, record.time, "a full timestamp is missing (I6)");
            }
            assert!(record.time >= time, "times run backwards (I6)");
            time = record.time;
        }
        assert_eq!(at, facts.content, "content of {start} (I3)");
        assert!(time <= facts.end, "{start} ends at {} before its last record (I6)", facts.end);
        if self.timestamps == Timestamps::Given && !packet.records.is_empty() {
            assert_eq!(time, facts.end, "where times are given it ends with its last record");
        }
    }

    /// Reads a packet that is lent to a snapshot; gives its start.
    pub fn read_lent(&self, m: MemoryIndex, facts: &PacketFacts) -> i64 {
        self.read(m, facts);
        self.holds[m.get()].expect("read")
    }

    /// Reads it as the next one: packets, times and each writer's records are in order.
    pub fn read_next(&mut self, m: MemoryIndex, facts: &PacketFacts) {
        self.read(m, facts);
        let start = self.holds[m.get()].expect("read");
        if let Some((last, end, lost)) = self.last_read {
            assert!(start > last, "packets come in order (I5)");
            assert!(facts.begin >= end, "{start} begins before the last one ended (I6)");
            assert!(facts.lost >= lost, "losses run backwards (I6)");
        }
        self.last_read = Some((start, facts.end, facts.lost));
        for r in &self.packets[&start].records {
            let last = &mut self.last_record[self.records[*r].token.number()];
            assert!(last.is_none_or(|last| last < *r), "a writer's records change places (I6)");
            *last = Some(*r);
        }
    }

    /// What is read from here to the end: all packets, without a gap (I8).
    /// What a snapshot died with is not among them.
    pub fn expected(&self) -> Vec<i64> {
        let all = (self.oldest()..self.next_open()).step_by(self.size() as usize);
        let lent = |s: &i64| self.packets.get(s).is_some_and(|p| p.fate == Fate::Lent);
        all.filter(|start| !lent(start)).collect()
    }
    /// The oldest that is neither taken nor being overwritten.
    pub(super) fn oldest(&self) -> i64 {
        let oldest = (self.next_open() - self.buffer()).max(self.consumed);
        if self.mode == Mode::Overwrite { oldest } else { self.consumed }
    }
    pub fn last_start(&self) -> Option<i64> {
        self.last_read.map(|(start, _, _)| start)
    }

    /// Losses that the words count by now: those of writers, and records in sub-buffers that
    /// were given up or whose deliverer never came.
    pub fn lost_in_all(&self) -> u64 {
        self.lost_sum() + self.given_up()
    }

    fn given_up(&self) -> u64 {
        if !self.finalised {
            return 0;
        }
        let counts = |i: &usize| {
            let place = &self.places[*i];
            place.given_up
                || matches!(
                    place.delivery,
                    Delivery::Due(_) | Delivery::Claimed(_) | Delivery::Tabled(_)
                )
        };
        (0..self.places.len()).filter(counts).map(|i| self.counted(i)).sum()
    }

    /// Somebody stands between the two operations that move a packet's records to the books, or
    /// just behind them: they are under no name, or the packet cannot be seen.
    pub fn is_handing_over(&self) -> bool {
        let hands_over =
            |p: &Place| matches!(p.delivery, Delivery::Emptied(_) | Delivery::Recorded(_));
        self.places.iter().any(hands_over)
    }

    /// The books are what became of the records, to the record (I7). Nobody is at work now.
    pub fn check_books(&self, books: &Books) {
        let kept = self.packets.values().filter(|p| p.delivered && p.fate == Fate::InRing);
        let expected = Books {
            recorded: self.recorded,
            full: self.lost[FULL],
            wrap: self.lost[WRAP] + self.given_up(),
            too_big: self.lost[TOO_BIG],
            aborted: self.lost[ABORTED],
            kept: kept.map(|p| p.counted).sum(),
            before: 0,
        };
        assert_eq!(books, &expected, "the books (I7)");
        assert_eq!(
            books.recorded - self.taken - books.kept,
            self.overwritten,
            "overwritten, derived (I7)"
        );
    }

    /// What happened, for the summary.
    pub fn tally(&self) {
        let [full, wrap, too_big, aborted] = self.lost;
        let delivered = self.packets.values().filter(|p| p.delivered);
        let empty = delivered.clone().filter(|p| p.counted == 0).count() as u64;
        let given_up = self.places.iter().filter(|p| p.given_up).count() as u64;
        for (name, n) in [
            ("records", self.recorded),
            ("full", full),
            ("wrap", wrap),
            ("too big", too_big),
            ("aborted", aborted),
            ("packets", delivered.count() as u64),
            ("without records", empty),
            ("taken", self.taken),
            ("overwritten", self.overwritten),
            ("given up", given_up),
        ] {
            tally_many(name, n);
        }
    }

    /// All packets there ever were, read or not: times and losses never run backwards (I6).
    pub fn check_packets(&self) {
        let delivered = || self.packets.iter().filter(|(_, p)| p.delivered);
        for ((a, p), (b, q)) in delivered().zip(delivered().skip(1)) {
            assert!(p.facts.begin <= p.facts.end, "{a} begins after it ends (I6)");
            assert!(p.facts.end <= q.facts.begin, "{a} and {b} overlap in time (I6)");
            assert!(p.facts.lost <= q.facts.lost, "losses run backwards from {a} to {b} (I6)");
        }
        let mut last = 0;
        for (start, packet) in delivered() {
            for r in &packet.records {
                assert!(self.records[*r].time >= last, "times run backwards in {start} (I6)");
                last = self.records[*r].time;
            }
        }
    }
}
