//! What a running drain can be asked for, and its replies.
//!
//! Asks wait in order; the drain takes them between packets. Each gets exactly one reply: the
//! drain's, or, when the drain has ended, panics or stops in between, that it has ended. Not
//! here: what an ask means, which is the drain's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::backend::BackendError;
use crate::snapshot::{Snapped, SnapshotTo};
use crate::stream::{ImportWriter, StreamError};
use crate::wake::Wake;

/// What a drain can be asked for.
#[derive(Debug)]
pub enum Ask {
    /// Everything recorded before this, and every loss, goes to where it belongs.
    Flush,
    /// A flush, and then the output begins a new piece.
    Rotate {
        /// When it was asked for: outputs that share a place begin one piece between them, and
        /// one that was begun since then does.
        since: Instant,
    },
    /// A copy of what the streams hold; nothing is taken.
    Snapshot {
        /// Where it goes.
        to: Arc<dyn SnapshotTo>,
        /// Not now, but when the channel ends and before its rings go.
        at_the_end: bool,
    },
    /// One more stream, for records that bring their own times: for a source that learns only
    /// while it runs whose records it brings.
    Import {
        /// Its CPU, where it has one.
        cpu: Option<u32>,
        /// When it begins: its first record's time, on the clock of its records.
        start: u64,
    },
}

/// What was done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Done {
    /// All is where it belongs.
    Flushed,
    /// A new piece has begun; where the one that ended is, if it is anywhere.
    Rotated(Option<String>),
    /// What was copied.
    Snapped(Snapped),
    /// The stream's one writer.
    Imported(ImportWriter),
}

/// Why it was not, or not wholly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The drain has ended, or ended before it came to this.
    #[error("it has ended")]
    Ended,
    /// What the output says.
    #[error(transparent)]
    Output(#[from] BackendError),
    /// The output has nothing to rotate.
    #[error("its backend has no pieces to rotate")]
    NoPieces,
    /// Some of what was recorded could not be taken.
    #[error(
        "stream {stream}: not all that was recorded could be taken yet: a writer stands inside a record, or no memory is left"
    )]
    #[expect(missing_docs, reason = "named by the message")]
    Behind { stream: u32 },
    /// The output is slower than what is recorded.
    #[error("its output is slow: not all that was recorded is out yet")]
    Slow,
    /// Some of it could not be written.
    #[error("{packets} packets could not be written (output.failed)")]
    #[expect(missing_docs, reason = "named by the message")]
    Failed { packets: u64 },
    /// The stream could not be made.
    #[error("no stream could be made: {0}")]
    NoStream(#[from] StreamError),
}

/// The reply to an [`Ask`].
pub type Answer = Result<Done, Refused>;

/// Whom to tell. Dropped without an answer, it says that the drain has ended.
pub struct Reply(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Reply {
    /// Calls this, once, on the drain's thread: it must not wait, nor ask that drain again.
    pub fn new(tell: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Nobody waits for it.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    pub(super) const fn is_nobody(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn tell(mut self, answer: Answer) {
        if let Some(tell) = self.0.take() {
            tell(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(Refused::Ended));
        }
    }
}

#[derive(Default)]
struct Asks {
    waiting: VecDeque<(Ask, Reply)>,
    ended: bool,
}

/// Asks a running drain for something. One for each drain, and its clones.
#[derive(Clone)]
pub struct Control {
    wake: Arc<Wake>,
    stop: Arc<AtomicBool>,
    asks: Arc<Mutex<Asks>>,
}

impl Control {
    /// For the channel that sleeps at `wake` ([`crate::channel::Channel::waker`]).
    #[must_use]
    pub fn new(wake: Arc<Wake>) -> Self {
        Self { wake, stop: Arc::default(), asks: Arc::default() }
    }

    /// Finalises the channel's streams, drains them and closes the output. Sources have
    /// ended, or lose from here on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Hands over what is part-filled, and losses that no packet tells yet. Does not wait.
    pub fn flush(&self) {
        // One that nobody waits for, and that waits itself, does for this, too.
        let waits = |asks: &Asks| {
            asks.waiting.iter().any(|(ask, to)| matches!(ask, Ask::Flush) && to.is_nobody())
        };
        if waits(&self.asks()) {
            self.wake.wake();
        } else {
            self.ask(Ask::Flush, Reply::nobody());
        }
    }

    /// Asks for something; `reply` is told, whatever happens.
    pub fn ask(&self, ask: Ask, reply: Reply) {
        let mut asks = self.asks();
        if asks.ended {
            // Told by its drop, without the lock.
            drop(asks);
            drop(reply);
            return;
        }
        asks.waiting.push_back((ask, reply));
        drop(asks);
        self.wake.wake();
    }

    /// The same, with a reply that can be waited for. (What it gives ends without a value only
    /// where the drain never ran.)
    #[must_use]
    pub fn request(&self, ask: Ask) -> Receiver<Answer> {
        let (to, from) = mpsc::sync_channel(1);
        // Who does not listen any more has what it wanted.
        self.ask(ask, Reply::new(move |answer| _ = to.send(answer)));
        from
    }

    /// Whether the drain is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether the drain is wanted for anything.
    pub(super) fn is_asked(&self) -> bool {
        self.is_stopped() || !self.asks().waiting.is_empty()
    }

    /// The next ask.
    pub(super) fn next(&self) -> Option<(Ask, Reply)> {
        self.asks().waiting.pop_front()
    }

    /// Flushes that follow each other are one.
    pub(super) fn more_flushes(&self) -> Vec<Reply> {
        let mut asks = self.asks();
        let count = asks.waiting.iter().take_while(|(a, _)| matches!(a, Ask::Flush)).count();
        asks.waiting.drain(..count).map(|(_, reply)| reply).collect()
    }

    /// What ends the asks when the drain ends, however it does.
    pub(super) fn until_the_end(&self) -> Ends<'_> {
        Ends(self)
    }

    fn asks(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives, asks are taken.
pub(super) struct Ends<'a>(&'a Control);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut asks = self.0.asks();
            asks.ended = true;
            std::mem::take(&mut asks.waiting)
        };
        // Each says so itself; without the lock.
        drop(waiting);
    }
}
