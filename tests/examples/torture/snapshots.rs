//! Snapshots while everything else goes on: each is one run of whole packets for each stream,
//! which ends at the newest there is, and is not older than the one before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbpipe_core::backend::{BackendError, StreamInfo};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::decode::Classes;
use rbpipe_core::drain::{Ask, Control, Done, Refused};
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::snapshot::{PacketView, SnapshotStream, SnapshotTo};
use rbpipe_tests::records::StreamCheck;

/// What all snapshots of a round came to.
#[derive(Debug, Default)]
pub struct Snapshots {
    pub taken: AtomicU64,
    pub packets: AtomicU64,
    pub begun_again: AtomicU64,
    /// Streams whose writers were faster than every try.
    pub outrun: AtomicU64,
    /// Something was not as it should be; a panic on the drain's thread would end the channel.
    pub wrong: AtomicBool,
}

/// Asks for snapshots until it is told to stop.
pub fn take(
    control: &Control,
    every: Duration,
    classes: &Arc<ClassRegistry>,
    stop: &AtomicBool,
    sums: &Arc<Snapshots>,
) {
    let newest: Arc<Mutex<BTreeMap<u32, u64>>> = Arc::default();
    while !stop.load(Ordering::Relaxed) {
        let to = Arc::new(Check {
            classes: Classes::new(classes.all()),
            sums: Arc::clone(sums),
            newest: Arc::clone(&newest),
        });
        let reply = control.request(Ask::Snapshot { to, at_the_end: false });
        match reply.recv() {
            Ok(Ok(Done::Snapped(snapped))) => {
                sums.taken.fetch_add(1, Ordering::Relaxed);
                sums.packets.fetch_add(snapped.packets, Ordering::Relaxed);
                sums.outrun.fetch_add(snapped.outrun, Ordering::Relaxed);
            }
            // No memory to exchange: an output may hold all.
            Ok(Err(Refused::Output(_))) => {}
            Ok(other) => {
                assert!(matches!(other, Err(Refused::Ended)), "{other:?}");
                return;
            }
            // The drain panicked, or never ran.
            Err(_) => return,
        }
        std::thread::sleep(every);
    }
}

/// Where one snapshot goes.
struct Check {
    classes: Classes,
    sums: Arc<Snapshots>,
    /// By stream: the newest packet of the last snapshot.
    newest: Arc<Mutex<BTreeMap<u32, u64>>>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}

impl Check {
    fn newest(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotTo for Check {
    fn stream(
        &self,
        _: &str,
        info: &StreamInfo,
    ) -> Result<Box<dyn SnapshotStream + '_>, BackendError> {
        let (check, id) = (StreamCheck::default(), info.id);
        Ok(Box::new(CheckStream { to: self, id, check, last: None }))
    }
}

struct CheckStream<'a> {
    to: &'a Check,
    id: u32,
    check: StreamCheck,
    last: Option<u64>,
}

impl SnapshotStream for CheckStream<'_> {
    fn begin_again(&mut self) {
        self.to.sums.begun_again.fetch_add(1, Ordering::Relaxed);
        (self.check, self.last) = (StreamCheck::default(), None);
    }
    fn packet(&mut self, facts: &PacketFacts, view: PacketView<'_>) -> Result<(), BackendError> {
        let look = || {
            let sum = crc32c::crc32c(view.bytes);
            assert!(self.last.is_none_or(|l| l + 1 == facts.sequence), "a run without a gap");
            let records = self.check.packet(view.bytes, &self.to.classes);
            assert_eq!(records, facts.records, "the facts count what is in the packet");
            assert_eq!(crc32c::crc32c(view.bytes), sum, "a packet changed while it was lent");
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(look)).is_err() {
            self.to.sums.wrong.store(true, Ordering::Relaxed);
        }
        self.last = Some(facts.sequence);
        Ok(())
    }
    fn finish(&mut self) -> Result<(), BackendError> {
        let last = self.last.unwrap_or(0);
        let before = self.to.newest().insert(self.id, last).unwrap_or(0);
        if last != 0 && last < before {
            eprintln!("stream {}: a snapshot ends at {last}, the one before at {before}", self.id);
            self.to.sums.wrong.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
