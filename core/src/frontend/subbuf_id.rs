//! A table word: which memory a sub-buffer uses now, and who may have it.
//!
//! `lap` 32 bits · `taken` 1 · `noref` 1 · `memory index` 30. This word alone decides who
//! owns a sub-buffer. The 2010 mail kept a pointer and a noref bit: a reader delayed between
//! its load and its compare-and-swap could succeed a lap later, when the same memory with
//! noref set was back at the same index. With the lap in the word the exchange refuses;
//! `taken` is a bit of its own, never a lap value.

/// The index of a memory of a stream: below `Geometry::memories`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryIndex(u32);

impl MemoryIndex {
    pub(crate) const fn new(index: u32) -> Self {
        Self(index & SubBufferId::MEMORY)
    }
    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// A table word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubBufferId(u64);

impl SubBufferId {
    const NOREF: u64 = 1 << 30;
    const TAKEN: u64 = 1 << 31;
    const MEMORY: u32 = (1 << 30) - 1;

    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }
    pub(crate) const fn word(self) -> u64 {
        self.0
    }
    /// What the deliverer stores: the packet of this lap, in this memory, free to be taken.
    pub(crate) const fn delivered(lap: u32, memory: MemoryIndex) -> Self {
        Self((lap as u64) << 32 | Self::NOREF | memory.0 as u64)
    }
    /// What the reader puts in: a fresh memory, nothing to read. No lap: with the lap
    /// taken out, a restarted reader would take the fresh memory for data.
    pub(crate) const fn taken(memory: MemoryIndex) -> Self {
        Self(Self::TAKEN | Self::NOREF | memory.0 as u64)
    }
    /// The same with noref off: a writer refers to it, no exchange may take it.
    pub(crate) const fn referred(self) -> Self {
        Self(self.0 & !Self::NOREF)
    }
    pub(crate) const fn is_noref(self) -> bool {
        self.0 & Self::NOREF != 0
    }
    pub(crate) const fn is_taken(self) -> bool {
        self.0 & Self::TAKEN != 0
    }
    pub(crate) const fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub(crate) const fn memory(self) -> MemoryIndex {
        MemoryIndex::new(self.0 as u32)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch_each_other() {
        let m = MemoryIndex::new((1 << 30) - 1);
        let d = SubBufferId::delivered(u32::MAX, m);
        assert_eq!((d.lap(), d.memory(), d.is_noref(), d.is_taken()), (u32::MAX, m, true, false));
        let r = d.referred();
        assert_eq!((r.lap(), r.memory(), r.is_noref(), r.is_taken()), (u32::MAX, m, false, false));
        // LTTng's b68e00d5: an offset that was off by one for the last sub-buffer.
        let t = SubBufferId::taken(MemoryIndex::new(0));
        assert_eq!((t.lap(), t.memory().get(), t.is_noref(), t.is_taken()), (0, 0, true, true));
        assert_ne!(t, SubBufferId::delivered(0, MemoryIndex::new(0)));
    }
}
