//! What a bad line does to bytes: a pure function of a seed, a byte's place on the line and the
//! rates. No port, no clock: the same seed damages the same bytes in a simulation and between two
//! pseudo terminals.

use std::time::Duration;

/// How often a line does what, at any byte.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// A bit comes over turned round: the bit error rate. At most one bit of a byte turns.
    pub flip: f64,
    /// A byte does not come over.
    pub drop: f64,
    /// A byte comes over twice.
    pub double: f64,
    /// From this byte on, `burst_bytes` bytes come over as any bytes.
    pub burst: f64,
    /// How long a burst is.
    pub burst_bytes: u32,
    /// Before this byte the line stands still, a part of `pause_at_most` long.
    pub pause: f64,
    /// How long a pause is at most.
    pub pause_at_most: Duration,
    /// At this byte the line breaks; it comes back after a part of `hang_up_at_most`.
    pub hang_up: f64,
    /// How long a line is gone at most.
    pub hang_up_at_most: Duration,
}

impl Rates {
    /// A line that does nothing to bytes.
    pub const CLEAN: Self = Self {
        flip: 0.0,
        drop: 0.0,
        double: 0.0,
        burst: 0.0,
        burst_bytes: 8,
        pause: 0.0,
        pause_at_most: Duration::from_millis(50),
        hang_up: 0.0,
        hang_up_at_most: Duration::from_millis(500),
    };
}

/// What becomes of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These bits turn round.
    Flip(u8),
    /// It does not come over.
    Drop,
    /// It comes over twice.
    Double,
    /// It and those behind it, so many in all, come over as any bytes.
    Burst(u32),
    /// It comes after the line stood still for so long.
    Pause(Duration),
    /// It is the last one that is lost with the line, which comes back after so long.
    HangUp(Duration),
}

/// Bits that look like chance, of a seed and a number (splitmix64's finish).
#[must_use]
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from 0 to 1, without 1.
fn part(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// What the line does at this place.
#[must_use]
pub fn fault(seed: u64, place: u64, rates: &Rates) -> Option<Fault> {
    let mut left = part(mix(seed, place));
    let detail = mix(seed ^ 0x5eed, place);
    let mut hit = |rate: f64| {
        let here = left < rate;
        left -= rate;
        here
    };
    if hit(rates.flip * 8.0) {
        Some(Fault::Flip(1 << (detail & 7)))
    } else if hit(rates.drop) {
        Some(Fault::Drop)
    } else if hit(rates.double) {
        Some(Fault::Double)
    } else if hit(rates.burst) {
        Some(Fault::Burst(rates.burst_bytes))
    } else if hit(rates.pause) {
        Some(Fault::Pause(rates.pause_at_most.mul_f64(part(detail))))
    } else if hit(rates.hang_up) {
        Some(Fault::HangUp(rates.hang_up_at_most.mul_f64(part(detail))))
    } else {
        None
    }
}

/// What a line has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes that went in.
    pub bytes: u64,
    /// Bits that turned round.
    pub flips: u64,
    /// Bytes that did not come over.
    pub drops: u64,
    /// Bytes that came over twice.
    pub doubles: u64,
    /// Bursts.
    pub bursts: u64,
    /// Times that it stood still.
    pub pauses: u64,
    /// Times that it broke.
    pub hang_ups: u64,
}

/// Where a line stops carrying, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It stands still. What is behind comes afterwards.
    Pause(Duration),
    /// It is gone. What is sent meanwhile is lost.
    HangUp(Duration),
}

/// One direction of a line.
#[derive(Clone, Debug)]
pub struct Line {
    seed: u64,
    /// What it does from here on. Faults at a place do not depend on what it was before.
    pub rates: Rates,
    /// What it has done.
    pub done: Done,
    burst_left: u32,
}

impl Line {
    /// A line whose faults are those of the seed.
    #[must_use]
    pub fn new(seed: u64, rates: Rates) -> Self {
        Self { seed, rates, done: Done::default(), burst_left: 0 }
    }

    /// Carries bytes; what comes out is appended to `out`. Gives how many went in: fewer than all
    /// where the line breaks, which it says.
    pub fn carry(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, Option<Break>) {
        for (i, byte) in bytes.iter().enumerate() {
            let place = self.done.bytes;
            self.done.bytes += 1;
            if self.burst_left > 0 {
                self.burst_left -= 1;
                out.push(mix(self.seed ^ 0xb425, place) as u8);
                continue;
            }
            let Some(fault) = fault(self.seed, place, &self.rates) else {
                out.push(*byte);
                continue;
            };
            match fault {
                Fault::Flip(bits) => {
                    self.done.flips += 1;
                    out.push(byte ^ bits);
                }
                Fault::Drop => self.done.drops += 1,
                Fault::Double => {
                    self.done.doubles += 1;
                    out.extend([*byte, *byte]);
                }
                Fault::Burst(len) => {
                    self.done.bursts += 1;
                    self.burst_left = len.saturating_sub(1);
                    out.push(mix(self.seed ^ 0xb425, place) as u8);
                }
                Fault::Pause(time) => {
                    self.done.pauses += 1;
                    out.push(*byte);
                    return (i + 1, Some(Break::Pause(time)));
                }
                Fault::HangUp(time) => {
                    self.done.hang_ups += 1;
                    self.burst_left = 0;
                    return (i + 1, Some(Break::HangUp(time)));
                }
            }
        }
        (bytes.len(), None)
    }

    /// Bytes that were sent while there was no line: they have their places, and are gone.
    pub fn lose(&mut self, bytes: usize) {
        self.done.bytes += bytes as u64;
        self.burst_left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates are kept, each of them, and cutting the bytes otherwise changes nothing.
    #[test]
    fn faults_come_as_often_as_asked_and_do_not_depend_on_how_bytes_are_cut() {
        let rates = Rates {
            flip: 1e-4,
            drop: 2e-3,
            double: 1e-3,
            burst: 5e-4,
            pause: 1e-4,
            ..Rates::CLEAN
        };
        let bytes: Vec<u8> = (0..2_000_000u64).map(|n| mix(9, n) as u8).collect();
        let run = |cut: usize| {
            let (mut line, mut out, mut at) = (Line::new(7, rates), Vec::new(), 0);
            while at < bytes.len() {
                at += line.carry(&bytes[at..bytes.len().min(at + cut)], &mut out).0;
            }
            (line.done, out)
        };
        let (done, out) = run(bytes.len());
        assert!((done, &out) == (run(61).0, &run(61).1), "cut in pieces");
        for (what, count, rate) in [
            ("flips", done.flips, 8e-4),
            ("drops", done.drops, 2e-3),
            ("doubles", done.doubles, 1e-3),
            ("bursts", done.bursts, 5e-4),
            ("pauses", done.pauses, 1e-4),
        ] {
            // Five standard deviations, and the half percent that bursts cover.
            let expected = rate * bytes.len() as f64;
            let off = (count as f64 - expected).abs();
            assert!(off < 5.0 * expected.sqrt() + expected * 0.01, "{what} {count} {expected}");
        }
        assert_eq!(out.len() as u64, done.bytes - done.drops + done.doubles);
        let (clean, mut out) = (Rates::CLEAN, Vec::new());
        assert_eq!(Line::new(7, clean).carry(&bytes, &mut out), (bytes.len(), None));
        assert!(out == bytes, "a clean line");
    }

    /// A burst is as long as it is to be, and bytes outside it are as they were.
    #[test]
    fn a_burst_ends() {
        let rates = Rates { burst: 1e-3, burst_bytes: 16, ..Rates::CLEAN };
        let bytes = vec![0u8; 100_000];
        let (mut line, mut out) = (Line::new(3, rates), Vec::new());
        line.carry(&bytes, &mut out);
        let changed = out.iter().filter(|b| **b != 0).count() as u64;
        assert!(line.done.bursts > 50);
        assert!(changed > line.done.bursts * 14 && changed <= line.done.bursts * 16, "{changed}");
    }
}
