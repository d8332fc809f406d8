//! The wire's thread: takes bytes at one port when a line would have carried them, and gives them
//! to the other.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Break, Bucket, Line, Moved, Order, Pty, Seen, Side, WireOptions};

/// As often as this a busy line looks: what a byte may come late.
const STEP: Duration = Duration::from_micros(500);
/// As often as this the wire looks whether somebody has opened a port.
const LOOK: Duration = Duration::from_millis(2);
/// More than this does not wait for a reader that does not read.
const HELD: usize = 1 << 20;

struct End {
    name: PathBuf,
    pty: Option<Pty>,
    /// It comes back by itself then.
    back: Option<Instant>,
}

impl End {
    fn plug(&mut self) {
        let pty = Pty::open().expect("a pseudo terminal");
        let new = self.name.with_extension("new");
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(pty.port(), &new).expect("a link");
        std::fs::rename(&new, &self.name).expect("the name is ours");
        (self.pty, self.back) = (Some(pty), None);
    }
    fn unplug(&mut self, back: Option<Instant>) {
        // The name first: who sees the port go looks for it at once.
        let _ = std::fs::remove_file(&self.name);
        (self.pty, self.back) = (None, back);
    }
}

struct Way {
    line: Line,
    bucket: Bucket,
    /// What is over and was not yet taken by the other port.
    out: VecDeque<u8>,
    /// What was read behind a break of the line.
    behind: Vec<u8>,
}

pub(super) struct Run {
    ends: [End; 2],
    ways: [Way; 2],
    step: u64,
    keep: bool,
    seen: Arc<Mutex<[Seen; 2]>>,
    wake: PipeReader,
    orders: Receiver<(Order, Sender<()>)>,
}

impl Run {
    pub(super) fn new(
        dir: &Path,
        options: WireOptions,
        seen: Arc<Mutex<[Seen; 2]>>,
        wake: PipeReader,
        orders: Receiver<(Order, Sender<()>)>,
    ) -> Self {
        let ends = [Side::A, Side::B].map(|side| {
            let mut end = End { name: dir.join(side.name()), pty: None, back: None };
            end.plug();
            end
        });
        let way = |seed, rates| Way {
            line: Line::new(seed, rates),
            bucket: Bucket::new(options.baud),
            out: VecDeque::new(),
            behind: Vec::new(),
        };
        let ways = [way(options.seed, options.there), way(!options.seed, options.back)];
        let step = (f64::from(options.baud) / 10.0 * STEP.as_secs_f64()) as u64;
        Self { ends, ways, step: step.max(1), keep: options.keep, seen, wake, orders }
    }

    pub(super) fn run(mut self) {
        while self.take_orders() {
            let now = Instant::now();
            for end in &mut self.ends {
                if end.back.is_some_and(|at| at <= now) {
                    end.plug();
                }
            }
            for from in [Side::A, Side::B] {
                self.take(from, now);
                self.give(from);
            }
            self.wait();
        }
        for end in &mut self.ends {
            end.unplug(None);
        }
    }

    fn take_orders(&mut self) -> bool {
        while let Ok((order, done)) = self.orders.try_recv() {
            let _ = self.wake.read(&mut [0]);
            match order {
                Order::Unplug(side) => self.unplug(side, None),
                Order::Plug(side) => self.ends[side as usize].plug(),
                Order::Rates(from, rates) => self.ways[from as usize].line.rates = rates,
                Order::End => return false,
            }
            let _ = done.send(());
        }
        true
    }

    fn seen(&self, from: Side, f: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut seen[from as usize]);
        seen[from as usize].done = self.ways[from as usize].line.done;
    }

    /// A port goes; with it what was on its way to it.
    fn unplug(&mut self, side: Side, back: Option<Instant>) {
        self.ends[side as usize].unplug(back);
        let way = &mut self.ways[side.other() as usize];
        let lost = way.out.len() as u64;
        way.out.clear();
        self.seen(side.other(), |s| s.away += lost);
        let way = &mut self.ways[side as usize];
        way.behind.clear();
        way.bucket.idle();
    }

    /// Takes what is over by now at the port where this direction begins.
    fn take(&mut self, from: Side, now: Instant) {
        let mut buffer = [0; 4096];
        loop {
            let way = &mut self.ways[from as usize];
            let Some(pty) = &self.ends[from as usize].pty else { return };
            // What is left behind a break waits for its time; else look whether there is anything.
            if !way.bucket.is_busy() {
                if way.behind.is_empty() && !readable(pty) {
                    return;
                }
                way.bucket.begin(now);
            }
            let may = usize::try_from(way.bucket.over(now)).unwrap_or(usize::MAX).min(4096);
            if may == 0 {
                return;
            }
            let n = if way.behind.is_empty() {
                match pty.read(&mut buffer[..may]) {
                    Moved::Some(n) => n,
                    Moved::None | Moved::Nobody => return way.bucket.idle(),
                }
            } else {
                let n = may.min(way.behind.len());
                buffer[..n].copy_from_slice(&way.behind[..n]);
                way.behind.drain(..n);
                n
            };
            way.bucket.take(n as u64);
            self.carry(from, &buffer[..n], now);
        }
    }

    fn carry(&mut self, from: Side, bytes: &[u8], now: Instant) {
        let way = &mut self.ways[from as usize];
        let mut out = Vec::with_capacity(bytes.len() + 16);
        let (n, broken) = way.line.carry(bytes, &mut out);
        way.out.extend(&out);
        let rest = &bytes[n..];
        match broken {
            Some(Break::Pause(time)) => {
                way.behind.splice(..0, rest.iter().copied());
                way.bucket.hold(now + time);
            }
            Some(Break::HangUp(_)) => way.line.lose(rest.len()),
            None => {}
        }
        let keep = self.keep;
        self.seen(from, |s| {
            if keep {
                let went =
                    if matches!(broken, Some(Break::Pause(_))) { &bytes[..n] } else { bytes };
                s.went_in.extend(went);
                s.came_out.extend(&out);
            }
            if let Some(Break::HangUp(_)) = broken {
                s.away += rest.len() as u64;
            }
        });
        if let Some(Break::HangUp(time)) = broken {
            for side in [Side::A, Side::B] {
                self.unplug(side, Some(now + time));
            }
        }
    }

    /// Gives what is over to the other port.
    fn give(&mut self, from: Side) {
        let (mut given, mut unheard, mut overrun, mut away) = (0, 0, 0, 0);
        let way = &mut self.ways[from as usize];
        let to = &self.ends[from.other() as usize].pty;
        while !way.out.is_empty() {
            let n = way.out.as_slices().0.len();
            let Some(pty) = to else {
                away += n as u64;
                way.out.drain(..n);
                continue;
            };
            match pty.write(way.out.as_slices().0) {
                Moved::Some(n) => {
                    given += n as u64;
                    way.out.drain(..n);
                }
                Moved::Nobody => {
                    unheard += n as u64;
                    way.out.drain(..n);
                }
                Moved::None => {
                    let over = way.out.len().saturating_sub(HELD);
                    overrun += over as u64;
                    way.out.drain(..over);
                    break;
                }
            }
        }
        if given + unheard + overrun + away > 0 {
            self.seen(from, |s| {
                s.given += given;
                s.unheard += unheard;
                s.overrun += overrun;
                s.away += away;
            });
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let now = Instant::now();
        let mut time = Duration::from_secs(1);
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        for side in [Side::A, Side::B] {
            let way = &self.ways[side as usize];
            let end = &self.ends[side as usize];
            if let Some(back) = end.back {
                time = time.min(back.saturating_duration_since(now));
            }
            let Some(pty) = &end.pty else { continue };
            if way.bucket.is_busy() {
                time = time.min(way.bucket.wait(self.step, now));
            } else if !way.behind.is_empty() {
                time = time.min(STEP);
            } else if pty.is_open() {
                fds.push(PollFd::new(pty, PollFlags::IN));
            } else {
                time = time.min(LOOK);
            }
            if !self.ways[side.other() as usize].out.is_empty() {
                // Its reader is slow; there is no waking when it has read.
                time = time.min(STEP);
            }
        }
        let time = Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let _ = poll(&mut fds, Some(&time));
    }
}

fn readable(pty: &Pty) -> bool {
    let mut fds = [PollFd::new(pty, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::IN)
}
