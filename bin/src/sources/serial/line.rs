//! A line that is listened to: its port, opened again when it comes back, and the decoder of what
//! comes from it. What is wrong with it is said here.

use std::path::Path;
use std::time::{Duration, Instant};

use rbpipe_backends::link::{Decoder, Health, Receive};
use rbpipe_backends::serial::device::Settings;

use super::open::{Port, Read};
use super::trouble::Troubles;
use crate::status::count;

/// How long one turn may take at most: how soon an end is seen.
pub const TURN: Duration = Duration::from_millis(50);
/// Nothing has come for so long: text that waits for its end is given.
const IDLE: Duration = Duration::from_millis(100);
/// A port that is gone is tried again after this long …
const SOON: Duration = Duration::from_millis(10);
/// … twice as long each time, but not longer than this.
const SELDOM: Duration = Duration::from_millis(500);

/// Where a line is, and how it is listened to.
#[derive(Clone, Debug)]
pub struct Where {
    /// Its device, and how the line is set up.
    pub device: Settings,
    /// Nothing for so long is trouble; `None`: never.
    pub quiet: Option<Duration>,
}

/// A line.
pub struct Line {
    place: Where,
    port: Option<Port>,
    decoder: Decoder,
    troubles: Troubles,
    buffer: Vec<u8>,
    /// Came before anybody could take it.
    first: Vec<u8>,
    /// When the last bytes came; whether the decoder was told that there are none.
    last: Instant,
    idle: bool,
    /// When a port that is gone is tried, and how long it is waited after that.
    again: (Instant, Duration),
    /// How often the port came back.
    pub reopened: u64,
}

impl Line {
    /// Opens it.
    ///
    /// # Errors
    /// Why the port cannot be had, in a sentence that names it.
    pub fn open(place: Where) -> anyhow::Result<Self> {
        let port = Port::open(&place.device)?;
        let now = Instant::now();
        Ok(Self {
            port: Some(port),
            decoder: Decoder::new(),
            troubles: Troubles::new(place.device.baud, place.quiet, now),
            buffer: vec![0; 64 << 10],
            first: Vec::new(),
            last: now,
            idle: true,
            again: (now, SOON),
            reopened: 0,
            place,
        })
    }

    /// How it is set up.
    pub fn settings(&self) -> &Settings {
        &self.place.device
    }

    /// Its device.
    pub fn path(&self) -> &Path {
        &self.place.device.path
    }

    /// The same line, from these bytes of it on: who heard them could not keep what they say.
    #[must_use]
    pub fn again_from(mut self, bytes: Vec<u8>) -> Self {
        self.decoder = Decoder::new();
        self.first = bytes;
        // What was said of it stays said, but it counts from here.
        self.troubles = Troubles::new(self.place.device.baud, self.place.quiet, Instant::now());
        self
    }

    /// Waits a little for bytes, and has `to` told what they say. Gives the bytes.
    pub fn turn(&mut self, to: &mut impl Receive) -> &[u8] {
        let mut came = 0;
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.decoder.feed(&first, to);
            self.buffer = first;
            came = self.buffer.len();
            self.buffer.resize(came.max(64 << 10), 0);
        } else if let Some(port) = &mut self.port {
            match port.read(&mut self.buffer, TURN) {
                Read::Bytes(n) => {
                    self.decoder.feed(&self.buffer[..n], to);
                    came = n;
                }
                Read::Nothing => {}
                Read::Gone(why) => {
                    // First of all: an open descriptor keeps the device's name busy.
                    self.port = None;
                    let word = self.troubles.gone(&why);
                    self.warn(word);
                    self.again = (Instant::now() + SOON, SOON);
                }
            }
        } else {
            self.come_back(to);
        }
        let now = Instant::now();
        if came > 0 {
            (self.last, self.idle) = (now, false);
        } else if !self.idle && now.duration_since(self.last) >= IDLE {
            self.decoder.idle(to);
            self.idle = true;
        }
        for word in self.troubles.look(now, self.decoder.health()) {
            self.warn(Some(word));
        }
        &self.buffer[..came]
    }

    /// Tries to open a port that is gone.
    fn come_back(&mut self, to: &mut impl Receive) {
        let (at, pause) = self.again;
        std::thread::sleep(at.saturating_duration_since(Instant::now()).min(TURN));
        if Instant::now() < at {
            return;
        }
        match Port::open(&self.place.device) {
            Ok(port) => {
                self.port = Some(port);
                self.reopened += 1;
                self.decoder.reopened(to);
                let word = self.troubles.back(Instant::now());
                self.warn(word);
            }
            Err(why) => {
                tracing::debug!("{why:#}");
                let pause = (pause * 2).min(SELDOM);
                self.again = (Instant::now() + pause, pause);
            }
        }
    }

    fn warn(&self, word: Option<String>) {
        if let Some(word) = word {
            tracing::warn!("{}: {word}", self.path().display());
        }
    }

    /// There will be no more.
    pub fn end(&mut self, to: &mut impl Receive) {
        self.decoder.idle(to);
        self.decoder.end(to);
    }

    /// What has been seen of it.
    pub fn health(&self) -> &Health {
        self.decoder.health()
    }
}

/// What has been seen of a line, in words.
pub fn seen(health: &Health) -> String {
    let mut out = count(health.frames, "frame");
    if health.damaged > 0 {
        out += &format!(", {} damaged ({} bytes)", health.damaged, health.damaged_bytes);
    }
    for (n, what) in [
        (health.strange, "that mean nothing here"),
        (health.given_up, "that lacked an announcement"),
    ] {
        if n > 0 {
            out += &format!(", {n} {what}");
        }
    }
    if health.text > 0 {
        out += &format!(", {} of text", count(health.text, "byte"));
    }
    out
}
