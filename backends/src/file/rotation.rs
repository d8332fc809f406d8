//! When a piece ends: asked for, old enough, or full. One moment for all who write into the
//! directory: each write happens inside a [`Piece`], and a new one begins when nobody is in
//! one.
//!
//! What follows a rotation and takes its time is `chores.rs`'s.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;
use rbpipe_core::clock;
use rbpipe_core::packet::{MAX_HEADER, packet_size};

use super::directory::{Directory, State, identity, lock};
use super::pieces;
use crate::trace::new_uuid;

/// What failed is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// When pieces end, and how many are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of a piece at most, where one write is not more.
    pub(super) size: Option<u64>,
    /// How old a piece becomes.
    pub(super) every: Option<Duration>,
    /// How many are kept beside the current one; `None`: all.
    pub(super) keep: Option<u64>,
}

impl Limits {
    /// Whether there are any.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    /// What channels that share a directory say between them.
    pub(super) fn merge(self, other: Self) -> Result<Self, &'static str> {
        fn one<T: PartialEq>(
            key: &'static str,
            a: Option<T>,
            b: Option<T>,
        ) -> Result<Option<T>, &'static str> {
            match (a, b) {
                (Some(a), Some(b)) if a != b => Err(key),
                (a, b) => Ok(a.or(b)),
            }
        }
        Ok(Self {
            size: one("rotate_size", self.size, other.size)?,
            every: one("rotate_every", self.every, other.every)?,
            keep: one("rotate_keep", self.keep, other.keep)?,
        })
    }
}

/// The current piece.
pub(super) struct Piece {
    /// How many have ended before it.
    pub(super) count: u64,
    /// Each piece is a trace by itself: its counters begin anew, so readers that take traces
    /// with one uuid for one trace must not do so.
    pub(super) uuid: [u8; 16],
    /// When it began (CLOCK_MONOTONIC, ns).
    pub(super) start: u64,
    pub(super) limits: Limits,
    began: Instant,
    due: Option<Instant>,
    /// One could not be begun: not tried before this.
    again: Option<Instant>,
    /// Where the one before it is.
    ended: Option<PathBuf>,
}

impl Piece {
    pub(super) fn first(uuid: [u8; 16]) -> Self {
        Self {
            count: 0,
            uuid,
            start: clock::now(),
            limits: Limits::default(),
            began: Instant::now(),
            due: None,
            again: None,
            ended: None,
        }
    }
}

/// Bytes of the empty packet that a file begins with, at most.
pub(super) const EMPTY: u64 = packet_size(MAX_HEADER as u64);

/// Why a piece is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Somebody asked then.
    Asked(Instant),
    /// It is old enough.
    Due,
    /// It is full; it is the one of this count.
    Full(u64),
}

impl Directory {
    /// Inside the current piece there is room for so many bytes: it lasts until this is
    /// dropped.
    pub(super) fn enter(self: &Arc<Self>, bytes: u64) -> RwLockReadGuard<'_, Piece> {
        loop {
            let piece = self.piece.read().unwrap_or_else(PoisonError::into_inner);
            // Relaxed: set to 0 by who is alone in here, with the lock.
            let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
            let fits = |size| before == 0 || before + bytes <= size;
            if piece.limits.size.is_none_or(fits)
                || piece.again.is_some_and(|at| at > Instant::now())
            {
                return piece;
            }
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            let count = piece.count;
            drop(piece);
            // What goes wrong is said there; the piece then grows.
            let _ = self.rotate(Why::Full(count));
        }
    }

    /// Bytes that were announced to [`Self::enter`] and not written. Inside the same piece.
    pub(super) fn give_back(&self, _piece: &Piece, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What one write may carry at most, so that a piece is not larger than it may be.
    pub(super) fn most_bytes(&self, usual: usize) -> usize {
        let piece = self.piece.read().unwrap_or_else(PoisonError::into_inner);
        let room = piece.limits.size.map(|size| size.saturating_sub(EMPTY));
        room.and_then(|room| usize::try_from(room).ok()).map_or(usual, |room| room.min(usual))
    }

    /// Its time runs from when the first output is made.
    pub(super) fn first_begins(&self) {
        let mut piece = self.piece.write().unwrap_or_else(PoisonError::into_inner);
        piece.due = piece.limits.every.map(|t| Instant::now() + t);
    }

    /// How many pieces have ended.
    pub(super) fn count(&self) -> u64 {
        self.piece.read().unwrap_or_else(PoisonError::into_inner).count
    }

    /// A piece's path as the configuration names it, if that says where it is.
    pub(super) fn shown_piece(&self, piece: &Path) -> PathBuf {
        let shown = self.shown();
        let same = shown.file_name() == self.path().file_name() && !shown.is_symlink();
        match piece.file_name() {
            Some(name) if same => shown.with_file_name(name),
            _ => piece.to_owned(),
        }
    }

    /// When the current piece is old enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.piece.read().unwrap_or_else(PoisonError::into_inner).due
    }

    /// Ends the current piece and begins the next one, if that is still wanted. Gives where
    /// the one is that ended.
    pub(super) fn rotate(self: &Arc<Self>, why: Why) -> Result<Option<PathBuf>, BackendError> {
        let mut piece = self.piece.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let again = |piece: &Piece| piece.again.is_some_and(|at| at > now);
        match why {
            Why::Asked(since) if piece.count > 0 && piece.began >= since => {
                return Ok(piece.ended.clone());
            }
            Why::Asked(_) => {}
            Why::Due if piece.due.is_none_or(|at| at > now) => return Ok(None),
            // Nothing was recorded in its time: it lasts.
            Why::Due if self.bytes.load(Ordering::Relaxed) == 0 => {
                piece.due = piece.limits.every.map(|t| now + t);
                return Ok(None);
            }
            Why::Due => {}
            Why::Full(count) if piece.count != count || again(&piece) => return Ok(None),
            Why::Full(_) => {}
        }
        let result = self.begin_piece(&mut piece, now);
        if let Err(e) = &result {
            piece.again = Some(now + AGAIN);
            piece.due = piece.due.map(|at| at.max(now + AGAIN));
            if !matches!(why, Why::Asked(_)) {
                tracing::error!("{}; recording goes on in the current piece", chain(e));
            }
        }
        drop(piece);
        if let Ok(ended) = &result {
            tracing::debug!("{}: a piece has ended ({why:?})", ended.display());
            self.tidy();
        }
        result.map(Some)
    }

    /// Alone in the directory.
    fn begin_piece(&self, piece: &mut Piece, now: Instant) -> Result<PathBuf, BackendError> {
        let (path, shown) = (self.path(), self.path().display());
        let failed = |e| BackendError::io(format!("{shown}: a new piece cannot be begun"), e);
        let mut state = self.state();
        if state.id.is_none() || state.id != identity(path) {
            return Err(BackendError::new(format!(
                "{shown}: was removed or moved away: there is no piece to end"
            )));
        }
        pieces::refuse(path)?;
        let uuid = new_uuid()?;
        let next = pieces::prepare(path).map_err(failed)?;
        let swapped = self.swap(&mut state, &next, uuid);
        let (number, lock) = match swapped {
            Ok(done) => done,
            Err(e) => {
                // Just made, and nothing but metadata in it.
                let _ = pieces::remove_ours(&next);
                return Err(e);
            }
        };
        state.begun_anew(path, lock);
        state.next_piece = number + 1;
        let ended = pieces::name(path, number);
        self.bytes.store(0, Ordering::Relaxed);
        *piece = Piece {
            count: piece.count + 1,
            uuid,
            start: clock::now(),
            limits: piece.limits,
            began: Instant::now(),
            due: piece.limits.every.map(|t| now + t),
            again: None,
            ended: Some(ended.clone()),
        };
        Ok(ended)
    }

    /// Fills the next piece's directory with metadata, and puts it in its place.
    fn swap(
        &self,
        state: &mut State,
        next: &Path,
        uuid: [u8; 16],
    ) -> Result<(u64, Option<std::fs::File>), BackendError> {
        let shown = self.path().display();
        let failed = |e| BackendError::io(format!("{shown}: a new piece cannot be begun"), e);
        // Nobody else's, before it has its name.
        let lock = lock(next)?;
        let before = state.written.take();
        let wanted = state.wanted();
        let done = self
            .update_in(next, uuid, state, &wanted)
            .and_then(|()| pieces::swap(self.path(), next, state.next_piece));
        match done {
            Ok(number) => Ok((number, lock)),
            Err(e) => {
                state.written = before;
                Err(failed(e))
            }
        }
    }
}

/// For the end of the program: where the pieces are.
pub(super) fn told(directory: &Directory) -> Vec<String> {
    let count = directory.count();
    let numbers = pieces::numbers(directory.path()).unwrap_or_default();
    let shown = |number: u64| {
        let piece = pieces::name(directory.path(), number);
        directory.shown_piece(&piece).display().to_string()
    };
    let earlier = match numbers.as_slice() {
        _ if count == 0 => return Vec::new(),
        [] => "no earlier one is kept".into(),
        [one] => format!("an earlier one is {}", shown(*one)),
        [first, .., last] => {
            format!("{} earlier ones are {} to {}", numbers.len(), shown(*first), shown(*last))
        }
    };
    vec![format!("{}: the last of {} pieces; {earlier}", directory.shown().display(), count + 1)]
}

/// An error with its cause.
fn chain(e: &BackendError) -> String {
    use std::error::Error;
    match e.source() {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    }
}
