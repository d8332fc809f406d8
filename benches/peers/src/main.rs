//! `cargo run --release -p rbpipe-peers -- --seconds 60`: see the library's first lines.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rbpipe_peers::file::{self, Files};
use rbpipe_peers::machine::{self, Machine};
use rbpipe_peers::session::{Plan, Row, Session};
use rbpipe_peers::table;
use serde::Serialize;

/// What a record costs, beside other crates' queues. Prints a table.
#[derive(Parser)]
struct Arguments {
    /// How long, about; three rounds at least
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Milliseconds of one run
    #[arg(long, default_value_t = 40)]
    run: u64,
    /// Only peers whose name has this in it (again for more)
    #[arg(long)]
    only: Vec<String>,
    /// Writes what was found, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measures writing to files, too, in a directory of its own in this one
    #[arg(long)]
    file: Option<PathBuf>,
    /// Rounds of that
    #[arg(long, default_value_t = 7)]
    file_rounds: usize,
    /// MiB of each of them
    #[arg(long, default_value_t = 512)]
    file_mib: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    rounds: usize,
    rows: &'a [Row],
    file: Option<&'a Files>,
}

fn main() -> anyhow::Result<()> {
    let args = Arguments::parse();
    let machine = Machine::look();
    // Before this thread has one CPU alone: the backend's threads take what it has.
    let files = args.file.as_ref().map(|dir| file::run(dir, args.file_rounds, args.file_mib << 20));
    let files = files.transpose()?;
    let plan = Plan {
        time: Duration::from_secs(args.seconds),
        least: 3,
        run: Duration::from_millis(args.run),
        only: args.only,
    };
    // What peers start is where the consumer is.
    machine::pin(1);
    let shown = stderr().is_terminal();
    let session = Session::run(&plan, &mut |n| {
        if shown {
            eprint!("\rround {n} ");
        }
    });
    if shown {
        eprintln!();
    }
    let rows = session.rows();
    println!("{}; {} rounds.\n", machine.words(), session.rounds);
    print!("{}", table::show(&rows, files.as_ref()));
    if let Some(path) = args.json {
        let document = Document {
            machine: &machine,
            rounds: session.rounds,
            rows: &rows,
            file: files.as_ref(),
        };
        let text = serde_json::to_string_pretty(&document)?;
        std::fs::write(&path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
