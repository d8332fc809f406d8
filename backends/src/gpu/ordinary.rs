//! Ordinary memory for packets that are kept where there is no device: asked for before it is
//! taken. Where there is none, the oldest packets go until there is, and the process lives.
//!
//! What is asked for is more than the packet: whoever is told of it (`arrival.rs`) indexes it, and
//! the rest of the process takes memory, too, which nothing but the process's end would refuse.

use std::sync::Arc;

use super::store::Store;

/// Left for the rest of the process.
const OTHERS: usize = 1 << 20;

/// Whether so many bytes could be taken, with what is to be left.
pub(super) fn is_there(bytes: usize) -> bool {
    // An index has 16 bytes for each record, which has 16 or more.
    let Some(wanted) = bytes.checked_mul(2).and_then(|two| two.checked_add(OTHERS)) else {
        return false;
    };
    // Asked and given back at once: an `Arc<[u8]>` itself is made, or the process ends.
    Vec::<u8>::new().try_reserve_exact(wanted).is_ok()
}

/// What became of a packet that was to be copied.
pub(super) struct Copied {
    /// `None`: there is no memory for it, though nothing is kept any more.
    pub(super) bytes: Option<Arc<[u8]>>,
    /// Bytes of older packets that went for it.
    pub(super) let_go: u64,
}

impl Store {
    /// Copies a packet's bytes to ordinary memory; `is_there` says whether it has so many.
    pub(super) fn copy(&self, bytes: &[u8], is_there: impl Fn(usize) -> bool) -> Copied {
        let mut let_go = 0;
        while !(is_there(bytes.len()) && self.lock().has_room()) {
            // An eighth at least, so that not every packet from now on finds none.
            match self.lock().let_go(bytes.len() as u64) {
                0 => return Copied { bytes: None, let_go },
                freed => let_go += freed,
            }
        }
        Copied { bytes: Some(bytes.into()), let_go }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rbpipe_core::backend::{Identity, StreamInfo};
    use rbpipe_core::frontend::PacketFacts;
    use rbpipe_core::packet::StreamClass;

    use super::super::config::Keep;
    use super::super::store::Place;
    use super::*;

    const SIZE: usize = 1000;

    /// A store of sixteen packets.
    fn store() -> Store {
        let store = Store::new("c", Keep::Bytes(1 << 30));
        let identity = Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 };
        let stream = Arc::new(StreamInfo {
            id: 0,
            class: StreamClass::Plain,
            cpu: None,
            start: 0,
            identity,
            subbuf_size: 4096,
            memories: 2,
            prefault: false,
        });
        for sequence in 1..=16 {
            let (begin, end) = (sequence, sequence);
            let content = SIZE as u64;
            let facts =
                PacketFacts { sequence, content, begin, end, lost: 0, records: 5, origin: 0 };
            let place = Place::Heap(Arc::from(vec![0; SIZE]));
            store.lock().insert(&stream, &facts, (content, content), place);
        }
        store
    }

    #[test]
    fn while_there_is_memory_nothing_goes() {
        let store = store();
        let Copied { bytes, let_go } = store.copy(&[7; SIZE], |_| true);
        assert_eq!((bytes.as_deref(), let_go), (Some(&[7; SIZE][..]), 0));
        assert_eq!(store.lock().packets().count(), 16);
    }

    #[test]
    fn the_oldest_go_until_there_is_memory() {
        let store = store();
        // At the first question, and at the second.
        let refused = Cell::new(2_u32);
        let is_there = |bytes| {
            assert_eq!(bytes, SIZE);
            refused.replace(refused.get().saturating_sub(1)) == 0
        };
        let Copied { bytes, let_go } = store.copy(&[7; SIZE], is_there);
        assert_eq!((bytes.as_deref(), let_go), (Some(&[7; SIZE][..]), 4 * SIZE as u64));
        let table = store.lock();
        assert_eq!(table.oldest(), 4, "an eighth went each time, the oldest first");
        assert_eq!((table.packets().count(), table.bytes()), (12, 12 * SIZE as u64));
    }

    #[test]
    fn without_any_memory_the_packet_is_not_copied() {
        let store = store();
        let Copied { bytes, let_go } = store.copy(&[7; SIZE], |_| false);
        assert_eq!((bytes, let_go), (None, 16 * SIZE as u64));
        let table = store.lock();
        assert_eq!((table.packets().count(), table.came()), (0, (16, 80)));
        assert!(!is_there(usize::MAX) && !is_there(usize::MAX / 4) && is_there(SIZE));
    }
}
