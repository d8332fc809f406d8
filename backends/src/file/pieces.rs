//! Pieces: `PATH` is the current one; one that has ended is `PATH.000001`, `PATH.000002`, ….
//!
//! Names and numbers, the swap of two directories, and what is removed of old pieces. When a
//! piece ends, and what its packets say, is not decided here.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rbpipe_core::backend::BackendError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::directory::{examine, lock};
use crate::trace::TEMPORARY;

/// Digits of a piece's number, at least.
const DIGITS: usize = 6;
/// … and at most: what has more is no piece's (its next number would have no end).
const MOST_DIGITS: usize = 18;

/// Where the trace at `path` has its piece of this number.
pub(super) fn name(path: &Path, number: u64) -> PathBuf {
    beside(path, "", &format!(".{number:0DIGITS$}"))
}

/// Where the next piece is made ready.
pub(super) fn next(path: &Path) -> PathBuf {
    beside(path, ".", ".next")
}

fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

/// The numbers of the pieces that are there, whoever made them, in their order.
pub(super) fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let (Some(parent), Some(own)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for entry in fs::read_dir(parent)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        let Some(rest) = bytes.strip_prefix(own.as_encoded_bytes()) else { continue };
        let Some(digits) = rest.strip_prefix(b".") else { continue };
        if !(DIGITS..=MOST_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit)
        {
            continue;
        }
        all.extend(str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok()));
    }
    all.sort_unstable();
    Ok(all)
}

/// Why the directory at `path` can have no pieces beside it, if it cannot.
pub(super) fn refuse(path: &Path) -> Result<(), BackendError> {
    use std::os::unix::fs::MetadataExt;
    let shown = path.display();
    let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
        let message = format!("{shown}: has nothing beside it, so it cannot be rotated");
        return Err(BackendError::new(message));
    };
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    if device(path) != device(parent) {
        return Err(BackendError::new(format!(
            "{shown}: a disk is mounted there, which cannot be renamed: to rotate, name a \
             directory in it"
        )));
    }
    rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).map_err(|e| {
        let parent = parent.display();
        BackendError::io(format!("{shown}: cannot be rotated: {parent} cannot be written"), e)
    })
}

/// Makes the directory for the next piece, in place of what a killed pipeline may have left
/// there.
pub(super) fn prepare(path: &Path) -> io::Result<PathBuf> {
    let next = next(path);
    match fs::create_dir(&next) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // Before it had metadata.
            let _ = fs::remove_file(next.join(TEMPORARY));
            remove_ours(&next)?;
            fs::create_dir(&next)?;
        }
        other => other?,
    }
    Ok(next)
}

/// Puts `next` in the place of `path`, which becomes the piece with the first free number
/// from `number`; gives that. Whatever fails, the trace is at `path`.
pub(super) fn swap(path: &Path, next: &Path, mut number: u64) -> io::Result<u64> {
    let piece = loop {
        let piece = name(path, number);
        match rename(path, &piece) {
            Ok(()) => break piece,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(e),
        }
    };
    if let Err(e) = rename(next, path) {
        // Back again: nobody has noticed.
        rename(&piece, path)?;
        return Err(e);
    }
    Ok(number)
}

/// Renames, and replaces nothing.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        Err(e) => Err(e.into()),
    }
}

/// Removes a piece, if rbpipe wrote all that is in it and nobody writes there.
pub(super) fn remove_ours(piece: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(piece)?.is_dir() {
        return Err(io::Error::other("is no directory"));
    }
    let _lock = lock(piece).map_err(io::Error::other)?;
    for entry in examine(piece, true).map_err(io::Error::other)? {
        fs::remove_file(entry)?;
    }
    fs::remove_dir(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_named_and_found() {
        assert_eq!(name(Path::new("/a/b"), 7), Path::new("/a/b.000007"));
        assert_eq!(name(Path::new("/a/b"), 12_345_678), Path::new("/a/b.12345678"));
        assert_eq!(next(Path::new("/a/b")), Path::new("/a/.b.next"));
        assert_eq!(numbers(Path::new("/")).expect("nothing beside it"), []);
    }

    #[test]
    fn a_stranger_s_number_has_another_one_behind_it() {
        let dir = std::env::temp_dir().join(format!("rbpipe-pieces-{}", std::process::id()));
        for stranger in ["t.18446744073709551615", "t.000007", "t.00001", "t.000008x", "t"] {
            fs::create_dir_all(dir.join(stranger)).expect("made");
        }
        assert_eq!(numbers(&dir.join("t")).expect("listed"), [7]);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
