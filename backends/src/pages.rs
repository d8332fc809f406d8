//! `pages`: memory without an output. The null of everything: packets are taken, counted and
//! dropped; in overwrite mode they are never taken, and the ring keeps the newest.

use async_trait::async_trait;
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::frontend::Mode;
use rbpipe_core::stream::Packet;
use serde::Deserialize;

use crate::heap::{Heap, HeapMemory};

/// Keys of `type = "pages"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The backend.
pub struct Pages {
    heap: Heap,
}

impl Backend for Pages {
    const TYPE: &'static str = "pages";
    const ABOUT: &'static str = "heap memory, no output: counts packets, or keeps the newest";
    const SAMPLE: &'static str = "\
# Memory without an output. In discard and block mode packets are taken, counted in the
# report's `output`, and dropped; in overwrite mode they are never taken: the ring keeps the
# newest (`kept`).
type = \"pages\"
";
    type Config = Config;
    type Memory = HeapMemory;
    type Output = Dropped;

    fn open(_: Config, _: &ChannelPlan, _: &Context) -> Result<Self, BackendError> {
        Ok(Self { heap: Heap::default() })
    }
    fn identity(&self) -> Identity {
        // In no trace, so nobody asks.
        Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
    }
    fn takes(&self, mode: Mode) -> bool {
        mode != Mode::Overwrite
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<Dropped, BackendError> {
        Ok(Dropped)
    }
}

/// The output: counts and drops.
pub struct Dropped;

#[async_trait]
impl Output<HeapMemory> for Dropped {
    async fn write_packet(&mut self, packet: Packet<HeapMemory>) {
        // Nothing is written, so no bytes are.
        packet.written(0);
    }
    async fn flush(&mut self) {}
    async fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
