//! What a GPU's store keeps, read back and checked as a trace is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rbpipe_backends::gpu::{GpuDevice, PacketEntry, Store};
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::{PacketHeader, StreamClass};

use crate::records::{Found, StreamCheck};

/// Reads a store as it goes on, and checks what comes.
#[derive(Default)]
pub struct KeptCheck {
    streams: BTreeMap<u32, StreamCheck>,
    next: u64,
    /// Packets that were overwritten before they were read here.
    pub overwritten: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl KeptCheck {
    /// Reads what came since the last time; gives how many packets.
    ///
    /// # Panics
    /// At the first thing that is wrong.
    pub fn read(
        &mut self,
        store: &Store,
        device: Option<&Arc<GpuDevice>>,
        classes: &Classes,
    ) -> usize {
        let packets = store.read_back(device, self.next).expect("it can be read back");
        for (entry, bytes) in &packets {
            self.overwritten += entry.number - self.next;
            self.next = entry.number + 1;
            self.bytes += entry.bytes;
            let check = self.streams.entry(entry.stream.id).or_default();
            let records = check.packet(bytes, classes);
            agrees(entry, bytes);
            assert!(records <= entry.records, "aborted ones count, too: {entry:?}");
        }
        packets.len()
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> Found {
        let mut all = Found::default();
        for check in self.streams.values() {
            all.records += check.found.records;
            all.aborted += check.found.aborted;
            all.discarded += check.found.discarded;
            all.packets_lost += check.found.packets_lost;
            all.packets += check.found.packets;
        }
        all
    }
}

/// The table says what the header does.
fn agrees(entry: &PacketEntry, bytes: &[u8]) {
    let h = PacketHeader::decode(bytes, |id| StreamClass::ALL.get(id as usize % 3).copied())
        .expect("a packet header");
    let table = (entry.first, entry.last, entry.content, entry.sequence);
    assert_eq!(table, (h.begin, h.end, h.content_size, h.sequence), "{entry:?}");
    assert_eq!((entry.bytes, bytes.len() as u64), (h.packet_size, h.packet_size), "{entry:?}");
    assert_eq!(u64::from(entry.stream.id), h.stream_id, "{entry:?}");
}
