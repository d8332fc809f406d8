//! Where control sockets are: a directory of the user's own, in it `NAME.sock` and
//! `NAME.lock`. Whose they are is `claim.rs`'s, who is there `find.rs`'s.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{env, io};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Bytes of a socket's address, its closing NUL included.
const ADDRESS: usize = 108;
/// Longer names are cut: with what stands before, they fit into an address.
const LONGEST: usize = 64;

/// A control directory, open and checked.
pub struct Place {
    pub(super) directory: File,
    pub(super) path: PathBuf,
}

/// Where control directories may be, the preferred one first.
pub(super) fn candidates() -> Vec<PathBuf> {
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

    /// The directory at `path`, if it is to be trusted.
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
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
    pub(super) fn address(&self, file: &str) -> PathBuf {
        let path = self.path.join(file);
        if path.as_os_str().len() < ADDRESS {
            return path;
        }
        Path::new(&format!("/proc/self/fd/{}", self.directory.as_raw_fd())).join(file)
    }
}

/// A pipeline's name as a file's. Usual names are themselves; other bytes are `%XX`, and a
/// long name is cut and made one of its own by its checksum.
pub(super) fn stem(name: &str) -> String {
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

/// Process and name of the pipeline that has, or had, this lock.
pub(super) fn read_lock(place: &Place, stem: &str) -> Option<(u32, String)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&place.directory, format!("{stem}.lock"), flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (pid, name) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((pid.parse().ok()?, name.to_owned()))
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
