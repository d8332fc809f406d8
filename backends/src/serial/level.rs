//! Log levels by name, as people write them in a configuration and on a line.

use std::fmt;
use std::str::FromStr;

use rbpipe_core::class::{EventClass, LogLevel};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A log level by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub LogLevel);

/// The first name of each is the one that is shown.
const NAMES: &[(LogLevel, &[&str])] = &[
    (LogLevel::Emergency, &["emergency", "emerg"]),
    (LogLevel::Alert, &["alert"]),
    (LogLevel::Critical, &["critical", "crit"]),
    (LogLevel::Error, &["error", "err"]),
    (LogLevel::Warning, &["warning", "warn"]),
    (LogLevel::Notice, &["notice"]),
    (LogLevel::Info, &["info"]),
    (LogLevel::DebugSystem, &["debug_system"]),
    (LogLevel::DebugProgram, &["debug_program"]),
    (LogLevel::DebugProcess, &["debug_process"]),
    (LogLevel::DebugModule, &["debug_module"]),
    (LogLevel::DebugUnit, &["debug_unit"]),
    (LogLevel::DebugFunction, &["debug_function"]),
    (LogLevel::DebugLine, &["debug_line"]),
    (LogLevel::Debug, &["debug"]),
];

/// What is accepted, for people.
pub(super) const ACCEPTED: &str =
    "emergency, alert, critical, error, warning, notice, info, debug_system to debug_line, debug";

impl FromStr for Level {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let is = |(_, names): &&(LogLevel, &[&str])| {
            names.iter().any(|name| name.eq_ignore_ascii_case(text))
        };
        NAMES.iter().find(is).map(|(level, _)| Self(*level)).ok_or(())
    }
}

/// A level's name.
pub(super) fn name(level: LogLevel) -> &'static str {
    NAMES.iter().find(|(l, _)| *l == level).map_or("", |(_, names)| names[0])
}

/// A class's level; one without is as LTTng has it: a line for who looks for a mistake.
pub(super) fn of(class: &EventClass) -> LogLevel {
    class.level.unwrap_or(LogLevel::DebugLine)
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Level;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a log level: {ACCEPTED}")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Level, E> {
                v.parse().map_err(|()| E::invalid_value(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_str(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_name_that_is_read_back() {
        for n in 0..15 {
            let level = LogLevel::from_number(n).unwrap();
            assert_eq!(name(level).parse(), Ok(Level(level)));
        }
        assert_eq!("WARN".parse(), Ok(Level(LogLevel::Warning)));
        assert_eq!("loud".parse::<Level>(), Err(()));
    }
}
