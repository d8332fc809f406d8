//! Whoever reserves: writers, and who switches and finalises.

use std::time::Duration;

use crate::frontend::sim::ghost::{Record, Token, WINDOW};
use crate::frontend::sim::world::World;
use crate::frontend::{Closing, Grant, Layout, Lost, Measure, Mode, Refused, Timestamps};

/// What a writer brings: one record, or a run of them with times of their own.
struct Batch<'a> {
    world: &'a World,
    /// Payload sizes and given times.
    rest: &'a [(u64, u64)],
    /// What was measured last.
    taken: Vec<Record>,
    token: Token,
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
            let token = self.token;
            self.taken.push(Record { token, size: more, time, compact, aborted: false });
            (size, end, before) = (size + more, time, Some(time));
        }
        Measure { size, records: self.taken.len() as u32, end }
    }
}

/// One write, as the seam does it: the fast path first, then with the end waiting for what is
/// lost. False: the stream is closed.
pub(in crate::frontend::sim) fn write(world: &World) -> bool {
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
        let mut batch = Batch { world, rest, taken: Vec::new(), token };
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
fn fill(world: &World, mut grant: Grant, taken: &[Record], token: Token) {
    assert_eq!(grant.time(), taken[0].time, "the grant's time is the one that was measured with");
    let first = world.ghost.borrow_mut().granted(token, &grant, taken);
    world.say(|| format!("has records {first}.. of {} bytes", grant.len()));
    let (m, mut at) = (grant.memory(), grant.offset(world.plan.geometry));
    for (r, record) in (first..).zip(taken) {
        for k in 0..record.size {
            if k == 0 || k + 1 == record.size {
                world.point();
            }
            world.ghost.borrow_mut().store(&world.ring, token, m, at + k, (r, k));
        }
        at += record.size;
    }
    if world.plan.aborts && world.rng.one_in(4) {
        world.ghost.borrow_mut().records[first].aborted = true;
        world.ring.count_aborted();
        grant.give_up();
    }
    deliver(world, world.ring.commit(grant));
}

/// Writes the packet header and hands the packet over.
pub(super) fn deliver(world: &World, closing: Option<Closing>) {
    let Some(closing) = closing else { return };
    let claimed = world.ring.claim(closing);
    let (facts, memory) = (*claimed.facts(), claimed.memory());
    world.ghost.borrow_mut().store_header(world.token(), memory, facts);
    world.point();
    world.ghost.borrow_mut().store_header(world.token(), memory, facts);
    world.ring.publish(claimed);
    world.say(|| format!("delivered {facts:?}"));
    let half = u64::from(world.plan.geometry.subbuf_count() / 2);
    if world.plan.wake_always || world.ring.fill() >= half {
        world.reader.wake();
    }
}

pub(super) fn switch(world: &World) {
    world.begins();
    deliver(world, world.ring.switch(|| world.now()));
    world.ghost.borrow().left(world.token());
}

pub(super) fn finalise(world: &World) {
    world.begins();
    world.say(|| "finalises".to_owned());
    deliver(world, world.ring.finalise(|| world.now()));
    world.ghost.borrow().left(world.token());
    world.space.wake();
    world.ghost.borrow_mut().owes_end = false;
}

/// A switch timer that is nobody's own, and perhaps the end.
pub(super) fn timer(world: &World) {
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
