//! A field out of the records of one class: what a lane's states or values are made of.

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
        let mut offset = 0;
        for field in &known.fields {
            let size = field.ty.fixed_size()?;
            if field.name != name {
                offset += size;
                continue;
            }
            let (FieldType::Integer(i) | FieldType::Enumeration(i, _)) = &field.ty else {
                return None;
            };
            let offset = u32::try_from(offset).ok()?;
            return Some(Self { class, offset, bytes: size as u32, signed: i.signed });
        }
        None
    }

    /// Its value in a record that begins with this header; `None`: the bytes end before.
    #[must_use]
    pub fn value(&self, record: &[u8]) -> Option<i64> {
        let extended = u32::from(record.first()? & 31) == EXTENDED;
        let header = if extended { EXTENDED_HEADER } else { COMPACT_HEADER };
        let at = header as usize + self.offset as usize;
        let mine = record.get(at..at + self.bytes as usize)?;
        let raw = mine.iter().rev().fold(0u64, |v, byte| v << 8 | u64::from(*byte));
        let unused = 64 - 8 * self.bytes.clamp(1, 8);
        let raw = (raw << unused) as i64;
        Some(if self.signed { raw >> unused } else { (raw as u64 >> unused) as i64 })
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
