//! One run, from its seed.

use std::sync::Arc;

use fastrand::Rng;
use rbpipe_backends::link::{Decoder, Encoder, LinkOptions};

use super::books::{Books, Figures, Truth};
use super::plan::Plan;
use super::sender::Stream;
use super::traffic::Traffic;
use crate::wire::{Break, Line};

const SECOND: u64 = 1_000_000_000;

/// Runs a link as the seed decides: with faults of the line, ports that go and come back, senders
/// and receivers that start anew, rings that lose. `alike`: new senders are those whose frames
/// look like the last one's.
///
/// # Errors
/// What the receiver was told that is not so.
pub fn simulate(seed: u64, alike: bool) -> Result<Figures, String> {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Plan::draw(&mut rng);
    plan.alike = alike;
    if alike {
        plan.reset = plan.reset.max(0.01);
    }
    let mut run = Run::new(seed, plan, rng);
    run.traffic();
    run.end();
    match run.books.wrong {
        Some(wrong) => Err(format!("{wrong}\n{:?}", run.plan)),
        None => Ok(run.figures),
    }
}

struct Run {
    plan: Plan,
    rng: Rng,
    now: u64,
    told: u64,
    line: Line,
    encoder: Encoder,
    decoder: Decoder,
    books: Books,
    figures: Figures,
    /// Bytes that go by before the receiver listens.
    deaf: usize,
    unplugged: bool,
}

impl Run {
    fn new(seed: u64, plan: Plan, mut rng: Rng) -> Self {
        let now = if rng.bool() { rng.u64(0..10 * SECOND) } else { rng.u64(0..1 << 50) };
        let mut run = Self {
            line: Line::new(seed, plan.rates),
            encoder: Encoder::new(plan.link.clone()),
            decoder: Decoder::new(),
            books: Books::default(),
            figures: Figures { runs: 1, joins: u64::from(plan.late > 0), ..Figures::default() },
            deaf: plan.late,
            told: now,
            unplugged: false,
            plan,
            rng,
            now,
        };
        run.start();
        run
    }

    /// A sender begins.
    fn start(&mut self) {
        let (rng, plan) = (&mut self.rng, &self.plan);
        self.encoder = Encoder::new(plan.link.clone());
        let traffic = Arc::new(Traffic::new(rng, plan.many, plan.longest));
        let (id, tick) = (plan.link.session, plan.link.tick);
        let mut streams = Vec::new();
        for i in 0..plan.streams {
            streams.push(Stream::new(&mut self.encoder, rng, i, plan.ring, self.now));
        }
        self.books.truth.push(Truth { id, tick, traffic, streams, ended: false });
    }

    fn truth(&mut self) -> &mut Truth {
        self.books.truth.last_mut().expect("a sender")
    }

    /// Offers records and sends what waits until all are offered.
    fn traffic(&mut self) {
        let mut offered = 0;
        while offered < self.plan.records {
            let n = self.rng.u64(0..=self.plan.offered as u64).min(self.plan.records - offered);
            offered += n;
            self.offer(n);
            self.due();
            let most = 1 + self.rng.usize(0..100);
            let frames = self.rng.usize(0..3);
            for _ in 0..frames {
                self.frame(most);
            }
            if self.now - self.told > SECOND {
                self.tell(false);
            }
            if frames == 0 {
                // Nothing to send, or the line is not asked: time goes by.
                self.now += self.rng.u64(0..SECOND / 2);
            }
            self.chances();
        }
        while self.frame(100) {
            self.due();
        }
    }

    fn offer(&mut self, n: u64) {
        let (rng, now) = (&mut self.rng, self.now);
        let truth = self.books.truth.last_mut().expect("a sender");
        for _ in 0..n {
            let at = rng.usize(0..truth.streams.len());
            truth.streams[at].offer(rng, &truth.traffic, now);
        }
    }

    /// Sends one frame of some stream; whether there was something to send.
    fn frame(&mut self, most: usize) -> bool {
        let mut out = Vec::new();
        let truth = self.books.truth.last_mut().expect("a sender");
        let first = self.rng.usize(0..truth.streams.len());
        let count = truth.streams.len();
        let Some(at) =
            (0..count).map(|i| (first + i) % count).find(|i| !truth.streams[*i].is_empty())
        else {
            return false;
        };
        let (rng, encoder) = (&mut self.rng, &mut self.encoder);
        truth.streams[at].send(encoder, rng, &truth.traffic, self.now, most, &mut out);
        self.carry(&out);
        true
    }

    fn due(&mut self) {
        let mut out = Vec::new();
        self.encoder.due(self.now, &mut out);
        self.carry(&out);
    }

    fn tell(&mut self, last: bool) {
        self.told = self.now;
        let mut out = Vec::new();
        let truth = self.books.truth.last_mut().expect("a sender");
        for stream in &mut truth.streams {
            if last || stream.said != Some(stream.totals) {
                stream.tell(&mut self.encoder, last, &mut out);
            }
        }
        self.carry(&out);
    }

    fn chances(&mut self) {
        if self.rng.f64() < self.plan.unplug {
            self.unplug();
        }
        if self.rng.f64() < self.plan.reset {
            self.figures.resets += 1;
            self.close_sender();
            self.plan.link.session = self.other_session();
            if self.rng.bool() {
                // The machine itself started anew.
                self.now = self.rng.u64(0..10 * SECOND);
                self.told = self.now;
            }
            self.start();
        }
        if self.rng.f64() < self.plan.restart {
            self.figures.joins += 1;
            self.decoder.end(&mut self.books);
            self.decoder = Decoder::new();
            self.books.restart(&mut self.figures);
        }
        if self.rng.f64() < self.plan.resync {
            self.encoder.resync();
        }
    }

    /// A number for a new sender; perhaps one whose frames look like the last one's: a head has
    /// less room than a session's number.
    fn other_session(&mut self) -> u64 {
        let head = |session| {
            let mut out = Vec::new();
            let options = LinkOptions { session, mixed: false, ..self.plan.link.clone() };
            Encoder::new(options).due(0, &mut out);
            [out[1], out[2]]
        };
        let now = head(self.plan.link.session);
        let mut tries = 0..10_000;
        loop {
            let session = self.rng.u64(..);
            if !self.plan.alike || tries.next().is_none() || head(session) == now {
                return session;
            }
        }
    }

    fn close_sender(&mut self) {
        let sent: usize = self.truth().streams.iter().map(|s| s.sent.len()).sum();
        self.figures.sent += sent as u64;
    }

    /// A port goes and comes back: the sender's, the receiver's or both.
    fn unplug(&mut self) {
        self.figures.unplugs += 1;
        self.unplugged = true;
        self.now += self.rng.u64(0..3 * SECOND);
        let who = self.rng.u8(0..3);
        if who != 1 {
            self.encoder.reopened();
        }
        if who != 0 {
            self.decoder.reopened(&mut self.books);
        }
    }

    /// Carries what a sender wrote over the line, to the receiver.
    fn carry(&mut self, mut bytes: &[u8]) {
        self.figures.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let mut out = Vec::new();
            let (n, broken) = self.line.carry(bytes, &mut out);
            bytes = &bytes[n..];
            self.now += n as u64 * 10 * SECOND / u64::from(self.plan.link.baud);
            self.hear(&out);
            match broken {
                Some(Break::Pause(time)) => {
                    self.now += time.as_nanos() as u64;
                    if time.as_millis() > 100 {
                        self.decoder.idle(&mut self.books);
                    }
                }
                Some(Break::HangUp(time)) => {
                    self.line.lose(bytes.len());
                    bytes = &[];
                    self.now += time.as_nanos() as u64;
                    self.unplug();
                }
                None => {}
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let deaf = self.deaf.min(bytes.len());
        self.deaf -= deaf;
        let mut bytes = &bytes[deaf..];
        while !bytes.is_empty() {
            let n = self.rng.usize(1..=bytes.len().min(300));
            self.decoder.feed(&bytes[..n], &mut self.books);
            bytes = &bytes[n..];
        }
    }

    /// The end: a clean line and everything announced again, or not.
    fn end(&mut self) {
        let clean = self.plan.clean_end;
        if clean {
            self.line.rates = crate::wire::Rates { pause: 0.0, ..crate::wire::Rates::CLEAN };
            self.deaf = 0;
            for _ in 0..2 {
                self.now += self.plan.link.announce_every + 3 * SECOND;
                self.due();
                self.offer(4 * u64::from(self.plan.streams));
                while self.frame(100) {}
            }
        }
        self.truth().ended = true;
        for _ in 0..3 {
            self.tell(true);
        }
        self.decoder.end(&mut self.books);
        self.close_sender();
        if clean && let Some(who) = self.books.all_ended() {
            let what = format!("the line was clean at the end, and {who:?} has not ended");
            self.books.wrong.get_or_insert(what);
        }
        self.books.close(&mut self.figures);
        self.figures.faults += self.line.done.flips
            + self.line.done.drops
            + self.line.done.doubles
            + self.line.done.bursts;
        let (sent, heard) = (self.figures.sent, self.figures.delivered);
        if self.plan.is_clean() && !self.unplugged && sent != heard {
            let what = format!("a clean line: {heard} of {sent} arrived");
            self.books.wrong.get_or_insert(what);
        }
    }
}
