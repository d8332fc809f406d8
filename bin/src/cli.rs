//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A telemetry pipeline on a lock-free ring buffer that writes anywhere.
///
/// `rbpipe --config pipeline.toml` runs a pipeline until its sources end, its `duration`
/// passes, or SIGINT or SIGTERM; a second SIGINT ends it at once.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Which pipeline, and what is changed in it.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The pipeline's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override one key: `--set channel.trace.mode=overwrite`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Also try to open the devices, sockets and files; nothing is recorded or replaced
    #[arg(long)]
    pub devices: bool,
}

/// The main job.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run the pipeline of this configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key: `--set channel.trace.mode=overwrite`
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    pub set: Vec<String>,
    /// Write what became of every record, as JSON, when the pipeline has ended
    #[arg(long, value_name = "FILE.json", requires = "config")]
    pub report: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a configuration without opening anything
    Check(CheckArgs),
    /// What this build can write to; with a name, its keys
    Backends {
        /// A backend's type: prints its keys, as a table to be pasted
        name: Option<String>,
    },
    /// Where this build can read from; with a name, its keys
    Sources {
        /// A source's type: prints its keys, as a table to be pasted
        name: Option<String>,
    },
    /// Kernel tracing, serial ports, GPUs: what is there, and what to do about what is not
    Devices(crate::devices::DevicesArgs),
    /// Print a trace, its streams merged by time
    Read(crate::read::ReadArgs),
    /// Draw a trace: as a PNG, or in the terminal
    ///
    /// A lane for each CPU and for the busiest threads (of the kernel's `sched_switch`), else for
    /// each stream; bands that show how many events there were, and what is missing.
    View(crate::view::ViewArgs),
    /// Receive what a serial backend sends: into a trace, or printed
    ///
    /// Events keep the sender's fields and times. What was lost at the sender and what on the
    /// line are told apart (`link:loss`; at the end, on stderr). It waits for a sender, for a port
    /// that went away, and ends with SIGINT or SIGTERM; no bytes end it.
    Receive(crate::receive::ReceiveArgs),
    /// What each backend costs its writers, what comes out of it and what is lost, beside this
    /// machine's limits
    ///
    /// Writes into every backend of this build that needs no device (a serial line is a pseudo
    /// terminal that it opens itself), in every mode, and prints a table: one minute. Files go into
    /// a directory of its own under `--dir`, which is removed. Rounds of all rows take turns; figures
    /// are their middles, with the least and the most.
    Bench(crate::bench::BenchArgs),
    /// Make a trace whole that a killed pipeline left
    Recover(crate::recover::RecoverArgs),
    /// How a running pipeline stands: recorded, lost, rates, fill
    Status(crate::control::client::StatusArgs),
    /// Returns when everything recorded so far is in the output
    Flush(crate::control::client::NameArgs),
    /// End the current piece of the trace, begin the next one; prints where the ended one is
    Rotate(crate::control::client::NameArgs),
    /// Copy what a pipeline's flight recorders hold into a trace, while it goes on
    Snapshot(crate::control::client::SnapshotArgs),
    /// End a running pipeline as SIGTERM does; returns when it has ended
    Stop(crate::control::client::NameArgs),
}
