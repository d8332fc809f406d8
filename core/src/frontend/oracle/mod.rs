//! The frontend against a plain reference, one operation after the other: random ones, chosen
//! by proptest and made small again when they fail. Grants stay open while the ring goes on,
//! so a stalled writer is a state like any other.
//!
//! After each operation everything that can be asked must be exactly what [`reference`] says:
//! grant or refusal, packets and their contents, losses, books, what is settled. What happens
//! when operations overlap is the models' and the simulator's.

mod reference;

use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{
    Closing, Frontend, Geometry, Grant, Held, Layout, Line, Measure, MemoryIndex, Mode, Refused,
    Timestamps,
};
use reference::{Outcome, Reference, Setup, Wish};

type Ring = Frontend<Box<[Line]>>;

/// Stands for laps near 2^32, where the others are the bits of positions.
const LAPS: u32 = 0xFFFF;

#[derive(Clone, Debug)]
enum Operation {
    Reserve(Vec<Wish>, u64),
    Commit(usize),
    Abort(usize),
    Switch(u64),
    Get,
    Put(usize),
    Snapshot(u64, u64),
    EmptyPacket(u64),
    Finalise(u64),
    PassOver,
    PassOverAll,
    LastWords(u64),
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        // Laps whose positions pass 2^32, 2^40, 2^63, and the 32 bits that a table word has.
        let near = |bits| (Just(bits), 1..4u64);
        let start = prop_oneof![Just((0, 0)), near(32), near(40), near(63), near(LAPS)];
        let mode = (prop::sample::select(&Mode::ALL[..]), prop::bool::weighted(0.25));
        let sizes = (1..=6u32, 1..=3u32, 1..=4usize, 0..=3u64);
        (mode, sizes, start)
            .prop_map(|((mode, given), (size, count, reader, header), (bits, back))| {
                let (size, count) = (1 << size, 1 << count);
                let lap = match bits {
                    0 => 0,
                    LAPS => (1 << 32) - back,
                    bits => (1 << bits) / (size * count as u64) - back,
                };
                let header = header.min(size - 1);
                Self::new(Setup { mode, given, size, count, reader, header, lap })
            })
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Operation> {
        let (size, given) = (state.setup.size, state.setup.given);
        let payload = prop_oneof![4 => 0..4u64, 2 => 0..=size, 1 => size.saturating_sub(4)..=size];
        let wish = (payload, -3..10i64).prop_map(|(payload, later)| Wish { payload, later });
        let run = prop::collection::vec(wish, 1..=if given { 4 } else { 1 });
        let later = || prop_oneof![4 => 0..3u64, 1 => 0..20u64];
        let at_the_end = if state.finalised { 12 } else { 1 };
        let (may_reserve, may_commit) = (state.may_reserve(), !state.open.is_empty());
        let (may_get, may_put) = (state.held < state.setup.reader, state.held > 0);
        let operations = [
            (24, may_reserve, (run, later()).prop_map(|(r, l)| Operation::Reserve(r, l)).boxed()),
            (24, may_commit, any::<usize>().prop_map(Operation::Commit).boxed()),
            (3, may_commit && !given, any::<usize>().prop_map(Operation::Abort).boxed()),
            (4, true, later().prop_map(Operation::Switch).boxed()),
            (10, may_get, Just(Operation::Get).boxed()),
            (8, may_put, any::<usize>().prop_map(Operation::Put).boxed()),
            (3, may_get, (later(), 1..5u64).prop_map(|(l, n)| Operation::Snapshot(l, n)).boxed()),
            (3, true, later().prop_map(Operation::EmptyPacket).boxed()),
            (1, true, later().prop_map(Operation::Finalise).boxed()),
            (at_the_end, true, Just(Operation::PassOver).boxed()),
            (1, true, Just(Operation::PassOverAll).boxed()),
            (at_the_end, true, later().prop_map(Operation::LastWords).boxed()),
        ];
        // Only what can be: proptest gives up where too much is turned down.
        let can_be = operations.into_iter().filter(|(_, may, _)| *may);
        Union::new_weighted(can_be.map(|(weight, _, one)| (weight, one)).collect()).boxed()
    }

    fn preconditions(state: &Self, operation: &Operation) -> bool {
        match operation {
            Operation::Reserve(..) => state.may_reserve(),
            Operation::Commit(_) => !state.open.is_empty(),
            Operation::Abort(_) => !state.open.is_empty() && !state.setup.given,
            Operation::Get | Operation::Snapshot(..) => state.held < state.setup.reader,
            Operation::Put(_) => state.held > 0,
            _ => true,
        }
    }

    fn apply(mut state: Self, operation: &Operation) -> Self {
        state.begin(match operation {
            Operation::Reserve(_, later)
            | Operation::Switch(later)
            | Operation::Snapshot(later, _)
            | Operation::EmptyPacket(later)
            | Operation::Finalise(later)
            | Operation::LastWords(later) => *later,
            _ => 0,
        });
        match operation {
            Operation::Reserve(run, _) => state.reserve(run),
            Operation::Commit(n) => state.commit(n % state.open.len(), false),
            Operation::Abort(n) => state.commit(n % state.open.len(), true),
            Operation::Switch(_) => state.switch(),
            Operation::Get => state.get(),
            Operation::Put(_) => state.held -= 1,
            Operation::Snapshot(_, most) => state.snapshot(*most as usize),
            Operation::EmptyPacket(_) => state.empty_packet(),
            Operation::Finalise(_) => state.finalise(),
            Operation::PassOver => state.pass_over(),
            Operation::PassOverAll => state.pass_over_all(),
            Operation::LastWords(_) => state.last_words(),
        }
        state
    }
}

/// The real one, with memories that say which record's bytes lie in them.
struct Real {
    ring: Ring,
    memories: Vec<Vec<Option<usize>>>,
    spare: Vec<MemoryIndex>,
    open: Vec<Grant>,
    held: Vec<Held>,
    ids: usize,
    delivered: Vec<super::PacketFacts>,
}

/// A record, or a run: payloads and times.
struct Wanted<'a> {
    wishes: Vec<(u64, u64)>,
    clock: u64,
    given: bool,
    sizes: &'a mut Vec<u64>,
}

impl Layout for Wanted<'_> {
    fn now(&mut self) -> u64 {
        if self.given { self.wishes[0].1 } else { self.clock }
    }
    fn measure(&mut self, now: u64, last: Option<u64>, room: u64) -> Measure {
        self.sizes.clear();
        let (mut size, mut end, mut before) = (0, now, last);
        for (payload, time) in &self.wishes {
            let time = if self.given { end.max(*time) } else { now };
            let full = before.is_some_and(|b| time.wrapping_sub(b) >= 8);
            let more = payload + 1 + u64::from(full);
            if !self.sizes.is_empty() && size + more > room {
                break;
            }
            self.sizes.push(more);
            (size, end, before) = (size + more, time, Some(time));
        }
        Measure { size, records: self.sizes.len() as u32, end }
    }
}

impl Real {
    fn deliver(&mut self, closing: Option<Closing>) {
        if let Some(closing) = closing {
            let claimed = self.ring.claim(closing);
            self.delivered.push(*claimed.facts());
            self.ring.publish(claimed);
        }
    }

    fn reserve(&mut self, state: &Reference, run: &[Wish]) -> Outcome {
        let wishes = run.iter().map(|w| w.payload).zip(state.times.iter().copied()).collect();
        let mut sizes = Vec::new();
        let (clock, given) = (state.clock, state.setup.given);
        let mut wanted = Wanted { wishes, clock, given, sizes: &mut sizes };
        match self.ring.reserve(&mut wanted) {
            Ok(reserved) => {
                self.deliver(reserved.closing);
                let (g, grant) = (self.ring.geometry(), reserved.grant);
                let (mut at, mut records) = (grant.offset(g), Vec::new());
                for size in &sizes {
                    records.push(reference::Record { id: self.ids, offset: at, size: *size });
                    let bytes = at as usize..(at + size) as usize;
                    self.memories[grant.memory().get()][bytes].fill(Some(self.ids));
                    self.ids += 1;
                    at += size;
                }
                let start = super::Position::new(state.setup.lap.wrapping_mul(g.buffer_size()));
                let packet = grant.start.from(start) as usize / g.subbuf_size() as usize;
                let open = reference::Open { packet, records, time: grant.time() };
                self.open.push(grant);
                Outcome::Grant(open)
            }
            Err(refused) => {
                if let Refused::Lost(lost) = refused {
                    self.ring.count_lost(lost, 1);
                }
                Outcome::Refused(refused)
            }
        }
    }

    /// A packet's facts, and the records that lie in its memory.
    fn content(
        &self,
        memory: MemoryIndex,
        facts: &super::PacketFacts,
    ) -> (super::PacketFacts, Vec<reference::Record>) {
        let bytes = &self.memories[memory.get()][..facts.content as usize];
        let mut records: Vec<reference::Record> = Vec::new();
        for (at, id) in bytes.iter().enumerate().skip(self.ring.geometry().header() as usize) {
            let id = id.expect("a byte of a record");
            match records.last_mut() {
                Some(record) if record.id == id => record.size += 1,
                _ => records.push(reference::Record { id, offset: at as u64, size: 1 }),
            }
        }
        (*facts, records)
    }

    fn snapshot(&mut self, most: u64) -> Outcome {
        let mut gathering = self.ring.gather(most);
        let mut run = Vec::new();
        let mut spare = self.spare.pop().expect("one that is not out");
        while let Some(lent) = self.ring.lend(&mut gathering, spare) {
            if lent.begins_again() {
                run.clear();
            }
            run.push(self.content(lent.memory(), lent.facts()));
            let back = self.ring.give_back(lent);
            assert_eq!(back, spare, "nobody passes");
            spare = back;
        }
        self.spare.push(spare);
        Outcome::Run(run, gathering.is_whole())
    }

    fn get(&mut self) -> Outcome {
        let spare = self.spare.pop().expect("one that is not out");
        match self.ring.get(spare) {
            Ok(held) => {
                let (facts, records) = self.content(held.memory(), held.facts());
                self.held.push(held);
                Outcome::Packet(facts, records)
            }
            Err(why) => {
                self.spare.push(spare);
                Outcome::NotNow(why)
            }
        }
    }
}

struct Oracle;

impl StateMachineTest for Oracle {
    type SystemUnderTest = Real;
    type Reference = Reference;

    fn init_test(state: &Reference) -> Real {
        let Setup { mode, given, size, count, reader, header, lap } = state.setup;
        let g = Geometry::small(size, count as u32, reader as u32, header as u32).expect("small");
        let lines: Box<[Line]> = (0..Ring::lines_needed(g)).map(|_| Line::default()).collect();
        let timestamps = if given { Timestamps::Given } else { Timestamps::Clock };
        let ring = Ring::new_at(lines, g, mode, timestamps, lap).expect("enough lines");
        Real {
            ring,
            memories: vec![vec![None; size as usize]; g.memories() as usize],
            spare: (g.subbuf_count()..g.memories()).map(MemoryIndex::new).collect(),
            open: Vec::new(),
            held: Vec::new(),
            ids: 0,
            delivered: Vec::new(),
        }
    }

    fn apply(mut real: Real, state: &Reference, operation: Operation) -> Real {
        real.delivered.clear();
        let mut outcome = Outcome::Nothing;
        let clock = state.clock;
        match operation {
            Operation::Reserve(run, _) => outcome = real.reserve(state, &run),
            Operation::Commit(n) => {
                let grant = real.open.swap_remove(n % real.open.len());
                let closing = real.ring.commit(grant);
                real.deliver(closing);
            }
            Operation::Abort(n) => {
                let mut grant = real.open.swap_remove(n % real.open.len());
                real.ring.count_aborted();
                grant.give_up();
                let closing = real.ring.commit(grant);
                real.deliver(closing);
            }
            Operation::Switch(_) => {
                let closing = real.ring.switch(|| clock);
                real.deliver(closing);
            }
            Operation::Get => outcome = real.get(),
            Operation::Put(n) => {
                let held = real.held.swap_remove(n % real.held.len());
                real.spare.push(held.memory());
            }
            Operation::Snapshot(_, most) => {
                let closing = real.ring.switch(|| clock);
                real.deliver(closing);
                outcome = real.snapshot(most);
            }
            Operation::EmptyPacket(_) => {
                let closing = real.ring.empty_packet(|| clock);
                real.deliver(closing);
            }
            Operation::Finalise(_) => {
                let closing = real.ring.finalise(|| clock);
                real.deliver(closing);
            }
            Operation::PassOver => outcome = Outcome::PassedOver(real.ring.pass_over()),
            Operation::PassOverAll => outcome = Outcome::PassedOver(real.ring.pass_over_all()),
            Operation::LastWords(_) => {
                let (told, ended) = (Some(state.told), state.ended);
                outcome = Outcome::Facts(real.ring.last_words(told, ended, || clock));
            }
        }
        assert_eq!(outcome, state.outcome, "what it gives");
        assert_eq!(real.delivered, state.delivered, "what it delivers");
        real
    }

    fn check_invariants(real: &Real, state: &Reference) {
        let ring = &real.ring;
        assert_eq!(ring.books(), state.books(), "the books (I7)");
        assert_eq!(ring.is_settled(), state.is_settled(), "settled");
        assert_eq!(ring.is_finalised(), state.finalised);
        assert_eq!(ring.has_packet(), state.has_packet());
        assert_eq!(ring.fill(), state.fill(), "fill");
        assert_eq!(ring.underway(), state.underway(), "underway");
        let g = ring.geometry();
        let undelivered = state.undelivered().map(|i| {
            let first = super::Position::new(state.setup.lap.wrapping_mul(g.buffer_size()));
            first.plus(i as u64 * g.subbuf_size())
        });
        assert_eq!(ring.oldest_undelivered(), undelivered, "who stands in the way");
        let mut memories: Vec<usize> = real
            .spare
            .iter()
            .copied()
            .chain(real.held.iter().map(Held::memory))
            .map(MemoryIndex::get)
            .collect();
        memories.extend((0..g.subbuf_count() as usize).map(|i| ring.table(i).memory().get()));
        memories.sort_unstable();
        assert!(memories.into_iter().eq(0..g.memories() as usize), "each in one place (I2)");
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 6000, failure_persistence: None, ..Config::default() })]
    #[test]
    fn every_operation_gives_what_the_reference_gives(sequential 1..120 => Oracle);
}
