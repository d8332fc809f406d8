//! The reader: takes packets and puts them back, dies and comes back, ends the stream.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::writer::{deliver, finalise, switch};
use crate::frontend::sim::plan::Reading;
use crate::frontend::sim::world::{Crash, World};
use crate::frontend::sim::{tally, tally_many};
use crate::frontend::{Held, Lent, MemoryIndex, PacketFacts};

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

/// One reader after the other.
pub(super) fn live(world: &World) {
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
                wake_writers(world);
            }
            Err(cause) => resume_unwind(cause),
        }
    }
}

impl Reader<'_> {
    fn live(&mut self) {
        let (world, plan) = (self.world, self.world.plan);
        let mut turns = 0;
        let mut goes_on = |most: Option<u64>| {
            turns += 1;
            !world.stop.get() && !world.ring.is_finalised() && most.is_none_or(|n| turns <= n)
        };
        match plan.reading {
            Reading::Always => {
                while goes_on(plan.turns) {
                    self.turn();
                }
            }
            Reading::Snapshots => {
                while goes_on(plan.turns.or(Some(12))) {
                    self.snapshot(true);
                    (0..world.rng.below(60)).for_each(|_| world.point());
                }
            }
            Reading::AtTheEnd | Reading::Never => world.wait_for_all(),
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
            10 => self.snapshot(true),
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
            wake_writers(world);
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

    /// A snapshot, as the seam takes it: one run without a gap, which ends at the newest.
    fn snapshot(&mut self, mortal: bool) {
        let world = self.world;
        if self.spare.is_empty() {
            return;
        }
        tally("snapshots");
        // As many at once as there are memories, or fewer.
        let at_once = 1 + world.rng.below(self.spare.len() as u64) as usize;
        switch(world);
        let most = if world.rng.one_in(3) { 1 + world.rng.below(3) } else { u64::MAX };
        let (before, expected) = (world.elsewhere(), world.ghost.borrow().newest_run(most));
        world.begins();
        world.ghost.borrow_mut().lending = true;
        world.mortal.set(mortal);
        let g = world.plan.geometry;
        let mut gathering = world.ring.gather(most);
        let begun = g.start(world.quietly(|| world.ring.write_position()));
        assert!(gathering.end().from(begun) <= 0, "what is begun is asked for (I8)");
        let (mut run, mut last): (Vec<i64>, Option<PacketFacts>) = (Vec::new(), None);
        let mut out: VecDeque<(Lent, i64)> = VecDeque::new();
        loop {
            while out.len() < at_once {
                let spare = self.spare.pop().expect("as many as are not out");
                let Some(lent) = world.ring.lend(&mut gathering, spare) else {
                    self.spare.push(spare);
                    break;
                };
                world.say(|| format!("is lent {:?}", lent.facts()));
                let start = world.ghost.borrow_mut().read_lent(lent.memory(), lent.facts());
                out.push_back((lent, start));
            }
            if out.len() > 1 {
                tally("several lent");
            }
            let Some((lent, start)) = out.pop_front() else { break };
            let (m, facts) = (lent.memory(), *lent.facts());
            if lent.begins_again() {
                tally("runs begun again");
                run.clear();
                last = None;
            }
            if let Some(last) = last {
                assert!(facts.begin >= last.end && facts.lost >= last.lost, "in order (I6)");
            }
            // It is still as it was a while later.
            (0..world.rng.below(8)).for_each(|_| world.point());
            world.ghost.borrow_mut().read_lent(m, &facts);
            let size = g.subbuf_size().cast_signed();
            assert!(run.last().is_none_or(|r| r + size == start), "one run, no gap (I8)");
            run.push(start);
            last = Some(facts);
            self.spare.push(world.ring.give_back(lent));
            if !world.ghost.borrow_mut().is_back(start) {
                tally("passed while lent");
            }
        }
        world.mortal.set(false);
        world.ghost.borrow_mut().lending = false;
        assert_eq!(run.len() as u64, gathering.gathered());
        if gathering.is_whole()
            && let Some(last) = last
        {
            let newest = gathering.end().minus(g.subbuf_size());
            assert_eq!(last.sequence, g.sequence(newest), "it ends at the newest (I8)");
        }
        if world.elsewhere() == before {
            assert_eq!(run, expected, "all that the ring holds (I8)");
            tally_many("in quiet snapshots", run.len() as u64);
        }
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
        let takes = !matches!(world.plan.reading, Reading::Never | Reading::Snapshots);
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
        // The last one of a flight recorder; with it the reader's life is over.
        self.snapshot(false);
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

fn wake_writers(world: &World) {
    world.space.wake();
    world.ghost.borrow_mut().owes_room = false;
}
