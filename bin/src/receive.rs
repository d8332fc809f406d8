//! `rbpipe receive`: the other end of a serial line: its events into a trace, or printed.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use rbpipe_backends::file;
use rbpipe_backends::link::{Receive, Received, Session};
use rbpipe_backends::serial::device::Settings;
use rbpipe_backends::serial::{Flow, Parity};
use rbpipe_backends::units::Time;
use rbpipe_core::backend::{ChannelPlan, Context};
use rbpipe_core::channel::{ChannelOptions, Streams};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::packet::MAX_HEADER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{ChannelConfig, PipelineConfig, SourceConfig};
use crate::read::line::{Show, Text};
use crate::read::{Csv, Format, Printers, Selection, parse_filter};
use crate::sources::serial::hearing::Hearing;
use crate::sources::serial::line::{Line, Where, seen};
use crate::sources::serial::{BAUD, Config, summary};
use crate::status::say;
use crate::walk::{Asked, Ended, run_when};

/// Bytes that are kept for the trace while no sender has said who it is.
const KEPT: usize = 2 << 20;

/// Arguments of `rbpipe receive`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true).args(["out", "print"]))]
pub struct ReceiveArgs {
    /// The serial port (see `rbpipe devices`)
    #[arg(long, value_name = "DEV")]
    port: PathBuf,
    /// The sender's rate, bits a second
    #[arg(long, value_name = "N", default_value_t = BAUD, value_parser = clap::value_parser!(u32).range(1..))]
    baud: u32,
    /// What follows the sender's data bits: none, even or odd
    #[arg(long, value_name = "WHICH", default_value = "none")]
    parity: Parity,
    /// The sender's stop bits
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// Stop the sender by RTS where this side is slow
    #[arg(long)]
    hardware_flow: bool,
    /// Write a trace into this directory, when a sender has said who it is
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what is in DIR, if rbpipe wrote it
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Print events as they come, as `rbpipe read` does; text of others passes
    #[arg(long)]
    print: bool,
    /// How events are printed [default: text]
    #[arg(long, value_enum, requires = "print")]
    format: Option<Format>,
    /// Print only events of this name (see `rbpipe read`). May be repeated
    #[arg(long = "event", value_name = "GLOB", requires = "print")]
    events: Vec<String>,
    /// Print only events that match (see `rbpipe read`)
    #[arg(long, value_name = "EXPR", requires = "print", value_parser = parse_filter)]
    filter: Option<crate::read::Filter>,
    /// Say so when nothing has come for this long; 0: never
    #[arg(long, value_name = "TIME", default_value = "10 s")]
    quiet: Time,
}

impl ReceiveArgs {
    /// Where its trace goes; `None`: it prints.
    pub fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    fn line(&self) -> Where {
        let quiet = Some(self.quiet.0).filter(|t| !t.is_zero());
        let mut device = Settings::new(&self.port, self.baud);
        (device.parity, device.stop_bits) = (self.parity, self.stop_bits);
        if self.hardware_flow {
            device.flow = Flow::Hardware;
        }
        Where { device, quiet }
    }
}

/// Prints what comes, until it is told to end.
///
/// # Errors
/// The port cannot be had, or stdout cannot be written.
pub fn print(args: &ReceiveArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let asked = {
        let _runtime = runtime.enter();
        Asked::listen(None).context("cannot listen for signals")?
    };
    let mut line = Line::open(args.line())?;
    let select = Selection::new(&args.events, args.filter.clone(), Arc::default());
    let format = args.format.unwrap_or(Format::Text);
    let stdout = io::stdout();
    let text = if stdout.is_terminal() { Text::Harmless } else { Text::Plain };
    let printer = Printers::new(format, || Csv::new(&[], &[]));
    let mut hearing = Hearing::new(Show::new(out, format, Some(printer), select, (text, true)));
    let mut gone = false;
    while !asked.is_asked() && hearing.to.failed.is_none() && !gone {
        line.turn(&mut hearing);
        hearing.to.flush();
        gone = is_gone(&stdout);
    }
    asked.is_ending();
    line.end(&mut hearing);
    hearing.to.finish();
    let failed = hearing.to.failed.take().filter(|_| !gone);
    say!("rbpipe receive: {}", summary(&line, &hearing.books));
    failed.map_or(Ok(()), |e| Err(e.into()))
}

/// Whether nobody reads what is printed any more.
fn is_gone(stdout: &io::Stdout) -> bool {
    // Asked for nothing, poll still tells of a pipe that nobody reads.
    let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    let now = Timespec::default();
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

/// Writes a trace of what comes, until it is told to end.
///
/// # Errors
/// The port cannot be had, nobody sends, or the trace cannot be begun. What goes wrong later is
/// in [`Ended::errors`].
pub fn record(args: &ReceiveArgs, out: &Path) -> anyhow::Result<Ended> {
    run_when(None, |asked| {
        let line = Line::open(args.line())?;
        let (line, sender) = wait_for_a_sender(line, asked)?;
        let mut config = file::Config::new(out);
        config.overwrite = args.overwrite;
        let mut context = Context::new("received");
        // Its times are the trace's.
        context.clock_offset = sender.clock_offset;
        Ok((pipeline(line, config), context))
    })
}

/// Listens until a sender says who it is: its clock is the trace's.
fn wait_for_a_sender(mut line: Line, asked: &Asked) -> anyhow::Result<(Line, Session)> {
    struct Wait(Option<Session>);
    impl Receive for Wait {
        fn session(&mut self, session: &Session) {
            self.0.get_or_insert(*session);
        }
        fn record(&mut self, _: Received<'_>) {}
    }
    let mut wait = Wait(None);
    let (mut kept, mut forgotten) = (Vec::new(), 0);
    loop {
        kept.extend_from_slice(line.turn(&mut wait));
        if let Some(session) = wait.0 {
            if forgotten > 0 {
                tracing::warn!(
                    "{}: {forgotten} bytes that came before the sender said who it is are not kept",
                    line.path().display()
                );
            }
            return Ok((line.again_from(kept), session));
        }
        if kept.len() > KEPT {
            forgotten += kept.drain(..KEPT / 2).len();
        }
        if asked.is_asked() {
            bail!(
                "{}: ended before a sender said who it is; nothing was recorded ({})",
                line.path().display(),
                seen(line.health())
            );
        }
    }
}

/// A line into a trace.
fn pipeline(line: Line, file: file::Config) -> PipelineConfig {
    // About a minute and a half of a line at 115200 baud: no disk stands still for so long.
    let geometry = Geometry::new(64 << 10, 16, 4, MAX_HEADER as u32);
    let geometry = geometry.expect("powers of two in their bounds");
    let classes = Arc::new(ClassRegistry::new());
    let plan = ChannelPlan { name: "line".into(), geometry, mode: Mode::Discard, classes };
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: Some(Duration::from_millis(500)),
        read_timer: Some(Duration::from_millis(10)),
        prefault: false,
    };
    let config = Config::opened(line);
    PipelineConfig {
        name: "received".into(),
        control: false,
        duration: None,
        stop_timeout: Duration::from_secs(1),
        sources: vec![SourceConfig {
            name: "line".into(),
            channels: vec![0],
            type_name: "serial",
            config: Box::new(config),
        }],
        channels: vec![ChannelConfig { options, backend: "file", config: Box::new(file) }],
    }
}
