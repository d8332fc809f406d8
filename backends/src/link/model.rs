//! What a frame's records are coded with: one record after the other, each by what those before it
//! in the same frame were. A frame begins with no knowledge, so each stands alone.

mod field;

use self::field::PlainModel;
use super::bounds::LONGEST_PAYLOAD;
use super::coder::{Bit, Coder};
use super::column::{Number, Word, Words};
use super::layout::{Column, Current, Layout};

/// Records of one frame at most: what costs almost no bits must not go on for ever.
pub(super) const MOST_RECORDS: usize = 4096;
/// Bytes of their payloads at most, unless there is one alone.
pub(super) const MOST_BYTES: usize = 128 << 10;
/// Fields of a frame's classes at most; a class counts two more.
pub(super) const FIELDS: usize = 512;

/// Values of a frame at most: a record has one for each field, and two more. Fields that take no
/// bytes must not go on for ever, either.
pub(super) const MOST_VALUES: usize = 64 << 10;

/// Words and what they mean, on either side.
pub(super) trait Dictionary {
    /// The word for these bytes, and whether its meaning is to be sent with it. Only the sender is
    /// asked.
    fn word(&mut self, domain: u32, bytes: &[u8], alone: bool) -> (Word, bool);
    /// A meaning goes over the line.
    fn define(&mut self, domain: u32, id: u32, bytes: &[u8]);
    /// Appends what a word means; `false`: that is not known (yet). Only the receiver asks.
    fn meaning(&mut self, domain: u32, id: u32, out: &mut Vec<u8>) -> bool;
}

/// The models of one frame.
#[derive(Debug, Default)]
pub(super) struct FrameModel {
    classes: Vec<Option<Box<ClassModel>>>,
    /// Those in use in this frame.
    used: Vec<u32>,
    fields: usize,
    values: usize,
    /// Fields of all models that were made.
    kept: usize,
    /// Which class is the first.
    first: Follow,
    last: Option<u32>,
    lost: Lost,
    on_cpu: OnCpu,
}

/// Who is on the CPU, as the records so far tell.
#[derive(Clone, Copy, Debug, Default)]
enum OnCpu {
    /// They tell nothing.
    #[default]
    Untold,
    /// They tell it with a word whose meaning is not known.
    Unknown,
    Known([u8; 4]),
}

impl OnCpu {
    fn of(bytes: Option<&[u8]>) -> Self {
        bytes.and_then(|b| b.try_into().ok()).map_or(Self::Unknown, Self::Known)
    }
}

#[derive(Debug)]
struct Follow(Words);

impl Default for Follow {
    fn default() -> Self {
        Self(Words::new())
    }
}

#[derive(Debug)]
struct Lost(Number);

impl Default for Lost {
    fn default() -> Self {
        Self(Number::new())
    }
}

#[derive(Debug)]
struct ClassModel {
    /// Of this frame.
    fresh: bool,
    follow: Words,
    times: [Number; 2],
    was_short: bool,
    columns: Vec<ColumnModel>,
}

#[derive(Debug)]
struct ColumnModel {
    words: Option<Box<Words>>,
    last: Option<Word>,
    /// It is not who is on the CPU.
    other: Bit,
    fields: Vec<PlainModel>,
}

/// A frame cannot be read: it contradicts itself, or goes beyond what a frame may hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strange;

/// What comes before a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Records lost before it.
    pub(super) lost: u64,
    /// Its class's number.
    pub(super) class: u32,
}

impl FrameModel {
    /// Forgets the frame.
    pub(super) fn reset(&mut self) {
        // Memory is kept for as much as a frame may use.
        if self.kept > FIELDS {
            self.classes.clear();
            self.kept = 0;
        }
        for class in self.used.drain(..) {
            if let Some(Some(model)) = self.classes.get_mut(class as usize) {
                model.fresh = false;
            }
        }
        self.fields = 0;
        self.values = 0;
        self.first = Follow::default();
        self.lost = Lost::default();
        self.on_cpu = OnCpu::Untold;
        self.last = None;
    }

    /// Whether a record of this class still has a place in this frame.
    pub(super) fn has_place(&self, class: u32, layout: &Layout) -> bool {
        let known = self.classes.get(class as usize).and_then(Option::as_ref);
        (known.is_some_and(|m| m.fresh) || self.fields + layout.weight <= FIELDS)
            && self.values + layout.weight <= MOST_VALUES
    }

    /// What comes before a record: losses, its class.
    pub(super) fn before<C: Coder>(
        &mut self,
        c: &mut C,
        before: Before,
    ) -> Result<Before, Strange> {
        let link = self.last.map(|l| Word::Known(l + 1));
        let follow = match self.last {
            Some(last) => match &mut self.classes[last as usize] {
                Some(model) => &mut model.follow,
                None => return Err(Strange),
            },
            None => &mut self.first.0,
        };
        let mut lost = before.lost;
        let class = Word::Known(before.class + 1);
        let mut word = if C::WRITES && lost > 0 { Word::Known(0) } else { class };
        (word, _) = follow.code(c, word, link);
        if word == Word::Known(0) {
            lost = self.lost.0.code(c, lost);
            (word, _) = follow.code(c, class, link);
        } else {
            lost = 0;
        }
        match word {
            Word::Known(class @ 1..=u32::MAX) => Ok(Before { lost, class: class - 1 }),
            _ => Err(Strange),
        }
    }

    /// A record: the ticks since the one before it, and its payload, which the receiver gets in
    /// `out`. Gives the ticks, and whether all its words are known.
    pub(super) fn record<C: Coder, D: Dictionary>(
        &mut self,
        c: &mut C,
        dictionary: &mut D,
        (class, layout): (u32, &Layout),
        ticks: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(u64, bool), Strange> {
        if !self.has_place(class, layout) {
            return Err(Strange);
        }
        self.values += layout.weight;
        let at = class as usize;
        if self.classes.len() <= at {
            self.classes.resize_with(at + 1, || None);
        }
        let model = self.classes[at].get_or_insert_with(|| {
            self.kept += layout.weight;
            Box::new(ClassModel::new(layout))
        });
        if !model.fresh {
            model.reset(layout);
            self.used.push(class);
            self.fields += layout.weight;
        }
        self.last = Some(class);
        let ticks = model.times[usize::from(model.was_short)].code(c, ticks);
        model.was_short = ticks < 16;
        let known = model.payload(c, dictionary, layout, &mut self.on_cpu, payload, out)?;
        Ok((ticks, known))
    }
}

impl ClassModel {
    fn new(layout: &Layout) -> Self {
        let columns = layout.columns.iter().map(ColumnModel::new).collect();
        let follow = Words::new();
        Self { fresh: false, follow, times: [Number::new(); 2], was_short: false, columns }
    }

    fn reset(&mut self, layout: &Layout) {
        self.fresh = true;
        self.follow = Words::new();
        self.times = [Number::new(); 2];
        self.was_short = false;
        for (column, how) in self.columns.iter_mut().zip(&layout.columns) {
            column.reset(how);
        }
    }

    fn payload<C: Coder, D: Dictionary>(
        &mut self,
        c: &mut C,
        dictionary: &mut D,
        layout: &Layout,
        on_cpu: &mut OnCpu,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Strange> {
        let mut rest = payload;
        let mut known = true;
        let begin = out.len();
        for (at, how) in layout.columns.iter().enumerate() {
            let mine =
                if C::WRITES { rest.split_off(..how.size(rest).ok_or(Strange)?) } else { None };
            let mine = mine.unwrap_or(&[]);
            let from = out.len();
            let column = &mut self.columns[at];
            let mine_known = match (how.words, how.current) {
                (None, Some(Current::Is)) => column.on_cpu(c, how, *on_cpu, mine, out)?,
                (None, _) => column.plain(c, how, mine, out)?,
                (Some(words), _) => {
                    let link = words.link.and_then(|l| self.columns[l].last);
                    self.columns[at].word(c, dictionary, how, (words.domain, link), mine, out)?
                }
            };
            if let Some(current) = how.current {
                let at = if let Current::At(at) = current { at } else { 0 };
                let bytes = if C::WRITES { mine } else { &out[from..] };
                *on_cpu = OnCpu::of(bytes.get(at..at + 4).filter(|_| mine_known));
            }
            known &= mine_known;
            if out.len() - begin > LONGEST_PAYLOAD {
                return Err(Strange);
            }
        }
        Ok(known)
    }
}

impl ColumnModel {
    fn new(how: &Column) -> Self {
        let fields = how.fields.iter().map(|f| PlainModel::new(*f)).collect();
        Self {
            words: how.words.map(|_| Box::new(Words::new())),
            last: None,
            other: Bit::EVEN,
            fields,
        }
    }

    fn reset(&mut self, how: &Column) {
        if let Some(words) = &mut self.words {
            **words = Words::new();
        }
        self.last = None;
        self.other = Bit::EVEN;
        for (model, how) in self.fields.iter_mut().zip(&how.fields) {
            model.reset(*how);
        }
    }

    fn plain<C: Coder>(
        &mut self,
        c: &mut C,
        how: &Column,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Strange> {
        let mut rest = bytes;
        let begin = out.len();
        for (model, how) in self.fields.iter_mut().zip(&how.fields) {
            model.code(c, *how, &mut rest, out)?;
            if out.len() - begin > LONGEST_PAYLOAD {
                return Err(Strange);
            }
        }
        Ok(true)
    }

    /// A number that is who is on the CPU, or not.
    fn on_cpu<C: Coder>(
        &mut self,
        c: &mut C,
        how: &Column,
        on_cpu: OnCpu,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Strange> {
        if matches!(on_cpu, OnCpu::Untold) {
            return self.plain(c, how, bytes, out);
        }
        // What is not known decides nothing: both sides learn the same.
        let (current, known) = match on_cpu {
            OnCpu::Known(bytes) => (bytes, true),
            _ => ([0; 4], false),
        };
        if !c.bit(&mut self.other, current != bytes) {
            out.extend(current);
            return Ok(known);
        }
        self.plain(c, how, bytes, out)
    }

    fn word<C: Coder, D: Dictionary>(
        &mut self,
        c: &mut C,
        dictionary: &mut D,
        how: &Column,
        (domain, link): (u32, Option<Word>),
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Strange> {
        let alone = how.fields.len() == 1;
        let (word, define) =
            if C::WRITES { dictionary.word(domain, bytes, alone) } else { (Word::Spelt, false) };
        let words = self.words.as_mut().ok_or(Strange)?;
        let (word, missed) = words.code(c, word, link);
        self.last = Some(word);
        let Word::Known(id) = word else {
            return self.plain(c, how, bytes, out);
        };
        if missed && c.bit(&mut words.defined, define) {
            let begin = out.len();
            self.plain(c, how, bytes, out)?;
            dictionary.define(domain, id, &out[begin..]);
            return Ok(true);
        }
        let begin = out.len();
        if C::WRITES || !dictionary.meaning(domain, id, out) {
            return Ok(C::WRITES);
        }
        // Two classes may disagree about what a dictionary holds.
        let mine = &out[begin..];
        if how.size(mine) == Some(mine.len()) { Ok(true) } else { Err(Strange) }
    }
}
