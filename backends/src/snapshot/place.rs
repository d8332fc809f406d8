//! Where a snapshot goes, and how it gets its name there: it replaces nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rbpipe_core::backend::BackendError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Which name a snapshot gets in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This one: a directory that does not exist yet, or is empty.
    Exactly(PathBuf),
    /// This one and the next free number: `snapshot.1`, `snapshot.2`, ….
    Numbered(PathBuf),
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Exactly(path) | Self::Numbered(path) => path,
        }
    }
}

/// The directory that a path lies in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a snapshot may become `path`.
pub(super) fn may_become(path: &Path) -> Result<(), BackendError> {
    let shown = path.display();
    let message = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BackendError::io(format!("{shown}: cannot be looked at"), e)),
        Ok(m) if m.is_dir() => match fs::read_dir(path).map(|mut d| d.next().is_none()) {
            Ok(true) => return Ok(()),
            Ok(false) => "is not empty: a snapshot replaces nothing; name another directory",
            Err(e) => return Err(BackendError::io(format!("{shown}: cannot be listed"), e)),
        },
        Ok(_) => "exists and is no directory; name another one",
    };
    Err(BackendError::new(format!("{shown}: {message}")))
}

/// Gives the snapshot the first number that is free, whoever else takes numbers.
pub(super) fn numbered(temporary: &Path, path: &Path) -> io::Result<PathBuf> {
    for number in 1..u64::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let to = PathBuf::from(name);
        match renameat_with(CWD, temporary, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(to),
            Err(Errno::EXIST) => {}
            // A file system that cannot promise it: as well as it goes.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if fs::symlink_metadata(&to).is_err() {
                    fs::rename(temporary, &to)?;
                    return Ok(to);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}
