//! Figures as people read them: no more digits than the rounds agree on.

use super::report::{Row, Spread};

/// Rounds that differ by more than this have a middle of two digits, and a `~` before it.
const LOOSE: f64 = 0.10;

/// A number in three digits, or two.
pub fn digits(value: f64, loose: bool) -> String {
    let sure = if loose { 2 } else { 3 };
    if value == 0.0 || !value.is_finite() {
        return "0".into();
    }
    let whole = value.abs().log10().floor() as i32 + 1;
    let places = (sure - whole).max(0);
    let step = 10f64.powi(whole - sure);
    // Rounded before it is written: 1234 is "1230".
    let rounded = if places == 0 { (value / step).round() * step } else { value };
    format!("{rounded:.0$}", places as usize)
}

/// A middle, marked where rounds differ.
pub fn middle(spread: &Spread, unit: f64) -> String {
    let loose = spread.width() > LOOSE;
    format!("{}{}", if loose { "~" } else { "" }, digits(spread.median / unit, loose))
}

/// … with the least and the most of so many rounds.
pub fn whole(spread: &Spread, unit: f64, rounds: usize) -> String {
    if rounds < 2 {
        return middle(spread, unit);
    }
    let end = |v: f64| digits(v / unit, spread.width() > LOOSE);
    format!("{} [{} {}]", middle(spread, unit), end(spread.min), end(spread.max))
}

/// Nanoseconds in their unit.
pub fn time(ns: f64) -> String {
    match ns {
        n if n >= 1e9 => format!("{} s", digits(n / 1e9, true)),
        n if n >= 1e6 => format!("{} ms", digits(n / 1e6, true)),
        n if n >= 1e3 => format!("{} us", digits(n / 1e3, true)),
        n => format!("{n:.0} ns"),
    }
}

/// Bytes a second, in their unit.
pub fn rate(spread: &Spread) -> String {
    let (unit, name) = unit(spread.median);
    format!("{} {name}B/s", middle(spread, unit))
}

/// 1000 and what it is called.
pub fn unit(value: f64) -> (f64, &'static str) {
    match value {
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    }
}

/// A part of a whole: `0` is none at all.
pub fn part(of: u64, all: u64) -> String {
    if of == 0 || all == 0 {
        return "0".into();
    }
    match of as f64 / all as f64 * 100.0 {
        p if p < 0.1 => "<0.1 %".into(),
        p if p > 99.9 && of < all => ">99.9 %".into(),
        p => format!("{p:.1} %"),
    }
}

/// Bytes as they are said of traces: `10 MB` is ten million.
pub fn bytes(n: u64) -> String {
    let (unit, name) = unit(n as f64);
    format!("{} {name}B", n as f64 / unit)
}

/// What a row is, within its backend.
pub fn case(row: &Row) -> String {
    if row.trace_bytes > 0 {
        return format!("trace of {}", bytes(row.trace_bytes));
    }
    let mut words = row.mode.clone();
    if row.writers > 1 {
        words += &format!(", {} writers", row.writers);
    }
    if row.streams != "per-cpu" {
        words += &format!(", {}", row.streams);
    }
    if !row.reader {
        words += ", no reader";
    }
    if row.channels > 1 {
        words += &format!(", {} channels", row.channels);
    }
    if row.classes > 1 {
        words += &format!(", {} classes", row.classes);
    }
    if (row.subbuf_size, row.subbuf_count) != (256 << 10, 8) {
        words += &format!(", {} KiB x {}", row.subbuf_size >> 10, row.subbuf_count);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_that_are_known() {
        let cases = [
            (34.567, false, "34.6"),
            (34.567, true, "35"),
            (0.01234, false, "0.0123"),
            (1234.5, false, "1230"),
            (1254.5, true, "1300"),
            (5.0, true, "5.0"),
            (99.96, false, "100.0"),
            (0.0, false, "0"),
        ];
        for (value, loose, text) in cases {
            assert_eq!(digits(value, loose), text);
        }
        let close = Spread { median: 34.5, min: 34.0, max: 35.0 };
        let wide = Spread { median: 34.5, min: 30.0, max: 52.3 };
        assert_eq!(whole(&close, 1.0, 1), "34.5", "one round has no spread");
        assert_eq!(whole(&close, 1.0, 3), "34.5 [34.0 35.0]");
        assert_eq!(whole(&wide, 1.0, 3), "~35 [30 52]", "rounds that differ claim less");
        assert_eq!((time(45.3), time(3.1e6)), ("45 ns".into(), "3.1 ms".into()));
        assert_eq!(rate(&Spread { median: 11_520.0, min: 11_519.0, max: 11_521.0 }), "11.5 kB/s");
    }

    /// A loss of one in a million is no 0, and one that kept a record is no 100 %.
    #[test]
    fn nothing_and_everything_are_exact() {
        assert_eq!(part(0, 10), "0");
        assert_eq!(part(1, 1_000_000), "<0.1 %");
        assert_eq!(part(999_999, 1_000_000), ">99.9 %");
        assert_eq!(part(10, 10), "100.0 %");
        assert_eq!(part(1, 8), "12.5 %");
    }
}
