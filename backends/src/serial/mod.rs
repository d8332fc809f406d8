//! `serial`: the trace goes over a wire, as text for a terminal or as frames of the link
//! ([`crate::link`]) for `rbpipe receive`.
//!
//! The line is slow: 115200 baud carry 11,520 bytes a second. So it is chosen what goes on it, just
//! before it does (`output.rs`, `lane.rs`), and what does not is counted, exactly. No more than
//! `inflight_bytes` are handed to the kernel ahead of the line (`bucket.rs`). All of it runs on
//! the drain's thread, which waits for no device: writers never feel a port that is slow, stopped
//! or gone (`line.rs`, `port.rs`).
//!
//! Not here: what a frame looks like, and who reads it.

mod bench;
mod bucket;
mod burst;
mod choice;
mod closing;
mod commands;
mod config;
pub mod device;
mod encode;
mod facts;
mod lane;
mod level;
mod line;
mod output;
mod port;
mod text;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, ConfigProblem, Context, Facts, Identity, StreamInfo,
};
use rbpipe_core::bench::BenchPlan;

use crate::heap::{Heap, HeapMemory};
pub use closing::abandon;
pub use config::{Config, Flow, Format, Keep, Parity};
use encode::Encode;
use facts::LineFacts;
pub use level::Level;
use line::Line;
use output::Opened;
pub use output::SerialOutput;

/// The backend.
pub struct Serial {
    heap: Heap,
    facts: Arc<LineFacts>,
    /// Until the output is made.
    opened: Option<Opened>,
}

impl Backend for Serial {
    const TYPE: &'static str = "serial";
    const ABOUT: &'static str = "a serial line: text for a terminal, or frames for rbpipe receive";
    const SAMPLE: &'static str = "\
# A serial line. `rbpipe devices` lists the ports; on the other end: picocom -b 115200 PORT, or,
# for frames, `rbpipe receive --port PORT --baud 115200 --out DIR`.
type = \"serial\"
path = \"/dev/ttyUSB0\"   # better its name under /dev/serial/by-id; one channel for each port
baud = 115200           # any rate that the device can do; it is read back
data_bits = 8           # 7: for text
parity = \"none\"         # none | even | odd
stop_bits = 1           # 1 | 2
flow = \"none\"           # none | hardware (RTS, CTS) | software (XON, XOFF: for text)
format = \"text\"         # text: a line for each record | binary: frames
                        # | mixed: frames, on a line on which others print text
colour = false          # text: by level
tick = \"1 us\"           # a step of time on the line, \"1 ns\" to \"1 ms\"
frame = 254             # bytes of the longest frame, 64 to 4096: a bit error costs one
# inflight_bytes = 512  # handed to the kernel ahead of the line: what is sent is so much older.
                        # Left out: 512, or what the line carries in 4 ms, if that is more
# What survives when more is recorded than the line carries (the rest counts as overwritten):
# keep = \"newest\"         # newest: older records are given up just before each frame
                        # | oldest: what waits stays in the ring, which loses what does not fit.
                        # Left out: what the ring keeps, newest in overwrite mode, else oldest
# reserve_for = \"warning\" # records of this log level, or more important ones, come first. newest:
                        # up to 1024 of each stream outlive newer ones, which keep a quarter of
                        # a frame. oldest: the last quarter of the ring is theirs: when it is
                        # three quarters full, others are given up
announce_every = \"10 s\" # frames: names and classes in use are told again after this long, for
                        # receivers that join late
drain_timeout = \"2 s\"   # the end waits so long for what is not sent; the rest is told as lost
back_channel = false    # true: obeys lines from the other side: resync, level LEVEL, enable NAME,
                        # disable NAME (globs), dump (send what the ring holds), pause, resume
";
    const READER_SUBBUFS: u32 = 4;
    type Config = Config;
    type Memory = HeapMemory;
    type Output = SerialOutput;

    fn check(config: &Config, plan: &ChannelPlan) -> Vec<ConfigProblem> {
        config.problems(plan)
    }
    fn bench_plans() -> Vec<BenchPlan<Config>> {
        bench::plans()
    }
    fn open(config: Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        let facts = LineFacts::new(config.baud, config.bits_per_byte());
        // However its path is spelt.
        let path = fs::canonicalize(&config.path).unwrap_or_else(|_| config.path.clone());
        let key = format!("serial port {}", path.display());
        let taken = context.shared(&key, || Ok(AtomicBool::new(false)))?;
        if taken.swap(true, Ordering::Relaxed) {
            return Err(BackendError::new(format!(
                "{}: is the port of another channel of this pipeline, and a line carries one: \
                 send the sources of both to one channel",
                config.path.display()
            )));
        }
        let encode = Encode::new(&config, context)?;
        let line = Line::open(&config, Arc::clone(&facts))?;
        let opened = Opened {
            keep: config.keeps(plan.mode),
            channel: plan.name.clone(),
            registry: Arc::clone(&plan.classes),
            memories: plan.geometry.reader_subbufs() as usize,
            encode,
            line,
            facts: Arc::clone(&facts),
            config,
        };
        Ok(Self { heap: Heap::default(), facts, opened: Some(opened) })
    }
    fn identity(&self) -> Identity {
        // In no trace here, so nobody asks.
        Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
    }
    fn is_paced(&self) -> bool {
        true
    }
    fn facts(&self) -> Option<Facts> {
        Some(self.facts.facts())
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<SerialOutput, BackendError> {
        let opened = self.opened.take();
        let opened = opened.ok_or_else(|| BackendError::new("a serial port has one output"))?;
        Ok(SerialOutput::new(opened))
    }
}
