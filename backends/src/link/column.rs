//! What is thought of the values of one field: models that a frame begins without knowledge.
//!
//! Each of them gives a value to one side of the coder and gets it from the other (`coder.rs`).

use super::coder::{Bit, Coder, Tree};
use super::wire::{unzigzag, zigzag};

/// Numbers by their size: how many bits, then the highest of them with models, the rest as they
/// are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    length: Tree<32>,
    high: [Tree<8>; Self::MODELLED],
}

impl Number {
    /// Longer ones have no models for their bits.
    const MODELLED: usize = 24;

    pub(super) const fn new() -> Self {
        Self { length: Tree::new(), high: [Tree::new(); Self::MODELLED] }
    }

    #[inline]
    pub(super) fn code<C: Coder>(&mut self, c: &mut C, value: u64) -> u64 {
        let length = (64 - value.leading_zeros()) as usize;
        let mut length = self.length.code(c, length.min(31));
        if length == 31 {
            let given = 64 - u64::from(value.leading_zeros());
            length = (c.raw(6, given.saturating_sub(31)) as usize + 31).min(64);
        }
        if length < 2 {
            return length as u64;
        }
        // Below the leading 1.
        let bits = length as u32 - 1;
        let modelled = if length < Self::MODELLED { bits.min(3) } else { 0 };
        let low = bits - modelled;
        let mut out = 1u64;
        if modelled > 0 {
            // A short one uses the tree's upper part.
            let high = (value >> low) as usize & ((1 << modelled) - 1);
            let padded = high << (3 - modelled);
            out = out << modelled | self.high[length].part(c, padded, modelled) as u64;
        }
        out << low | c.raw(low, value & ((1 << low) - 1))
    }
}

impl Tree<8> {
    /// The first `bits` of a symbol of three.
    #[inline]
    fn part<C: Coder>(&mut self, c: &mut C, symbol: usize, bits: u32) -> usize {
        let mut node = 1;
        for place in 0..bits {
            let bit = c.bit(self.node(node), symbol >> (2 - place) & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node - (1 << bits)
    }
}

/// The last few values, the latest first.
#[derive(Clone, Copy, Debug)]
struct Recent<T, const N: usize> {
    values: [T; N],
    filled: usize,
}

impl<T: Copy + Eq, const N: usize> Recent<T, N> {
    const fn new(nothing: T) -> Self {
        Self { values: [nothing; N], filled: 0 }
    }
    #[inline]
    fn rank(&self, value: T) -> Option<usize> {
        self.values[..self.filled].iter().position(|v| *v == value)
    }
    /// The value at a rank becomes the first.
    #[inline]
    fn raise(&mut self, rank: usize) -> T {
        let value = self.values[rank];
        self.values.copy_within(..rank, 1);
        self.values[0] = value;
        value
    }
    #[inline]
    fn add(&mut self, value: T) {
        self.filled = (self.filled + 1).min(N);
        self.values.copy_within(..self.filled - 1, 1);
        self.values[0] = value;
    }
}

/// A field that is a number: the same as lately, one step further, near the last, or new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    recent: Recent<u64, { Self::RECENT }>,
    last: u64,
    step: u64,
    again: [Bit; 2],
    was_again: bool,
    choice: Tree<16>,
    absolute: Number,
    near: Number,
}

impl Numbers {
    const RECENT: usize = 8;
    const STEP: usize = 0;
    const NEAR: usize = 8;
    const ABSOLUTE: usize = 9;

    pub(super) const fn new() -> Self {
        Self {
            recent: Recent::new(0),
            last: 0,
            step: 0,
            again: [Bit::EVEN; 2],
            was_again: true,
            choice: Tree::new(),
            absolute: Number::new(),
            near: Number::new(),
        }
    }

    /// A value; signed ones are extended to 64 bits. `signed`: small ones are near 0 on both
    /// sides.
    #[inline]
    pub(super) fn code<C: Coder>(&mut self, c: &mut C, value: u64, signed: bool) -> u64 {
        let again = self.recent.filled > 0 && value == self.recent.values[0];
        let again =
            self.recent.filled > 0 && c.bit(&mut self.again[usize::from(self.was_again)], again);
        self.was_again = again;
        if again {
            let value = self.recent.values[0];
            self.step = value.wrapping_sub(self.last);
            self.last = value;
            return value;
        }
        let difference = value.wrapping_sub(self.last);
        let far = if signed { zigzag(value as i64) } else { value };
        let choice = if self.recent.filled == 0 {
            Self::ABSOLUTE
        } else {
            let choice = if !C::WRITES {
                0
            } else if let Some(rank) = self.recent.rank(value) {
                rank
            } else if difference == self.step {
                Self::STEP
            } else if zigzag(difference as i64) < far >> 1 {
                Self::NEAR
            } else {
                Self::ABSOLUTE
            };
            self.choice.code(c, choice)
        };
        let value = match choice {
            Self::STEP => self.last.wrapping_add(self.step),
            Self::NEAR => {
                let near = self.near.code(c, zigzag(difference as i64));
                self.last.wrapping_add(unzigzag(near) as u64)
            }
            rank if rank < Self::RECENT => self.recent.values[rank.min(self.recent.filled)],
            _ => {
                let far = self.absolute.code(c, far);
                if signed { unzigzag(far) as u64 } else { far }
            }
        };
        match self.recent.rank(value) {
            Some(rank) => drop(self.recent.raise(rank)),
            None => self.recent.add(value),
        }
        self.step = value.wrapping_sub(self.last);
        self.last = value;
        value
    }
}

/// What a field whose values have numbers in a dictionary holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The dictionary's.
    Known(u32),
    /// Not in the dictionary: its bytes follow.
    Spelt,
}

/// A field whose values have numbers in a dictionary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    recent: Recent<u32, { Self::RECENT }>,
    linked: [Bit; 2],
    was_linked: bool,
    hit: [Bit; 4],
    rank: [Tree<{ Self::RECENT }>; 2],
    last_rank: usize,
    missed: Number,
    /// Whether a number's meaning follows it.
    pub(super) defined: Bit,
}

impl Words {
    const RECENT: usize = 16;

    pub(super) const fn new() -> Self {
        Self {
            recent: Recent::new(0),
            linked: [Bit::EVEN; 2],
            was_linked: true,
            hit: [Bit::EVEN; 4],
            rank: [Tree::new(); 2],
            last_rank: 0,
            missed: Number::new(),
            defined: Bit::EVEN,
        }
    }

    /// A word, and whether it was not among the last ones of this frame. `link`: the last word
    /// of the field that this one often repeats.
    #[inline]
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        word: Word,
        link: Option<Word>,
    ) -> (Word, bool) {
        if let Some(Word::Known(link)) = link {
            let model = &mut self.linked[usize::from(self.was_linked)];
            self.was_linked = c.bit(model, word == Word::Known(link));
            if self.was_linked {
                return (Word::Known(link), false);
            }
        }
        let context = self.last_rank.min(3);
        let rank = match word {
            Word::Known(id) if C::WRITES => self.recent.rank(id),
            _ => None,
        };
        if self.recent.filled > 0 && c.bit(&mut self.hit[context], rank.is_some()) {
            let tree = &mut self.rank[usize::from(context > 0)];
            let rank = tree.code(c, rank.unwrap_or(0)).min(self.recent.filled - 1);
            self.last_rank = rank;
            return (Word::Known(self.recent.raise(rank)), false);
        }
        self.last_rank = 3;
        let number = match word {
            Word::Known(id) => u64::from(id) + 1,
            Word::Spelt => 0,
        };
        match self.missed.code(c, number) {
            0 => (Word::Spelt, true),
            number => {
                // No writer has numbers beyond its dictionary's.
                let id = u32::try_from(number - 1).unwrap_or(u32::MAX);
                if self.recent.rank(id).is_none() {
                    self.recent.add(id);
                }
                (Word::Known(id), true)
            }
        }
    }
}

/// Bytes one after the other.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    length: Numbers,
    same: Number,
    tree: Tree<256>,
    last: Vec<u8>,
}

impl Bytes {
    /// Memory that is kept from frame to frame.
    const KEPT: usize = 1024;

    /// Text or not: text begins with an idea of what letters there are.
    pub(super) fn new(text: bool) -> Self {
        Self {
            length: Numbers::new(),
            same: Number::new(),
            tree: if text { TEXT } else { Tree::new() },
            last: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self, text: bool) {
        self.length = Numbers::new();
        self.same = Number::new();
        self.tree = if text { TEXT } else { Tree::new() };
        self.last.clear();
        // One long value in each of many fields would be kept for ever.
        self.last.shrink_to(Self::KEPT);
    }

    /// Bytes, of which there are at most `most`: appended to `out`. Gives whether there are no
    /// more than that.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        bytes: &[u8],
        most: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let length = self.length.code(c, bytes.len() as u64, false);
        if length > most as u64 {
            return false;
        }
        let length = length as usize;
        let begin = out.len();
        let mut same = 0;
        if !self.last.is_empty() {
            same = bytes.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
            let limit = self.last.len().min(length);
            same = (self.same.code(c, same as u64) as usize).min(limit);
            out.extend_from_slice(&self.last[..same]);
        }
        for at in same..length {
            let byte = bytes.get(at).copied().unwrap_or(0);
            out.push(self.tree.code(c, usize::from(byte)) as u8);
        }
        self.last.clear();
        self.last.extend_from_slice(&out[begin..]);
        true
    }
}

/// How often a byte stands in text, roughly: English letters, digits, and what names in
/// programs are made of.
const fn weight(byte: usize) -> u32 {
    let often = b"etaoinsrhldcumfpgwybvkxjqz";
    match byte as u8 {
        b' ' => 600,
        b'a'..=b'z' => {
            let mut at = 0;
            while often[at] != byte as u8 {
                at += 1;
            }
            500 - 17 * at as u32
        }
        b'0'..=b'9' => 150,
        b'A'..=b'Z' => 30,
        b'/' | b'_' | b'-' | b'.' | b':' | b'=' | b',' => 100,
        b'!'..=b'~' => 12,
        0 => 200,
        b'\t' => 10,
        _ => 1,
    }
}

/// What is thought of text before any was seen.
const TEXT: Tree<256> = {
    let mut sums = [0u32; 512];
    let mut leaf = 0;
    while leaf < 256 {
        sums[256 + leaf] = weight(leaf);
        leaf += 1;
    }
    let mut nodes = [Bit::EVEN; 256];
    let mut node = 255;
    while node > 0 {
        sums[node] = sums[2 * node] + sums[2 * node + 1];
        // As if a few had been seen: what is learned must still count.
        nodes[node] = Bit::after(((sums[2 * node] as u64 * 65_535) / sums[node] as u64) as u16, 6);
        node -= 1;
    }
    Tree::with(nodes)
};

#[cfg(test)]
mod tests {
    use super::super::coder::{Reader, Writer};
    use super::*;

    fn there_and_back<T: PartialEq + std::fmt::Debug + Copy>(
        values: &[T],
        mut write: impl FnMut(&mut Writer, T) -> T,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> usize {
        let mut w = Writer::default();
        for v in values {
            assert_eq!(write(&mut w, *v), *v);
        }
        w.finish();
        let mut r = Reader::new(&w.out);
        for v in values {
            assert_eq!(read(&mut r), *v);
        }
        w.out.len()
    }

    #[test]
    fn numbers_of_every_size_come_back() {
        let mut values: Vec<u64> =
            (0..64).flat_map(|b| [1 << b, (1 << b) + 1, u64::MAX >> b]).collect();
        values.extend(0..40);
        let (mut a, mut b) = (Number::new(), Number::new());
        there_and_back(&values, |w, v| a.code(w, v), |r| b.code(r, 0));
        for signed in [false, true] {
            let (mut a, mut b) = (Numbers::new(), Numbers::new());
            there_and_back(&values, |w, v| a.code(w, v, signed), |r| b.code(r, 0, signed));
        }
    }

    #[test]
    fn what_repeats_or_counts_is_cheap() {
        let counting: Vec<u64> = (0..1000).map(|i| 1_000_000 + 7 * i).collect();
        let (mut a, mut b) = (Numbers::new(), Numbers::new());
        let size = there_and_back(&counting, |w, v| a.code(w, v, false), |r| b.code(r, 0, false));
        assert!(size < 60, "{size}");
        let few: Vec<u64> = (0..1000).map(|i| [5, 1 << 40, 77][i % 3]).collect();
        let (mut a, mut b) = (Numbers::new(), Numbers::new());
        let size = there_and_back(&few, |w, v| a.code(w, v, true), |r| b.code(r, 0, true));
        assert!(size < 80, "{size}");
    }

    #[test]
    fn words_come_back() {
        let mut x = 1u32;
        let words: Vec<(Word, Option<Word>)> = (0..3000)
            .map(|i| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let word =
                    if x.is_multiple_of(11) { Word::Spelt } else { Word::Known((x >> 16) % 40) };
                (word, (i % 3 == 0).then_some(Word::Known((x >> 20) % 40)))
            })
            .collect();
        let (mut w, mut model) = (Writer::default(), Words::new());
        let missed: Vec<bool> =
            words.iter().map(|(word, link)| model.code(&mut w, *word, *link).1).collect();
        w.finish();
        let (mut r, mut model) = (Reader::new(&w.out), Words::new());
        for ((word, link), missed) in words.iter().zip(missed) {
            assert_eq!(model.code(&mut r, Word::Spelt, *link), (*word, missed));
        }
    }

    #[test]
    fn text_costs_less_than_its_bytes() {
        let lines = [
            "usb 1-1: new high-speed USB device number 3 using xhci_hcd",
            "usb 1-1: New USB device found, idVendor=0781, idProduct=5581",
            "EXT4-fs (vda): mounted filesystem with ordered data mode",
        ];
        let (mut w, mut model) = (Writer::default(), Bytes::new(true));
        let mut out = Vec::new();
        for line in lines {
            assert!(model.code(&mut w, line.as_bytes(), 200, &mut out));
        }
        assert_eq!(out, lines.concat().as_bytes());
        w.finish();
        assert!(w.out.len() * 4 < lines.concat().len() * 3, "{}", w.out.len());
        let (mut r, mut model) = (Reader::new(&w.out), Bytes::new(true));
        let mut back = Vec::new();
        for _ in lines {
            assert!(model.code(&mut r, &[], 200, &mut back));
        }
        assert_eq!(back, out);
        let (mut r, mut model) = (Reader::new(&w.out), Bytes::new(true));
        assert!(!model.code(&mut r, &[], 20, &mut back), "more than there may be");
    }
}
