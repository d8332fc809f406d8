//! How the cost of a record grows: one thing at a time, from one usual ring.

use rbpipe_core::frontend::Mode;

use super::case::{Case, StreamKind};
use super::report::Row;
use super::subject::Subject;

/// Bytes of each record.
pub const PAYLOAD: usize = 32;

/// Something that grows.
pub struct Axis {
    /// For people.
    pub name: &'static str,
    /// What it takes to be so much of it.
    values: &'static [u64],
    set: fn(Case, u64) -> Case,
    /// How much of it a row has.
    pub get: fn(&Row) -> u64,
}

/// All that grows. In overwrite mode no record is lost, so that all have a cost.
pub const AXES: [Axis; 5] = [
    Axis {
        name: "writers",
        values: &[1, 2, 4, 8],
        set: |c, n| Case { writers: n as u32, ..c },
        get: |r| r.writers.into(),
    },
    Axis {
        name: "channels",
        values: &[1, 4, 16, 64],
        set: |c, n| Case { channels: n as u32, ..c },
        get: |r| r.channels.into(),
    },
    Axis {
        name: "sub-buffers",
        values: &[2, 8, 32, 128, 1024],
        // 8 MiB of them at most.
        set: |c, n| Case { subbuf_count: n as u32, subbuf_size: 8 << 10, ..c },
        get: |r| r.subbuf_count.into(),
    },
    Axis {
        name: "KiB of a sub-buffer",
        values: &[4, 16, 64, 256, 1024, 4096],
        set: |c, n| Case { subbuf_size: n << 10, subbuf_count: 4, ..c },
        get: |r| r.subbuf_size >> 10,
    },
    Axis {
        name: "event classes",
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
        wanted.iter().any(|c| {
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
