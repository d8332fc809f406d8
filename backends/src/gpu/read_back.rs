//! What is in a store, copied back: for tests and snapshots. Nothing else reads it with the
//! processor.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use rbpipe_core::backend::BackendError;
use wgpu::{Buffer, BufferUsages, MapMode};

use super::device::{Gpu, one_at_a_time, wait_for};
use super::store::{PacketEntry, Place, Store};

/// How long a copy may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are copied at once, at most; but always a packet.
const MOST: u64 = 64 << 20;

impl Store {
    /// The packets with numbers from `from` on that are kept, and their bytes, oldest first.
    ///
    /// # Errors
    /// The device has no memory to copy to, or is lost.
    pub fn read_back(
        &self,
        gpu: Option<&Arc<Gpu>>,
        from: u64,
    ) -> Result<Vec<(PacketEntry, Vec<u8>)>, BackendError> {
        let mut out = Vec::new();
        let mut next = from;
        loop {
            // What a piece has is copied before anything overwrites it: the lock is held until
            // that is submitted. Between pieces, what is overwritten is missing.
            let table = self.lock();
            let mut piece: Vec<PacketEntry> = Vec::new();
            let mut bytes = 0;
            for entry in table.packets().filter(|e| e.number >= next) {
                bytes += entry.bytes;
                if bytes > MOST && !piece.is_empty() {
                    break;
                }
                piece.push(entry.clone());
            }
            let Some(last) = piece.last() else { return Ok(out) };
            next = last.number + 1;
            let copied = gpu.map(|gpu| copy(gpu, &piece)).transpose()?;
            drop(table);
            let mut view = Vec::new();
            if let (Some(gpu), Some(Some(buffer))) = (gpu, copied) {
                view = read(gpu, &buffer)?;
            }
            let mut at = 0;
            for entry in piece {
                let bytes = match &entry.place {
                    Place::Heap(bytes) => bytes.to_vec(),
                    Place::Gpu { .. } => {
                        let end = at + usize::try_from(entry.bytes).unwrap_or(0);
                        let part = view.get(at..end).unwrap_or_default().to_vec();
                        at = end;
                        part
                    }
                };
                out.push((entry, bytes));
            }
        }
    }
}

/// Copies packets one after the other into a buffer; `None`: none of them is the device's.
fn copy(gpu: &Gpu, packets: &[PacketEntry]) -> Result<Option<Buffer>, BackendError> {
    let is_there = |e: &&PacketEntry| matches!(e.place, Place::Gpu { .. });
    let size: u64 = packets.iter().filter(is_there).map(|e| e.bytes).sum();
    if size == 0 {
        return Ok(None);
    }
    let to = gpu.buffer(size, BufferUsages::MAP_READ | BufferUsages::COPY_DST, false)?;
    let record = || {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for entry in packets {
            if let Place::Gpu { buffer, offset } = &entry.place {
                encoder.copy_buffer_to_buffer(buffer, *offset, &to, at, entry.bytes);
                at += entry.bytes;
            }
        }
        let turn = one_at_a_time();
        gpu.queue.submit([encoder.finish()]);
        drop(turn);
    };
    gpu.guard(record).ok_or_else(|| lost(gpu))?;
    Ok(Some(to))
}

fn read(gpu: &Gpu, buffer: &Buffer) -> Result<Vec<u8>, BackendError> {
    let (tell, told) = mpsc::channel();
    let map = || {
        buffer.map_async(MapMode::Read, .., move |result| _ = tell.send(result.is_ok()));
        match wait_for(&gpu.device, None, &told, PATIENCE) {
            Some(true) => buffer.get_mapped_range(..).ok().map(|view| view.to_vec()),
            _ => None,
        }
    };
    gpu.guard(map).flatten().ok_or_else(|| lost(gpu))
}

fn lost(gpu: &Gpu) -> BackendError {
    BackendError::new(format!("GPU {}: its memory cannot be read back", gpu.name))
}
