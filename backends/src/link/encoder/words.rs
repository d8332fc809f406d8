//! What was announced and when: the sender's words, and how long an announcement holds.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::bounds::{ALL_WORDS, LONGEST_WORD, MOST_WORDS};
use super::super::column::Word;
use super::super::model::Dictionary;

/// What is new is announced once more after this (ns): a frame may have been lost.
const ONCE_MORE: u64 = 1_000_000_000;

/// When something was announced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announced {
    at: u64,
    times: u8,
}

impl Announced {
    /// Whether it is to be announced (again) before it is used at `now`.
    pub(super) fn is_due(self, now: u64, every: u64) -> bool {
        let wait = match self.times {
            0 => return true,
            1 => ONCE_MORE.min(every),
            _ => every,
        };
        now.saturating_sub(self.at) >= wait
    }
    /// What was announced once is due.
    pub(super) fn hurry(&mut self, now: u64) {
        if self.times == 1 {
            self.at = now.saturating_sub(ONCE_MORE);
        }
    }
    pub(super) fn done(&mut self, now: u64) {
        *self = Self { at: now, times: self.times.saturating_add(1).min(2) };
    }
}

/// Words are found by their CRC32C, which takes an instruction for eight bytes.
#[derive(Default)]
struct Checksum(u32);

impl Hasher for Checksum {
    fn finish(&self) -> u64 {
        // The table takes the highest bits, and the lowest.
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
    fn write_usize(&mut self, _: usize) {
        // A length that nothing follows.
    }
}

/// The sender's words.
#[derive(Default)]
pub(super) struct Vocabulary {
    every: u64,
    domains: Vec<HashMap<Box<[u8]>, u32, BuildHasherDefault<Checksum>>>,
    /// Words in all of them.
    count: usize,
    /// When each was last defined, by domain and number.
    announced: Vec<Vec<Announced>>,
    /// What was defined in this frame, and what was known of it before.
    journal: Vec<(u32, u32, Announced)>,
    /// Texts that were seen once, by their checksums.
    seen: Vec<u32>,
    /// What the last of them took the place of.
    displaced: Vec<(usize, u32)>,
    now: u64,
    full: bool,
}

impl Vocabulary {
    /// Words are announced again after `every` (ns).
    pub(super) fn new(every: u64) -> Self {
        Self { every, ..Self::default() }
    }
    pub(super) fn begin(&mut self, now: u64) {
        self.now = now;
        self.journal.clear();
        self.displaced.clear();
    }
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.journal.len(), self.displaced.len())
    }
    pub(super) fn back_to(&mut self, (journal, displaced): (usize, usize)) {
        for (domain, id, before) in self.journal.drain(journal..).rev() {
            self.announced[domain as usize][id as usize] = before;
        }
        for (place, before) in self.displaced.drain(displaced..).rev() {
            self.seen[place] = before;
        }
    }
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
    pub(super) fn forget(&mut self) {
        *self = Self { every: self.every, ..Self::default() };
    }
    pub(super) fn announce_all(&mut self) {
        self.announced.iter_mut().flatten().for_each(|a| *a = Announced::default());
    }

    /// Whether a text was seen before, as far as a small table can tell.
    fn seen_before(&mut self, domain: u32, bytes: &[u8]) -> bool {
        self.seen.resize(1024, 0);
        let check = crc32c::crc32c_append(domain, bytes) | 1;
        let place = check as usize / 2 % self.seen.len();
        let before = self.seen[place];
        self.seen[place] = check;
        if before != check {
            self.displaced.push((place, before));
        }
        before == check
    }
}

impl Dictionary for Vocabulary {
    fn word(&mut self, domain: u32, bytes: &[u8], alone: bool) -> (Word, bool) {
        let at = domain as usize;
        if self.domains.len() <= at {
            self.domains.resize_with(at + 1, HashMap::default);
            self.announced.resize_with(at + 1, Vec::new);
        }
        if let Some(id) = self.domains[at].get(bytes) {
            let due = self.announced[at][*id as usize].is_due(self.now, self.every);
            return (Word::Known(*id), due);
        }
        // A text that comes once is not worth a number; a task is.
        let worthless = bytes.len() > LONGEST_WORD || (alone && !self.seen_before(domain, bytes));
        if self.domains[at].len() == MOST_WORDS || self.count == ALL_WORDS {
            self.full = true;
        }
        if worthless || self.full {
            return (Word::Spelt, false);
        }
        let id = self.announced[at].len() as u32;
        self.count += 1;
        self.domains[at].insert(bytes.into(), id);
        self.announced[at].push(Announced::default());
        (Word::Known(id), true)
    }

    fn define(&mut self, domain: u32, id: u32, _: &[u8]) {
        let announced = &mut self.announced[domain as usize][id as usize];
        self.journal.push((domain, id, *announced));
        announced.done(self.now);
    }

    fn meaning(&mut self, _: u32, _: u32, _: &mut Vec<u8>) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_announced_twice_and_then_every_so_often() {
        let mut it = Announced::default();
        let (second, every) = (1_000_000_000, 10_000_000_000);
        assert!(it.is_due(0, every));
        it.done(0);
        assert!(!it.is_due(second - 1, every) && it.is_due(second, every));
        it.done(second);
        assert!(!it.is_due(every + second - 1, every) && it.is_due(every + second, every));
    }

    #[test]
    fn going_back_takes_definitions_back() {
        let mut words = Vocabulary::new(1 << 40);
        words.begin(5);
        assert_eq!(words.word(0, b"a", false), (Word::Known(0), true));
        words.define(0, 0, b"a");
        let mark = words.mark();
        assert_eq!(words.word(0, b"b", false), (Word::Known(1), true));
        words.define(0, 1, b"b");
        words.back_to(mark);
        assert_eq!(words.word(0, b"a", false), (Word::Known(0), false));
        assert_eq!(words.word(0, b"b", false), (Word::Known(1), true));
        assert_eq!(words.word(0, b"once", true), (Word::Spelt, false));
        assert_eq!(words.word(0, b"once", true), (Word::Known(2), true));
    }
}
