//! Where a stream is in the trace: its file, and from which packet on the current piece counts.
//!
//! A piece's packets are numbered, and its losses counted, from the last written packet of the
//! pieces before; a packet's bytes in memory are not touched for it.

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::packet::{COMMON_HEADER, renumbered};
use rbpipe_core::stream::Packet;

use super::rotation::Piece;
use super::stream_file::StreamFile;
use crate::heap::HeapMemory;

/// Where a stream is in the trace. Goes with the right to write it.
#[derive(Default)]
pub(super) struct Place {
    pub(super) file: Option<StreamFile>,
    /// [`Piece::count`] of the piece that it is in.
    pub(super) piece: u64,
    /// What its last written packet told.
    told: Told,
    /// The same when the piece began: the piece's packets are numbered from there.
    base: Told,
}

#[derive(Clone, Copy, Default)]
struct Told {
    sequence: u64,
    lost: u64,
    end: u64,
}

impl Place {
    /// Follows into the current piece; gives the file in the one that has ended.
    pub(super) fn follow(&mut self, piece: &Piece) -> Option<StreamFile> {
        if self.piece == piece.count {
            return None;
        }
        self.piece = piece.count;
        self.base = self.told;
        self.file.take()
    }

    /// A packet with these facts is in its file.
    pub(super) fn written(&mut self, facts: &PacketFacts) {
        self.told = Told { sequence: facts.sequence, lost: facts.lost, end: facts.end };
    }

    /// Where the stream begins in the piece, whose first packet is this.
    pub(super) fn start(&self, piece: &Piece, info: &StreamInfo, first: &PacketFacts) -> u64 {
        let before = if self.base.sequence == 0 { info.start } else { self.base.end };
        // A loss may be as old as the packet before it.
        let whole = first.lost == self.base.lost && first.sequence == self.base.sequence + 1;
        let start = if whole && piece.count > 0 { before.max(piece.start) } else { before };
        // Records that bring their own time may be older than all that.
        start.min(first.begin)
    }

    /// A packet's beginning as this piece tells it; `None`: as it is.
    pub(super) fn head(&self, piece: &Piece, packet: &Packet<HeapMemory>) -> Option<[u8; HEAD]> {
        if piece.count == 0 {
            return None;
        }
        let facts = packet.facts();
        let sequence = facts.sequence.saturating_sub(self.base.sequence);
        let lost = facts.lost.saturating_sub(self.base.lost);
        renumbered(packet.bytes(), piece.uuid, sequence, lost)
    }
}

/// What is told anew of a packet.
pub(super) const HEAD: usize = COMMON_HEADER as usize;
