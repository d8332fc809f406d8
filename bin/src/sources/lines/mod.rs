//! `lines`: lines of text from stdin, a file that may grow, or sockets.
//!
//! Nothing that comes in is fatal: a long line is cut at a stated limit and marked, bytes
//! that are not UTF-8 and NUL are escaped. It ends within its poll interval when told to stop;
//! what has come in by then is still read.

mod address;
mod connections;
mod datagrams;
mod file;
mod socket;
pub mod split;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rbpipe_backends::units::Size;
use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::class::{EventClass, Field, FieldType};
use serde::Deserialize;

use super::payload::Payload;
use super::{Channels, Class, Source, Stop};
use address::From;
use socket::Socket;
use split::Splitter;

/// How long a source that waits for bytes may be deaf to `stop`.
const POLL: Duration = Duration::from_millis(50);

/// Keys of `type = "lines"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where lines come from.
    pub from: String,
    /// Wait for more at the end of a file.
    #[serde(default)]
    pub follow: bool,
    /// Longest line.
    #[serde(default = "max_line")]
    pub max_line: Size,
}

fn max_line() -> Size {
    Size(4096)
}

/// The source.
pub struct Lines;

/// Where lines come from, open.
enum Input {
    Stdin,
    /// Opened when it is read: a named pipe waits for its writers.
    File(PathBuf),
    Connections(Vec<Socket>),
    Datagrams(Vec<Socket>),
}

/// What it runs with.
pub struct Opened {
    config: Config,
    input: Input,
}

impl Source for Lines {
    const TYPE: &'static str = "lines";
    const ABOUT: &'static str = "lines of text from stdin, a file, a TCP, UDP or Unix socket";
    const SAMPLE: &'static str = "\
# Lines of text (`rbpipe:line`). Bytes that are not UTF-8 become \\xNN; cut lines end in `…`.
type = \"lines\"
from = \"stdin\"          # stdin | file:PATH (a named pipe, too) | unix:PATH | tcp:ADDR:PORT |
                        # udp:ADDR:PORT; ADDR: 127.0.0.1, [::1], a name; 0.0.0.0 and [::]: all.
                        # unix: a socket (0600) that it makes and takes away. At most 256
                        # connections at a time; in block mode who sends waits. Datagrams that
                        # the kernel could not keep are counted in `lost_before`. When told to
                        # stop it reads what has come in, at most 200 ms long.
follow = false          # at the end of a file wait for more (also when it is replaced)
max_line = \"4 KiB\"
";
    type Config = Config;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let from = address::parse(&config.from);
        if config.follow && from.as_ref().is_ok_and(|f| !matches!(f, From::File(_))) {
            let message = "only the end of a file needs it: the others are followed anyway".into();
            problems.push(ConfigProblem { key: "follow", message });
        }
        if let Err(message) = from {
            problems.push(ConfigProblem { key: "from", message });
        }
        if !(16..=1 << 20).contains(&config.max_line.0) {
            let message = "a line has at least 16 bytes and at most 1 MiB".into();
            problems.push(ConfigProblem { key: "max_line", message });
        }
        problems
    }

    fn claims(config: &Config) -> Option<(&'static str, String)> {
        match address::parse(&config.from) {
            // Two readers would tear lines apart.
            Ok(From::Stdin | From::Unix(_)) => Some(("from", config.from.clone())),
            Ok(From::Tcp(a) | From::Udp(a)) if a.port != 0 => Some(("from", config.from.clone())),
            _ => None,
        }
    }

    type Opened = Opened;

    fn open(config: Config) -> anyhow::Result<Opened> {
        let input = match address::parse(&config.from).map_err(anyhow::Error::msg)? {
            From::Stdin => Input::Stdin,
            From::File(path) => Input::File(path),
            From::Unix(path) => Input::Connections(vec![socket::unix(&path)?]),
            From::Tcp(address) => Input::Connections(socket::tcp(&address)?),
            From::Udp(address) => Input::Datagrams(socket::udp(&address)?),
        };
        Ok(Opened { config, input })
    }

    fn run(opened: Opened, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let Opened { config, input } = opened;
        let class = to.class(&EventClass::new(
            "rbpipe:line",
            vec![Field::new("line", FieldType::String), Field::new("origin", FieldType::String)],
        ))?;
        let max_line = config.max_line.0 as usize;
        let mut lines = Splitter::new(max_line);
        let mut out = Out { to, class, origin: config.from.clone(), payload: Payload::default() };
        match input {
            Input::Stdin => {
                file::read_waiting(io::stdin().as_fd(), &mut lines, &mut out, stop)
                    .context("stdin")?;
            }
            Input::File(path) => {
                file::read_file(&path, config.follow, &mut lines, &mut out, stop)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
            }
            Input::Connections(sockets) => {
                connections::read(&sockets, max_line, &mut out, stop);
            }
            Input::Datagrams(sockets) => datagrams::read(&sockets, max_line, &mut out, stop),
        }
        // What there is without an end of line is a line.
        lines.finish(|line| out.line(line));
        Ok(())
    }
}

struct Out<'a> {
    to: &'a Channels,
    class: Class,
    origin: String,
    payload: Payload,
}

impl Out<'_> {
    fn line(&mut self, line: &str) -> bool {
        self.payload.clear().text(line).text(&self.origin);
        self.to.record(&self.class, self.payload.bytes())
    }
}
