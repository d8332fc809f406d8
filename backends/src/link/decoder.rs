//! The receiver's half.

use super::{Health, Receive};

/// Finds frames and text in what comes from a line. Whatever that is, it neither panics nor
/// hangs, and its memory is bounded (about 2 MiB).
#[derive(Default)]
pub struct Decoder {}

impl Decoder {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes bytes, however they are cut.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Receive) {
        let _ = (bytes, to);
        unimplemented!()
    }
    /// Nothing has come for a while (100 ms or more): text that waits for its end is given.
    pub fn idle(&mut self, to: &mut impl Receive) {
        let _ = to;
        unimplemented!()
    }
    /// The line was closed and opened again: what was begun will not be finished.
    pub fn reopened(&mut self, to: &mut impl Receive) {
        let _ = to;
        unimplemented!()
    }
    /// There will be no more: frames that still wait are given up, and told as missing.
    pub fn end(&mut self, to: &mut impl Receive) {
        let _ = to;
        unimplemented!()
    }
    /// What it has seen.
    #[must_use]
    pub fn health(&self) -> &Health {
        unimplemented!()
    }
}
