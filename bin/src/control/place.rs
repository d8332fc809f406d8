//! Where control sockets are: a directory of the user's own, in it `NAME.sock` and
//! `NAME.lock`. The lock, not the socket, says whether a pipeline of that name runs: it goes
//! with the process, however that ends, and whoever holds it may replace the socket.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Bytes of a socket's address, its closing NUL included.
const ADDRESS: usize = 108;
/// Longer names are cut: with what stands before, they fit into an address.
const LONGEST: usize = 64;

/// A control directory, open and checked.
pub struct Place {
    directory: File,
    path: PathBuf,
}

/// Where control directories may be, the preferred one first.
fn candidates() -> Vec<PathBuf> {
    let own = format!("/tmp/rbpipe-{}", geteuid().as_raw());
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    runtime.map(|p| p.join("rbpipe")).into_iter().chain([own.into()]).collect()
}

impl Place {
    /// The directory for a pipeline that is to be controlled; made if there is none.
    ///
    /// # Errors
    /// Why there is none, in one sentence.
    pub fn make() -> Result<Self, String> {
        let mut last = String::new();
        for path in candidates() {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    last = format!("{}: cannot be made: {e}", path.display());
                }
                // One that is there and not to be trusted is a reason to stop.
                _ => return Self::open(path),
            }
        }
        Err(last)
    }

    /// The directories that there are, for those who look for pipelines.
    fn all() -> (Vec<Self>, Vec<String>) {
        let (mut places, mut refused) = (Vec::new(), Vec::new());
        for path in candidates().into_iter().filter(|p| fs::symlink_metadata(p).is_ok()) {
            match Self::open(path) {
                Ok(place) => places.push(place),
                Err(e) => refused.push(e),
            }
        }
        (places, refused)
    }

    fn open(path: PathBuf) -> Result<Self, String> {
        let shown = path.display();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => File::from(directory),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(format!("{shown}: is no directory (or a link to one): not used"));
            }
            Err(e) => return Err(format!("{shown}: cannot be opened: {e}")),
        };
        let found = directory.metadata().map_err(|e| format!("{shown}: {e}"))?;
        let me = geteuid().as_raw();
        if found.uid() != me {
            let uid = found.uid();
            return Err(format!("{shown}: belongs to another user (uid {uid}): not used"));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o7777;
            return Err(format!(
                "{shown}: others may enter it (mode {mode:04o}): not used; `chmod 700` it"
            ));
        }
        Ok(Self { directory, path })
    }

    /// The address of a file in it: short enough, whatever the directory's path is.
    fn address(&self, file: &str) -> PathBuf {
        let path = self.path.join(file);
        if path.as_os_str().len() < ADDRESS {
            return path;
        }
        Path::new(&format!("/proc/self/fd/{}", self.directory.as_raw_fd())).join(file)
    }
}

/// A pipeline's name as a file's. Usual names are themselves; other bytes are `%XX`, and a
/// long name is cut and made one of its own by its checksum.
fn stem(name: &str) -> String {
    let mut stem = String::new();
    for (i, b) in name.bytes().enumerate() {
        match b {
            b'.' if i == 0 => stem.push_str("%2E"),
            b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => stem.push(b as char),
            _ => stem.push_str(&format!("%{b:02X}")),
        }
    }
    if stem.is_empty() {
        return "%".into();
    }
    if stem.len() > LONGEST {
        stem.truncate(LONGEST - 9);
        stem.push_str(&format!("%{:08X}", crc32c::crc32c(name.as_bytes())));
    }
    stem
}

// --- a pipeline's side --------------------------------------------------------------

/// The right to a name, and its socket. Both go when it is dropped.
pub struct Claim {
    place: Place,
    stem: String,
    /// Its lock is the right.
    _lock: File,
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
    let place = Place::make().map_err(Taken::Trouble)?;
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
    Ok(Claim { place, stem, _lock: lock, listener, gone: AtomicBool::new(false) })
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
        if !self.gone.swap(true, Ordering::Relaxed) {
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

/// Process and name of the pipeline that has, or had, this lock.
fn read_lock(place: &Place, stem: &str) -> Option<(u32, String)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&place.directory, format!("{stem}.lock"), flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (pid, name) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((pid.parse().ok()?, name.to_owned()))
}

// --- a command's side ---------------------------------------------------------------

/// Why there is no pipeline to talk to.
#[derive(Debug)]
pub enum Missing {
    /// None of that name, or none at all.
    Nobody(String),
    /// Several, and no name.
    Which(String),
}

/// Connects to the pipeline of that name, or to the only one.
///
/// # Errors
/// There is none, or there are several.
pub fn connect(name: Option<&str>) -> Result<(UnixStream, String), Missing> {
    let (places, refused) = Place::all();
    let also = refused.iter().map(|r| format!("; {r}")).collect::<String>();
    if let Some(name) = name {
        let file = format!("{}.sock", stem(name));
        if let Some(stream) = places.iter().find_map(|p| UnixStream::connect(p.address(&file)).ok())
        {
            return Ok((stream, name.to_owned()));
        }
    }
    let mut running = running(&places);
    let names = running.iter().map(|(_, n)| format!("{n:?}")).collect::<Vec<_>>().join(", ");
    match (name, running.len()) {
        (_, 0) => {
            let looked: Vec<_> = candidates().iter().map(|p| p.display().to_string()).collect();
            let looked = looked.join(" and ");
            Err(Missing::Nobody(format!("no pipeline runs (looked in {looked}){also}")))
        }
        (None, 1) => Ok(running.remove(0)),
        (None, _) => Err(Missing::Which(format!("several pipelines run: name one of {names}"))),
        (Some(name), _) => {
            Err(Missing::Nobody(format!("no pipeline called {name:?} runs; there are {names}")))
        }
    }
}

/// The pipelines that listen, in the order of their names.
fn running(places: &[Place]) -> Vec<(UnixStream, String)> {
    let mut all: Vec<(UnixStream, String)> = Vec::new();
    for place in places {
        for entry in fs::read_dir(&place.path).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = file.strip_suffix(".sock") else { continue };
            let Ok(stream) = UnixStream::connect(place.address(&file)) else { continue };
            let name = read_lock(place, stem).map_or_else(|| stem.to_owned(), |(_, name)| name);
            all.push((stream, name));
        }
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_file_name_of_its_own() {
        assert_eq!(stem("demo-1_a.b"), "demo-1_a.b");
        assert_eq!(stem("a/b"), "a%2Fb");
        assert_eq!(stem("../x"), "%2E.%2Fx");
        assert_eq!(stem(""), "%");
        assert_eq!(stem("é"), "%C3%A9");
        let long = "x".repeat(300);
        assert_eq!(stem(&long).len(), LONGEST);
        assert_ne!(stem(&long), stem(&"x".repeat(301)));
        for name in [long.as_str(), "\u{1F980}", "%", "a\0b"] {
            assert!(!stem(name).contains(['/', '\0']), "{name:?}");
            let address = format!("/proc/self/fd/1234567/{}.sock", stem(name));
            assert!(address.len() < ADDRESS, "{name:?}");
        }
    }
}
