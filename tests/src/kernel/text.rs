//! The kernel's text of an instance: its lines, taken apart.

/// A line of `options/raw`: what it says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// `common_pid`.
    pub pid: i32,
    /// The CPU.
    pub cpu: usize,
    /// The event's time, whole.
    pub time: u64,
    /// The event's id, or the text of a marker.
    pub rest: &'a str,
}

/// A line of the other forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `common_pid`.
    pub pid: i32,
    /// The CPU.
    pub cpu: usize,
    /// `d..2.`: the common flags and counts.
    pub flags: &'a str,
    /// As it is printed.
    pub time: &'a str,
    /// All behind the time.
    pub rest: &'a str,
    /// Lines that belong to it (a stack).
    pub more: usize,
}

/// The lines of `options/raw`, in order.
///
/// # Panics
/// A line is none.
#[must_use]
pub fn raw(text: &str) -> Vec<Raw<'_>> {
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("CPU:"));
    lines
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            let mut next = || words.next().unwrap_or_else(|| panic!("{line:?}"));
            Raw {
                pid: next().parse().expect("a pid"),
                cpu: next().parse().expect("a cpu"),
                time: next().parse().expect("a time"),
                rest: next(),
            }
        })
        .collect()
}

/// The lines of the other forms, in order.
///
/// # Panics
/// A line is none.
#[must_use]
pub fn lines(text: &str) -> Vec<Line<'_>> {
    let mut out: Vec<Line<'_>> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("CPU:")) {
        if line.starts_with(" => ") {
            out.last_mut().expect("a stack belongs to a line").more += 1;
            continue;
        }
        let taken = (|| {
            // A name may hold anything, this too: the CPU is the last one before the first `] `.
            let (before, _) = line.split_once("] ")?;
            let (task, cpu) = before.rsplit_once(" [")?;
            let pid = task.trim_end().rsplit_once('-')?.1.parse().ok()?;
            let behind = &line[before.len() + 2..];
            let (flags, behind) = behind.split_once(' ')?;
            let (time, rest) = behind.trim_start().split_once(": ")?;
            Some(Line { pid, cpu: cpu.parse().ok()?, flags, time, rest, more: 0 })
        })();
        out.push(taken.unwrap_or_else(|| panic!("{line:?}")));
    }
    out
}

/// Events that were lost before, as the text says it: for each CPU that it names.
#[must_use]
pub fn lost(text: &str) -> Vec<(usize, u64)> {
    let told = |line: &str| {
        let (cpu, rest) = line.strip_prefix("CPU:")?.split_once(" [LOST ")?;
        Some((cpu.parse().ok()?, rest.split_once(' ')?.0.parse().ok()?))
    };
    text.lines().filter_map(told).collect()
}

/// How the kernel prints `common_flags` and `common_preempt_count`.
#[must_use]
pub fn flags(flags: u8, count: u8) -> String {
    let set = |bit: u8| flags & bit != 0;
    let irqs = match (set(0x01), set(0x80)) {
        (true, true) => 'D',
        (true, false) => 'd',
        (false, true) => 'b',
        (false, false) => '.',
    };
    let resched = match (set(0x04), set(0x20), set(0x02)) {
        (true, true, true) => 'B',
        (true, true, false) => 'N',
        (false, true, true) => 'L',
        (true, false, true) => 'b',
        (true, false, false) => 'n',
        (false, true, false) => 'p',
        (false, false, true) => 'l',
        (false, false, false) => '.',
    };
    let context = match (set(0x40), set(0x08), set(0x10)) {
        (true, true, _) => 'Z',
        (true, false, _) => 'z',
        (false, true, true) => 'H',
        (false, true, false) => 'h',
        (false, false, true) => 's',
        (false, false, false) => '.',
    };
    let digit = |n: u8| if n == 0 { ".".to_owned() } else { format!("{n:x}") };
    format!("{irqs}{resched}{context}{}{}", digit(count & 15), digit(count >> 4))
}

/// A value, as far as the text shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A string, or an array of text.
    Text(String),
    /// A number's bytes, little-endian.
    Number(Vec<u8>),
    /// The bytes of an array of numbers, of a fixed length or of one that the event says.
    Elements {
        /// The format says how many.
        fixed: bool,
        /// All of them.
        bytes: Vec<u8>,
    },
}

/// What follows `NAME:`.
#[must_use]
pub fn printed_name<'a>(printed: &'a str, name: &str) -> Option<&'a str> {
    let (_, event) = name.split_once(':')?;
    printed.strip_prefix(event)?.strip_prefix(':')
}

/// Holds ` NAME=VALUE…`, as `options/fields` prints it, against the values; gives how many were
/// compared.
///
/// # Errors
/// The first one that is not as it is printed.
pub fn printed_fields(mut rest: &str, values: &[(&str, Shown)]) -> Result<u32, String> {
    let mut compared = 0;
    for (name, value) in values.iter().filter(|v| !v.0.starts_with("common_")) {
        let whole = rest;
        let missing = || format!("{name}, which is {value:?}, at {whole:?}");
        let printed = whole.strip_prefix(&format!(" {name}=")).ok_or_else(missing)?;
        let after = |expected: &str| printed.strip_prefix(expected);
        compared += 1;
        let found = match value {
            Shown::Text(text) => after(text),
            // Of arrays of a fixed length the kernel shows nothing.
            Shown::Elements { fixed: true, bytes } if !matches!(bytes.len(), 2 | 4 | 8) => {
                compared -= 1;
                after("<INVALID-SIZE>").or_else(|| after("<INVALID-TYPE>"))
            }
            Shown::Elements { fixed: true, bytes } => after(&number(bytes)),
            Shown::Elements { fixed: false, bytes } => {
                let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
                after(&hex.join(","))
            }
            Shown::Number(bytes) => {
                let shown = number(bytes);
                let decimal = shown.split_once('(').map_or("", |(_, decimal)| decimal);
                // Of an address the name of its function comes first; a string that is not in
                // the event is shown by where it was.
                let symbol = || {
                    let (_, behind) = printed.split_once(' ')?;
                    behind.strip_prefix('(')?.strip_prefix(decimal)
                };
                let elsewhere = || {
                    compared -= 1;
                    printed.strip_prefix("(0x")?.split_once(')').map(|(_, behind)| behind)
                };
                after(&shown).or_else(symbol).or_else(elsewhere)
            }
        };
        rest = found.ok_or_else(missing)?;
    }
    if rest.trim_end().is_empty() { Ok(compared) } else { Err(format!("{rest:?} is left")) }
}

/// A number, as `options/fields` shows one of so many bytes.
#[must_use]
pub fn number(bytes: &[u8]) -> String {
    let raw = bytes.iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    match bytes.len() {
        8 => format!("0x{raw:x} ({})", raw.cast_signed()),
        4 => format!("0x{raw:x} ({})", raw as i32),
        2 => format!("0x{raw:x} ({raw})"),
        _ => format!("({raw})"),
    }
}
