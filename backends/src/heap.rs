//! Heap memory: anonymous pages, zeroed by the kernel when they are first touched.
//!
//! One mapping for all memories that a stream is made with (a ring of many small
//! sub-buffers must not cost a system call each), a further one for each that is replaced.

use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};
use rbpipe_core::backend::{BackendError, StreamInfo};
use rbpipe_core::memory::{Memory, ReadMemory};

/// A mapping that several memories share, each with a part of its own.
struct Region {
    base: NonNull<u8>,
    // Held for its address; bytes are reached through `base` alone.
    _map: MmapMut,
}

// SAFETY: `base` points into `_map`, which moves with it; the parts are handed out once each.
unsafe impl Send for Region {}
// SAFETY: as above; a shared region gives out addresses only.
unsafe impl Sync for Region {}

/// One sub-buffer's bytes in the heap.
pub struct HeapMemory {
    region: Arc<Region>,
    offset: usize,
    len: usize,
}

// SAFETY: the address is that of a mapping that the `Arc` keeps alive and that nobody else
// touches: each part of a region is given out once. Zeroed pages are initialised.
unsafe impl Memory for HeapMemory {
    fn base(&self) -> Option<NonNull<u8>> {
        // SAFETY: `offset + len` was checked against the mapping when the part was made.
        Some(unsafe { self.region.base.add(self.offset) })
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: anonymous mappings are zeroed, so every byte is initialised, and may be read.
unsafe impl ReadMemory for HeapMemory {}

/// Hands out heap memories, stream by stream.
#[derive(Default)]
pub struct Heap {
    /// The region being handed out: whose it is, and how many of its parts are gone.
    current: Option<(u32, Arc<Region>, usize, usize)>,
}

impl Heap {
    /// The next memory of this stream.
    ///
    /// # Errors
    /// The system has no memory, in words.
    pub fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        let len = stream.subbuf_size;
        match &mut self.current {
            Some((id, region, given, parts)) if *id == stream.id && *given < *parts => {
                let offset = *given * len;
                *given += 1;
                return Ok(HeapMemory { region: Arc::clone(region), offset, len });
            }
            _ => {}
        }
        // The first one of a stream maps all that it is made with; a replacement, itself.
        let known = matches!(&self.current, Some((id, ..)) if *id == stream.id);
        let parts = if known { 1 } else { stream.memories };
        let bytes = len.checked_mul(parts).ok_or_else(|| no_memory(usize::MAX, None))?;
        let mut map =
            MmapOptions::new().len(bytes).map_anon().map_err(|e| no_memory(bytes, Some(e)))?;
        let base = NonNull::from(&mut map[..]).cast::<u8>();
        let region = Arc::new(Region { base, _map: map });
        self.current = Some((stream.id, Arc::clone(&region), 1, parts));
        Ok(HeapMemory { region, offset: 0, len })
    }
}

fn no_memory(bytes: usize, source: Option<std::io::Error>) -> BackendError {
    let message = format!(
        "no memory for a ring of {}: make subbuf_size or subbuf_count smaller",
        crate::units::Size(bytes as u64)
    );
    match source {
        Some(source) => BackendError::io(message, source),
        None => BackendError::new(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbpipe_core::backend::Identity;
    use rbpipe_core::packet::StreamClass;

    #[test]
    fn parts_of_a_stream_do_not_overlap() {
        let info = StreamInfo {
            id: 3,
            class: StreamClass::Plain,
            cpu: None,
            start: 0,
            identity: Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 },
            subbuf_size: 4096,
            memories: 3,
            prefault: false,
        };
        let mut heap = Heap::default();
        // Three that it is made with, and two that replace retired ones.
        let all: Vec<_> = (0..5).map(|_| heap.memory(&info).unwrap()).collect();
        let mut bases: Vec<usize> =
            all.iter().map(|m| m.base().unwrap().as_ptr() as usize).collect();
        bases.sort_unstable();
        assert!(bases.windows(2).all(|w| w[1] - w[0] >= 4096));
        assert!(all.iter().all(|m| m.len() == 4096));
    }
}
