//! Any backend, with an output that misbehaves.

use std::time::Duration;

use std::future::Future as _;

use async_trait::async_trait;
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, Context, Identity, Output, Pace, StreamInfo,
};
use rbpipe_core::frontend::Mode;
use rbpipe_core::memory::Memory;
use rbpipe_core::stream::Packet;

/// How an output misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Takes this long for each packet.
    Slow(Duration),
    /// Holds what it has until it is flushed.
    Stalled,
    /// Drops every third packet.
    Failing,
    /// Every second packet is dropped inside a write that never ends and is cancelled.
    Cancelled,
}

/// A backend whose output has a fault.
pub struct Faulty<B> {
    /// The backend.
    pub backend: B,
    /// What is wrong with its output.
    pub fault: Fault,
}

impl<B: Backend> Backend for Faulty<B> {
    const TYPE: &'static str = B::TYPE;
    const ABOUT: &'static str = B::ABOUT;
    const SAMPLE: &'static str = B::SAMPLE;
    type Config = B::Config;
    type Memory = B::Memory;
    type Output = FaultyOutput<B::Memory, B::Output>;

    fn open(c: B::Config, plan: &ChannelPlan, context: &Context) -> Result<Self, BackendError> {
        Ok(Self { backend: B::open(c, plan, context)?, fault: Fault::None })
    }
    fn identity(&self) -> Identity {
        self.backend.identity()
    }
    fn takes(&self, mode: Mode) -> bool {
        self.backend.takes(mode)
    }
    fn is_paced(&self) -> bool {
        self.backend.is_paced()
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<B::Memory, BackendError> {
        self.backend.memory(stream)
    }
    fn output(&mut self) -> Result<Self::Output, BackendError> {
        let output = self.backend.output()?;
        Ok(FaultyOutput { output, fault: self.fault, taken: 0, held: Vec::new() })
    }
}

/// See [`Faulty`].
pub struct FaultyOutput<M: Memory, O> {
    output: O,
    fault: Fault,
    taken: u64,
    held: Vec<Packet<M>>,
}

#[async_trait]
impl<M: Memory, O: Output<M>> Output<M> for FaultyOutput<M, O> {
    async fn write_packet(&mut self, packet: Packet<M>) {
        self.taken += 1;
        match self.fault {
            Fault::None => self.output.write_packet(packet).await,
            Fault::Slow(time) => {
                std::thread::sleep(time);
                self.output.write_packet(packet).await;
            }
            Fault::Stalled => self.held.push(packet),
            Fault::Failing if self.taken.is_multiple_of(3) => drop(packet),
            Fault::Cancelled if self.taken.is_multiple_of(2) => {
                let never = async move {
                    let _held = packet;
                    std::future::pending::<()>().await;
                };
                // Dropped before it ends, as a runtime drops a task at shutdown.
                let mut never = Box::pin(never);
                let waker = std::task::Waker::noop();
                let _ = never.as_mut().poll(&mut std::task::Context::from_waker(waker));
            }
            Fault::Failing | Fault::Cancelled => self.output.write_packet(packet).await,
        }
    }
    async fn turn(&mut self) {
        self.output.turn().await;
    }
    fn pace(&self) -> Option<Pace> {
        self.output.pace()
    }
    fn ending(&mut self) {
        self.output.ending();
    }
    async fn flush(&mut self) {
        for packet in self.held.drain(..) {
            self.output.write_packet(packet).await;
        }
        self.output.flush().await;
    }
    async fn close(&mut self) -> Result<(), BackendError> {
        self.output.close().await
    }
}
