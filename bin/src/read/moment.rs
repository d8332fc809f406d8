//! `--from` and `--to`: moments as people write them. What a moment is in a trace depends on
//! when the trace begins and ends, so it is parsed first and resolved later.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A moment, as it was written. All in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Since the epoch.
    At(u64),
    /// Since midnight (UTC) of the trace's first day.
    OfDay(u64),
    /// `+1.5s`: after the trace's first event.
    AfterBegin(u64),
    /// `-2s`: before the trace's end.
    BeforeEnd(u64),
    /// When the command began.
    Now,
}

/// From when to when a trace goes: its first event, the end of its last packet; nanoseconds
/// since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its first event.
    pub begin: u64,
    /// The end of its last packet.
    pub end: u64,
}

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentError;

impl std::error::Error for MomentError {}

impl fmt::Display for MomentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no moment: write 2026-11-25T10:00:00Z, seconds since the epoch (1795600000.5), \
             10:00:00.5 (UTC, of the trace's first day), +1.5s (after its first event), -2s \
             (before its end) or now",
        )
    }
}

impl Moment {
    /// Whether it is to be known when the trace begins and ends.
    #[must_use]
    pub fn is_relative(self) -> bool {
        !matches!(self, Self::At(_) | Self::Now)
    }

    /// In nanoseconds since the epoch.
    #[must_use]
    pub fn resolve(self, trace: Extent) -> u64 {
        match self {
            Self::At(t) => t,
            Self::OfDay(t) => (trace.begin / DAY * DAY).saturating_add(t),
            Self::AfterBegin(t) => trace.begin.saturating_add(t),
            Self::BeforeEnd(t) => trace.end.saturating_sub(t),
            Self::Now => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
            }
        }
    }
}

impl FromStr for Moment {
    type Err = MomentError;
    fn from_str(text: &str) -> Result<Self, MomentError> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Some(rest) = text.strip_prefix('+') {
            return span(rest).map(Self::AfterBegin).ok_or(MomentError);
        }
        if let Some(rest) = text.strip_prefix('-') {
            return span(rest).map(Self::BeforeEnd).ok_or(MomentError);
        }
        let found = decimal(text, SECOND).map(Self::At);
        found.or_else(|| of_day(text)).or_else(|| date(text)).ok_or(MomentError)
    }
}

/// `1.5s`, `20 ms`; without a unit: seconds.
fn span(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let unit = match text[at..].trim() {
        "s" | "" => SECOND,
        "ns" => 1,
        "us" | "µs" => 1000,
        "ms" => 1_000_000,
        "min" | "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        _ => return None,
    };
    decimal(&text[..at], unit)
}

/// A decimal number of units, exactly: a binary float has not as many digits.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let part = &part[..part.len().min(18)];
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit.into())?;
    let part = part.parse::<u128>().ok()? * u128::from(unit) / 10u128.pow(part.len() as u32);
    whole.checked_add(part)?.try_into().ok()
}

/// `HH:MM:SS[.fff]`, `HH:MM`.
fn of_day(text: &str) -> Option<Moment> {
    let mut parts = text.split(':');
    let mut two = |most: u64| {
        let t = parts.next()?;
        let n = (t.len() == 2).then(|| decimal(t, 1)).flatten()?;
        (n <= most).then_some(n)
    };
    let (hours, minutes) = (two(23)?, two(59)?);
    let seconds = match parts.next() {
        None => 0,
        Some(t) => decimal(t, SECOND).filter(|s| *s < 61 * SECOND)?,
    };
    let whole = (hours * 3600 + minutes * 60) * SECOND + seconds;
    parts.next().is_none().then_some(Moment::OfDay(whole))
}

/// RFC 3339; without an offset it is UTC, a date alone its midnight.
fn date(text: &str) -> Option<Moment> {
    let found = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::Offset::UTC.to_timestamp(civil).ok()
    })?;
    u64::try_from(found.as_nanosecond()).ok().map(Moment::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let at = |s: u64, ns: u64| Moment::At(s * SECOND + ns);
        for (text, moment) in [
            ("2023-11-14T22:13:20Z", at(1_700_000_000, 0)),
            ("2023-11-14T22:13:20.5Z", at(1_700_000_000, 500_000_000)),
            ("2023-11-15T00:13:20+02:00", at(1_700_000_000, 0)),
            ("2023-11-14 22:13:20", at(1_700_000_000, 0)),
            ("2023-11-14", at(1_699_920_000, 0)),
            ("1700000000", at(1_700_000_000, 0)),
            ("1700000000.123456789", at(1_700_000_000, 123_456_789)),
            ("01:00:00.5", Moment::OfDay(3_600_500_000_000)),
            ("01:30", Moment::OfDay(5_400_000_000_000)),
            ("+1.5s", Moment::AfterBegin(1_500_000_000)),
            ("+20 ms", Moment::AfterBegin(20_000_000)),
            ("+0", Moment::AfterBegin(0)),
            ("-2s", Moment::BeforeEnd(2 * SECOND)),
            ("-1min", Moment::BeforeEnd(60 * SECOND)),
            ("now", Moment::Now),
        ] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        for text in [
            "",
            "+",
            "-",
            "+x",
            "+1x",
            "1.",
            ".5",
            "25:00:00",
            "1:2:3",
            "01:60:00",
            "tomorrow",
            "2023-13-01",
            "1970-01-01T00:00:00+01:00",
            "-1e9s",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn they_are_resolved_in_the_trace() {
        let trace = Extent { begin: 3 * DAY + 5 * SECOND, end: 3 * DAY + 9 * SECOND };
        assert_eq!(Moment::OfDay(SECOND).resolve(trace), 3 * DAY + SECOND);
        assert_eq!(Moment::AfterBegin(SECOND).resolve(trace), 3 * DAY + 6 * SECOND);
        assert_eq!(Moment::BeforeEnd(SECOND).resolve(trace), 3 * DAY + 8 * SECOND);
        assert_eq!(Moment::BeforeEnd(u64::MAX).resolve(trace), 0);
    }
}
