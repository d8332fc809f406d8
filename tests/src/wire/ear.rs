//! A receiver in the test's own process: listens at a port with the link's decoder, and notes when
//! what came and how old it was.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbpipe_backends::link::{Decoder, Health, Missing, Receive, Received, Session, Totals};
use rbpipe_core::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// When the first record came.
    pub first: Option<Instant>,
    /// Of each record, how long before its coming it was recorded (ns), in their order.
    pub ages: Vec<u64>,
    /// When each record came.
    pub times: Vec<Instant>,
    /// Sums of what was missing.
    pub missing: Missing,
    /// The last totals of streams that have ended.
    pub ended: Vec<Totals>,
    /// Sessions and new openings.
    pub sessions: Vec<Session>,
    /// Answers to what was said.
    pub replies: Vec<String>,
    /// Text of others.
    pub text: Vec<u8>,
    /// What the decoder says of the line.
    pub health: Health,
    now: u64,
}

impl Receive for Heard {
    fn session(&mut self, session: &Session) {
        self.sessions.push(*session);
    }
    fn record(&mut self, record: Received<'_>) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.ages.push(self.now.saturating_sub(record.time));
        self.times.push(now);
    }
    fn missing(&mut self, _: u32, missing: Missing) {
        self.missing.ring += missing.ring;
        self.missing.line += missing.line;
        self.missing.before += missing.before;
    }
    fn totals(&mut self, _: u32, totals: &Totals, last: bool) {
        if last {
            self.ended.push(*totals);
        }
    }
    fn reply(&mut self, line: &str) {
        self.replies.push(line.to_owned());
    }
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend(bytes);
    }
}

impl Heard {
    /// Everything that is known of: delivered, or missing.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let m = &self.missing;
        self.ages.len() as u64 + m.ring + m.line + m.before
    }

    /// The age (ns) that so many of a hundred records have at most.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn age(&self, percent: usize) -> Duration {
        let mut ages = self.ages.clone();
        ages.sort_unstable();
        Duration::from_nanos(ages[(ages.len() * percent / 100).min(ages.len() - 1)])
    }
}

/// Listens until it is dropped or stopped.
pub struct Ear {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    say: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Begins to listen at this port.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn listen(port: &Path) -> Self {
        let port = super::open(port).expect("a port");
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let (say, said) = channel();
        let (to, end) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || listen(port, &to, &end, &said));
        Self { heard, stop, say, thread: Some(thread) }
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says a line to the other side.
    pub fn say(&self, line: &str) {
        let _ = self.say.send(format!("{line}\n").into_bytes());
    }

    /// Waits until what was heard is as wished; whether it came to that.
    #[must_use]
    pub fn wait(&self, most: Duration, wished: impl Fn(&Heard) -> bool) -> bool {
        let begin = Instant::now();
        loop {
            if wished(&self.heard.lock().unwrap_or_else(PoisonError::into_inner)) {
                return true;
            }
            if begin.elapsed() > most {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it; what still waits is given up. Gives all that was heard.
    #[must_use]
    pub fn stop(mut self) -> Heard {
        self.end();
        self.heard()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.end();
    }
}

fn listen(mut port: std::fs::File, to: &Mutex<Heard>, stop: &AtomicBool, said: &Receiver<Vec<u8>>) {
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
    while !stop.load(Ordering::Relaxed) {
        while let Ok(line) = said.try_recv() {
            let _ = port.write_all(&line);
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(&port, PollFlags::IN)], Some(&wait));
        let n = match port.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        let mut heard = to.lock().unwrap_or_else(PoisonError::into_inner);
        heard.now = clock::now();
        decoder.feed(&buffer[..n], &mut *heard);
        heard.health = *decoder.health();
    }
    let mut heard = to.lock().unwrap_or_else(PoisonError::into_inner);
    decoder.end(&mut *heard);
    heard.health = *decoder.health();
}
