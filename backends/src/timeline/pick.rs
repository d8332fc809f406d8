//! A field out of the records of one class: what values are made of.

use rbpipe_core::class::{EventClass, FieldType};
use rbpipe_core::packet::{COMPACT_HEADER, EXTENDED, EXTENDED_HEADER};

use super::{Entry, Value};

/// An integer of an event class that lies at the same place in each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The class, by its id in record headers.
    pub class: u32,
    /// Where it begins in the payload, in bytes.
    pub offset: u32,
    /// 1, 2, 4 or 8.
    pub bytes: u32,
    /// Two's complement.
    pub signed: bool,
}

impl Field {
    /// The field of this name in a class. `None`: there is none, it is no integer, or something
    /// of varying length lies before it.
    #[must_use]
    pub fn of(class: u32, known: &EventClass, name: &str) -> Option<Self> {
        let (ty, offset, size) = place(known, name)?;
        let (FieldType::Integer(i) | FieldType::Enumeration(i, _)) = ty else { return None };
        Some(Self { class, offset, bytes: size, signed: i.signed })
    }

    /// Its value in a record that begins with this header; `None`: the bytes end before.
    #[must_use]
    pub fn value(&self, record: &[u8]) -> Option<i64> {
        let at = payload(record)? + self.offset as usize;
        let mine = record.get(at..at + self.bytes as usize)?;
        let raw = mine.iter().rev().fold(0u64, |v, byte| v << 8 | u64::from(*byte));
        let unused = 64 - 8 * self.bytes.clamp(1, 8);
        let raw = (raw << unused) as i64;
        Some(if self.signed { raw >> unused } else { (raw as u64 >> unused) as i64 })
    }
}

/// What the field of this name is, where it begins in the payload, and its bytes. `None`: there is
/// none, or something of varying length lies before it, or it is that itself.
fn place<'a>(known: &'a EventClass, name: &str) -> Option<(&'a FieldType, u32, u32)> {
    let mut offset = 0;
    for field in &known.fields {
        let size = field.ty.fixed_size()?;
        if field.name == name {
            return Some((&field.ty, u32::try_from(offset).ok()?, u32::try_from(size).ok()?));
        }
        offset += size;
    }
    None
}

/// Where the payload of a record begins, which begins with this header.
fn payload(record: &[u8]) -> Option<usize> {
    let extended = u32::from(record.first()? & 31) == EXTENDED;
    Some(if extended { EXTENDED_HEADER } else { COMPACT_HEADER } as usize)
}

/// A short text of an event class that lies at the same place in each record: what a process is
/// called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where it begins in the payload, in bytes.
    pub offset: u32,
    /// At most 16; what a longer one has more is left out.
    pub bytes: u32,
}

/// A text as it was found, with zeros behind it.
pub type Name = [u8; 16];

impl Label {
    /// The field of this name in a class: an array of characters. `None`: there is none, or
    /// something of varying length lies before it.
    #[must_use]
    pub fn of(known: &EventClass, name: &str) -> Option<Self> {
        let (ty, offset, size) = place(known, name)?;
        let FieldType::Array(element, _) = ty else { return None };
        let is_text = matches!(&**element, FieldType::Integer(i) if i.text && i.bits == 8);
        is_text.then_some(Self { offset, bytes: size.min(16) })
    }

    /// The text in a record that begins with this header.
    #[must_use]
    pub fn name(&self, record: &[u8]) -> Option<Name> {
        let at = payload(record)? + self.offset as usize;
        let mut name = Name::default();
        let bytes = self.bytes as usize;
        name.get_mut(..bytes)?.copy_from_slice(record.get(at..at + bytes)?);
        Some(name)
    }
}

/// The values of a field in these entries of a packet, whose first byte has the offset `base`.
#[must_use]
pub fn pick(packet: &[u8], base: u32, entries: &[Entry], field: &Field) -> Vec<Value> {
    let mine = entries.iter().filter(|e| e.class == field.class);
    let value = |e: &Entry| {
        let record = packet.get(e.offset.wrapping_sub(base) as usize..)?;
        Some(Value::new(e.time(), field.value(record)?))
    };
    mine.filter_map(value).collect()
}
