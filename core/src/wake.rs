//! Waking a sleeper: an "asleep" flag and a futex. Both ways, reader and block-mode writers.
//!
//! The waker stores what the sleeper waits for, fences, and looks at the flag; the sleeper
//! sets the flag, fences, and looks again before it sleeps. Each side's store is before its
//! own fence and its load after it, so one of the two sees the other (store buffering:
//! without both SeqCst fences a wake-up is lost). No lock, no allocation: usable from a
//! signal handler.

use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// A place to sleep, for any number of sleepers.
#[derive(Debug, Default)]
pub struct Wake {
    state: AtomicU32,
}

impl Wake {
    /// Nobody asleep.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the caller is about to sleep. It must look at what it waits for after this
    /// and before [`Wake::sleep`].
    pub fn prepare(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        // SeqCst: with the fence in `wake`, over this flag and what is waited for.
        fence(Ordering::SeqCst);
    }

    /// Takes [`Wake::prepare`] back.
    pub fn cancel(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeps until woken, or at most this long (`None`: without end). May return early.
    #[cfg(not(loom))]
    pub fn sleep(&self, at_most: Option<Duration>) {
        use rustix::thread::futex;
        let timeout = at_most.map(|t| futex::Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        // Errors are "not asleep any more", "interrupted" and "time is up": all of them
        // reasons to look again, which the caller does anyway.
        let _ = futex::wait(&self.state, futex::Flags::PRIVATE, ASLEEP, timeout.as_ref());
    }

    /// See the other one; in a model time does not pass.
    #[cfg(loom)]
    pub fn sleep(&self, _at_most: Option<Duration>) {
        loom::thread::yield_now();
    }

    /// Wakes who sleeps, or is about to. Cheap when nobody does: a fence and a load.
    pub fn wake(&self) {
        // SeqCst: with the fence in `prepare`.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != AWAKE {
            self.wake_slow();
        }
    }

    #[cold]
    fn wake_slow(&self) {
        if self.state.swap(AWAKE, Ordering::Relaxed) == AWAKE {
            return; // another waker does it
        }
        #[cfg(not(loom))]
        {
            use rustix::thread::futex;
            let _ = futex::wake(&self.state, futex::Flags::PRIVATE, i32::MAX.cast_unsigned());
        }
    }

    /// Whether somebody is asleep, or about to be.
    #[cfg(loom)]
    pub fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ASLEEP
    }
}
