//! A trace to be read: as the `file` backend writes it, of four streams whose events alternate,
//! which is the most work for whoever merges them by time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail};
use rbpipe_backends::file::{Config, File};
use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::packet::MAX_HEADER;

/// Bytes of an event's fields (two of eight, two of four), and of its header.
pub const PAYLOAD: usize = 24;
const HEADER: u64 = 4;
pub const SUBBUF_SIZE: u64 = 256 << 10;
pub const SUBBUF_COUNT: u32 = 8;
pub const STREAMS: u32 = 4;
/// Events between two looks at whether it is to end.
const TURN: u64 = 1 << 16;

/// Events of a trace of so many bytes.
pub fn events(size: u64) -> u64 {
    size / (PAYLOAD as u64 + HEADER)
}

/// Makes it, unless it is stopped.
///
/// # Errors
/// It cannot be written, or not all of it.
pub fn make(
    path: &Path,
    size: u64,
    runtime: &tokio::runtime::Runtime,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let (context, classes) = (Context::new("bench"), Arc::new(ClassRegistry::new()));
    let class = classes.register(EventClass::new(
        "bench:event",
        vec![
            Field::new("number", FieldType::U64),
            Field::new("address", FieldType::U64),
            Field::new("cpu", FieldType::U32),
            Field::new("state", FieldType::U32),
        ],
    ))?;
    let _runtime = runtime.enter();
    let mut prepared = Vec::new();
    for i in 0..STREAMS {
        let reader = <File as Backend>::READER_SUBBUFS;
        let geometry = Geometry::new(SUBBUF_SIZE, SUBBUF_COUNT, reader, MAX_HEADER as u32)?;
        let (name, classes) = (format!("c{i}"), Arc::clone(&classes));
        let plan = ChannelPlan { name, geometry, mode: Mode::Block, classes };
        let backend = File::open(Config::new(path.to_owned()), &plan, &context)?;
        let options = ChannelOptions {
            plan,
            streams: Streams::Single,
            // However slow the disk is.
            block_timeout: None,
            switch_timer: None,
            read_timer: Some(Duration::from_millis(10)),
            prefault: false,
        };
        prepared.push(Channel::prepare(options, backend)?);
    }
    // All are in the directory before one of them begins to write there.
    let channels = prepared.into_iter().map(|p| p.open()).collect::<Result<Vec<_>, _>>()?;
    let writers: Vec<_> = channels.iter().map(Channel::writer).collect();
    let monitors: Vec<_> = channels.iter().map(Channel::monitor).collect();
    let controls: Vec<_> = channels.iter().map(|c| Control::new(c.waker())).collect();
    thread::scope(|scope| {
        let mut drains = Vec::new();
        for (channel, control) in channels.into_iter().zip(&controls) {
            drains.push(scope.spawn(move || {
                let _runtime = runtime.enter();
                let told = &mut |notice: _| tracing::debug!("{notice}");
                channel.run(control, Duration::from_secs(10), told)
            }));
        }
        writers.iter().for_each(rbpipe_core::channel::Writer::register);
        let mut bytes = [0; PAYLOAD];
        for n in 0..events(size) {
            if n % TURN == 0 && stop.load(Ordering::Relaxed) {
                break;
            }
            let address = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            bytes[8..16].copy_from_slice(&address.to_le_bytes());
            bytes[16..20].copy_from_slice(&((n % 64) as u32).to_le_bytes());
            bytes[20..].copy_from_slice(&((address >> 60) as u32).to_le_bytes());
            let _ = writers[(n % u64::from(STREAMS)) as usize].record(class, &bytes);
        }
        controls.iter().for_each(Control::stop);
        for drain in drains {
            drain.join().map_err(|_| anyhow!("the output failed badly (a panic)"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let streams = monitors.iter().flat_map(rbpipe_core::channel::Monitor::streams);
    let written: u64 = streams.map(|s| s.books.output_records).sum();
    if written < events(size) && !stop.load(Ordering::Relaxed) {
        let lost = events(size) - written;
        bail!("{}: {lost} events of a trace could not be written (--dir)", path.display());
    }
    Ok(())
}
