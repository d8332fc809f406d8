//! What the fields of an event are in a trace, and how their bytes come out of the kernel's:
//! as they lie there, as far as they can.
//!
//! Types are those of the declarations; names of values and bases of numbers come from the
//! print format (`print.rs`).

use std::collections::{HashMap, HashSet};

use rbpipe_core::class::{Base, Field, FieldType, Integer, Label};

use super::format::{Declared, Format};
use super::print::{Hint, hints};

/// Where a part of a payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the event, unchanged: neighbours are one piece.
    Bytes {
        /// First byte.
        from: usize,
        /// Bytes.
        size: usize,
    },
    /// A string, ended by a NUL.
    Text(Place),
    /// A count, and elements of this size.
    Elements(Place, usize),
}

/// Where bytes of any number are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the `u32` at this byte says: 16 bits of place, 16 of length.
    Located {
        /// Of the `u32`.
        at: usize,
        /// What its place counts from.
        base: usize,
    },
    /// From this byte to the event's end.
    Rest(usize),
}

/// An event's fields in a trace, the pieces of its payload, and how long an event is at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In the kernel's order.
    pub fields: Vec<Field>,
    /// In the same order.
    pub pieces: Vec<Piece>,
    /// Bytes.
    pub shortest: usize,
}

impl Layout {
    /// Of this format.
    #[must_use]
    pub fn of(format: &Format<'_>) -> Self {
        let hints = hints(format.print);
        let none = Hint::default();
        let mut names = Names::default();
        let (mut fields, mut pieces, mut shortest) = (Vec::new(), Vec::<Piece>::new(), 0);
        let last = format.fields.len() - 1;
        for (n, declared) in format.fields.iter().enumerate() {
            let hint = hints.get(declared.name).unwrap_or(&none);
            let (ty, piece) = meaning(declared, hint, n == last);
            let sequence = matches!(ty, FieldType::Sequence(_));
            fields.push(Field::new(names.unique(declared.name, sequence), ty));
            if !matches!(piece, Piece::Text(Place::Rest(_)) | Piece::Elements(Place::Rest(_), _)) {
                shortest = shortest.max(declared.offset + declared.size);
            }
            match (pieces.last_mut(), piece) {
                (Some(Piece::Bytes { from, size }), Piece::Bytes { from: next, size: more })
                    if *from + *size == next =>
                {
                    *size += more;
                }
                _ => pieces.push(piece),
            }
        }
        Self { fields, pieces, shortest }
    }
}

/// Names that are C identifiers, each once.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    next: HashMap<String, u32>,
}

impl Names {
    fn unique(&mut self, name: &str, sequence: bool) -> String {
        let mut name = name.to_owned();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        let mut unique = name.clone();
        // The length of a sequence is a field, too, in metadata.
        let length = |name: &str| format!("_{name}_length");
        while self.taken.contains(&unique) || (sequence && self.taken.contains(&length(&unique))) {
            let n = self.next.entry(name.clone()).or_insert(1);
            *n += 1;
            unique = format!("{name}_{n}");
        }
        if sequence {
            self.taken.insert(length(&unique));
        }
        self.taken.insert(unique.clone());
        unique
    }
}

fn meaning(field: &Declared<'_>, hint: &Hint, last: bool) -> (FieldType, Piece) {
    let fixed = Piece::Bytes { from: field.offset, size: field.size };
    if let Some((ty, relative)) = located(field.ty)
        && field.size == 4
    {
        let base = if relative { field.offset + 4 } else { 0 };
        return open(ty, Place::Located { at: field.offset, base }, hint, ty == "char");
    }
    if field.is_open() || (last && is_stack(field)) {
        // `char buf[]` is a string where it is printed as one, and bytes elsewhere.
        let text = field.ty == "char" && hint.text;
        return open(field.ty, Place::Rest(field.offset), hint, text);
    }
    if field.array.is_none() && matches!(field.size, 1 | 2 | 4 | 8) {
        return (scalar(field, hint), fixed);
    }
    if field.array.is_some() && field.ty == "char" {
        let text = FieldType::Integer(Integer::CHAR);
        return (FieldType::Array(Box::new(text), field.size as u32), fixed);
    }
    // Bytes, where the type does not tell the size of an element: of a struct, say.
    let count = field.array.and_then(|n| n.parse::<usize>().ok());
    let element = match (element(field.ty), count) {
        (Some((size, _)), _) => size,
        (None, Some(n)) if n > 0 && field.size.is_multiple_of(n) => field.size / n,
        _ => 1,
    };
    let known = matches!(element, 1 | 2 | 4 | 8) && field.size.is_multiple_of(element);
    let size = if known { element } else { 1 };
    let base = base(field.ty, hint, !known || field.array.is_none());
    let integer =
        Integer { bits: size as u8 * 8, signed: field.signed && known, base, text: false };
    let ty = Box::new(FieldType::Integer(integer));
    (FieldType::Array(ty, (field.size / size) as u32), fixed)
}

/// `__data_loc T` and `__rel_loc T`: T, and whether it is the second one.
fn located(ty: &str) -> Option<(&str, bool)> {
    let (rest, relative) = match ty.strip_prefix("__data_loc") {
        Some(rest) => (rest, false),
        None => (ty.strip_prefix("__rel_loc")?, true),
    };
    Some((rest.trim(), relative))
}

/// The kernel's stack: it is declared with eight entries, and has as many as there are.
fn is_stack(field: &Declared<'_>) -> bool {
    field.name == "caller" && field.ty == "unsigned long" && field.array.is_some()
}

fn open(ty: &str, place: Place, hint: &Hint, text: bool) -> (FieldType, Piece) {
    if text {
        return (FieldType::String, Piece::Text(place));
    }
    let (size, signed) = element(ty).unwrap_or((1, false));
    let base = base(ty, hint, true);
    let integer = Integer { bits: size as u8 * 8, signed, base, text: false };
    let sequence = FieldType::Sequence(Box::new(FieldType::Integer(integer)));
    (sequence, Piece::Elements(place, size))
}

fn base(ty: &str, hint: &Hint, raw: bool) -> Base {
    let hexadecimal = raw || (hint.flags && !hint.labels.is_empty());
    let otherwise = if hexadecimal { Base::Hexadecimal } else { Base::Decimal };
    if ty.contains('*') { Base::Hexadecimal } else { hint.base.unwrap_or(otherwise) }
}

fn scalar(field: &Declared<'_>, hint: &Hint) -> FieldType {
    let base = base(field.ty, hint, false);
    let integer = Integer { bits: field.size as u8 * 8, signed: field.signed, base, text: false };
    let labels = labels(integer, hint);
    if labels.is_empty() {
        FieldType::Integer(integer)
    } else {
        FieldType::Enumeration(integer, labels)
    }
}

/// The names that a value of this integer can have. Of flags: those of single bits.
fn labels(integer: Integer, hint: &Hint) -> Vec<Label> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (value, name) in &hint.labels {
        if hint.flags && value.count_ones() != 1 {
            continue;
        }
        let unused = 64 - u32::from(integer.bits);
        // The kernel extends a field to `unsigned long`, by its sign if it has one. What no
        // field becomes then is the name of nothing. (A flag may be the sign's bit.)
        let number = if !integer.signed {
            i128::from(*value)
        } else if hint.flags {
            i128::from((value.cast_signed() << unused) >> unused)
        } else {
            i128::from(value.cast_signed())
        };
        let bits = u32::from(integer.bits) - u32::from(integer.signed);
        let fits = if hint.flags {
            value >> (integer.bits - 1) <= 1
        } else if integer.signed {
            (-(1i128 << bits)..1i128 << bits).contains(&number)
        } else {
            number < 1i128 << bits
        };
        if fits && !name.is_empty() && !name.chars().any(char::is_control) && seen.insert(number) {
            out.push(Label { name: name.clone(), first: number, last: number });
        }
    }
    out
}

/// Bytes of an element of this type, and whether it is signed; `None`: it is not known.
fn element(ty: &str) -> Option<(usize, bool)> {
    if ty.ends_with('*') {
        return Some((8, false));
    }
    let words: Vec<&str> =
        ty.split_whitespace().filter(|w| !matches!(*w, "const" | "volatile")).collect();
    Some(match words.join(" ").as_str() {
        "char" | "unsigned char" | "u8" | "__u8" | "uint8_t" | "bool" | "_Bool" => (1, false),
        "signed char" | "s8" | "__s8" | "int8_t" => (1, true),
        "unsigned short" | "short unsigned int" | "u16" | "__u16" | "uint16_t" | "__be16"
        | "__le16" | "umode_t" => (2, false),
        "short" | "short int" | "s16" | "__s16" | "int16_t" => (2, true),
        "unsigned int" | "unsigned" | "u32" | "__u32" | "uint32_t" | "__be32" | "__le32"
        | "uint" | "gfp_t" | "dev_t" => (4, false),
        "int" | "s32" | "__s32" | "int32_t" | "pid_t" => (4, true),
        "unsigned long"
        | "long unsigned int"
        | "unsigned long long"
        | "long long unsigned int"
        | "u64"
        | "__u64"
        | "uint64_t"
        | "__be64"
        | "__le64"
        | "size_t"
        | "sector_t"
        | "cpumask_t"
        | "dma_addr_t"
        | "phys_addr_t" => (8, false),
        "long" | "long int" | "long long" | "long long int" | "s64" | "__s64" | "int64_t"
        | "loff_t" | "ssize_t" => (8, true),
        _ => return None,
    })
}
