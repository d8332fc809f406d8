//! Event classes as the walker's shader reads them.

use rbpipe_core::class::{EventClass, FieldType};

/// The bit of a class's word that says: parts, not a size.
const PARTS: u32 = 1 << 31;
const BYTES: u32 = 0;
const TEXT: u32 = 1;
const SEQUENCE: u32 = 2;

/// A table of these classes, in the order of their ids: how many they are, a word for each
/// (its size in bytes, or where its parts are), and their parts.
#[must_use]
pub fn class_table<'a>(classes: impl IntoIterator<Item = &'a EventClass>) -> Vec<u32> {
    let all: Vec<Vec<[u32; 2]>> = classes.into_iter().map(parts).collect();
    let mut table = vec![all.len() as u32];
    table.resize(1 + all.len(), 0);
    for (place, parts) in all.into_iter().enumerate() {
        table[1 + place] = match parts[..] {
            [] => 0,
            // One part of bytes is the usual one, and its size is all there is to say. What
            // has 2 GiB or more is longer than any payload in either form.
            [[BYTES, size]] if size < PARTS => size,
            _ => {
                let at = table.len() as u32;
                table.push(parts.len() as u32);
                table.extend(parts.as_flattened());
                at | PARTS
            }
        };
    }
    table
}

/// Neighbours of fixed size are one part. Sizes that no payload has stay such.
fn parts(class: &EventClass) -> Vec<[u32; 2]> {
    let size = |ty: &FieldType| {
        ty.fixed_size().map_or(u32::MAX, |size| u32::try_from(size).unwrap_or(u32::MAX))
    };
    let mut out: Vec<[u32; 2]> = Vec::new();
    for field in &class.fields {
        let part = match &field.ty {
            FieldType::String => [TEXT, 0],
            FieldType::Sequence(element) => [SEQUENCE, size(element)],
            fixed => [BYTES, size(fixed)],
        };
        match (out.last_mut(), part) {
            (Some([BYTES, sum]), [BYTES, n]) => *sum = sum.saturating_add(n),
            _ => out.push(part),
        }
    }
    out
}
