//! Times and numbers as people write them, and where an axis has its ticks.

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const MIN: u64 = 60 * S;
const H: u64 = 60 * MIN;
const DAY: u64 = 24 * H;

/// Steps of an axis above seconds; below they are 1, 2 and 5 of a decimal unit.
const LONG: [u64; 17] = [
    10 * S,
    20 * S,
    30 * S,
    MIN,
    2 * MIN,
    5 * MIN,
    10 * MIN,
    20 * MIN,
    30 * MIN,
    H,
    2 * H,
    4 * H,
    6 * H,
    12 * H,
    DAY,
    2 * DAY,
    7 * DAY,
];

/// The smallest round step that divides a time into at most so many.
pub fn step(span: u64, most: u32) -> u64 {
    let least = span.div_ceil(u64::from(most.max(1))).max(1);
    let mut decimal = 1;
    while decimal <= S {
        for n in [1, 2, 5] {
            if n * decimal >= least {
                return n * decimal;
            }
        }
        decimal *= 10;
    }
    let days = || least.div_ceil(DAY).next_power_of_two().saturating_mul(DAY);
    LONG.into_iter().find(|s| *s >= least).unwrap_or_else(days)
}

/// How many smaller ticks stand in a step.
pub fn smaller(step: u64) -> u64 {
    let first = if step < 10 * S { step.to_string().as_bytes()[0] } else { b'0' };
    match first {
        b'2' => 4,
        b'1' | b'5' => 5,
        _ if step.is_multiple_of(6) => 6,
        _ => 2,
    }
}

/// A tick's words: in one unit along an axis that goes so far, with as many digits as the step
/// needs.
pub fn tick(time: u64, step: u64, span: u64) -> String {
    if time == 0 {
        return "0".into();
    }
    if step >= MIN || (step >= 10 * S && span >= 10 * MIN) {
        return long(time);
    }
    let units = [(S, "s"), (MS, "ms"), (US, "µs"), (1, "ns")];
    let (unit, name) = units.into_iter().find(|(u, _)| *u <= step).unwrap_or((1, "ns"));
    // 0.2 s rather than 200 ms where it goes on to 2.4 s.
    if unit < S && span >= unit.saturating_mul(1000) {
        let unit = unit * 1000;
        let name = units.into_iter().find(|(u, _)| *u == unit).map_or(name, |(_, n)| n);
        let mut digits = 0;
        let mut smallest = unit;
        while smallest > step {
            smallest /= 10;
            digits += 1;
        }
        let part = time % unit / smallest;
        return format!("{}.{part:0digits$} {name}", time / unit);
    }
    format!("{} {name}", time / unit)
}

/// Hours, minutes, seconds, without those that are 0.
fn long(time: u64) -> String {
    let parts =
        [(time / DAY, "d"), (time / H % 24, "h"), (time / MIN % 60, "min"), (time / S % 60, "s")];
    let mut out = String::new();
    for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
        if !out.is_empty() {
            out.push(' ');
        }
        out += &format!("{n} {unit}");
    }
    out
}

/// A time, to three digits: `1.25 s`, `340 µs`, `1 h 2 min`.
#[must_use]
pub fn span(time: u64) -> String {
    if time >= MIN {
        return long(time / S * S);
    }
    let (unit, name) = match time {
        S.. => (S, "s"),
        MS.. => (MS, "ms"),
        US.. => (US, "µs"),
        _ => return format!("{time} ns"),
    };
    let digits = match time / unit {
        100.. => 0,
        10.. => 1,
        _ => 2,
    };
    let text = format!("{:.digits$}", time as f64 / unit as f64);
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {name}")
}

/// A number with spaces between thousands.
#[must_use]
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// A moment as a date, UTC, with as many digits as a picture of such a time needs.
#[must_use]
pub fn moment(time: u64, span: u64) -> String {
    let digits = match span {
        H.. => 0,
        S.. => 3,
        MS.. => 6,
        _ => 9,
    };
    let (day, rest) = (time / DAY, time % DAY);
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (rest / H, rest / MIN % 60, rest / S % 60);
    let mut out = format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}");
    if digits > 0 {
        let part = rest % S / 10u64.pow(9 - digits);
        out += &format!(".{part:0digits$}", digits = digits as usize);
    }
    out + " UTC"
}

/// Days since the epoch as year, month and day. Years are counted from March, so that the odd day
/// is a year's last.
fn civil(day: u64) -> (u64, u64, u64) {
    // From 0000-03-01, in cycles of 400 years.
    let days = day + 719_468;
    let (cycle, in_cycle) = (days / 146_097, days % 146_097);
    let year = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let date = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_not_too_many() {
        for (span, most, is) in [
            (S, 10, 100 * MS),
            (S, 9, 200 * MS),
            (MS, 10, 100 * US),
            (7, 10, 1),
            (0, 10, 1),
            (H, 12, 5 * MIN),
            (H, 7, 10 * MIN),
            (45 * S, 10, 5 * S),
            (55 * S, 10, 10 * S),
            (DAY, 8, 4 * H),
            (400 * DAY, 8, 64 * DAY),
            (u64::MAX, 8, u64::MAX / 8 / DAY / DAY * DAY + 32768 * DAY),
        ] {
            assert_eq!(step(span, most), is, "{span} in {most}");
        }
    }

    #[test]
    fn ticks_have_one_unit_and_their_digits() {
        let words = |step: u64, span: u64| -> Vec<String> {
            (0..4).map(|n| tick(n * step, step, span)).collect()
        };
        assert_eq!(words(200 * MS, S), ["0", "0.2 s", "0.4 s", "0.6 s"]);
        assert_eq!(words(20 * MS, 150 * MS), ["0", "20 ms", "40 ms", "60 ms"]);
        assert_eq!(words(50 * US, MS), ["0", "0.05 ms", "0.10 ms", "0.15 ms"]);
        assert_eq!(words(2, 11), ["0", "2 ns", "4 ns", "6 ns"]);
        assert_eq!(words(5 * S, 45 * S), ["0", "5 s", "10 s", "15 s"]);
        assert_eq!(words(30 * S, 150 * S), ["0", "30 s", "60 s", "90 s"]);
        assert_eq!(words(20 * MIN, 2 * H), ["0", "20 min", "40 min", "1 h"]);
        assert_eq!(words(12 * H, 4 * DAY), ["0", "12 h", "1 d", "1 d 12 h"]);
    }

    #[test]
    fn times_and_numbers() {
        assert_eq!(span(1_234_000_000), "1.23 s");
        assert_eq!(span(MS), "1 ms");
        assert_eq!(span(15_500), "15.5 µs");
        assert_eq!(span(999), "999 ns");
        assert_eq!(span(3_720 * S + 5), "1 h 2 min");
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1 234 567");
        assert_eq!(moment(1_700_000_000 * S + 123_456_789, S), "2023-11-14 22:13:20.123 UTC");
        assert_eq!(
            moment(1_700_000_000 * S + 123_456_789, US),
            "2023-11-14 22:13:20.123456789 UTC"
        );
        assert_eq!(moment(951_782_400 * S, H), "2000-02-29 00:00:00 UTC");
        assert_eq!(moment(4_107_542_400 * S, H), "2100-03-01 00:00:00 UTC");
        assert_eq!(moment(0, H), "1970-01-01 00:00:00 UTC");
    }
}
