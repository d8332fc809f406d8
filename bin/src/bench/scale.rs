//! How the cost of a record grows: one thing at a time, from one usual ring.

use rbpipe_core::frontend::Mode;

use super::case::{Case, StreamKind};
use super::report::{Row, Spread};
use super::subject::Subject;

/// Bytes of each record.
pub const PAYLOAD: usize = 32;

/// Something that grows.
pub struct Axis {
    /// For people.
    pub name: &'static str,
    /// What its numbers are.
    pub below: &'static str,
    /// Where its cost may bend.
    pub bends: &'static [Bend],
    /// What it takes to be so much of it.
    values: &'static [u64],
    set: fn(Case, u64) -> Case,
    /// How much of it a row has.
    pub get: fn(&Row) -> u64,
}

/// Where the cost bends, and why; shown only where it was measured to.
pub struct Bend {
    /// Between these two …
    low: u64,
    high: u64,
    /// … there, it is so many times as much at the costlier one.
    pub at: u64,
    times: f64,
    pub why: &'static str,
}

impl Bend {
    /// Whether this line bends there.
    pub fn is_in(&self, line: &[(u64, Spread)]) -> bool {
        let at = |n: u64| line.iter().find(|(v, _)| *v == n).map(|(_, ns)| ns);
        let (Some(low), Some(high)) = (at(self.low), at(self.high)) else { return false };
        let (less, more) = if low.median < high.median { (low, high) } else { (high, low) };
        more.median > less.median * self.times && more.min > less.median
    }
}

/// All that grows. In overwrite mode no record is lost, so that all have a cost.
pub const AXES: [Axis; 5] = [
    Axis {
        name: "writers",
        below: "threads that write, each into a stream of its own",
        bends: &[],
        values: &[1, 2, 4, 8],
        set: |c, n| Case { writers: n as u32, ..c },
        get: |r| r.writers.into(),
    },
    Axis {
        name: "channels",
        below: "channels, into which one thread writes in turn",
        bends: &[Bend {
            low: 4,
            high: 64,
            at: 10,
            times: 1.1,
            why: "what they touch leaves the L1 cache",
        }],
        values: &[1, 4, 16, 64],
        set: |c, n| Case { channels: n as u32, ..c },
        get: |r| r.channels.into(),
    },
    Axis {
        name: "sub-buffers",
        below: "sub-buffers of 8 KiB",
        bends: &[],
        values: &[2, 8, 32, 128, 1024],
        // 8 MiB of them at most.
        set: |c, n| Case { subbuf_count: n as u32, subbuf_size: 8 << 10, ..c },
        get: |r| r.subbuf_count.into(),
    },
    Axis {
        name: "KiB of a sub-buffer",
        below: "KiB; a ring has four of them",
        bends: &[Bend {
            low: 4,
            high: 16,
            at: 8,
            times: 1.02,
            why: "left of here: a delivery every 100 records",
        }],
        values: &[4, 16, 64, 256, 1024, 4096],
        set: |c, n| Case { subbuf_size: n << 10, subbuf_count: 4, ..c },
        get: |r| r.subbuf_size >> 10,
    },
    Axis {
        name: "event classes",
        below: "classes, written in turn",
        bends: &[Bend {
            low: 30,
            high: 100,
            at: 31,
            times: 1.05,
            why: "long headers from the 31st class on",
        }],
        values: &[1, 10, 30, 100, 1000, 10_000],
        set: |c, n| Case { classes: n as u32, ..c },
        get: |r| r.classes.into(),
    },
];

fn base() -> Case {
    let streams = StreamKind::Single;
    Case { streams, subbuf_size: 64 << 10, ..Case::new(Mode::Overwrite, PAYLOAD) }
}

/// The cases of an axis.
fn along(axis: &Axis) -> impl Iterator<Item = Case> + '_ {
    axis.values.iter().map(|n| {
        let case = (axis.set)(base(), *n);
        // Writers that share a stream are another question.
        let streams = if axis.name == "writers" { StreamKind::PerThread } else { case.streams };
        Case { streams, ..case }
    })
}

/// The cases of these subjects: where none is named of memory and of a file, which need no more
/// than a disk.
pub fn cases(
    subjects: Vec<Box<dyn Subject>>,
    named: bool,
    most_writers: u32,
) -> Vec<(Box<dyn Subject>, Vec<Case>)> {
    let usual = |s: &dyn Subject| {
        named || (s.backend() == "pages" && s.variant() == "heap") || s.backend() == "file"
    };
    let cases = || {
        let mut cases = Vec::new();
        for case in AXES.iter().flat_map(along).filter(|c| c.writers <= most_writers) {
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    };
    subjects.into_iter().filter(|s| usual(&**s)).map(|s| (s, cases())).collect()
}

/// The rows of an axis, by how much there is of it.
pub fn rows<'a>(axis: &Axis, rows: impl Iterator<Item = &'a Row>) -> Vec<&'a Row> {
    let wanted: Vec<Case> = along(axis).collect();
    let is = |r: &Row| {
        r.trace_bytes == 0
            && wanted.iter().any(|c| {
                (c.writers, c.channels, c.classes) == (r.writers, r.channels, r.classes)
                    && (c.subbuf_size, c.subbuf_count) == (r.subbuf_size, r.subbuf_count)
                    && c.streams.name() == r.streams
            })
    };
    let mut rows: Vec<_> = rows.filter(|r| is(r)).collect();
    rows.sort_by_key(|r| (axis.get)(r));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each point of an axis is a case of its own on it.
    #[test]
    fn an_axis_changes_nothing_else() {
        for axis in &AXES {
            let cases: Vec<_> = along(axis).collect();
            assert_eq!(cases.len(), axis.values.len());
            for (i, a) in cases.iter().enumerate() {
                assert!(!cases[..i].contains(a), "{}: {a:?} twice", axis.name);
                assert_eq!((a.mode, a.payload, a.reader), (Mode::Overwrite, PAYLOAD, true));
            }
        }
    }
}
