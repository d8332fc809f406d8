//! Positions and sizes: the arithmetic of a stream.
//!
//! A position is a free-running count of bytes in 63 bits, never masked to the ring's size
//! when stored; the top bit of the word that holds `write_pos` says "finalised". All
//! differences wrap and are compared as signed, so that passing 2^63 changes nothing.

/// What a full ring does to the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The record is lost and counted: the oldest are kept.
    Discard,
    /// The oldest sub-buffer is overwritten: the newest are kept (flight recorder).
    Overwrite,
    /// The writer waits, with a bound; then as discard.
    Block,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Discard, Self::Overwrite, Self::Block];
    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Overwrite => "overwrite",
            Self::Block => "block",
        }
    }
}

/// A position in a stream: bytes since its beginning, modulo 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

/// The bit of the `write_pos` word that says "finalised".
pub(crate) const FINALISED: u64 = 1 << 63;

impl Position {
    /// The position in the low 63 bits of a word.
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Self(word & !FINALISED)
    }
    /// The low 63 bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
    /// `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_add(bytes))
    }
    /// `bytes` before.
    #[must_use]
    pub const fn minus(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_sub(bytes))
    }
    /// How far this is behind `other` (negative: before it).
    ///
    /// ```
    /// use rbpipe_core::frontend::Position;
    /// let a = Position::new(u64::MAX >> 1); // the last one before the wrap
    /// assert_eq!(a.plus(3).from(a), 3);
    /// assert_eq!(a.from(a.plus(3)), -3);
    /// ```
    #[must_use]
    pub const fn from(self, other: Self) -> i64 {
        // 63-bit difference, its sign moved to where i64 has one.
        ((self.0.wrapping_sub(other.0) << 1) as i64) >> 1
    }
}

/// Sizes and counts of a stream: checked once, then trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// S − 1 and N − 1: kept as masks, so that a record's way has no shift for them. Small, so
    /// that all that a record looks at fits one cache line (`stream.rs`).
    size_mask: u32,
    count_mask: u32,
    reader_subbufs: u32,
    header: u32,
    size_shift: u8,
    count_shift: u8,
}

/// A geometry that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Sub-buffer size.
    #[error("a sub-buffer has a power of two from 4 KiB to 64 MiB, not {0} bytes")]
    Size(u64),
    /// Sub-buffer count.
    #[error("a stream has a power of two from 2 to 1048576 sub-buffers, not {0}")]
    Count(u64),
    /// Memories that the reader owns.
    #[error("the reader owns 1 to 1024 sub-buffers, not {0}")]
    ReaderSubbufs(u64),
    /// Header too large for the sub-buffer.
    #[error("a packet header of {0} bytes leaves no room in a sub-buffer")]
    Header(u32),
}

impl Geometry {
    /// `subbuf_count` sub-buffers of `subbuf_size` bytes, `reader_subbufs` more in the
    /// reader's hands, and `header` bytes at the start of each for the packet header.
    ///
    /// # Errors
    /// What is out of range.
    pub fn new(
        subbuf_size: u64,
        subbuf_count: u32,
        reader_subbufs: u32,
        header: u32,
    ) -> Result<Self, GeometryError> {
        if !subbuf_size.is_power_of_two() || !(4 << 10..=64 << 20).contains(&subbuf_size) {
            return Err(GeometryError::Size(subbuf_size));
        }
        Self::small(subbuf_size, subbuf_count, reader_subbufs, header)
    }

    /// The same without the lower limit of a page: for models and tests.
    pub(crate) fn small(
        subbuf_size: u64,
        subbuf_count: u32,
        reader_subbufs: u32,
        header: u32,
    ) -> Result<Self, GeometryError> {
        if !subbuf_size.is_power_of_two() || subbuf_size < 2 {
            return Err(GeometryError::Size(subbuf_size));
        }
        let Ok(size_mask) = u32::try_from(subbuf_size - 1) else {
            return Err(GeometryError::Size(subbuf_size));
        };
        if !subbuf_count.is_power_of_two() || !(2..=1 << 20).contains(&subbuf_count) {
            return Err(GeometryError::Count(subbuf_count.into()));
        }
        if !(1..=1024).contains(&reader_subbufs) {
            return Err(GeometryError::ReaderSubbufs(reader_subbufs.into()));
        }
        if u64::from(header) >= subbuf_size {
            return Err(GeometryError::Header(header));
        }
        Ok(Self {
            size_mask,
            count_mask: subbuf_count - 1,
            reader_subbufs,
            header,
            size_shift: subbuf_size.trailing_zeros() as u8,
            count_shift: subbuf_count.trailing_zeros() as u8,
        })
    }

    /// The same with another packet header.
    ///
    /// # Errors
    /// A header that leaves no room.
    pub fn with_header(self, header: u32) -> Result<Self, GeometryError> {
        if u64::from(header) >= self.subbuf_size() {
            return Err(GeometryError::Header(header));
        }
        Ok(Self { header, ..self })
    }

    /// Bytes in a sub-buffer (S).
    #[must_use]
    pub const fn subbuf_size(self) -> u64 {
        self.size_mask as u64 + 1
    }
    /// Sub-buffers in the ring (N).
    #[must_use]
    pub const fn subbuf_count(self) -> u32 {
        self.count_mask + 1
    }
    /// Memories in the reader's hands (K).
    #[must_use]
    pub const fn reader_subbufs(self) -> u32 {
        self.reader_subbufs
    }
    /// N + K.
    #[must_use]
    pub const fn memories(self) -> u32 {
        self.subbuf_count() + self.reader_subbufs
    }
    /// Bytes of the packet header.
    #[must_use]
    pub const fn header(self) -> u64 {
        self.header as u64
    }
    /// Bytes in the ring (B = N·S).
    #[must_use]
    pub const fn buffer_size(self) -> u64 {
        1 << (self.size_shift + self.count_shift)
    }
    /// The sub-buffer that a position lies in.
    #[must_use]
    pub const fn index(self, p: Position) -> usize {
        ((p.get() >> self.size_shift) & self.count_mask as u64) as usize
    }
    /// The offset in its sub-buffer.
    #[must_use]
    pub const fn offset(self, p: Position) -> u64 {
        p.get() & self.size_mask as u64
    }
    /// The start of its sub-buffer.
    #[must_use]
    pub const fn start(self, p: Position) -> Position {
        Position::new(p.get() & !(self.size_mask as u64))
    }
    /// Which round of the ring, in the 32 bits that a table word keeps of it.
    #[must_use]
    pub const fn lap(self, p: Position) -> u32 {
        (p.get() >> (self.size_shift + self.count_shift)) as u32
    }
    /// The sequence number of the packet that begins at `start`; data packets count from 1.
    #[must_use]
    pub const fn sequence(self, start: Position) -> u64 {
        (start.get() >> self.size_shift) + 1
    }
    /// The value of `delivered` once the lap that `p` lies in is complete: the bytes
    /// committed in this sub-buffer since the beginning, modulo what a position can tell.
    /// Even, so that an odd value can say "claimed".
    #[must_use]
    pub const fn complete(self, p: Position) -> u64 {
        (self.before(p) + self.subbuf_size()) & self.bytes_mask()
    }
    /// The value of `delivered` before the lap that `p` lies in.
    #[must_use]
    pub const fn before(self, p: Position) -> u64 {
        (p.get() >> self.count_shift) & !(self.size_mask as u64)
    }
    const fn bytes_mask(self) -> u64 {
        (1 << (63 - self.count_shift)) - 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wraps_like_any_other_place() {
        let g = Geometry::new(4096, 4, 1, 84).unwrap();
        let end = Position::new(u64::MAX).plus(1); // 2^63 = 0
        assert_eq!(end.get(), 0);
        let last = end.minus(4096);
        assert_eq!(g.index(last), 3);
        assert_eq!(g.index(end), 0);
        assert_eq!(end.from(last), 4096);
        // complete(lap) of one lap is before(lap) of the next, across the wrap too.
        for p in [Position::new(0), Position::new(1 << 40), last.minus(12288), last] {
            let next_lap = p.plus(g.buffer_size());
            assert_eq!(g.complete(p), g.before(next_lap), "{p:?}");
            assert_eq!(g.complete(p) % 2, 0);
        }
    }

    #[test]
    fn laps_tell_neighbours_apart_at_the_limit_of_32_bits() {
        let g = Geometry::new(4096, 2, 1, 84).unwrap();
        let p = Position::new((u64::from(u32::MAX)) * g.buffer_size());
        assert_eq!(g.lap(p), u32::MAX);
        assert_eq!(g.lap(p.plus(g.buffer_size())), 0);
    }

    /// lttng-ust 3d8e9399: overwrite mode with fewer than two sub-buffers is refused.
    #[test]
    fn refuses_what_cannot_be() {
        assert_eq!(Geometry::new(2048, 2, 1, 84), Err(GeometryError::Size(2048)));
        assert_eq!(Geometry::new(5000, 2, 1, 84), Err(GeometryError::Size(5000)));
        assert_eq!(Geometry::new(128 << 20, 2, 1, 84), Err(GeometryError::Size(128 << 20)));
        assert_eq!(Geometry::new(4096, 1, 1, 84), Err(GeometryError::Count(1)));
        assert_eq!(Geometry::new(4096, 3, 1, 84), Err(GeometryError::Count(3)));
        assert_eq!(Geometry::new(4096, 2, 0, 84), Err(GeometryError::ReaderSubbufs(0)));
        assert_eq!(Geometry::new(4096, 2, 1, 4096), Err(GeometryError::Header(4096)));
    }
}
