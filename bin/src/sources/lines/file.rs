//! Lines from stdin, a pipe, or a file that may grow. It polls (a file that grows tells nobody).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::split::Splitter;
use super::{Out, POLL, Stop};

/// Reads what may keep a reader waiting (a pipe, a terminal, a device) to its end. False: it
/// was told to stop, or the channels are closed.
pub(super) fn read_waiting(
    from: BorrowedFd<'_>,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    while !stop.is_stopped() {
        if !readable(from, POLL) {
            continue;
        }
        match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                if !lines.push(&buffer[..n], |line| out.line(line)) {
                    return Ok(false);
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

fn readable(fd: BorrowedFd<'_>, wait: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0)
}

/// Opens without waiting: a named pipe would keep the source waiting for its writer, deaf to
/// `stop`. Reading it waits for one, as others would.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

pub(super) fn read_file(
    path: &Path,
    follow: bool,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<()> {
    let mut file = open(path)?;
    loop {
        if file.metadata()?.is_file() {
            match read_regular(path, file, follow, lines, out, stop)? {
                Some(next) => file = next,
                None => return Ok(()),
            }
        } else {
            if !read_waiting(file.as_fd(), lines, out, stop)? || !follow {
                return Ok(());
            }
            // The next writer of a pipe may come; what has no writers ends again at once.
            if stop.wait(POLL) {
                return Ok(());
            }
            file = open(path)?;
        }
        // What the old one ended with was its last line.
        lines.finish(|line| out.line(line));
    }
}

/// Reads a file to its end; gives the one that took its place, if it is followed.
fn read_regular(
    path: &Path,
    mut file: File,
    follow: bool,
    lines: &mut Splitter,
    out: &mut Out<'_>,
    stop: &Stop,
) -> io::Result<Option<File>> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut next) = (0, None);
    while !stop.is_stopped() {
        let n = file.read(&mut buffer)?;
        at += n as u64;
        if n > 0 {
            if !lines.push(&buffer[..n], |line| out.line(line)) {
                return Ok(None);
            }
        } else if !follow {
            break;
        } else if next.is_some() {
            return Ok(next);
        } else {
            // Another file has its place: once more to the end of the old one, which may
            // have grown before that.
            next = successor(path, &file, at);
            if next.is_none() && stop.wait(POLL) {
                break;
            }
        }
    }
    Ok(None)
}

/// The file that took this one's place: another one under its name, or itself, cut short.
fn successor(path: &Path, file: &File, at: u64) -> Option<File> {
    let (known, now) = (file.metadata().ok()?, std::fs::metadata(path).ok()?);
    let other = (known.dev(), known.ino()) != (now.dev(), now.ino());
    (other || now.len() < at).then(|| open(path).ok()).flatten()
}
