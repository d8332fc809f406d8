//! The line: a port that comes and goes, what is to be written to it, and when.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbpipe_core::backend::BackendError;

use super::bucket::Bucket;
use super::config::Config;
use super::facts::LineFacts;
use super::port::{Opener, Port, Trouble};

/// A port that is gone is asked for again after this long, then after twice as long, …
const FIRST_TRY: Duration = Duration::from_millis(10);
/// … at most after this long.
const LAST_TRY: Duration = Duration::from_millis(500);
/// A port that lived for less has not really come back.
const LIVES: Duration = Duration::from_secs(1);

/// What a push came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// All that was to be written is handed over.
    All,
    /// A part; there is more when the line has carried it.
    Part,
    /// The port is gone, and what was to be written with it.
    Gone,
}

/// See above.
pub(super) struct Line {
    path: PathBuf,
    port: Option<Port>,
    opener: Opener,
    bucket: Bucket,
    /// The bytes of each bucket of another opening.
    bytes_per_second: f64,
    limit: usize,
    /// What is to be written, and how much of it has been.
    out: Vec<u8>,
    at: usize,
    /// The device takes nothing until then, at least.
    full_until: Option<Instant>,
    /// Since when the port is there, or gone.
    since: Instant,
    /// When it is asked for next, and how long it is waited for after that.
    retry: (Instant, Duration),
    said: Option<Instant>,
    facts: Arc<LineFacts>,
}

impl Line {
    /// Opens the port.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn open(config: &Config, facts: Arc<LineFacts>) -> Result<Self, BackendError> {
        let opener = Opener::new(config.settings())?;
        let port = Some(opener.open()?);
        let now = Instant::now();
        let (rate, limit) = (config.bytes_per_second(), config.inflight());
        Ok(Self {
            path: config.path.clone(),
            port,
            opener,
            bucket: Bucket::new(rate, limit, now),
            bytes_per_second: rate,
            limit,
            out: Vec::new(),
            at: 0,
            full_until: None,
            since: now,
            retry: (now, FIRST_TRY),
            said: None,
            facts,
        })
    }

    /// Whether the port is there.
    pub(super) fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// What is to be written next is put here, when all before it has been handed over.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that wait here, and those that were handed over and are not on the line.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.unwritten() + self.bucket.waiting(now)
    }

    /// How long the line has had nothing to carry.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        if self.unwritten() > 0 || !self.is_open() { Duration::ZERO } else { self.bucket.idle(now) }
    }

    /// Bytes that wait here.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.at
    }

    /// How long so many bytes take.
    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        self.bucket.time_of(bytes)
    }

    /// Whether it is time for a frame of so many bytes.
    pub(super) fn has_room(&self, bytes: usize, now: Instant) -> bool {
        self.unwritten() == 0 && now >= self.bucket.when(bytes.min(self.limit))
    }

    /// When there is something to do: to try again, to write the rest, to begin a frame of so
    /// many bytes.
    pub(super) fn when(&self, frame: usize) -> Instant {
        if !self.is_open() {
            return self.retry.0;
        }
        // A long rest goes out in pieces that are worth a system call.
        let bytes = if self.unwritten() > 0 { self.unwritten().min(self.limit / 2) } else { frame };
        let room = self.bucket.when(bytes.min(self.limit));
        self.full_until.map_or(room, |until| until.max(room))
    }

    /// Hands over what the line may have.
    pub(super) fn push(&mut self, now: Instant) -> Pushed {
        let Some(port) = &mut self.port else { return Pushed::Gone };
        if self.full_until.is_some_and(|until| now < until) {
            return if self.at < self.out.len() { Pushed::Part } else { Pushed::All };
        }
        self.full_until = None;
        if self.at < self.out.len() {
            // Where the device tells.
            self.bucket.at_least(port.holds(), now);
        }
        while self.at < self.out.len() {
            let room = self.bucket.room(now).min(self.out.len() - self.at);
            if room == 0 {
                return Pushed::Part;
            }
            match port.write(&self.out[self.at..self.at + room]) {
                Ok(n) => {
                    self.at += n;
                    self.bucket.add(n, now);
                    self.facts.wrote(n);
                }
                Err(Trouble::Full) => {
                    let wait = self.bucket.time_of(64);
                    let (least, most) = (Duration::from_millis(1), Duration::from_millis(20));
                    self.full_until = Some(now + wait.clamp(least, most));
                    return Pushed::Part;
                }
                Err(Trouble::Gone(e)) => {
                    self.gone(&e, now);
                    return Pushed::Gone;
                }
            }
        }
        self.out.clear();
        self.at = 0;
        Pushed::All
    }

    /// What has come; `None`: the port is gone.
    pub(super) fn read(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        match self.port.as_mut()?.read(into) {
            Ok(n) => Some(n),
            Err(Trouble::Full) => Some(0),
            Err(Trouble::Gone(e)) => {
                self.gone(&e, now);
                None
            }
        }
    }

    /// It is gone. The descriptor first: while it is open the device keeps its name, and comes
    /// back under another one.
    fn gone(&mut self, e: &std::io::Error, now: Instant) {
        self.port = None;
        self.out.clear();
        self.at = 0;
        self.full_until = None;
        let lived = now.saturating_duration_since(self.since);
        let wait = if lived >= LIVES { FIRST_TRY } else { self.retry.1 };
        self.retry = (now + wait, (wait * 2).min(LAST_TRY));
        self.since = now;
        self.say(now, || format!("the port is gone ({e}); it is opened again when it comes back"));
    }

    /// Opens the port again, if it is time and it can be; true: it is there again, as new.
    pub(super) fn reopen(&mut self, now: Instant) -> bool {
        let (at, wait) = self.retry;
        if self.is_open() || now < at {
            return false;
        }
        match self.opener.open() {
            Ok(port) => {
                self.port = Some(port);
                self.bucket = Bucket::new(self.bytes_per_second, self.limit, now);
                let away = now.saturating_duration_since(self.since).as_secs_f64();
                self.since = now;
                self.facts.reconnected();
                self.say(now, || format!("the port is back after {away:.1} s"));
                true
            }
            Err(e) => {
                tracing::debug!("{e}");
                // From now: an attempt may take its time.
                self.retry = (Instant::now() + wait, (wait * 2).min(LAST_TRY));
                false
            }
        }
    }

    /// Says something, where the last word was not just now: a port with a loose contact has
    /// much to say.
    fn say(&mut self, now: Instant, words: impl FnOnce() -> String) {
        let recent =
            |said: Instant| now.saturating_duration_since(said) < Duration::from_millis(200);
        if !self.said.is_some_and(recent) {
            tracing::warn!("{}: {}", self.path.display(), words());
        }
        self.said = Some(now);
    }

    /// Waits until all is on the line, but not beyond `deadline`, and closes the port.
    ///
    /// # Errors
    /// That it was not, and why.
    pub(super) fn close(&mut self, deadline: Instant) -> Result<(), BackendError> {
        let shown = self.path.display().to_string();
        loop {
            let now = Instant::now();
            let pushed = self.push(now);
            if pushed == Pushed::Gone {
                let message = format!("{shown}: the port is gone: the end of it was not sent");
                return Err(BackendError::new(message));
            }
            let holds = self.port.as_ref().map_or(0, Port::holds);
            if pushed == Pushed::All && self.bucket.waiting(now) == 0 && holds == 0 {
                break;
            }
            if now >= deadline {
                let unwritten = self.unwritten();
                self.port = None;
                if unwritten > 0 || holds > 0 {
                    let message = format!(
                        "{shown}: the other side takes nothing: the end of it was not sent \
                         ({unwritten} bytes here, {holds} in the device)"
                    );
                    return Err(BackendError::new(message));
                }
                break;
            }
            let at =
                if pushed == Pushed::All { now + Duration::from_millis(1) } else { self.when(0) };
            let least = now + Duration::from_micros(100);
            std::thread::sleep(at.clamp(least, deadline.max(least)) - now);
        }
        self.port = None;
        Ok(())
    }
}
