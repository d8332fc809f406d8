//! Snapshot: packets lent to the reader, from the oldest to the newest, one or as many at once
//! as it has memories, while writers go on. Nothing is taken: `consumed` stays where it is.
//!
//! A packet is lent by the exchange of `get`, and given back by a compare-and-swap of its own:
//! what the exchange left (`taken·noref·spare`) becomes what it found (`lap·noref·memory`). If
//! that fails, a writer has passed: the lap is overwritten, as it would have been, and its
//! memory is the reader's spare one from here on. No word can come back to what the exchange
//! left but by the reader's own hand, so this compare-and-swap has no ABA of its own.
//!
//! What is gathered is **one run without a gap**: where a lap is refused (a writer stands in
//! it, or was faster) and a newer one is not, the run begins again with the newer one. The
//! newest is fixed when the snapshot begins, so writers cannot keep it going.
//!
//! In the books a lap that is lent is in nobody's hands: neither read nor kept, so overwritten,
//! until it is given back. A reader that dies with it leaves it so. (The seam adds it to what
//! is kept while a living reader has it.)

use super::read::Held;
use super::subbuf_id::SubBufferId;
use super::{Frontend, Line, MemoryIndex, PacketFacts, Position, TABLE};
use crate::sync::{Ordering, Primitives};

/// How far a snapshot is.
#[derive(Debug)]
pub struct Gathering {
    /// The next one to be asked for, and the end of the newest.
    at: Position,
    end: Position,
    gathered: u64,
    /// The first lap that was refused since the last one that was gathered.
    gap: Option<Position>,
}

impl Gathering {
    /// Packets in the run so far.
    pub fn gathered(&self) -> u64 {
        self.gathered
    }
    /// Where the newest packet ends.
    pub fn end(&self) -> Position {
        self.end
    }
    /// Whether the run goes on to the newest packet, once there is nothing more to lend. Else
    /// what follows it is not delivered yet, or writers have passed it ([`Frontend::is_passed`]).
    pub fn is_whole(&self) -> bool {
        self.gap.is_none()
    }
}

/// A packet that the snapshot may read, for as long as it is not given back.
#[must_use = "a packet that is not given back is lost to the ring"]
#[derive(Debug)]
pub struct Lent {
    at: Position,
    held: Held,
    spare: MemoryIndex,
    begins_again: bool,
}

impl Lent {
    /// The packet, in the reader's hands.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }
    /// Where its bytes are.
    pub fn memory(&self) -> MemoryIndex {
        self.held().memory()
    }
    /// What its header says.
    pub fn facts(&self) -> &PacketFacts {
        self.held().facts()
    }
    /// A lap before it was refused: what was gathered so far is to be forgotten, the run begins
    /// with this one.
    pub fn begins_again(&self) -> bool {
        self.begins_again
    }
}

impl<L: AsRef<[Line]>, P: Primitives> Frontend<L, P> {
    /// Begins a snapshot of the `most` newest packets that the ring holds, after a switch, which
    /// made the newest one.
    pub fn gather(&self, most: u64) -> Gathering {
        let g = self.geometry;
        let now = self.write_position();
        // What was begun since the switch is not chased.
        let end = g.start(now);
        let most = most.min(g.subbuf_count().into()) * g.subbuf_size();
        let (oldest, wanted) = (self.oldest(now), end.minus(most));
        let at = if wanted.from(oldest) > 0 { wanted } else { oldest };
        Gathering { at, end, gathered: 0, gap: None }
    }

    /// The next packet that can be had, in exchange for `spare`. `None`: there is no more, and
    /// `spare` still is the reader's.
    pub fn lend(&self, gathering: &mut Gathering, spare: MemoryIndex) -> Option<Lent> {
        while gathering.end.from(gathering.at) > 0 {
            let at = gathering.at;
            gathering.at = at.plus(self.geometry.subbuf_size());
            if self.is_delivered(at)
                && let Some(held) = self.exchange(at, spare)
            {
                step!("snapshot: lent");
                let gap = gathering.gap.take().is_some();
                let begins_again = gap && gathering.gathered > 0;
                gathering.gathered = if gap { 1 } else { gathering.gathered + 1 };
                return Some(Lent { at, held, spare, begins_again });
            }
            gathering.gap.get_or_insert(at);
        }
        None
    }

    /// Whether writers have come round to what follows the run of a snapshot (to its newest packet,
    /// where nothing does): what was gathered is old, or nothing; another try would find newer
    /// ones. The newest alone does not tell: while a writer stands in it, the others pass all
    /// before it and get no further.
    pub fn is_passed(&self, gathering: &Gathering) -> bool {
        let g = self.geometry;
        let next = gathering.gap.unwrap_or(gathering.end.minus(g.subbuf_size()));
        self.write_position().from(next.plus(g.buffer_size())) > 0
    }

    /// Gives a packet back. The memory that is the reader's then: the spare one again or, where
    /// a writer has passed meanwhile, the packet's.
    #[must_use = "the memory is spare again"]
    pub fn give_back(&self, lent: Lent) -> MemoryIndex {
        let (g, memory) = (self.geometry, lent.memory());
        let left = SubBufferId::taken(lent.spare).word();
        let found = SubBufferId::delivered(g.lap(lent.at), memory).word();
        // Release: with the Acquire in `table` and `enter`; our last look at the memory comes
        // before the next lap's first byte in it. Relaxed where it fails: what we have then was
        // ours before.
        let back = self.cold(g.index(lent.at), TABLE).compare_exchange(
            left,
            found,
            Ordering::Release,
            Ordering::Relaxed,
        );
        step!("snapshot: given back");
        if back.is_ok() { lent.spare } else { memory }
    }
}
