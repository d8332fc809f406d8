//! The output: which records go on the line, and when. Runs on the drain's thread alone, and
//! waits nowhere but at the end: the drain sleeps until [`Output::pace`] says so.
//!
//! `newest`: just before each frame the part-filled sub-buffers are left, all packets are taken,
//! and what is older than a frame's worth is given up. `oldest`: what waits stays in the ring,
//! which loses what does not fit. Streams take turns, frame by frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rbpipe_core::backend::{BackendError, Before, Output, Pace};
use rbpipe_core::class::{ClassRegistry, EventClass};
use rbpipe_core::clock;
use rbpipe_core::decode::Classes;
use rbpipe_core::stream::Packet;

use super::burst::Bursts;
use super::commands::{Command, Filter, Listener};
use super::config::{Config, Keep};
use super::encode::Encode;
use super::facts::LineFacts;
use super::lane::{Lane, Mark};
use super::line::{Line, Pushed};
use crate::HeapMemory;

/// How often an idle line is looked at: when something was sent just now (at most: as often as a
/// frame's half takes), a moment ago, and later.
const IDLE: [(Duration, Duration); 3] = [
    (Duration::from_millis(100), Duration::from_millis(5)),
    (Duration::from_secs(1), Duration::from_millis(5)),
    (Duration::MAX, Duration::from_millis(20)),
];
/// … but not more often than this.
const LEAST_IDLE: Duration = Duration::from_micros(500);
/// Sub-buffers are not left more often than this: each time costs their writers one.
pub(super) const LEAVE: Duration = Duration::from_millis(2);
/// What became of all records is told this often.
const TELL: Duration = Duration::from_secs(1);
/// The end is told so often, since nothing comes after it that would show that it is missing.
const LAST_WORDS: usize = 3;
/// A ring that fills is looked at so often, where a part of it is kept free.
const RELIEVE: Duration = Duration::from_millis(5);
/// A frame has no more.
const MOST_RECORDS: usize = 4096;
/// In one turn; the drain has other things to do.
const FRAMES: usize = 64;

/// What the backend hands to its output.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) keep: Keep,
    pub(super) channel: String,
    pub(super) registry: Arc<ClassRegistry>,
    /// Packets that the output may have in hand, of each stream.
    pub(super) memories: usize,
    pub(super) encode: Encode,
    pub(super) line: Line,
    pub(super) facts: Arc<LineFacts>,
}

/// See above.
pub struct SerialOutput {
    pub(super) o: Opened,
    pub(super) lanes: Vec<Lane>,
    places: HashMap<u32, usize>,
    /// Whose turn it is.
    next: usize,
    classes: Vec<Arc<EventClass>>,
    pub(super) decode: Classes,
    pub(super) filter: Filter,
    listener: Listener,
    marks: Vec<Mark>,
    /// Lines that are being written: their lane, and how many. (A frame counts as sent when it is
    /// made: the other side misses it if it does not come.)
    lines: Option<(usize, u64)>,
    /// Nothing is sent.
    paused: bool,
    /// All that is older than this is sent, whatever else there is.
    pub(super) dump: Option<u64>,
    /// A packet came since the last turn.
    came: bool,
    /// When the last turn was.
    looked_at: Instant,
    /// When the idle line is looked at.
    idle_at: Instant,
    /// When something was last sent, and when sub-buffers were last left.
    sent_at: Instant,
    left_at: Instant,
    tell_at: Instant,
    /// When records were last given up for newer ones.
    pub(super) gave_up_at: Option<Instant>,
    pub(super) bursts: Bursts,
    /// The end: until then what is left is sent, and after that given up.
    pub(super) ending: Option<Instant>,
    over: bool,
    /// Records and bytes so far: what a record takes.
    pub(super) carried: (u64, u64),
}

impl SerialOutput {
    pub(super) fn new(o: Opened) -> Self {
        let now = Instant::now();
        o.facts.begin();
        Self {
            filter: Filter::new(o.config.important()),
            o,
            lanes: Vec::new(),
            places: HashMap::new(),
            next: 0,
            classes: Vec::new(),
            decode: Classes::default(),
            listener: Listener::default(),
            marks: Vec::new(),
            lines: None,
            paused: false,
            dump: None,
            came: false,
            looked_at: now,
            idle_at: now,
            sent_at: now,
            left_at: now,
            tell_at: now + TELL,
            gave_up_at: None,
            bursts: Bursts::new(now),
            ending: None,
            over: false,
            carried: (0, 0),
        }
    }

    pub(super) fn in_hand(&self) -> u64 {
        self.lanes.iter().map(Lane::in_hand).sum()
    }

    /// Whether anything but replies is sent.
    fn sends(&self) -> bool {
        !self.paused || self.dump.is_some() || self.ending.is_some()
    }

    /// New classes, if there are.
    fn learn(&mut self) {
        if self.classes.len() != self.o.registry.len() {
            self.classes = self.o.registry.all();
            self.decode = Classes::new(self.classes.iter().cloned());
        }
        self.filter.learn(&self.classes);
    }

    /// The lane of a packet's stream.
    fn lane(&mut self, packet: &Packet<HeapMemory>) -> usize {
        let (encode, channel) = (&mut self.o.encode, &self.o.channel);
        let info = packet.stream();
        *self.places.entry(info.id).or_insert_with(|| {
            let number = encode.stream(channel, info.id, info.class, info.cpu);
            self.lanes.push(Lane::new(packet, number));
            self.lanes.len() - 1
        })
    }

    // --- the line ---------------------------------------------------------------------

    /// What comes from the other side; the end of it is that the port is gone.
    fn listen(&mut self, now: Instant) {
        let mut bytes = [0; 256];
        for _ in 0..16 {
            match self.o.line.read(&mut bytes, now) {
                None => return self.gone(),
                Some(0) => return,
                Some(n) if self.o.config.back_channel => {
                    for command in self.listener.feed(&bytes[..n], &mut self.filter) {
                        self.obey(command);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Filter => self.filter.learn(&self.classes),
            Command::Resync => self.o.encode.resync(),
            Command::Dump => self.dump = Some(clock::now()),
            Command::Pause => self.paused = true,
            Command::Resume => self.paused = false,
        }
    }

    /// The port is gone, and with it what was being written.
    fn gone(&mut self) {
        if let Some((place, records)) = self.lines.take() {
            self.lanes[place].unsent(records);
        }
    }

    /// Hands over what the line may have, and makes frames while there is room for more.
    fn drive(&mut self) {
        for _ in 0..FRAMES {
            let now = Instant::now();
            match self.o.line.push(now) {
                Pushed::Gone => return self.gone(),
                Pushed::Part => return,
                Pushed::All => {}
            }
            if let Some((place, records)) = self.lines.take() {
                self.lanes[place].left(records, 0);
            }
            if !self.o.line.has_room(self.o.config.frame as usize, now) || !self.make(now) {
                return;
            }
            self.sent_at = now;
        }
    }

    /// Makes what goes out next; false: there is nothing.
    fn make(&mut self, now: Instant) -> bool {
        let time = clock::now();
        self.o.encode.due(time, self.o.line.out());
        for reply in self.listener.replies() {
            self.o.encode.reply(&reply, self.o.line.out());
        }
        if now >= self.tell_at {
            self.tell_at = now + TELL;
            for lane in &mut self.lanes {
                self.o.encode.totals(lane, false, self.o.line.out());
            }
        }
        if self.o.line.unwritten() > 0 {
            return true;
        }
        if !self.sends() {
            return false;
        }
        self.learn();
        for turn in 0..self.lanes.len() {
            let place = (self.next + turn) % self.lanes.len();
            if self.lanes[place].in_hand() > 0 && self.frame(place, now, time) {
                self.next = place + 1;
                return true;
            }
        }
        false
    }

    /// One frame of this lane; false: nothing of it is worth one.
    fn frame(&mut self, place: usize, now: Instant, time: u64) -> bool {
        if self.chooses() {
            self.choose(place);
        } else if let Some(end) = self.ending {
            self.choose_last(place, end.saturating_duration_since(now));
        }
        let lane = &self.lanes[place];
        let most = self.most(lane);
        let worths = self.filter.worths();
        let records = lane.gather(&self.decode, worths, most, &mut self.marks);
        if records.is_empty() {
            drop(records);
            self.lanes[place].give_up();
            return false;
        }
        let out = self.o.line.out();
        let (taken, too_big) = self.o.encode.frame(lane, time, &self.classes, &records, out);
        let more = taken < records.len();
        drop(records);
        let bytes = self.o.line.unwritten() as u64;
        let lane = &mut self.lanes[place];
        // A frame that takes all that it is given tells nothing of what it could take.
        if more {
            lane.fits = 0;
        } else if taken >= most {
            lane.fits = (most + most / 2).min(MOST_RECORDS);
        }
        lane.sent(taken, &self.marks);
        let records = taken as u64 - too_big.min(taken as u64);
        lane.lost_on_the_way(taken as u64 - records);
        self.carried = (self.carried.0 + records, self.carried.1 + bytes);
        if self.o.encode.counts() {
            lane.left(records, bytes);
        } else {
            lane.left(0, bytes);
            self.lines = Some((place, records));
        }
        true
    }

    /// One turn on the line.
    fn run(&mut self) {
        let now = Instant::now();
        // As `pace` said a moment ago.
        if now >= self.left_at + LEAVE {
            self.left_at = now;
        }
        self.over |= self.ending.is_some_and(|end| now >= end);
        if self.over {
            self.lanes.iter_mut().for_each(Lane::give_up);
        }
        self.end_dump();
        if self.o.line.reopen(now) {
            self.listener.forget();
            self.o.encode.reopened();
        }
        if self.o.line.is_open() {
            self.listen(now);
        }
        self.learn();
        self.relieve();
        self.drive();
        let waiting = self.o.line.waiting(now) as f64;
        let records = self.in_hand() as f64 * self.bytes_per_record();
        self.o.facts.waits((waiting + records) as u64);
        let now = Instant::now();
        self.looked_at = now;
        // What is delivered comes first, in `oldest`; then, at once, the rest.
        let idle = if self.came { Duration::ZERO } else { self.idle(now) };
        (self.idle_at, self.came) = (now + idle, false);
    }

    /// When the idle line is looked at next.
    fn idle(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.sent_at);
        let [just_now, moment, later] = IDLE;
        if since < just_now.0 {
            let half = self.o.line.time_of(self.o.config.frame as usize / 2);
            half.clamp(LEAST_IDLE, just_now.1)
        } else if since < moment.0 {
            moment.1
        } else {
            later.1
        }
    }

    /// A dump ends when all that was in hand was sent, and the ring had nothing more when it was
    /// looked at: which is how this turn begins.
    fn end_dump(&mut self) {
        if self.dump.is_some() && !self.came && self.in_hand() == 0 && self.lines.is_none() {
            self.dump = None;
            self.listener.reply("dump done".into());
        }
    }
}

#[async_trait]
impl Output<HeapMemory> for SerialOutput {
    async fn write_packet(&mut self, packet: Packet<HeapMemory>) {
        self.came = true;
        // A dump is of what was there when it was asked for.
        if self.dump.is_some_and(|at| packet.facts().begin > at) {
            self.dump = None;
            self.listener.reply("dump done".into());
        }
        self.came_at(Instant::now());
        self.learn();
        let place = self.lane(&packet);
        self.lanes[place].take(packet);
        if self.over {
            self.lanes[place].give_up();
        } else if self.chooses() {
            self.choose(place);
        }
    }

    async fn turn(&mut self) {
        self.run();
    }

    fn pace(&self) -> Option<Pace> {
        let in_hand = self.in_hand() > 0;
        let line = &self.o.line;
        if self.over {
            let at = line.when(self.o.config.frame as usize).min(self.idle_at);
            return Some(Pace { at, then: Before::Take, behind: false });
        }
        let behind = in_hand || line.unwritten() > 0;
        let frame = line.when(self.o.config.frame as usize);
        let (at, then) = if !line.is_open() || line.unwritten() > 0 {
            (frame, Before::Nothing)
        } else if !self.sends() {
            (self.idle_at, Before::Nothing)
        } else if !in_hand {
            (frame.max(self.idle_at), Before::Switch)
        } else if self.chooses() && frame.max(Instant::now()) >= self.left_at + LEAVE {
            (frame, Before::Switch)
        } else {
            (frame, Before::Take)
        };
        let at = self.ending.map_or(at, |end| at.min(end));
        // A ring that fills is not to wait for the line.
        if in_hand && self.reserves() && self.sends() {
            let (at, then) = (at.min(self.looked_at + RELIEVE), Before::Take);
            return Some(Pace { at, then, behind });
        }
        Some(Pace { at, then, behind })
    }

    fn ending(&mut self) {
        let timeout = self.o.config.drain_timeout.0;
        self.ending = Some(Instant::now() + timeout);
    }

    async fn flush(&mut self) {}

    async fn close(&mut self) -> Result<(), BackendError> {
        self.over = true;
        self.lanes.iter_mut().for_each(Lane::give_up);
        if !self.o.line.is_open() {
            self.gone();
        }
        // What is being written first: it has its place before what is told now.
        let out = self.o.line.out();
        for _ in 0..if self.o.encode.counts() { LAST_WORDS } else { 1 } {
            for lane in &mut self.lanes {
                self.o.encode.totals(lane, true, out);
            }
        }
        let time = self.o.line.time_of(self.o.line.waiting(Instant::now()));
        let result = self.o.line.close(Instant::now() + time * 2 + Duration::from_millis(250));
        match (self.lines.take(), &result) {
            (Some((place, records)), Ok(())) => self.lanes[place].left(records, 0),
            _ => self.gone(),
        }
        self.o.facts.waits(0);
        self.o.facts.end();
        result
    }
}
