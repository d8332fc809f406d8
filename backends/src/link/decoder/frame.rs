//! Reads the frames of records, and remembers what was announced for that.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::Totals;
use super::super::bounds::{ALL_WORDS, LONGEST_PAYLOAD, LONGEST_WORD};
use super::super::coder::Reader;
use super::super::column::Word;
use super::super::layout::Layout;
use super::super::model::{Before, Dictionary, FrameModel, MOST_BYTES, MOST_RECORDS};
use super::super::wire::{self, Kind, read_number, read_small, unzigzag};

/// Things that frames wait for.
const MOST_WANTED: usize = 64 << 10;

/// Something that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Stream(u32),
    Class(u32),
    /// Domain and number.
    Word(u32, u32),
}

/// What a frame says, but for its records.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Ticks since the session's start of its first record.
    pub(super) base: Option<i64>,
    /// Records of its stream that were sent before it.
    pub(super) sent: u64,
    /// Records of its stream that were lost at the sender, up to its first record.
    pub(super) gone: u64,
    /// Its records.
    pub(super) count: u64,
    /// The first thing that it uses and that is not known.
    pub(super) missing: Option<Key>,
    /// It has totals in place of records; whether they are the last.
    pub(super) totals: Option<(Totals, bool)>,
}

/// A record of the frame that was read last.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Ticks since the frame's first record.
    pub(super) ticks: u64,
    pub(super) class: u32,
    pub(super) lost: u64,
    /// Where its payload is; `None`: a word is not known.
    pub(super) payload: Option<(usize, usize)>,
}

/// What was announced, and the last frame's records.
#[derive(Default)]
pub(super) struct Decoding {
    classes: Vec<Option<Arc<Layout>>>,
    words: Words,
    model: FrameModel,
    wanted: HashSet<Key>,
    /// The records that could be read; there may be fewer than the frame has.
    pub(super) items: Vec<Item>,
    /// Their payloads.
    pub(super) bytes: Vec<u8>,
}

#[derive(Default)]
struct Words {
    known: HashMap<(u32, u32), Box<[u8]>>,
    news: Vec<Key>,
    missing: Option<Key>,
    strange: bool,
}

impl Decoding {
    pub(super) fn forget_words(&mut self) {
        self.words = Words::default();
        self.wanted.retain(|k| !matches!(k, Key::Word(..)));
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn layout(&self, number: u32) -> Option<&Arc<Layout>> {
        self.classes.get(number as usize)?.as_ref()
    }

    pub(super) fn learn_class(&mut self, number: u32, layout: Arc<Layout>) {
        let at = number as usize;
        if self.classes.len() <= at {
            self.classes.resize(at + 1, None);
        }
        self.classes[at] = Some(layout);
        self.learned(Key::Class(number));
    }

    pub(super) fn learned(&mut self, key: Key) {
        self.words.news.push(key);
    }

    /// A frame waits for this.
    pub(super) fn wants(&mut self, key: Key) {
        // More than can wait at once: most are of frames that were given up.
        if self.wanted.len() == MOST_WANTED {
            self.wanted.clear();
        }
        self.wanted.insert(key);
    }

    /// What was learned since it was last asked and a frame waits for.
    pub(super) fn news(&mut self) -> HashSet<Key> {
        self.words.news.drain(..).filter(|key| self.wanted.remove(key)).collect()
    }

    /// [`Decoding::read`] of a whole body.
    pub(super) fn read_body(&mut self, body: &[u8]) -> Option<Frame> {
        let (kind, _, rest) = wire::read_head(body)?;
        self.read(kind, rest)
    }

    /// Reads a frame of records or totals, and learns the words that it defines; its records are in
    /// [`Decoding::items`] then. `None`: it contradicts itself.
    pub(super) fn read(&mut self, kind: Kind, mut rest: &[u8]) -> Option<Frame> {
        self.items.clear();
        self.bytes.clear();
        read_small(&mut rest)?;
        if kind == Kind::Totals {
            let (sent, totals, last) = super::totals(&mut rest)?;
            let totals = Some((totals, last));
            return Some(Frame { base: None, sent, gone: 0, count: 0, missing: None, totals });
        }
        let base = unzigzag(read_number(&mut rest)?);
        let sent = read_number(&mut rest)?;
        let gone = read_number(&mut rest)?;
        let count = read_number(&mut rest)?;
        if kind != Kind::Data || count == 0 || count > MOST_RECORDS as u64 {
            return None;
        }
        sent.checked_add(count)?;
        let missing = self.items(rest, count)?;
        let base = Some(base);
        Some(Frame { base, sent, gone, count, missing, totals: None })
    }

    fn items(&mut self, coded: &[u8], count: u64) -> Option<Option<Key>> {
        self.model.reset();
        self.words.missing = None;
        self.words.strange = false;
        let mut c = Reader::new(coded);
        let mut ticks = 0u64;
        for at in 0..count {
            let lost = Before { lost: 0, class: 0 };
            let Before { lost, class } = self.model.before(&mut c, lost).ok()?;
            let Some(layout) = self.classes.get(class as usize).and_then(Option::as_ref) else {
                // What comes behind it cannot be read, either.
                return Some(self.words.missing.or(Some(Key::Class(class))));
            };
            let begin = self.bytes.len();
            let what = (class, &**layout);
            let (words, bytes) = (&mut self.words, &mut self.bytes);
            let (since, known) = self.model.record(&mut c, words, what, 0, &[], bytes).ok()?;
            ticks = ticks.checked_add(since)?;
            let payload = &self.bytes[begin..];
            let whole = !known || (!layout.is_opaque() && payload.len() <= LONGEST_PAYLOAD);
            let good = whole || layout.fits(payload);
            if !good || self.words.strange || (at > 0 && self.bytes.len() > MOST_BYTES) {
                return None;
            }
            let payload = known.then_some((begin, self.bytes.len()));
            self.items.push(Item { ticks, class, lost, payload });
        }
        Some(self.words.missing)
    }
}

impl Dictionary for Words {
    fn word(&mut self, _: u32, _: &[u8], _: bool) -> (Word, bool) {
        (Word::Spelt, false)
    }

    fn define(&mut self, domain: u32, id: u32, bytes: &[u8]) {
        if let Some(known) = self.known.get(&(domain, id)) {
            self.strange |= **known != *bytes;
        } else if self.known.len() < ALL_WORDS && bytes.len() <= LONGEST_WORD {
            self.known.insert((domain, id), bytes.into());
            self.news.push(Key::Word(domain, id));
        }
    }

    fn meaning(&mut self, domain: u32, id: u32, out: &mut Vec<u8>) -> bool {
        match self.known.get(&(domain, id)) {
            Some(bytes) => out.extend_from_slice(bytes),
            None => {
                self.missing.get_or_insert(Key::Word(domain, id));
                return false;
            }
        }
        true
    }
}
