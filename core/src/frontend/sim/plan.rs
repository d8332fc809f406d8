//! What a seed draws: the stream, who uses it, and what may befall them.

use std::cell::Cell;

use crate::frontend::{Geometry, Mode, Timestamps};

/// A generator of numbers (splitmix64): a seed's run is the same everywhere.
pub(super) struct Rng(Cell<u64>);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }
    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let z = self.0.get();
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Below `n`.
    pub fn below(&self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn of<T: Copy>(&self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Discard,
    Overwrite,
    Block,
    /// One writer that brings its own times, in discard and overwrite mode.
    Given,
    /// Overwrite mode, and nobody who stands in a sub-buffer rests for so long that the
    /// others come round to it.
    Fair,
}

/// What the reader does before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Takes packets while writers write.
    Always,
    /// Comes only at the end.
    AtTheEnd,
    /// Never takes any: a flight recorder.
    Never,
    /// The same, which makes snapshots while writers write.
    Snapshots,
}

/// A run's dice, thrown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub kind: Kind,
    pub mode: Mode,
    pub timestamps: Timestamps,
    pub geometry: Geometry,
    /// The lap that positions begin with.
    pub lap: u64,
    pub writers: usize,
    /// Writes of each.
    pub writes: u64,
    /// Who only switches, or finalises.
    pub timer: Option<Timer>,
    pub reading: Reading,
    /// Turns of the reader before it ends the stream; `None`: when all others are through.
    pub turns: Option<u64>,
    /// Turns that the end waits for what is open.
    pub patience: u64,
    /// Every delivery wakes the reader, not only those that leave the ring half full.
    pub wake_always: bool,
    /// One point in so many lets another actor on; brings an event.
    pub switch_every: u64,
    pub event_every: u64,
    /// How many of each event there may be.
    pub stalls: u64,
    pub deaths: u64,
    pub signals: u64,
    pub crashes: u64,
    pub aborts: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub switches: u64,
    pub finalises: bool,
}

impl Plan {
    pub fn new(kind: Kind, rng: &Rng) -> Self {
        let mode = match kind {
            Kind::Discard => Mode::Discard,
            Kind::Overwrite | Kind::Fair => Mode::Overwrite,
            Kind::Block => Mode::Block,
            Kind::Given => rng.of(&[Mode::Discard, Mode::Overwrite]),
        };
        let timestamps = if kind == Kind::Given { Timestamps::Given } else { Timestamps::Clock };
        let size = rng.of(&[2, 4, 8, 8, 16, 16, 32, 64]);
        let count = rng.of(&[2, 2, 2, 4, 4, 8]);
        let header = rng.of(&[0, 0, 1, 2, size / 2]).min(size - 1);
        let reader = 1 + rng.below(4) as u32;
        let geometry = Geometry::small(size, count, reader, header as u32).expect("drawn right");
        let buffer = geometry.buffer_size();
        // Laps whose positions pass 2^32, 2^40, 2^63, and the 32 bits that a table word has.
        let near = |bits: u32, rng: &Rng| (1u64 << bits) / buffer - 1 - rng.below(3);
        let lap = match rng.below(6) {
            0 => near(32, rng),
            1 => near(40, rng),
            2 => near(63, rng),
            3 => (1 << 32) - 1 - rng.below(3),
            _ => 0,
        };
        let writers = if kind == Kind::Given { 1 } else { 1 + rng.below(4) as usize };
        // Some laps of the ring, by records of a third of a sub-buffer.
        let bytes = buffer * (1 + rng.below(5)) / 2;
        let writes = (3 * bytes / size / writers as u64).clamp(2, 30);
        let timer =
            rng.one_in(2).then(|| Timer { switches: rng.below(4), finalises: rng.one_in(4) });
        let reading = match rng.below(8) {
            0 => Reading::AtTheEnd,
            1 if kind != Kind::Block => Reading::Never,
            2 if kind != Kind::Block => Reading::Snapshots,
            _ => Reading::Always,
        };
        let some = |n: u64| if kind == Kind::Fair || rng.one_in(2) { 0 } else { 1 + rng.below(n) };
        let given = kind == Kind::Given;
        Self {
            kind,
            mode,
            timestamps,
            geometry,
            lap,
            writers,
            writes,
            timer,
            reading,
            turns: rng.one_in(3).then(|| rng.below(20)),
            patience: if kind != Kind::Fair && rng.one_in(3) { rng.below(4) } else { u64::MAX },
            wake_always: rng.one_in(2),
            switch_every: rng.of(&[1, 2, 4, 8, 32]),
            event_every: rng.of(&[8, 16, 32, 64]),
            stalls: some(6),
            deaths: if rng.one_in(2) { some(3) } else { 0 },
            signals: if given { 0 } else { some(6) },
            crashes: some(2),
            aborts: !given && rng.one_in(3),
        }
    }
}
