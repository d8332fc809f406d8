//! `rbpipe recover`: makes a trace whole that a killed pipeline left.
//!
//! Copies metadata and each stream file up to its last whole packet; the source is not
//! changed. What other tools refuse (a file that ends inside a packet) is gone then.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::read::{self, StreamReader};
use crate::status::{count, say};

/// Arguments of `rbpipe recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The trace directory that was left
    pub path: PathBuf,
    /// Where the whole trace goes: a directory that does not exist, or is empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// There is no trace, or the copy cannot be written.
pub fn run(args: &RecoverArgs) -> anyhow::Result<()> {
    let metadata = std::sync::Arc::new(read::metadata(&args.path)?);
    let files = read::stream_files(&args.path)?;
    let to = args.out.display();
    if let Ok(mut entries) = fs::read_dir(&args.out) {
        ensure!(entries.next().is_none(), "{to}: is not empty; name another directory");
    }
    fs::create_dir_all(&args.out).with_context(|| format!("{to}: cannot be made"))?;
    let place = |path: &Path| fs::canonicalize(path).with_context(|| format!("{}", path.display()));
    if place(&args.out)?.starts_with(place(&args.path)?) {
        // Just made, and empty.
        let _ = fs::remove_dir(&args.out);
        bail!("{to}: lies in the trace, which is not to be changed; name another directory");
    }
    fs::copy(args.path.join("metadata"), args.out.join("metadata"))
        .with_context(|| format!("{to}: metadata cannot be written"))?;
    let (mut packets, mut events) = (0u64, 0u64);
    for file in files {
        let mut s = StreamReader::open(&file, &metadata)?;
        let Whole { bytes, packets: here, events: in_them } = whole(&mut s);
        packets += here;
        events += in_them;
        if let Some(damage) = &s.damage {
            say!("rbpipe recover: {}: {damage}", file.display());
        }
        if bytes == 0 {
            continue;
        }
        let name = file.file_name().unwrap_or_default();
        let copy = || -> io::Result<u64> {
            let mut from = File::open(&file)?.take(bytes);
            io::copy(&mut from, &mut File::create_new(args.out.join(name))?)
        };
        copy().with_context(|| format!("{to}: {} cannot be written", name.to_string_lossy()))?;
    }
    say!("rbpipe recover: {to}: {}, {}", count(packets, "packet"), count(events, "event"));
    Ok(())
}

/// What of a stream file is whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// So many bytes from its beginning.
    pub bytes: u64,
    /// Data packets in them.
    pub packets: u64,
    /// Events in those.
    pub events: u64,
}

/// Reads a stream up to its first damage: packets count that are whole, records included.
pub fn whole(s: &mut StreamReader) -> Whole {
    let mut whole = Whole { bytes: 0, packets: 0, events: 0 };
    while s.next_packet() {
        let mut here = 0;
        while let Some(record) = s.next_record() {
            here += u64::from(record.class.is_some());
        }
        if s.damage.is_some() {
            break;
        }
        whole.events += here;
        // A stream begins with an empty packet: no data.
        whole.packets += u64::from(s.header().is_some_and(|h| h.sequence > 0));
        whole.bytes = s.next;
    }
    whole
}
