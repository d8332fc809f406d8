//! Waiting for a directory to change, or for the reader of stdout to go away.
//!
//! By inotify; where there is none (a limit, a file system of another machine), by looking
//! again and again: soon after something came, seldom after that.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Without inotify: how soon it looks again after something came …
const SOON: Duration = Duration::from_millis(1);
/// … and how seldom when nothing did.
const SELDOM: Duration = Duration::from_millis(50);

/// Watches directories.
pub struct Watch {
    inotify: Option<OwnedFd>,
    /// Not all of them could be watched.
    blind: bool,
    pause: Duration,
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Files have grown.
    Grown,
    /// There may be new files, or others; or time is up.
    Changed,
    /// Nobody reads what is printed any more.
    ReaderGone,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        Self { blind: inotify.is_none(), inotify, pause: SOON }
    }

    /// Watches a directory; gives what [`Watch::remove`] is to be told.
    pub fn add(&mut self, directory: &Path) -> Option<i32> {
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        let added = inotify::add_watch(self.inotify.as_ref()?, directory, what).ok();
        if added.is_none() {
            tracing::debug!("{}: no inotify; it is looked at now and then", directory.display());
        }
        self.blind |= added.is_none();
        added
    }

    /// Watches it no more.
    pub fn remove(&self, watch: i32) {
        if let Some(inotify) = &self.inotify {
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// The last look found something: without inotify the next one comes soon.
    pub fn found(&mut self) {
        self.pause = SOON;
    }

    /// Waits until something changes, but not longer than `at_most`.
    pub fn wait(&mut self, at_most: Duration, out: Option<BorrowedFd<'_>>) -> Woken {
        let mut wait = at_most;
        if self.blind {
            wait = wait.min(self.pause);
            self.pause = (self.pause * 2).min(SELDOM);
        }
        let timeout =
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = Vec::with_capacity(2);
        // Asked for nothing, poll still tells of a pipe that nobody reads.
        fds.extend(out.as_ref().map(|fd| PollFd::new(fd, PollFlags::empty())));
        fds.extend(self.inotify.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let _ = poll(&mut fds, Some(&timeout));
        if out.is_some() && fds.first().is_some_and(|fd| fd.revents().contains(PollFlags::ERR)) {
            return Woken::ReaderGone;
        }
        drop(fds);
        self.drain()
    }

    /// Takes all that inotify has to tell.
    fn drain(&self) -> Woken {
        let Some(inotify) = &self.inotify else { return Woken::Changed };
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = Reader::new(inotify, &mut buffer);
        let (mut grown, mut more) = (false, self.blind);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::MODIFY) {
                grown = true;
            } else {
                more = true;
            }
        }
        if grown && !more { Woken::Grown } else { Woken::Changed }
    }
}
