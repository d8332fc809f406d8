//! The keys of `type = "serial"`, and what cannot be meant.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rbpipe_core::backend::{ChannelPlan, ConfigProblem};
use rbpipe_core::class::LogLevel;
use rbpipe_core::frontend::Mode;
use serde::Deserialize;

use super::device::Settings;
use super::level::Level;
use crate::units::{Size, Time};

/// Keys of `type = "serial"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The device: `/dev/ttyUSB0`, or better its name under `/dev/serial/by-id`.
    pub path: PathBuf,
    /// Bits a second, any that the device can do.
    #[serde(default = "baud")]
    pub baud: u32,
    /// 7 or 8; frames need 8.
    #[serde(default = "data_bits")]
    pub data_bits: u8,
    /// What follows the data bits.
    #[serde(default)]
    pub parity: Parity,
    /// 1 or 2.
    #[serde(default = "stop_bits")]
    pub stop_bits: u8,
    /// How the other side stops the line.
    #[serde(default)]
    pub flow: Flow,
    /// What is sent.
    #[serde(default)]
    pub format: Format,
    /// A step of time on the line: 1 ns to 1 ms.
    #[serde(default = "tick")]
    pub tick: Time,
    /// Bytes of the longest frame, delimiter included.
    #[serde(default = "frame")]
    pub frame: u32,
    /// Bytes that are handed to the kernel ahead of the line; left out: 512, or what the line
    /// carries in 4 ms, if that is more.
    pub inflight_bytes: Option<Size>,
    /// What survives when more is recorded than the line carries; left out: what the ring keeps.
    pub keep: Option<Keep>,
    /// Records of this level, or more important ones, survive others.
    pub reserve_for: Option<Level>,
    /// What is in use is announced again after this long.
    #[serde(default = "announce_every")]
    pub announce_every: Time,
    /// How long the end waits for what has not been sent.
    #[serde(default = "drain_timeout")]
    pub drain_timeout: Time,
    /// Whether lines that come from the other side are obeyed.
    #[serde(default)]
    pub back_channel: bool,
    /// Whether text has colours, by level.
    #[serde(default)]
    pub colour: bool,
}

fn baud() -> u32 {
    115_200
}
fn data_bits() -> u8 {
    8
}
fn stop_bits() -> u8 {
    1
}
fn tick() -> Time {
    Time(Duration::from_micros(1))
}
fn frame() -> u32 {
    254
}
fn announce_every() -> Time {
    Time(Duration::from_secs(10))
}
fn drain_timeout() -> Time {
    Time(Duration::from_secs(2))
}

/// The bit after the data bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are everybody's")]
pub enum Parity {
    #[default]
    None,
    Even,
    Odd,
}

impl FromStr for Parity {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "none" => Ok(Self::None),
            "even" => Ok(Self::Even),
            "odd" => Ok(Self::Odd),
            _ => Err("write none, even or odd"),
        }
    }
}

/// How the other side stops the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// Not at all.
    #[default]
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF, two bytes that then mean nothing else.
    Software,
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for each record.
    #[default]
    Text,
    /// Frames, alone on the line.
    Binary,
    /// Frames, on a line on which others print text.
    Mixed,
}

/// What survives when more is recorded than the line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The newest: before each frame what is older than a frame's worth is given up.
    Newest,
    /// The oldest: what waits stays in the ring, which loses what does not fit.
    Oldest,
}

/// The longest `inflight_bytes`: a longer queue is the kernel's anyhow.
const MOST_INFLIGHT: u64 = 1 << 20;

impl Config {
    /// A device with all else left out.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            baud: baud(),
            data_bits: data_bits(),
            parity: Parity::None,
            stop_bits: stop_bits(),
            flow: Flow::None,
            format: Format::Text,
            tick: tick(),
            frame: frame(),
            inflight_bytes: None,
            keep: None,
            reserve_for: None,
            announce_every: announce_every(),
            drain_timeout: drain_timeout(),
            back_channel: false,
            colour: false,
        }
    }

    /// The device, and how the line is set up.
    pub(super) fn settings(&self) -> Settings {
        let Self { ref path, baud, data_bits, parity, stop_bits, flow, .. } = *self;
        Settings { path: path.clone(), baud, data_bits, parity, stop_bits, flow }
    }

    /// Bits on the line for each byte.
    pub(super) fn bits_per_byte(&self) -> u32 {
        let parity = u32::from(self.parity != Parity::None);
        1 + u32::from(self.data_bits) + parity + u32::from(self.stop_bits)
    }

    /// Bytes that the line carries in a second.
    pub(super) fn bytes_per_second(&self) -> f64 {
        f64::from(self.baud) / f64::from(self.bits_per_byte())
    }

    /// Bytes ahead of the line.
    pub(super) fn inflight(&self) -> usize {
        // Fast lines: as much as a thread may oversleep.
        let least = (self.bytes_per_second() * 0.004) as u64;
        let inflight = self.inflight_bytes.map_or_else(|| least.max(512), |Size(n)| n);
        inflight.clamp(1, MOST_INFLIGHT) as usize
    }

    /// What survives in a channel of this mode.
    pub(super) fn keeps(&self, mode: Mode) -> Keep {
        self.keep.unwrap_or(match mode {
            Mode::Overwrite => Keep::Newest,
            Mode::Discard | Mode::Block => Keep::Oldest,
        })
    }

    /// The level from which on records are important.
    pub(super) fn important(&self) -> Option<LogLevel> {
        self.reserve_for.map(|Level(level)| level)
    }

    pub(super) fn problems(&self, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key, message: &str| {
            problems.push(ConfigProblem { key, message: message.to_owned() });
        };
        match self.path.as_os_str().as_encoded_bytes() {
            [] => problem("path", "is empty: name the device; `rbpipe devices` lists them"),
            path if path.contains(&0) => problem("path", "has a NUL in it, which no path can have"),
            _ => {}
        }
        if self.baud == 0 {
            problem("baud", "is 0, which hangs up: write the line's rate, 115200 for example");
        }
        let text = self.format == Format::Text;
        match self.data_bits {
            8 => {}
            7 if text => {}
            7 => {
                problem("data_bits", "is 7, and frames need 8: leave it out, or format = \"text\"")
            }
            _ => problem("data_bits", "is 8, or 7 for text"),
        }
        if !matches!(self.stop_bits, 1 | 2) {
            problem("stop_bits", "is 1 or 2");
        }
        if self.flow == Flow::Software && !text {
            let message = "is \"software\", which takes two byte values (11 and 13, hexadecimal) \
                           out of the line, and three of four frames have one: write \
                           flow = \"hardware\" or \"none\", or format = \"text\"";
            problem("flow", message);
        }
        let Time(tick) = self.tick;
        if tick.is_zero() || tick > Duration::from_millis(1) {
            problem("tick", "is \"1 ns\" to \"1 ms\"");
        }
        if !(64..=4096).contains(&self.frame) {
            problem("frame", "is 64 to 4096 bytes");
        }
        if let Some(Size(inflight)) = self.inflight_bytes
            && !(u64::from(self.frame)..=MOST_INFLIGHT).contains(&inflight)
        {
            let message = format!("holds a frame, so is {} bytes to 1 MiB", self.frame);
            problem("inflight_bytes", &message);
        }
        if self.keep == Some(Keep::Newest) && plan.mode == Mode::Block {
            let message = "is \"newest\", which gives up older records, and mode = \"block\" \
                           promises to wait for room: leave it out, or change the mode";
            problem("keep", message);
        }
        let Time(announce) = self.announce_every;
        if announce < Duration::from_millis(100) {
            problem("announce_every", "is \"100 ms\" or more: the line would carry little else");
        }
        if self.colour && !text {
            problem("colour", "is for format = \"text\"");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rbpipe_core::class::ClassRegistry;
    use rbpipe_core::frontend::Geometry;

    use super::*;

    fn problems(config: &Config, mode: Mode) -> Vec<String> {
        let geometry = Geometry::new(4096, 2, 1, 84).expect("a geometry");
        let classes = Arc::new(ClassRegistry::new());
        let plan = ChannelPlan { name: "c".into(), geometry, mode, classes };
        config.problems(&plan).iter().map(|p| format!("{} {}", p.key, p.message)).collect()
    }

    /// Each says what is wrong with which key; nothing else is said.
    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        let config = || Config::new("/dev/ttyS0");
        let binary = || Config { format: Format::Binary, ..config() };
        let size = |n| Some(Size(n));
        let refused = [
            (Config { path: "".into(), ..config() }, "path is empty: name the device"),
            (Config { path: "a\0b".into(), ..config() }, "path has a NUL in it"),
            (Config { baud: 0, ..config() }, "baud is 0, which hangs up"),
            (Config { data_bits: 9, ..config() }, "data_bits is 8, or 7 for text"),
            (Config { data_bits: 7, ..binary() }, "data_bits is 7, and frames need 8"),
            (Config { stop_bits: 3, ..config() }, "stop_bits is 1 or 2"),
            (Config { flow: Flow::Software, ..binary() }, "flow is \"software\", which takes"),
            (Config { tick: Time(Duration::ZERO), ..config() }, "tick is \"1 ns\" to \"1 ms\""),
            (Config { tick: Time(Duration::from_secs(1)), ..config() }, "tick is \"1 ns\""),
            (Config { frame: 63, ..config() }, "frame is 64 to 4096 bytes"),
            (Config { frame: 4097, ..config() }, "frame is 64 to 4096 bytes"),
            (Config { inflight_bytes: size(253), ..config() }, "inflight_bytes holds a frame"),
            (Config { inflight_bytes: size(2 << 20), ..config() }, "inflight_bytes holds a frame"),
            (
                Config { announce_every: Time(Duration::from_millis(99)), ..config() },
                "announce_every is \"100 ms\" or more",
            ),
            (Config { colour: true, ..binary() }, "colour is for format = \"text\""),
        ];
        for (config, begins) in refused {
            let problems = problems(&config, Mode::Discard);
            assert!(problems.len() == 1 && problems[0].starts_with(begins), "{problems:?}");
        }
        let newest = Config { keep: Some(Keep::Newest), ..config() };
        let said = problems(&newest, Mode::Block);
        assert!(said.len() == 1 && said[0].starts_with("keep is \"newest\""), "{said:?}");
        assert!(problems(&newest, Mode::Discard).is_empty());
        let edges = Config {
            data_bits: 7,
            stop_bits: 2,
            flow: Flow::Software,
            tick: Time(Duration::from_millis(1)),
            frame: 64,
            inflight_bytes: size(64),
            announce_every: Time(Duration::from_millis(100)),
            colour: true,
            ..config()
        };
        assert!(problems(&edges, Mode::Block).is_empty());
    }
}
