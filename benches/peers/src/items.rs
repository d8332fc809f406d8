//! Queues of items. Those for one producer are one for each writer, the others are shared.
//! What a consumer polls takes as many as there are, at most `BATCH`.

use std::sync::Arc;

use crate::peer::{Case, Opened, Put, Record, Sink, Take, items};

const BATCH: usize = 256;

/// A queue for each writer.
pub fn own<const N: usize, P: Put<N>, T: Take + 'static>(
    case: Case,
    room: usize,
    make: impl Fn() -> (P, T),
) -> Opened<P> {
    let mut opened = Opened::new(Vec::new(), Vec::new(), room);
    for _ in 0..case.writers() {
        let (put, take) = make();
        opened.puts.push(put);
        opened.takes.push(Box::new(take));
    }
    opened
}

/// A queue that they share.
fn shared<const N: usize, P: Put<N> + Clone>(
    case: Case,
    (put, take): (P, impl Take + 'static),
) -> Opened<P> {
    Opened::new(vec![put; case.writers()], vec![Box::new(take)], items::<N>())
}

/// One item after the other.
fn pops<const N: usize>(mut pop: impl FnMut() -> Option<Record<N>> + Send) -> impl Take {
    move |sink: &mut Sink| {
        let mut n = 0;
        while n < BATCH {
            let Some(record) = pop() else { break };
            sink.add(&record.payload);
            n += 1;
        }
        n
    }
}

/// `rtrb`: one producer, one consumer.
pub fn rtrb<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, items::<N>(), || {
        let (mut p, mut c) = rtrb::RingBuffer::new(items::<N>());
        (move |payload: &[u8; N]| p.push(Record::new(payload)).is_ok(), pops(move || c.pop().ok()))
    })
}

/// `ringbuf`: one producer, one consumer.
pub fn ringbuf<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    use ringbuf::traits::{Consumer, Producer, Split};
    own(case, items::<N>(), || {
        let (mut p, mut c) = ringbuf::HeapRb::new(items::<N>()).split();
        (
            move |payload: &[u8; N]| p.try_push(Record::new(payload)).is_ok(),
            pops(move || c.try_pop()),
        )
    })
}

/// `disruptor`: one producer, a consumer that polls and takes what there is.
pub fn disruptor<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    use disruptor::{BusySpin, Producer, build_single_producer};
    own(case, items::<N>(), || {
        let ring = build_single_producer(items::<N>(), Record::<N>::default, BusySpin);
        let (mut poller, ring) = ring.new_event_poller();
        let mut p = ring.build();
        let take = move |sink: &mut Sink| {
            let Ok(mut events) = poller.poll() else { return 0 };
            let before = sink.records;
            for record in &mut events {
                sink.add(&record.payload);
            }
            (sink.records - before) as usize
        };
        (move |payload: &[u8; N]| p.try_publish(|e| *e = Record::new(payload)).is_ok(), take)
    })
}

/// `crossbeam`'s `ArrayQueue`.
pub fn array_queue<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let p = Arc::new(crossbeam_queue::ArrayQueue::new(items::<N>()));
    let c = Arc::clone(&p);
    shared(
        case,
        (move |payload: &[u8; N]| p.push(Record::new(payload)).is_ok(), pops(move || c.pop())),
    )
}

/// `crossbeam`'s bounded channel.
pub fn crossbeam_channel<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let (p, c) = crossbeam_channel::bounded(items::<N>());
    shared(
        case,
        (
            move |payload: &[u8; N]| p.try_send(Record::new(payload)).is_ok(),
            pops(move || c.try_recv().ok()),
        ),
    )
}

/// `thingbuf`'s channel; a record is written in its place.
pub fn thingbuf<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let (p, c) = thingbuf::mpsc::blocking::channel::<Record<N>>(items::<N>());
    let put = move |payload: &[u8; N]| match p.try_send_ref() {
        Ok(mut place) => {
            *place = Record::new(payload);
            true
        }
        Err(_) => false,
    };
    shared(case, (put, pops(move || c.try_recv_ref().ok().map(|r| *r))))
}

/// `kanal`'s bounded channel.
pub fn kanal<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let (p, c) = kanal::bounded(items::<N>());
    shared(
        case,
        (
            move |payload: &[u8; N]| p.try_send(Record::new(payload)).unwrap_or(false),
            pops(move || c.try_recv().ok().flatten()),
        ),
    )
}

/// `flume`'s bounded channel.
pub fn flume<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let (p, c) = flume::bounded(items::<N>());
    shared(
        case,
        (
            move |payload: &[u8; N]| p.try_send(Record::new(payload)).is_ok(),
            pops(move || c.try_recv().ok()),
        ),
    )
}

/// `tokio`'s bounded channel.
pub fn tokio_mpsc<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    let (p, mut c) = tokio::sync::mpsc::channel(items::<N>());
    shared(
        case,
        (
            move |payload: &[u8; N]| p.try_send(Record::new(payload)).is_ok(),
            pops(move || c.try_recv().ok()),
        ),
    )
}
