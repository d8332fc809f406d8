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
            let (_, behind) = line.split_once(" [")?;
            let (cpu, behind) = behind.split_once("] ")?;
            let (flags, behind) = behind.split_once(' ')?;
            let (time, rest) = behind.trim_start().split_once(": ")?;
            Some(Line { cpu: cpu.parse().ok()?, flags, time, rest, more: 0 })
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
