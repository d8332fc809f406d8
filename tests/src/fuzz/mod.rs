//! Inputs that nobody should believe, for what must not: the reader of traces, the reader of
//! configurations, the reader of packets. Shared by the fuzzers (`fuzz/`) and the tests that
//! run everywhere (`tests/fuzz.rs`).
//!
//! Each function takes an input as bytes, and panics where the reader does, where it breaks a
//! promise, or where it holds more memory than its bound. Time is for the caller to watch: no
//! input of at most [`LARGEST`] bytes is to take longer than [`PATIENCE`].

pub mod damage;
pub mod held;
pub mod link;
pub mod recipe;

use std::sync::OnceLock;
use std::time::Duration;

use arbitrary::Unstructured;
use fastrand::Rng;
use rbpipe_core::class::EventClass;
use rbpipe_core::decode::{Classes, Cursor, Value, value};
use rbpipe_core::packet::{PacketHeader, StreamClass};

use held::peak;
use rbpipe::fuzz::{Decoded, EventFormat, Formats};

use crate::kernel;

/// Bytes of the largest input that is tried; what is longer is cut.
pub const LARGEST: usize = 64 << 10;
/// How long one input may take, on a slow machine that has other things to do. (The worst that
/// was found takes about a second: output, many times the input.)
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Metadata and stream files as one input: the text, a NUL, and for each file its length (a
/// little-endian `u32`, at most what is left) and its bytes.
#[must_use]
pub fn pack(metadata: &[u8], streams: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = metadata.iter().copied().filter(|b| *b != 0).collect();
    for stream in streams {
        if out.len() == metadata.len() {
            out.push(0);
        }
        out.extend((stream.len() as u32).to_le_bytes());
        out.extend(stream);
    }
    out
}

/// The other way.
#[must_use]
pub fn unpack(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let end = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    let (metadata, mut rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let mut streams = Vec::new();
    while let (true, Some((length, after))) = (streams.len() < 8, rest.split_first_chunk()) {
        let length = (u32::from_le_bytes(*length) as usize).min(after.len());
        streams.push(&after[..length]);
        rest = &after[length..];
    }
    (metadata, streams)
}

/// The input of [`trace`] that this one stands for. One that begins as metadata does (`/`) is
/// a trace as it is; any other is a recipe: a valid trace, and the damage done to it.
#[must_use]
pub fn trace_input(input: &[u8]) -> Vec<u8> {
    let mut input = if input.first().is_none_or(|b| *b == b'/') {
        input.to_vec()
    } else {
        recipe::trace(&mut Unstructured::new(&input[1..])).unwrap_or_default()
    };
    input.truncate(LARGEST);
    input
}

/// Reads a trace; gives its events, or what is wrong with its metadata.
///
/// # Errors
/// What is wrong with its metadata.
///
/// # Panics
/// See the module.
pub fn trace(input: &[u8]) -> Result<u64, String> {
    let input = trace_input(input);
    let (metadata, streams) = unpack(&input);
    let (result, held) = peak(|| rbpipe::fuzz::trace(metadata, &streams));
    let bound = rbpipe::fuzz::TRACE.of(input.len());
    assert!(held <= bound, "{held} bytes held for {}: more than {bound}", input.len());
    result
}

/// Reads a configuration: the file, then `--set`s, with NULs between them.
///
/// # Errors
/// What is wrong with it.
///
/// # Panics
/// See the module.
pub fn config(input: &[u8]) -> Result<(), String> {
    let input = &input[..input.len().min(LARGEST)];
    let mut parts = input.split(|b| *b == 0);
    let file = parts.next().unwrap_or_default();
    let sets: Vec<String> =
        parts.take(4).map(|s| String::from_utf8_lossy(s).into_owned()).collect();
    let (result, held) = peak(|| rbpipe::fuzz::config(file, &sets));
    let bound = rbpipe::fuzz::CONFIG.of(input.len());
    assert!(held <= bound, "{held} bytes held for {}: more than {bound}", input.len());
    result
}

/// Reads a stream file with core's own functions, [`recipe::classes`] for its classes. Gives
/// how many records and values there are.
///
/// # Panics
/// See the module; also where anything is allocated at all, where a record lies outside its
/// packet or before the last one, and where its fields are not its payload, exactly.
pub fn packet(input: &[u8]) -> (u64, u64) {
    let input = &input[..input.len().min(LARGEST)];
    static CLASSES: OnceLock<(Vec<EventClass>, Classes)> = OnceLock::new();
    let (list, classes) = CLASSES.get_or_init(|| {
        let list = recipe::classes();
        let classes = Classes::new(list.iter().cloned().map(Into::into));
        (list, classes)
    });
    let (read, held) = peak(|| packets(input, list, classes));
    assert_eq!(held, 0, "nothing is allocated");
    read
}

fn packets(mut input: &[u8], list: &[EventClass], classes: &Classes) -> (u64, u64) {
    let (mut records, mut values) = (0, 0);
    let of = |id: u32| StreamClass::ALL.get(id as usize).copied();
    while let Ok(header) = PacketHeader::decode(input, of) {
        assert!(header.content_size <= header.packet_size && header.begin <= header.end);
        let bytes = header.encode();
        let size = header.stream_class.header_size() as usize;
        assert!(input.starts_with(&bytes[..size]), "it is written as it was read");
        let whole = usize::try_from(header.packet_size).unwrap_or(usize::MAX);
        let Some((packet, rest)) = input.split_at_checked(whole) else { break };
        input = rest;
        let content = &packet[..header.content_size as usize];
        let (mut cursor, mut end) = (Cursor::new(size, header.begin), size);
        while let Ok(Some(record)) = cursor.next(content, classes) {
            let (from, to) = record.payload;
            assert!(end + 4 <= from && from <= to && to <= content.len(), "{record:?} at {end}");
            end = to;
            records += 1;
            let Some(place) = record.class else { continue };
            let mut payload = &content[from..to];
            for field in &list[place].fields {
                let (v, rest) = value(&field.ty, payload).expect("a value for each field");
                payload = rest;
                values += 1;
                let Value::Elements(element, mut bytes) = v else { continue };
                while !bytes.is_empty() {
                    let (_, rest) = value(element, bytes).expect("whole elements");
                    assert!(rest.len() < bytes.len(), "elements have a size");
                    bytes = rest;
                    values += 1;
                }
            }
            assert!(payload.is_empty(), "fields fill the payload");
        }
    }
    (records, values)
}

/// The input of [`packet`] that this recipe stands for.
#[must_use]
pub fn packet_input(recipe: &[u8]) -> Vec<u8> {
    recipe::packets(&mut Unstructured::new(recipe)).unwrap_or_default()
}

/// The input of [`config`] that this recipe stands for: a configuration that is right, and the
/// damage done to it.
#[must_use]
pub fn config_input(recipe: &[u8]) -> Vec<u8> {
    recipe::config(&mut Unstructured::new(recipe)).unwrap_or_default()
}

/// The formats that [`kernel_page`] reads with, and the pages that recipes damage.
struct Recorded {
    texts: Vec<kernel::FormatText>,
    formats: Formats,
    pages: Vec<Vec<u8>>,
}

fn recorded() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let dir = kernel::fixtures();
        let texts = kernel::format_texts(&dir);
        let pages = kernel::recordings(&dir).into_iter().flat_map(|r| r.pages).flatten();
        Recorded { formats: kernel::formats(&texts), pages: pages.collect(), texts }
    })
}

/// Reads a page of the kernel's ring buffer; gives how many events there are. An input that
/// begins as a format does (`name:`) is one, up to a NUL, and the page behind it is read with
/// it; any other is a page, read with the formats of the fixtures.
///
/// # Panics
/// See the module; also where a payload is not its fields, exactly, where there are more events
/// than room for them, and where a second reading of the page gives something else.
pub fn kernel_page(input: &[u8]) -> usize {
    let input = &input[..input.len().min(LARGEST)];
    let recorded = recorded();
    let (events, held) = peak(|| {
        if !input.starts_with(b"name:") {
            return kernel_events(input, &recorded.formats);
        }
        let end = input.iter().position(|b| *b == 0).unwrap_or(input.len());
        let text = String::from_utf8_lossy(&input[..end]);
        let mut formats = Formats::new();
        match EventFormat::parse("s", "e", &text) {
            Ok(format) => _ = formats.add(format),
            Err(e) => assert!(!e.to_string().chars().any(char::is_control), "{e:?}"),
        }
        kernel_events(input.get(end + 1..).unwrap_or_default(), &formats)
    });
    let bound = rbpipe::fuzz::KERNEL.of(input.len());
    assert!(held <= bound, "{held} bytes held for {}: more than {bound}", input.len());
    events
}

fn kernel_events(page: &[u8], formats: &Formats) -> usize {
    let mut decoded = Decoded::default();
    decoded.read(page, formats);
    let counts = |d: &Decoded| (d.len(), d.unknown, d.short, d.damaged, d.broken);
    let first = counts(&decoded);
    decoded.read(page, formats);
    assert_eq!(first, counts(&decoded), "it is read again as it was");
    assert!(first.0 * 8 <= page.len(), "each event has a head and an id");
    let mut sum = 0;
    for i in 0..decoded.len() {
        let (_, place, payload) = decoded.event(i, page);
        let mut rest = payload;
        for field in &formats.get(place).class().fields {
            (_, rest) = value(&field.ty, rest).expect("a value for each field");
        }
        assert!(rest.is_empty(), "fields fill the payload");
        sum += payload.len();
    }
    // Its own bytes once, what is located in it once, and a count or a NUL for each of those.
    assert!(sum <= 3 * page.len(), "{sum} bytes of payloads in a page of {}", page.len());
    decoded.len()
}

/// The input of [`kernel_page`] that this recipe stands for: a page that was recorded, perhaps
/// with a format, and the damage done to them.
#[must_use]
pub fn kernel_input(recipe: &[u8]) -> Vec<u8> {
    let recorded = recorded();
    recipe::kernel(&mut Unstructured::new(recipe), &recorded.texts, &recorded.pages)
        .unwrap_or_default()
}

/// What a receiver of the link holds at once, whatever comes.
pub const LINK: usize = 24 << 20;

/// Takes what comes from a line; gives how many records there were. The first byte says what the
/// rest is: 0, what comes as it is; 1, bodies, each with its length (a little-endian `u16`) before
/// it, of which frames are made whose checksums are right; 2, a recipe for a sender, on a line that
/// loses nothing; 3, the same on one that damages; 4, the same, and the frames' contents are
/// damaged before their checksums are made.
///
/// # Panics
/// See the module; also where what arrives was not sent, or is not counted.
pub fn link(input: &[u8]) -> usize {
    let input = &input[..input.len().min(LARGEST)];
    let Some((kind, rest)) = input.split_first() else { return 0 };
    let mut cuts = Rng::with_seed(rest.len() as u64);
    let bytes = match kind {
        0 => rest.to_vec(),
        1 => bodies(rest),
        _ => {
            let mut u = Unstructured::new(rest);
            let Ok(sent) = link::sent(&mut u) else { return 0 };
            match kind {
                2 => {
                    sent.arrives_whole(&mut cuts);
                    return sent.streams.iter().map(|s| s.given.len()).sum();
                }
                3 => {
                    let Ok(bytes) = link::damaged(&mut u, &sent.wire) else { return 0 };
                    sent.arrives_in_part(&bytes, &mut cuts);
                    return sent.streams.iter().map(|s| s.given.len()).sum();
                }
                _ => link::forged(&mut u, &sent.bytes()).unwrap_or_default(),
            }
        }
    };
    let (arrived, health) = link::fed(&bytes, &mut cuts);
    let held = peak(|| link::held(&bytes)).1;
    assert!(held <= LINK, "{held} bytes held for {}", bytes.len());
    let (again, at_once) = link::fed(&bytes, &mut Rng::with_seed(cuts.u64(..)));
    assert_eq!(arrived.records, again.records, "cut another way");
    assert_eq!((arrived.text, health), (again.text, at_once), "cut another way");
    arrived.records.len()
}

/// Frames of the bodies that an input has.
fn bodies(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        out.extend(link::sealed(&rest[..length]));
        input = &rest[length..];
    }
    out
}
