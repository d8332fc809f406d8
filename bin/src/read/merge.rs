//! All streams' events in the order of time.
//!
//! It goes through what the streams have at the moment, packet by packet: what they have later
//! is for another turn (`follow.rs`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use rbpipe_core::decode::Record;

use super::StreamReader;
use super::event::{Event, Lost};
use super::select::Selection;

/// Something that events are printed by.
pub trait Print {
    /// Prints an event.
    fn event(&mut self, out: &mut impl Write, event: &Event<'_>) -> io::Result<()>;
    /// Tells, in its place, what is missing.
    fn lost(&mut self, out: &mut impl Write, lost: &Lost) -> io::Result<()>;
    /// Writes what is gathered.
    fn flush(&mut self, out: &mut impl Write) -> io::Result<()>;
}

/// Goes through all streams in the order of time; ties in the order of streams. Adds to
/// `aborted` how many records were given up and are not shown.
///
/// # Errors
/// `out` cannot be written.
// A function of its own: as a part of `main` it was 1.3 times as slow (registers).
#[inline(never)]
pub fn merge(
    streams: &mut [StreamReader],
    out: &mut impl Write,
    printer: &mut impl Print,
    select: &mut Selection,
    aborted: &mut u64,
) -> io::Result<()> {
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut current: Vec<Option<Record>> = vec![None; streams.len()];
    for (i, s) in streams.iter_mut().enumerate() {
        if let Some(time) = advance(s, &mut current[i], out, printer, select, aborted)? {
            heap.push(Reverse((time, i)));
        }
    }
    while let Some(Reverse((_, i))) = heap.pop() {
        let limit = heap.peek().map(|Reverse(next)| *next);
        // As long as this stream is the earliest, the heap need not be asked.
        loop {
            if let Some(event) = current[i].as_ref().and_then(|r| streams[i].event(r)) {
                printer.event(out, &event)?;
            }
            match advance(&mut streams[i], &mut current[i], out, printer, select, aborted)? {
                None => break,
                Some(time) if limit.is_some_and(|l| l < (time, i)) => {
                    heap.push(Reverse((time, i)));
                    break;
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// To the stream's next event; gives its time since the epoch (clocks of several traces have
/// their own beginnings).
fn advance(
    s: &mut StreamReader,
    current: &mut Option<Record>,
    out: &mut impl Write,
    printer: &mut impl Print,
    select: &mut Selection,
    aborted: &mut u64,
) -> io::Result<Option<u64>> {
    loop {
        match s.next_record() {
            Some(record) if !select.wants(s, &record) => {}
            Some(record) if record.class.is_some() => {
                *current = Some(record);
                return Ok(Some(record.time.wrapping_add(s.clock_offset())));
            }
            Some(_) => *aborted += 1,
            None => {
                if !s.next_packet() {
                    *current = None;
                    return Ok(None);
                }
                if let Some(lost) = s.lost() {
                    printer.lost(out, &lost)?;
                }
            }
        }
    }
}
