//! Keys of `type = "gpu"`, and what is wrong with them before anything is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rbpipe_core::backend::{ChannelPlan, ConfigProblem};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};

use super::live::Wish;
use crate::picture::{self, Theme};
use crate::units::{Size, Time};

/// Keys of `type = "gpu"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which adapter.
    #[serde(default)]
    pub adapter: Wanted,
    /// How records get into its memory.
    #[serde(default)]
    pub memory: Way,
    /// How much of the newest the store keeps.
    #[serde(default)]
    pub keep: Keep,
    /// A picture of the newest is written here, every `png_interval` and at the end.
    pub png: Option<PathBuf>,
    /// Left out: a second.
    pub png_interval: Option<Time>,
    /// Left out: 1600x900.
    pub png_size: Option<PngSize>,
    /// How much time it shows; left out: ten seconds.
    pub png_window: Option<Time>,
    /// Left out: dark.
    pub png_theme: Option<Theme>,
    /// Numeric fields whose values have a lane: one, or a list.
    #[serde(default)]
    pub png_value: Fields,
}

/// Fields of events: `"EVENT.FIELD"`, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

/// More fields than this have no lane.
const MOST_FIELDS: usize = 8;

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field such as \"sched:sched_switch.next_prio\", or a list of them")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Fields, E> {
                field(v).map(|one| Fields(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Fields, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element::<String>()? {
                    all.push(field(&one)?);
                }
                Ok(Fields(all))
            }
        }
        deserializer.deserialize_any(V)
    }
}

fn field<E: de::Error>(text: &str) -> Result<(String, String), E> {
    match text.rsplit_once('.') {
        Some((event, field)) if !event.is_empty() && !field.is_empty() => {
            Ok((event.into(), field.into()))
        }
        _ => Err(E::custom(format!(
            "{text:?} is no field: write EVENT.FIELD: \"sched:sched_switch.next_prio\""
        ))),
    }
}

/// Columns and rows of pixels: `"1600x900"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PngSize(pub u32, pub u32);

impl<'de> Deserialize<'de> for PngSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts =
            text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let wrong = || de::Error::custom(format!("{text:?} is no size: write \"1600x900\""));
        parts.map(|(w, h)| Self(w, h)).ok_or_else(wrong)
    }
}

/// Which adapter is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best one; none: ordinary memory.
    #[default]
    Auto,
    /// One of this kind.
    Kind(Kind),
    /// One whose name has this in it.
    Named(String),
}

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// One that shares the processor's memory.
    Integrated,
    /// Part of a card, in a virtual machine.
    Virtual,
    /// None of those that Vulkan names.
    Other,
    /// A program on the processor.
    Cpu,
    /// None: commands that only copy are obeyed, in ordinary memory. For tests.
    Noop,
}

impl Kind {
    /// All of them, the best first.
    pub const ALL: [Self; 6] =
        [Self::Discrete, Self::Integrated, Self::Virtual, Self::Other, Self::Cpu, Self::Noop];

    /// As a configuration says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Cpu => "cpu",
            Self::Noop => "noop",
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kind(kind) => kind.name(),
            Self::Named(name) => name,
        })
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        Ok(kind.map_or(Self::Named(text), Self::Kind))
    }
}

/// How records get into the adapter's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// As suits the adapter.
    #[default]
    Auto,
    /// Written into mapped memory, copied by the GPU into its store.
    Staged,
    /// Written into the store itself.
    Direct,
    /// Written into ordinary memory, copied by the processor and then by the GPU.
    Heap,
}

impl Way {
    /// As a configuration says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Staged => "staged",
            Self::Direct => "direct",
            Self::Heap => "heap",
        }
    }
}

/// How much of the newest the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many bytes.
    Bytes(u64),
    /// So much time, and at most [`MOST_FOR_A_TIME`] bytes.
    Time(Duration),
}

/// What a store takes at most for `keep = "30 s"`.
pub const MOST_FOR_A_TIME: u64 = 1 << 30;

impl Keep {
    /// The store's bytes at most.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Time(_) => MOST_FOR_A_TIME,
        }
    }
    /// How long records are wanted, in ns.
    pub(super) fn time(self) -> Option<u64> {
        match self {
            Self::Bytes(_) => None,
            Self::Time(time) => Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self::Bytes(512 << 20)
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Keep;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"512 MiB\", or a time such as \"30 s\"")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Keep, E> {
                u64::try_from(v).map(Keep::Bytes).map_err(|_| E::custom("cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Keep, E> {
                if let Ok(Size(bytes)) = v.parse() {
                    return Ok(Keep::Bytes(bytes));
                }
                let wrong = |_| E::invalid_value(Unexpected::Str(v), &self);
                v.parse::<Time>().map(|Time(time)| Keep::Time(time)).map_err(wrong)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The store has at least so many sub-buffers: what is overwritten is not what just came.
pub(super) const LEAST_SUBBUFS: u64 = 4;

impl Config {
    pub(super) fn problems(&self, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key, message: String| problems.push(ConfigProblem { key, message });
        if matches!(&self.adapter, Wanted::Named(name) if name.trim().is_empty()) {
            problem(
                "adapter",
                "is empty: write \"auto\", a kind (\"discrete\", \"integrated\", \"cpu\"), or a \
                 name that `rbpipe devices` lists"
                    .into(),
            );
        }
        let least = LEAST_SUBBUFS * plan.geometry.subbuf_size();
        // A third is for the picture's index.
        let least = if self.png.is_some() { least + least / 2 } else { least };
        match self.keep {
            Keep::Bytes(bytes) if bytes < least => problem(
                "keep",
                format!(
                    "{} is too small: the store has at least {LEAST_SUBBUFS} sub-buffers, {} here",
                    Size(bytes),
                    Size(least)
                ),
            ),
            Keep::Time(time) if time < Duration::from_millis(100) => {
                problem("keep", "is too short: \"100 ms\" or more, or a size".into());
            }
            Keep::Bytes(_) | Keep::Time(_) => {}
        }
        self.problems_of_png(&mut problem);
        problems
    }

    fn problems_of_png(&self, problem: &mut impl FnMut(&'static str, String)) {
        match &self.png {
            Some(path) if path.file_name().is_none() => {
                problem("png", "is no file: write a name such as \"live.png\"".into());
            }
            Some(_) => {}
            None => {
                for (key, is_there) in [
                    ("png_interval", self.png_interval.is_some()),
                    ("png_size", self.png_size.is_some()),
                    ("png_window", self.png_window.is_some()),
                    ("png_theme", self.png_theme.is_some()),
                    ("png_value", !self.png_value.0.is_empty()),
                ] {
                    if is_there {
                        problem(key, "is of a picture: write png = \"live.png\", too".into());
                    }
                }
            }
        }
        if self.png_interval.is_some_and(|Time(t)| t < Duration::from_millis(50)) {
            problem("png_interval", "is too short: \"50 ms\" or more".into());
        }
        if self.png_window.is_some_and(|Time(t)| t < Duration::from_micros(1)) {
            problem("png_window", "is too short: \"1 us\" or more".into());
        }
        if self.png_value.0.len() > MOST_FIELDS {
            problem("png_value", format!("has too many fields: at most {MOST_FIELDS} have a lane"));
        }
        if let Some(PngSize(w, h)) = self.png_size
            && let Err(e) = picture::plan(&picture::Picture::default(), (w, h))
        {
            problem("png_size", e.to_string());
        }
    }

    /// What a picture is to be, if one is wanted.
    pub(super) fn wish(&self) -> Option<Wish> {
        let time =
            |time: Option<Time>, else_: u64| time.map_or(Duration::from_secs(else_), |t| t.0);
        let PngSize(w, h) = self.png_size.unwrap_or(PngSize(1600, 900));
        Some(Wish {
            path: self.png.clone()?,
            every: time(self.png_interval, 1),
            size: (w, h),
            window: time(self.png_window, 10),
            theme: self.png_theme.unwrap_or_default(),
            values: self.png_value.0.clone(),
        })
    }

    /// What of `keep` is the store's, and what the index's that a picture is counted from.
    pub(super) fn shares(&self) -> (Keep, u64) {
        match (self.keep, &self.png) {
            (keep, None) => (keep, 0),
            (Keep::Bytes(bytes), Some(_)) => (Keep::Bytes(bytes - bytes / 3), bytes / 3),
            (keep @ Keep::Time(_), Some(_)) => (keep, MOST_FOR_A_TIME / 8),
        }
    }
}
