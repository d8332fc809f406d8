//! `serial`: what the serial backend of another machine sends, received.
//!
//! The port's bytes go through the link's decoder (`rbpipe_backends::link`); what it finds becomes
//! streams of the source's channels (`import`), with the sender's fields and losses, so that it
//! can go on to any backend. Losses on the line and at the sender are told apart in events of
//! their own (`events`). What is wrong with the line is recognised and said (`trouble`); no bytes
//! end it.

pub mod events;
pub mod hearing;
mod import;
pub mod line;
mod open;
pub mod timeline;
mod trouble;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rbpipe_backends::serial::device::Settings;
use rbpipe_backends::serial::{Flow, Parity};
use rbpipe_backends::units::Time;
use rbpipe_core::backend::ConfigProblem;
use serde::Deserialize;

use super::{Channels, Source, Stop};
use hearing::{Books, Hearing};
use import::Import;
use line::{Line, Where};
use timeline::Clock;

/// Bits a second where nothing is said.
pub const BAUD: u32 = 115_200;

/// Keys of `type = "serial"`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The port's device.
    pub path: PathBuf,
    /// Bits a second: those of the sender.
    #[serde(default = "baud")]
    pub baud: u32,
    /// What follows the sender's data bits.
    #[serde(default)]
    pub parity: Parity,
    /// 1 or 2, as the sender's.
    #[serde(default = "stop_bits")]
    pub stop_bits: u8,
    /// How this side stops the line.
    #[serde(default)]
    pub flow: Flow,
    /// Nothing for so long is said; 0: it is not.
    #[serde(default = "quiet")]
    pub quiet: Time,
    /// A line that is open already, and whose channel has the sender's clock.
    #[serde(skip)]
    pub open: Option<Line>,
}

impl Config {
    /// Of a line that is open already, and whose channel has the sender's clock.
    pub fn opened(line: Line) -> Self {
        let Settings { path, baud, parity, stop_bits, flow, .. } = line.settings().clone();
        let quiet = Time(std::time::Duration::ZERO);
        Self { path, baud, parity, stop_bits, flow, quiet, open: Some(line) }
    }
}

fn baud() -> u32 {
    BAUD
}

fn stop_bits() -> u8 {
    1
}

/// As long as five words of a sender that has nothing to send.
fn quiet() -> Time {
    Time(std::time::Duration::from_secs(10))
}

/// The source.
pub struct Serial;

/// A line, and whose clock its channel has.
pub struct Opened(Line, Clock);

impl Source for Serial {
    const TYPE: &'static str = "serial";
    const ABOUT: &'static str = "what the serial backend of another machine sends over a line";
    const SAMPLE: &'static str = "\
# The other end of a `type = \"serial\"` backend with format = \"binary\" or \"mixed\": its events,
# fields and losses, in streams of their own. Times are brought to this machine's clock by what
# both say of the date. What the line itself has to tell (who sends; what was lost at the sender
# and what on the line; text that others printed) are the events link:*.
type = \"serial\"
path = \"/dev/ttyUSB0\"   # the port (`rbpipe devices`); /dev/serial/by-id/… stays the same
baud = 115200           # the sender's rate
# parity = \"even\"       # none | even | odd: as the sender's
# stop_bits = 2         # 1 | 2: as the sender's
# flow = \"hardware\"     # none | hardware: how this side stops the line
quiet = \"10 s\"          # nothing for so long is said; \"0 s\": never
";
    type Config = Config;
    type Opened = Opened;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let path = config.path.as_os_str().as_encoded_bytes();
        if path.is_empty() || path.contains(&0) {
            let message = "is no device: name the port, /dev/ttyUSB0 say".into();
            problems.push(ConfigProblem { key: "path", message });
        }
        if config.baud == 0 {
            let message = "a rate of 0 hangs up: give the sender's".into();
            problems.push(ConfigProblem { key: "baud", message });
        }
        if !(1..=2).contains(&config.stop_bits) {
            let message = "is 1 or 2: write the sender's".into();
            problems.push(ConfigProblem { key: "stop_bits", message });
        }
        if config.flow == Flow::Software {
            let message = "\"software\" takes bytes out of frames: write \"none\" or \"hardware\"";
            problems.push(ConfigProblem { key: "flow", message: message.into() });
        }
        problems
    }

    fn claims(config: &Config) -> Option<(&'static str, String)> {
        Some(("path", config.path.display().to_string()))
    }

    fn open(config: Config) -> anyhow::Result<Opened> {
        if let Some(line) = config.open {
            return Ok(Opened(line, Clock::Senders));
        }
        let quiet = Some(config.quiet.0).filter(|t| !t.is_zero());
        let Config { path, baud, parity, stop_bits, flow, .. } = config;
        let device = Settings { path, baud, data_bits: 8, parity, stop_bits, flow };
        Ok(Opened(Line::open(Where { device, quiet })?, Clock::Ours))
    }

    fn run(Opened(mut line, clock): Opened, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let mut hearing = Hearing::new(Import::new(to, stop, clock)?);
        while !stop.is_stopped() && !hearing.to.is_closed() {
            line.turn(&mut hearing);
            hearing.to.turn();
        }
        line.end(&mut hearing);
        hearing.to.finish();
        to.counts.lost_before.fetch_add(hearing.books.refused, Ordering::Relaxed);
        tracing::info!("{}: {}", line.path().display(), summary(&line, &hearing.books));
        if hearing.to.left_out > 0 {
            let left_out = hearing.to.left_out;
            tracing::warn!("{left_out} lines of text came before any event, and were left out");
        }
        Ok(())
    }
}

/// What came over a line, in words.
pub fn summary(line: &Line, books: &Books) -> String {
    let mut out = line::seen(line.health());
    let Books { records, missing, refused, sessions } = *books;
    out += &format!(
        "; {records} events, {} lost on the line, {} lost at the sender",
        missing.line, missing.ring
    );
    for (n, what) in [
        (missing.before, "from before it was listened to"),
        (refused, "left out (too many streams or classes)"),
    ] {
        if n > 0 {
            out += &format!(", {n} {what}");
        }
    }
    if sessions > 1 {
        out += &format!("; {sessions} senders, one after the other");
    }
    match line.reopened {
        0 => {}
        1 => out += "; the port went away once",
        n => out += &format!("; the port went away {n} times"),
    }
    out
}
