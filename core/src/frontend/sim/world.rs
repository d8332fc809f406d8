//! One run: actors as coroutines on one thread, a scheduler that a seed drives, and what it
//! does to them. Every atomic operation of the frontend is a scheduling point.
//!
//! The scheduler knows who stalls, for how many laps, and who is dead: here a stall is a fact.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use super::Ring;
use super::actors;
use super::atomic::Effect;
use super::ghost::{Ghost, Token};
use super::plan::{Kind, Plan, Rng};
use super::tally;
use crate::frontend::Line;
use crate::wake::Wake;

/// More operations than one actor needs for anything, alone.
const ALONE: u64 = 400;
/// More than a run has.
const STEPS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Rests until `write_pos` is there, or nobody else can go on.
    Stalled {
        until: i64,
    },
    /// Rests until this word has another value.
    Asleep {
        word: usize,
        ticket: u64,
        at_most: bool,
    },
    /// Never goes on.
    Dead,
    Done,
}

/// Ends an actor by unwinding: the run is over, or the reader dies (and comes back).
pub(super) struct Over;
pub(super) struct Crash;

pub(super) struct World {
    pub plan: Plan,
    pub ring: Ring,
    pub ghost: RefCell<Ghost>,
    pub rng: Rng,
    /// Where the reader sleeps, and writers in block mode.
    pub reader: Wake,
    pub space: Wake,
    /// The reader should come to the end: nobody else can go on.
    pub stop: Cell<bool>,
    /// The reader may die here.
    pub mortal: Cell<bool>,
    pub story: bool,
    states: RefCell<Vec<State>>,
    depths: RefCell<Vec<usize>>,
    current: Cell<usize>,
    next: Cell<Option<usize>>,
    running: Cell<bool>,
    over: Cell<bool>,
    solo: Cell<bool>,
    steps: Cell<u64>,
    elsewhere: Cell<u64>,
    alone: Cell<(Token, u64)>,
    clock: Cell<u64>,
    left: RefCell<Plan>,
    offered: Cell<u64>,
}

impl World {
    pub fn new(kind: Kind, seed: u64, story: bool) -> Rc<Self> {
        let rng = Rng::new(seed);
        let plan = Plan::new(kind, &rng);
        let needed = Ring::lines_needed(plan.geometry);
        let lines: Rc<[Line]> = (0..needed).map(|_| Line::default()).collect();
        let ring = Ring::new_at(lines, plan.geometry, plan.mode, plan.timestamps, plan.lap);
        let ring = ring.expect("enough lines");
        let actors = 1 + plan.writers + usize::from(plan.timer.is_some());
        Rc::new(Self {
            ghost: RefCell::new(Ghost::new(&ring, plan.lap)),
            plan,
            ring,
            rng,
            reader: Wake::new(),
            space: Wake::new(),
            stop: Cell::new(false),
            mortal: Cell::new(false),
            story,
            states: RefCell::new(vec![State::Ready; actors]),
            depths: RefCell::new(vec![0; actors]),
            current: Cell::new(0),
            next: Cell::new(Some(0)),
            running: Cell::new(false),
            over: Cell::new(false),
            solo: Cell::new(false),
            steps: Cell::new(0),
            elsewhere: Cell::new(0),
            alone: Cell::new((Token::READER, 0)),
            clock: Cell::new(1),
            left: RefCell::new(plan),
            offered: Cell::new(0),
        })
    }

    /// How many actors there are: the reader, writers, perhaps a timer.
    pub fn actors(&self) -> usize {
        self.states.borrow().len()
    }

    /// Who runs.
    pub fn token(&self) -> Token {
        let actor = self.current.get();
        Token { actor, depth: self.depths.borrow()[actor] }
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.story {
            let Token { actor, depth } = self.token();
            let name = match actor {
                0 => "reader".to_owned(),
                n if n <= self.plan.writers => format!("writer {n}"),
                _ => "timer".to_owned(),
            };
            let at = self.ghost.try_borrow().map_or(-1, |g| g.write_position());
            let indent = "    ".repeat(actor);
            println!(
                "{:6} at {at:4} {indent}{name}{} {}",
                self.steps.get(),
                "'".repeat(depth),
                what()
            );
        }
    }

    /// A clock that never runs backwards; now and then it jumps.
    pub fn now(&self) -> u64 {
        self.point();
        let more = if self.rng.one_in(16) { self.rng.below(20) } else { self.rng.below(3) };
        self.clock.set(self.clock.get() + more);
        self.clock.get()
    }

    /// So many records had an outcome.
    pub fn offered(&self, records: u64) {
        self.offered.set(self.offered.get() + records);
    }

    /// A reader that comes back finds state that it may trust.
    pub fn check_attach(&self) {
        let Plan { geometry, mode, timestamps, .. } = self.plan;
        self.begins();
        let lines = Rc::clone(&self.ring.lines);
        let attached = Ring::attach(lines, geometry, mode, timestamps);
        assert!(attached.is_ok(), "{attached:?} (I12)");
    }

    /// The books (I7): exact at any moment, whoever stands where.
    fn check_books(&self) {
        let ghost = self.ghost.borrow();
        if !ghost.is_handing_over() {
            ghost.check_books(&self.quietly(|| self.ring.books()));
        }
    }

    /// After the end, when all are through or dead: the books (I7), each memory in one place.
    pub fn check(&self) {
        let ghost = self.ghost.borrow();
        ghost.check_packets();
        ghost.tally();
        self.check_books();
        let books = self.ring.books();
        if !self.anybody_died() {
            assert_eq!(books.offered(), self.offered.get(), "offered (I7)");
        }
        if self.plan.kind == Kind::Fair {
            assert_eq!(books.wrap, 0, "lost `wrap`, and nobody stalled (I9)");
        }
    }

    /// Before each atomic operation (and each byte stored): anything may happen here.
    pub fn point(&self) {
        if !self.running.get() || self.over.get() || std::thread::panicking() {
            return;
        }
        let token = self.token();
        self.steps.set(self.steps.get() + 1);
        self.elsewhere.set(self.elsewhere.get() + u64::from(token != Token::READER));
        assert!(self.steps.get() < STEPS, "the run does not end");
        let (last, steps) = self.alone.get();
        let steps = if last == token { steps + 1 } else { 0 };
        assert!(steps < ALONE, "{token:?} needs {steps} steps alone: it waits for others (I9)");
        self.alone.set((token, steps));
        if self.rng.one_in(self.plan.event_every) {
            self.event(token);
        }
        if self.plan.kind == Kind::Fair {
            self.urge();
        } else if !self.solo.get() && self.rng.one_in(self.plan.switch_every) {
            self.go_on(self.pick(|_| true));
        }
    }

    /// An operation of the frontend's begins or ends: it is not one long wait.
    pub fn begins(&self) {
        self.alone.set((self.token(), 0));
        self.solo.set(false);
        if self.rng.one_in(8) {
            self.check_books();
        }
    }

    /// What befalls who runs.
    fn event(&self, token: Token) {
        let spend = |field: fn(&mut Plan) -> &mut u64| {
            let left = &mut *self.left.borrow_mut();
            let n = field(left);
            let some = *n > 0;
            *n -= u64::from(some);
            some
        };
        match self.rng.below(6) {
            0 | 1 if spend(|p| &mut p.stalls) => {
                let laps = self.rng.of(&[0, 1, 1, 2, 3]);
                let buffer = self.plan.geometry.buffer_size().cast_signed();
                let until = self.ghost.borrow().write_position() + 1 + laps * buffer;
                tally("stalls");
                self.say(|| format!("stalls until {until}"));
                self.rest(State::Stalled { until });
            }
            2 if token.actor != 0 && spend(|p| &mut p.deaths) => {
                tally("deaths");
                self.say(|| "dies".to_owned());
                self.rest(State::Dead);
            }
            3 if token.depth < 2 && spend(|p| &mut p.signals) => {
                tally(if token.depth == 0 { "handlers" } else { "handlers in handlers" });
                self.say(|| "is interrupted".to_owned());
                self.depths.borrow_mut()[token.actor] += 1;
                actors::write(self);
                self.depths.borrow_mut()[token.actor] -= 1;
            }
            4 if token == Token::READER && self.mortal.get() && spend(|p| &mut p.crashes) => {
                tally("readers that died");
                self.say(|| "dies, and will come back".to_owned());
                resume_unwind(Box::new(Crash));
            }
            5 if self.plan.kind != Kind::Fair => self.solo.set(true),
            _ => {}
        }
    }

    /// Where nobody may rest for long: who stands where the others come to goes first.
    fn urge(&self) {
        let ghost = self.ghost.borrow();
        if !ghost.is_next_occupied() {
            drop(ghost);
            if self.rng.one_in(self.plan.switch_every) {
                self.go_on(self.pick(|_| true));
            }
        } else if !ghost.stands_in_next(self.current.get()) {
            let next = self.pick(|actor| ghost.stands_in_next(actor));
            drop(ghost);
            self.go_on(next);
        }
    }

    /// Somebody who can go on.
    fn pick(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut states = self.states.borrow_mut();
        let at = self.ghost.borrow().write_position();
        for state in states.iter_mut() {
            if matches!(*state, State::Stalled { until } if until <= at) {
                *state = State::Ready;
            }
        }
        let ready = |a: &usize| states[*a] == State::Ready && may(*a);
        let n = (0..states.len()).filter(ready).count() as u64;
        if n == 0 {
            return None;
        }
        (0..states.len()).filter(ready).nth(self.rng.below(n) as usize)
    }

    /// Lets `next` on; comes back when it is this one's turn again.
    fn go_on(&self, next: Option<usize>) {
        let me = self.current.get();
        if next == Some(me) {
            return;
        }
        self.next.set(next);
        self.running.set(false);
        give_way();
        if self.over.get() {
            resume_unwind(Box::new(Over));
        }
    }

    /// Rests in this state until the scheduler ends it.
    fn rest(&self, state: State) {
        self.solo.set(false);
        self.states.borrow_mut()[self.current.get()] = state;
        self.go_on(self.pick(|_| true).or_else(|| self.release()));
    }

    /// Rests for as long as anybody else can go on.
    pub fn wait_for_all(&self) {
        self.rest(State::Stalled { until: i64::MAX });
    }

    /// Nobody is ready: who stalls comes back; who sleeps does so rightly.
    fn release(&self) -> Option<usize> {
        let mut states = self.states.borrow_mut();
        let find = |f: fn(&State) -> bool| {
            let n = states.iter().filter(|s| f(s)).count() as u64;
            let nth = if n == 0 { 0 } else { self.rng.below(n) };
            states.iter().enumerate().filter(|(_, s)| f(s)).nth(nth as usize).map(|(a, _)| a)
        };
        let stalled = find(|s| matches!(s, State::Stalled { .. }));
        let timed = find(|s| matches!(s, State::Asleep { at_most: true, .. }));
        let next = stalled.or(timed).or_else(|| self.all_sleep(&states));
        if let Some(next) = next {
            states[next] = State::Ready;
        }
        next
    }

    /// All who are left sleep without a timeout. They do so rightly, and the reader comes to
    /// the end.
    fn all_sleep(&self, states: &[State]) -> Option<usize> {
        let asleep = |s: &State| matches!(s, State::Asleep { .. });
        // A dead writer wakes nobody.
        if !states.contains(&State::Dead) {
            let ghost = self.ghost.borrow();
            assert!(
                !(states[1..].iter().any(asleep) && ghost.lets_writers_on()),
                "a wake-up is lost: a writer sleeps, and there is room"
            );
            drop(ghost);
            if asleep(&states[0]) && self.plan.wake_always {
                let left = self.quietly(|| self.ring.has_packet());
                assert!(!left, "a wake-up is lost: the reader sleeps, and there is a packet");
            }
        }
        self.stop.set(true);
        if asleep(&states[0]) {
            return Some(0);
        }
        assert!(!states.iter().any(asleep), "a wake-up is lost: all sleep, and it is the end");
        None
    }

    /// Asks the frontend something without anything happening in between.
    pub fn quietly<T>(&self, ask: impl FnOnce() -> T) -> T {
        let running = self.running.replace(false);
        let told = ask();
        self.running.set(running);
        told
    }

    /// Lets others on, if there are any; those that stall, too, if `all`. False: nobody.
    pub fn pause(&self, all: bool) -> bool {
        self.begins();
        let me = self.current.get();
        let next = self.pick(|a| a != me).or_else(|| {
            let mut states = self.states.borrow_mut();
            let stalled = states.iter().position(|s| all && matches!(s, State::Stalled { .. }));
            if let Some(next) = stalled {
                states[next] = State::Ready;
            }
            stalled
        });
        if next.is_some() {
            self.go_on(next);
        }
        next.is_some()
    }

    pub fn sleep(&self, word: usize, is: u64, ticket: u64, at_most: Option<Duration>) {
        if is == ticket {
            tally("sleeps");
            let token = self.token();
            if token != Token::READER {
                self.ghost.borrow().sleeps(token);
            }
            self.say(|| "sleeps".to_owned());
            self.rest(State::Asleep { word, ticket, at_most: at_most.is_some() });
            self.begins();
        }
    }

    /// An operation has just had its effect.
    pub fn seen(&self, address: usize, effect: Effect) {
        if !self.running.get() || self.over.get() || std::thread::panicking() {
            return;
        }
        for state in self.states.borrow_mut().iter_mut() {
            if let State::Asleep { word, ticket, .. } = *state
                && word == address
                && ticket != effect.after
            {
                *state = State::Ready;
            }
        }
        self.ghost.borrow_mut().seen(&self.ring, self.token(), address, effect);
    }

    /// The coroutine's whole life in this run.
    pub fn live(&self) {
        if self.over.get() {
            return;
        }
        let actor = self.current.get();
        actors::run(self, actor);
        if self.over.get() {
            return;
        }
        self.solo.set(false);
        self.states.borrow_mut()[actor] = State::Done;
        self.next.set(self.pick(|_| true).or_else(|| self.release()));
        self.running.set(false);
    }

    /// Who goes on next; `None`: nobody is left.
    pub fn resume(&self) -> Option<usize> {
        let next = self.next.get()?;
        self.current.set(next);
        self.running.set(true);
        Some(next)
    }

    /// Ends those that did not end by themselves; gives who they are.
    pub fn unfinished(&self) -> Vec<usize> {
        self.over.set(true);
        let states = self.states.borrow();
        let all = states.iter().enumerate();
        all.filter(|(_, s)| **s != State::Done).map(|(actor, _)| actor).collect()
    }
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }
    /// Those that were not the reader's own.
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere.get()
    }
    fn anybody_died(&self) -> bool {
        self.states.borrow().contains(&State::Dead)
    }
}

/// Back to the scheduler's loop.
#[expect(deprecated, reason = "the one way to yield from deep inside; loom does so, too")]
pub(super) fn give_way() {
    generator::yield_with(());
}
