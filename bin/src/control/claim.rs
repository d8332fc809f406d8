//! One pipeline of a name. The lock, not the socket, says whether one runs: it goes with the
//! process, however that ends, and whoever holds it may replace the socket.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;

use super::place::{Place, read_lock, stem};

/// The right to a name, and its socket. Both go when it is dropped.
pub struct Claim {
    place: Place,
    stem: String,
    /// Its lock is the right.
    lock: File,
    listener: UnixListener,
    gone: AtomicBool,
}

/// Why a name cannot be claimed.
#[derive(Debug)]
pub enum Taken {
    /// A pipeline of that name runs.
    Runs(String),
    /// Something else; the pipeline can run without.
    Trouble(String),
}

/// Claims a name: no second pipeline of that name runs while this lives.
///
/// # Errors
/// Why it cannot be had.
pub fn claim(name: &str) -> Result<Claim, Taken> {
    claim_in(Place::make().map_err(Taken::Trouble)?, name)
}

pub(super) fn claim_in(place: Place, name: &str) -> Result<Claim, Taken> {
    let (stem, shown) = (stem(name), place.path.display().to_string());
    let trouble = |what: &str, e: io::Error| {
        Taken::Trouble(format!("{shown}/{stem}.{what}: cannot be made: {e}"))
    };
    let file = format!("{stem}.lock");
    let lock = loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(&place.directory, &file, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| trouble("lock", e.into()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = read_lock(&place, &stem)
                    .map_or(String::new(), |(pid, _)| format!(" (process {pid})"));
                return Err(Taken::Runs(format!(
                    "a pipeline called {name:?} runs already{pid}: stop it (`rbpipe stop`), or \
                     give this one another `pipeline.name`"
                )));
            }
            Err(e) => return Err(trouble("lock", e.into())),
        }
        let mut lock = File::from(lock);
        // The one before may have taken its file away between our two calls.
        let held = lock.metadata().map_err(|e| trouble("lock", e))?.ino();
        if statat(&place.directory, &file, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| found.st_ino == held)
        {
            let text = format!("{} {name}\n", std::process::id());
            lock.set_len(0)
                .and_then(|()| lock.write_all(text.as_bytes()))
                .map_err(|e| trouble("lock", e))?;
            break lock;
        }
    };
    // Ours by the lock: what is there is a dead one's.
    let file = format!("{stem}.sock");
    let _ = unlinkat(&place.directory, &file, AtFlags::empty());
    let listener = UnixListener::bind(place.address(&file)).map_err(|e| trouble("sock", e))?;
    fs::set_permissions(place.address(&file), fs::Permissions::from_mode(0o600))
        .map_err(|e| trouble("sock", e))?;
    Ok(Claim { place, stem, lock, listener, gone: AtomicBool::new(false) })
}

impl Claim {
    /// The socket.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Gives the name back, before the process ends.
    pub fn give_up(&self) {
        // Who cleans up (old files in /tmp) may have taken the lock's file away: then another
        // pipeline may have the name by now, and what is there is its.
        let mine = || {
            let file = format!("{}.lock", self.stem);
            let found = statat(&self.place.directory, file, AtFlags::SYMLINK_NOFOLLOW).ok();
            found.is_some_and(|f| self.lock.metadata().is_ok_and(|m| m.ino() == f.st_ino))
        };
        if !self.gone.swap(true, Ordering::Relaxed) && mine() {
            for what in ["sock", "lock"] {
                let file = format!("{}.{what}", self.stem);
                let _ = unlinkat(&self.place.directory, file, AtFlags::empty());
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_name_is_one_s_and_free_again_after_a_panic() {
        let path = std::env::temp_dir().join(format!("rbpipe-claim-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).expect("made");
        let place = || Place::open(path.clone()).expect("ours");
        for name in ["a", "/", &"long".repeat(99), ""] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _claim = claim_in(place(), name).expect("free");
                assert!(matches!(claim_in(place(), name), Err(Taken::Runs(_))), "{name:?}");
                let socket = place().address(&format!("{}.sock", stem(name)));
                assert!(UnixStream::connect(&socket).is_ok(), "{name:?}");
                let mode = fs::symlink_metadata(&socket).expect("there").mode();
                assert_eq!(mode & 0o777, 0o600);
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            let panic = result.expect_err("on purpose");
            assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
            assert_eq!(fs::read_dir(&path).expect("there").count(), 0, "{name:?}");
        }
        fs::remove_dir(&path).expect("removed");
    }

    #[test]
    fn who_lost_its_lock_takes_nothing_from_the_next_one() {
        let path = std::env::temp_dir().join(format!("rbpipe-claim-lost-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).expect("made");
        let place = || Place::open(path.clone()).expect("ours");
        let first = claim_in(place(), "a").expect("free");
        fs::remove_file(path.join("a.lock")).expect("there");
        let second = claim_in(place(), "a").expect("free, as far as can be told");
        drop(first);
        assert!(UnixStream::connect(path.join("a.sock")).is_ok(), "the second one's");
        assert!(matches!(claim_in(place(), "a"), Err(Taken::Runs(_))));
        drop(second);
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
        fs::remove_dir(&path).expect("removed");
    }
}
