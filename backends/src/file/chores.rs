//! What follows a rotation and takes its time: files of the piece that has ended are closed, the
//! oldest pieces removed. One thread at a time does it, and ends when nothing is left to do, so
//! that neither a drain nor a writer waits.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use super::directory::Directory;
use super::pieces;
use super::stream_file::StreamFile;
use super::writer::Shared;

/// What is done apart, by one thread at a time.
#[derive(Default)]
pub(super) struct Chores {
    wanted: bool,
    busy: bool,
    thread: Option<JoinHandle<()>>,
    pools: Vec<Weak<Shared>>,
    files: Vec<(StreamFile, bool)>,
    /// Pieces that could not be removed: said once.
    left_alone: Vec<u64>,
}

impl Directory {
    /// A channel's threads, whose files are closed when their piece has ended.
    pub(super) fn register(&self, pool: &Arc<Shared>) {
        self.chores().pools.push(Arc::downgrade(pool));
    }

    /// A file of a piece that has ended: to be closed, and forced to the disk with `sync`.
    pub(super) fn retire(self: &Arc<Self>, file: StreamFile, sync: bool) {
        self.chores().files.push((file, sync));
        self.tidy();
    }

    /// Has a thread do what is left to do, if none does already.
    pub(super) fn tidy(self: &Arc<Self>) {
        let mut chores = self.chores();
        chores.wanted = true;
        if chores.busy {
            return;
        }
        chores.busy = true;
        let this = Arc::clone(self);
        // The last one has ended, or is about to.
        chores.thread =
            match thread::Builder::new().name("pieces".into()).spawn(move || this.work()) {
                Ok(thread) => Some(thread),
                Err(_) => {
                    // Not now: with the next piece, or at the end.
                    chores.busy = false;
                    None
                }
            };
    }

    fn work(&self) {
        loop {
            let (pools, mut files) = {
                let mut chores = self.chores();
                if !chores.wanted {
                    chores.busy = false;
                    return;
                }
                chores.wanted = false;
                chores.pools.retain(|p| p.strong_count() > 0);
                (chores.pools.clone(), std::mem::take(&mut chores.files))
            };
            let count = self.count();
            for pool in pools.iter().filter_map(Weak::upgrade) {
                files.extend(pool.stale(count));
            }
            for (mut file, sync) in files {
                // One that was removed in between is nobody's any more.
                let closed = file.close().is_ok();
                if let (true, true, Err(e)) = (closed, sync, file.sync()) {
                    let path = file.path().display();
                    tracing::error!("{path}: cannot force to the disk (an ended piece): {e}");
                }
            }
            self.remove_old();
        }
    }

    /// Removes what is more than is kept.
    fn remove_old(&self) {
        let keep = self.piece.read().unwrap_or_else(PoisonError::into_inner).limits.keep;
        let Some(keep) = keep else { return };
        let Ok(numbers) = pieces::numbers(self.path()) else { return };
        let excess = numbers.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        for number in &numbers[..excess] {
            if self.chores().left_alone.contains(number) {
                continue;
            }
            let piece = pieces::name(self.path(), *number);
            if let Err(e) = pieces::remove_ours(&piece) {
                self.chores().left_alone.push(*number);
                tracing::warn!("{}: an old piece is not removed: {e}", piece.display());
            }
        }
    }

    /// Waits until what is left to do is done.
    pub(super) fn finish_chores(self: &Arc<Self>) {
        if self.count() == 0 {
            return;
        }
        self.tidy();
        let thread = self.chores().thread.take();
        match thread {
            Some(thread) => _ = thread.join(),
            None if self.chores().busy => {}
            None => self.work(),
        }
    }

    fn chores(&self) -> MutexGuard<'_, Chores> {
        self.chores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
