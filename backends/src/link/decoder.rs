//! The receiver's half.

mod frame;
mod stream;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use self::frame::{Decoding, Frame, Key};
use self::stream::{Held, Stream};
use super::bounds::{CLASS_BYTES, LONGEST_BODY, LONGEST_NAME, MOST_CLASSES, MOST_STREAMS};
use super::layout;
use super::split::{Pieces, Split};
use super::wire::{self, Epoch, Kind, read_number, read_small, read_text};
use super::{Health, LinkStream, Receive, Session, Totals};

/// Bytes of frames that wait for an announcement.
const HELD_BYTES: usize = 1 << 20;
/// What a frame that waits costs beside its bytes.
const HELD_FRAME: usize = 64;
/// A frame that waits is read again as often as this when something that it lacks comes, and
/// once more when its time is up.
const MOST_READS: u8 = 64;
/// A frame waits for an announcement for this long (ns), or until all that is in use must have
/// been announced since something was missed.
const PATIENCE: u64 = 3_000_000_000;

/// Finds frames and text in what comes from a line. Whatever that is, it neither panics nor
/// hangs, and its memory is bounded (some MiB).
#[derive(Default)]
pub struct Decoder {
    split: Split,
    link: Link,
    health: Health,
}

impl Decoder {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes, however they are cut.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Receive) {
        self.with(to, |split, health, both| split.feed(bytes, health, both));
    }

    /// Nothing has come for a while (100 ms or more): text that waits for its end is given.
    pub fn idle(&mut self, to: &mut impl Receive) {
        self.with(to, |split, health, both| split.idle(health, both));
    }

    /// The line was closed and opened again: what was begun will not be finished.
    pub fn reopened(&mut self, to: &mut impl Receive) {
        self.with(to, |split, health, both| split.cut(health, both));
        self.link.assembly = None;
        self.link.missed();
    }

    /// There will be no more: frames that still wait are given up, and told as missing.
    pub fn end(&mut self, to: &mut impl Receive) {
        self.reopened(to);
        self.link.give_up_all(to);
        self.tell();
    }

    /// What it has seen.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn with<R: Receive>(
        &mut self,
        to: &mut R,
        what: impl FnOnce(&mut Split, &mut Health, &mut Both<'_, R>),
    ) {
        what(&mut self.split, &mut self.health, &mut Both { link: &mut self.link, to });
        self.tell();
    }

    fn tell(&mut self) {
        let link = &self.link;
        self.health.strange = link.strange;
        self.health.generations = link.generations;
        self.health.given_up = link.given_up;
        let held: usize = link.streams.iter().map(|s| s.held.len()).sum();
        self.health.waiting = (held + link.waiting.len()) as u64;
    }
}

struct Both<'a, R> {
    link: &'a mut Link,
    to: &'a mut R,
}

impl<R: Receive> Pieces for Both<'_, R> {
    fn frame(&mut self, body: &[u8]) {
        self.link.arrived(body, self.to);
    }
    fn text(&mut self, bytes: &[u8]) {
        self.to.text(bytes);
    }
    fn damage(&mut self) {
        self.link.missed();
    }
}

/// What a receiver knows of its sender.
#[derive(Default)]
struct Link {
    epoch: Epoch,
    session: Option<Hello>,
    /// A HELLO of this epoch was seen; before, frames wait for it.
    sure: bool,
    /// It was, until a frame's numbers went back: it was doubled, or is another session's.
    doubt: bool,
    waiting: VecDeque<Vec<u8>>,
    streams: Vec<Stream>,
    class_bytes: usize,
    decoding: Decoding,
    assembly: Option<Assembly>,
    held_bytes: usize,
    /// The sender's time, as far as it is known (ticks).
    clock: u64,
    /// All that is in use will have been announced since something was last missed (ticks).
    complete: u64,
    strange: u64,
    generations: u64,
    given_up: u64,
}

/// What a HELLO says.
#[derive(Clone, Copy, Debug)]
struct Hello {
    session: Session,
    start: u64,
    /// Nothing was sent before it.
    fresh: bool,
    elapsed: u64,
    announce_every: u64,
}

/// A body that comes in pieces.
struct Assembly {
    number: u64,
    total: usize,
    body: Vec<u8>,
}

impl Link {
    /// A whole frame.
    fn arrived(&mut self, body: &[u8], to: &mut impl Receive) {
        let Some((kind, epoch, rest)) = wire::read_head(body) else {
            self.strange += 1;
            return;
        };
        if kind == Kind::Hello {
            match hello(epoch, rest) {
                Some(hello) => self.hello(epoch, hello, to),
                None => self.strange += 1,
            }
            return;
        }
        if epoch != self.epoch {
            self.begin(epoch, to);
        }
        if self.sure {
            self.process(kind, rest, body, false, to);
        } else {
            self.wait(body.to_vec());
        }
    }

    /// Another epoch: what the last one announced holds no longer.
    fn begin(&mut self, epoch: Epoch, to: &mut impl Receive) {
        self.give_up_all(to);
        self.epoch = epoch;
        self.sure = false;
        self.assembly = None;
        self.decoding.forget_words();
    }

    fn wait(&mut self, body: Vec<u8>) {
        self.held_bytes += body.len() + HELD_FRAME;
        self.waiting.push_back(body);
        while self.held_bytes > HELD_BYTES {
            let Some(first) = self.waiting.pop_front() else { break };
            self.held_bytes -= first.len() + HELD_FRAME;
            self.given_up += 1;
        }
    }

    fn hello(&mut self, epoch: Epoch, hello: Hello, to: &mut impl Receive) {
        let known = self.session.map(|h| h.session.id);
        let same = known == Some(hello.session.id);
        if epoch != self.epoch || (!same && self.sure) {
            self.begin(epoch, to);
        }
        // A doubled frame is no new opening.
        let doubled = std::mem::take(&mut self.doubt) && same;
        let news = !self.sure && !doubled;
        self.sure = true;
        if same {
            self.generations += u64::from(news);
            let fresh = self.session.is_some_and(|h| h.fresh);
            self.session = Some(Hello { fresh: fresh || hello.fresh, ..hello });
        } else {
            // Frames of the last session that still wait are of its streams; and who has sent
            // nothing before this has not sent those that wait for a HELLO.
            self.give_up_streams(to);
            if hello.fresh {
                self.give_up_all(to);
            }
            self.streams.clear();
            self.decoding.forget_all();
            self.class_bytes = 0;
            self.clock = 0;
            self.session = Some(hello);
        }
        self.clock = self.clock.max(hello.elapsed);
        if news {
            to.session(&hello.session);
            self.complete = self.began().saturating_add(hello.announce_every / hello.session.tick);
        }
        self.go_on(to);
        self.give_up_old(to);
    }

    /// When the first of the frames that wait for a HELLO came, which is said that often (ticks).
    fn began(&self) -> u64 {
        let Some(hello) = self.session else { return self.clock };
        let first = self.waiting.iter().find_map(|body| {
            let (kind, _, mut rest) = wire::read_head(body)?;
            read_small(&mut rest).filter(|_| kind == Kind::Data)?;
            u64::try_from(wire::unzigzag(read_number(&mut rest)?)).ok()
        });
        let earliest = self.clock.saturating_sub(wire::HELLO_EVERY / hello.session.tick);
        first.map_or(self.clock, |first| first.clamp(earliest, self.clock))
    }

    /// Frames that waited for a HELLO.
    fn go_on(&mut self, to: &mut impl Receive) {
        for body in std::mem::take(&mut self.waiting) {
            self.held_bytes -= body.len() + HELD_FRAME;
            if let Some((kind, _, rest)) = wire::read_head(&body) {
                self.process(kind, rest, &body, true, to);
            }
        }
    }

    /// Something did not arrive: an announcement, perhaps.
    fn missed(&mut self) {
        let Some(hello) = self.session else { return };
        let wait = hello.announce_every.saturating_add(PATIENCE) / hello.session.tick;
        self.complete = self.complete.max(self.clock.saturating_add(wait));
    }

    /// A frame of the epoch that we are in. `confirmed`: a HELLO came behind it.
    fn process(
        &mut self,
        kind: Kind,
        mut rest: &[u8],
        body: &[u8],
        confirmed: bool,
        to: &mut impl Receive,
    ) {
        let good = match kind {
            Kind::Hello => None,
            Kind::Stream => self.stream(rest, body, confirmed, to),
            Kind::Class => self.class(&mut rest, body, confirmed, to),
            Kind::Data | Kind::Totals => self.records(kind, rest, body, confirmed, to),
            Kind::Piece => self.piece(rest, confirmed, to),
            Kind::Reply => {
                to.reply(&String::from_utf8_lossy(rest));
                Some(())
            }
        };
        if good.is_none() {
            self.strange += 1;
        }
    }

    fn stream(
        &mut self,
        mut rest: &[u8],
        body: &[u8],
        confirmed: bool,
        to: &mut impl Receive,
    ) -> Option<()> {
        let number = read_small(&mut rest).filter(|n| *n < MOST_STREAMS)?;
        let cpu = match read_number(&mut rest)? {
            0 => None,
            n => Some(u32::try_from(n - 1).ok()?),
        };
        let id = read_small(&mut rest)?;
        let channel = read_text(&mut rest).filter(|c| c.len() <= LONGEST_NAME)?;
        let channel = std::str::from_utf8(channel).ok()?.to_owned();
        let who = LinkStream { channel, id, cpu };
        let stream = self.stream_at(number);
        match &stream.who {
            Some(known) if *known == who => return Some(()),
            Some(_) => return self.doubt(body, confirmed),
            None => stream.who = Some(who.clone()),
        }
        to.stream(number, &who);
        self.decoding.learned(Key::Stream(number));
        self.resolve(to);
        Some(())
    }

    /// Numbers or times that go back, another meaning of a number: the frame came twice, or is
    /// another session's, whose HELLO was lost. Frames wait for the next one.
    fn doubt(&mut self, body: &[u8], confirmed: bool) -> Option<()> {
        if confirmed {
            return None;
        }
        self.sure = false;
        self.doubt = true;
        self.wait(body.to_vec());
        Some(())
    }

    fn stream_at(&mut self, number: u32) -> &mut Stream {
        let at = number as usize;
        if self.streams.len() <= at {
            self.streams.resize_with(at + 1, Stream::default);
        }
        &mut self.streams[at]
    }

    fn class(
        &mut self,
        rest: &mut &[u8],
        body: &[u8],
        confirmed: bool,
        to: &mut impl Receive,
    ) -> Option<()> {
        let number = read_small(rest).filter(|n| *n < MOST_CLASSES)?;
        let size = rest.len();
        let layout = layout::read(rest)?;
        if let Some(known) = self.decoding.layout(number) {
            return if **known == layout { Some(()) } else { self.doubt(body, confirmed) };
        }
        if self.class_bytes + size > CLASS_BYTES {
            return None;
        }
        self.class_bytes += size;
        to.class(number, &layout.class);
        self.decoding.learn_class(number, Arc::new(layout));
        self.resolve(to);
        Some(())
    }

    fn piece(&mut self, mut rest: &[u8], confirmed: bool, to: &mut impl Receive) -> Option<()> {
        let number = read_number(&mut rest)?;
        let total = usize::try_from(read_number(&mut rest)?).ok().filter(|t| *t <= LONGEST_BODY)?;
        let at = usize::try_from(read_number(&mut rest)?).ok()?;
        if at == 0 {
            self.assembly = Some(Assembly { number, total, body: Vec::new() });
        }
        // A piece whose beginning was lost says nothing: what is missing shows later.
        let expected = self.assembly.as_ref().map(|a| (a.number, a.total, a.body.len()));
        if expected != Some((number, total, at)) {
            self.assembly = None;
            self.missed();
            return Some(());
        }
        let assembly = self.assembly.as_mut()?;
        assembly.body.extend_from_slice(rest);
        if assembly.body.len() < total {
            return Some(());
        }
        let whole = self.assembly.take()?.body;
        let (kind, epoch, rest) = wire::read_head(&whole)?;
        (whole.len() == total && epoch == self.epoch && kind != Kind::Piece).then_some(())?;
        self.process(kind, rest, &whole, confirmed, to);
        Some(())
    }

    /// Records, or a stream's totals: these come in their stream's order.
    fn records(
        &mut self,
        kind: Kind,
        rest: &[u8],
        body: &[u8],
        confirmed: bool,
        to: &mut impl Receive,
    ) -> Option<()> {
        let number = read_small(&mut &rest[..]).filter(|n| *n < MOST_STREAMS)?;
        let start = self.session?.start;
        let frame = self.decoding.read(kind, rest)?;
        if let Some(ticks) = frame.base {
            self.clock = self.clock.max(u64::try_from(ticks).unwrap_or(0));
        }
        let clock = self.clock;
        let stream = self.stream_at(number);
        let goes_back = frame.base.is_some_and(|b| stream.base.is_some_and(|last| b < last));
        if frame.sent < stream.arrived || goes_back {
            return self.doubt(body, confirmed);
        }
        let missed = stream.arrived > 0 && frame.sent > stream.arrived;
        stream.arrived = frame.sent + frame.count;
        stream.base = frame.base.or(stream.base);
        if missed {
            self.missed();
        }
        let stream = &mut self.streams[number as usize];
        let unknown = stream.who.is_none().then_some(Key::Stream(number));
        let missing = unknown.or(frame.missing);
        if missing.is_none() && stream.held.is_empty() {
            self.deliver(number, &frame, start, to);
        } else {
            let patience = PATIENCE / self.session?.session.tick;
            let until = clock.saturating_add(patience).max(self.complete);
            stream.held.push_back(Held { body: body.to_vec(), missing, until, reads: 0 });
            self.held_bytes += body.len() + HELD_FRAME;
            if let Some(key) = missing {
                self.decoding.wants(key);
            }
        }
        self.resolve(to);
        self.give_up_old(to);
        Some(())
    }

    /// What the decoding has just read, to who waits for it.
    fn deliver(&mut self, number: u32, frame: &Frame, start: u64, to: &mut impl Receive) {
        let from_the_start = self.session.is_some_and(|h| h.fresh);
        let tick = self.session.map_or(1, |h| h.session.tick);
        let stream = &mut self.streams[number as usize];
        if !stream.deliver(number, frame, &self.decoding, (start, tick, from_the_start), to) {
            self.strange += 1;
        }
    }
}

fn hello(epoch: Epoch, mut rest: &[u8]) -> Option<Hello> {
    let (&[fresh, id @ ..], after) = rest.split_first_chunk::<9>()?;
    rest = after;
    let tick = read_number(&mut rest).filter(|t| (1..=1_000_000).contains(t))?;
    let clock_offset = read_number(&mut rest)?;
    let baud = read_small(&mut rest)?;
    let id = u64::from_le_bytes(id);
    Some(Hello {
        session: Session { id, generation: epoch.generation, tick, clock_offset, baud },
        start: read_number(&mut rest)?,
        fresh: fresh & 1 == 1,
        elapsed: read_number(&mut rest)?,
        announce_every: read_number(&mut rest)?,
    })
}

/// Takes a stream's totals, less its number: what was sent, the numbers, whether they are the last.
fn totals(rest: &mut &[u8]) -> Option<(u64, Totals, bool)> {
    let (last, after) = rest.split_first()?;
    *rest = after;
    let sent = read_number(rest)?;
    let totals = Totals {
        produced: read_number(rest)?,
        lost: read_number(rest)?,
        overwritten: read_number(rest)?,
        aborted: read_number(rest)?,
    };
    Some((sent, totals, last & 1 == 1))
}
