//! Keys of `type = "ftrace"`.

use rbpipe_backends::units::{Size, Time};
use rbpipe_core::backend::ConfigProblem;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// Keys of `type = "ftrace"`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which events.
    pub events: Vec<Wanted>,
    /// For each of them that has none of its own.
    pub filter: Option<String>,
    /// The kernel's ring, for each CPU.
    #[serde(default = "buffer_size")]
    pub buffer_size: Size,
    /// The kernel's sub-buffers; one is read at a time.
    #[serde(default = "subbuf_size")]
    pub subbuf_size: Size,
    /// What a full ring of the kernel's does.
    #[serde(default)]
    pub kernel_mode: KernelMode,
    /// How full a CPU's ring is when it is read before its time.
    #[serde(default = "buffer_percent")]
    pub buffer_percent: u32,
    /// How long an event waits in the kernel's ring at most.
    #[serde(default = "flush")]
    pub flush: Time,
    /// Real-time priority of the threads that read (SCHED_FIFO); 0: an ordinary one.
    #[serde(default)]
    pub priority: u8,
    /// Go on without it where it cannot be had.
    #[serde(default)]
    pub optional: bool,
}

/// A line of `events`: a pattern, and what its records must fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `sched:sched_switch`, `sched:*`, `!sched:sched_stat*`.
    pub pattern: String,
    /// In the kernel's own language.
    pub filter: Option<String>,
}

/// What a full ring of the kernel's does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelMode {
    /// The newest survive.
    #[default]
    Overwrite,
    /// The oldest do.
    Discard,
}

fn buffer_size() -> Size {
    Size(8 << 20)
}
fn subbuf_size() -> Size {
    Size(64 << 10)
}
fn buffer_percent() -> u32 {
    25
}
fn flush() -> Time {
    Time(std::time::Duration::from_millis(100))
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Wanted;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"SYSTEM:EVENT\" or { event = \"SYSTEM:EVENT\", filter = \"…\" }")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Wanted, E> {
                Ok(Wanted { pattern: v.to_owned(), filter: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wanted, A::Error> {
                let (mut pattern, mut filter) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "event" => pattern = Some(map.next_value::<String>()?),
                        "filter" => filter = Some(map.next_value::<String>()?),
                        _ => return Err(de::Error::unknown_field(&key, &["event", "filter"])),
                    }
                }
                let pattern = pattern.ok_or_else(|| de::Error::missing_field("event"))?;
                Ok(Wanted { pattern, filter })
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Config {
    /// Each key that cannot be meant.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut tell = |key, message: String| problems.push(ConfigProblem { key, message });
        if !self.events.iter().any(|e| !e.pattern.starts_with('!')) {
            let message = "names no event: write patterns such as \"sched:*\" or \"irq:*\"; with \
                           `!` they take away from others";
            tell("events", message.into());
        }
        for e in &self.events {
            let name = e.pattern.trim_start_matches('!');
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-*?:.[]!^\\".contains(c);
            if name.is_empty() || !name.chars().all(plain) || name.matches(':').count() > 1 {
                let message = format!(
                    "has {:?}: a pattern is SYSTEM:EVENT, SYSTEM or EVENT, with `*` and `?`",
                    e.pattern
                );
                tell("events", message);
            }
            if e.pattern.starts_with('!') && e.filter.is_some() {
                tell("events", format!("has a filter for {:?}, which is left out", e.pattern));
            }
        }
        let filters = self.events.iter().filter_map(|e| e.filter.as_ref()).chain(&self.filter);
        if filters.into_iter().any(|f| f.trim().is_empty() || f.contains(['\n', '\0'])) {
            let message = "is empty or has a line break: it is one expression such as \
                           \"prev_pid != 0\"";
            tell("filter", message.into());
        }
        let (size, whole) = (self.subbuf_size.0, self.buffer_size.0);
        if !size.is_power_of_two() || !(4 << 10..=512 << 10).contains(&size) {
            tell("subbuf_size", "is a power of two, \"4 KiB\" to \"512 KiB\"".into());
        } else if !(2 * size..=1 << 30).contains(&whole) {
            let message = "is at least two sub-buffers and at most \"1 GiB\", for each CPU";
            tell("buffer_size", message.into());
        }
        if self.buffer_percent > 100 {
            tell("buffer_percent", "is 0 to 100".into());
        }
        if self.flush.0.is_zero() {
            tell("flush", "is more than \"0 s\": losses are looked at then, too".into());
        }
        if self.priority > 99 {
            tell("priority", "is 0 (none) or 1 to 99".into());
        }
        problems
    }
}
