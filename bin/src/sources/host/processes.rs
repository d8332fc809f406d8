//! The busiest processes of each interval, from /proc/PID/stat and /proc/PID/io.
//!
//! Every process's stat is read at each look (a few microseconds each); io, which takes
//! permission, only of those that used the CPU since the last one. One that goes away in
//! between is no error: it is left out.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat};

/// What a process did in an interval, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    pub pid: i32,
    pub comm: String,
    /// As in /proc/PID/stat: R, S, D, ….
    pub state: char,
    pub cpu_ns: u64,
    /// Bytes.
    pub rss: u64,
    pub threads: u32,
    /// Bytes from and to storage; `None`: not ours to know.
    pub io: Option<(u64, u64)>,
}

/// What is known of a process from the last look.
struct Known {
    /// When it began: a process id may be another process's by now.
    start: u64,
    ticks: u64,
    /// Bytes read and written, when that was last asked.
    io: Option<(u64, u64)>,
    /// The look that it was last seen in.
    look: u64,
    /// Its stat, open: opening it costs as much as reading it.
    stat: Option<File>,
}

/// Stats that are kept open.
const OPEN: usize = 2048;

/// Goes through all processes again and again.
pub(super) struct Processes {
    most: usize,
    tick_ns: u64,
    page: u64,
    known: HashMap<i32, Known>,
    look: u64,
    buffer: Vec<u8>,
}

/// What of /proc/PID/stat is of use.
#[derive(Debug, PartialEq, Eq)]
struct Stat<'s> {
    comm: &'s [u8],
    state: char,
    ticks: u64,
    threads: u32,
    start: u64,
    pages: u64,
}

impl Processes {
    /// So many at most in each interval.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            tick_ns: 1_000_000_000 / procfs::ticks_per_second().max(1),
            page: procfs::page_size(),
            known: HashMap::new(),
            look: 0,
            buffer: Vec::with_capacity(1024),
        }
    }

    /// One look: those that used the CPU since the last one, the busiest first.
    pub fn look(&mut self) -> std::io::Result<Vec<Busy>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        self.look += 1;
        let (first, look) = (self.look == 1, self.look);
        let mut busy: Vec<(u64, Busy)> = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let mut known = self.known.remove(&pid);
            let mut open = known.as_mut().and_then(|k| k.stat.take());
            // Of a process that is gone it gives nothing, also if another one has its id.
            if open.as_ref().is_none_or(|f| again(f, &mut self.buffer).is_none()) {
                let path = format!("{pid}/stat");
                open = openat(&proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .ok()
                    .map(File::from);
                if open.as_ref().is_none_or(|f| again(f, &mut self.buffer).is_none()) {
                    continue;
                }
            }
            let Some(stat) = parse(&self.buffer) else { continue };
            let open = open.filter(|_| self.known.len() < OPEN);
            let (start, ticks) = (stat.start, stat.ticks);
            let now = Known { start, ticks, io: Some((0, 0)), look, stat: open };
            let (before, io_before) = match &known {
                Some(k) if k.start == stat.start => (k.ticks, k.io),
                // What was there before the first look began before it.
                _ if first => (stat.ticks, None),
                _ => (0, Some((0, 0))),
            };
            let ticks = stat.ticks.saturating_sub(before);
            if ticks == 0 && !first {
                self.known.insert(pid, Known { io: io_before, ..now });
                continue;
            }
            let made = Busy {
                pid,
                comm: String::from_utf8_lossy(stat.comm).into_owned(),
                state: stat.state,
                cpu_ns: ticks * self.tick_ns,
                rss: stat.pages.saturating_mul(self.page),
                threads: stat.threads,
                io: None,
            };
            let io = read(&proc, &format!("{pid}/io"), &mut self.buffer)
                .and_then(|()| parse_io(&self.buffer));
            let since = io
                .zip(io_before)
                .map(|((r, w), (r0, w0))| (r.saturating_sub(r0), w.saturating_sub(w0)));
            self.known.insert(pid, Known { io, ..now });
            if ticks > 0 {
                busy.push((ticks, Busy { io: since, ..made }));
            }
        }
        self.known.retain(|_, k| k.look == look);
        busy.sort_by_key(|(ticks, b)| (std::cmp::Reverse(*ticks), b.pid));
        busy.truncate(self.most);
        Ok(busy.into_iter().map(|(_, b)| b).collect())
    }
}

/// A file of /proc once more, from its beginning.
fn again(file: &File, to: &mut Vec<u8>) -> Option<()> {
    to.resize(2048, 0);
    let n = file.read_at(to, 0).ok().filter(|n| *n > 0)?;
    to.truncate(n);
    Some(())
}

/// A file of /proc, whole; `None`: gone, or not ours to read.
fn read(proc: &OwnedFd, path: &str, to: &mut Vec<u8>) -> Option<()> {
    let file = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    to.clear();
    File::from(file).take(64 << 10).read_to_end(to).ok()?;
    Some(())
}

/// `PID (COMM) STATE …`: the name may hold blanks and parentheses.
fn parse(stat: &[u8]) -> Option<Stat<'_>> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Numbered as in proc(5), where the state is field 3.
    let mut at = 3;
    let mut field = |n: usize| {
        let skip = n - at - 1;
        at = n;
        fields.nth(skip)?.parse::<u64>().ok()
    };
    let ticks = field(14)?.saturating_add(field(15)?);
    let threads = u32::try_from(field(20)?).unwrap_or(u32::MAX);
    let (start, pages) = (field(22)?, field(24)?);
    Some(Stat { comm: stat.get(open + 1..close)?, state, ticks, threads, start, pages })
}

/// Bytes from and to storage.
fn parse_io(io: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(io).ok()?;
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    Some((value("read_bytes:")?, value("write_bytes:")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn names_may_hold_anything() {
        let stat = b"12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 30 12 13 14 20 0 5 0 777 4096 25 18446744";
        let expected =
            Stat { comm: b"a) b (c", state: 'R', ticks: 42, threads: 5, start: 777, pages: 25 };
        assert_eq!(parse(stat), Some(expected));
        for n in 0..stat.len() - 11 {
            assert!(parse(&stat[..n]).is_none(), "{n}");
        }
        assert_eq!(
            parse_io(b"rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4\ncancelled: 5\n"),
            Some((3, 4))
        );
        assert_eq!(parse_io(b""), None);
    }

    /// This one, as it works.
    #[test]
    fn who_works_is_found() {
        let mut all = Processes::new(3);
        assert_eq!(all.look().expect("/proc"), []);
        let me = std::process::id() as i32;
        for _ in 0..20 {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(60) {
                std::hint::black_box(begin);
            }
            let busy = all.look().expect("/proc");
            assert!(busy.len() <= 3);
            assert!(busy.iter().all(|b| b.cpu_ns > 0), "{busy:?}");
            if let Some(b) = busy.iter().find(|b| b.pid == me) {
                assert!(b.rss > 100_000 && b.threads >= 2 && b.io.is_some(), "{b:?}");
                return;
            }
        }
        panic!("this process worked and was not among the busiest");
    }
}
