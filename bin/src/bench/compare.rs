//! What has changed since an earlier run, beyond the noise of both: the rounds of one and of the
//! other do not overlap, and their middles are further apart than rounds usually are.

use std::fmt::Write as _;
use std::path::Path;

use super::report::{Report, Row, Spread};
use super::words::{case, rate, whole};

/// Less is no change, however close the rounds were.
const LEAST: f64 = 0.05;

/// With fewer rounds than this (on both sides) least and most say little: of three and three
/// that are alike one in ten do not overlap, of five and five one in 126.
pub const ENOUGH: usize = 5;

/// Reads what was found earlier; `option` is what it was asked for with.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(option: &str, path: &Path) -> Result<Report, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("{option} {shown}: cannot be read: {e}"))?;
    serde_json::from_str(&text)
        .map_err(|e| format!("{option} {shown}: is not what `rbpipe bench --json` writes: {e}"))
}

/// All changes, for people.
pub fn changes(old: &Report, new: &Report) -> String {
    let (mut text, mut compared, mut changed, mut few) = (String::new(), 0, 0, 0);
    for row in &new.rows {
        let Some(before) = old.rows.iter().find(|r| r.key() == row.key()) else { continue };
        if before.runs.min(row.runs) < ENOUGH {
            few += 1;
            continue;
        }
        compared += 1;
        let said: Vec<_> = [cost(before, row), out(before, row).filter(|_| row.reader)]
            .into_iter()
            .flatten()
            .collect();
        if !said.is_empty() {
            changed += 1;
            let name = format!("{}, {}, {} B", row.subject(), case(row), row.payload);
            let _ = writeln!(text, "  {name}: {}", said.join("; "));
        }
    }
    let head = match (compared, changed) {
        (0, _) if few == 0 => "no row of the earlier run was run again".to_owned(),
        (0, _) => "nothing can be said of changes since the earlier run".to_owned(),
        (n, 0) => format!("nothing changed beyond the noise since the earlier run ({n} rows)"),
        (n, c) => format!("{c} of {n} rows changed beyond the noise since the earlier run:"),
    };
    let mut out = head + "\n" + &text;
    if few > 0 {
        let _ = writeln!(
            out,
            "  {few} rows had fewer than {ENOUGH} rounds here or there, too few to compare: more \
             --seconds, or fewer rows (--backend, --payload, --mode)"
        );
    }
    if old.machine != new.machine {
        let _ = writeln!(
            out,
            "  but the machine or the place is another one: then {} on {}, Linux {}, now {} on {}, \
             Linux {}",
            old.machine.cpu,
            old.machine.file_system,
            old.machine.kernel,
            new.machine.cpu,
            new.machine.file_system,
            new.machine.kernel
        );
    }
    out.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// By how much the middle changed, where it did.
fn change(old: &Spread, new: &Spread) -> Option<f64> {
    let apart = old.max < new.min || new.max < old.min;
    let change = (new.median - old.median) / old.median;
    let usual = LEAST.max((old.width() + new.width()) / 2.0);
    (apart && change.is_finite() && change.abs() > usual).then_some(change)
}

fn cost(old: &Row, new: &Row) -> Option<String> {
    let (was, is) = (old.ns?, new.ns?);
    let by = change(&was, &is)?;
    let (was, is) = (whole(&was, 1.0, old.runs), whole(&is, 1.0, new.runs));
    let word = if by > 0.0 { "more" } else { "less" };
    Some(format!("a record costs {:.0} % {word}: {was} -> {is} ns", by.abs() * 100.0))
}

fn out(old: &Row, new: &Row) -> Option<String> {
    let (old, new) = (old.bytes_per_second, new.bytes_per_second);
    let by = change(&old, &new)?;
    let word = if by > 0.0 { "more" } else { "less" };
    let by = by.abs() * 100.0;
    Some(format!("{by:.0} % {word} comes out: {} -> {}", rate(&old), rate(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds that overlap, or are close, are noise.
    #[test]
    fn only_what_is_beyond_the_noise_is_a_change() {
        let s = |min, median, max| Spread { median, min, max };
        assert_eq!(change(&s(30.0, 34.0, 40.0), &s(39.0, 44.0, 60.0)), None, "they overlap");
        assert_eq!(change(&s(34.0, 34.1, 34.2), &s(34.5, 34.6, 34.7)), None, "a percent is little");
        assert_eq!(change(&s(20.0, 34.0, 40.0), &s(41.0, 43.0, 60.0)), None, "wide, and near");
        let slower = change(&s(34.0, 34.1, 34.2), &s(40.0, 41.0, 42.0)).unwrap();
        assert!((slower - 0.2023).abs() < 1e-3, "{slower}");
        assert!(change(&s(40.0, 41.0, 42.0), &s(34.0, 34.1, 34.2)).unwrap() < 0.0);
        assert_eq!(
            change(&s(0.0, 0.0, 0.0), &s(1.0, 1.0, 1.0)),
            None,
            "of nothing there is no part"
        );
    }
}
