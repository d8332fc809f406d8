//! The ghosts: what is true of a stream, kept beside it. They see every operation on the
//! stream's words at the moment of its effect, know who stands in which sub-buffer and who
//! owns which memory, and stop the run at the first step that a claim forbids.
//!
//! Positions here are counted from the run's first one, so that nothing wraps.

mod told;

use std::collections::BTreeMap;

use super::atomic::{Effect, Kind};
use super::{Ring, tally};
use crate::frontend::position::FINALISED;
use crate::frontend::subbuf_id::SubBufferId;
use crate::frontend::{
    COMMITTED, CONSUMED, DELIVERED, Geometry, Grant, LOST, MemoryIndex, Mode, PacketFacts,
    Position, RECORD_BITS, RECORDED, RECORDS, SUBBUFS, TABLE, Timestamps, WRITE_POS,
};

/// Words of the line of losses.
const FULL: usize = 0;
const WRAP: usize = 1;
const TOO_BIG: usize = 2;
const ABORTED: usize = 3;

/// Times in a compact record header are told modulo this.
pub(super) const WINDOW: u64 = 8;

/// Who does something: an actor, and how many signal handlers deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub actor: usize,
    pub depth: usize,
}

impl Token {
    pub const READER: Self = Self { actor: 0, depth: 0 };
    fn number(self) -> usize {
        self.actor * 4 + self.depth
    }
}

/// A range of one reservation in one sub-buffer, not committed yet.
#[derive(Clone, Copy, Debug)]
struct Part {
    token: Token,
    from: i64,
    to: i64,
}

/// How far the delivery of a sub-buffer's lap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Bytes are missing.
    Open,
    /// Complete: this one's to deliver.
    Due(Token),
    Claimed(Token),
    /// The table names the packet.
    Tabled(Token),
    /// Its records are taken out of the counter …
    Emptied(Token),
    /// … and are in the books.
    Recorded(Token),
    Done,
}

/// The lap of a sub-buffer that was opened last.
#[derive(Clone, Debug)]
struct Place {
    start: i64,
    parts: Vec<Part>,
    committed: u64,
    /// By offset.
    records: Vec<(u64, usize)>,
    delivery: Delivery,
    facts: PacketFacts,
    given_up: bool,
}

impl Place {
    /// Whether somebody is inside.
    fn is_occupied(&self) -> bool {
        self.delivery != Delivery::Done
    }
    fn holds(&self, token: Token) -> bool {
        let delivers = [
            Delivery::Due(token),
            Delivery::Claimed(token),
            Delivery::Tabled(token),
            Delivery::Emptied(token),
            Delivery::Recorded(token),
        ];
        delivers.contains(&self.delivery) || self.parts.iter().any(|p| p.token == token)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InRing,
    Taken,
    Overwritten,
    /// A snapshot has it; or the reader died with it, and nobody will.
    Lent,
}

#[derive(Clone, Debug)]
struct Packet {
    records: Vec<usize>,
    counted: u64,
    facts: PacketFacts,
    delivered: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub token: Token,
    pub size: u64,
    pub time: u64,
    pub compact: bool,
    pub aborted: bool,
}

/// The words that the ghosts know.
enum Word {
    WritePos,
    Consumed,
    /// `lost.full`, `.wrap`, `.too_big`, `aborted`.
    Lost(usize),
    Recorded,
    Committed(usize),
    Delivered(usize),
    Table(usize),
    Other,
}

/// What a writer saw when it last looked whether it may open a sub-buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Somebody was inside the lap before.
    occupied: bool,
    /// The ring was full.
    full: bool,
}

/// Which record's which byte.
type Byte = (usize, u64);

pub(super) struct Ghost {
    g: Geometry,
    mode: Mode,
    timestamps: Timestamps,
    origin: Position,
    base: usize,
    write: i64,
    finalised: bool,
    consumed: i64,
    places: Vec<Place>,
    packets: BTreeMap<i64, Packet>,
    pub records: Vec<Record>,
    looks: Vec<Look>,
    /// By memory: the sub-buffer whose table word names it, the packet in it, whether the
    /// output has it, its bytes.
    named: Vec<Option<usize>>,
    holds: Vec<Option<i64>>,
    pub held: Vec<bool>,
    cells: Vec<Vec<Option<Byte>>>,
    /// The reader has exchanged this packet and not moved its cursor yet.
    exchanged: Option<i64>,
    /// It is in a snapshot, which has these packets.
    pub lending: bool,
    lent: Vec<i64>,
    /// It is in `pass_over`.
    pub passing: bool,
    /// Room was made, or the stream ended, and who waits for it has not been woken yet.
    pub owes_room: bool,
    pub owes_end: bool,
    /// What became of records: `lost.full`, `.wrap`, `.too_big`, `aborted`.
    lost: [u64; 4],
    recorded: u64,
    /// Records in packets that the reader took, and in those that writers passed.
    pub taken: u64,
    overwritten: u64,
    /// The last packet read: start, end, losses; and the last record of each token.
    last_read: Option<(i64, u64, u64)>,
    last_record: Vec<Option<usize>>,
}

impl Ghost {
    pub fn new(ring: &Ring, lap: u64) -> Self {
        let g = ring.geometry();
        let (n, memories) = (g.subbuf_count() as usize, g.memories() as usize);
        let size = g.subbuf_size().cast_signed();
        let place = |i: i64| Place {
            start: (i - n as i64) * size,
            parts: Vec::new(),
            committed: g.subbuf_size(),
            records: Vec::new(),
            delivery: Delivery::Done,
            facts: PacketFacts::default(),
            given_up: false,
        };
        Self {
            g,
            mode: ring.mode(),
            timestamps: ring.timestamps(),
            origin: Position::new(lap.wrapping_mul(g.buffer_size())),
            base: ring.lines.as_ptr().addr(),
            write: 0,
            finalised: false,
            consumed: 0,
            places: (0..n as i64).map(place).collect(),
            packets: BTreeMap::new(),
            records: Vec::new(),
            looks: vec![Look::default(); 64],
            named: (0..memories).map(|m| (m < n).then_some(m)).collect(),
            holds: vec![None; memories],
            held: vec![false; memories],
            cells: vec![vec![None; g.subbuf_size() as usize]; memories],
            exchanged: None,
            lending: false,
            lent: Vec::new(),
            passing: false,
            owes_room: false,
            owes_end: false,
            lost: [0; 4],
            recorded: 0,
            taken: 0,
            overwritten: 0,
            last_read: None,
            last_record: vec![None; 64],
        }
    }

    fn size(&self) -> i64 {
        self.g.subbuf_size().cast_signed()
    }
    fn buffer(&self) -> i64 {
        self.g.buffer_size().cast_signed()
    }
    fn position(&self, at: i64) -> Position {
        self.origin.plus(at.cast_unsigned())
    }
    fn at(&self, word: u64) -> i64 {
        Position::new(word).from(self.origin)
    }
    fn index(&self, at: i64) -> usize {
        at.div_euclid(self.size()).rem_euclid(i64::from(self.g.subbuf_count())) as usize
    }
    /// The start of the sub-buffer that is opened next.
    fn next_open(&self) -> i64 {
        (self.write + self.size() - 1).div_euclid(self.size()) * self.size()
    }
    fn lost_sum(&self) -> u64 {
        self.lost[..ABORTED].iter().sum()
    }
    pub fn write_position(&self) -> i64 {
        self.write
    }

    /// An operation of `token`'s on the word at `address` has just had its effect.
    pub fn seen(&mut self, ring: &Ring, token: Token, address: usize, effect: Effect) {
        let Effect { kind, before, after } = effect;
        match (self.word_at(address), kind) {
            (Word::Consumed, Kind::Load) => {
                let full = self.next_open() - self.at(after) >= self.buffer();
                self.looks[token.number()].full = full;
            }
            (Word::Consumed, _) => self.consumed(token, before, after),
            (Word::Delivered(i), Kind::Load) => {
                let is_next = i == self.index(self.next_open());
                self.looks[token.number()].occupied = is_next && self.is_next_occupied();
            }
            (_, Kind::Load) => {}
            (Word::WritePos, _) => self.moved(token, before, after),
            (Word::Lost(word), _) => {
                assert_eq!(after, before + 1, "one record is lost at a time (I7)");
                self.counted_lost(token, word);
            }
            (Word::Committed(i), Kind::Add) => self.added(token, i, before, after),
            (Word::Committed(i), Kind::Store) => self.emptied(token, i, before, after),
            (Word::Committed(i), _) => self.gave_up(token, i),
            (Word::Recorded, _) => self.recorded(token, after.wrapping_sub(before)),
            (Word::Delivered(i), _) => self.delivered(ring, token, i, after),
            (Word::Table(i), _) => self.table(ring, token, i, before, after),
            (Word::Other, _) => {}
        }
    }

    fn word_at(&self, address: usize) -> Word {
        let word = address.wrapping_sub(self.base) / 8;
        let at @ (line, word) = (word / 8, word % 8);
        let i = line.wrapping_sub(SUBBUFS) / 2;
        if at == WRITE_POS {
            Word::WritePos
        } else if at == CONSUMED {
            Word::Consumed
        } else if line == LOST && word <= ABORTED {
            Word::Lost(word)
        } else if at == RECORDED {
            Word::Recorded
        } else if line < SUBBUFS || i >= self.places.len() {
            Word::Other
        } else {
            match ((line - SUBBUFS) % 2, word) {
                (0, COMMITTED) => Word::Committed(i),
                (1, DELIVERED) => Word::Delivered(i),
                (1, TABLE) => Word::Table(i),
                _ => Word::Other,
            }
        }
    }

    /// Somebody stands in the sub-buffer that would be opened next, a lap behind.
    pub fn is_next_occupied(&self) -> bool {
        let next = self.next_open();
        let place = &self.places[self.index(next)];
        place.start == next - self.buffer() && place.is_occupied()
    }

    /// A writer that waits for room need not wait any more.
    pub fn lets_writers_on(&self) -> bool {
        self.finalised || self.has_room()
    }

    fn has_room(&self) -> bool {
        self.next_open() - self.consumed < self.buffer()
    }

    /// A writer goes to sleep: somebody will wake it.
    pub fn sleeps(&self, token: Token) {
        assert!(!self.has_room() || self.owes_room, "{token:?} sleeps, there is room (wake)");
        assert!(!self.finalised || self.owes_end, "{token:?} sleeps, it is the end (wake)");
    }

    /// Whether this one is among those who stand there.
    pub fn stands_in_next(&self, actor: usize) -> bool {
        let place = &self.places[self.index(self.next_open())];
        (0..3).any(|depth| place.holds(Token { actor, depth }))
    }

    fn moved(&mut self, token: Token, before: u64, after: u64) {
        assert!(!self.finalised, "{token:?} moves write_pos of a finalised stream (I13)");
        self.finalised = after & FINALISED != 0;
        self.owes_end |= self.finalised;
        let (old, new) = (self.at(before), self.at(after));
        assert_eq!(old, self.write, "ghost of write_pos");
        assert!(new >= old, "write_pos runs backwards: {old} to {new}");
        assert!(
            !self.finalised || new % self.size() == 0,
            "finalised in the middle of a sub-buffer (I13)"
        );
        let size = self.size();
        let boundary = (old + size - 1).div_euclid(size) * size;
        if old < boundary.min(new) {
            let i = self.index(old);
            self.places[i].parts.push(Part { token, from: old, to: new.min(boundary) });
        }
        if new > boundary {
            assert!(new <= boundary + size, "a grant crosses a sub-buffer's end (I1)");
            self.open(token, boundary);
            let i = self.index(boundary);
            self.places[i].parts.push(Part { token, from: boundary, to: new });
        }
        self.write = new;
        assert!(
            self.mode == Mode::Overwrite || self.write - self.consumed <= self.buffer(),
            "the writers are more than a ring ahead of the reader (I10)"
        );
    }

    fn open(&mut self, token: Token, start: i64) {
        let (i, before) = (self.index(start), start - self.buffer());
        let place = &self.places[i];
        assert_eq!(place.start, before, "a sub-buffer is left out");
        assert!(
            !place.is_occupied(),
            "{token:?} opens {start}, and its last lap is still in use (I1, I9): {place:?}"
        );
        if self.mode != Mode::Overwrite
            && let Some(packet) = self.packets.get(&before)
        {
            let gone = matches!(packet.fate, Fate::Taken | Fate::Lent);
            assert!(gone, "{token:?} opens {start}: not taken yet (I8)");
        }
        self.places[i] = Place {
            start,
            parts: Vec::new(),
            committed: 0,
            records: Vec::new(),
            delivery: Delivery::Open,
            facts: PacketFacts::default(),
            given_up: false,
        };
    }

    fn added(&mut self, token: Token, i: usize, before: u64, after: u64) {
        let value = after.wrapping_sub(before);
        if value == 0 {
            return; // a look at the newest value
        }
        let (size, records) = ((value >> RECORD_BITS).cast_signed(), value & RECORDS);
        let full = self.g.subbuf_size();
        let place = &mut self.places[i];
        let part = place.parts.iter().rposition(|p| p.token == token && p.to - p.from == size);
        let Some(part) = part else {
            panic!("{token:?} commits {size} bytes that it did not reserve (I1): {place:?}");
        };
        place.parts.remove(part);
        place.committed += size.cast_unsigned();
        assert!(place.committed <= full, "more than a sub-buffer is committed (I1)");
        assert!(records <= RECORDS);
        if place.given_up {
            tally("late commits");
        } else if place.committed == full {
            assert_eq!(place.delivery, Delivery::Open, "complete twice (I4)");
            place.delivery = Delivery::Due(token);
        }
    }

    fn emptied(&mut self, token: Token, i: usize, before: u64, after: u64) {
        let counted = self.counted(i);
        let place = &mut self.places[i];
        assert_eq!(
            place.delivery,
            Delivery::Tabled(token),
            "{token:?} delivers what is not its to deliver (I4)"
        );
        assert_eq!(after, before & !RECORDS, "an add is undone (I7)");
        assert_eq!(before & RECORDS, counted, "the counter of records (I7)");
        place.delivery = Delivery::Emptied(token);
    }

    fn recorded(&mut self, token: Token, records: u64) {
        let emptied = |p: &&mut Place| p.delivery == Delivery::Emptied(token);
        let place = self.places.iter_mut().find(emptied).expect("records come out of a counter");
        assert_eq!(self.packets[&place.start].counted, records, "recorded (I7)");
        place.delivery = Delivery::Recorded(token);
        self.recorded += records;
    }

    /// Records in place `i` that are neither aborted nor still being written.
    fn counted(&self, i: usize) -> u64 {
        let place = &self.places[i];
        let open = |at: u64| {
            place.parts.iter().any(|p| (p.from..p.to).contains(&(place.start + at as i64)))
        };
        let counts = |(at, r): &&(u64, usize)| !self.records[*r].aborted && !open(*at);
        place.records.iter().filter(counts).count() as u64
    }

    fn gave_up(&mut self, token: Token, i: usize) {
        assert!(self.finalised && token == Token::READER, "{token:?} gives {i} up");
        let place = &mut self.places[i];
        assert_eq!(place.delivery, Delivery::Open, "what is complete is not given up");
        place.given_up = true;
    }

    fn delivered(&mut self, ring: &Ring, token: Token, i: usize, after: u64) {
        let position = self.position(self.places[i].start);
        let place = &mut self.places[i];
        if after % 2 == 1 {
            assert_eq!(
                place.delivery,
                Delivery::Due(token),
                "{token:?} claims what is not its to deliver (I4)"
            );
            place.delivery = Delivery::Claimed(token);
            return;
        }
        assert_eq!(
            place.delivery,
            Delivery::Recorded(token),
            "{token:?} shows a packet that is not in the table and the books yet (I3, I7)"
        );
        assert_eq!(after, self.g.complete(position), "the value of `delivered`");
        assert!(place.parts.is_empty(), "delivered with a writer inside (I3)");
        place.delivery = Delivery::Done;
        let left = ring.hot(i, COMMITTED).peek() & RECORDS;
        assert_eq!(left, 0, "records are left in the counter (I7)");
        self.packets.get_mut(&place.start).expect("tabled").delivered = true;
    }

    fn table(&mut self, ring: &Ring, token: Token, i: usize, before: u64, after: u64) {
        let (old, new) = (SubBufferId::from_word(before), SubBufferId::from_word(after));
        if self.places[i].delivery == Delivery::Claimed(token) {
            self.tabled(token, i, old, new);
        } else if new.is_noref() && token == Token::READER {
            match (self.lending, new.is_taken()) {
                (false, _) => self.exchanged(i, old, new),
                (true, true) => self.lent(i, old, new),
                (true, false) => self.given_back(i, old, new),
            }
        } else {
            self.referred(token, i, old, new);
        }
        self.named.fill(None);
        for i in 0..self.places.len() {
            let m = SubBufferId::from_word(ring.cold(i, TABLE).peek()).memory().get();
            assert_eq!(self.named[m].replace(i), None, "memory {m} is in two places (I2)");
        }
    }

    /// The deliverer names its packet.
    fn tabled(&mut self, token: Token, i: usize, old: SubBufferId, new: SubBufferId) {
        let start = self.places[i].start;
        let id = SubBufferId::delivered(self.g.lap(self.position(start)), old.memory());
        assert_eq!(new, id, "the word of the packet at {start}");
        assert!(
            self.mode != Mode::Overwrite || !old.is_noref(),
            "the reader could have taken what {token:?} delivers (I2)"
        );
        let counted = self.counted(i);
        let place = &mut self.places[i];
        place.delivery = Delivery::Tabled(token);
        place.records.sort_unstable();
        let packet = Packet {
            records: place.records.iter().map(|(_, r)| *r).collect(),
            counted,
            facts: place.facts,
            delivered: false,
            fate: Fate::InRing,
        };
        self.packets.insert(start, packet);
        self.holds[new.memory().get()] = Some(start);
    }

    /// The reader takes a packet and puts a memory of its own in.
    fn exchanged(&mut self, i: usize, old: SubBufferId, new: SubBufferId) {
        let start = self.leaves_the_ring(i, old, new);
        let packet = self.packets.get_mut(&start).expect("named");
        packet.fate = Fate::Taken;
        self.taken += packet.counted;
        self.exchanged = Some(start);
    }

    /// A snapshot has it, and a memory of the reader's is in its place. It is nobody's in the
    /// books, so overwritten, until it is back.
    fn lent(&mut self, i: usize, old: SubBufferId, new: SubBufferId) {
        let start = self.leaves_the_ring(i, old, new);
        let packet = self.packets.get_mut(&start).expect("named");
        packet.fate = Fate::Lent;
        self.overwritten += packet.counted;
        self.lent.push(start);
    }

    fn given_back(&mut self, i: usize, old: SubBufferId, new: SubBufferId) {
        assert!(old.is_noref() && old.is_taken(), "a writer's word is replaced: {old:?} (I2)");
        let start = self.holds[new.memory().get()].expect("its memory has a packet (I2)");
        let lent = self.lent.iter().position(|l| *l == start).expect("it is lent");
        self.lent.swap_remove(lent);
        let id = SubBufferId::delivered(self.g.lap(self.position(start)), new.memory());
        assert_eq!((self.index(start), new), (i, id), "the word that was there");
        let packet = self.packets.get_mut(&start).expect("lent");
        packet.fate = Fate::InRing;
        self.overwritten -= packet.counted;
    }

    /// It could not be given back: a writer has passed. True: it could.
    pub fn is_back(&mut self, start: i64) -> bool {
        let Some(lent) = self.lent.iter().position(|l| *l == start) else { return true };
        self.lent.swap_remove(lent);
        let passed = self.places[self.index(start)].start > start;
        assert!(passed, "{start} is not given back, and nobody has passed");
        self.packets.get_mut(&start).expect("lent").fate = Fate::Overwritten;
        false
    }

    /// What a snapshot finds that begins now, asks for the `most` newest, and meets nobody.
    pub fn newest_run(&self, most: u64) -> Vec<i64> {
        let end = self.write.div_euclid(self.size()) * self.size();
        let oldest = self.oldest().max(
            end.saturating_sub_unsigned(most.min(self.places.len() as u64) * self.g.subbuf_size()),
        );
        let there = |start: &i64| {
            self.packets.get(start).is_some_and(|p| p.delivered && p.fate == Fate::InRing)
        };
        let mut run: Vec<i64> = (oldest..end).step_by(self.size() as usize).collect();
        run.truncate(run.iter().rposition(there).map_or(0, |last| last + 1));
        run.split_off(run.iter().rposition(|s| !there(s)).map_or(0, |gap| gap + 1))
    }

    /// A reader's exchange of the packet in place `i`; gives its start.
    fn leaves_the_ring(&mut self, i: usize, old: SubBufferId, new: SubBufferId) -> i64 {
        let spare = new.memory().get();
        assert!(old.is_noref() && !old.is_taken(), "the reader takes {old:?} (I2)");
        assert!(new.is_noref() && new.is_taken(), "the reader leaves {new:?} (I5)");
        assert_eq!(self.named[spare], None, "memory {spare} is not the reader's (I2)");
        assert!(!self.held[spare], "memory {spare} is with the output (I2)");
        let start = self.holds[old.memory().get()].expect("a delivered word names a packet");
        assert_eq!(self.index(start), i);
        let packet = &self.packets[&start];
        assert!(packet.delivered, "the reader takes {start} before it is delivered (I3)");
        assert_eq!(packet.fate, Fate::InRing);
        start
    }

    /// A writer turns noref off.
    fn referred(&mut self, token: Token, i: usize, old: SubBufferId, new: SubBufferId) {
        assert_eq!((self.mode, new), (Mode::Overwrite, old.referred()), "{token:?}");
        assert!(self.places[i].holds(token), "{token:?} refers to {i} from outside (I2)");
        if !old.is_taken() {
            let start = self.holds[old.memory().get()].expect("a delivered word names a packet");
            let packet = self.packets.get_mut(&start).expect("named");
            assert_eq!(packet.fate, Fate::InRing);
            packet.fate = Fate::Overwritten;
            self.overwritten += packet.counted;
        }
    }

    fn consumed(&mut self, token: Token, before: u64, after: u64) {
        let (old, new) = (self.at(before), self.at(after));
        assert_eq!(token, Token::READER, "consumed is the reader's alone");
        assert!(new >= old && new % self.size() == 0, "consumed goes from {old} to {new}");
        assert!(new <= self.next_open(), "consumed passes write_pos (I10)");
        for start in (old..new).step_by(self.size() as usize) {
            let is_gone = |p: &Packet| matches!(p.fate, Fate::Taken | Fate::Lent);
            let taken = self.packets.get(&start).is_some_and(is_gone);
            let lapped = self.mode == Mode::Overwrite && self.write - start > self.buffer();
            assert!(taken || lapped || self.passing, "{start} is passed and was not taken (I8)");
        }
        if let Some(start) = self.exchanged.take() {
            assert_eq!(new, start + self.size(), "another packet was taken than was asked (I5)");
        }
        self.owes_room |= new > old;
        self.consumed = new;
    }

    /// The reader died: what it has not moved on from is forgotten.
    pub fn reader_died(&mut self) -> Vec<MemoryIndex> {
        self.exchanged = None;
        self.lending = false;
        self.lent.clear();
        self.held.fill(false);
        let of_the_reader = self.named.iter().enumerate().filter(|(_, n)| n.is_none());
        of_the_reader.map(|(m, _)| MemoryIndex::new(m as u32)).collect()
    }

    /// A grant is what its writer's compare-and-swap reserved; these records lie in it. Gives
    /// the first one's number.
    pub fn granted(&mut self, token: Token, grant: &Grant, records: &[Record]) -> usize {
        let from = self.at(grant.start.get());
        let to = from + i64::from(grant.size);
        let i = self.index(from);
        let place = &mut self.places[i];
        let reserved = place.parts.iter().rfind(|p| p.token == token).map(|p| (p.from, p.to));
        assert_eq!(reserved, Some((from, to)), "{token:?}: the grant is what was reserved (I1)");
        let (first, mut at) = (self.records.len(), grant.offset(self.g));
        for record in records {
            place.records.push((at, self.records.len()));
            self.records.push(*record);
            at += record.size;
        }
        assert_eq!(place.start + at.cast_signed(), to, "measured as written");
        first
    }

    /// One byte of a record, at `offset` of a memory.
    pub fn store(&mut self, ring: &Ring, token: Token, m: MemoryIndex, offset: u64, byte: Byte) {
        let Some(i) = self.named[m.get()] else {
            panic!("{token:?} writes into the reader's memory {m:?} (I2)");
        };
        let place = &self.places[i];
        let at = place.start + offset.cast_signed();
        assert!(
            place.parts.iter().any(|p| p.token == token && (p.from..p.to).contains(&at)),
            "{token:?} writes at {at}, which is not its own (I1): {place:?}"
        );
        let id = SubBufferId::from_word(ring.cold(i, TABLE).peek());
        assert!(
            self.mode != Mode::Overwrite || !id.is_noref(),
            "{token:?} writes into a memory that the reader may take (I2)"
        );
        self.cells[m.get()][offset as usize] = Some(byte);
    }

    /// The deliverer writes the packet header, whole: these facts.
    pub fn store_header(&mut self, token: Token, m: MemoryIndex, facts: PacketFacts) {
        let i = self.named[m.get()].expect("the deliverer's memory is the table's (I2)");
        let position = self.position(self.places[i].start);
        let lost = self.lost_sum();
        assert!(facts.lost <= lost, "it tells {} losses of {lost} (I6)", facts.lost);
        let place = &mut self.places[i];
        assert_eq!(place.delivery, Delivery::Claimed(token), "it writes a header (I3)");
        assert!(place.parts.is_empty(), "a header with a writer inside (I3)");
        assert_eq!(
            facts.sequence,
            self.g.sequence(position),
            "the sequence number of {position:?}"
        );
        place.facts = facts;
    }

    /// A writer's loss is counted: it is named rightly.
    fn counted_lost(&mut self, token: Token, word: usize) {
        let look = self.looks[token.number()];
        match word {
            FULL => assert!(look.full || self.finalised, "{token:?} loses `full`: it is not"),
            WRAP => assert!(look.occupied, "{token:?} loses `wrap`, and nobody is there (I9)"),
            _ => {}
        }
        let overwrites = self.mode == Mode::Overwrite;
        assert!(word != if overwrites { FULL } else { WRAP }, "not in this mode");
        self.lost[word] += 1;
    }

    /// An operation of `token`'s is over: it stands nowhere any more.
    pub fn left(&self, token: Token) {
        let place = self.places.iter().find(|p| p.holds(token));
        assert!(place.is_none(), "{token:?} leaves with a duty left behind (I3, I4): {place:?}");
    }

    /// Whether nothing is open that was not given up.
    pub fn is_settled(&self) -> bool {
        self.places.iter().all(|p| p.given_up || !p.is_occupied())
    }
}
