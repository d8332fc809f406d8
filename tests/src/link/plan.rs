//! What a run is made of, drawn from its seed.

use std::time::Duration;

use fastrand::Rng;
use rbpipe_backends::link::LinkOptions;

use crate::wire::Rates;

/// A run's parameters.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Records that are offered, over all streams.
    pub records: u64,
    /// Streams of the sender.
    pub streams: u32,
    /// Records that a stream's ring holds.
    pub ring: usize,
    /// Records that are offered between two frames, at most.
    pub offered: usize,
    /// Classes beside the usual ones.
    pub many: usize,
    /// Elements of the longest sequence.
    pub longest: usize,
    /// The encoder's.
    pub link: LinkOptions,
    /// What the line does to bytes.
    pub rates: Rates,
    /// Chances at each frame: the port goes and comes back; the sender starts anew; the receiver
    /// starts anew; the receiver asks for everything again.
    pub unplug: f64,
    /// See `unplug`.
    pub reset: f64,
    /// See `unplug`.
    pub restart: f64,
    /// See `unplug`.
    pub resync: f64,
    /// The receiver comes when so many bytes have gone by.
    pub late: usize,
    /// The line is clean at the end, long enough for everything to be announced again.
    pub clean_end: bool,
    /// New senders' frames look like the last one's.
    pub alike: bool,
}

impl Plan {
    /// The run of this seed.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let mut often = |chance: f64, most: f64| {
            if rng.f64() < chance { most * 10f64.powf(-3.0 * rng.f64()) } else { 0.0 }
        };
        let rates = Rates {
            flip: often(0.5, 1e-3),
            drop: often(0.4, 2e-3),
            double: often(0.4, 2e-3),
            burst: often(0.4, 1e-3),
            burst_bytes: 8,
            pause: often(0.2, 1e-3),
            pause_at_most: Duration::from_secs(3),
            hang_up: often(0.2, 2e-4),
            hang_up_at_most: Duration::from_secs(3),
        };
        let (unplug, reset) = (often(0.3, 0.05), often(0.3, 0.02));
        let (restart, resync) = (often(0.3, 0.02), often(0.2, 0.05));
        let link = LinkOptions {
            tick: *pick(rng, &[1, 7, 100, 1000, 1000, 1000, 1_000_000]),
            frame: *pick(rng, &[64, 100, 254, 254, 254, 255, 300, 508, 1024, 4096]),
            announce_every: *pick(rng, &[100, 1000, 10_000, 10_000]) * 1_000_000,
            session: rng.u64(..),
            clock_offset: rng.u64(1 << 60..1 << 61),
            baud: *pick(rng, &[9600, 115_200, 115_200, 3_000_000]),
            mixed: rng.bool(),
        };
        Self {
            records: *pick(rng, &[0, 30, 300, 1000, 1000, 3000]),
            streams: *pick(rng, &[1, 1, 2, 3, 9]),
            ring: *pick(rng, &[1, 8, 64, 512]),
            offered: *pick(rng, &[1, 5, 30, 200]),
            many: *pick(rng, &[0, 0, 0, 40, 300]),
            longest: *pick(rng, &[100, 100, 3000, 3000, 30_000]),
            link,
            rates,
            unplug,
            reset,
            restart,
            resync,
            late: if rng.u8(..) < 64 { rng.usize(0..20_000) } else { 0 },
            clean_end: rng.u8(..) < 200,
            alike: false,
        }
    }

    /// Nothing is lost on this line, and nobody comes late.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let r = &self.rates;
        let line = r.flip + r.drop + r.double + r.burst + r.hang_up;
        line + self.unplug + self.reset + self.restart == 0.0 && self.late == 0
    }
}

fn pick<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(0..of.len())]
}
