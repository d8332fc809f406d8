//! Goal: each shader gives what its twin gives, bit for bit. Method: the twins' own input (all
//! kinds of windows, times on edges and far away), cut into runs that lie in several buffers;
//! packets that are whole, damaged and nonsense. On whatever adapter there is, lavapipe where
//! there is none of hardware.

mod counts;
mod index;
mod lanes;
mod picks;
mod rings;
mod threads;
mod walks;

use std::sync::OnceLock;

use wgpu::BufferUsages;

use super::kernel::{empty, words_bytes};
use super::*;
use crate::timeline::tests::Random;
use crate::timeline::{Entry, Transition, Value};

/// Shaders on the first adapter there is; `None`, and said why, where there is none.
fn compute() -> Option<&'static Compute> {
    static COMPUTE: OnceLock<Option<Compute>> = OnceLock::new();
    let found = COMPUTE.get_or_init(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let options = wgpu::RequestAdapterOptions::default();
        let adapter = pollster::block_on(instance.request_adapter(&options)).ok()?;
        let wanted = wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wanted)).ok()?;
        Some(Compute::new(&device, &queue))
    });
    if found.is_none() {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        assert!(!ci, "no Vulkan adapter, and CI is to have one: install mesa-vulkan-drivers");
        eprintln!("SKIPPED: no Vulkan adapter; Debian's mesa-vulkan-drivers has one");
    }
    found.as_ref()
}

/// A buffer of these words that shaders write to as well.
fn buffer(compute: &Compute, words: &[u32]) -> wgpu::Buffer {
    let buffer = empty(&compute.device, "test", words.len() as u64 * 4, BufferUsages::STORAGE);
    compute.queue.write_buffer(&buffer, 0, &words_bytes(words));
    buffer
}

/// A packet's bytes as words, padded.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0x77);
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Puts transitions behind these words, as they lie in a ring that has gone round.
fn ring(random: &mut Random, all: &[Transition], words: &mut Vec<u32>) -> Lane {
    let (room, base) = (all.len() + random.below(3) as usize, words.len() as u32 / 4);
    let first = random.below(room.max(1) as u64) as usize;
    let mut ring = vec![Transition::new(random.next(), 1); room];
    all.iter().enumerate().for_each(|(i, t)| ring[(first + i) % room] = *t);
    words.extend(transition_words(&ring));
    Lane { base, capacity: room as u32, first: first as u32, len: all.len() as u32 }
}

/// What a buffer holds.
fn read(compute: &Compute, buffer: &wgpu::Buffer) -> Vec<u32> {
    compute.submit(compute.encoder("read"), &[(buffer, buffer.size())]).wait().unwrap()
}

fn entry_words(entries: &[Entry]) -> Vec<u32> {
    entries.iter().flat_map(|e| [e.low, e.high, e.class, e.offset]).collect()
}

fn transition_words(all: &[Transition]) -> Vec<u32> {
    all.iter().flat_map(|t| [t.low, t.high, t.state, t.told]).collect()
}

fn value_words(all: &[Value]) -> Vec<u32> {
    all.iter().flat_map(|v| [v.low, v.high, v.value_low, v.value_high]).collect()
}

/// Adds bins to bins.
fn add(sum: &mut [u32], bins: &[u32]) {
    assert_eq!(sum.len(), bins.len());
    sum.iter_mut().zip(bins).for_each(|(a, b)| *a = a.wrapping_add(*b));
}
