//! How events are printed: text for people, JSON for programs.
//!
//! Written for speed: events are put one after the other into one buffer, what is the same
//! for all events of a class is made once ([`Plan`]), integers go without the formatting
//! machinery, and the seconds' text is made once per second of the trace.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use rbpipe_core::class::{Base, EventClass, FieldType, Integer};
use rbpipe_core::decode::{Value, raw, value};
use rbpipe_core::packet::StreamClass;

use super::Format;
use super::event::{Event, Lost};
use super::merge::Print;

/// Bytes that are gathered before they are written.
pub(super) const BUFFER: usize = 256 << 10;

/// Prints events.
pub struct Printer {
    format: Format,
    line: Vec<u8>,
    second: u64,
    second_text: [u8; 8],
    last: Option<u64>,
    plans: Vec<Plan>,
    /// Where a class's plan is, by the class's address (which its plan keeps).
    places: HashMap<(usize, StreamClass), usize>,
    /// Text of others stands there, and its line has no end.
    open_line: bool,
    /// The last one asked for: events come in runs.
    recent: ((usize, StreamClass), usize),
}

/// What is the same for all events of a class.
struct Plan {
    class: Arc<EventClass>,
    /// Before the first value that changes.
    head: Vec<u8>,
    /// Before each field's value, what stands before its length if it is a sequence.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Plan {
    fn new(class: &Arc<EventClass>, json: bool, stream: StreamClass) -> Self {
        let mut head = Vec::new();
        if json {
            head.extend_from_slice(b",\"name\":");
            json_text(&mut head, class.name.as_bytes());
            head.extend_from_slice(b",\"fields\":{");
        } else {
            // Of our own making it has no control character; this text may be of another's.
            inner_text(&mut head, class.name.as_bytes(), b"");
            head.extend_from_slice(match stream {
                StreamClass::Cpu => b": { cpu_id = ",
                StreamClass::Thread => b": { tid = ",
                StreamClass::Plain => b": { ",
            });
        }
        let fields = class.fields.iter().enumerate().map(|(i, field)| {
            let comma: &str = match (i, json) {
                (0, _) => "",
                (_, true) => ",",
                (_, false) => ", ",
            };
            // Field names are C identifiers: nothing to escape.
            let name = |comma: &str, name: &str| {
                if json {
                    format!("{comma}\"{name}\":").into_bytes()
                } else {
                    format!("{comma}{name} = ").into_bytes()
                }
            };
            if matches!(field.ty, FieldType::Sequence(_)) {
                let after = if json { "," } else { ", " };
                (name(comma, &format!("_{}_length", field.name)), name(after, &field.name))
            } else {
                (Vec::new(), name(comma, &field.name))
            }
        });
        Self { class: Arc::clone(class), head, fields: fields.collect() }
    }
}

impl Printer {
    /// In this format.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            line: Vec::with_capacity(BUFFER + 4096),
            second: u64::MAX,
            second_text: *b"00:00:00",
            last: None,
            plans: Vec::new(),
            places: HashMap::new(),
            open_line: false,
            recent: ((0, StreamClass::Plain), 0),
        }
    }

    /// The place of the plan of this class.
    fn plan(&mut self, class: &Arc<EventClass>, stream: StreamClass) -> usize {
        let key = (Arc::as_ptr(class) as usize, stream);
        if self.recent.0 != key {
            let json = self.format == Format::Json;
            let plans = &mut self.plans;
            let place = *self.places.entry(key).or_insert_with(|| {
                plans.push(Plan::new(class, json, stream));
                plans.len() - 1
            });
            self.recent = (key, place);
        }
        self.recent.1
    }

    /// Text of others, as it is: events begin lines of their own.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn text(&mut self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        self.line.extend_from_slice(bytes);
        self.open_line = bytes.last().map_or(self.open_line, |last| *last != b'\n');
        flush_if_full(&mut self.line, out)
    }

    fn begin_line(&mut self) {
        if std::mem::take(&mut self.open_line) {
            self.line.push(b'\n');
        }
    }

    /// `[HH:MM:SS.nnnnnnnnn] (+S.nnnnnnnnn) `, UTC.
    fn stamp(&mut self, time: u64) {
        let (second, ns) = (time / 1_000_000_000, time % 1_000_000_000);
        if second != self.second {
            self.second = second;
            for (at, n) in [(0, second / 3600 % 24), (3, second / 60 % 60), (6, second % 60)] {
                self.second_text[at] = b'0' + (n / 10) as u8;
                self.second_text[at + 1] = b'0' + (n % 10) as u8;
            }
        }
        self.line.push(b'[');
        self.line.extend_from_slice(&self.second_text);
        self.line.push(b'.');
        nine(&mut self.line, ns);
        self.line.extend_from_slice(b"] (+");
        match self.last.replace(time) {
            None => self.line.extend_from_slice(b"?.?????????"),
            Some(last) => {
                let delta = time.saturating_sub(last);
                number(&mut self.line, delta / 1_000_000_000);
                self.line.push(b'.');
                nine(&mut self.line, delta % 1_000_000_000);
            }
        }
        self.line.extend_from_slice(b") ");
    }
}

impl Print for Printer {
    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.line)?;
        self.line.clear();
        out.flush()
    }

    fn lost(&mut self, out: &mut impl Write, lost: &Lost) -> io::Result<()> {
        if self.format != Format::Text {
            return Ok(());
        }
        let Lost { from, events, packets, on_the_way } = *lost;
        self.begin_line();
        self.line.extend_from_slice(b"!lost ");
        if events > 0 {
            number(&mut self.line, events);
            self.line.extend_from_slice(b" events ");
        }
        if packets > 0 {
            number(&mut self.line, packets);
            self.line.extend_from_slice(b" packets ");
        }
        self.line.extend_from_slice(b"(stream ");
        number(&mut self.line, from.stream);
        if let Some(cpu) = from.cpu() {
            self.line.extend_from_slice(b", cpu ");
            number(&mut self.line, cpu.into());
        }
        self.line.push(b')');
        let (at_the_sender, on_the_line) = on_the_way.unwrap_or_default();
        for (n, before, what) in [
            (at_the_sender, ": ".as_bytes(), " at the sender"),
            (on_the_line, if at_the_sender > 0 { b", " } else { b": " }, " on the line"),
        ] {
            if n > 0 {
                self.line.extend_from_slice(before);
                number(&mut self.line, n);
                self.line.extend_from_slice(what.as_bytes());
            }
        }
        self.line.push(b'\n');
        flush_if_full(&mut self.line, out)
    }

    fn event(&mut self, out: &mut impl Write, event: &Event<'_>) -> io::Result<()> {
        let Event { time, from, class, payload } = *event;
        self.begin_line();
        let plan = self.plan(class, from.class);
        let json = self.format == Format::Json;
        if json {
            self.line.extend_from_slice(b"{\"time\":");
            number(&mut self.line, time);
            self.line.extend_from_slice(b",\"stream\":");
            number(&mut self.line, from.stream);
            self.line.extend_from_slice(b",\"cpu\":");
            if let Some(cpu) = from.cpu() {
                number(&mut self.line, cpu.into());
            } else {
                self.line.extend_from_slice(b"null");
            }
        } else {
            self.stamp(time);
        }
        let (line, plan) = (&mut self.line, &self.plans[plan]);
        line.extend_from_slice(&plan.head);
        if !json && from.class != StreamClass::Plain {
            number(line, from.number.into());
            line.extend_from_slice(b" }, { ");
        }
        let mut rest = payload;
        for (field, (length, name)) in plan.class.fields.iter().zip(&plan.fields) {
            if let (false, Some(n)) = (length.is_empty(), rest.first_chunk::<4>()) {
                line.extend_from_slice(length);
                number(line, u32::from_le_bytes(*n).into());
            }
            line.extend_from_slice(name);
            // Most fields, without a `Value` in between.
            if let FieldType::Integer(i @ Integer { signed: false, .. }) = &field.ty {
                let Some((v, next)) = raw(i.size(), rest) else { break };
                rest = next;
                if json || i.base == Base::Decimal {
                    number(line, v);
                } else {
                    based(line, v, *i);
                }
                continue;
            }
            let Some((v, next)) = value(&field.ty, rest) else { break };
            rest = next;
            put(line, out, json, &v)?;
        }
        line.extend_from_slice(match (json, plan.class.fields.is_empty()) {
            (true, _) => b"}}\n",
            (false, true) => b"}\n",
            (false, false) => b" }\n",
        });
        flush_if_full(&mut self.line, out)
    }
}

/// Writes what is gathered if it is much. Also within an event: its elements may have labels
/// of any length, and all together could be as many times what the trace's files take.
pub(super) fn flush_if_full(line: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    if line.len() >= BUFFER {
        out.write_all(line)?;
        line.clear();
    }
    Ok(())
}

pub(super) fn put(
    out: &mut Vec<u8>,
    to: &mut impl Write,
    json: bool,
    v: &Value<'_>,
) -> io::Result<()> {
    match *v {
        Value::Unsigned(v, i) if json || i.base == Base::Decimal => number(out, v),
        Value::Unsigned(v, i) => based(out, v, i),
        Value::Signed(v, i) if json || i.base == Base::Decimal => signed(out, v),
        Value::Signed(v, i) => {
            let mask = u64::MAX >> (64 - u32::from(i.bits.max(1)));
            based(out, v.cast_unsigned() & mask, i);
        }
        Value::Float(v) if json && !v.is_finite() => out.extend_from_slice(b"null"),
        Value::Float(v) => {
            let _ = write!(out, "{v}");
        }
        Value::Text(t) if json => json_text(out, t),
        Value::Text(t) => text(out, t),
        Value::Enum(v, label) => match (label, json) {
            (Some(label), true) => json_text(out, label.as_bytes()),
            (None, true) => {
                let _ = write!(out, "{v}");
            }
            (label, false) => {
                out.extend_from_slice(b"( ");
                match label {
                    Some(label) => text(out, label.as_bytes()),
                    None => out.extend_from_slice(b"<unknown>"),
                }
                let _ = write!(out, " : container = {v} )");
            }
        },
        Value::Elements(element, bytes) => elements(out, to, json, element, bytes)?,
    }
    Ok(())
}

fn elements(
    out: &mut Vec<u8>,
    to: &mut impl Write,
    json: bool,
    element: &FieldType,
    bytes: &[u8],
) -> io::Result<()> {
    let comma: &[u8] = if json { b"," } else { b", " };
    out.extend_from_slice(if json { b"[" } else { b"[ " });
    if let FieldType::Integer(Integer { bits: 8, signed: false, base: Base::Decimal, .. }) = element
    {
        // Bytes, the longest fields there are: room for many, then no more checks.
        for (n, bytes) in bytes.chunks(BUFFER / 8).enumerate() {
            flush_if_full(out, to)?;
            out.reserve(bytes.len() * 5);
            for (i, b) in bytes.iter().enumerate() {
                if n + i > 0 {
                    out.extend_from_slice(comma);
                }
                match *b {
                    b @ 0..10 => out.push(b'0' + b),
                    b @ 10..100 => out.extend_from_slice(&PAIRS[b as usize]),
                    b => {
                        out.push(b'0' + b / 100);
                        out.extend_from_slice(&PAIRS[(b % 100) as usize]);
                    }
                }
            }
        }
    } else {
        let mut rest = bytes;
        let mut first = true;
        while let (false, Some((v, next))) = (rest.is_empty(), value(element, rest)) {
            if !first {
                out.extend_from_slice(comma);
            }
            first = false;
            put(out, to, json, &v)?;
            flush_if_full(out, to)?;
            rest = next;
        }
    }
    out.extend_from_slice(if json { b"]" } else { b" ]" });
    Ok(())
}

fn based(out: &mut Vec<u8>, v: u64, i: Integer) {
    let _ = match i.base {
        Base::Hexadecimal => {
            out.extend_from_slice(b"0x");
            let digits = (64 - v.leading_zeros()).div_ceil(4).max(1);
            out.extend(
                (0..digits).rev().map(|d| b"0123456789abcdef"[(v >> (4 * d) & 15) as usize]),
            );
            Ok(())
        }
        Base::Octal => write!(out, "0{v:o}"),
        Base::Binary => write!(out, "{v:#b}"),
        Base::Decimal => write!(out, "{v}"),
    };
}

pub(super) fn signed(out: &mut Vec<u8>, v: i64) {
    if v < 0 {
        out.push(b'-');
    }
    number(out, v.unsigned_abs());
}

/// A number in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut v: u64) {
    if v < 10 {
        out.push(b'0' + v as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while v >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(v % 100) as usize]);
        v /= 100;
    }
    if v >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[v as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + v as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// 00 to 99: two digits for one division.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Nine digits of a number below 10^9.
fn nine(out: &mut Vec<u8>, v: u64) {
    let mut v = v as u32;
    let mut digits = [0; 9];
    for at in [7, 5, 3, 1] {
        digits[at..at + 2].copy_from_slice(&PAIRS[(v % 100) as usize]);
        v /= 100;
    }
    digits[0] = b'0' + (v % 10) as u8;
    out.extend_from_slice(&digits);
}

/// Text in quotes; no byte of it can drive a terminal.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    inner_text(out, bytes, b"\"\\");
    out.push(b'"');
}

/// The same without quotes; these ASCII characters, too, get a `\` before them.
fn inner_text(out: &mut Vec<u8>, bytes: &[u8], escaped: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_ascii() && escaped.contains(&(c as u8)) => {
                    out.push(b'\\');
                    out.push(c as u8);
                }
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() => {
                    let _ = write!(out, "\\u{{{:x}}}", c as u32);
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02X}");
        }
    }
}

pub(super) fn json_text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\\' => {
                out.push(b'\\');
                out.push(c as u8);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for v in [0, 9, 10, 99, 12_345_678_901, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, v);
            assert_eq!(String::from_utf8(out).unwrap(), v.to_string());
        }
        let mut out = Vec::new();
        signed(&mut out, i64::MIN);
        nine(&mut out, 42);
        assert_eq!(out, b"-9223372036854775808000000042");
    }

    #[test]
    fn text_cannot_drive_a_terminal() {
        let mut out = Vec::new();
        text(&mut out, b"a\x1b[2J\xff\"\n");
        assert_eq!(out, b"\"a\\u{1b}[2J\\xFF\\\"\\n\"");
        let mut out = Vec::new();
        json_text(&mut out, b"\x1b\"\xff");
        let back: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(back, "\x1b\"\u{fffd}");
    }
}
