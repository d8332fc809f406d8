//! Inputs that are right, made from entropy, and then damaged.

use arbitrary::{Result, Unstructured};
use rbpipe_core::class::{Base, ClassId, EventClass, Field, FieldType, Integer, Label, LogLevel};
use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};
use rbpipe_core::packet::{PacketHeader, RecordHeader, StreamClass, aborted, packet_size};

use super::{LARGEST, damage, pack};

/// What means something in TSDL.
const TSDL: [&str; 36] = [
    "{",
    "}",
    ";",
    ":=",
    "...",
    "[",
    "]",
    "[0]",
    "/*",
    "*/",
    "//",
    "\"",
    "\\",
    "\n",
    "-",
    "=",
    "\u{1b}[2J",
    "\u{9b}",
    "é",
    "event {",
    "fields := struct {",
    "stream {",
    "enum : ",
    "integer { size = 8; } ",
    "uint8_t a[0]; ",
    "uint8_t",
    "{ a = 1 ",
    "string",
    "id = 0;",
    "stream_id = 0;",
    "name = \"",
    "tid",
    "cpu_id",
    "clock {",
    "offset_s = ",
    "env {",
];
/// What means something in TOML, and in ours.
const TOML: [&str; 56] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ".",
    "=",
    ",",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "#",
    "\n",
    "\\",
    "\\u001b",
    "\\x7f",
    "é",
    "\u{9b}",
    "a.",
    "a=1\n",
    "a = 1, ",
    "[a.a]\n",
    "[channel.",
    "[source.",
    "[pipeline]\n",
    "${",
    "${PATH}",
    "${A:-",
    "$${",
    "}\"",
    "1979-05-27",
    "1e400",
    "nan",
    "-0x8000000000000000",
    "true",
    "\"64 KiB\"",
    "\"9e9 GiB\"",
    "\"100 ms\"",
    "type",
    "mode",
    "backend",
    "channel",
    "source",
    "streams",
    "max_streams",
    "subbuf_size",
    "rate",
    "writers",
    "payload",
    "from",
    "path",
    "sync",
    "\"file:x\"",
    "stdin",
];

/// What means something in the kernel's formats.
const FORMAT: [&str; 40] = [
    "\tfield:",
    "__data_loc ",
    "__rel_loc ",
    "char[] ",
    "unsigned long ",
    "[",
    "]",
    "[16]",
    "[]",
    ";\toffset:",
    ";\tsize:",
    ";\tsigned:1;\n",
    "\tfield:u8 x;\toffset:",
    "\nID: 5\n",
    "print fmt: ",
    "\"",
    "\\",
    "%s",
    "%x",
    "%*p",
    ", REC->",
    "REC->",
    "__print_flags(",
    "__print_symbolic(",
    ", \"|\", ",
    "{ 1, \"a\" }, ",
    "{ -1, \"\u{1b}\" }, ",
    "1ULL << 63",
    "0x",
    "(",
    ")",
    "(u8)",
    "~",
    "<<",
    "?",
    ":",
    ",",
    "{",
    "}",
    "caller[8]",
];

fn label(name: &str, first: i128, last: i128) -> Label {
    Label { name: name.into(), first, last }
}

fn scalar(u: &mut Unstructured<'_>) -> Result<FieldType> {
    let mut integer = Integer::unsigned(*u.choose(&[8, 16, 32, 64])?);
    integer.signed = u.arbitrary()?;
    integer.base = *u.choose(&[Base::Decimal, Base::Hexadecimal, Base::Octal, Base::Binary])?;
    Ok(match u.int_in_range(0..=9)? {
        0..=4 => FieldType::Integer(integer),
        5 => FieldType::Integer(Integer::CHAR),
        6 => FieldType::Float32,
        7 => FieldType::Float64,
        _ => {
            let labels = vec![label("one", 1, 1), label("a \"word\"", 0, 100), label("é", 7, 7)];
            FieldType::Enumeration(integer, labels)
        }
    })
}

/// A class of any fields.
pub(super) fn class(u: &mut Unstructured<'_>, n: usize) -> Result<EventClass> {
    let fields = (0..u.int_in_range(0..=5)?).map(|i| {
        let ty = match u.int_in_range(0..=6)? {
            0 => FieldType::String,
            1 => FieldType::Array(Box::new(scalar(u)?), *u.choose(&[0, 1, 3, 16])?),
            2 => FieldType::Sequence(Box::new(scalar(u)?)),
            _ => scalar(u)?,
        };
        Ok(Field::new(format!("f{i}"), ty))
    });
    let class = EventClass::new(format!("c:{n}"), fields.collect::<Result<_>>()?);
    Ok(match LogLevel::from_number(u.int_in_range(0..=20)?) {
        Some(level) => class.level(level),
        None => class,
    })
}

fn payload(u: &mut Unstructured<'_>, ty: &FieldType, out: &mut Vec<u8>) -> Result<()> {
    let mut fill = |n: usize, out: &mut Vec<u8>| {
        let given = u.bytes(n.min(u.len()))?;
        out.extend(given);
        out.resize(out.len() + n - given.len(), 0);
        Ok(())
    };
    match ty {
        FieldType::String => {
            let n = u.int_in_range(0..=12)?;
            let text = u.bytes(n.min(u.len()))?;
            out.extend(text.iter().filter(|b| **b != 0));
            out.push(0);
            Ok(())
        }
        FieldType::Sequence(element) => {
            let n = u.int_in_range(0..=6)?;
            out.extend((n as u32).to_le_bytes());
            (0..n).try_for_each(|_| payload(u, element, out))
        }
        fixed => fill(fixed.fixed_size().unwrap_or(0), out),
    }
}

/// A stream file.
fn stream(u: &mut Unstructured<'_>, kind: StreamClass, classes: &[EventClass]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let (mut time, mut discarded) = (1_000_000_000u64, 0);
    for sequence in 0..*u.choose(&[0, 1, 2, 3, 4, 4, 4, 4])? {
        let begin = time;
        let mut content = vec![0; kind.header_size() as usize];
        let mut last = None;
        for _ in 0..if sequence == 0 { 0 } else { u.int_in_range(0..=6)? } {
            time += *u.choose(&[0, 1, 1000, (1 << 27) - 1, 1 << 27, 1 << 40])?;
            // The first record's time is the packet's begin, which came before it.
            let near = RecordHeader::choose(ClassId::from_index(0), time, last.or(Some(begin)));
            last = Some(time);
            let n = u.int_in_range(0..=classes.len())?;
            let (id, mut bytes) = match classes.get(n) {
                Some(class) => {
                    let mut bytes = Vec::new();
                    for field in &class.fields {
                        payload(u, &field.ty, &mut bytes)?;
                    }
                    (ClassId::from_index(n as u32).number(), bytes)
                }
                None => {
                    let given_up = *u.choose(&[0, 1, 9, 256, 257, 300])?;
                    let (id, n, length) = aborted(given_up);
                    let mut bytes = vec![0xAA; given_up as usize];
                    bytes[..n].copy_from_slice(&length[..n]);
                    (id, bytes)
                }
            };
            if near == RecordHeader::Compact && id < 31 {
                content.extend(RecordHeader::compact(id, time));
            } else {
                content.extend(RecordHeader::extended(id, time));
            }
            content.append(&mut bytes);
        }
        discarded += u.int_in_range(0..=3)?;
        let size = content.len() as u64;
        let header = PacketHeader {
            uuid: [7; 16],
            stream_class: kind,
            stream_class_id: kind.number(),
            stream_id: 5,
            begin,
            end: time,
            content_size: size,
            packet_size: packet_size(size),
            sequence,
            discarded,
            origin: 3,
        };
        let head = kind.header_size() as usize;
        content[..head].copy_from_slice(&header.encode()[..head]);
        content.resize(packet_size(size) as usize, 0);
        out.append(&mut content);
    }
    Ok(out)
}

/// A trace: see [`super::pack`].
///
/// # Errors
/// There is no entropy left.
pub fn trace(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let classes: Vec<EventClass> =
        (0..u.int_in_range(0..=4)?).map(|n| class(u, n)).collect::<Result<_>>()?;
    let shared: Vec<_> = classes.iter().cloned().map(Into::into).collect();
    let description = |class: StreamClass| StreamDescription {
        id: class.number(),
        class,
        channel: "c".into(),
        classes: shared.clone(),
    };
    let mut metadata = metadata::write(&TraceDescription {
        uuid: [7; 16],
        name: "n".into(),
        hostname: "h".into(),
        clock_offset: *u.choose(&[0, 1_700_000_000_123_456_789, u64::MAX])?,
        streams: StreamClass::ALL.map(description).into(),
    })
    .into_bytes();
    let mut streams = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        let kind = *u.choose(&StreamClass::ALL)?;
        streams.push(stream(u, kind, &classes)?);
    }
    // Half of the metadata stay whole: what lies behind it is to be reached.
    if u.arbitrary()? {
        damage::some(u, &mut metadata, &TSDL, LARGEST / 2)?;
    }
    for stream in &mut streams {
        damage::some(u, stream, &["\0", "\x1f\0\0\0\0"], LARGEST / 8)?;
    }
    Ok(pack(&metadata, &streams))
}

/// The classes that [`super::packet`] reads with: every type, and more than compact headers
/// can tell.
#[must_use]
pub fn classes() -> Vec<EventClass> {
    let array = |ty, n| FieldType::Array(Box::new(ty), n);
    let sequence = |ty| FieldType::Sequence(Box::new(ty));
    let labels = vec![label("one", 1, 1), label("low", -9, 0)];
    let enumeration = FieldType::Enumeration(Integer::signed(8), labels);
    let types = [
        vec![],
        vec![FieldType::U8, FieldType::I64, FieldType::Float32, FieldType::Float64],
        vec![FieldType::String, FieldType::U16, FieldType::String],
        vec![sequence(FieldType::U64), sequence(FieldType::Integer(Integer::CHAR))],
        vec![array(FieldType::U8, 0), array(FieldType::I32, 3), enumeration.clone()],
        vec![sequence(enumeration), array(FieldType::U64, u32::MAX)],
        vec![sequence(FieldType::Float32), FieldType::String],
    ];
    (0..32usize)
        .map(|n| {
            let fields = types[n % types.len()].iter().enumerate();
            let fields = fields.map(|(i, ty)| Field::new(format!("f{i}"), ty.clone()));
            EventClass::new(format!("c:{n}"), fields.collect())
        })
        .collect()
}

/// A stream file of [`classes`] (the one that no payload is long enough for left out).
///
/// # Errors
/// There is no entropy left.
pub fn packets(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let kind = *u.choose(&StreamClass::ALL)?;
    let mut out = stream(u, kind, &classes()[..5])?;
    damage::some(u, &mut out, &["\0", "\x1f\0\0\0\0"], LARGEST)?;
    Ok(out)
}

/// A configuration: see [`super::config`].
///
/// # Errors
/// There is no entropy left.
pub fn config(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let sources = [
        "type = \"generator\"\nrate = \"max\"\nevents = 7\nwriters = 2\npayload = 0\nseed = 1\n",
        "type = \"host\"\ninterval = \"1 s\"\n",
        "type = \"lines\"\nfrom = \"file:/x\"\nfollow = true\nmax_line = \"4 KiB\"\n",
        "type = \"lines\"\nfrom = \"stdin\"\n",
    ];
    let backends = [
        "type = \"file\"\npath = \"${T:-t}\"\noverwrite = true\nsync = \"never\"\n",
        "type = \"pages\"\n",
    ];
    let mut out = if u.ratio(1, 8)? {
        include_str!("../../../pipeline.toml").to_owned()
    } else {
        let (source, backend) = (u.choose(&sources)?, u.choose(&backends)?);
        format!(
            "[pipeline]\nname = \"n\"\nduration = \"2 s\"\nstop_timeout = \"1 s\"\n\
             [source.s]\nchannel = [\"c\"]\n{source}\n\
             [channel.c]\nmode = \"block\"\nstreams = \"per-thread\"\nmax_streams = 8\n\
             subbuf_size = \"64 KiB\"\nsubbuf_count = 4\nreader_subbufs = 1\n\
             switch_timer = \"0 s\"\nread_timer = \"5 ms\"\nblock_timeout = \"1 s\"\n\
             prefault = true\n[channel.c.backend]\n{backend}"
        )
    }
    .into_bytes();
    damage::some(u, &mut out, &TOML, LARGEST - 1000)?;
    let sets = [
        "channel.c.mode=overwrite",
        "channel.c.backend = {type = \"pages\"}",
        "source.s.payload=é",
        "=",
        "a.b.\"c\"=[1",
        "pipeline=3",
    ];
    for _ in 0..*u.choose(&[0, 0, 0, 1, 2])? {
        let mut set = u.choose(&sets)?.to_string().into_bytes();
        damage::some(u, &mut set, &TOML, 300)?;
        out.retain(|b| *b != 0);
        out.push(0);
        out.extend(set.into_iter().filter(|b| *b != 0));
    }
    Ok(out)
}

/// A page of the kernel, or a format and a page: see [`super::kernel_page`].
///
/// # Errors
/// There is no entropy left.
pub fn kernel(
    u: &mut Unstructured<'_>,
    texts: &[crate::kernel::FormatText],
    pages: &[Vec<u8>],
) -> Result<Vec<u8>> {
    let mut page = u.choose(pages)?.clone();
    page.truncate(LARGEST / 2);
    let mut out = Vec::new();
    if u.arbitrary()? {
        let (_, _, text) = u.choose(texts)?;
        out.extend(text.bytes());
        damage::some(u, &mut out, &FORMAT, LARGEST / 2)?;
        out.retain(|b| *b != 0);
        out.push(0);
        // Its events are to be of this format.
        let id = text.lines().find_map(|l| l.strip_prefix("ID: ")?.parse::<u16>().ok());
        ids(&mut page, id.unwrap_or(0));
    }
    damage::some(u, &mut page, &["\0", "\u{1d}\0\0\0\u{8}\0\0\0", "\u{8}\0\0\0"], LARGEST / 2)?;
    out.append(&mut page);
    Ok(out)
}

/// Gives all events of a page one id.
fn ids(page: &mut [u8], id: u16) {
    let mut at = 16;
    while let Some(head) = page.get(at..at + 8) {
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (from, size) = match word(0) & 31 {
            0 => (at + 8, 4 + word(4) as usize),
            n @ 1..=28 => (at + 4, 4 + 4 * n as usize),
            _ => (page.len(), 8),
        };
        if let Some(to) = page.get_mut(from..from + 2) {
            to.copy_from_slice(&id.to_le_bytes());
        }
        at += size;
    }
}
