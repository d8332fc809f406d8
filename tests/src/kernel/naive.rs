//! A second reader of pages and formats, as plain as can be: it trusts, panics, allocates, and
//! shares nothing with the decoder. What the decoder gives is held against it.

use std::collections::HashMap;

/// What a page's entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An event whose head holds its length.
    Small,
    /// An event whose length is a word of its own.
    Large,
    /// Padding, or an event that was taken back.
    Padding,
    /// A long time since the entry before.
    Extend,
    /// A time by itself.
    Absolute,
}

/// An event: its time and its bytes.
pub struct Event<'a> {
    /// Of the instance's clock.
    pub time: u64,
    /// From its id on.
    pub bytes: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// All events of a page; counts the kinds of its entries.
///
/// # Panics
/// The page is none.
pub fn events<'a>(page: &'a [u8], kinds: &mut HashMap<Kind, u32>) -> Vec<Event<'a>> {
    let mut time = u64::from_le_bytes(page[..8].try_into().expect("eight"));
    let length = (u32_at(page, 8) & 0x07FF_FFFF) as usize;
    let data = &page[16..16 + length];
    let (mut at, mut out) = (0, Vec::new());
    while at < data.len() {
        let (ty, delta) = (data[at] & 31, u64::from(u32_at(data, at) >> 5));
        let second = || u32_at(data, at + 4);
        let (kind, size) = match ty {
            29 => {
                if delta > 1 {
                    time += delta;
                }
                (Kind::Padding, 4 + second() as usize)
            }
            30 => {
                time += delta + (u64::from(second()) << 27);
                (Kind::Extend, 8)
            }
            31 => {
                let low = delta + (u64::from(second()) << 27);
                let high = time >> 59;
                time = low + (high << 59);
                (Kind::Absolute, 8)
            }
            0 => {
                time += delta;
                let size = 4 + second() as usize;
                out.push(Event { time, bytes: &data[at + 8..at + size] });
                (Kind::Large, size)
            }
            n => {
                time += delta;
                let size = 4 + 4 * usize::from(n);
                out.push(Event { time, bytes: &data[at + 4..at + size] });
                (Kind::Small, size)
            }
        };
        *kinds.entry(kind).or_default() += 1;
        at += size;
    }
    assert_eq!(at, data.len(), "entries fill the page");
    out
}

/// A field of a format.
pub struct Field {
    /// All before its name.
    pub ty: String,
    /// Its name.
    pub name: String,
    /// First byte.
    pub offset: usize,
    /// Bytes; 0: to the end.
    pub size: usize,
}

/// The id and the fields of a format.
///
/// # Panics
/// It is none.
#[must_use]
pub fn format(text: &str) -> (u16, Vec<Field>) {
    let (mut id, mut fields) = (0, Vec::new());
    for line in text.lines() {
        if let Some(n) = line.strip_prefix("ID: ") {
            id = n.parse().expect("an id");
        }
        let Some(rest) = line.trim().strip_prefix("field:") else { continue };
        let parts: Vec<&str> = rest.split(';').collect();
        let number = |part: &str| part.split(':').nth(1).expect("a number").parse().expect("one");
        let declaration = parts[0];
        let name = declaration.split(['[', ' ']).rfind(|w| {
            !w.is_empty() && !w.contains(']') && w.chars().all(|c| c.is_alphanumeric() || c == '_')
        });
        fields.push(Field {
            ty: declaration.to_owned(),
            name: name.expect("a name").to_owned(),
            offset: number(parts[1]),
            size: number(parts[2]),
        });
    }
    (id, fields)
}

/// A field's bytes, wherever they are.
///
/// # Panics
/// They lie outside the event.
#[must_use]
pub fn bytes<'a>(field: &Field, event: &'a [u8]) -> &'a [u8] {
    if field.ty.contains("__data_loc") {
        let word = u32_at(event, field.offset) as usize;
        return &event[word & 0xFFFF..(word & 0xFFFF) + (word >> 16)];
    }
    // The kernel's stack ends where the event does, whatever is declared.
    if field.size == 0 || field.ty.ends_with("caller[8]") {
        return &event[field.offset..];
    }
    &event[field.offset..field.offset + field.size]
}
