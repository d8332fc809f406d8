//! Recorded events of one class, one file, compressed: what they are measured with that know no
//! ring (`benches/recordings`, see the README there).
//!
//! A file is text (packed with zstd, or as it is). A first line `rbpipe recording 1
//! SYSTEM:EVENT`; the kernel's own `format` of that event; a line `rows`; then the names of the
//! columns and a row for each event, with tabs between: `cpu`, `time` (CLOCK_MONOTONIC, ns), then
//! the event's fields in the order in which they lie in a sub-buffer, the common ones first.
//! Numbers are decimal. Text leaves out the NULs at its end; what is no printable ASCII, and `\`,
//! is `\xNN`. Rows are in the order of time, those of one CPU in the order in which they came.

pub mod bound;
pub mod wire;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbpipe::fuzz::EventFormat;
use rbpipe_backends::link::{LinkRecord, LinkStream};
use rbpipe_core::class::{EventClass, FieldType, Integer};
use rbpipe_core::decode::{Value, value};

const HEAD: &str = "rbpipe recording 1 ";
const ROWS: &str = "rows\n";

/// A recorded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// Where it happened.
    pub cpu: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// As it lies in a sub-buffer.
    pub payload: &'a [u8],
}

/// Events of one class, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// As `source.ftrace` makes it of the kernel's format.
    pub class: Arc<EventClass>,
    format: String,
    /// Bytes of a payload.
    size: usize,
    events: Vec<(u32, u64)>,
    payloads: Vec<u8>,
}

/// The folder of the recordings.
#[must_use]
pub fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/recordings")
}

/// The recording that is committed: a machine at work, `sched:sched_switch`.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn sched_switch() -> Recording {
    Recording::load(&recordings().join("sched_switch.zst")).unwrap_or_else(|e| panic!("{e}"))
}

/// What `RBPIPE_RECORDING` names, else the committed one.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn chosen() -> Recording {
    std::env::var_os("RBPIPE_RECORDING").map_or_else(sched_switch, |path| {
        Recording::load(Path::new(&path)).unwrap_or_else(|e| panic!("{e}"))
    })
}

impl Recording {
    /// Without an event yet, of the kernel's format of `SYSTEM:EVENT`.
    ///
    /// # Errors
    /// The format cannot be read, or payloads would have different sizes.
    pub fn new(name: &str, format: &str) -> Result<Self, String> {
        let (system, event) = name.split_once(':').ok_or("its name is not SYSTEM:EVENT")?;
        let class = EventFormat::parse(system, event, format).map_err(|e| e.to_string())?;
        let class = Arc::new(class.class().clone());
        let size = class.fixed_size().ok_or("its payloads have different sizes")?;
        if class.fields.iter().any(|f| kind(&f.ty).is_none()) {
            return Err("it has a field that is neither a number nor text".into());
        }
        let format = format.to_owned();
        Ok(Self { class, format, size, events: Vec::new(), payloads: Vec::new() })
    }

    /// Reads a file, packed with zstd or not.
    ///
    /// # Errors
    /// A sentence that names file and line.
    pub fn load(path: &Path) -> Result<Self, String> {
        let at = |e: String| format!("{}: {e}", path.display());
        let bytes = fs::read(path).map_err(|e| at(e.to_string()))?;
        let text = if bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            crate::kernel::unpack(&bytes[..]).map_err(at)?
        } else {
            bytes
        };
        Self::parse(&String::from_utf8_lossy(&text)).map_err(at)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A sentence that names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cut = "it does not begin as a recording does";
        let (name, rest) = text.strip_prefix(HEAD).and_then(|t| t.split_once('\n')).ok_or(cut)?;
        let (format, rows) = rest.split_once(&format!("\n{ROWS}")).ok_or("it has no rows")?;
        let mut this = Self::new(name.trim(), &format!("{format}\n"))?;
        let mut lines = rows.lines();
        if lines.next() != Some(&this.columns()) {
            return Err(format!("the columns are not {:?}", this.columns()));
        }
        for (n, line) in lines.enumerate() {
            let row = this.row(line);
            row.map_err(|e| format!("row {}: {e}", n + 1))?;
        }
        Ok(this)
    }

    /// The text of a file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}{}\n{}", self.class.name, self.format);
        out += ROWS;
        out += &self.columns();
        out.push('\n');
        for event in self.events() {
            let _ = write!(out, "{}\t{}", event.cpu, event.time);
            let mut rest = event.payload;
            for field in &self.class.fields {
                out.push('\t');
                let size = field.ty.fixed_size().expect("it has one");
                put_cell(&field.ty, &rest[..size], &mut out);
                rest = &rest[size..];
            }
            out.push('\n');
        }
        out
    }

    fn columns(&self) -> String {
        let names = self.class.fields.iter().map(|f| f.name.as_str());
        ["cpu", "time"].into_iter().chain(names).collect::<Vec<_>>().join("\t")
    }

    fn row(&mut self, line: &str) -> Result<(), String> {
        let mut cells = line.split('\t');
        let mut next = |name: &str| cells.next().ok_or(format!("`{name}` is missing"));
        let cpu = number(next("cpu")?)?;
        let time = number(next("time")?)?;
        let from = self.payloads.len();
        for field in &self.class.fields {
            let size = field.ty.fixed_size().ok_or("no size")?;
            let bytes = bytes_of(&field.ty, next(&field.name)?, size)
                .ok_or_else(|| format!("`{}` does not fit its field", field.name))?;
            self.payloads.extend(bytes);
        }
        if cells.next().is_some() {
            return Err("it has too many cells".into());
        }
        debug_assert_eq!(self.payloads.len() - from, self.size);
        self.ordered(cpu, time)
    }

    fn ordered(&mut self, cpu: u32, time: u64) -> Result<(), String> {
        if self.events.last().is_some_and(|(_, last)| *last > time) {
            return Err("it is earlier than the one before".into());
        }
        self.events.push((cpu, time));
        Ok(())
    }

    /// Adds an event behind the others.
    ///
    /// # Errors
    /// It is earlier than the last one, or its payload has another size.
    pub fn push(&mut self, event: Recorded<'_>) -> Result<(), String> {
        if event.payload.len() != self.size {
            return Err(format!("{} bytes, not {}", event.payload.len(), self.size));
        }
        self.ordered(event.cpu, event.time)?;
        self.payloads.extend_from_slice(event.payload);
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
    /// The event at this place.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn get(&self, i: usize) -> Recorded<'_> {
        let (cpu, time) = self.events[i];
        Recorded { cpu, time, payload: &self.payloads[i * self.size..(i + 1) * self.size] }
    }
    /// All of them, in the order of time.
    pub fn events(&self) -> impl Iterator<Item = Recorded<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }
    /// From the first to the last, nanoseconds.
    #[must_use]
    pub fn nanoseconds(&self) -> u64 {
        match (self.events.first(), self.events.last()) {
            (Some((_, first)), Some((_, last))) => last - first,
            _ => 0,
        }
    }
    /// The CPUs in it, in order.
    #[must_use]
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.events.iter().map(|(cpu, _)| *cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
    /// What a link is given: of each CPU its stream and its records, whose class is the first.
    #[must_use]
    pub fn link(&self) -> Vec<(LinkStream, Vec<LinkRecord<'_>>)> {
        let mut out: Vec<_> = (0..)
            .zip(self.cpus())
            .map(|(id, cpu)| {
                (LinkStream { channel: "trace".into(), id, cpu: Some(cpu) }, Vec::new())
            })
            .collect();
        for event in self.events() {
            let (_, records) =
                out.iter_mut().find(|(s, _)| s.cpu == Some(event.cpu)).expect("each CPU");
            let Recorded { time, payload, .. } = event;
            records.push(LinkRecord { time, class: 0, payload, lost_before: 0 });
        }
        out
    }
}

/// What a cell is: text of a fixed length, or a number.
enum Kind {
    Text,
    Number(Integer),
}

fn kind(ty: &FieldType) -> Option<Kind> {
    match ty {
        FieldType::Integer(i) | FieldType::Enumeration(i, _) => Some(Kind::Number(*i)),
        FieldType::Array(element, _) if **element == FieldType::Integer(Integer::CHAR) => {
            Some(Kind::Text)
        }
        _ => None,
    }
}

fn put_cell(ty: &FieldType, bytes: &[u8], out: &mut String) {
    if let Some(Kind::Text) = kind(ty) {
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        for b in &bytes[..end] {
            match b {
                b'\\' | 0..0x20 | 0x7F.. => {
                    let _ = write!(out, "\\x{b:02x}");
                }
                _ => out.push(char::from(*b)),
            }
        }
        return;
    }
    let _ = match value(ty, bytes) {
        Some((Value::Unsigned(v, _), _)) => write!(out, "{v}"),
        Some((Value::Signed(v, _), _)) => write!(out, "{v}"),
        Some((Value::Enum(v, _), _)) => write!(out, "{v}"),
        _ => unreachable!("`new` refuses others"),
    };
}

fn bytes_of(ty: &FieldType, cell: &str, size: usize) -> Option<Vec<u8>> {
    let mut bytes = match kind(ty)? {
        Kind::Text => unescape(cell)?,
        Kind::Number(i) => {
            let v: i128 = cell.parse().ok()?;
            let (low, high) = if i.signed {
                (-(1i128 << (i.bits - 1)), (1i128 << (i.bits - 1)) - 1)
            } else {
                (0, (1i128 << i.bits) - 1)
            };
            if v < low || v > high {
                return None;
            }
            v.to_le_bytes()[..size].to_vec()
        }
    };
    if bytes.len() > size {
        return None;
    }
    bytes.resize(size, 0);
    Some(bytes)
}

fn unescape(cell: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = cell;
    while let Some(c) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            out.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
            rest = &hex[2..];
        } else {
            out.push(u8::try_from(c).ok().filter(|b| b.is_ascii() && c != '\\')?);
            rest = &rest[1..];
        }
    }
    Some(out)
}

fn number<T: std::str::FromStr>(cell: &str) -> Result<T, String> {
    cell.parse().map_err(|_| format!("{cell:?} is no such number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: e\nID: 7\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:char comm[4];\toffset:2;\tsize:4;\tsigned:0;\n\
        \tfield:short n;\toffset:6;\tsize:2;\tsigned:1;\n\n\
        print fmt: \"%d\", REC->n\n";

    #[test]
    fn what_is_written_is_read() {
        let mut r = Recording::new("s:e", FORMAT).expect("a class");
        for (cpu, time, payload) in [
            (0, 5, [7, 0, b'a', 0, 0, 0, 0xFE, 0xFF]),
            (1, 5, [7, 0, 0, b'\\', b'\t', 0xFF, 1, 0]),
            (0, u64::MAX, [7, 0, b'a', b'b', b'c', b'd', 0, 0x80]),
        ] {
            r.push(Recorded { cpu, time, payload: &payload }).expect("it fits");
        }
        let text = r.text();
        assert!(text.ends_with(
            "rows\ncpu\ttime\tcommon_type\tcomm\tn\n0\t5\t7\ta\t-2\n1\t5\t7\t\\x00\\x5c\\x09\\xff\t1\n\
             0\t18446744073709551615\t7\tabcd\t-32768\n"
        ));
        assert_eq!(Recording::parse(&text), Ok(r.clone()));
        assert_eq!(r.link().iter().map(|(_, records)| records.len()).collect::<Vec<_>>(), [2, 1]);
        for (from, to, said) in [
            ("abcd", "abcde", "row 3: `comm` does not fit its field"),
            ("-32768", "-32769", "row 3: `n` does not fit its field"),
            ("\ta\t", "\ta\\x9\t", "row 1: `comm` does not fit its field"),
            ("1\t5", "1\t4", "row 2: it is earlier than the one before"),
            ("\tcomm", "", "the columns are not"),
            ("recording 1", "recording 2", "it does not begin"),
        ] {
            let e = Recording::parse(&text.replacen(from, to, 1)).expect_err(from);
            assert!(e.starts_with(said), "{e}");
        }
    }
}
