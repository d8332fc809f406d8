//! rbpipe: a channel as a program makes one, through the public interface, in heap memory.
//!
//! Alone it is a flight recorder (overwrite mode, nobody takes); with a consumer it is in discard
//! mode, and an output on the channel's own thread reads every record of every packet.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use rbpipe_backends::{Heap, HeapMemory};
use rbpipe_core::backend::{
    Backend, BackendError, ChannelPlan, Context, Identity, Output, StreamInfo,
};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{ClassId, ClassRegistry, EventClass, Field, FieldType};
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::packet::MAX_HEADER;
use rbpipe_core::stream::Packet;

use crate::peer::{Case, Opened, Put, ROOM, Sink, Take, Taken};

/// Of every channel: 2 MiB, as [`crate::peer::ROOM`].
const RING: (u64, u32) = (256 << 10, 8);

/// A backend whose output reads records.
struct Reading {
    heap: Heap,
    classes: Arc<ClassRegistry>,
    taken: Arc<Taken>,
}

impl Backend for Reading {
    const TYPE: &'static str = "reading";
    const ABOUT: &'static str = "reads every record";
    const SAMPLE: &'static str = "type = \"reading\"\n";
    type Config = ();
    type Memory = HeapMemory;
    type Output = Reader;

    fn open((): (), plan: &ChannelPlan, _: &Context) -> Result<Self, BackendError> {
        Ok(Self {
            heap: Heap::default(),
            classes: Arc::clone(&plan.classes),
            taken: Arc::default(),
        })
    }
    fn identity(&self) -> Identity {
        // In no trace.
        Identity { uuid: [0; 16], first_stream_class: 0, first_stream: 0 }
    }
    fn takes(&self, mode: Mode) -> bool {
        mode != Mode::Overwrite
    }
    fn memory(&mut self, stream: &StreamInfo) -> Result<HeapMemory, BackendError> {
        self.heap.memory(stream)
    }
    fn output(&mut self) -> Result<Reader, BackendError> {
        let classes = self.classes.all();
        Ok(Reader { classes: Classes::new(classes), taken: Arc::clone(&self.taken) })
    }
}

struct Reader {
    classes: Classes,
    taken: Arc<Taken>,
}

#[async_trait]
impl Output<HeapMemory> for Reader {
    async fn write_packet(&mut self, packet: Packet<HeapMemory>) {
        let facts = packet.facts();
        let Some(content) = packet.bytes().get(..facts.content as usize) else { return };
        let header = packet.stream().class.header_size() as usize;
        let (mut cursor, mut sink) = (Cursor::new(header, facts.begin), Sink::default());
        // A packet that cannot be read is dropped: it counts as failed.
        loop {
            match cursor.next(content, &self.classes) {
                Ok(Some(record)) => sink.add(&content[record.payload.0..record.payload.1]),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        self.taken.add(sink);
        let bytes = packet.size() as u64;
        packet.written(bytes);
    }
    async fn flush(&mut self) {}
    async fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// A channel's own thread.
struct Drain {
    channel: Option<Channel<Reading>>,
    control: Control,
}

impl Take for Drain {
    fn some(&mut self, _: &mut Sink) -> usize {
        0
    }
    fn all(&mut self, _: &AtomicBool, _: &Taken) {
        let channel = self.channel.take().expect("it is drained once");
        let end = channel.run(&self.control, Duration::from_secs(1), &mut |n| eprintln!("{n}"));
        end.expect("nothing is to be closed");
    }
    fn ender(&self) -> Box<dyn Fn() + Send> {
        let control = self.control.clone();
        Box::new(move || control.stop())
    }
}

/// A channel of these streams in this backend, with a class for payloads of `N` bytes.
///
/// # Panics
/// It cannot be opened.
pub fn channel<const N: usize, B: Backend>(
    config: B::Config,
    mode: Mode,
    streams: Streams,
) -> (Channel<B>, ClassId) {
    channel_from::<N, B>(mode, streams, |plan| B::open(config, plan, &Context::new("peers")))
}

fn channel_from<const N: usize, B: Backend>(
    mode: Mode,
    streams: Streams,
    open: impl FnOnce(&ChannelPlan) -> Result<B, BackendError>,
) -> (Channel<B>, ClassId) {
    let classes = Arc::new(ClassRegistry::new());
    let bytes = FieldType::Array(Box::new(FieldType::U8), N as u32);
    let class = EventClass::new("peers:record", vec![Field::new("payload", bytes)]);
    let class = classes.register(class).expect("a class");
    let geometry = Geometry::new(RING.0, RING.1, B::READER_SUBBUFS, MAX_HEADER as u32);
    let geometry = geometry.expect("a geometry");
    let plan = ChannelPlan { name: "peers".into(), geometry, mode, classes };
    let backend = open(&plan).expect("it opens");
    let options = ChannelOptions {
        plan,
        streams,
        block_timeout: Some(Duration::from_secs(10)),
        switch_timer: Some(Duration::from_secs(1)),
        read_timer: Some(Duration::from_millis(10)),
        prefault: true,
    };
    (Channel::open(options, backend).expect("it opens"), class)
}

fn open<const N: usize>(case: Case, streams: Streams) -> Opened<impl Put<N>> {
    let drained = matches!(case, Case::Drained | Case::Flooded);
    let mode = if drained { Mode::Discard } else { Mode::Overwrite };
    let mut taken = Arc::default();
    let (channel, class) = channel_from::<N, Reading>(mode, streams, |plan| {
        let backend = Reading::open((), plan, &Context::new("peers"))?;
        taken = Arc::clone(&backend.taken);
        Ok(backend)
    });
    let writer = channel.writer();
    let control = Control::new(channel.waker());
    let put = move |payload: &[u8; N]| writer.record(class, payload).is_ok();
    let drain: Box<dyn Take> = Box::new(Drain { channel: Some(channel), control });
    let puts = vec![put; case.writers()];
    // Every one has a header of four bytes, seldom of thirteen.
    Opened { puts, takes: vec![drain], taken, room: ROOM / (N + 4) }
}

/// A stream for each thread.
pub fn per_thread<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    open(case, Streams::PerThread(2))
}

/// A stream for each CPU.
pub fn per_cpu<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    open(case, Streams::PerCpu)
}

/// One stream, which two writers share.
pub fn single<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    open(case, Streams::Single)
}
