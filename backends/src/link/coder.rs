//! A binary range coder, and the smallest of models: how likely the next bit is.
//!
//! The arithmetic is that of LZMA's range coder (I. Pavlov; in the family of G. N. N. Martin's
//! range encoding, 1979): 32 bits of range, bytes that may still take a carry are held back. Two
//! things differ. A bit's estimate moves fast at first and slower with each bit seen, because a
//! frame is short and begins with no knowledge; and the end is trimmed to the fewest bytes that
//! still decode, the rest being zeros that nobody sends.
//!
//! [`Coder`] has two sides. What is coded with which model is written once, against the trait:
//! the writing side is given values and gives them back, the reading side is given anything and
//! gives what was written. So the two cannot disagree.

/// One side of the coder.
pub(super) trait Coder {
    /// Whether the values that it is given mean something.
    const WRITES: bool;

    /// A bit, with what is thought of it; both sides learn from it.
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool;

    /// `bits` bits (at most 64) of which nothing is thought.
    fn raw(&mut self, bits: u32, value: u64) -> u64;
}

/// How likely a bit is 0, learned from those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bit {
    /// Of 65,536.
    zero: u16,
    seen: u8,
}

/// Probabilities are used with this many bits.
const PRECISION: u32 = 12;
/// After this many bits the estimate moves no slower.
const SEEN: u8 = 30;
/// How far an estimate moves, of 65,536: 1 / (seen + 1.6).
const RATE: [u32; SEEN as usize + 1] = {
    let mut rate = [0; SEEN as usize + 1];
    let mut seen = 0;
    while seen < rate.len() {
        rate[seen] = (65_536 * 10) / (seen as u32 * 10 + 16);
        seen += 1;
    }
    rate
};

impl Bit {
    /// As likely 0 as 1.
    pub(super) const EVEN: Self = Self::new(1 << 15);

    /// 0 with `zero` chances of 65,536.
    pub(super) const fn new(zero: u16) -> Self {
        Self { zero, seen: 0 }
    }

    /// The same, as if that was learned from `seen` bits.
    pub(super) const fn after(zero: u16, seen: u8) -> Self {
        Self { zero, seen }
    }

    /// Of what may be had of the range, the part of 0.
    #[inline]
    fn bound(self, range: u32) -> u32 {
        let zero = u32::from(self.zero >> (16 - PRECISION)).clamp(8, (1 << PRECISION) - 8);
        (range >> PRECISION) * zero
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        let rate = RATE[usize::from(self.seen)];
        let zero = u32::from(self.zero);
        // Both stay within 16 bits: a part of the way to the end.
        self.zero = if bit {
            (zero - ((zero * (rate >> 1)) >> 15)) as u16
        } else {
            (zero + (((65_535 - zero) * (rate >> 1)) >> 15)) as u16
        };
        self.seen = (self.seen + 1).min(SEEN);
    }
}

const TOP: u32 = 1 << 24;

/// Writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    /// What was written and takes no carry any more.
    pub(super) out: Vec<u8>,
    at: State,
}

/// Where a writer stands; going back to it forgets what was written since.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    low: u64,
    range: u32,
    /// The byte that may still take a carry; none has come before the first shift.
    held: Option<u8>,
    /// How many bytes of 255 follow it.
    full: usize,
    written: usize,
}

impl Default for State {
    fn default() -> Self {
        Self { low: 0, range: u32::MAX, held: None, full: 0, written: 0 }
    }
}

impl Writer {
    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.out.clear();
        self.at = State::default();
    }
    pub(super) fn state(&self) -> State {
        State { written: self.out.len(), ..self.at }
    }
    pub(super) fn back_to(&mut self, state: State) {
        self.out.truncate(state.written);
        self.at = state;
    }

    /// Bytes that it would have if it ended now, at most.
    pub(super) fn len(&self) -> usize {
        let held = usize::from(self.at.held.is_some());
        self.out.len() + held + self.at.full + 4
    }

    /// Ends it.
    pub(super) fn finish(&mut self) {
        // The number in [low, low + range) with the most zeros at its end.
        let last = self.at.low + u64::from(self.at.range) - 1;
        for zeros in (0..=32).rev() {
            let number = (last >> zeros) << zeros;
            if number >= self.at.low {
                self.at.low = number;
                break;
            }
        }
        for _ in 0..5 {
            self.shift();
        }
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
    }

    #[inline]
    fn shift(&mut self) {
        let at = &mut self.at;
        if at.low < 0xff00_0000 || at.low > 0xffff_ffff {
            let carry = (at.low >> 32) as u8;
            if let Some(held) = at.held {
                self.out.push(held.wrapping_add(carry));
            }
            for _ in 0..at.full {
                self.out.push(0xffu8.wrapping_add(carry));
            }
            at.full = 0;
            at.held = Some((at.low >> 24) as u8);
        } else {
            at.full += 1;
        }
        at.low = (at.low & 0x00ff_ffff) << 8;
    }

    #[inline]
    fn normalise(&mut self) {
        while self.at.range < TOP {
            self.at.range <<= 8;
            self.shift();
        }
    }
}

impl Coder for Writer {
    const WRITES: bool = true;

    #[inline]
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        let bound = model.bound(self.at.range);
        if bit {
            self.at.low += u64::from(bound);
            self.at.range -= bound;
        } else {
            self.at.range = bound;
        }
        model.learn(bit);
        self.normalise();
        bit
    }

    #[inline]
    fn raw(&mut self, bits: u32, value: u64) -> u64 {
        let mut left = bits;
        while left > 0 {
            let n = left.min(8);
            left -= n;
            self.at.range >>= n;
            let part = (value >> left) & ((1 << n) - 1);
            self.at.low += part * u64::from(self.at.range);
            self.normalise();
        }
        value
    }
}

/// Reads; past the end there are zeros.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    range: u32,
    code: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut it = Self { bytes, range: u32::MAX, code: 0 };
        for _ in 0..4 {
            it.code = (it.code << 8) | u32::from(it.next());
        }
        it
    }

    #[inline]
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    #[inline]
    fn normalise(&mut self) {
        while self.range < TOP {
            self.range <<= 8;
            self.code = (self.code << 8) | u32::from(self.next());
        }
    }
}

impl Coder for Reader<'_> {
    const WRITES: bool = false;

    #[inline]
    fn bit(&mut self, model: &mut Bit, _: bool) -> bool {
        let bound = model.bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        model.learn(bit);
        self.normalise();
        bit
    }

    #[inline]
    fn raw(&mut self, bits: u32, _: u64) -> u64 {
        let mut value = 0;
        let mut left = bits;
        while left > 0 {
            let n = left.min(8);
            left -= n;
            self.range >>= n;
            // Bytes that no writer made may lie beyond the last part.
            let part = (self.code / self.range).min((1 << n) - 1);
            self.code = self.code.wrapping_sub(part.wrapping_mul(self.range));
            value = (value << n) | u64::from(part);
            self.normalise();
        }
        value
    }
}

/// A symbol of `BITS` bits, from the highest; `NODES` is two to that power.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<const NODES: usize> {
    nodes: [Bit; NODES],
}

impl<const NODES: usize> Tree<NODES> {
    pub(super) const fn new() -> Self {
        Self { nodes: [Bit::EVEN; NODES] }
    }

    /// With an estimate of each node: the chance of 0 of 65,536, by the bits before it with a
    /// leading 1.
    pub(super) const fn with(nodes: [Bit; NODES]) -> Self {
        Self { nodes }
    }

    pub(super) fn node(&mut self, node: usize) -> &mut Bit {
        &mut self.nodes[node]
    }

    #[inline]
    pub(super) fn code<C: Coder>(&mut self, c: &mut C, symbol: usize) -> usize {
        let mut node = 1;
        let mut left = NODES.trailing_zeros();
        while left > 0 {
            left -= 1;
            let bit = c.bit(&mut self.nodes[node], symbol >> left & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node - NODES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both sides do, from the same seed.
    fn both<C: Coder>(c: &mut C, seed: u64, n: usize) -> Vec<u64> {
        let mut x = seed | 1;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let (mut rare, mut tree) = (Bit::EVEN, Tree::<16>::new());
        (0..n)
            .map(|_| {
                // The order is known to both sides, the values to one.
                let (what, drawn) = (next() % 3, next());
                let value = if C::WRITES { drawn } else { 0 };
                match what {
                    0 => c.bit(&mut rare, C::WRITES && value.is_multiple_of(50)).into(),
                    1 => tree.code(c, (value % 16) as usize) as u64,
                    _ => {
                        let bits = (seed % 65) as u32;
                        c.raw(bits, value & if bits == 0 { 0 } else { u64::MAX >> (64 - bits) })
                    }
                }
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for seed in 0..400 {
            let mut w = Writer::default();
            let written = both(&mut w, seed * 77 + 1, seed as usize);
            let at_most = w.len();
            w.finish();
            assert!(w.out.len() <= at_most, "{} > {at_most}", w.out.len());
            assert_eq!(both(&mut Reader::new(&w.out), seed * 77 + 1, seed as usize), written);
        }
    }

    #[test]
    fn carries_run_through_bytes_of_255() {
        // Certain bits that come out as the unlikely value, then the highest raw values: low
        // stands near the top again and again.
        let code = |c: &mut dyn FnMut(bool, u64) -> u64| -> Vec<u64> {
            (0..300).map(|i| c(i % 7 == 3, if i % 5 == 0 { 0 } else { 0xffff })).collect()
        };
        let mut w = Writer::default();
        let mut m = Bit::new(65_000);
        let written = code(&mut |bit, v| u64::from(w.bit(&mut m, bit)) << 20 | w.raw(16, v));
        w.finish();
        let mut r = Reader::new(&w.out);
        let mut m = Bit::new(65_000);
        let read = code(&mut |_, _| u64::from(r.bit(&mut m, false)) << 20 | r.raw(16, 0));
        assert_eq!(read, written);
    }

    #[test]
    fn going_back_forgets() {
        let mut w = Writer::default();
        let mut m = Bit::EVEN;
        for i in 0..40 {
            w.bit(&mut m, i % 3 == 0);
        }
        let (state, model) = (w.state(), m);
        w.raw(64, u64::MAX);
        w.raw(64, u64::MAX);
        w.back_to(state);
        w.raw(16, 0x1234);
        w.finish();
        let mut r = Reader::new(&w.out);
        let mut m = Bit::EVEN;
        for i in 0..40 {
            assert_eq!(r.bit(&mut m, false), i % 3 == 0);
        }
        assert_eq!(r.raw(16, 0), 0x1234);
        assert_eq!(m.zero, model.zero);
    }

    #[test]
    fn what_is_expected_is_cheap() {
        let mut w = Writer::default();
        let mut m = Bit::EVEN;
        for _ in 0..1000 {
            w.bit(&mut m, false);
        }
        w.finish();
        assert!(w.out.len() <= 12, "{}", w.out.len());
    }
}
