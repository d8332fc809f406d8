//! rbpipe's backends: one file each. A backend owns bytes and what becomes of a packet;
//! synchronisation is the engine's (`rbpipe-core`).

pub mod file;
pub mod glob;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu_disabled.rs"]
pub mod gpu;
mod heap;
pub mod link;
mod mapping;
pub mod pages;
pub mod picture;
pub mod serial;
pub mod snapshot;
pub mod timeline;
mod trace;
pub mod units;

pub use heap::{Heap, HeapMemory};
pub use mapping::Pages as PageKind;

use rbpipe_core::backend::Visit;

/// The registry: every backend of this build, in the order in which they are listed. The
/// program, the conformance tests and the benches are visitors of it.
pub fn for_each(visitor: &mut impl Visit) {
    visitor.visit::<pages::Pages>();
    visitor.visit::<file::File>();
    visitor.visit::<serial::Serial>();
    visitor.visit::<gpu::Gpu>();
}
