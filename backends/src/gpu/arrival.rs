//! Where others are told of packets that come into a store: what indexes them, what draws them.

use wgpu::CommandEncoder;

use super::device::Gpu;
use super::store::PacketEntry;

/// Told of what comes and goes in a store, on the thread that puts it there, with the store's
/// lock held: it is to be short, waits for nothing, and does not lock the store.
pub trait Arrival: Send {
    /// These packets' bytes are where their entries say when commands that are recorded here
    /// run: they follow the copies in the same submission.
    fn in_gpu(&mut self, gpu: &Gpu, encoder: &mut CommandEncoder, packets: &[PacketEntry]);
    /// The same of a packet that is kept in ordinary memory, where there is no device.
    fn in_heap(&mut self, packet: &PacketEntry, bytes: &[u8]);
    /// Packets with smaller numbers are gone.
    fn forgotten(&mut self, oldest: u64);
}
