//! Records as lines for a terminal: minicom, picocom, screen.
//!
//! ```text
//! [   12.345678] cpu0 sched:sched_switch prev_comm="bash" prev_pid=12 prev_state=S(1) next_pid=0
//! !lost 12 cpu0
//! ```
//!
//! Nothing but printable ASCII, CR LF and, with `colour`, our own colours leaves here: no record
//! can drive the terminal, one that takes eight-bit controls (a byte of UTF-8) neither.

use std::io::Write;
use std::sync::Arc;

use rbpipe_core::class::{Base, EventClass, Integer, LogLevel};
use rbpipe_core::decode::{Value, value};

use super::level;
use crate::link::LinkRecord;

/// A line is cut after so many bytes.
const LONGEST: usize = 1000;

/// How lines are made.
pub(super) struct Lines {
    /// Nanoseconds of a step, and the digits that it needs.
    tick: u64,
    digits: usize,
    /// Bytes that go out at once.
    frame: usize,
    colour: bool,
    /// Lines in them: a mean of the last ones, in 16ths.
    typical: usize,
}

impl Lines {
    /// With times in steps of `tick` nanoseconds.
    pub(super) fn new(tick: u64, frame: usize, colour: bool) -> Self {
        let tick = tick.max(1);
        // 1 us: 6; 1 ns: 9; 30 us: 5, which tells them apart.
        let digits = 9 - tick.ilog10() as usize;
        Self { tick, digits, frame, colour, typical: 3 * 16 }
    }

    /// Lines that go out at once, at a guess.
    pub(super) fn typical(&self) -> usize {
        self.typical.div_ceil(16)
    }

    /// As many of these records as fit into a frame, at least one. Gives how many.
    pub(super) fn frame(
        &mut self,
        cpu: Option<u32>,
        classes: &[Arc<EventClass>],
        records: &[LinkRecord<'_>],
        out: &mut Vec<u8>,
    ) -> usize {
        let begin = out.len();
        let mut taken = 0;
        for record in records {
            let before = out.len();
            if record.lost_before > 0 {
                self.lost(record.lost_before, cpu, out);
            }
            if let Some(class) = classes.get(record.class) {
                self.line(cpu, class, record, out);
            }
            if taken > 0 && out.len() - begin > self.frame {
                out.truncate(before);
                break;
            }
            taken += 1;
        }
        // Where there were more.
        if taken < records.len() {
            self.typical = (self.typical * 7 + taken * 16) / 8;
        } else {
            self.typical = self.typical.max(taken * 16);
        }
        taken
    }

    /// So many are missing here.
    pub(super) fn lost(&self, count: u64, cpu: Option<u32>, out: &mut Vec<u8>) {
        let _ = write!(out, "!lost {count}");
        if let Some(cpu) = cpu {
            let _ = write!(out, " cpu{cpu}");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A line of ours that is no record.
    pub(super) fn reply(&self, line: &str, out: &mut Vec<u8>) {
        out.push(b'!');
        inner_text(out, line.as_bytes(), b"", LONGEST);
        out.extend_from_slice(b"\r\n");
    }

    fn line(
        &self,
        cpu: Option<u32>,
        class: &EventClass,
        record: &LinkRecord<'_>,
        out: &mut Vec<u8>,
    ) {
        let colour = if self.colour { colour(level::of(class)) } else { "" };
        out.extend_from_slice(colour.as_bytes());
        let begin = out.len();
        let time = record.time - record.time % self.tick;
        let (seconds, rest) = (time / 1_000_000_000, time % 1_000_000_000);
        let fraction = format!("{rest:09}");
        let _ = write!(out, "[{seconds:5}.{}] ", &fraction[..self.digits]);
        if let Some(cpu) = cpu {
            let _ = write!(out, "cpu{cpu} ");
        }
        if let Some(level) = class.level {
            let _ = write!(out, "{} ", level::name(level));
        }
        inner_text(out, class.name.as_bytes(), b"", begin + LONGEST);
        let mut rest = record.payload;
        for field in &class.fields {
            if out.len() - begin > LONGEST {
                break;
            }
            let Some((v, next)) = value(&field.ty, rest) else { break };
            rest = next;
            let _ = write!(out, " {}=", field.name);
            put(out, &v, begin + LONGEST);
        }
        if out.len() - begin > LONGEST {
            out.truncate(begin + LONGEST);
            out.extend_from_slice(b" ...");
        }
        if !colour.is_empty() {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn colour(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Emergency | LogLevel::Alert | LogLevel::Critical => "\x1b[1;31m",
        LogLevel::Error => "\x1b[31m",
        LogLevel::Warning => "\x1b[33m",
        LogLevel::Notice => "\x1b[1m",
        LogLevel::Info => "",
        _ => "\x1b[2m",
    }
}

/// A value; stops soon after `end` bytes.
fn put(out: &mut Vec<u8>, v: &Value<'_>, end: usize) {
    let _ = match *v {
        Value::Unsigned(v, i) => based(out, v, i.base),
        Value::Signed(v, Integer { base: Base::Decimal, .. }) => write!(out, "{v}"),
        Value::Signed(v, i) => {
            let mask = u64::MAX >> (64 - u32::from(i.bits.clamp(1, 64)));
            based(out, v.cast_unsigned() & mask, i.base)
        }
        Value::Float(v) => write!(out, "{v}"),
        Value::Text(t) => {
            out.push(b'"');
            inner_text(out, t, b"\"\\", end);
            out.push(b'"');
            Ok(())
        }
        Value::Enum(v, None) => write!(out, "{v}"),
        Value::Enum(v, Some(label)) => {
            inner_text(out, label.as_bytes(), b" ", end);
            write!(out, "({v})")
        }
        Value::Elements(element, mut bytes) => {
            let mut between = b'[';
            while let (true, Some((v, next))) = (out.len() < end, value(element, bytes)) {
                out.push(between);
                between = b',';
                put(out, &v, end);
                // Elements of no size would be without end.
                if next.len() == bytes.len() {
                    break;
                }
                bytes = next;
                if bytes.is_empty() {
                    break;
                }
            }
            if between == b'[' {
                out.push(b'[');
            }
            out.push(b']');
            Ok(())
        }
    };
}

fn based(out: &mut Vec<u8>, v: u64, base: Base) -> std::io::Result<()> {
    match base {
        Base::Decimal => write!(out, "{v}"),
        Base::Hexadecimal => write!(out, "{v:#x}"),
        Base::Octal => write!(out, "0{v:o}"),
        Base::Binary => write!(out, "{v:#b}"),
    }
}

/// Text as printable ASCII: control characters, what is no ASCII and what is no text are written
/// out, as `rbpipe read` writes those that it does not print; these characters get a `\` before
/// them. Stops soon after `end` bytes.
fn inner_text(out: &mut Vec<u8>, bytes: &[u8], escaped: &[u8], end: usize) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if out.len() > end {
                return;
            }
            match c {
                ' '..='~' => {
                    if escaped.contains(&(c as u8)) {
                        out.push(b'\\');
                    }
                    out.push(c as u8);
                }
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.extend_from_slice(b"\\t"),
                c => _ = write!(out, "\\u{{{:x}}}", c as u32),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbpipe_core::class::{Field, FieldType, Label};

    fn one(class: EventClass, payload: &[u8], colour: bool) -> String {
        let record = LinkRecord { time: 12_345_678_901, class: 0, payload, lost_before: 3 };
        let mut out = Vec::new();
        let mut lines = Lines::new(1000, 254, colour);
        assert_eq!(lines.frame(Some(1), &[Arc::new(class)], &[record], &mut out), 1);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_when_where_what() {
        let label = Label { name: "S".into(), first: 1, last: 1 };
        let class = EventClass::new(
            "sched:sched_switch",
            vec![
                Field::new(
                    "comm",
                    FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 4),
                ),
                Field::new("state", FieldType::Enumeration(Integer::unsigned(8), vec![label])),
                Field::new(
                    "mask",
                    FieldType::Integer(Integer::unsigned(16).base(Base::Hexadecimal)),
                ),
                Field::new("bytes", FieldType::Sequence(Box::new(FieldType::U8))),
                Field::new("none", FieldType::Sequence(Box::new(FieldType::U8))),
            ],
        );
        let payload = b"sh\0\0\x01\xfe\xca\x02\0\0\0\x07\x09\0\0\0\0";
        assert_eq!(
            one(class.clone(), payload, false),
            "!lost 3 cpu1\r\n[   12.345678] cpu1 sched:sched_switch comm=\"sh\" state=S(1) \
             mask=0xcafe bytes=[7,9] none=[]\r\n"
        );
        let loud = one(class.level(LogLevel::Error), payload, true);
        assert!(loud.contains("\x1b[31m[   12.345678] cpu1 error sched:"), "{loud:?}");
        assert!(loud.ends_with("none=[]\x1b[0m\r\n"), "{loud:?}");
    }

    /// Goal: whatever is in a record, its line is printable ASCII and ends. Method: every byte
    /// value, and every character that could begin a control sequence, in names, text and labels.
    #[test]
    fn no_record_drives_the_terminal() {
        let mut nasty: Vec<u8> = (1..=255).collect();
        nasty.extend("\u{1b}[2J\u{9b}31m\u{db}\u{202e}\u{7f}\r\n".as_bytes());
        nasty.push(0);
        let class = EventClass::new(
            "caf\u{e9}\u{9b}".replace('\u{9b}', "\u{db}"),
            vec![Field::new("t", FieldType::String)],
        );
        let text = one(class, &nasty, false);
        let line = text.strip_suffix("\r\n").unwrap().strip_prefix("!lost 3 cpu1\r\n").unwrap();
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        assert!(line.contains("\\u{1b}[2J\\u{9b}31m\\u{db}"), "{line}");
    }

    #[test]
    fn a_line_is_bounded_and_so_is_the_work_for_it() {
        let class = EventClass::new(
            "e",
            vec![
                Field::new("b", FieldType::Sequence(Box::new(FieldType::U8))),
                Field::new("t", FieldType::String),
            ],
        );
        let mut payload = (50_000_000u32).to_le_bytes().to_vec();
        payload.resize(4 + 50_000_000, 200);
        payload.extend(b"end\0");
        let begin = std::time::Instant::now();
        let text = one(class, &payload, false);
        assert!(text.len() < LONGEST + 40 && text.ends_with(" ...\r\n"), "{}", text.len());
        assert!(begin.elapsed().as_millis() < 100);
    }

    #[test]
    fn lines_fill_a_frame_and_no_more() {
        let class = Arc::new(EventClass::new("event:name", vec![]));
        let record = LinkRecord { time: 1, class: 0, payload: &[], lost_before: 0 };
        let (mut lines, mut out) = (Lines::new(1000, 254, false), Vec::new());
        for _ in 0..40 {
            out.clear();
            let taken = lines.frame(None, &[Arc::clone(&class)], &[record; 50], &mut out);
            assert!(out.len() <= 254 && out.len() > 200, "{}", out.len());
            assert_eq!(out.iter().filter(|b| **b == b'\n').count(), taken);
        }
        assert_eq!(lines.typical(), 9);
    }
}
