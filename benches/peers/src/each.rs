//! The list of peers.

use crate::peer::{Kind, Visit};
use crate::{bytes, items, limits, ours, workers};

/// The floor's name in results.
pub const FLOOR: &str = "floor: clock read, plain stores";
/// The parts' name in results.
pub const PARTS: &str = "parts in one loop";
/// Each part alone.
pub const ALONE: [&str; 4] = ["clock read", "locked cmpxchg", "locked xadd", "copy"];

/// Visits all.
pub fn each<const N: usize>(v: &mut impl Visit<N>) {
    use Kind::{Floor, Limit, Ours, Queue, Worker};
    v.peer(FLOOR, Floor, limits::floor::<N>);
    v.peer(PARTS, Limit, limits::parts::<N>);
    v.peer(ALONE[0], Limit, limits::clock_read::<N>);
    v.peer(ALONE[1], Limit, limits::compare_and_swap::<N>);
    v.peer(ALONE[2], Limit, limits::add::<N>);
    v.peer(ALONE[3], Limit, limits::copy::<N>);
    v.peer("rbpipe, per thread", Ours, ours::per_thread::<N>);
    v.peer("rbpipe, per CPU", Ours, ours::per_cpu::<N>);
    v.peer("rbpipe, single", Ours, ours::single::<N>);
    v.peer("rtrb", Queue, items::rtrb::<N>);
    v.peer("rtrb, bytes", Queue, bytes::rtrb::<N>);
    v.peer("ringbuf", Queue, items::ringbuf::<N>);
    v.peer("disruptor", Queue, items::disruptor::<N>);
    v.peer("bbqueue, framed", Queue, bytes::bbqueue::<N>);
    v.peer("crossbeam ArrayQueue", Queue, items::array_queue::<N>);
    v.peer("crossbeam channel", Queue, items::crossbeam_channel::<N>);
    v.peer("thingbuf", Queue, items::thingbuf::<N>);
    v.peer("kanal", Queue, items::kanal::<N>);
    v.peer("flume", Queue, items::flume::<N>);
    v.peer("tokio mpsc", Queue, items::tokio_mpsc::<N>);
    v.peer("tracing-appender", Worker, workers::tracing_appender::<N>);
    v.peer("fastrace", Worker, workers::fastrace::<N>);
}
