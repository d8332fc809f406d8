//! rbpipe: a telemetry pipeline on a lock-free ring buffer that writes anywhere.
//!
//! The program as a library, for itself and for its fuzzers: no interface that others could
//! build on (that is `rbpipe-core`).
//!
//! Text for people goes to stderr, data to stdout. Exit codes: 0 done; 1 the pipeline failed
//! (what was recorded is kept); 2 usage or configuration.

#![forbid(unsafe_code)]
// Where stderr cannot be written, nothing else is to stop: `status::tell`.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod cli;
mod config;
mod control;
mod devices;
#[doc(hidden)]
pub mod fuzz;
mod read;
mod receive;
mod recover;
mod report;
mod snapshots;
mod sources;
mod status;
mod view;
mod walk;

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rbpipe_core::backend::{Backend, Visit};
use rustix::process::{Resource, getrlimit, setrlimit};

use cli::{CheckArgs, Cli, Command, RunArgs};
use control::claim::Taken;
use control::client;
use sources::{Source, VisitSource};
use status::say;
use tracing_subscriber::EnvFilter;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Runs the program on the command line that it was called with.
#[must_use]
pub fn run() -> ExitCode {
    // While there is one thread.
    rbpipe_backends::gpu::quiet_drivers();
    let cli = Cli::parse();
    take_all_files();
    tracing_subscriber::fmt()
        .with_writer(|| status::LogWriter)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        // It would tell stderr that stderr cannot be written, and panic.
        .log_internal_errors(false)
        .with_env_filter(log_filter(&cli))
        .init();
    let code = match cli.command {
        None => pipeline(&cli.run),
        Some(Command::Check(args)) => check(&args),
        Some(Command::Backends { name }) => {
            list("backend", "[channel.NAME.backend]\n", &backends(), name.as_deref())
        }
        Some(Command::Sources { name }) => {
            let header = "[source.NAME]\nchannel = \"NAME\"        # or a list of channels\n";
            list("source", header, &sources_list(), name.as_deref())
        }
        Some(Command::Read(args)) => match args.check() {
            Ok(()) => done(read::run(&args, &mut raw_stdout())),
            Err(message) => {
                say!("rbpipe read: {message}");
                USAGE
            }
        },
        Some(Command::View(args)) => done(view::run(&args, &mut raw_stdout())),
        Some(Command::Receive(args)) => received(&args),
        Some(Command::Devices(args)) => done(devices::run(&args, &mut raw_stdout())),
        Some(Command::Bench(args)) => benched(&args),
        Some(Command::Recover(args)) => done(recover::run(&args)),
        Some(Command::Status(args)) => talked(client::status(&args, &mut io::stdout())),
        Some(Command::Flush(args)) => talked(client::flush(&args)),
        Some(Command::Rotate(args)) => talked(client::rotate(&args, &mut io::stdout())),
        Some(Command::Snapshot(args)) => talked(client::snapshot(&args, &mut io::stdout())),
        Some(Command::Stop(args)) => talked(client::stop(&args)),
    };
    status::flush();
    ExitCode::from(code)
}

/// What of the log is shown: `RBPIPE_LOG=debug`, `error`, ….
fn log_filter(cli: &Cli) -> EnvFilter {
    let wanted = std::env::var("RBPIPE_LOG").unwrap_or_default();
    if wanted.is_empty() {
        // A bench opens a backend some hundred times.
        return if matches!(cli.command, Some(Command::Bench(_))) { "error" } else { "info" }
            .into();
    }
    EnvFilter::try_new(&wanted).unwrap_or_else(|e| {
        say!("rbpipe: RBPIPE_LOG={wanted}: {e}; `error`, `warn`, `info` and `debug` are accepted");
        "info".into()
    })
}

/// A trace has a file for each stream, and there may be more streams than the usual limit.
fn take_all_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Not allowed: then what there is must do, and a file that cannot be opened is named.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// stdout without std's line buffer: `read` gathers what it writes itself.
fn raw_stdout() -> impl Write {
    struct Raw(io::Stdout);
    impl Write for Raw {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(rustix::io::write(&self.0, bytes)?)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    Raw(io::stdout())
}

/// The exit code of a command that prints; a reader that went away is no failure.
fn done(result: anyhow::Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(e) if is_broken_pipe(&e) => 0,
        Err(e) => {
            say!("rbpipe: {e:#}");
            FAILED
        }
    }
}

/// The exit code of a command that talked to a pipeline.
fn talked(result: Result<(), client::Error>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(client::Error::Output(e)) => done(Err(e.into())),
        Err(client::Error::Failed(why)) => {
            say!("rbpipe: {why}");
            FAILED
        }
        Err(client::Error::Usage(why)) => {
            say!("rbpipe: {why}");
            USAGE
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<io::Error>())
        .any(|e| e.kind() == ErrorKind::BrokenPipe)
}

fn pipeline(args: &RunArgs) -> u8 {
    let Some(path) = &args.config else {
        say!("rbpipe: --config FILE is needed; `rbpipe --help` shows what there is");
        return USAGE;
    };
    let config = match config::read(path, &args.set) {
        Ok((config, warnings)) => {
            if let Some(w) = warnings {
                status::tell(&w.for_stderr());
            }
            config
        }
        Err(problems) => {
            status::tell(&problems.for_stderr());
            return USAGE;
        }
    };
    if args.report.as_ref().is_some_and(|report| is_same(report, path)) {
        say!("rbpipe: {}: the report would replace the configuration", path.display());
        return USAGE;
    }
    // Before anything is opened or removed: the report of a pipeline that runs, too.
    let claim = match config.control.then(|| control::claim::claim(&config.name)) {
        None => None,
        Some(Ok(claim)) => Some(Arc::new(claim)),
        Some(Err(Taken::Runs(why))) => {
            say!("rbpipe: {why}");
            return FAILED;
        }
        Some(Err(Taken::Trouble(why))) => {
            tracing::warn!("{why}; it runs without a control socket (`control = false`)");
            None
        }
    };
    // Before anything is recorded: an old report must not pass for this one's, and a place that
    // cannot be written is better known now than in a week.
    let report = match args.report.as_ref().map(|path| (path, File::create(path))) {
        None => None,
        Some((path, Ok(file))) => Some((path, file)),
        Some((path, Err(e))) => {
            say!("rbpipe: {}: the report cannot be written: {e}", path.display());
            return USAGE;
        }
    };
    let name = config.name.clone();
    let ended = walk::run(config, claim).unwrap_or_else(|e| walk::Ended::nothing(name, e));
    last_words(ended, report)
}

/// Ended before its time by SIGINT, as the pipeline's second one.
const INTERRUPTED: u8 = 130;

fn benched(args: &bench::BenchArgs) -> u8 {
    match bench::run(args, &mut raw_stdout()) {
        Ok(false) => 0,
        Ok(true) => INTERRUPTED,
        Err(bench::Error::Failed(e)) => done(Err(e)),
        Err(bench::Error::Usage(why)) => {
            say!("rbpipe bench: {why}");
            USAGE
        }
    }
}

/// The other end of a serial line.
fn received(args: &receive::ReceiveArgs) -> u8 {
    match args.out() {
        None => done(receive::print(args, &mut raw_stdout())),
        Some(out) => {
            let ended = receive::record(args, out);
            last_words(ended.unwrap_or_else(|e| walk::Ended::nothing("received".into(), e)), None)
        }
    }
}

/// Says how a pipeline has ended; gives the program's exit code.
fn last_words(mut ended: walk::Ended, report: Option<(&PathBuf, File)>) -> u8 {
    let mut failed = ended.failed;
    // The report first: it is for programs, which may not have got anything else.
    if let Some((path, mut file)) = report {
        let text = format!("{:#}\n", report::json(&ended));
        if let Err(e) = file.write_all(text.as_bytes()) {
            say!("rbpipe: {}: the report cannot be written: {e}", path.display());
            failed = true;
        }
    }
    if !ended.channels.is_empty() {
        status::tell(&report::summary(&ended));
    }
    for e in &ended.errors {
        say!("rbpipe: {e:#}");
    }
    // While `ended` still answers a second SIGINT.
    status::flush();
    let code = if failed { FAILED } else { 0 };
    if let Some(server) = ended.server.take() {
        server.end(code);
    }
    code
}

/// Whether two paths are one file.
fn is_same(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn check(args: &CheckArgs) -> u8 {
    let path = args.config.config.display();
    let config = match config::read(&args.config.config, &args.config.set) {
        Ok((config, warnings)) => {
            if let Some(w) = warnings {
                status::tell(&w.for_stderr());
            }
            config
        }
        Err(problems) => {
            status::tell(&problems.for_stderr());
            return USAGE;
        }
    };
    let sources = status::count(config.sources.len() as u64, "source");
    let channels = status::count(config.channels.len() as u64, "channel");
    let errors = if args.devices { walk::try_to_open(config) } else { Vec::new() };
    for e in &errors {
        say!("rbpipe: {e:#}");
    }
    if !errors.is_empty() {
        return FAILED;
    }
    let opened = if args.devices { ", all can be opened" } else { "" };
    say!("{path}: fine: {sources}, {channels}{opened}");
    0
}

/// What a registry has: type, one line, sample.
type Listed = Vec<(&'static str, &'static str, &'static str)>;

fn backends() -> Listed {
    struct List(Listed);
    impl Visit for List {
        fn visit<B: Backend>(&mut self) {
            self.0.push((B::TYPE, B::ABOUT, B::SAMPLE));
        }
    }
    let mut list = List(Vec::new());
    rbpipe_backends::for_each(&mut list);
    list.0
}

fn sources_list() -> Listed {
    struct List(Listed);
    impl VisitSource for List {
        fn visit<S: Source>(&mut self) {
            self.0.push((S::TYPE, S::ABOUT, S::SAMPLE));
        }
    }
    let mut list = List(Vec::new());
    sources::for_each(&mut list);
    list.0
}

fn list(what: &str, header: &str, all: &Listed, name: Option<&str>) -> u8 {
    let text = match name {
        None => all.iter().map(|(name, about, _)| format!("{name:<10} {about}\n")).collect(),
        Some(name) => match all.iter().find(|(n, ..)| *n == name) {
            Some((_, _, sample)) => format!("{header}{sample}"),
            None => {
                let names = all.iter().map(|(n, ..)| *n);
                let help = config::problem::suggest(name, names);
                say!("rbpipe: there is no {what} {name:?} in this build; {help}");
                return USAGE;
            }
        },
    };
    done(io::stdout().write_all(text.as_bytes()).map_err(Into::into))
}
