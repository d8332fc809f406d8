//! What a stream does, said as plainly as possible: a list of packets with their records. No
//! position wraps here, nothing is shared, nothing is derived.

use crate::frontend::{Books, Lost, Mode, NotNow, PacketFacts, Refused};

/// Times less than this apart need no full timestamp: a header of one byte, not two.
const NEAR: u64 = 8;

/// Grants that may be open at once.
const WRITERS: usize = 4;

/// The stream's sizes and ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub mode: Mode,
    /// Its one writer brings the times.
    pub given: bool,
    pub size: u64,
    pub count: usize,
    pub reader: usize,
    pub header: u64,
    pub lap: u64,
}

/// One record: where it lies in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub id: usize,
    pub offset: u64,
    pub size: u64,
}

/// A reservation that is not committed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub packet: usize,
    pub records: Vec<Record>,
    pub time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InRing,
    Taken,
    Overwritten,
    /// At the end somebody was still inside.
    GivenUp,
}

#[derive(Clone, Debug)]
struct Packet {
    records: Vec<Record>,
    /// How many records count: committed, not aborted.
    counted: u64,
    /// Bytes reserved; bytes committed.
    used: u64,
    committed: u64,
    begin: u64,
    end: u64,
    /// Losses told, once it is closed.
    closed: Option<u64>,
    open: usize,
    fate: Fate,
}

/// What a record asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub payload: u64,
    /// How much later than the last one, or, where times are given, earlier.
    pub later: i64,
}

/// What an operation gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    Grant(Open),
    Refused(Refused),
    Packet(PacketFacts, Vec<Record>),
    /// What a snapshot gathers, and whether it goes on to the newest packet.
    Run(Vec<(PacketFacts, Vec<Record>)>, bool),
    NotNow(NotNow),
    Facts(Option<PacketFacts>),
    PassedOver(Option<u64>),
}

#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub setup: Setup,
    /// All there ever were.
    packets: Vec<Packet>,
    pub open: Vec<Open>,
    /// How many packets the reader holds.
    pub held: usize,
    /// The first packet that the reader has not passed.
    cursor: usize,
    pub finalised: bool,
    pub clock: u64,
    /// The last record's time.
    last: u64,
    ids: usize,
    full: u64,
    wrap: u64,
    too_big: u64,
    aborted: u64,
    /// Losses and end of the last packet that was read.
    pub told: u64,
    pub ended: u64,
    /// What the last operation gives, and delivers.
    pub outcome: Outcome,
    pub delivered: Vec<PacketFacts>,
    /// The times that it was asked with (given ones).
    pub times: Vec<u64>,
}

impl Reference {
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            packets: Vec::new(),
            open: Vec::new(),
            held: 0,
            cursor: 0,
            finalised: false,
            clock: 1,
            last: 0,
            ids: 0,
            full: 0,
            wrap: 0,
            too_big: 0,
            aborted: 0,
            told: 0,
            ended: 0,
            outcome: Outcome::Nothing,
            delivered: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Whether one more writer may stand in the ring.
    pub fn may_reserve(&self) -> bool {
        self.open.len() < if self.setup.given { 1 } else { WRITERS }
    }

    /// Before each operation.
    pub fn begin(&mut self, later: u64) {
        self.clock += later;
        self.delivered.clear();
        self.outcome = Outcome::Nothing;
    }

    /// Sub-buffers since position 0, modulo what a position can tell, from 1.
    fn sequence(&self, packet: usize) -> u64 {
        let first = self.setup.lap * self.setup.count as u64;
        (first + packet as u64) % ((1 << 63) / self.setup.size) + 1
    }

    fn lost(&self) -> u64 {
        self.full + self.wrap + self.too_big
    }

    fn facts(&self, index: usize) -> PacketFacts {
        let p = &self.packets[index];
        PacketFacts {
            sequence: self.sequence(index),
            content: p.used,
            begin: p.begin,
            end: p.end,
            lost: p.closed.expect("closed"),
            records: p.counted,
            origin: 0,
        }
    }

    fn is_delivered(&self, index: usize) -> bool {
        let p = &self.packets[index];
        p.closed.is_some() && p.open == 0 && p.fate != Fate::GivenUp
    }

    /// The packet that is being filled.
    fn current(&self) -> Option<usize> {
        let last = self.packets.len().checked_sub(1)?;
        self.packets[last].closed.is_none().then_some(last)
    }

    /// Nothing is reserved in it any more.
    fn close(&mut self, index: usize, end: u64) {
        let lost = self.lost();
        let packet = &mut self.packets[index];
        packet.closed = Some(lost);
        if !self.setup.given {
            packet.end = end;
        }
        packet.committed += self.setup.size - packet.used;
        if self.packets[index].open == 0 {
            self.delivered.push(self.facts(index));
        }
    }

    fn may_open(&self) -> Result<(), Lost> {
        let next = self.packets.len();
        if self.setup.mode == Mode::Overwrite {
            match next.checked_sub(self.setup.count) {
                Some(before) if !self.is_delivered(before) => Err(Lost::Wrap),
                _ => Ok(()),
            }
        } else if next - self.cursor >= self.setup.count {
            Err(Lost::Full)
        } else {
            Ok(())
        }
    }

    fn open_next(&mut self, begin: u64) {
        if self.setup.mode == Mode::Overwrite
            && let Some(before) = self.packets.len().checked_sub(self.setup.count)
            && self.packets[before].fate == Fate::InRing
        {
            self.packets[before].fate = Fate::Overwritten;
        }
        self.packets.push(Packet {
            records: Vec::new(),
            counted: 0,
            used: self.setup.header,
            committed: 0,
            begin,
            end: begin,
            closed: None,
            open: 0,
            fate: Fate::InRing,
        });
    }

    /// The sizes of as many records as fit `room`, at least one, and the last one's time.
    fn measure(
        &self,
        wishes: &[(u64, u64)],
        now: u64,
        last: Option<u64>,
        room: u64,
    ) -> (Vec<u64>, u64) {
        let (mut sizes, mut end, mut before) = (Vec::new(), now, last);
        for (payload, time) in wishes {
            let time = end.max(*time);
            let near = before.is_none_or(|b| time - b < NEAR);
            let size = payload + if near { 1 } else { 2 };
            if !sizes.is_empty() && sizes.iter().sum::<u64>() + size > room {
                break;
            }
            sizes.push(size);
            (end, before) = (time, Some(time));
        }
        (sizes, end)
    }

    /// One record, or where times are given a run of them.
    pub fn reserve(&mut self, wishes: &[Wish]) {
        let clock = self.clock;
        self.times = wishes.iter().map(|w| clock.saturating_add_signed(w.later)).collect();
        let wanted: Vec<(u64, u64)> = wishes
            .iter()
            .zip(&self.times)
            .map(|(w, time)| (w.payload, if self.setup.given { *time } else { clock }))
            .collect();
        self.outcome = match self.reserve_now(&wanted) {
            Ok(open) => {
                self.open.push(open.clone());
                Outcome::Grant(open)
            }
            Err(refused) => {
                match refused {
                    Refused::Lost(Lost::Full) => self.full += 1,
                    Refused::Lost(Lost::Wrap) => self.wrap += 1,
                    Refused::Lost(Lost::TooBig) => self.too_big += 1,
                    Refused::Closed => {}
                }
                Outcome::Refused(refused)
            }
        };
    }

    fn reserve_now(&mut self, wanted: &[(u64, u64)]) -> Result<Open, Refused> {
        let size = self.setup.size;
        if self.finalised {
            return Err(Refused::Closed);
        }
        let now = if self.setup.given { wanted[0].1.max(self.last) } else { self.clock };
        if let Some(current) = self.current() {
            let room = size - self.packets[current].used;
            let (sizes, end) = self.measure(wanted, now, Some(self.last), room);
            if sizes.iter().sum::<u64>() <= room {
                return Ok(self.place(current, &sizes, now, end));
            }
        }
        let room = size - self.setup.header;
        let (sizes, end) = self.measure(wanted, now, None, room);
        if sizes.iter().sum::<u64>() > room {
            return Err(Refused::Lost(Lost::TooBig));
        }
        self.may_open().map_err(Refused::Lost)?;
        if let Some(current) = self.current() {
            self.close(current, now);
        }
        self.open_next(now);
        Ok(self.place(self.packets.len() - 1, &sizes, now, end))
    }

    /// Puts records of these sizes into a packet.
    fn place(&mut self, index: usize, sizes: &[u64], time: u64, end: u64) -> Open {
        let packet = &mut self.packets[index];
        let mut records = Vec::new();
        for size in sizes {
            records.push(Record { id: self.ids, offset: packet.used, size: *size });
            self.ids += 1;
            packet.used += size;
        }
        packet.records.extend(&records);
        packet.open += 1;
        if self.setup.given {
            packet.end = end;
        }
        self.last = end;
        if packet.used == self.setup.size {
            self.close(index, end);
        }
        Open { packet: index, records, time }
    }

    /// Commits an open grant, or gives it up.
    pub fn commit(&mut self, n: usize, abort: bool) {
        let open = self.open.swap_remove(n);
        let first = open.records[0].offset == self.setup.header;
        let packet = &mut self.packets[open.packet];
        packet.committed += open.records.iter().map(|r| r.size).sum::<u64>();
        packet.committed += if first { self.setup.header } else { 0 };
        packet.open -= 1;
        if abort {
            self.aborted += 1;
        } else {
            packet.counted += open.records.len() as u64;
        }
        if self.is_delivered(open.packet) {
            self.delivered.push(self.facts(open.packet));
        }
    }

    pub fn switch(&mut self) {
        if let Some(current) = self.current() {
            self.close(current, self.clock);
        }
    }

    pub fn finalise(&mut self) {
        if !self.finalised {
            self.switch();
            self.finalised = true;
        }
    }

    /// A packet that tells losses, if there is anything to tell and room for it.
    pub fn empty_packet(&mut self) {
        let last = self.packets.len().checked_sub(1);
        let told = match last {
            Some(last) if !self.is_delivered(last) => return,
            Some(last) => self.packets[last].closed.unwrap_or(0),
            None => 0,
        };
        let time = if self.setup.given { self.last } else { self.clock };
        if self.finalised || self.lost() == told || self.may_open().is_err() || time == 0 {
            return;
        }
        self.open_next(time);
        self.close(self.packets.len() - 1, time);
    }

    /// The first packet that the reader has not passed and that is not overwritten.
    fn oldest(&self) -> usize {
        match self.setup.mode {
            Mode::Overwrite => self.cursor.max(self.packets.len().saturating_sub(self.setup.count)),
            Mode::Discard | Mode::Block => self.cursor,
        }
    }

    pub fn get(&mut self) {
        self.cursor = self.oldest();
        self.outcome = if self.cursor == self.packets.len() {
            Outcome::NotNow(NotNow::Empty)
        } else if !self.is_delivered(self.cursor) {
            Outcome::NotNow(NotNow::NotDelivered)
        } else {
            let facts = self.facts(self.cursor);
            self.packets[self.cursor].fate = Fate::Taken;
            (self.told, self.ended) = (facts.lost, facts.end);
            self.held += 1;
            self.cursor += 1;
            Outcome::Packet(facts, self.packets[self.cursor - 1].records.clone())
        };
    }

    /// The newest packets there are, behind the last gap among the `most` newest.
    pub fn snapshot(&mut self, most: usize) {
        self.switch();
        let most = most.min(self.setup.count);
        let end = self.packets.len();
        let asked: Vec<usize> = (self.oldest().max(end.saturating_sub(most))..end).collect();
        let there = |i: &usize| self.is_delivered(*i);
        let last = asked.iter().rposition(there);
        let run = &asked[..last.map_or(0, |l| l + 1)];
        let run = &run[run.iter().rposition(|i| !there(i)).map_or(0, |gap| gap + 1)..];
        let packets = run.iter().map(|i| (self.facts(*i), self.packets[*i].records.clone()));
        let is_whole = asked.last().is_none_or(there);
        self.outcome = Outcome::Run(packets.collect(), is_whole);
    }

    fn give_up(&mut self, index: usize) -> u64 {
        self.packets[index].fate = Fate::GivenUp;
        self.packets[index].counted
    }

    pub fn pass_over(&mut self) {
        let at = self.oldest();
        let passes = self.finalised && at < self.packets.len() && !self.is_delivered(at);
        self.outcome = Outcome::PassedOver(passes.then(|| {
            self.cursor = at + 1;
            self.give_up(at)
        }));
    }

    pub fn pass_over_all(&mut self) {
        let all = self.oldest()..self.packets.len();
        let open: Vec<usize> = all.filter(|i| self.finalised && !self.is_delivered(*i)).collect();
        let records = open.iter().map(|i| self.give_up(*i)).sum();
        self.outcome = Outcome::PassedOver((!open.is_empty()).then_some(records));
    }

    pub fn last_words(&mut self) {
        let lost = self.lost() + self.given_up();
        let time = if self.setup.given { self.last } else { self.clock }.max(self.ended);
        let facts = PacketFacts {
            sequence: self.sequence(self.packets.len()),
            content: self.setup.header,
            begin: time,
            end: time,
            lost,
            ..PacketFacts::default()
        };
        self.outcome = Outcome::Facts((self.finalised && lost != self.told).then_some(facts));
    }

    fn given_up(&self) -> u64 {
        self.packets.iter().filter(|p| p.fate == Fate::GivenUp).map(|p| p.counted).sum()
    }

    pub fn books(&self) -> Books {
        let delivered = (0..self.packets.len()).filter(|i| self.is_delivered(*i));
        let (recorded, kept): (Vec<u64>, Vec<u64>) = delivered
            .map(|i| &self.packets[i])
            .map(|p| (p.counted, if p.fate == Fate::InRing { p.counted } else { 0 }))
            .unzip();
        Books {
            recorded: recorded.iter().sum(),
            full: self.full,
            wrap: self.wrap + self.given_up(),
            too_big: self.too_big,
            aborted: self.aborted,
            kept: kept.iter().sum(),
            before: 0,
        }
    }

    pub fn is_settled(&self) -> bool {
        (self.oldest()..self.packets.len()).all(|i| self.is_delivered(i))
    }

    pub fn has_packet(&self) -> bool {
        let at = self.oldest();
        at < self.packets.len() && self.is_delivered(at)
    }

    /// The first one in the ring that waits for a writer, once it is closed.
    pub fn undelivered(&self) -> Option<usize> {
        let open = (self.oldest()..self.packets.len()).find(|i| !self.is_delivered(*i))?;
        self.packets[open].closed.map(|_| open)
    }

    pub fn fill(&self) -> u64 {
        (self.packets.len() - self.cursor) as u64
    }

    /// Records and bytes committed and not delivered.
    pub fn underway(&self) -> (u64, u64) {
        let open = (0..self.packets.len()).filter(|i| !self.is_delivered(*i));
        let open = open.map(|i| &self.packets[i]);
        open.fold((0, 0), |(records, bytes), p| {
            let given_up = p.fate == Fate::GivenUp;
            (records + p.counted, bytes + if given_up { 0 } else { p.committed })
        })
    }
}
