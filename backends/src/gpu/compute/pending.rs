//! What a device has been asked for, until it is there.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use wgpu::{BufferUsages, MapMode};

use super::super::device::{one_at_a_time, wait_for};
use super::Compute;

/// How long a device may take. A driver that has lost its device says so sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a device did not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeError(pub(super) String);

impl std::fmt::Display for ComputeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ComputeError {}

/// An answer that the device is working on. Nothing is borrowed, so that whoever asked may
/// wait without the lock that was needed to ask.
#[must_use = "the answer is in `wait`"]
pub struct Pending<T> {
    device: wgpu::Device,
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    finish: Box<dyn FnOnce(Vec<u32>) -> T + Send>,
}

impl<T> Pending<T> {
    /// Waits until it is there.
    ///
    /// # Errors
    /// The device was lost, or takes longer than half a minute.
    pub fn wait(self) -> Result<T, ComputeError> {
        let failed = |what: String| ComputeError(format!("the GPU counted nothing: {what}"));
        let mapped = wait_for(&self.device, Some(self.submission), &self.mapped, PATIENCE);
        let mapped = mapped.ok_or_else(|| failed("it does not answer".into()))?;
        mapped.map_err(|e| failed(e.to_string()))?;
        let view = self.staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
        let words = view.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        Ok((self.finish)(words.collect()))
    }

    /// The same, made something else when it is there.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'static) -> Pending<U>
    where
        T: 'static,
    {
        let finish = self.finish;
        Pending {
            device: self.device,
            staging: self.staging,
            submission: self.submission,
            mapped: self.mapped,
            finish: Box::new(move |words| f(finish(words))),
        }
    }
}

impl Compute {
    /// Submits, and asks for the first bytes of these buffers, one behind the other.
    pub(super) fn submit(
        &self,
        mut encoder: wgpu::CommandEncoder,
        wanted: &[(&wgpu::Buffer, u64)],
    ) -> Pending<Vec<u32>> {
        let size: u64 = wanted.iter().map(|(_, bytes)| bytes).sum();
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("bins, read back"),
            size: size.max(4),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut at = 0;
        for (buffer, bytes) in wanted.iter().filter(|(_, bytes)| *bytes > 0) {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, Some(*bytes));
            at += bytes;
        }
        let commands = [encoder.finish()];
        let turn = one_at_a_time();
        let submission = self.queue.submit(commands);
        drop(turn);
        let (tell, mapped) = sync_channel(1);
        staging.map_async(MapMode::Read, .., move |result| {
            // Who no longer waits does not want to know.
            let _ = tell.send(result);
        });
        let words = (size / 4) as usize;
        let finish = Box::new(move |mut all: Vec<u32>| {
            all.truncate(words);
            all
        });
        Pending { device: self.device.clone(), staging, submission, mapped, finish }
    }

    pub(super) fn encoder(&self, name: &str) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(name) })
    }
}
