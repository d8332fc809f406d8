//! Records events of one kind of this machine's kernel with rbpipe, and writes them as a recording
//! (`tests/src/recording.rs`). `benches/recordings/record` runs it; see the README there.
//!
//! The pipeline is the program's own: `source.ftrace` into a trace. What is in the trace is then
//! read packet by packet, merged by time, and the first so many events are kept. Events that the
//! kernel or the pipeline lost would falsify every figure: then nothing is written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::packet::{PacketHeader, StreamClass};
use rbpipe_tests::program;
use rbpipe_tests::recording::{Recorded, Recording};
use rbpipe_tests::tracefs::tracefs;

/// Records events of the kernel's.
#[derive(Parser)]
struct Arguments {
    /// The file to write: text, not packed.
    #[arg(long)]
    out: PathBuf,
    /// SYSTEM:EVENT
    #[arg(long, default_value = "sched:sched_switch")]
    event: String,
    /// How many: with fewer nothing is written.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// How long is recorded.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

fn main() -> ExitCode {
    match record(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("record_switches: {e}");
            ExitCode::FAILURE
        }
    }
}

fn record(arguments: &Arguments) -> Result<(), String> {
    let tracefs = tracefs("record_switches").ok_or("without tracefs there is nothing to record")?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let toml = format!(
        r#"
[pipeline]
name = "recording"
duration = "{} s"
[source.kernel]
type = "ftrace"
events = ["{}"]
channel = "trace"
[channel.trace]
streams = "single"
subbuf_size = "1 MiB"
subbuf_count = 16
[channel.trace.backend]
type = "file"
path = "trace"
"#,
        arguments.seconds, arguments.event
    );
    let (out, report) = program::run(dir.path(), &toml);
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let lost = &report["channels"]["trace"]["lost"];
    let before = &report["sources"]["kernel"]["lost_before"];
    if ["full", "wrap", "too_big"].iter().any(|why| lost[why] != 0) || before != 0 {
        return Err(format!("events were lost ({before} in the kernel, {lost}): try again"));
    }
    let format = arguments.event.replace(':', "/");
    let format = fs::read_to_string(tracefs.path(&format!("events/{format}/format")))
        .map_err(|e| format!("the event's format: {e}"))?;
    let mut recording = Recording::new(&arguments.event, &format)?;
    let mut all = Vec::new();
    let classes = Classes::new([recording.class.clone()]);
    for entry in fs::read_dir(dir.path().join("trace")).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.file_name().is_some_and(|n| n != "metadata") {
            read(&path, &classes, &mut all)?;
        }
    }
    let (found, wanted, seconds) = (all.len(), arguments.events, arguments.seconds);
    if found < wanted {
        return Err(format!(
            "{found} events in {seconds} s, {wanted} are wanted: record for longer, or see whether \
             the machine is at work"
        ));
    }
    // Stable: those of one CPU stay in their order.
    all.sort_by_key(|(time, cpu, _)| (*time, *cpu));
    for (time, cpu, payload) in all.iter().take(arguments.events) {
        recording.push(Recorded { cpu: *cpu, time: *time, payload })?;
    }
    let text = recording.text();
    if Recording::parse(&text)? != recording {
        return Err("what was written is not what is read".into());
    }
    let mut file = fs::File::create(&arguments.out).map_err(|e| e.to_string())?;
    file.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
    eprintln!(
        "{} events in {:.1} s on {} CPUs ({} were recorded)",
        recording.len(),
        recording.nanoseconds() as f64 / 1e9,
        recording.cpus().len(),
        all.len()
    );
    Ok(())
}

/// Adds the records of a stream file: time, CPU, payload.
fn read(path: &Path, classes: &Classes, all: &mut Vec<(u64, u32, Vec<u8>)>) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let header = PacketHeader::decode(rest, |_| Some(StreamClass::Cpu))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let content = &rest[..header.content_size as usize];
        let mut cursor = Cursor::new(StreamClass::Cpu.header_size() as usize, header.begin);
        while let Some(r) = cursor.next(content, classes).map_err(|e| e.to_string())? {
            let payload = content[r.payload.0..r.payload.1].to_vec();
            all.push((r.time, header.origin, payload));
        }
        rest = &rest[header.packet_size as usize..];
    }
    Ok(())
}
