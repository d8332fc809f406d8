//! Frames to be damaged: what a sender of scheduler switches writes.

use fastrand::Rng;
use rbpipe_backends::link::{
    Decoder, Encoder, LinkOptions, LinkRecord, LinkStream, Receive, Received,
};

use super::traffic::{Traffic, switches};

/// Takes everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaf;

impl Receive for Deaf {
    fn record(&mut self, _: Received<'_>) {}
}

/// Options as a serial line's sender has them: 254 bytes, microseconds.
#[must_use]
pub fn options(mixed: bool) -> LinkOptions {
    LinkOptions {
        tick: 1000,
        frame: 254,
        announce_every: 10_000_000_000,
        session: 1,
        clock_offset: 0,
        baud: 115_200,
        mixed,
    }
}

/// What a sender wrote, call by call: each has one frame of records, and before it what had to be
/// announced.
#[must_use]
pub fn frames(seed: u64, count: usize, mixed: bool) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let traffic = Traffic::of(switches(), &mut rng, 100);
    let mut encoder = Encoder::new(options(mixed));
    let stream = LinkStream { channel: "trace".into(), id: 0, cpu: Some(0) };
    let stream = encoder.stream(stream);
    let (mut now, mut all) = (1_000_000_000u64, Vec::new());
    for _ in 0..count {
        let records: Vec<(u64, Vec<u8>)> = (0..150u64)
            .map(|n| {
                now += rng.u64(1000..200_000);
                (now, traffic.payload(&mut rng, 0, n))
            })
            .collect();
        let records: Vec<LinkRecord<'_>> = records
            .iter()
            .map(|(time, payload)| LinkRecord { time: *time, class: 0, payload, lost_before: 0 })
            .collect();
        let mut out = Vec::new();
        encoder.due(now, &mut out);
        let taken = encoder.frame(stream, now, &traffic.classes, &records, &mut out);
        now = records[taken - 1].time;
        all.push(out);
    }
    all
}

/// The stretches between delimiters in it, without the empty ones.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == 0).filter(|p| !p.is_empty())
}

/// How many whole frames a receiver finds in these bytes.
#[must_use]
pub fn whole(bytes: &[u8]) -> u64 {
    let mut decoder = Decoder::new();
    decoder.feed(bytes, &mut Deaf);
    decoder.health().frames
}
