//! A channel's side of the device: its packets on their way to the store, its books beside the
//! engine's, and what becomes of packets where there is no device (any more).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use rbpipe_core::backend::{BackendError, Output, StreamInfo};
use rbpipe_core::memory::Memory;
use rbpipe_core::stream::Packet;
use wgpu::{Buffer, BufferUsages};

use super::config::Way;
use super::device::{Device, Gpu};
use super::facts::megabytes;
use super::live::Live;
use super::memory::GpuMemory;
use super::ordinary::{self, Copied};
use super::store::{Place, Store};
use crate::heap::Heap;

/// A channel on a device.
pub(super) struct Lane {
    pub(super) store: Arc<Store>,
    /// `None`: there is none, packets are kept in ordinary memory.
    pub(super) device: Option<Arc<Device>>,
    pub(super) way: Way,
    /// Bytes of a segment of its store.
    pub(super) segment: u64,
    /// Sub-buffers of a stream that may be on their way at once.
    pub(super) reader_subbufs: usize,
    /// `direct`: buffers that are mapped and empty.
    pub(super) pool: Arc<Mutex<Vec<Buffer>>>,
    heap: Mutex<Heap>,
    /// Packets that were taken and are not put back yet.
    open: Mutex<usize>,
    idle: Condvar,
    /// What a lost device had was taken out of the store.
    fell: AtomicBool,
    /// No memory of the device's: said once.
    poor: AtomicBool,
    /// No ordinary memory for all that `keep` asks, and none for a packet: each said once
    /// (Relaxed, as `poor`: nothing is read because of it).
    short: AtomicBool,
    none: AtomicBool,
    pub(super) counts: Counts,
}

/// What the device did for a channel. Each number is by itself.
#[derive(Default)]
pub(super) struct Counts {
    /// Packets handed over, and submissions that they were in.
    pub(super) handed: AtomicU64,
    pub(super) submits: AtomicU64,
    /// Bytes that were copied: by the GPU, by the processor.
    pub(super) copied: AtomicU64,
    pub(super) uploaded: AtomicU64,
    /// The owner thread's own time for it, ns.
    pub(super) busy: AtomicU64,
}

/// A packet on its way. Dropped, it fails; its memory is one that writers can use, always.
pub(super) struct Parcel {
    packet: Option<Packet<GpuMemory>>,
    pub(super) lane: Arc<Lane>,
    pub(super) since: Instant,
}

impl Lane {
    pub(super) fn new(
        store: Arc<Store>,
        device: Option<Arc<Device>>,
        (way, subbuf): (Way, u64),
        reader_subbufs: usize,
    ) -> Self {
        let longest = device.as_ref().map_or(0, |d| d.gpu().segment);
        Self {
            segment: store.segment_size(subbuf, longest),
            store,
            device,
            way,
            reader_subbufs,
            pool: Arc::default(),
            heap: Mutex::default(),
            open: Mutex::default(),
            idle: Condvar::new(),
            fell: AtomicBool::new(false),
            poor: AtomicBool::new(false),
            short: AtomicBool::new(false),
            none: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// The device, while it works.
    pub(super) fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.device.as_ref().map(|d| d.gpu()).filter(|gpu| !gpu.is_lost())
    }

    /// A memory for a stream: of the device's, if it has one to give.
    pub(super) fn memory(&self, stream: &StreamInfo) -> Result<GpuMemory, BackendError> {
        if self.way != Way::Heap
            && let Some(gpu) = self.gpu()
        {
            match self.mapped(gpu, stream.subbuf_size as u64) {
                Ok(memory) => return Ok(memory),
                Err(e) if !gpu.is_lost() && !self.poor.swap(true, Ordering::Relaxed) => {
                    let channel = &self.store.channel;
                    tracing::warn!("channel {channel}: {e}: its ring is in ordinary memory");
                }
                Err(_) => {}
            }
        }
        self.ordinary(stream)
    }

    /// Makes the segment that the store will want next, before it does.
    pub(super) fn prepare(&self) {
        let Some(gpu) = self.gpu().filter(|_| self.way != Way::Direct) else { return };
        if self.store.lock().wants_ahead(self.store.keep, self.segment) {
            let segment = self.new_segment(gpu);
            self.store.lock().have_ahead(segment);
        }
    }

    /// A segment; `None`: there is no memory for it, which is said.
    pub(super) fn new_segment(&self, gpu: &Gpu) -> Option<Buffer> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let made = gpu.buffer(self.segment, usage, false);
        if let Err(e) = &made {
            tracing::warn!("channel {}: {e}: its store keeps less", self.store.channel);
        }
        made.ok()
    }

    /// A fresh buffer, mapped for writing.
    pub(super) fn mapped(&self, gpu: &Gpu, size: u64) -> Result<GpuMemory, BackendError> {
        let usage = match self.way {
            Way::Direct => direct(),
            _ => BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
        };
        let buffer = gpu.buffer(size, usage, true)?;
        let mapped = gpu.guard(|| GpuMemory::mapped(buffer));
        let mapped = mapped.unwrap_or_else(|| Err("its driver panicked".into()));
        mapped.map_err(|why| {
            // A buffer that is made mapped is; unless there is no device behind it.
            gpu.lose(&format!("a new buffer is not mapped ({why})"));
            BackendError::new(format!("GPU {}: {why}", gpu.name))
        })
    }

    fn ordinary(&self, stream: &StreamInfo) -> Result<GpuMemory, BackendError> {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.memory(stream).map(GpuMemory::heap)
    }

    /// A packet's copy in ordinary memory; `None`: there is none for it. Either lack is said.
    fn copy(&self, bytes: &[u8]) -> Option<Arc<[u8]>> {
        let Copied { bytes: copy, let_go } = self.store.copy(bytes, ordinary::is_there);
        let channel = &self.store.channel;
        if let_go > 0 && copy.is_some() && !self.short.swap(true, Ordering::Relaxed) {
            let kept = megabytes(self.store.lock().bytes() + bytes.len() as u64);
            tracing::warn!(
                "channel {channel}: no memory for more packets: its store keeps what there is \
                 memory for, {kept} now; make `keep` smaller, or give this process more"
            );
        }
        if copy.is_none() && !self.none.swap(true, Ordering::Relaxed) {
            let size = megabytes(bytes.len() as u64);
            tracing::warn!(
                "channel {channel}: no memory for a packet of {size}: it is lost, as are others \
                 until there is some, and counted as failed; make `subbuf_size` smaller, or give \
                 this process more"
            );
        }
        copy
    }

    /// Where there is no device any more: what it had is not in the store.
    pub(super) fn look(&self) {
        if self.device.as_ref().is_some_and(|d| d.gpu().is_lost())
            && !self.fell.swap(true, Ordering::Relaxed)
        {
            self.store.lock().lose_device();
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Waits until nothing is on its way.
    fn wait_idle(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while *open > 0 {
            open = self.idle.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A memory that writers can use, if this one is not (any more).
    fn make_ready(&self, packet: &mut Packet<GpuMemory>) {
        let is_lost = self.gpu().is_none();
        let is_usable = |m: &GpuMemory| m.base().is_some() && !(is_lost && m.is_mapped());
        if packet.memory().is_none_or(is_usable) {
            return;
        }
        let stream = StreamInfo { memories: 1, ..(**packet.stream()).clone() };
        let Some(memory) = packet.memory_mut() else { return };
        // Without memory it is retired: not ready, and another is asked for every second.
        let other = self.ordinary(&stream).unwrap_or_else(|_| GpuMemory::none());
        let old = std::mem::replace(memory, other);
        match &self.device {
            Some(device) => _ = device.gpu().guard(|| drop(old)),
            None => drop(old),
        }
    }
}

/// What a buffer is for that is both written by the processor and bound in a shader.
pub(super) fn direct() -> BufferUsages {
    BufferUsages::MAP_WRITE
        | BufferUsages::STORAGE
        | BufferUsages::COPY_SRC
        | BufferUsages::COPY_DST
}

impl Parcel {
    fn new(packet: Packet<GpuMemory>, lane: Arc<Lane>) -> Self {
        *lane.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self { packet: Some(packet), lane, since: Instant::now() }
    }

    /// The packet; `None` only while this is dropped.
    pub(super) fn packet(&mut self) -> Option<&mut Packet<GpuMemory>> {
        self.packet.as_mut()
    }

    /// Bytes that it takes in the store.
    pub(super) fn size(&self) -> u64 {
        self.packet.as_ref().map_or(0, |p| p.size() as u64)
    }

    /// Its stream in the channel.
    pub(super) fn stream(&self) -> Option<u32> {
        self.packet.as_ref().map(|p| p.stream().id)
    }

    /// Whether it is in ordinary memory.
    pub(super) fn is_ordinary(&self) -> bool {
        let memory = self.packet.as_ref().and_then(Packet::memory);
        memory.is_some_and(|memory| memory.bytes(0).is_some())
    }

    /// It is in the store.
    pub(super) fn written(mut self) {
        let Some(mut packet) = self.packet.take() else { return };
        self.lane.make_ready(&mut packet);
        let size = packet.size() as u64;
        packet.written(size);
    }

    /// Without a device: keeps it in ordinary memory, if that is where it is.
    pub(super) fn keep(self) {
        self.lane.look();
        let Some(packet) = self.packet.as_ref() else { return };
        let bytes = packet.memory().and_then(|memory| memory.bytes(packet.size()));
        let Some(bytes) = bytes else { return };
        let Some(copy) = self.lane.copy(bytes) else { return };
        let size = copy.len() as u64;
        let mut table = self.lane.store.lock();
        let place = Place::Heap(Arc::clone(&copy));
        let entry = table.insert(packet.stream(), packet.facts(), (size, size), place).clone();
        table.trim(self.lane.store.keep);
        if let Some(arrival) = &mut table.arrival {
            arrival.in_heap(&entry, &copy);
        }
        drop(table);
        self.written();
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(mut packet) = self.packet.take() {
            self.lane.make_ready(&mut packet);
        }
        let mut open = self.lane.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open -= 1;
        if *open == 0 {
            self.lane.idle.notify_all();
        }
    }
}

/// The output: hands packets to the device's thread.
pub struct GpuOutput {
    pub(super) lane: Arc<Lane>,
    /// Makes pictures, if any are wanted.
    pub(super) live: Option<Live>,
}

#[async_trait]
impl Output<GpuMemory> for GpuOutput {
    async fn write_packet(&mut self, packet: Packet<GpuMemory>) {
        let parcel = Parcel::new(packet, Arc::clone(&self.lane));
        match &self.lane.device {
            // Never waits: a stream has `reader_subbufs` packets out at most. A lost device's
            // thread keeps them, too: in their order, behind those that wait there.
            Some(device) => device.inbox.push(parcel),
            None => parcel.keep(),
        }
    }
    async fn flush(&mut self) {
        self.lane.look();
        if let Some(device) = &self.lane.device {
            let _hurry = device.inbox.hurry();
            // Called on the drain's own thread, which may wait.
            self.lane.wait_idle();
        }
    }
    async fn close(&mut self) -> Result<(), BackendError> {
        self.flush().await;
        // The last picture has all that came.
        self.live.take().map_or(Ok(()), |mut live| live.end())
    }
}
