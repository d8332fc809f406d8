//! What the program does on a wire, in figures: how full the line is, how old what arrives is,
//! what an unplugged port costs, how soon a receiver that comes late hears.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::{Ear, Heard, Side, Wire, WireOptions};
use crate::program::{Pipeline, launch, rbpipe, signal};

/// A pipeline's configuration: so many events a second to a serial port, as `extra` keys of the
/// backend say.
#[must_use]
pub fn pipeline(port: &Path, baud: u32, rate: u32, mode: &str, extra: &str) -> String {
    format!(
        r#"
        pipeline.name = "wire"
        source.g = {{type = "generator", rate = {rate}, payload = 0, channel = "c"}}
        [channel.c]
        mode = "{mode}"
        streams = "single"
        subbuf_size = "16 KiB"
        subbuf_count = 4
        backend = {{type = "serial", path = "{}", baud = {baud}, {extra}}}
        "#,
        port.display()
    )
}

/// Ends a pipeline as a person does, and waits for it.
///
/// # Panics
/// If it does not end with success.
pub fn finish(mut pipeline: Pipeline) {
    signal(pipeline.child(), rustix::process::Signal::TERM);
    let out = pipeline.wait_with_output();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// More is recorded than the line carries.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Bytes that went in, of those that a line of this rate carries.
    pub line_use: f64,
    /// What was heard, from the first second on.
    pub heard: Heard,
}

/// Has a pipeline record more than the line carries, for so long.
///
/// # Panics
/// If the program does not run.
#[must_use]
pub fn overload(dir: &Path, baud: u32, time: Duration, mode: &str) -> Overload {
    let wire = Wire::lay(dir, WireOptions::clean(baud));
    let ear = Ear::listen(&wire.port(Side::B));
    let toml = pipeline(&wire.port(Side::A), baud, baud / 10, mode, "format = \"binary\"");
    let pipeline = launch(dir, &toml);
    let bytes = || wire.seen(Side::A).done.bytes;
    let begin = Instant::now();
    while bytes() == 0 && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The beginning is not what is measured.
    std::thread::sleep(Duration::from_secs(1));
    let (from, begin, first) = (bytes(), Instant::now(), ear.heard().ages.len());
    std::thread::sleep(time);
    let (to, time) = (bytes(), begin.elapsed());
    let mut heard = ear.heard();
    finish(pipeline);
    heard.ages.drain(..first);
    heard.times.drain(..first);
    let line_use = (to - from) as f64 / (time.as_secs_f64() * f64::from(baud) / 10.0);
    Overload { line_use, heard }
}

/// CPU time that a process has used.
///
/// # Panics
/// If it is gone.
#[must_use]
pub fn cpu_time(process: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    // The fields after the name, which may hold anything: utime and stime are the 12th and 13th.
    let after = stat.rsplit_once(')').expect("a name").1;
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

/// What an outage of the port was like.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// CPU time during it, of its time.
    pub cpu: f64,
    /// The same with the port there.
    pub cpu_before: f64,
    /// From the port's return to the first byte on the line.
    pub back: Duration,
}

/// Unplugs a running pipeline's port for so long.
///
/// # Panics
/// If the program does not run, or does not come back within 20 s.
#[must_use]
pub fn outage(dir: &Path, baud: u32, rate: u32, time: Duration) -> Outage {
    let wire = Wire::lay(dir, WireOptions::clean(baud));
    let ear = Ear::listen(&wire.port(Side::B));
    let toml = pipeline(&wire.port(Side::A), baud, rate, "overwrite", "format = \"binary\"");
    let mut pipeline = launch(dir, &toml);
    assert!(ear.wait(Duration::from_secs(20), |h| h.first.is_some()), "nothing comes");
    let mut over = |time: Duration| {
        let (begin, before) = (Instant::now(), cpu_time(pipeline.child()));
        std::thread::sleep(time);
        let used = cpu_time(pipeline.child()) - before;
        used.as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    let cpu_before = over(time);
    wire.unplug(Side::A);
    let cpu = over(time);
    let bytes = wire.seen(Side::A).done.bytes;
    let begin = Instant::now();
    wire.plug(Side::A);
    while wire.seen(Side::A).done.bytes == bytes {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not come back");
        std::thread::sleep(Duration::from_micros(500));
    }
    let back = begin.elapsed();
    finish(pipeline);
    Outage { cpu, cpu_before, back }
}

/// How long a receiver that comes late to a sender that announces every `announce` waits for its
/// first record; with `resync`, it asks for one.
///
/// # Panics
/// If the program does not run, or nothing comes in 20 s.
#[must_use]
pub fn late(dir: &Path, baud: u32, announce: Duration, resync: bool) -> Duration {
    let wire = Wire::lay(dir, WireOptions::clean(baud));
    let extra = format!(
        "format = \"binary\", back_channel = true, announce_every = \"{} ms\"",
        announce.as_millis()
    );
    let toml = pipeline(&wire.port(Side::A), baud, 100, "discard", &extra);
    let pipeline = launch(dir, &toml);
    let begin = Instant::now();
    while wire.seen(Side::A).done.bytes < 2000 {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    // What is new is announced a second time a second later: not what is measured.
    std::thread::sleep(Duration::from_millis(2500));
    let begin = Instant::now();
    let ear = Ear::listen(&wire.port(Side::B));
    if resync {
        ear.say("resync");
    }
    let heard = ear.wait(Duration::from_secs(20) + announce, |h| h.first.is_some());
    assert!(heard, "a late receiver hears nothing: {:?}", ear.heard());
    let waited = ear.heard().first.expect("heard").saturating_duration_since(begin);
    finish(pipeline);
    waited
}

/// How far from their time (10 ms apart) another source's events are, 99 % of them at most and all
/// of them at most, while the pipeline's port is unplugged; where `port` is false, in one that has
/// no port.
///
/// # Panics
/// If the program does not run.
#[must_use]
pub fn jitter(dir: &Path, port: bool, time: Duration) -> (Duration, Duration) {
    const EVERY: Duration = Duration::from_millis(10);
    let wire = Wire::lay(dir, WireOptions::clean(115_200));
    let toml = pipeline(&wire.port(Side::A), 115_200, 1000, "overwrite", "format = \"binary\"");
    let toml = if port { toml } else { "pipeline.name = \"wire\"".to_owned() };
    let host = "\nsource.h = {type = \"host\", interval = \"10 ms\", channel = \"h\"}
        channel.h = {streams = \"single\", backend = {type = \"file\", path = \"trace\"}}";
    let tables = toml.split_once("[channel.c]");
    let toml = match tables {
        Some((begin, c)) => format!("{begin}{host}\n[channel.c]{c}"),
        None => toml + host,
    };
    let _ = std::fs::remove_dir_all(dir.join("trace"));
    let pipeline = launch(dir, &toml);
    pipeline.wait_until_it_answers();
    std::thread::sleep(Duration::from_millis(500));
    let from = rbpipe_core::clock::now();
    if port {
        wire.unplug(Side::A);
    }
    std::thread::sleep(time);
    let to = rbpipe_core::clock::now();
    if port {
        // A port that is away at the end is a failure.
        wire.plug(Side::A);
        std::thread::sleep(Duration::from_secs(1));
    }
    finish(pipeline);
    let out = rbpipe()
        .current_dir(dir)
        .args(["read", "--format", "json", "--event", "host:load", "trace"])
        .output()
        .expect("it reads");
    let offset = epoch_offset();
    let times: Vec<u64> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()?["time"].as_u64())
        .map(|t| t.saturating_sub(offset))
        .filter(|t| (from..to).contains(t))
        .collect();
    assert!(times.len() > 20, "{} events of another source", times.len());
    let mut off: Vec<Duration> =
        times.windows(2).map(|t| Duration::from_nanos(t[1] - t[0]).abs_diff(EVERY)).collect();
    off.sort_unstable();
    (off[off.len() * 99 / 100], off[off.len() - 1])
}

/// From CLOCK_MONOTONIC's zero to the epoch, nanoseconds.
fn epoch_offset() -> u64 {
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let epoch = epoch.expect("after it").as_nanos() as u64;
    epoch - rbpipe_core::clock::now()
}
