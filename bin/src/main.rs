//! rbpipe: a telemetry pipeline on a lock-free ring buffer that writes anywhere.
//!
//! Text for people goes to stderr, data to stdout. Exit codes: 0 done; 1 the pipeline failed
//! (what was recorded is kept); 2 usage or configuration.

#![forbid(unsafe_code)]

mod cli;
mod config;
mod read;
mod recover;
mod report;
mod sources;
mod status;
mod walk;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use rbpipe_core::backend::{Backend, Visit};

use cli::{Cli, Command, ConfigArgs, RunArgs};
use sources::{Source, VisitSource};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(|| status::LogWriter)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("RBPIPE_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .init();
    let code = match cli.command {
        None => run(&cli.run),
        Some(Command::Check(args)) => check(&args),
        Some(Command::Backends { name }) => list("backend", &backends(), name.as_deref()),
        Some(Command::Sources { name }) => list("source", &sources_list(), name.as_deref()),
        Some(Command::Read(args)) => done(read::run(&args, &mut raw_stdout())),
        Some(Command::Recover(args)) => done(recover::run(&args)),
    };
    ExitCode::from(code)
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
            eprintln!("rbpipe: {e:#}");
            FAILED
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<io::Error>())
        .any(|e| e.kind() == ErrorKind::BrokenPipe)
}

fn run(args: &RunArgs) -> u8 {
    let Some(path) = &args.config else {
        eprintln!("rbpipe: --config FILE is needed; `rbpipe --help` shows what there is");
        return USAGE;
    };
    let config = match config::read(path, &args.set) {
        Ok((config, warnings)) => {
            if let Some(w) = warnings {
                eprint!("{}", w.for_stderr());
            }
            config
        }
        Err(problems) => {
            eprint!("{}", problems.for_stderr());
            return USAGE;
        }
    };
    let ended = match walk::run(config) {
        Ok(ended) => ended,
        Err(e) => {
            eprintln!("rbpipe: {e:#}");
            return FAILED;
        }
    };
    eprint!("{}", report::summary(&ended));
    let mut failed = !ended.errors.is_empty();
    for e in &ended.errors {
        eprintln!("rbpipe: {e:#}");
    }
    if let Some(path) = &args.report {
        let text = format!("{:#}\n", report::json(&ended));
        if let Err(e) = std::fs::write(path, text) {
            eprintln!("rbpipe: {}: the report cannot be written: {e}", path.display());
            failed = true;
        }
    }
    if failed { FAILED } else { 0 }
}

fn check(args: &ConfigArgs) -> u8 {
    match config::read(&args.config, &args.set) {
        Ok((config, warnings)) => {
            if let Some(w) = warnings {
                eprint!("{}", w.for_stderr());
            }
            eprintln!(
                "{}: fine: {} sources, {} channels",
                args.config.display(),
                config.sources.len(),
                config.channels.len()
            );
            0
        }
        Err(problems) => {
            eprint!("{}", problems.for_stderr());
            USAGE
        }
    }
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

fn list(what: &str, all: &Listed, name: Option<&str>) -> u8 {
    let text = match name {
        None => all.iter().map(|(name, about, _)| format!("{name:<10} {about}\n")).collect(),
        Some(name) => match all.iter().find(|(n, ..)| *n == name) {
            Some((_, _, sample)) => (*sample).to_owned(),
            None => {
                let names = all.iter().map(|(n, ..)| *n);
                let help = config::problem::suggest(name, names);
                eprintln!("rbpipe: there is no {what} {name:?} in this build; {help}");
                return USAGE;
            }
        },
    };
    done(io::stdout().write_all(text.as_bytes()).map_err(Into::into))
}
