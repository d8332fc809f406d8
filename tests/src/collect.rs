//! A backend of the tests' own: its output keeps what packets say, its memories can be spoilt.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rbpipe_backends::{Heap, HeapMemory};
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::memory::{Memory, Publish, ReadMemory};
use rbpipe_core::stream::Packet;

/// Heap memory that is treated as write-combining, and that its holder can make "not ready":
/// as a mapped GPU buffer is.
pub struct Loan {
    memory: HeapMemory,
    /// False: there is nothing mapped.
    pub ready: bool,
}

// SAFETY: as `HeapMemory`, whose address it gives or none.
unsafe impl Memory for Loan {
    const PUBLISH: Publish = Publish::Fence;
    fn base(&self) -> Option<std::ptr::NonNull<u8>> {
        self.memory.base().filter(|_| self.ready)
    }
    fn len(&self) -> usize {
        self.memory.len()
    }
}

// SAFETY: as `HeapMemory`.
unsafe impl ReadMemory for Loan {}

/// Stream id and bytes of each packet, in the order of taking.
pub type Taken = Vec<(u32, Vec<u8>)>;

/// What the output is to do with a packet, whose bytes have been kept.
pub type Treatment = Box<dyn FnMut(u64, Packet<Loan>) + Send>;

/// The backend.
pub struct Collect {
    heap: Heap,
    treatment: Option<Treatment>,
    /// What was taken so far.
    pub packets: Arc<Mutex<Taken>>,
    /// While this is set there is no memory to be had.
    pub exhausted: Arc<AtomicBool>,
    /// How often there was none.
    pub refused: Arc<AtomicU64>,
}

impl Collect {
    /// One whose output treats packets like this; they are numbered from 0.
    pub fn new(treatment: impl FnMut(u64, Packet<Loan>) + Send + 'static) -> Self {
        Self {
            heap: Heap::default(),
            treatment: Some(Box::new(treatment)),
            packets: Arc::default(),
            exhausted: Arc::default(),
            refused: Arc::default(),
        }
    }
}

impl Backend for Collect {
    const TYPE: &'static str = "collect";
    const ABOUT: &'static str = "the tests' own";
    const SAMPLE: &'static str = "type = \"collect\"\n";
    type Config = ();
    type Memory = Loan;
    type Output = CollectOutput;

    fn open(_: (), _: &ChannelPlan, _: &Context) -> Result<Self, BackendError> {
        Ok(Self::new(|_, packet| {
            let bytes = packet.size() as u64;
            packet.written(bytes);
        }))
    }
    fn identity(&self) -> Identity {
        Identity { uuid: *b"0123456789abcdef", first_stream_class: 0, first_stream: 0 }
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<Loan, BackendError> {
        if self.exhausted.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(BackendError::new("the test has no memory just now"));
        }
        Ok(Loan { memory: self.heap.memory(stream)?, ready: true })
    }
    fn output(&mut self) -> Result<CollectOutput, BackendError> {
        let treatment = self.treatment.take().ok_or_else(|| BackendError::new("asked twice"))?;
        Ok(CollectOutput { packets: Arc::clone(&self.packets), treatment, count: 0 })
    }
}

/// See [`Collect`].
pub struct CollectOutput {
    packets: Arc<Mutex<Taken>>,
    treatment: Treatment,
    count: u64,
}

#[async_trait]
impl Output<Loan> for CollectOutput {
    async fn write_packet(&mut self, packet: Packet<Loan>) {
        let bytes = (packet.stream().id, packet.bytes().to_vec());
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        (self.treatment)(self.count, packet);
        self.count += 1;
    }
    async fn flush(&mut self) {}
    async fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
