//! How `gpu` is benched: on each adapter that a configuration can name, with each memory that it
//! can do, into a store that goes round. Beside it stands what brings the same bytes into such a
//! store without a ring: the GPU's own copying (`staged`), the upload of ordinary memory (`heap`),
//! the processor's copying into the mapped memory that is the store (`direct`).
//!
//! Opening a device takes longer than a run: it is opened once, and runs find it open.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, Context};
use rbpipe_core::bench::{BenchLimit, BenchPlan, BenchRig, Measure};
use wgpu::{Adapter, Buffer, BufferUsages, SubmissionIndex};

use super::adapter::{self, ADVICE};
use super::config::{Config, Keep, Wanted, Way};
use super::device::{Device, Found, Gpu, one_at_a_time, wait_for};
use super::lane::direct;

/// So small that a run of some hundredths of a second goes round it.
const KEEP: u64 = 64 << 20;
/// A usual sub-buffer, and how many of them are handed over at once.
const PIECE: u64 = 256 << 10;
const PIECES: u64 = 32;
/// Copies go round so much: two submissions, so that one waits while the other runs.
const STORE: u64 = 2 * PIECES * PIECE;
/// How long a submission may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn plans() -> Vec<BenchPlan<Config>> {
    match adapter::named() {
        Ok(found) if found.is_empty() => {
            vec![none(format!("no Vulkan driver finds a GPU adapter: {ADVICE}"))]
        }
        Ok(found) => found.iter().flat_map(|adapter| plans_of(adapter, &found)).collect(),
        Err(e) => vec![none(e.to_string())],
    }
}

/// Why there is none.
fn none(why: String) -> BenchPlan<Config> {
    let set_up = move |_: &Path| Err(BackendError::new(why.clone()));
    BenchPlan { variant: String::new(), limit: None, set_up: Box::new(set_up) }
}

fn plans_of(adapter: &Adapter, all: &[Adapter]) -> Vec<BenchPlan<Config>> {
    let name = adapter.get_info().name;
    let is_taken =
        |a: &Adapter| a.get_info().name != name && short(&a.get_info().name) == short(&name);
    let shown = if all.iter().any(is_taken) { &name } else { short(&name) };
    let open = Arc::new(Open::new(Wanted::Named(name.clone())));
    let ways = [Way::Staged, Way::Direct, Way::Heap];
    let can = |way: &Way| *way != Way::Direct || adapter::is_direct(adapter);
    let plan = |way: Way| {
        let (what, rate): (_, Rate) = match way {
            Way::Direct => ("copy into mapped memory", stored),
            Way::Heap => ("upload", |gpu, time| moved(gpu, time, true)),
            Way::Staged | Way::Auto => ("GPU copy", |gpu, time| moved(gpu, time, false)),
        };
        let at = Arc::clone(&open);
        let measure: Measure = Box::new(move |_, time| rate(at.device()?.1.gpu(), time));
        let at = Arc::clone(&open);
        BenchPlan {
            variant: format!("{shown}, {}", way.name()),
            limit: Some(BenchLimit { what: what.into(), measure }),
            set_up: Box::new(move |_| at.rig(way)),
        }
    };
    ways.into_iter().filter(can).map(plan).collect()
}

type Rate = fn(&Gpu, Duration) -> Result<f64, BackendError>;

/// A name without what its driver puts after it.
fn short(name: &str) -> &str {
    name.split_once(" (").map_or(name, |(name, _)| name)
}

/// An adapter's device, opened at first use, for all runs.
struct Open {
    adapter: Wanted,
    context: Mutex<Arc<Context>>,
}

impl Open {
    fn new(adapter: Wanted) -> Self {
        Self { adapter, context: Mutex::new(Arc::new(Context::new("bench"))) }
    }

    /// The context that has it, and the device.
    fn device(&self) -> Result<(Arc<Context>, Arc<Device>), BackendError> {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        // As `open` looks for it.
        let key = format!("GPU {}", self.adapter);
        let found = context.shared(&key, || Found::open(&self.adapter))?;
        let Some(device) = &found.0 else {
            return Err(BackendError::new(format!("GPU {}: is not there", self.adapter)));
        };
        works(device.gpu())?;
        Ok((Arc::clone(&context), Arc::clone(device)))
    }

    fn rig(&self, memory: Way) -> Result<BenchRig<Config>, BackendError> {
        let (context, device) = self.device()?;
        let config = Config {
            adapter: self.adapter.clone(),
            memory,
            keep: Keep::Bytes(KEEP),
            ..Config::default()
        };
        Ok(BenchRig {
            context: Some(context),
            // Else ordinary memory took its place.
            was_it: Some(Box::new(move || works(device.gpu()))),
            ..BenchRig::new(config)
        })
    }
}

fn works(gpu: &Gpu) -> Result<(), BackendError> {
    if gpu.is_lost() { Err(lost(gpu)) } else { Ok(()) }
}

fn lost(gpu: &Gpu) -> BackendError {
    BackendError::new(format!("GPU {}: its device was lost on the way", gpu.name))
}

/// Bytes a second that come into a store: out of buffers that the processor has written to, or
/// out of ordinary memory. One submission waits while another one runs.
fn moved(gpu: &Gpu, time: Duration, upload: bool) -> Result<f64, BackendError> {
    let store = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
    let store = gpu.buffer(STORE, store, false)?;
    let bytes = bytes();
    let mut from = Vec::new();
    for _ in 0..if upload { 0 } else { PIECES } {
        let piece = gpu.buffer(PIECE, BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC, true)?;
        fill(gpu, &piece, &bytes)?;
        gpu.guard(|| piece.unmap()).ok_or_else(|| lost(gpu))?;
        from.push(piece);
    }
    let submit = |turn: u64| {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for i in 0..PIECES {
            let at = (turn % 2 * PIECES + i) * PIECE;
            match from.get(i as usize) {
                Some(piece) => encoder.copy_buffer_to_buffer(piece, 0, &store, at, PIECE),
                None => gpu.queue.write_buffer(&store, at, &bytes),
            }
        }
        let (tell, told) = mpsc::channel();
        encoder.on_submitted_work_done(move || _ = tell.send(()));
        let _turn = one_at_a_time();
        (gpu.queue.submit([encoder.finish()]), told)
    };
    let submit = |turn| gpu.guard(|| submit(turn)).ok_or_else(|| lost(gpu));
    let wait = |(index, told): (SubmissionIndex, Receiver<()>)| {
        let wait = || wait_for(&gpu.device, Some(index), &told, PATIENCE);
        gpu.guard(wait).flatten().ok_or_else(|| lost(gpu))
    };
    // What is touched for the first time takes longer.
    for turn in 0..2 {
        wait(submit(turn)?)?;
    }
    let (begin, mut turns, mut runs) = (Instant::now(), 1, submit(0)?);
    while begin.elapsed() < time {
        let next = submit(turns)?;
        wait(std::mem::replace(&mut runs, next))?;
        turns += 1;
    }
    wait(runs)?;
    works(gpu)?;
    Ok((turns * PIECES * PIECE) as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes a second that the processor copies into mapped memory that a shader finds them in.
fn stored(gpu: &Gpu, time: Duration) -> Result<f64, BackendError> {
    let bytes = bytes();
    let mut to = Vec::new();
    for _ in 0..PIECES {
        let piece = gpu.buffer(PIECE, direct(), true)?;
        fill(gpu, &piece, &bytes)?;
        to.push(piece);
    }
    let (begin, mut copied) = (Instant::now(), 0);
    while copied == 0 || begin.elapsed() < time {
        for piece in &to {
            fill(gpu, piece, &bytes)?;
            copied += PIECE;
        }
    }
    Ok(copied as f64 / begin.elapsed().as_secs_f64())
}

/// A sub-buffer's worth.
fn bytes() -> Vec<u8> {
    (0..PIECE).map(|i| i as u8).collect()
}

/// Writes all of a mapped buffer.
fn fill(gpu: &Gpu, buffer: &Buffer, bytes: &[u8]) -> Result<(), BackendError> {
    let write = || {
        let mut view = buffer.get_mapped_range_mut(..).ok()?;
        view.slice(..).copy_from_slice(bytes);
        Some(())
    };
    gpu.guard(write).flatten().ok_or_else(|| lost(gpu))
}
