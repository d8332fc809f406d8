//! Memory of the machine's own, whatever its pages are (`mapping.rs`): zeroed by the kernel when
//! it is first touched.
//!
//! One mapping for all memories that a stream is made with (a ring of many small
//! sub-buffers must not cost a system call each), a further one for each that is replaced.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rbpipe_core::backend::{BackendError, StreamInfo};
use rbpipe_core::memory::{Memory, ReadMemory};

use crate::mapping::{Had, Mapping, Pages};

/// One sub-buffer's bytes in the heap.
pub struct HeapMemory {
    region: Arc<Mapping>,
    offset: usize,
    len: usize,
}

impl HeapMemory {
    /// The file that holds the same bytes, and where they begin in it: a memfd's.
    #[must_use]
    pub fn file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        Some((self.region.file()?.as_fd(), self.offset as u64))
    }
}

// SAFETY: the address is that of a mapping that the `Arc` keeps alive and that nobody else
// touches: each part of a region is given out once. Zeroed pages are initialised.
unsafe impl Memory for HeapMemory {
    fn base(&self) -> Option<NonNull<u8>> {
        // SAFETY: `offset + len` was checked against the mapping when the part was made.
        Some(unsafe { self.region.base().add(self.offset) })
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: fresh mappings are zeroed, so every byte is initialised, and may be read.
unsafe impl ReadMemory for HeapMemory {}

/// Hands out heap memories, stream by stream.
#[derive(Default)]
pub struct Heap {
    pages: Pages,
    /// Whose memory it is, for a memfd's name.
    name: String,
    /// The region being handed out: whose it is, and how many of its parts are gone.
    current: Option<(u32, Arc<Mapping>, usize, usize)>,
    /// Bytes mapped so far, by what pages they had.
    had: Vec<(Had, u64)>,
}

impl Heap {
    /// Of these pages.
    #[must_use]
    pub(crate) fn of(pages: Pages, name: &str) -> Self {
        // A memfd's name has at most 249 bytes, and ends in the stream's number.
        let name = name.chars().filter(|c| *c != '\0').take(56).collect();
        Self { pages, name, ..Self::default() }
    }

    /// What was had, in words, once streams are made.
    pub(crate) fn words(&self) -> String {
        let had =
            |(had, bytes): &(Had, u64)| format!("{} {}", crate::units::Size(*bytes), had.words());
        self.had.iter().map(had).collect::<Vec<_>>().join("; ")
    }

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
        let name = format!("{}_{}", self.name, stream.id);
        let region =
            Mapping::new(self.pages, bytes, &name).map_err(|e| no_memory(bytes, Some(e)))?;
        match self.had.iter_mut().find(|(had, _)| *had == region.had) {
            Some((_, sum)) => *sum += bytes as u64,
            None => self.had.push((region.had, bytes as u64)),
        }
        let region = Arc::new(region);
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
