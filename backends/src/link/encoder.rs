//! The sender's half.

mod words;

use std::mem;
use std::sync::Arc;

use rbpipe_core::class::{EventClass, FieldType};

use self::words::{Announced, Vocabulary};
use super::bounds::{
    CLASS_BYTES, LONGEST_BODY, LONGEST_NAME, LONGEST_PAYLOAD, MOST_CLASSES, MOST_FIELDS,
    MOST_STREAMS,
};
use super::coder::Writer;
use super::layout::{self, Layout, MOST_DOMAINS};
use super::model::{Before, FrameModel, MOST_BYTES, MOST_RECORDS};
use super::wire::{self, Epoch, HELLO_EVERY, Kind, number, text, zigzag};
use super::{LinkOptions, LinkRecord, LinkStream, Totals};

/// Who the sender is is said this often in each generation, and the last totals at the latest.
const LAST_HELLOS: u8 = 3;
/// Bytes of the coded part of a body that goes over the line in pieces.
const LONGEST_CODE: usize = 2 * LONGEST_PAYLOAD;

/// Makes frames of records.
pub struct Encoder {
    options: LinkOptions,
    epoch: Epoch,
    /// Time on the link counts from here (ticks); known from the first `now`.
    start: Option<u64>,
    /// The latest `now`.
    now: u64,
    hello_at: u64,
    /// How often that was said in this generation, at most 3.
    hellos: u8,
    /// Nothing was sent yet in this session.
    fresh: bool,
    /// Nothing was sent yet through this opening: what is on the line is not ours.
    opening: bool,
    streams: Vec<StreamState>,
    classes: Vec<ClassState>,
    /// Bytes of the descriptions of those that are in use.
    described: usize,
    domains: Vec<Vec<FieldType>>,
    words: Vocabulary,
    model: FrameModel,
    coder: Writer,
    pieces: u64,
    body: Vec<u8>,
    scratch: Vec<u8>,
}

struct StreamState {
    who: LinkStream,
    announced: Announced,
    /// Its classes' numbers on the link, by their places.
    classes: Vec<u32>,
    sent: u64,
    /// Records lost before one that was sent.
    gone: u64,
    /// Records lost since the last one that was sent, of those that were given to us.
    too_big_since: u64,
    too_big: u64,
    typical: f32,
}

impl StreamState {
    /// Takes a record that does not go over the line.
    fn too_big(&mut self, record: &LinkRecord<'_>) -> usize {
        self.too_big_since += 1 + record.lost_before;
        self.too_big += 1;
        1
    }
}

struct ClassState {
    layout: Arc<Layout>,
    announced: Announced,
    /// Whether a receiver takes it; asked when it is first used.
    taken: Option<bool>,
}

impl Encoder {
    /// A link's beginning.
    #[must_use]
    pub fn new(options: LinkOptions) -> Self {
        let options = LinkOptions {
            tick: options.tick.clamp(1, 1_000_000),
            frame: options.frame.clamp(64, wire::LONGEST),
            ..options
        };
        // Frames of two sessions are unlikely to look alike: 18 bits of a hash.
        let mixed = options.session.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let epoch = Epoch { tag: (mixed >> 54) as u16, generation: (mixed >> 46) as u8 };
        Self {
            words: Vocabulary::new(options.announce_every),
            options,
            epoch,
            start: None,
            now: 0,
            hello_at: 0,
            hellos: 0,
            fresh: true,
            opening: true,
            streams: Vec::new(),
            classes: Vec::new(),
            described: 0,
            domains: Vec::new(),
            model: FrameModel::default(),
            coder: Writer::default(),
            pieces: 0,
            body: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// A new stream; gives its number.
    pub fn stream(&mut self, mut stream: LinkStream) -> u32 {
        // A receiver takes no longer one.
        stream.channel.truncate(cut(&stream.channel, LONGEST_NAME).len());
        self.streams.push(StreamState {
            who: stream,
            announced: Announced::default(),
            classes: Vec::new(),
            sent: 0,
            gone: 0,
            too_big_since: 0,
            too_big: 0,
            typical: 16.0,
        });
        self.streams.len() as u32 - 1
    }

    /// The port was opened again: a new generation, everything is announced anew.
    pub fn reopened(&mut self) {
        self.epoch.generation = self.epoch.generation.wrapping_add(1);
        self.words.forget();
        self.hellos = 0;
        self.opening = true;
        self.resync();
    }

    /// Everything is announced again before it is next used, and who the sender is at once.
    pub fn resync(&mut self) {
        self.hello_at = 0;
        self.streams.iter_mut().for_each(|s| s.announced = Announced::default());
        self.classes.iter_mut().for_each(|c| c.announced = Announced::default());
        self.words.announce_all();
    }

    /// What is due at `now` (CLOCK_MONOTONIC, ns) whatever is sent: who the sender is, every 2 s.
    pub fn due(&mut self, now: u64, out: &mut Vec<u8>) {
        self.now = self.now.max(now);
        if now < self.hello_at {
            return;
        }
        self.hello_at = now.saturating_add(HELLO_EVERY);
        self.hellos = (self.hellos + 1).min(LAST_HELLOS);
        let start = self.start(now);
        let tick = self.options.tick;
        let mut body = self.begin(Kind::Hello);
        body.push(u8::from(self.fresh));
        body.extend(self.options.session.to_le_bytes());
        for value in [
            tick,
            self.options.clock_offset,
            self.options.baud.into(),
            start,
            (now / tick).saturating_sub(start),
            self.options.announce_every,
        ] {
            number(value, &mut body);
        }
        self.put(body, out);
    }

    /// One frame with as many of these records of one stream as fit, in their order, and before
    /// it what has to be announced for it; appended to `out`. Gives how many were taken: at least
    /// one, where there is one. `classes`: by their places; it only grows.
    ///
    /// A record that no frame holds goes out in several; one of more than 64 KiB does not, nor does
    /// one whose class or stream is more than a receiver takes. It is taken, counted and told as lost
    /// (see [`Encoder::too_big`]).
    ///
    /// # Panics
    /// Where the stream is none of ours, or a record's class has no place in `classes`.
    pub fn frame(
        &mut self,
        stream: u32,
        now: u64,
        classes: &[Arc<EventClass>],
        records: &[LinkRecord<'_>],
        out: &mut Vec<u8>,
    ) -> usize {
        self.know(stream, classes);
        let Some(first) = records.first() else { return 0 };
        let class = self.streams[stream as usize].classes[first.class];
        let known = stream < MOST_STREAMS && self.is_taken(class);
        if !known || !self.classes[class as usize].layout.fits(first.payload) {
            return self.streams[stream as usize].too_big(first);
        }
        self.due(now, out);
        if self.words.is_full() {
            self.reopened();
            self.due(now, out);
        }
        let start = self.start(now);
        let tick = self.options.tick;
        let lost = first.lost_before + self.streams[stream as usize].too_big_since;
        let mut header = self.begin(Kind::Data);
        let state = &self.streams[stream as usize];
        number(stream.into(), &mut header);
        number(zigzag((first.time / tick).wrapping_sub(start) as i64), &mut header);
        number(state.sent, &mut header);
        number(state.gone + lost, &mut header);
        let room = wire::room(self.options.frame);
        // The count takes at most two bytes: there are at most 4096.
        let mut taken = self.code(stream, now, records, room.saturating_sub(header.len() + 2));
        if taken == 0 {
            taken = self.code(stream, now, &records[..1], LONGEST_CODE);
        }
        if taken == 0 {
            self.body = header;
            return self.streams[stream as usize].too_big(first);
        }
        self.coder.finish();
        number(taken as u64, &mut header);
        header.extend_from_slice(&self.coder.out);
        self.announce(stream, now, &records[..taken], out);
        let long = header.len() > room;
        self.put(header, out);
        self.fresh = false;
        let state = &mut self.streams[stream as usize];
        state.sent += taken as u64;
        state.too_big_since = 0;
        state.gone += lost + records[1..taken].iter().map(|r| r.lost_before).sum::<u64>();
        if taken < records.len() || long {
            state.typical += (taken as f32 - state.typical) / 8.0;
        }
        taken
    }

    /// Records of this stream that were too big for the link, or of a class or stream that a
    /// receiver has no place for (a description of more than 128 KiB, more than 4096 of them or
    /// 1 MiB in all), so far.
    ///
    /// # Panics
    /// Where the stream is none of ours.
    #[must_use]
    pub fn too_big(&self, stream: u32) -> u64 {
        self.streams[stream as usize].too_big
    }

    /// Records of this stream that were put in frames, so far.
    ///
    /// # Panics
    /// Where the stream is none of ours.
    #[must_use]
    pub fn sent(&self, stream: u32) -> u64 {
        self.streams[stream as usize].sent
    }

    /// What became of a stream's records so far; `last`: there will be no more. To be sent once a
    /// second for each stream with something new, and at the end. Records that were too big are
    /// added to the lost ones here.
    ///
    /// # Panics
    /// Where the stream is none of ours.
    pub fn totals(&mut self, stream: u32, totals: &Totals, last: bool, out: &mut Vec<u8>) {
        if stream >= MOST_STREAMS {
            return;
        }
        let now = self.now;
        if last {
            // There is no other time to mend what was lost of these.
            if self.hellos < LAST_HELLOS {
                self.hello_at = 0;
            }
            self.streams[stream as usize].announced.hurry(now);
        }
        self.due(now, out);
        self.announce(stream, now, &[], out);
        let state = &self.streams[stream as usize];
        let (sent, lost) = (state.sent, totals.lost + state.too_big);
        let mut body = self.begin(Kind::Totals);
        number(stream.into(), &mut body);
        body.push(u8::from(last));
        for value in [sent, totals.produced, lost, totals.overwritten, totals.aborted] {
            number(value, &mut body);
        }
        self.put(body, out);
    }

    /// Answers a line of the other side.
    pub fn reply(&mut self, line: &str, out: &mut Vec<u8>) {
        let mut body = self.begin(Kind::Reply);
        let room = wire::room(self.options.frame) - body.len();
        body.extend_from_slice(cut(line, room).as_bytes());
        self.put(body, out);
    }

    /// How many records a frame of this stream holds, as far as can be told: a mean of the last
    /// ones; at first a guess.
    ///
    /// # Panics
    /// Where the stream is none of ours.
    #[must_use]
    pub fn typical(&self, stream: u32) -> usize {
        (self.streams[stream as usize].typical.round() as usize).max(1)
    }

    fn start(&mut self, now: u64) -> u64 {
        *self.start.get_or_insert(now / self.options.tick)
    }

    /// A body's beginning, in the memory that is kept for it.
    fn begin(&mut self, kind: Kind) -> Vec<u8> {
        let mut body = mem::take(&mut self.body);
        body.clear();
        wire::head(kind, self.epoch, &mut body);
        body
    }

    /// A body as a frame, or as several; keeps its memory.
    fn put(&mut self, body: Vec<u8>, out: &mut Vec<u8>) {
        let room = wire::room(self.options.frame);
        let begin = mem::take(&mut self.opening) || self.options.mixed;
        if body.len() <= room {
            wire::frame(&body, begin, out);
        } else {
            let mut at = 0;
            let mut piece = Vec::new();
            while at < body.len() {
                piece.clear();
                wire::head(Kind::Piece, self.epoch, &mut piece);
                for value in [self.pieces, body.len() as u64, at as u64] {
                    number(value, &mut piece);
                }
                let end = body.len().min(at + room - piece.len());
                piece.extend_from_slice(&body[at..end]);
                wire::frame(&piece, begin, out);
                at = end;
            }
            self.pieces += 1;
        }
        self.body = body;
    }

    /// Numbers for the classes of a stream's channel.
    fn know(&mut self, stream: u32, classes: &[Arc<EventClass>]) {
        let state = &mut self.streams[stream as usize];
        for class in classes.iter().skip(state.classes.len()) {
            let known = self
                .classes
                .iter()
                .position(|c| Arc::ptr_eq(&c.layout.class, class) || c.layout.class == *class);
            let number = known.unwrap_or_else(|| {
                let domains = &mut self.domains;
                let layout = Layout::choose(class, |types| {
                    let known = domains.iter().position(|d| d == types);
                    let number = known.unwrap_or(domains.len());
                    if known.is_none() {
                        if domains.len() == MOST_DOMAINS as usize {
                            return None;
                        }
                        domains.push(types.to_vec());
                    }
                    Some(number as u32)
                });
                let announced = Announced::default();
                self.classes.push(ClassState { layout: Arc::new(layout), announced, taken: None });
                self.classes.len() - 1
            });
            state.classes.push(number as u32);
        }
    }

    /// Whether a receiver takes this class: it is one of not too many, and so is what is to be said
    /// of all that are in use.
    #[inline]
    fn is_taken(&mut self, class: u32) -> bool {
        self.classes[class as usize].taken.unwrap_or_else(|| self.ask(class))
    }

    fn ask(&mut self, class: u32) -> bool {
        let state = &mut self.classes[class as usize];
        let mut said = Vec::new();
        layout::write(&state.layout, &mut said);
        let all = self.described + said.len();
        // A body has a head, a generation and the number before that.
        let taken = class < MOST_CLASSES
            && state.layout.class.fields.len() <= MOST_FIELDS
            && said.len() + 4 <= LONGEST_BODY
            && all <= CLASS_BYTES;
        if taken {
            self.described = all;
        }
        state.taken = Some(taken);
        taken
    }

    /// Codes records until `room` bytes are full; gives how many.
    fn code(&mut self, stream: u32, now: u64, records: &[LinkRecord<'_>], room: usize) -> usize {
        self.model.reset();
        self.coder.reset();
        self.words.begin(now);
        let tick = self.options.tick;
        let mut last = records.first().map_or(0, |r| r.time / tick);
        let mut bytes = 0;
        for (at, record) in records.iter().enumerate() {
            let class = self.streams[stream as usize].classes[record.class];
            if !self.is_taken(class) {
                return at;
            }
            let layout = &self.classes[class as usize].layout;
            bytes += record.payload.len();
            let too_many = at == MOST_RECORDS || (at > 0 && bytes > MOST_BYTES);
            let fits = at == 0 || layout.fits(record.payload);
            if too_many || !fits || !self.model.has_place(class, layout) {
                return at;
            }
            let (state, mark) = (self.coder.state(), self.words.mark());
            let lost = if at == 0 { 0 } else { record.lost_before };
            let ticks = (record.time / tick).max(last);
            self.scratch.clear();
            let coded = self.model.before(&mut self.coder, Before { lost, class }).and_then(|_| {
                let what = (class, &**layout);
                let since = ticks - last;
                let (c, w, out) = (&mut self.coder, &mut self.words, &mut self.scratch);
                self.model.record(c, w, what, since, record.payload, out)
            });
            if coded.is_err() || self.coder.len() > room {
                self.coder.back_to(state);
                self.words.back_to(mark);
                return at;
            }
            last = ticks;
        }
        records.len()
    }

    /// Announces a stream and the classes of these records, where it is time.
    fn announce(&mut self, stream: u32, now: u64, records: &[LinkRecord<'_>], out: &mut Vec<u8>) {
        let every = self.options.announce_every;
        // The frame's body waits in the memory that is kept for bodies; this one has its own.
        if self.streams[stream as usize].announced.is_due(now, every) {
            let mut body = Vec::new();
            wire::head(Kind::Stream, self.epoch, &mut body);
            let state = &mut self.streams[stream as usize];
            state.announced.done(now);
            number(stream.into(), &mut body);
            number(state.who.cpu.map_or(0, |c| u64::from(c) + 1), &mut body);
            number(state.who.id.into(), &mut body);
            text(state.who.channel.as_bytes(), &mut body);
            self.put(body, out);
        }
        let mut last = None;
        for record in records {
            if last == Some(record.class) {
                continue;
            }
            last = Some(record.class);
            let class = self.streams[stream as usize].classes[record.class];
            let state = &mut self.classes[class as usize];
            if !state.announced.is_due(now, every) {
                continue;
            }
            state.announced.done(now);
            let mut body = Vec::new();
            wire::head(Kind::Class, self.epoch, &mut body);
            number(class.into(), &mut body);
            layout::write(&state.layout, &mut body);
            self.put(body, out);
        }
    }
}

/// As much of a text's beginning as fits.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|n| text.is_char_boundary(*n));
    &text[..end.unwrap_or(0)]
}
