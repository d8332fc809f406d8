//! Reads packet content back: records, and the values of their fields.
//!
//! Zero-copy, and never trusting: whatever the bytes are, it neither panics nor hangs, and
//! allocates nothing. Each step consumes at least a record header, so it ends.

use std::sync::Arc;

use crate::class::{ClassId, EventClass, FieldType, Integer};
use crate::packet::{COMPACT_HEADER, COMPACT_TIME_BITS, EXTENDED, EXTENDED_HEADER};

/// The event classes that records are read with, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    list: Vec<(Arc<EventClass>, Box<[Part]>)>,
}

/// A part of a payload, as far as its size goes; neighbours of fixed size are one part.
#[derive(Clone, Copy, Debug)]
enum Part {
    Fixed(usize),
    Text,
    /// A count, and elements of this size.
    Sequence(usize),
}

fn parts(class: &EventClass) -> Box<[Part]> {
    let mut out: Vec<Part> = Vec::new();
    for field in &class.fields {
        let part = match &field.ty {
            FieldType::String => Part::Text,
            FieldType::Sequence(element) => Part::Sequence(element.fixed_size().unwrap_or(0)),
            // An array too long for an address is longer than any payload.
            fixed => Part::Fixed(fixed.fixed_size().unwrap_or(usize::MAX)),
        };
        match (out.last_mut(), part) {
            (Some(Part::Fixed(sum)), Part::Fixed(n)) => *sum = sum.saturating_add(n),
            _ => out.push(part),
        }
    }
    out.into()
}

impl Classes {
    /// Of these classes.
    #[must_use]
    pub fn new(classes: impl IntoIterator<Item = Arc<EventClass>>) -> Self {
        let list = classes.into_iter().map(|c| {
            let parts = parts(&c);
            (c, parts)
        });
        Self { list: list.collect() }
    }
    /// All of them, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Arc<EventClass>> {
        self.list.iter().map(|(c, _)| c)
    }
    /// Adds one behind the others.
    pub fn push(&mut self, class: Arc<EventClass>) {
        let parts = parts(&class);
        self.list.push((class, parts));
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// Whether these bytes are a payload of the class at this place, from the first to the last.
    /// What comes from elsewhere is asked before it is put among others, whose places depend on
    /// its size.
    #[must_use]
    pub fn fits(&self, place: usize, payload: &[u8]) -> bool {
        let size = self.list.get(place).and_then(|(_, parts)| payload_size(parts, payload));
        size == Some(payload.len())
    }
    /// The class at this place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Arc<EventClass>> {
        self.list.get(place).map(|(c, _)| c)
    }
}

/// A record: where it is, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// The place of its class; `None`: a reservation that was given up.
    pub class: Option<usize>,
    /// Its payload, as a range in the content.
    pub payload: (usize, usize),
}

/// Why the rest of a packet cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A record goes beyond the packet.
    #[error("a record at byte {0} goes beyond the packet's end")]
    Truncated(usize),
    /// An event class that is not described.
    #[error("the record at byte {at} is of event class {id}, which the metadata does not describe")]
    #[expect(missing_docs, reason = "named by the message")]
    Class { at: usize, id: u32 },
}

/// Goes through a packet's records: positions only, so that the bytes may lie in a buffer
/// that is used again.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    at: usize,
    time: u64,
}

impl Cursor {
    /// At the first record of a packet that begins at `begin`, after `header` bytes.
    #[must_use]
    pub fn new(header: usize, begin: u64) -> Self {
        Self { at: header, time: begin }
    }

    /// The next record of `content` (header included, as from the packet's first byte).
    ///
    /// # Errors
    /// See [`DecodeError`]; there is no going on after one.
    #[inline]
    pub fn next(
        &mut self,
        content: &[u8],
        classes: &Classes,
    ) -> Result<Option<Record>, DecodeError> {
        let at = self.at;
        if at >= content.len() {
            return Ok(None);
        }
        let cut = DecodeError::Truncated(at);
        let first = *content.get(at).ok_or(cut)?;
        let mut id = u32::from(first & 31);
        let payload;
        if id == EXTENDED {
            payload = at + EXTENDED_HEADER as usize;
            let head: &[u8; 12] =
                content.get(at + 1..payload).and_then(|b| b.try_into().ok()).ok_or(cut)?;
            id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            self.time = u64::from_le_bytes([
                head[4], head[5], head[6], head[7], head[8], head[9], head[10], head[11],
            ]);
        } else {
            payload = at + COMPACT_HEADER as usize;
            let head: [u8; 4] =
                content.get(at..payload).and_then(|b| b.try_into().ok()).ok_or(cut)?;
            let low = u64::from(u32::from_le_bytes(head) >> 5);
            let mask = (1u64 << COMPACT_TIME_BITS) - 1;
            // At most one wrap since the record before.
            let ahead = low.wrapping_sub(self.time) & mask;
            self.time = self.time.wrapping_add(ahead);
        }
        let rest = content.get(payload..).ok_or(cut)?;
        let (class, size) = match ClassId::index(id) {
            Some(place) => {
                let (_, parts) = classes.list.get(place).ok_or(DecodeError::Class { at, id })?;
                (Some(place), payload_size(parts, rest))
            }
            None => (None, aborted_size(id, rest)),
        };
        let size = size.filter(|s| *s <= rest.len()).ok_or(cut)?;
        self.at = payload + size;
        Ok(Some(Record { time: self.time, class, payload: (payload, payload + size) }))
    }
}

fn aborted_size(id: u32, rest: &[u8]) -> Option<usize> {
    match id - ClassId::FIRST_ABORTED {
        0 => Some(0),
        1 => Some(1 + usize::from(*rest.first()?)),
        _ => Some(4 + length(rest)?),
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    let n: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(n)).ok()
}

#[inline]
fn payload_size(parts: &[Part], bytes: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    for part in parts {
        let size = match part {
            Part::Fixed(size) => *size,
            Part::Text => bytes.get(at..)?.iter().position(|b| *b == 0)? + 1,
            Part::Sequence(size) => length(bytes.get(at..)?)?.checked_mul(*size)?.checked_add(4)?,
        };
        at = at.checked_add(size)?;
    }
    Some(at)
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer and its type.
    Unsigned(u64, Integer),
    /// A signed integer and its type.
    Signed(i64, Integer),
    /// A float.
    Float(f64),
    /// Text, without the NUL.
    Text(&'a [u8]),
    /// An enumeration's value and its label, if it has one.
    Enum(i128, Option<&'a str>),
    /// Elements of a scalar type: their bytes.
    Elements(&'a FieldType, &'a [u8]),
}

/// The first value of type `ty` in `bytes`, and the bytes after it.
#[inline]
#[must_use]
pub fn value<'a>(ty: &'a FieldType, bytes: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
    match ty {
        FieldType::Integer(i) => {
            let (raw, rest) = raw(i.size(), bytes)?;
            let v = if i.signed {
                Value::Signed(extend(raw, i.bits), *i)
            } else {
                Value::Unsigned(raw, *i)
            };
            Some((v, rest))
        }
        FieldType::Enumeration(i, labels) => {
            let (raw, rest) = raw(i.size(), bytes)?;
            let v = if i.signed { i128::from(extend(raw, i.bits)) } else { i128::from(raw) };
            let label = labels.iter().find(|l| l.first <= v && v <= l.last);
            Some((Value::Enum(v, label.map(|l| l.name.as_str())), rest))
        }
        FieldType::Float32 => {
            let (raw, rest) = raw(4, bytes)?;
            Some((Value::Float(f32::from_bits(raw as u32).into()), rest))
        }
        FieldType::Float64 => {
            let (raw, rest) = raw(8, bytes)?;
            Some((Value::Float(f64::from_bits(raw)), rest))
        }
        FieldType::String => {
            let end = bytes.iter().position(|b| *b == 0)?;
            Some((Value::Text(&bytes[..end]), &bytes[end + 1..]))
        }
        FieldType::Array(element, n) => elements(element, *n as usize, bytes),
        FieldType::Sequence(element) => elements(element, length(bytes)?, bytes.get(4..)?),
    }
}

fn elements<'a>(
    element: &'a FieldType,
    count: usize,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (mine, rest) = bytes.split_at_checked(count.checked_mul(element.fixed_size()?)?)?;
    let value = match element {
        FieldType::Integer(i) if i.text => {
            let end = mine.iter().position(|b| *b == 0).unwrap_or(mine.len());
            Value::Text(&mine[..end])
        }
        _ => Value::Elements(element, mine),
    };
    Some((value, rest))
}

/// An unsigned integer of 1, 2, 4 or 8 bytes, and the bytes after it.
#[inline]
#[must_use]
pub fn raw(size: usize, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mine, rest) = bytes.split_at_checked(size)?;
    let v = match *mine {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        _ => u64::from_le_bytes(mine.try_into().ok()?),
    };
    Some((v, rest))
}

fn extend(raw: u64, bits: u8) -> i64 {
    let unused = 64 - u32::from(bits);
    ((raw << unused) as i64) >> unused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Field;
    use crate::packet::RecordHeader;

    fn classes() -> Classes {
        let text = EventClass::new(
            "t",
            vec![
                Field::new("s", FieldType::String),
                Field::new("q", FieldType::Sequence(Box::new(FieldType::U16))),
            ],
        );
        let fixed = EventClass::new("f", vec![Field::new("x", FieldType::I32)]);
        Classes::new([Arc::new(fixed), Arc::new(text)])
    }

    fn all(content: &[u8], begin: u64) -> Result<Vec<Record>, DecodeError> {
        let (mut c, mut out) = (Cursor::new(0, begin), Vec::new());
        while let Some(r) = c.next(content, &classes())? {
            out.push(r);
        }
        Ok(out)
    }

    #[test]
    fn time_wraps_once_and_extended_sets_it() {
        let wrap = 1u64 << COMPACT_TIME_BITS;
        let begin = 5 * wrap - 10;
        let mut content = Vec::new();
        for time in [begin, begin + 9, begin + 20] {
            content.extend(RecordHeader::compact(0, time));
            content.extend((-2i32).to_le_bytes());
        }
        content.extend(RecordHeader::extended(0, begin + 9 * wrap));
        content.extend([0; 4]);
        let times: Vec<u64> = all(&content, begin).unwrap().iter().map(|r| r.time).collect();
        assert_eq!(times, [begin, begin + 9, begin + 20, begin + 9 * wrap]);
        let (v, _) = value(&FieldType::I32, &content[4..8]).unwrap();
        assert_eq!(v, Value::Signed(-2, Integer::signed(32)));
    }

    #[test]
    fn variable_sizes_and_aborted() {
        let mut content = Vec::new();
        content.extend(RecordHeader::compact(1, 0));
        content.extend(b"hi\0");
        content.extend(2u32.to_le_bytes());
        content.extend([1, 0, 2, 0]);
        content.extend(RecordHeader::compact(29, 1));
        content.extend([3, 9, 9, 9]);
        content.extend(RecordHeader::compact(30, 1));
        content.extend(5u32.to_le_bytes());
        content.extend([9; 5]);
        let records = all(&content, 0).unwrap();
        assert_eq!(records.iter().map(|r| r.class).collect::<Vec<_>>(), [Some(1), None, None]);
    }

    #[test]
    fn a_payload_fits_its_class_or_it_does_not() {
        let mut list = Classes::new(classes().all().cloned());
        list.push(Arc::new(EventClass::new("n", vec![])));
        assert!(list.fits(0, &[1, 2, 3, 4]));
        assert!(!list.fits(0, &[1, 2, 3]) && !list.fits(0, &[1, 2, 3, 4, 5]));
        let text = [b"hi\0".as_slice(), &1u32.to_le_bytes(), &[9, 9]].concat();
        assert!(list.fits(1, &text));
        assert!(!list.fits(1, &text[..8]) && !list.fits(1, b"hi"));
        assert!(list.fits(2, &[]) && !list.fits(2, &[0]) && !list.fits(3, &[]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang() {
        // A small xorshift; every content ends in Ok or Err.
        let mut x = 0x2545_F491_4F6C_DD1Du64;
        for _ in 0..20_000 {
            let mut content = Vec::new();
            for _ in 0..40 {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                content.push(x as u8);
            }
            let _ = all(&content, x);
        }
    }
}
