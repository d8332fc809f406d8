//! Sizes and times as people write them in a configuration: `"256 KiB"`, `"100 ms"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Bytes: `"256 KiB"`, `"1 MiB"`, `"2 GiB"`, `"512 B"`, or an integer of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A time: `"100 ms"`, `"2 s"`, `"5 min"`, `"1 h"`, `"10 us"`, `"0 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))?;
    let number = text[..at].replace('_', "").parse::<f64>().ok()?;
    Some((number, text[at..].trim()))
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write \"256 KiB\", \"1 MiB\" or bytes");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let factor = match unit {
            "B" => 1u64,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let bytes = number * factor as f64;
        if bytes.fract() != 0.0 || bytes >= 2f64.powi(63) {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: write \"100 ms\", \"2 s\" or \"0 s\"");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        // A hundred years: enough for anybody, and no sum of two of them overflows.
        if number * seconds > 3.2e9 {
            return Err(format!("{text:?} is longer than a hundred years"));
        }
        Ok(Self(Duration::from_nanos((number * seconds * 1e9).round() as u64)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => write!(f, "{} GiB", n >> 30),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} B"),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256 KiB\", or an integer of bytes")
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Size, E> {
                u64::try_from(v).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Size, E> {
                Ok(Size(v))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Size, E> {
                v.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"100 ms\"")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Time, E> {
                v.parse().map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Time, E> {
                Err(E::custom(format!("a time needs a unit: write \"{v} s\" or \"{v} ms\"")))
            }
        }
        deserializer.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("256 KiB", 262_144), ("1MiB", 1 << 20), ("0.5 GiB", 1 << 29), ("7 B", 7)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "256", "KiB", "256 KB", "-1 KiB", "0.3 B", "9e9 GiB", "1 MiB x"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(262_144).to_string(), "256 KiB");
    }

    #[test]
    fn times() {
        for (text, ns) in
            [("100 ms", 100_000_000), ("0 s", 0), ("1.5 s", 1_500_000_000), ("10us", 10_000)]
        {
            assert_eq!(text.parse(), Ok(Time(Duration::from_nanos(ns))), "{text}");
        }
        for text in ["", "5", "s", "5 sec", "-1 s", "1e3 s", "99999999 h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
