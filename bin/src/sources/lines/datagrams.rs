//! Lines from datagrams (UDP): one may hold several, and none goes on in the next one.
//!
//! What the kernel could not keep is counted, exactly, from its own count of each socket
//! (`drops` in /proc/net/udp): a datagram is one that was lost before.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

use super::socket::Socket;
use super::split::Splitter;
use super::{Out, POLL, Stop};

/// Not one byte less than the longest datagram there is.
const LONGEST: usize = 64 << 10;
/// Datagrams in a turn, before others are looked at.
const TURN: usize = 256;
/// How often the kernel is asked what it lost.
const LOOK: Duration = Duration::from_secs(1);
/// At the end: how long what is on its way is still recorded, then only counted.
const LAST: Duration = Duration::from_millis(200);
const QUIET: Duration = Duration::from_millis(20);

/// Reads until it is told to stop, or the channels are closed.
pub(super) fn read(sockets: &[Socket], max_line: usize, out: &mut Out<'_>, stop: &Stop) {
    let mut lost = Lost::new(sockets);
    let mut buffer = vec![0; LONGEST];
    let mut lines = Splitter::new(max_line);
    let mut next = Instant::now() + LOOK;
    let mut record = |datagram: &[u8], out: &mut Out<'_>| {
        let mut open = lines.push(datagram, |line| out.line(line));
        lines.finish(|line| {
            open &= out.line(line);
            open
        });
        open
    };
    let mut open = true;
    while open && !stop.is_stopped() {
        open = turn(sockets, POLL, &mut buffer, |d| record(d, out)).is_some();
        if Instant::now() >= next {
            lost.count(out);
            next = Instant::now() + LOOK;
        }
    }
    let deadline = Instant::now() + LAST;
    while open && Instant::now() < deadline {
        match turn(sockets, QUIET, &mut buffer, |d| record(d, out)) {
            Some(0) => break,
            more => open = more.is_some(),
        }
    }
    // What still comes is counted, as far as that has an end.
    let deadline = Instant::now() + LAST;
    let mut left = 0;
    while Instant::now() < deadline
        && turn(sockets, Duration::ZERO, &mut buffer, |_| true).is_some_and(|n| {
            left += n as u64;
            n > 0
        })
    {}
    out.to.counts.lost_before.fetch_add(left, Ordering::Relaxed);
    lost.count(out);
}

/// Waits, and takes what is there. Gives how many datagrams; `None`: `record` said so.
fn turn(
    sockets: &[Socket],
    wait: Duration,
    buffer: &mut [u8],
    mut record: impl FnMut(&[u8]) -> bool,
) -> Option<usize> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let mut fds: Vec<_> = sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
    if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
        return Some(0);
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut taken = 0;
    for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
        for _ in 0..TURN {
            // An error (what another machine said of a datagram of ours) is taken with it.
            let Ok((n, _)) = recv(socket, &mut buffer[..], RecvFlags::empty()) else { break };
            taken += 1;
            if !record(&buffer[..n]) {
                return None;
            }
        }
    }
    Some(taken)
}

/// What the kernel lost of each socket's datagrams.
struct Lost {
    /// By inode: its count when last looked at.
    last: HashMap<u64, u32>,
    said: bool,
}

impl Lost {
    fn new(sockets: &[Socket]) -> Self {
        let inode = |s: &Socket| rustix::fs::fstat(s.as_fd()).ok().map(|m| m.st_ino);
        Self { last: sockets.iter().filter_map(inode).map(|i| (i, 0)).collect(), said: false }
    }

    fn count(&mut self, out: &Out<'_>) {
        let mut found = 0;
        for file in ["/proc/net/udp", "/proc/net/udp6"] {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            for (inode, drops) in text.lines().skip(1).filter_map(drops) {
                let Some(last) = self.last.get_mut(&inode) else { continue };
                found += 1;
                // The kernel's count has 32 bits and wraps.
                let more = drops.wrapping_sub(std::mem::replace(last, drops));
                out.to.counts.lost_before.fetch_add(more.into(), Ordering::Relaxed);
            }
        }
        if found < self.last.len() && !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                "lines: {}: /proc/net/udp does not tell of its sockets: datagrams that the \
                 kernel loses are not counted",
                out.origin
            );
        }
    }
}

/// A line of /proc/net/udp: the inode, and what was lost.
fn drops(line: &str) -> Option<(u64, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let drops = fields.last()?.parse::<u64>().ok()?;
    Some((fields.get(9)?.parse().ok()?, drops as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let line = " 6217: 0100007F:A1B2 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                    0        0 123456 2 00000000c0ffee00 77";
        assert_eq!(drops(line), Some((123_456, 77)));
        assert_eq!(drops(""), None);
        assert_eq!(drops("sl local_address"), None);
    }
}
