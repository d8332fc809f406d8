//! The commands' side: `rbpipe status`, `flush`, `rotate`, `snapshot`, `stop`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::find::{self, Missing};
use super::protocol::{Command, Reply, Request, VERSION, line};
use crate::status::{say, short};

/// How long a pipeline may take to say how it stands.
const SOON: Duration = Duration::from_secs(10);
/// … and for what its outputs are asked for; it gives up before this itself.
const WORK: Duration = Duration::from_secs(40);
/// What is between the two looks that a rate is made of.
const BETWEEN: Duration = Duration::from_millis(500);
/// No reply is longer: some hundred thousand streams.
const LONGEST: u64 = 64 << 20;

/// Which pipeline.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The pipeline's name; may be left out when one runs
    pub name: Option<String>,
}

/// Arguments of `rbpipe status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub pipeline: NameArgs,
    /// What became of every record so far, as `--report` writes it
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rbpipe snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    pub pipeline: NameArgs,
    /// Copy into this directory, a trace: one that does not exist yet, or is empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Carry packets by splice(2), for channels with `memory = "memfd"`; write them not
    #[arg(long)]
    pub splice: bool,
    /// What was copied, as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a command could not do: the exit code is not the same.
pub enum Error {
    /// It is not clear which pipeline is meant.
    Usage(String),
    /// Nobody is there, or it says no.
    Failed(String),
    /// Not written to stdout.
    Output(io::Error),
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Nobody(why) => Self::Failed(why),
            Missing::Which(why) => Self::Usage(why),
        }
    }
}

/// A connection to a running pipeline.
struct Line {
    stream: BufReader<UnixStream>,
    name: String,
}

impl Line {
    fn open(args: &NameArgs) -> Result<Self, Error> {
        let (stream, name) = find::connect(args.name.as_deref())?;
        Ok(Self { stream: BufReader::new(stream), name })
    }

    /// Asks, and waits for the reply.
    fn ask(&mut self, command: Command, at_most: Option<Duration>) -> Result<Reply, Error> {
        let failed = |why: String| Error::Failed(format!("{:?}: {why}", self.name));
        let stream = self.stream.get_ref();
        stream.set_read_timeout(at_most).map_err(|e| failed(e.to_string()))?;
        // One that does not listen any more may still have said why.
        let stops = command == Command::Stop;
        let _ = (&mut &*stream).write_all(&line(&Request { version: VERSION, command }));
        let mut text = Vec::new();
        match (&mut self.stream).take(LONGEST).read_until(b'\n', &mut text) {
            Ok(_) if text.ends_with(b"\n") => {}
            Ok(_) if stops => {
                return Err(failed("it ended without a word".into()));
            }
            Ok(_) => return Err(failed("it has ended".into())),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(failed("it does not answer".into()));
            }
            Err(e) => return Err(failed(e.to_string())),
        }
        let reply: Reply = serde_json::from_slice(&text)
            .map_err(|e| failed(format!("its answer cannot be read: {e}")))?;
        match reply.error {
            Some(why) if reply.pieces.is_empty() => Err(failed(why)),
            _ => Ok(reply),
        }
    }
}

/// `rbpipe status`.
///
/// # Errors
/// Nobody is there.
pub fn status(args: &StatusArgs, out: &mut impl Write) -> Result<(), Error> {
    let mut pipeline = Line::open(&args.pipeline)?;
    let first = pipeline.ask(Command::Status, Some(SOON))?;
    if args.json {
        let report = first.report.unwrap_or(Value::Null);
        return writeln!(out, "{report:#}").map_err(Error::Output);
    }
    let begin = Instant::now();
    std::thread::sleep(BETWEEN);
    let second = pipeline.ask(Command::Status, Some(SOON))?;
    let text = words(&pipeline.name, &first, &second, begin.elapsed());
    out.write_all(text.as_bytes()).map_err(Error::Output)
}

/// `rbpipe flush`.
///
/// # Errors
/// Nobody is there, or it was not all done.
pub fn flush(args: &NameArgs) -> Result<(), Error> {
    let mut pipeline = Line::open(args)?;
    pipeline.ask(Command::Flush, Some(WORK))?;
    say!("rbpipe: {:?} is flushed", pipeline.name);
    Ok(())
}

/// `rbpipe rotate`: prints where the pieces are that have ended.
///
/// # Errors
/// Nobody is there, or it was not all done.
pub fn rotate(args: &NameArgs, out: &mut impl Write) -> Result<(), Error> {
    let mut pipeline = Line::open(args)?;
    let reply = pipeline.ask(Command::Rotate, Some(WORK))?;
    for piece in &reply.pieces {
        writeln!(out, "{piece}").map_err(Error::Output)?;
    }
    match reply.error {
        Some(why) => Err(Error::Failed(format!("{:?}: {why}", pipeline.name))),
        None => Ok(()),
    }
}

/// `rbpipe snapshot`: prints what was copied, and where it is.
///
/// # Errors
/// Nobody is there, or there is no snapshot.
pub fn snapshot(args: &SnapshotArgs, out: &mut impl Write) -> Result<(), Error> {
    let shown = args.out.display();
    // The pipeline may be at home in another directory.
    let path = std::path::absolute(&args.out)
        .map_err(|e| Error::Failed(format!("{shown}: is no path: {e}")))?;
    let Some(path) = path.to_str() else {
        return Err(Error::Usage(format!("--out {shown}: a path in UTF-8 is needed")));
    };
    let mut pipeline = Line::open(&args.pipeline)?;
    let ask = Command::Snapshot { out: path.to_owned(), splice: args.splice };
    let copied = pipeline.ask(ask, Some(WORK))?.snapshot.unwrap_or_default();
    if args.json {
        return writeln!(out, "{:#}", copied.json).map_err(Error::Output);
    }
    writeln!(out, "{}", copied.words).map_err(Error::Output)
}

/// `rbpipe stop`: returns when the pipeline has ended.
///
/// # Errors
/// Nobody is there, or it did not end well.
pub fn stop(args: &NameArgs) -> Result<(), Error> {
    let mut pipeline = Line::open(args)?;
    let code = pipeline.ask(Command::Stop, None)?.exit;
    // To the last: its process holds the other end.
    let _ = pipeline.stream.get_ref().set_read_timeout(Some(SOON));
    let _ = pipeline.stream.read(&mut [0]);
    match code {
        Some(0) => {
            say!("rbpipe: {:?} has ended", pipeline.name);
            Ok(())
        }
        code => {
            let (name, code) = (&pipeline.name, code.unwrap_or(1));
            Err(Error::Failed(format!("{name:?} has ended, but not well (exit code {code})")))
        }
    }
}

// --- words --------------------------------------------------------------------------

fn words(name: &str, first: &Reply, second: &Reply, between: Duration) -> String {
    let (Some(before), Some(report)) = (&first.report, &second.report) else {
        return format!("{name}: it says nothing\n");
    };
    let live = second.live.clone().unwrap_or_default();
    let seconds = report["seconds"].as_f64().unwrap_or(0.0);
    let mut out = format!("{name}: running for {} (process {})\n", age(seconds), live.pid);
    let none = serde_json::Map::new();
    for (channel, c) in report["channels"].as_object().unwrap_or(&none) {
        let standing = |reply: &Reply| {
            let mut all = reply.live.iter().flat_map(|l| &l.channels);
            all.find(|l| l.name == *channel).cloned().unwrap_or_default()
        };
        let (then, now) = (standing(first), standing(second));
        let before = &before["channels"][channel];
        // With what is not delivered yet: packets come in bursts, events do not.
        let rate = |key: &str, then: u64, now: u64| {
            let grown = (number(&c[key]) + now).saturating_sub(number(&before[key]) + then);
            short(grown as f64 / between.as_secs_f64().max(1e-3))
        };
        let lost: u64 = ["full", "wrap", "too_big"].iter().map(|w| number(&c["lost"][w])).sum();
        out.push_str(&format!(
            "  channel {channel} ({}, {}): {} recorded, {lost} lost",
            c["backend"].as_str().unwrap_or("?"),
            c["mode"].as_str().unwrap_or("?"),
            number(&c["recorded"]) + now.events,
        ));
        for (what, n) in [
            ("overwritten", number(&c["overwritten"])),
            ("aborted", number(&c["aborted"])),
            ("in packets that could not be written", number(&c["output"]["failed_records"])),
        ] {
            if n > 0 {
                out.push_str(&format!(", {n} {what}"));
            }
        }
        out.push_str(&format!(
            "; {}events/s, {}B/s; fullest stream {:.0} %\n",
            rate("recorded", then.events, now.events),
            rate("bytes", then.bytes, now.bytes),
            now.fill * 100.0
        ));
    }
    for (source, s) in report["sources"].as_object().unwrap_or(&none) {
        out.push_str(&format!("  source {source}: {} read", number(&s["read"])));
        match number(&s["lost_before"]) {
            0 => {}
            n => out.push_str(&format!(", {n} lost before")),
        }
        out.push_str(if live.running.contains(source) { "\n" } else { ", has ended\n" });
    }
    out
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Seconds as people say them.
fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ages() {
        for (seconds, text) in
            [(1.25, "1.2 s"), (61.0, "1 min 1 s"), (7260.0, "2 h 1 min"), (90_000.0, "1 d 1 h")]
        {
            assert_eq!(super::age(seconds), text);
        }
    }
}
