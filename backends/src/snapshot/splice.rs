//! splice(2): from a memfd through a pipe into a file, in the kernel alone.

use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What an unprivileged pipe may hold, and what a splice carries at once.
const LONGEST: usize = 1 << 20;

/// A pipe to splice through: empty before and after each carriage, so that no page of the ring
/// is left in it when its packet goes back.
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    room: usize,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
        // What it has without that will do.
        let room = fcntl_setpipe_size(&into, LONGEST).unwrap_or(64 << 10);
        Ok(Self { out, into, room })
    }

    /// Carries `len` bytes from `from` at `at` to `to` at `end`. After an error the pipe is of
    /// no further use.
    pub(super) fn carry(
        &self,
        from: BorrowedFd<'_>,
        mut at: u64,
        to: BorrowedFd<'_>,
        mut end: u64,
        len: u64,
    ) -> io::Result<()> {
        let last = at + len;
        while at < last {
            let most = (last - at).min(self.room as u64) as usize;
            let mut inside =
                step(|| splice(from, Some(&mut at), &self.into, None, most, SpliceFlags::MOVE))?;
            while inside > 0 {
                inside -= step(|| {
                    splice(&self.out, None, to, Some(&mut end), inside, SpliceFlags::MOVE)
                })?;
            }
        }
        Ok(())
    }
}

/// One splice, which carries something.
fn step(mut splice: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match splice() {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) => {
                return Err(io::Error::new(
                    ErrorKind::Unsupported,
                    "this file system takes no splice: ask without --splice",
                ));
            }
            Err(e) => return Err(e.into()),
        }
    }
}
