//! What actors do, as the seam and the drain do it: writers, the reader, a timer.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::ghost::{Record, Token, WINDOW};
use super::plan::Reading;
use super::tally;
use super::world::{Crash, Over, World};
use crate::frontend::{
    Closing, Grant, Held, Layout, Lost, Measure, MemoryIndex, Mode, PacketFacts, Refused,
    Timestamps,
};

/// An actor's life.
pub(super) fn run(world: &World, actor: usize) {
    let life = || match actor {
        0 => reader(world),
        n if n <= world.plan.writers => {
            for _ in 0..world.plan.writes {
                if !write(world) {
                    break;
                }
            }
        }
        _ => timer(world),
    };
    if let Err(cause) = catch_unwind(AssertUnwindSafe(life))
        && !cause.is::<Over>()
    {
        resume_unwind(cause);
    }
}

/// What a writer brings: one record, or a run of them with times of their own.
struct Batch<'a> {
    world: &'a World,
    /// Payload sizes and given times.
    rest: &'a [(u64, u64)],
    /// What was measured last: sizes with headers, times, and whether the header is compact.
    taken: Vec<(u64, u64, bool)>,
}

impl Layout for Batch<'_> {
    fn now(&mut self) -> u64 {
        match self.world.plan.timestamps {
            Timestamps::Clock => self.world.now(),
            Timestamps::Given => self.rest[0].1,
        }
    }
    fn measure(&mut self, now: u64, last: Option<u64>, room: u64) -> Measure {
        self.taken.clear();
        let (mut size, mut end, mut before) = (0, now, last);
        for (payload, time) in self.rest {
            let time = if self.world.plan.timestamps == Timestamps::Given {
                now.max(*time).max(end)
            } else {
                now
            };
            let compact = before.is_none_or(|b| time.wrapping_sub(b) < WINDOW);
            let more = payload + if compact { 1 } else { 2 };
            if !self.taken.is_empty() && size + more > room {
                break;
            }
            self.taken.push((more, time, compact));
            (size, end, before) = (size + more, time, Some(time));
        }
        Measure { size, records: self.taken.len() as u32, end }
    }
}

/// One write, as the seam does it: the fast path first, then with the end waiting for what is
/// lost. False: the stream is closed.
pub(super) fn write(world: &World) -> bool {
    let g = world.plan.geometry;
    let given = world.plan.timestamps == Timestamps::Given;
    let n = if given { 1 + world.rng.below(4) } else { 1 };
    let records: Vec<(u64, u64)> = (0..n)
        .map(|_| {
            let largest = g.subbuf_size() - g.header();
            let payload = match world.rng.below(8) {
                0 => largest.saturating_sub(world.rng.below(4)),
                1 | 2 => world.rng.below(largest + 1),
                _ => world.rng.below(4.min(largest)),
            };
            // A given time may go back.
            let time = if given { (world.now() + 2).saturating_sub(world.rng.below(4)) } else { 0 };
            (payload, time)
        })
        .collect();
    let mut rest = &records[..];
    while !rest.is_empty() {
        world.begins();
        let token = world.token();
        let mut batch = Batch { world, rest, taken: Vec::new() };
        let outcome = reserve(world, &mut batch);
        let taken = batch.taken;
        match outcome {
            Ok(grant) => {
                rest = &rest[taken.len()..];
                fill(world, grant, &taken, token);
                world.offered(taken.len() as u64);
            }
            Err(Refused::Lost(lost)) => {
                rest = &rest[1..];
                world.say(|| format!("loses {lost:?}"));
                world.offered(1);
            }
            Err(Refused::Closed) => return false,
        }
        world.ghost.borrow().left(token);
    }
    true
}

/// [`crate::stream`]'s `reserve_fast` and `reserve_slow`.
fn reserve(world: &World, batch: &mut Batch<'_>) -> Result<Grant, Refused> {
    if let Some(grant) = world.ring.reserve_fast(batch) {
        return Ok(grant);
    }
    let Some(_deciding) = world.ring.deciding() else { return Err(Refused::Closed) };
    let lost = match world.ring.reserve(batch) {
        Ok(reserved) => {
            deliver(world, reserved.closing);
            return Ok(reserved.grant);
        }
        Err(Refused::Closed) => return Err(Refused::Closed),
        Err(Refused::Lost(lost)) => lost,
    };
    let Token { actor, depth } = world.token();
    if lost == Lost::Full
        && world.plan.mode == Mode::Block
        && depth == 0
        && actor != 0
        && let Some(grant) = wait_for_space(world, batch)
    {
        return Ok(grant);
    }
    world.ring.count_lost(lost, 1);
    Err(Refused::Lost(lost))
}

/// [`crate::stream`]'s, with a timeout now and then.
fn wait_for_space(world: &World, batch: &mut Batch<'_>) -> Option<Grant> {
    let turns = if world.rng.one_in(4) { world.rng.below(3) } else { u64::MAX };
    world.reader.wake();
    for turn in 0.. {
        let ticket = world.space.prepare();
        match world.ring.reserve(batch) {
            Ok(reserved) => {
                deliver(world, reserved.closing);
                return Some(reserved.grant);
            }
            Err(Refused::Closed) => return None,
            Err(Refused::Lost(Lost::Full)) => {}
            Err(Refused::Lost(_)) => return None,
        }
        if turn >= turns {
            return None;
        }
        let at_most = (turns != u64::MAX).then_some(Duration::ZERO);
        world.space.sleep(ticket, at_most);
        world.begins();
    }
    None
}

/// Writes a grant's bytes and commits it, or gives it up.
fn fill(world: &World, mut grant: Grant, taken: &[(u64, u64, bool)], token: Token) {
    let g = world.plan.geometry;
    let abort = world.plan.aborts && world.rng.one_in(4);
    let first = {
        let ghost = &mut *world.ghost.borrow_mut();
        let first = ghost.records.len();
        let all = taken.iter();
        ghost.records.extend(all.map(|(size, time, compact)| Record {
            token,
            size: *size,
            time: *time,
            compact: *compact,
            aborted: false,
        }));
        let ids: Vec<usize> = (first..ghost.records.len()).collect();
        ghost.granted(token, &grant, &ids);
        first
    };
    assert_eq!(grant.time(), taken[0].1, "the grant's time is the one that was measured with");
    world.say(|| format!("has records {first}.. of {} bytes", grant.len()));
    let mut at = grant.offset(g);
    for (n, (size, _, _)) in taken.iter().enumerate() {
        for k in 0..*size {
            if k == 0 || k + 1 == *size {
                world.point();
            }
            let (ring, m) = (&world.ring, grant.memory());
            world.ghost.borrow_mut().store(ring, token, m, at + k, first + n, k);
        }
        at += size;
    }
    if abort {
        world.ghost.borrow_mut().records[first].aborted = true;
        world.ring.count_aborted();
        grant.give_up();
    }
    deliver(world, world.ring.commit(grant));
}

/// Writes the packet header and hands the packet over.
fn deliver(world: &World, closing: Option<Closing>) {
    let Some(closing) = closing else { return };
    let claimed = world.ring.claim(closing);
    let (facts, memory) = (*claimed.facts(), claimed.memory());
    world.ghost.borrow_mut().store_header(world.token(), memory, facts);
    world.point();
    world.ghost.borrow_mut().store_header(world.token(), memory, facts);
    world.ring.publish(claimed, world.plan.publish);
    world.say(|| format!("delivered {facts:?}"));
    let half = u64::from(world.plan.geometry.subbuf_count() / 2);
    if world.plan.wake_always || world.ring.fill() >= half {
        world.reader.wake();
    }
}

fn switch(world: &World) {
    world.begins();
    deliver(world, world.ring.switch(|| world.now()));
    world.ghost.borrow().left(world.token());
}

fn finalise(world: &World) {
    world.begins();
    world.say(|| "finalises".to_owned());
    deliver(world, world.ring.finalise(|| world.now()));
    world.ghost.borrow().left(world.token());
    world.space.wake();
}

/// A switch timer that is nobody's own, and perhaps the end.
fn timer(world: &World) {
    let Some(timer) = world.plan.timer else { return };
    for _ in 0..timer.switches {
        (0..world.rng.below(40)).for_each(|_| world.point());
        switch(world);
    }
    if timer.finalises {
        (0..world.rng.below(200)).for_each(|_| world.point());
        finalise(world);
        world.reader.wake();
    }
}

/// The reader's side. What it holds dies with it; what it has read is in the trace.
struct Reader<'a> {
    world: &'a World,
    spare: Vec<MemoryIndex>,
    out: Vec<Held>,
    /// Losses told by the last packet, and its end.
    told: u64,
    ended: u64,
    /// It, or one before it, has passed over a sub-buffer.
    passed: bool,
}

fn reader(world: &World) {
    let g = world.plan.geometry;
    let spare = (g.subbuf_count()..g.memories()).map(MemoryIndex::new).collect();
    let mut reader = Reader { world, spare, out: Vec::new(), told: 0, ended: 0, passed: false };
    loop {
        match catch_unwind(AssertUnwindSafe(|| reader.live())) {
            Ok(()) => return,
            Err(cause) if cause.is::<Crash>() => {
                // Another one: it owns what the table does not name.
                world.mortal.set(false);
                reader.out.clear();
                reader.spare = world.ghost.borrow_mut().reader_died();
                world.check_attach();
                // It may have died with a place free and nobody told.
                world.space.wake();
            }
            Err(cause) => resume_unwind(cause),
        }
    }
}

impl Reader<'_> {
    fn live(&mut self) {
        let (world, plan) = (self.world, self.world.plan);
        if plan.reading == Reading::Always {
            let mut turns = 0;
            while !world.stop.get()
                && !world.ring.is_finalised()
                && plan.turns.is_none_or(|n| turns < n)
            {
                turns += 1;
                self.turn();
            }
        } else {
            world.wait_for_all();
        }
        self.finish();
    }

    /// One turn of its own: a packet, a memory back, a switch, a flush, the books, a rest.
    fn turn(&mut self) {
        let world = self.world;
        match world.rng.below(20) {
            0 | 1 => switch(world),
            2 | 3 => self.flush(),
            4 => {
                world.begins();
                let taken = world.ghost.borrow().taken;
                let books = world.ring.books();
                assert!(books.recorded >= taken, "{books:?}, and {taken} were read (I7)");
            }
            5..10 => self.put(),
            _ => {
                if !self.get() {
                    self.idle();
                }
            }
        }
    }

    fn idle(&mut self) {
        let world = self.world;
        while !self.out.is_empty() {
            self.put();
        }
        world.begins();
        let ticket = world.reader.prepare();
        if world.ring.has_packet() || world.ring.is_finalised() {
            world.reader.cancel(ticket);
            return;
        }
        world.reader.sleep(ticket, None);
    }

    fn get(&mut self) -> bool {
        let world = self.world;
        let Some(spare) = self.spare.pop() else { return false };
        world.begins();
        let before = world.quietly(|| world.ring.consumed());
        world.mortal.set(true);
        let got = world.ring.get(spare);
        world.mortal.set(false);
        if world.quietly(|| world.ring.consumed()) != before {
            // Also where it only moved on from what a dead one had taken.
            world.space.wake();
        }
        match got {
            Ok(held) => {
                let (m, facts) = (held.memory(), *held.facts());
                world.ghost.borrow_mut().held[m.get()] = true;
                world.ghost.borrow_mut().read_next(m, &facts);
                world.say(|| format!("has {facts:?}"));
                (self.told, self.ended) = (facts.lost, facts.end);
                self.out.push(held);
                true
            }
            Err(_) => {
                self.spare.push(spare);
                false
            }
        }
    }

    /// Puts one back, whichever; it is still as it was.
    fn put(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let world = self.world;
        let held = self.out.swap_remove(world.rng.below(self.out.len() as u64) as usize);
        let m = held.memory();
        world.point();
        world.ghost.borrow_mut().read(m, held.facts());
        world.ghost.borrow_mut().held[m.get()] = false;
        self.spare.push(m);
    }

    fn drain(&mut self) {
        loop {
            while !self.out.is_empty() {
                self.put();
            }
            if !self.get() {
                return;
            }
        }
    }

    fn flush(&mut self) {
        let world = self.world;
        switch(world);
        self.drain();
        world.begins();
        let closing = world.ring.empty_packet(|| world.now());
        if closing.is_some() {
            tally("empty packets");
        }
        deliver(world, closing);
        world.ghost.borrow().left(world.token());
    }

    /// `drain.rs`: finalise, wait, drain, pass over what is open, last words.
    fn finish(&mut self) {
        let world = self.world;
        let takes = world.plan.reading != Reading::Never;
        finalise(world);
        let mut patience = world.plan.patience;
        let is_settled = loop {
            if takes {
                self.drain();
            }
            world.begins();
            if world.ring.is_settled() {
                break true;
            }
            if patience == 0 || !world.pause(patience == u64::MAX) {
                break false;
            }
            patience -= u64::from(patience != u64::MAX);
        };
        world.say(|| format!("is at the end, settled: {is_settled}"));
        // Where something was passed over, it may still be going on.
        let settled = is_settled && !self.passed;
        if settled {
            assert!(world.ghost.borrow().is_settled(), "settled with a writer inside (I13)");
        }
        if takes {
            self.last_packets(settled);
            self.last_words(settled);
        }
        self.pass_over_all(settled);
    }

    /// What is in the ring now comes out, all of it, without a gap.
    fn last_packets(&mut self, settled: bool) {
        let world = self.world;
        loop {
            let expected = world.ghost.borrow().expected();
            let mut read = Vec::new();
            while self.get() {
                read.extend(world.ghost.borrow().last_start());
                self.put();
            }
            if settled {
                assert_eq!(read, expected, "everything that was committed is readable (I8, I13)");
            }
            world.begins();
            world.ghost.borrow_mut().passing = true;
            let over = world.ring.pass_over();
            world.ghost.borrow_mut().passing = false;
            let Some(records) = over else { break };
            world.say(|| format!("passes over {records} records"));
            assert!(!settled, "passes over what is settled");
            self.passed = true;
        }
    }

    fn last_words(&mut self, settled: bool) {
        let world = self.world;
        world.begins();
        let before = world.elsewhere();
        let words = world.ring.last_words(Some(self.told), self.ended, || world.now());
        if let Some(facts) = words {
            let PacketFacts { begin, end, lost, records, .. } = facts;
            assert!(begin >= self.ended && end >= begin, "last words before the last packet (I6)");
            assert!(records == 0 && lost > self.told, "{facts:?} told {}", self.told);
            tally("last words");
            self.told = lost;
        }
        if settled || world.elsewhere() == before {
            let lost = world.ghost.borrow().lost_in_all();
            assert_eq!(self.told, lost, "the trace tells what was lost (I7)");
        }
    }

    fn pass_over_all(&mut self, settled: bool) {
        let world = self.world;
        world.begins();
        world.ghost.borrow_mut().passing = true;
        let over = world.ring.pass_over_all();
        world.ghost.borrow_mut().passing = false;
        assert!(!settled || over.is_none(), "passes over what is settled");
    }
}
