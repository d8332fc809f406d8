//! An instance of the kernel's tracer: a ring of our own, beside everybody else's. Made,
//! set up, and taken away again; nothing outside it is ever written.
//!
//! Its name carries our pid, for people. Whether its owner lives is told by a lock on its
//! directory, which goes with the process however that ends: pids come again, and mean
//! nothing in another container. What a killed process left is swept at the next start;
//! until then it costs little, because the kernel stops and empties a ring whose
//! `free_buffer` is closed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::take;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};

use super::mount::Tracefs;

/// What the names of our instances begin with; then come the pid and a number.
const PREFIX: &str = "rbpipe-";

/// The instances of this process, and whoever waits until there is none.
static LIVE: (Mutex<Vec<Live>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

/// The program exits at once: nothing more is set up.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// What it takes to take an instance away, by whoever does.
struct Live {
    path: PathBuf,
    files: Files,
}

/// Files of an instance that are open as long as it is there.
#[derive(Default)]
struct Files {
    /// So that it can be stopped when no file can be opened any more.
    tracing_on: Option<File>,
    /// Closed, the kernel gives the ring's memory back.
    free_buffer: Option<File>,
}

fn live() -> MutexGuard<'static, Vec<Live>> {
    LIVE.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance, ours until it is dropped.
pub struct Instance {
    path: PathBuf,
    name: String,
    _lock: OwnedFd,
    // Last: its mount is the way to the files.
    tracefs: Tracefs,
}

impl Instance {
    /// Makes one, and sweeps those whose owner is dead.
    ///
    /// # Errors
    /// The step that failed.
    pub fn create(tracefs: Tracefs) -> anyhow::Result<Self> {
        sweep(&tracefs.path("instances"));
        let pid = std::process::id();
        for number in 0..1000 {
            let name = format!("{PREFIX}{pid}-{number}");
            let path = tracefs.path("instances").join(&name);
            match fs::create_dir(&path) {
                Ok(()) => {}
                // Another source's, or a dead one's of the same pid that somebody uses.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e).context(format!("cannot make the instance {name}")),
            }
            live().push(Live { path: path.clone(), files: Files::default() });
            let Some(lock) = lock(&path) else {
                // Somebody who starts just now took it for a dead one's.
                let _ = fs::remove_dir(&path);
                forget(&path);
                continue;
            };
            let this = Self { path, name, _lock: lock, tracefs };
            this.set("tracing_on", "0")?;
            // A kernel without it keeps a killed process's ring until the next start.
            let _ = this.set("options/disable_on_free", "1");
            let open = |file| OpenOptions::new().write(true).open(this.file(file));
            let tracing_on = Some(open("tracing_on").context("tracing_on")?);
            let files = Files { tracing_on, free_buffer: open("free_buffer").ok() };
            if let Some(me) = live().iter_mut().find(|l| l.path == this.path) {
                me.files = files;
            }
            return Ok(this);
        }
        Err(anyhow!("all instances {PREFIX}{pid}-… are in use"))
    }

    /// The file system that it is in.
    pub fn tracefs(&self) -> &Tracefs {
        &self.tracefs
    }

    /// Lets it trace, or stops it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn trace(&self, on: bool) -> anyhow::Result<()> {
        let value = if on { "1" } else { "0" };
        let live = live();
        let me = live.iter().find(|l| l.path == self.path);
        let Some(mut file) = me.and_then(|l| l.files.tracing_on.as_ref()) else {
            return Err(anyhow!("{}: it is given up", self.name));
        };
        file.write_all(value.as_bytes())
            .with_context(|| format!("the kernel refuses {value:?} in {}/tracing_on", self.name))
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What one of its files says, without the newline at its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, name: &str) -> anyhow::Result<String> {
        let text = read_whole(&self.file(name));
        Ok(text.with_context(|| format!("{}/{name}", self.name))?.trim_end().to_owned())
    }

    /// Writes a value into one of its files.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        self.write(name, value)
            .with_context(|| format!("the kernel refuses {value:?} in {}/{name}", self.name))
    }

    /// The same, with the system's own error.
    ///
    /// # Errors
    /// As it comes.
    pub fn write(&self, name: &str, value: &str) -> io::Result<()> {
        if GIVEN_UP.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        // Neither made nor cut: both mean something else here.
        OpenOptions::new().write(true).open(self.file(name))?.write_all(value.as_bytes())
    }

    /// Whether this kernel has the file.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let me = live().iter_mut().find(|l| l.path == self.path).map(|l| take(&mut l.files));
        if let Some(files) = me
            && let Err(e) = take_away(&self.path, files)
        {
            tracing::warn!("{}: cannot be removed: {e}; the next start sweeps it", self.name);
        }
        forget(&self.path);
    }
}

/// Stops an instance and removes it.
fn take_away(path: &Path, files: Files) -> io::Result<()> {
    if let Some(mut file) = files.tracing_on {
        let _ = file.write_all(b"0");
    }
    drop(files.free_buffer);
    remove(path)
}

/// It is gone, or not ours to remove any more.
fn forget(path: &Path) {
    live().retain(|l| l.path != path);
    LIVE.1.notify_all();
}

/// The text of a file of the tracer's. Some of them answer one read alone, whatever it has room
/// for, so it has room for all there is.
fn read_whole(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut bytes, mut at) = (vec![0; 16 << 10], 0);
    loop {
        match file.read(&mut bytes[at..])? {
            0 => break,
            n => at += n,
        }
        if at == bytes.len() {
            bytes.resize(2 * at, 0);
        }
    }
    bytes.truncate(at);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Before the program exits at once: waits until all instances of this process are gone, at most
/// so long, and removes what is left: a source that is being opened, or waits for its channels,
/// removes none.
pub fn put_back(at_most: Duration) {
    GIVEN_UP.store(true, Ordering::Relaxed);
    let (mut live, _) = LIVE
        .1
        .wait_timeout_while(live(), at_most, |live| !live.is_empty())
        .unwrap_or_else(PoisonError::into_inner);
    for Live { path, files } in live.drain(..) {
        // One that cannot be is swept at the next start.
        let _ = take_away(&path, files);
    }
}

/// Removes an instance: its events first, which is quicker than to let rmdir do it.
fn remove(path: &Path) -> io::Result<()> {
    let events = OpenOptions::new().write(true).open(path.join("events/enable"));
    let _ = events.and_then(|mut f| f.write_all(b"0"));
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        match fs::remove_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            // Somebody reads it just now.
            Err(e) if e.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// The lock that says that its owner lives; `None`: somebody else has it, or it is gone.
fn lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).ok()?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Between the two steps it may have been removed and another one of that name made: in
    // containers pids come again quickly. A lock on what is gone says nothing of that one.
    let is_same = fstat(&directory).ok()?.st_ino == stat(path).ok()?.st_ino;
    is_same.then_some(directory)
}

/// Removes instances that killed processes left.
fn sweep(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            continue;
        }
        let Some(_lock) = lock(&entry.path()) else { continue };
        match remove(&entry.path()) {
            Ok(()) => tracing::info!("{name}: left by a killed rbpipe, removed"),
            Err(e) => tracing::warn!("{name}: left by a killed rbpipe, cannot be removed: {e}"),
        }
    }
}

/// `rbpipe-PID-NUMBER`, and nothing else.
fn is_ours(name: &str) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    rest.is_some_and(|(pid, n)| number(pid) && number(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_peoples_instances_are_not_ours() {
        for ours in ["rbpipe-1-0", "rbpipe-4194304-12"] {
            assert!(is_ours(ours), "{ours}");
        }
        for theirs in ["rbpipe", "rbpipe-", "rbpipe-1", "rbpipe-1-", "rbpipe-x-0", "rbpipe-1-0-b"] {
            assert!(!is_ours(theirs), "{theirs}");
        }
    }
}
