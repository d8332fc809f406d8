//! How classes and their columns are said on the wire, and understood.

use std::sync::Arc;

use rbpipe_core::class::{
    Base, ClassRegistry, EventClass, Field, FieldType, Integer, Label, LogLevel,
};

use super::super::bounds::MOST_FIELDS;
use super::super::wire::{number, read_number, read_small, read_text, text};
use super::{Column, Current, Layout, MOST_COLUMNS, MOST_DOMAINS, Plain, Words, opaque};

/// Says a class and its columns.
pub(in super::super) fn write(layout: &Layout, out: &mut Vec<u8>) {
    let class = &layout.class;
    text(class.name.as_bytes(), out);
    out.push(class.level.map_or(0, |l| l as u8 + 1));
    number(class.fields.len() as u64, out);
    for field in &class.fields {
        text(field.name.as_bytes(), out);
        write_type(&field.ty, out);
    }
    number(layout.columns.len() as u64, out);
    for column in &layout.columns {
        let is_opaque = column.fields == opaque().fields;
        number(if is_opaque { 0 } else { column.fields.len() as u64 }, out);
        let words = column.words;
        number(words.map_or(0, |w| u64::from(w.domain) + 1), out);
        if let Some(words) = words {
            number(words.link.map_or(0, |l| l as u64 + 1), out);
        }
        let current = match column.current {
            None => 0,
            Some(Current::Is) => 1,
            Some(Current::At(at)) => at as u64 + 2,
        };
        number(current, out);
    }
}

/// Takes a class and its columns; `None`: it cannot be meant.
pub(in super::super) fn read(bytes: &mut &[u8]) -> Option<Layout> {
    let string = |bytes: &mut &[u8]| Some(std::str::from_utf8(read_text(bytes)?).ok()?.to_owned());
    let name = string(bytes)?;
    let level = match read_number(bytes)? {
        0 => None,
        n => Some(LogLevel::from_number(n - 1)?),
    };
    let mut fields = Vec::new();
    let count = read_number(bytes)?;
    if count > MOST_FIELDS as u64 {
        return None;
    }
    for _ in 0..count {
        let name = string(bytes)?;
        fields.push(Field { name, ty: read_type(bytes, true)? });
    }
    let class = EventClass { name, fields, level };
    // Whether it can be described in a trace.
    ClassRegistry::new().register(class.clone()).ok()?;
    let class = Arc::new(class);
    let columns = read_number(bytes)?;
    if columns > MOST_COLUMNS as u64 {
        return None;
    }
    let mut list = Vec::new();
    let mut at = 0usize;
    for _ in 0..columns {
        let n = usize::try_from(read_number(bytes)?).ok()?;
        let words = match read_small(bytes)? {
            0 => None,
            n => {
                let link = usize::try_from(read_number(bytes)?).ok()?;
                (n <= MOST_DOMAINS && link <= columns as usize).then_some(())?;
                Some(Words { domain: n - 1, link: link.checked_sub(1) })
            }
        };
        let current = match usize::try_from(read_number(bytes)?).ok()? {
            0 => None,
            1 => Some(Current::Is),
            n => Some(Current::At(n - 2)),
        };
        if n == 0 {
            (columns == 1 && words.is_none()).then_some(())?;
            return Some(Layout::new(&class, vec![opaque()]));
        }
        // Each field has models of its own.
        (class.fields.len() <= MOST_COLUMNS).then_some(())?;
        (n == 1 || words.is_some()).then_some(())?;
        let mine = class.fields.get(at..at.checked_add(n)?)?;
        let fields = mine.iter().map(|f| Plain::of(&f.ty)).collect::<Option<Vec<_>>>()?;
        let sizes: Option<usize> = mine.iter().map(|f| f.ty.fixed_size()).sum();
        let possible = match current {
            None => true,
            Some(Current::Is) => words.is_none() && sizes == Some(4),
            Some(Current::At(at)) => {
                words.is_some() && sizes.is_some_and(|s| at <= s.saturating_sub(4) && s >= 4)
            }
        };
        possible.then_some(())?;
        list.push(Column { fields, words, current });
        at += n;
    }
    let links = list.iter().filter_map(|c| c.words?.link);
    let good = links.into_iter().all(|l| list[l].words.is_some());
    (at == class.fields.len() && good).then(|| Layout::new(&class, list))
}

fn write_integer(i: Integer, out: &mut Vec<u8>) {
    let base = match i.base {
        Base::Decimal => 0,
        Base::Hexadecimal => 1,
        Base::Octal => 2,
        Base::Binary => 3,
    };
    out.extend([i.bits, u8::from(i.signed) | u8::from(i.text) << 1 | base << 2]);
}

fn read_integer(bytes: &mut &[u8]) -> Option<Integer> {
    let (&[bits, how], rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    let base = match how >> 2 {
        0 => Base::Decimal,
        1 => Base::Hexadecimal,
        2 => Base::Octal,
        3 => Base::Binary,
        _ => return None,
    };
    Some(Integer { bits, signed: how & 1 == 1, text: how & 2 == 2, base })
}

fn write_type(ty: &FieldType, out: &mut Vec<u8>) {
    match ty {
        FieldType::Integer(i) => {
            out.push(0);
            write_integer(*i, out);
        }
        FieldType::Enumeration(i, labels) => {
            out.push(1);
            write_integer(*i, out);
            number(labels.len() as u64, out);
            for l in labels {
                text(l.name.as_bytes(), out);
                for v in [l.first, l.last] {
                    out.push(u8::from(v < 0));
                    number(v.unsigned_abs() as u64, out);
                }
            }
        }
        FieldType::Float32 => out.push(2),
        FieldType::Float64 => out.push(3),
        FieldType::String => out.push(4),
        FieldType::Array(element, n) => {
            out.push(5);
            number((*n).into(), out);
            write_type(element, out);
        }
        FieldType::Sequence(element) => {
            out.push(6);
            write_type(element, out);
        }
    }
}

fn read_type(bytes: &mut &[u8], outermost: bool) -> Option<FieldType> {
    let (tag, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match tag {
        0 => FieldType::Integer(read_integer(bytes)?),
        1 => {
            let integer = read_integer(bytes)?;
            let mut labels = Vec::new();
            for _ in 0..read_number(bytes)? {
                let name = std::str::from_utf8(read_text(bytes)?).ok()?.to_owned();
                let mut value = || {
                    let (sign, rest) = bytes.split_first()?;
                    *bytes = rest;
                    let v = i128::from(read_number(bytes)?);
                    Some(if *sign == 1 { -v } else { v })
                };
                labels.push(Label { name, first: value()?, last: value()? });
            }
            FieldType::Enumeration(integer, labels)
        }
        2 => FieldType::Float32,
        3 => FieldType::Float64,
        4 => FieldType::String,
        5 if outermost => {
            let n = read_small(bytes)?;
            FieldType::Array(Box::new(read_type(bytes, false)?), n)
        }
        6 if outermost => FieldType::Sequence(Box::new(read_type(bytes, false)?)),
        _ => return None,
    })
}
