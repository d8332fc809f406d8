//! Damage to frames: is a damaged one ever taken for a whole one, and how many does one error
//! cost?

use fastrand::Rng;
use rbpipe_backends::link::Decoder;

use super::frames::{Deaf, frames, pieces, whole};

/// What is done to a frame, or to bytes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// So many bits turn round.
    Flips(u32),
    /// A byte is missing.
    Drop,
    /// A byte is there twice.
    Double,
    /// Eight bytes are any bytes.
    Burst,
    /// The beginning of one frame and the end of another.
    Splice,
}

impl Damage {
    /// All that are tried.
    pub const ALL: [Self; 8] = [
        Self::Flips(1),
        Self::Flips(2),
        Self::Flips(3),
        Self::Flips(4),
        Self::Drop,
        Self::Double,
        Self::Burst,
        Self::Splice,
    ];

    /// Damages these bytes at a place of the generator's choice; `other`: what is spliced to them.
    pub fn apply(self, rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = rng.usize(0..bytes.len());
        match self {
            Self::Flips(n) => {
                for _ in 0..n {
                    let at = rng.usize(0..bytes.len());
                    bytes[at] ^= 1 << rng.u32(0..8);
                }
            }
            Self::Drop => {
                bytes.remove(at);
            }
            Self::Double => bytes.insert(at, bytes[at]),
            Self::Burst => {
                let end = bytes.len().min(at + 8);
                rng.fill(&mut bytes[at..end]);
            }
            Self::Splice => {
                bytes.truncate(at.max(1));
                bytes.extend_from_slice(&other[rng.usize(0..other.len())..]);
            }
        }
    }
}

/// Damages so many frames of a sender's and asks a receiver whether they are whole. Gives how many
/// were damaged (an undone damage is none) and how many were taken for whole ones.
#[must_use]
pub fn check(seed: u64, damage: Damage, count: u64) -> (u64, u64) {
    /// Frames that the receiver is given at once.
    const AT_ONCE: u64 = 64;
    let all: Vec<u8> = frames(seed, 3000, false).concat();
    let all: Vec<&[u8]> = pieces(&all).collect();
    let mut rng = Rng::with_seed(seed);
    let (mut damaged, mut taken) = (0, 0);
    let (mut one, mut bytes) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::new();
    while damaged < count {
        bytes.clear();
        bytes.push(0);
        for _ in 0..AT_ONCE {
            let frame = all[rng.usize(0..all.len())];
            one.clear();
            one.extend_from_slice(frame);
            let other = all[rng.usize(0..all.len())];
            damage.apply(&mut rng, &mut one, other);
            if one != frame && !(damage == Damage::Splice && other.ends_with(&one)) {
                damaged += 1;
                bytes.extend_from_slice(&one);
                bytes.push(0);
            }
        }
        let before = decoder.health().frames;
        decoder.feed(&bytes, &mut Deaf);
        taken += decoder.health().frames - before;
    }
    (damaged, taken)
}

/// One error in twenty frames, so many times: how many frames an error costs.
///
/// # Panics
/// If the undamaged line is not whole.
#[must_use]
pub fn cost(seed: u64, damage: Damage, mixed: bool, errors: usize) -> f64 {
    let all = frames(seed, 20 * errors, mixed);
    let sent = whole(&all.concat());
    assert!(sent >= all.len() as u64, "{sent} of {} frames", all.len());
    let mut rng = Rng::with_seed(seed);
    let mut line = Vec::new();
    for twenty in all.chunks(20) {
        let mut bytes = twenty.concat();
        damage.apply(&mut rng, &mut bytes, &[]);
        line.extend(bytes);
    }
    (sent - whole(&line)) as f64 / errors as f64
}
