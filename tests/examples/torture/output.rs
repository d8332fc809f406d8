//! A backend whose output checks every packet the moment it gets it, and again before it puts
//! it back; and that holds, drops, cancels, spoils and panics as its temper says.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rbpipe_backends::{Heap, HeapMemory};
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::decode::Classes;
use rbpipe_core::frontend::Mode;
use rbpipe_core::memory::{Memory, Publish, ReadMemory};
use rbpipe_core::snapshot::PacketView;
use rbpipe_core::stream::{LentPacket, Packet};
use rbpipe_tests::records::StreamCheck;

use crate::draw::Temper;

/// What an output panics with on purpose.
pub struct OnPurpose;

/// Heap memory that can be unmapped, and that is missed if it is never given back.
pub struct Lent<const FENCE: bool> {
    memory: HeapMemory,
    mapped: bool,
    alive: Arc<AtomicI64>,
}

impl<const FENCE: bool> Drop for Lent<FENCE> {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

// SAFETY: as `HeapMemory`, whose address it gives or none.
unsafe impl<const FENCE: bool> Memory for Lent<FENCE> {
    const PUBLISH: Publish = if FENCE { Publish::Fence } else { Publish::Release };
    fn base(&self) -> Option<std::ptr::NonNull<u8>> {
        self.memory.base().filter(|_| self.mapped)
    }
    fn len(&self) -> usize {
        self.memory.len()
    }
}

// SAFETY: as `HeapMemory`.
unsafe impl<const FENCE: bool> ReadMemory for Lent<FENCE> {}

/// By stream: what it kept so far.
pub type Checks = Arc<Mutex<BTreeMap<u32, StreamCheck>>>;

/// The backend.
pub struct Torture<const FENCE: bool> {
    heap: Heap,
    temper: Temper,
    takes: bool,
    random: fastrand::Rng,
    classes: Arc<ClassRegistry>,
    /// Memories that live.
    pub alive: Arc<AtomicI64>,
    /// What the packets said.
    pub checks: Checks,
    /// A packet changed while it was held.
    pub changed: Arc<AtomicBool>,
    /// Memories of a stream that were made when it was.
    made: BTreeMap<u32, usize>,
}

impl<const FENCE: bool> Torture<FENCE> {
    pub fn new(temper: Temper, takes: bool, seed: u64, classes: &Arc<ClassRegistry>) -> Self {
        Self {
            heap: Heap::default(),
            temper,
            takes,
            random: fastrand::Rng::with_seed(seed),
            classes: Arc::clone(classes),
            alive: Arc::default(),
            checks: Arc::default(),
            changed: Arc::default(),
            made: BTreeMap::new(),
        }
    }
}

impl<const FENCE: bool> Backend for Torture<FENCE> {
    const TYPE: &'static str = "torture";
    const ABOUT: &'static str = "the tests' own";
    const SAMPLE: &'static str = "type = \"torture\"\n";
    type Config = ();
    type Memory = Lent<FENCE>;
    type Output = TortureOutput<FENCE>;

    fn open(_: (), plan: &ChannelPlan, _: &Context) -> Result<Self, BackendError> {
        Ok(Self::new(Temper::default(), true, 0, &plan.classes))
    }
    fn identity(&self) -> Identity {
        Identity { uuid: *b"torture.torture.", first_stream_class: 0, first_stream: 0 }
    }
    fn takes(&self, _: Mode) -> bool {
        self.takes
    }
    fn view<'a>(packet: &'a LentPacket<'_, Lent<FENCE>>) -> Option<PacketView<'a>> {
        Some(PacketView { bytes: packet.bytes(), file: None })
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<Lent<FENCE>, BackendError> {
        let made = self.made.entry(stream.id).or_default();
        if *made >= stream.memories && self.random.u32(..1000) < self.temper.no_memory {
            return Err(BackendError::new("there is none just now, on purpose"));
        }
        *made += 1;
        let memory = self.heap.memory(stream)?;
        self.alive.fetch_add(1, Ordering::Relaxed);
        Ok(Lent { memory, mapped: true, alive: Arc::clone(&self.alive) })
    }
    fn output(&mut self) -> Result<TortureOutput<FENCE>, BackendError> {
        let (keep, kept) = channel();
        let random = self.random.fork();
        let changed = Arc::clone(&self.changed);
        let keeper = std::thread::spawn(move || keeper(&kept, random, &changed));
        Ok(TortureOutput {
            temper: self.temper,
            random: self.random.fork(),
            classes: Classes::new(self.classes.all()),
            registry: Arc::clone(&self.classes),
            checks: Arc::clone(&self.checks),
            taken: 0,
            keep: Some(keep),
            keeper: Some(keeper),
        })
    }
}

/// What is asked of the thread that holds packets.
enum Ask<const FENCE: bool> {
    /// Hold it; its bytes sum up to this.
    Keep(Packet<Lent<FENCE>>, u32),
    /// Put all of them back, then answer.
    PutBack(Sender<()>),
}

/// Holds packets for a while and puts them back in any order, unchanged.
fn keeper<const FENCE: bool>(
    asked: &Receiver<Ask<FENCE>>,
    mut random: fastrand::Rng,
    changed: &AtomicBool,
) {
    let mut held: Vec<(Packet<Lent<FENCE>>, u32)> = Vec::new();
    let put = |(packet, sum): (Packet<Lent<FENCE>>, u32)| {
        if crc32c::crc32c(packet.bytes()) != sum {
            changed.store(true, Ordering::Relaxed);
        }
        let bytes = packet.size() as u64;
        packet.written(bytes);
    };
    loop {
        match asked.recv_timeout(Duration::from_micros(random.u64(0..2000))) {
            Ok(Ask::Keep(packet, sum)) => held.push((packet, sum)),
            Ok(Ask::PutBack(answer)) => {
                random.shuffle(&mut held);
                held.drain(..).for_each(put);
                let _ = answer.send(());
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                if !held.is_empty() {
                    put(held.swap_remove(random.usize(..held.len())));
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                held.drain(..).for_each(put);
                return;
            }
        }
    }
}

/// See [`Torture`].
pub struct TortureOutput<const FENCE: bool> {
    temper: Temper,
    random: fastrand::Rng,
    classes: Classes,
    registry: Arc<ClassRegistry>,
    checks: Checks,
    taken: u64,
    /// `None` only while it is dropped.
    keep: Option<Sender<Ask<FENCE>>>,
    keeper: Option<JoinHandle<()>>,
}

impl<const FENCE: bool> TortureOutput<FENCE> {
    fn check(&mut self, packet: &Packet<Lent<FENCE>>) -> u32 {
        let sum = crc32c::crc32c(packet.bytes());
        if self.taken == 0 {
            self.classes = Classes::new(self.registry.all());
        }
        let records = {
            let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
            let check = checks.entry(packet.stream().id).or_default();
            check.packet(packet.bytes(), &self.classes)
        };
        assert_eq!(records, packet.facts().records, "the facts count what is in the packet");
        assert_eq!(crc32c::crc32c(packet.bytes()), sum, "a packet changed while it was read");
        sum
    }
}

#[async_trait]
impl<const FENCE: bool> Output<Lent<FENCE>> for TortureOutput<FENCE> {
    async fn write_packet(&mut self, mut packet: Packet<Lent<FENCE>>) {
        let sum = self.check(&packet);
        self.taken += 1;
        if self.temper.panics_at.is_some_and(|n| self.taken > n) {
            packet.memory_mut().expect("it has one").mapped = false;
            std::panic::panic_any(OnPurpose);
        }
        let t = self.temper;
        let mut dice = self.random.u32(..1000);
        let mut is = |share: u32| {
            let hit = dice < share;
            dice = dice.wrapping_sub(share);
            hit
        };
        if is(t.failed) {
            drop(packet);
        } else if is(t.cancelled) {
            let map_again = self.random.bool();
            let mut never = Box::pin(async move {
                packet.memory_mut().expect("it has one").mapped = map_again;
                std::future::pending::<()>().await;
                drop(packet);
            });
            let waker = std::task::Waker::noop();
            let _ = never.as_mut().poll(&mut std::task::Context::from_waker(waker));
        } else if is(t.spoilt) {
            packet.memory_mut().expect("it has one").mapped = false;
            let bytes = packet.size() as u64;
            packet.written(bytes);
        } else if self.random.u32(..1000) < t.held {
            let keep = self.keep.as_ref().expect("it lives");
            keep.send(Ask::Keep(packet, sum)).expect("its thread lives");
        } else {
            let bytes = packet.size() as u64;
            packet.written(bytes);
        }
    }
    async fn flush(&mut self) {
        let (answer, done) = channel();
        let keep = self.keep.as_ref().expect("it lives");
        keep.send(Ask::PutBack(answer)).expect("its thread lives");
        done.recv().expect("its thread lives");
    }
    async fn close(&mut self) -> Result<(), BackendError> {
        self.flush().await;
        Ok(())
    }
}

impl<const FENCE: bool> Drop for TortureOutput<FENCE> {
    /// What is held is put back before the books are read.
    fn drop(&mut self) {
        drop(self.keep.take());
        if let Some(Err(panic)) = self.keeper.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
