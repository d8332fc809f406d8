//! Compute shaders that count what a picture shows, where the events lie already.
//!
//! Each shader (`shaders/`) is the twin of a function in [`crate::timeline`] and gives the same
//! numbers, bit for bit. [`Compute`] has them as functions of buffers: its pipelines are made
//! once, a frame uploads edges and a list of tasks and reads back bins, nothing else.
//! [`Index`] says where in an overwrite ring of buffers which stream's entries lie, and
//! [`Timeline`] is both together, as a live backend uses them. Not here: which device, the
//! memory that packets lie in, and drawing.
//!
//! A buffer that shaders read may be as large as the device binds at once (128 MiB here and
//! there): all functions take lists of buffers and dispatch once for each.

mod classes;
mod count;
mod density;
mod index;
mod kernel;
mod live;
mod pending;
mod pick;
mod rings;
mod states;
mod taken;
#[cfg(test)]
mod tests;
mod threads;
mod timeline;
mod told;
mod values;
mod walk;

pub use classes::class_table;
pub use count::Wanted;
pub use density::Run;
pub use index::{Index, Part};
pub use live::{Live, States, StreamRows, ThreadRows};
pub use pending::{ComputeError, Pending};
pub use pick::{LaneStates, Picker, StateNames, Take};
pub use states::Lane;
pub use taken::Asking;
pub use timeline::{Arrival, Timeline};
pub use walk::{Spot, Totals, Walker};

use kernel::{Kernel, Use};

/// The shaders on one device, ready to run.
pub struct Compute {
    device: wgpu::Device,
    queue: wgpu::Queue,
    density: Kernel,
    count: Kernel,
    few: Kernel,
    states: Kernel,
    aggregate: Kernel,
    walk: Kernel,
    pick: Kernel,
    switches: Kernel,
    share: Kernel,
    gather: Kernel,
    carry: Kernel,
    /// A row table without a row: there are no bindings of nothing.
    nothing: wgpu::Buffer,
}

macro_rules! source {
    ($($name:literal),+) => {
        concat!(
            include_str!("shaders/common.wgsl"),
            $(include_str!(concat!("shaders/", $name))),+
        )
    };
}

impl Compute {
    /// Makes the pipelines: milliseconds to seconds, once.
    #[must_use]
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let kernel = |name, source, uses: &[Use]| Kernel::new(device, name, source, uses);
        let (read, write) = (Use::Read, Use::Write);
        Self {
            density: kernel("density", source!("density.wgsl"), &[read, read, write, read]),
            count: kernel("count", source!("count.wgsl"), &[read, read, write, read, read]),
            few: kernel(
                "few",
                source!("lane.wgsl", "told.wgsl", "lanes.wgsl", "few.wgsl"),
                &[read, read, write, read, write],
            ),
            states: kernel(
                "states",
                source!("lane.wgsl", "told.wgsl", "lanes.wgsl", "states.wgsl"),
                &[read, read, write, read, read],
            ),
            aggregate: kernel(
                "aggregate",
                source!("lane.wgsl", "aggregate.wgsl"),
                &[read, read, write, read],
            ),
            walk: kernel(
                "walk",
                source!("word.wgsl", "walk.wgsl"),
                &[read, read, write, read, write],
            ),
            pick: kernel(
                "pick",
                source!("lane.wgsl", "word.wgsl", "take.wgsl", "pick.wgsl"),
                &[read, read, read, read, write, write],
            ),
            switches: kernel(
                "switches",
                source!("lane.wgsl", "word.wgsl", "take.wgsl", "told.wgsl", "switches.wgsl"),
                &[read, read, read, read, write, write, write],
            ),
            share: kernel("share", source!("lane.wgsl", "share.wgsl"), &[read, read, write, write]),
            gather: kernel(
                "gather",
                source!("lane.wgsl", "told.wgsl", "threads.wgsl", "gather.wgsl"),
                &[read, read, read, read, write, write, write],
            ),
            carry: kernel("carry", source!("threads.wgsl", "carry.wgsl"), &[read, read, write]),
            nothing: kernel::upload(device, queue, "nothing", &[0; 4]),
            device: device.clone(),
            queue: queue.clone(),
        }
    }

    /// The most bytes of a buffer that a shader can see.
    #[must_use]
    pub fn binding_size(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    fn upload(&self, name: &str, words: &[u32]) -> wgpu::Buffer {
        kernel::upload(&self.device, &self.queue, name, words)
    }

    /// The edges of a window's columns, as a shader reads them.
    fn edges(&self, edges: &[u64]) -> wgpu::Buffer {
        let words: Vec<u32> = edges.iter().flat_map(|e| [*e as u32, (e >> 32) as u32]).collect();
        self.upload("edges", &words)
    }
}
