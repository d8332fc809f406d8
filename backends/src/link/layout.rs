//! How the payloads of an event class are coded: its fields in columns.
//!
//! The sender alone decides which fields are coded as a word of a dictionary, which go together
//! as one word (a task's name, number and priority) and which word often repeats another one's
//! (who is switched from is who was switched to); a receiver is told.

mod describe;

use std::ops::Range;
use std::sync::Arc;

use rbpipe_core::class::{EventClass, Field, FieldType, Integer};
use rbpipe_core::decode;

pub(super) use self::describe::{read, write};
use super::bounds::LONGEST_PAYLOAD;

/// A class with more fields than this is coded without regard to them.
pub(super) const MOST_COLUMNS: usize = 256;
/// Dictionaries that a link may have.
pub(super) const MOST_DOMAINS: u32 = 1024;

/// One field by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// An integer, an enumeration or a float of so many bytes.
    Number { size: usize, signed: bool },
    /// Bytes.
    Bytes { end: End, text: bool },
    /// Numbers; `None`: they are counted.
    Elements { count: Option<usize>, size: usize, signed: bool },
}

/// What tells where bytes end in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A NUL.
    Nul,
    /// A count of 32 bits before them.
    Count,
    /// There are always so many.
    Fixed(usize),
    /// The payload's end.
    Payload,
}

impl Plain {
    fn of(ty: &FieldType) -> Option<Self> {
        let scalar = |ty: &FieldType| match ty {
            FieldType::Integer(i) | FieldType::Enumeration(i, _) => {
                Some((i.size(), i.signed, i.text))
            }
            FieldType::Float32 => Some((4, false, false)),
            FieldType::Float64 => Some((8, false, false)),
            _ => None,
        };
        let many = |element: &FieldType, count: Option<usize>| {
            let (size, signed, text) = scalar(element)?;
            Some(match (size, count) {
                (1, Some(n)) => Self::Bytes { end: End::Fixed(n), text },
                (1, None) => Self::Bytes { end: End::Count, text },
                _ => Self::Elements { count, size, signed },
            })
        };
        match ty {
            FieldType::String => Some(Self::Bytes { end: End::Nul, text: true }),
            FieldType::Array(element, n) => many(element, Some(*n as usize)),
            FieldType::Sequence(element) => many(element, None),
            other => scalar(other).map(|(size, signed, _)| Self::Number { size, signed }),
        }
    }

    /// Bytes that it takes of a payload's rest.
    #[inline]
    pub(super) fn size(self, rest: &[u8]) -> Option<usize> {
        let count = || {
            let (n, _) = decode::raw(4, rest)?;
            usize::try_from(n).ok()
        };
        let size = match self {
            Self::Number { size, .. } => size,
            Self::Bytes { end: End::Fixed(n), .. } => n,
            Self::Bytes { end: End::Nul, .. } => rest.iter().position(|b| *b == 0)? + 1,
            Self::Bytes { end: End::Count, .. } => count()?.checked_add(4)?,
            Self::Bytes { end: End::Payload, .. } => rest.len(),
            Self::Elements { count: Some(n), size, .. } => n.checked_mul(size)?,
            Self::Elements { count: None, size, .. } => {
                count()?.checked_mul(size)?.checked_add(4)?
            }
        };
        (size <= rest.len()).then_some(size)
    }
}

/// Fields that are coded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) fields: Vec<Plain>,
    pub(super) words: Option<Words>,
    pub(super) current: Option<Current>,
}

/// Who is on the CPU: a number that some records tell and others repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Current {
    /// The column is that number most of the time, and tells it.
    Is,
    /// The column's word has it, so many bytes after its beginning.
    At(usize),
}

/// A column of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Their dictionary.
    pub(super) domain: u32,
    /// The column whose last word it often repeats.
    pub(super) link: Option<usize>,
}

impl Column {
    /// Bytes that it takes of a payload's rest.
    #[inline]
    pub(super) fn size(&self, rest: &[u8]) -> Option<usize> {
        self.fields.iter().try_fold(0, |at, f| Some(at + f.size(&rest[at..])?))
    }
}

/// A class and its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) class: Arc<EventClass>,
    pub(super) columns: Vec<Column>,
    /// Bytes of every payload, where that is the same for all.
    size: Option<usize>,
    /// What it counts of the fields that may be in use in one frame.
    pub(super) weight: usize,
}

impl Layout {
    /// Whether a payload is one of this class, whole and nothing else, and not too long.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        if let Some(size) = self.size {
            return payload.len() == size && size <= LONGEST_PAYLOAD;
        }
        let mut rest = payload;
        if self.is_opaque() {
            for field in &self.class.fields {
                let Some((_, after)) = decode::value(&field.ty, rest) else { return false };
                rest = after;
            }
        } else {
            for column in &self.columns {
                let Some(n) = column.size(rest) else { return false };
                rest = &rest[n..];
            }
        }
        rest.is_empty() && payload.len() <= LONGEST_PAYLOAD
    }

    fn new(class: &Arc<EventClass>, columns: Vec<Column>) -> Self {
        let weight = columns.iter().map(|c| c.fields.len()).sum::<usize>() + 2;
        Self { size: class.fixed_size(), class: Arc::clone(class), columns, weight }
    }

    /// Whether its fields are not told apart.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.columns[..], [Column { ref fields, .. }] if *fields == opaque().fields)
    }

    /// The sender's choice. `domain` gives the dictionary of words of these types.
    pub(super) fn choose(
        class: &Arc<EventClass>,
        mut domain: impl FnMut(&[FieldType]) -> Option<u32>,
    ) -> Self {
        let fields = &class.fields;
        let plain: Option<Vec<Plain>> = fields.iter().map(|f| Plain::of(&f.ty)).collect();
        let Some(plain) = plain.filter(|p| p.len() <= MOST_COLUMNS) else {
            return Self::new(class, vec![opaque()]);
        };
        let mut columns = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut at = 0;
        while at < fields.len() {
            let together = task(fields, at).unwrap_or(at..at + 1);
            let types: Vec<FieldType> =
                fields[together.clone()].iter().map(|f| f.ty.clone()).collect();
            let words = together.len() > 1 || is_text(&fields[at].ty);
            let words = words.then(|| domain(&types)).flatten();
            let end = if words.is_some() { together.end } else { at + 1 };
            names.push(&fields[at].name);
            columns.push(Column {
                fields: plain[at..end].to_vec(),
                words: words.map(|domain| Words { domain, link: None }),
                current: current(&fields[at..end], words.is_some()),
            });
            at = end;
        }
        for from in 0..columns.len() {
            let Some(prefix) = names[from].strip_prefix("prev_") else { continue };
            let to = names.iter().position(|n| n.strip_prefix("next_") == Some(prefix));
            let Some(to) = to else { continue };
            let same = columns[to].words.map(|w| w.domain);
            if let Some(words) = &mut columns[from].words
                && Some(words.domain) == same
            {
                words.link = Some(to);
            }
        }
        Self::new(class, columns)
    }
}

/// A payload as it is, of a class whose fields are too many or too strange.
fn opaque() -> Column {
    let fields = vec![Plain::Bytes { end: End::Payload, text: false }];
    Column { fields, words: None, current: None }
}

/// What the kernel's records tell of who is on the CPU: each says it, and a switch says who comes.
fn current(fields: &[Field], words: bool) -> Option<Current> {
    if fields[0].name == "common_pid" && fields[0].ty.fixed_size() == Some(4) {
        return (!words).then_some(Current::Is);
    }
    let mut at = 0;
    for field in fields {
        let size = field.ty.fixed_size()?;
        if ["next_pid", "next_tid"].contains(&&*field.name) && size == 4 && fields.len() > 1 {
            return Some(Current::At(at));
        }
        at += size;
    }
    None
}

fn is_text(ty: &FieldType) -> bool {
    match ty {
        FieldType::String => true,
        FieldType::Array(e, _) | FieldType::Sequence(e) => {
            matches!(**e, FieldType::Integer(Integer { text: true, .. }))
        }
        _ => false,
    }
}

/// The fields from `at` on that tell who a task is: its name, and what belongs to it.
fn task(fields: &[Field], at: usize) -> Option<Range<usize>> {
    let prefix = fields[at].name.strip_suffix("comm").filter(|_| is_text(&fields[at].ty))?;
    let more = fields[at + 1..].iter().take_while(|f| {
        let rest = f.name.strip_prefix(prefix);
        rest.is_some_and(|r| ["pid", "tid", "prio", "tgid"].contains(&r))
            && matches!(f.ty, FieldType::Integer(_))
    });
    let n = more.count();
    (n > 0).then_some(at..at + 1 + n)
}

#[cfg(test)]
mod tests {
    use rbpipe_core::class::{Label, LogLevel};

    use super::*;

    fn comm() -> FieldType {
        FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16)
    }

    fn switch() -> EventClass {
        let f = Field::new;
        EventClass::new(
            "sched_switch",
            vec![
                f("common_pid", FieldType::I32),
                f("prev_comm", comm()),
                f("prev_pid", FieldType::I32),
                f("prev_prio", FieldType::I32),
                f("prev_state", FieldType::I64),
                f("next_comm", comm()),
                f("next_pid", FieldType::I32),
                f("next_prio", FieldType::I32),
            ],
        )
        .level(LogLevel::Info)
    }

    fn odd() -> EventClass {
        let label = |name: &str, first, last| Label { name: name.into(), first, last };
        let f = Field::new;
        EventClass::new(
            "odd",
            vec![
                f(
                    "e",
                    FieldType::Enumeration(
                        Integer::signed(64),
                        vec![label("a", i64::MIN.into(), -5), label("b", 0, i64::MAX.into())],
                    ),
                ),
                f(
                    "u",
                    FieldType::Enumeration(
                        Integer::unsigned(64),
                        vec![label("x", 1, u64::MAX.into())],
                    ),
                ),
                f("q", FieldType::Sequence(Box::new(FieldType::U16))),
                f("s", FieldType::String),
                f("b", FieldType::Sequence(Box::new(FieldType::U8))),
                f("d", FieldType::Float64),
            ],
        )
    }

    #[test]
    fn a_task_is_one_word_and_prev_repeats_next() {
        let layout = Layout::choose(&Arc::new(switch()), |_| Some(7));
        let shape: Vec<_> =
            layout.columns.iter().map(|c| (c.fields.len(), c.words, c.current)).collect();
        let word = |link| Some(Words { domain: 7, link });
        let next = Some(Current::At(16));
        let expected = [
            (1, None, Some(Current::Is)),
            (3, word(Some(3)), None),
            (1, None, None),
            (3, word(None), next),
        ];
        assert_eq!(shape, expected);
    }

    #[test]
    fn what_is_said_is_understood_and_nothing_else() {
        for class in [switch(), odd(), EventClass::new("none", vec![])] {
            let layout = Layout::choose(&Arc::new(class), |_| Some(1));
            let mut out = Vec::new();
            write(&layout, &mut out);
            assert_eq!(read(&mut &out[..]), Some(layout));
            for cut in 0..out.len() {
                assert_eq!(read(&mut &out[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn payloads_are_measured() {
        let layout = Layout::choose(&Arc::new(odd()), |_| Some(1));
        let mut payload = vec![0u8; 16];
        payload.extend(2u32.to_le_bytes());
        payload.extend([1, 0, 2, 0]);
        payload.extend(b"hi\0");
        payload.extend(1u32.to_le_bytes());
        payload.push(9);
        payload.extend(1.5f64.to_le_bytes());
        assert!(layout.fits(&payload));
        assert!(!layout.fits(&payload[..payload.len() - 1]));
        payload.push(0);
        assert!(!layout.fits(&payload));
    }

    #[test]
    fn a_class_of_very_many_fields_is_coded_as_it_is() {
        let fields = (0..300).map(|i| Field::new(format!("f{i}"), FieldType::U8)).collect();
        let layout = Layout::choose(&Arc::new(EventClass::new("wide", fields)), |_| Some(1));
        assert_eq!(layout.columns, [opaque()]);
        let mut out = Vec::new();
        write(&layout, &mut out);
        assert_eq!(read(&mut &out[..]), Some(layout));
    }
}
