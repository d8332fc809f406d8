//! Waking a sleeper: an "asleep" flag with a count of wakings, and a futex. Both ways, reader and block-mode writers.
//!
//! The waker stores what the sleeper waits for, fences, and looks at the flag; the sleeper
//! sets the flag, fences, and looks again before it sleeps. Each side's store is before its
//! own fence and its load after it, so one of the two sees the other (store buffering:
//! without both SeqCst fences a wake-up is lost). No lock, no allocation: usable from a
//! signal handler.

use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, fence};

/// The low bit of the state: somebody is asleep, or about to be. The bits above count wakings,
/// so that a sleeper that was late sees that its waking has passed.
const ASLEEP: u32 = 1;

/// A place to sleep, for any number of sleepers.
#[derive(Debug, Default)]
pub struct Wake {
    state: AtomicU32,
}

/// What [`Wake::prepare`] found: a sleep with it ends at the next waking, also one that came
/// before the sleep.
#[must_use = "to sleep with, or to cancel"]
#[derive(Debug)]
pub struct Ticket(u32);

impl Wake {
    /// Nobody asleep.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the caller is about to sleep. It must look at what it waits for after this
    /// and before [`Wake::sleep`].
    pub fn prepare(&self) -> Ticket {
        let ticket = self.state.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;
        // SeqCst: with the fence in `wake`, over this word and what is waited for.
        fence(Ordering::SeqCst);
        Ticket(ticket)
    }

    /// Takes [`Wake::prepare`] back, where there is one sleeper alone: it would take back
    /// another one's, too.
    pub fn cancel(&self, ticket: Ticket) {
        // Relaxed: the fences order what this word is about; the word alone is looked at here.
        let (Ticket(old), order) = (ticket, Ordering::Relaxed);
        // If somebody was woken in between, there is nothing to take back.
        let _ = self.state.compare_exchange(old, old & !ASLEEP, order, order);
    }

    /// Sleeps until woken, or at most this long (`None`: without end). May return early.
    #[cfg(not(any(loom, all(test, sim))))]
    pub fn sleep(&self, ticket: Ticket, at_most: Option<Duration>) {
        use rustix::thread::futex;
        let timeout = at_most.map(|t| futex::Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        // Errors are "not asleep any more", "interrupted" and "time is up": all of them
        // reasons to look again, which the caller does anyway.
        let _ = futex::wait(&self.state, futex::Flags::PRIVATE, ticket.0, timeout.as_ref());
    }

    /// See the other one; in a model time does not pass.
    #[cfg(loom)]
    pub fn sleep(&self, _ticket: Ticket, _at_most: Option<Duration>) {
        loom::thread::yield_now();
    }

    /// In a simulation: until the state is another one, or until its time is up.
    #[cfg(all(test, sim))]
    pub fn sleep(&self, ticket: Ticket, at_most: Option<Duration>) {
        crate::frontend::sim::sleep(&self.state, ticket.0, at_most);
    }

    /// Wakes all who sleep, or are about to. Cheap when nobody does: a fence and a load.
    pub fn wake(&self) {
        // SeqCst: with the fence in `prepare`.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state & ASLEEP != 0 {
            self.wake_slow(state);
        }
    }

    #[cold]
    fn wake_slow(&self, mut state: u32) {
        // Relaxed: as in `cancel`; the fence was in `wake`.
        let order = Ordering::Relaxed;
        // The flag off and one more waking: no ticket given so far is this value.
        while let Err(now) = self.state.compare_exchange(state, state.wrapping_add(1), order, order)
        {
            if now & ASLEEP == 0 {
                return; // another waker does it
            }
            state = now;
        }
        #[cfg(not(any(loom, all(test, sim))))]
        {
            use rustix::thread::futex;
            let _ = futex::wake(&self.state, futex::Flags::PRIVATE, i32::MAX.cast_unsigned());
        }
    }

    /// Whether a sleep with this ticket would last.
    #[cfg(loom)]
    pub fn would_sleep(&self, ticket: &Ticket) -> bool {
        self.state.load(Ordering::Relaxed) == ticket.0
    }
}

#[cfg(all(test, not(any(loom, sim))))]
mod tests {
    use super::*;
    use std::time::Instant;

    /// One sleeper's waking must not be undone by another one that only looks.
    #[test]
    fn a_late_sleeper_sees_that_its_waking_has_passed() {
        let wake = Wake::new();
        let late = wake.prepare();
        wake.wake();
        let _found_room = wake.prepare();
        let begin = Instant::now();
        wake.sleep(late, Some(Duration::from_secs(20)));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
