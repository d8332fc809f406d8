//! A sub-buffer's bytes where the GPU finds them.
//!
//! A buffer that is mapped for writing: whoever writes stores through its view's address. It
//! *travels* while the GPU has it: the view is gone, the buffer unmapped, and there is no
//! address. Mapped memory is never read: it may be write-combining, or a card's own. Where there
//! is no device (any more) it is ordinary memory, by the same exchange.

use std::ptr::NonNull;

use rbpipe_core::memory::{Memory, Publish};
use wgpu::{Buffer, BufferViewMut};

use crate::heap::HeapMemory;

/// One sub-buffer's bytes.
pub struct GpuMemory {
    len: usize,
    state: State,
}

enum State {
    /// Writers may have its address.
    Mapped(Mapped),
    /// The GPU has it.
    Travels(Buffer),
    /// Ordinary memory.
    Heap(HeapMemory),
    /// Its buffer was given away.
    Empty,
}

/// A buffer and its one view.
struct Mapped {
    base: Address,
    /// Held, never touched: bytes are written through `base`.
    _view: BufferViewMut,
    buffer: Buffer,
}

/// The first byte of a view.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: an address; what is stored through it is said by `Memory`'s contract.
unsafe impl Send for Address {}

impl Mapped {
    /// The view of a buffer that is mapped, all of it, and has no other view.
    fn new(buffer: Buffer) -> Result<Self, String> {
        let mut view = buffer.get_mapped_range_mut(..).map_err(|e| e.to_string())?;
        let base = Address(view.slice(..).as_raw_element_ptr());
        Ok(Self { base, _view: view, buffer })
    }
}

impl GpuMemory {
    /// Of a buffer that is mapped for writing.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn mapped(buffer: Buffer) -> Result<Self, String> {
        let len = usize::try_from(buffer.size()).unwrap_or(0);
        Ok(Self { len, state: State::Mapped(Mapped::new(buffer)?) })
    }

    /// Ordinary memory.
    pub(super) fn heap(memory: HeapMemory) -> Self {
        Self { len: memory.len(), state: State::Heap(memory) }
    }

    /// None: not ready, so that it is retired.
    pub(super) fn none() -> Self {
        Self { len: 0, state: State::Empty }
    }

    /// Whether it is a mapped buffer of the device's.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.state, State::Mapped(_))
    }

    /// Ends the view and gives the buffer to the GPU; `None`: it was not mapped.
    pub(super) fn unmap(&mut self) -> Option<&Buffer> {
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Mapped(Mapped { _view: view, buffer, .. }) => {
                drop(view);
                buffer.unmap();
                self.state = State::Travels(buffer);
            }
            other => self.state = other,
        }
        match &self.state {
            State::Travels(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// The buffer has been mapped again: a new view, at whatever address. Memory that did not
    /// travel stays what it is.
    ///
    /// # Errors
    /// It is not mapped.
    pub(super) fn came_back(&mut self) -> Result<(), String> {
        self.state = match std::mem::replace(&mut self.state, State::Empty) {
            State::Travels(buffer) => State::Mapped(Mapped::new(buffer)?),
            stayed => stayed,
        };
        Ok(())
    }

    /// Unmaps and gives the buffer away; there is none after that.
    pub(super) fn give(&mut self) -> Option<Buffer> {
        self.unmap()?;
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Travels(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// The first `size` bytes, where they may be read. Whoever can call this holds the packet.
    pub(super) fn bytes(&self, size: usize) -> Option<&[u8]> {
        let State::Heap(memory) = &self.state else { return None };
        let base = memory.base()?;
        // SAFETY: the value is inside a packet, and only through that can it be reached: no
        // writer stores into it before the packet is dropped, which ends this borrow; heap
        // memory is initialised and may be read.
        Some(unsafe { std::slice::from_raw_parts(base.as_ptr(), size.min(memory.len())) })
    }
}

// SAFETY: a view's address stays the same for as long as the view lives, which is as long as the
// memory is mapped; the view is the buffer's only one and is not used, so nobody else touches
// these bytes. When the device is lost, mapped memory stays mapped until the view ends. A heap
// memory's address is promised by `HeapMemory`.
unsafe impl Memory for GpuMemory {
    /// It may be write-combining.
    const PUBLISH: Publish = Publish::Fence;
    fn base(&self) -> Option<NonNull<u8>> {
        match &self.state {
            State::Mapped(mapped) => Some(mapped.base.0),
            State::Heap(memory) => memory.base(),
            State::Travels(_) | State::Empty => None,
        }
    }
    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use rbpipe_core::backend::{Identity, StreamInfo};
    use rbpipe_core::packet::StreamClass;

    use super::*;
    use crate::heap::Heap;

    /// Fresh memory for each packet would cost its writer a page fault every 4 KiB.
    #[test]
    fn ordinary_memory_stays_where_it_is_when_it_is_handed_over() {
        let info = StreamInfo {
            id: 0,
            class: StreamClass::Plain,
            cpu: None,
            start: 0,
            identity: Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 },
            subbuf_size: 4096,
            memories: 1,
            prefault: false,
        };
        let mut memory = GpuMemory::heap(Heap::default().memory(&info).expect("a page"));
        let base = memory.base();
        assert!(base.is_some() && memory.unmap().is_none());
        memory.came_back().expect("nothing to map");
        assert_eq!(memory.base(), base);
    }
}
