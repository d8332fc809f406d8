//! An output with a pace of its own ([`Output::pace`]): a line that is slower than what is
//! recorded, and that chooses what it carries just before it carries it. The drain sleeps until
//! the output wants its turn, whatever there is to take, and gives it whether there was anything.
//! Not here: how much a line carries, and which records are worth it.

use std::thread;
use std::time::Instant;

use super::{Control, Notice, PATIENCE, block_on};
use crate::backend::{Backend, Before, Output, Pace};
use crate::channel::Channel;
use crate::frontend::Position;
use crate::stream::Stream;

impl<B: Backend> Channel<B> {
    /// Sleeps until the output wants its turn, or until the drain is wanted; gives it its turn if
    /// it is time.
    pub(super) fn keep(
        &mut self,
        pace: Pace,
        control: &Control,
        other: Option<Instant>,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
    ) {
        let now = Instant::now();
        if pace.at <= now {
            self.step(pace.then, notice, refill_at);
            return;
        }
        let ticket = self.wake.prepare();
        if control.is_asked() {
            self.wake.cancel(ticket);
            return;
        }
        let until = other.map_or(pace.at, |other| other.min(pace.at));
        self.wake.sleep(ticket, Some(until.saturating_duration_since(now)));
    }

    /// One turn, with what the output wants before it.
    pub(super) fn step(
        &mut self,
        before: Before,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
    ) {
        if before == Before::Switch {
            self.streams.iter().for_each(Stream::switch);
        }
        if before != Before::Nothing {
            self.take(notice, refill_at);
        }
        block_on(self.output.turn());
    }

    /// Takes what was there when it began, and waits until it is where it belongs or given up:
    /// until the output is done (`deadline`: the stream has ended, so the output does not go on
    /// for ever), else [`PATIENCE`].
    pub(super) fn drain_paced(
        &mut self,
        marks: &[Position],
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
        deadline: Option<Instant>,
    ) {
        let patience = Instant::now() + PATIENCE;
        // What comes later is not waited for.
        let mut before = Before::Take;
        loop {
            self.step(before, notice, refill_at);
            block_on(self.output.flush());
            let rest = || self.streams.iter().zip(marks).filter(|(s, mark)| !s.is_past(**mark));
            let more = rest().any(|(s, _)| s.has_packet());
            let wants = rest().any(|(s, _)| s.wants_memory());
            // A memory comes back from the output, or in place of a retired one.
            let missing = wants && rest().any(|(s, _)| s.missing() > 0);
            let Some(pace) = self.output.pace() else { return };
            let now = Instant::now();
            let missing = missing && deadline.is_some_and(|at| now < at);
            if !(more || pace.behind || missing) {
                return;
            }
            if deadline.is_none() && now >= patience {
                return;
            }
            before = if more || wants { Before::Take } else { Before::Nothing };
            let at = if more && !pace.behind { now } else { pace.at };
            let at = if deadline.is_none() { at.min(patience) } else { at };
            thread::sleep(at.saturating_duration_since(now));
        }
    }
}
