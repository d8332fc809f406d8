//! Lines from connections (TCP, Unix sockets): each has its own, so that they do not mix.
//!
//! One thread, which waits while the channel does (block mode): then nothing is read, and who
//! sends waits, too. Memory has a bound: [`MOST`] connections, each with a line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::socket::Socket;
use super::split::Splitter;
use super::{Out, POLL, Stop};
use crate::status::count;

/// Connections at a time; more wait until one ends.
pub(super) const MOST: usize = 256;
/// At the end: how long what is on its way is still read …
const LAST: Duration = Duration::from_millis(200);
/// … and how long nothing has come when it is taken for all.
const QUIET: Duration = Duration::from_millis(20);

struct Connection {
    fd: OwnedFd,
    lines: Splitter,
}

/// Reads until it is told to stop, or the channels are closed.
pub(super) fn read(listeners: &[Socket], max_line: usize, out: &mut Out<'_>, stop: &Stop) {
    let mut all = All { connections: Vec::new(), max_line, buffer: vec![0; 64 << 10], full: false };
    while !stop.is_stopped() {
        if all.turn(listeners, POLL, out).is_none() {
            return;
        }
    }
    let deadline = Instant::now() + LAST;
    while Instant::now() < deadline {
        match all.turn(listeners, QUIET, out) {
            None => return,
            Some(0) => break,
            Some(_) => {}
        }
    }
    let left = all.connections.iter().filter_map(|c| ioctl_fionread(&c.fd).ok());
    let (bytes, open) = (left.fold(0u64, u64::saturating_add), all.connections.len());
    if bytes > 0 {
        let open = count(open as u64, "connection");
        tracing::warn!(
            "lines: {}: {bytes} bytes of {open} came in when it was stopped, and were not read",
            out.origin
        );
    }
    for c in &mut all.connections {
        c.lines.finish(|line| out.line(line));
    }
}

struct All {
    connections: Vec<Connection>,
    max_line: usize,
    buffer: Vec<u8>,
    /// That there are too many has been said.
    full: bool,
}

impl All {
    /// Waits, and reads once from each connection that has something. Gives how many had;
    /// `None`: the channels are closed.
    fn turn(&mut self, listeners: &[Socket], wait: Duration, out: &mut Out<'_>) -> Option<usize> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let room = self.connections.len() < MOST;
        let listening = if room { listeners } else { &[] };
        let connections = self.connections.iter().map(|c| c.fd.as_fd());
        let fds: Vec<_> = connections.chain(listening.iter().map(Socket::as_fd)).collect();
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            return Some(0);
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let (ready, new) = ready.split_at(self.connections.len());
        let mut at = 0;
        let mut open = true;
        let buffer = &mut self.buffer;
        self.connections.retain_mut(|c| {
            let ready = ready[at];
            at += 1;
            if !ready || !open {
                return true;
            }
            match rustix::io::read(&c.fd, &mut buffer[..]) {
                Ok(n) if n > 0 => {
                    open = c.lines.push(&buffer[..n], |line| out.line(line));
                    true
                }
                Err(Errno::INTR | Errno::AGAIN) => true,
                // Its end, or that of who was there: what there is of a line is one.
                _ => {
                    c.lines.finish(|line| {
                        open &= out.line(line);
                        open
                    });
                    false
                }
            }
        });
        for (listener, _) in listening.iter().zip(new).filter(|(_, new)| **new) {
            self.accept(listener);
        }
        let had = ready.iter().chain(new).filter(|r| **r).count();
        open.then_some(had)
    }

    fn accept(&mut self, listener: &Socket) {
        while self.connections.len() < MOST {
            match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    // One whose other end is gone without a word shall not stay for ever.
                    let _ = sockopt::set_socket_keepalive(&fd, true);
                    self.connections.push(Connection { fd, lines: Splitter::new(self.max_line) });
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(e) => {
                    // No descriptors left, say: those that wait are tried again.
                    let e = io::Error::from(e);
                    tracing::warn!("lines: a connection cannot be accepted: {e}");
                    std::thread::sleep(POLL);
                    return;
                }
            }
        }
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!("lines: {MOST} connections, the most there can be: others wait");
        }
    }
}
