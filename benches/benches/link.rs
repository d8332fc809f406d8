//! What does a `sched_switch` cost on a serial line, beside other ways to bring it over one? The
//! committed recording (or `RBPIPE_RECORDING=FILE`: benches/recordings/record makes them), at its
//! real event times, everything that lies on the wire counted: frames, checks, announcements,
//! totals. Beside the order-0 bound of the recording; and the time that it takes to make and to
//! read. One thread; medians of rounds in which all take turns.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use rbpipe_backends::link::{Decoder, Receive, Received};
use rbpipe_benches::{measuring, seconds, spread, wire};
use rbpipe_tests::recording::bound::Bound;
use rbpipe_tests::recording::wire::{options, send};
use rbpipe_tests::recording::{Recording, chosen};

type Make<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
type Read<'a> = Box<dyn Fn(&[u8]) -> usize + 'a>;

struct Way<'a> {
    name: &'static str,
    make: Make<'a>,
    /// None: it is for people.
    read: Option<Read<'a>>,
    bytes: RefCell<Vec<u8>>,
    times: RefCell<(Vec<f64>, Vec<f64>)>,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, make: impl Fn(&mut Vec<u8>) + 'a, read: Option<Read<'a>>) -> Self {
        let (bytes, times) = Default::default();
        Self { name, make: Box::new(make), read, bytes, times }
    }

    fn round(&self, events: usize) {
        let mut bytes = self.bytes.borrow_mut();
        bytes.clear();
        let made = seconds(|| (self.make)(black_box(&mut bytes)));
        let (makes, reads) = &mut *self.times.borrow_mut();
        makes.push(made * 1e9 / events as f64);
        if let Some(read) = &self.read {
            let mut found = 0;
            let t = seconds(|| found = read(black_box(&bytes)));
            assert_eq!(found, events, "{}", self.name);
            reads.push(t * 1e9 / events as f64);
        }
    }

    fn row(&self, events: usize, bound: f64) {
        let per_event = self.bytes.borrow().len() as f64 / events as f64;
        let (makes, reads) = self.times.take();
        let cell = |times: Vec<f64>| {
            if times.is_empty() {
                return "–".to_owned();
            }
            let (low, mid, high) = spread(times);
            format!("{mid:.0} [{low:.0} {high:.0}]")
        };
        println!(
            "| {:34} | {per_event:7.3} | {:6.2} | {:6.0} | {:14} | {:14} |",
            self.name,
            per_event / bound,
            11_520.0 / per_event,
            cell(makes),
            cell(reads)
        );
    }
}

/// Counts records, and looks at their bytes.
#[derive(Default)]
struct Count(usize);

impl Receive for Count {
    fn record(&mut self, record: Received<'_>) {
        black_box(record.payload);
        self.0 += 1;
    }
}

fn link(recording: &Recording, tick: u64, frame: usize) -> (Make<'_>, Option<Read<'_>>) {
    let streams = recording.link();
    let make = move |out: &mut Vec<u8>| {
        let options = rbpipe_backends::link::LinkOptions { frame, ..options(tick) };
        send(&streams, &[Arc::clone(&recording.class)], options, out);
    };
    let read = |bytes: &[u8]| {
        let (mut decoder, mut count) = (Decoder::new(), Count::default());
        // As they come from a port.
        bytes.chunks(4096).for_each(|piece| decoder.feed(piece, &mut count));
        decoder.end(&mut count);
        count.0
    };
    (Box::new(make), Some(Box::new(read)))
}

fn main() {
    let rounds = if measuring() { 9 } else { 1 };
    let recording = &chosen();
    let events = recording.len();
    let ways = [
        ("rbpipe link, µs", 1000, 254),
        ("rbpipe link, ns", 1, 254),
        ("rbpipe link, µs, frames of 4096", 1000, 4096),
        ("rbpipe link, µs, frames of 64", 1000, 64),
    ]
    .map(|(name, tick, frame)| {
        let (make, read) = link(recording, tick, frame);
        Way::new(name, make, read)
    });
    let others = [
        Way::new("text as ftrace's, µs", |out| wire::text(recording, out), None),
        Way::new(
            "JSON lines, ns",
            |out| wire::json(recording, out),
            Some(Box::new(wire::from_json)),
        ),
        Way::new(
            "CTF, packets of 4 KiB, COBS, CRC-32C",
            |out| wire::ctf(recording, out),
            Some(Box::new(|bytes| wire::from_ctf(recording, bytes))),
        ),
        Way::new(
            "postcard, COBS, ns",
            |out| wire::postcard(recording, out),
            Some(Box::new(wire::from_postcard)),
        ),
    ];
    let all: Vec<Way<'_>> = ways.into_iter().chain(others).collect();
    for _ in 0..rounds {
        all.iter().for_each(|way| way.round(events));
    }
    let (micro, nano) = (Bound::of(recording, 1000), Bound::of(recording, 1));
    println!(
        "{events} events in {:.1} s on {} CPUs; order-0 bound in µs: {:.3} bytes (next|prev {:.2} \
         bits, dt {:.2}, state {:.2}); in ns {:.3}",
        recording.nanoseconds() as f64 / 1e9,
        recording.cpus().len(),
        micro.bytes(),
        micro.next,
        micro.dt,
        micro.state,
        nano.bytes()
    );
    println!(
        "\n| | bytes an event | ÷ bound (µs) | events/s at 115200 baud | make, ns | read, ns |"
    );
    println!("|---|---|---|---|---|---|");
    for way in &all {
        way.row(events, micro.bytes());
    }
}
