//! A pseudo terminal whose one end is a port's name, and whose other end is ours.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Our end. While it lives the port is there; when it is dropped, whoever has the port open sees
/// what an unplugged adapter shows.
#[derive(Debug)]
pub struct Pty {
    ours: OwnedFd,
    port: PathBuf,
}

/// What came of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes.
    Some(usize),
    /// None for now.
    None,
    /// Nobody has the port open.
    Nobody,
}

impl Pty {
    /// A new one, raw, that nobody has open.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn open() -> std::io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        let mut termios = tcgetattr(&ours)?;
        termios.make_raw();
        tcsetattr(&ours, OptionalActions::Now, &termios)?;
        let name = ptsname(&ours, Vec::new())?;
        let port = PathBuf::from(name.to_str().map_err(std::io::Error::other)?);
        // Only a port that was open once is known to be closed.
        drop(open(&port)?);
        Ok(Self { ours, port })
    }

    /// The port's name.
    #[must_use]
    pub fn port(&self) -> &Path {
        &self.port
    }

    /// What poll says of our end at once.
    fn now(&self, ask: PollFlags) -> PollFlags {
        let mut fds = [PollFd::new(&self.ours, ask)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => fds[0].revents(),
            Err(_) => PollFlags::empty(),
        }
    }

    /// Whether somebody has the port open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.now(PollFlags::IN).contains(PollFlags::HUP)
    }

    /// Takes what was written to the port.
    pub fn read(&self, into: &mut [u8]) -> Moved {
        match rustix::io::read(&self.ours, into) {
            Ok(n) if n > 0 => Moved::Some(n),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Moved::None,
            Err(_) => Moved::Nobody,
        }
    }

    /// Hands bytes to whoever reads the port.
    pub fn write(&self, bytes: &[u8]) -> Moved {
        if !self.is_open() {
            return Moved::Nobody;
        }
        match rustix::io::write(&self.ours, bytes) {
            Ok(n) if n > 0 => Moved::Some(n),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Moved::None,
            Err(_) => Moved::Nobody,
        }
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

/// Opens a port as a program does that leaves its settings alone; not blocking.
///
/// # Errors
/// If it is not there.
pub fn open(port: &Path) -> std::io::Result<File> {
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(port)
}
