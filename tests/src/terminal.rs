//! A pseudo terminal with somebody at its other end: reads all that comes, as fast as a line of
//! some rate would bring it, and notes when it came. Bytes are not touched: a line that does that
//! is another one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbpipe_core::clock;
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// What came: bytes, and for each read the end of it and the time (CLOCK_MONOTONIC, ns).
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The end of each part, and when it was there.
    pub times: Vec<(usize, u64)>,
}

impl Came {
    /// When the byte at this place came.
    #[must_use]
    pub fn at(&self, place: usize) -> u64 {
        let part = self.times.partition_point(|(end, _)| *end <= place);
        self.times.get(part).map_or(u64::MAX, |(_, time)| *time)
    }
    /// The lines, with the place where each ends. What was cut off is no line.
    ///
    /// # Panics
    /// If a line does not end in CR LF, or is not printable.
    pub fn lines(&self) -> Vec<(String, usize)> {
        let mut out = Vec::new();
        let mut begin = 0;
        for (i, _) in self.bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            let line = self.bytes[begin..i].strip_suffix(b"\r").expect("CR LF");
            let printable = line.iter().all(|b| (b' '..=b'~').contains(b) || *b == 0x1b);
            assert!(printable, "{:?}", String::from_utf8_lossy(line));
            out.push((String::from_utf8_lossy(line).into_owned(), i));
            begin = i + 1;
        }
        out
    }
}

/// See above. Dropped, its end is closed: the other side is hung up.
pub struct Terminal {
    /// The device.
    pub path: PathBuf,
    master: Arc<File>,
    came: Arc<Mutex<Came>>,
    rate: Arc<AtomicU32>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Terminal {
    /// One whose reader takes so many bytes a second; 0: none.
    ///
    /// # Panics
    /// Where there are no pseudo terminals.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let path = PathBuf::from(name.into_string().expect("UTF-8"));
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).expect("set");
        let master = Arc::new(File::from(master));
        // Held open until somebody else has it: else reading says that it is hung up.
        let held = open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
        let (came, rate) = (Arc::default(), Arc::new(AtomicU32::new(rate)));
        let end = Arc::new(AtomicBool::new(false));
        let parts = (Arc::clone(&master), Arc::clone(&came), Arc::clone(&rate), Arc::clone(&end));
        let thread =
            Some(thread::spawn(move || read(&parts.0, held, &parts.1, &parts.2, &parts.3)));
        Self { path, master, came, rate, end, thread }
    }

    /// From now on so many bytes a second.
    pub fn rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// What came so far.
    #[must_use]
    pub fn came(&self) -> Came {
        lock(&self.came).clone()
    }

    /// All that came, when nothing has come for a while.
    #[must_use]
    pub fn all(&self) -> Came {
        let mut before = usize::MAX;
        while lock(&self.came).bytes.len() != before {
            before = lock(&self.came).bytes.len();
            thread::sleep(Duration::from_millis(300));
        }
        self.came()
    }

    /// Says something to the other side.
    ///
    /// # Panics
    /// If it cannot be said.
    pub fn say(&self, text: &str) {
        (&*self.master).write_all(text.as_bytes()).expect("said");
    }

    /// Waits until what came is as wanted.
    ///
    /// # Panics
    /// If it is not after twenty seconds.
    pub fn wait(&self, what: &str, is: impl Fn(&Came) -> bool) {
        let begin = Instant::now();
        while !is(&lock(&self.came)) {
            let came = lock(&self.came);
            let last = String::from_utf8_lossy(&came.bytes[came.bytes.len().saturating_sub(500)..]);
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}: {last:?}");
            drop(came);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(master: &File, held: OwnedFd, came: &Mutex<Came>, rate: &AtomicU32, end: &AtomicBool) {
    let mut held = Some(held);
    let mut buffer = [0; 4096];
    // What the line has carried since the last byte that was taken off it: at most what a chip's
    // queue holds, so that an idle line is no credit.
    let (mut credit, mut last) = (0.0f64, Instant::now());
    while !end.load(Ordering::Relaxed) {
        let now = Instant::now();
        let rate = f64::from(rate.load(Ordering::Relaxed));
        let passed = now.duration_since(last).as_secs_f64();
        (credit, last) = (credit + passed * rate, now);
        let room = (credit as usize).min(buffer.len());
        if room > 0 {
            match (&*master).read(&mut buffer[..room]) {
                Ok(n) if n > 0 => {
                    held = None;
                    credit -= n as f64;
                    let mut came = lock(came);
                    came.bytes.extend_from_slice(&buffer[..n]);
                    let place = came.bytes.len();
                    came.times.push((place, clock::now()));
                    if n < room {
                        credit = 0.0;
                    } else if rate > 1e6 {
                        continue;
                    }
                }
                // Nothing there: the line was idle.
                _ => credit = 0.0,
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
    drop(held);
}
