//! loom models of the frontend, one for each claim, named after it. They run the real code
//! through `sync.rs`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p rbpipe-core --lib -- frontend::models
//! ```
//!
//! Two sub-buffers of two bytes, records of one byte or two, no packet header; four bytes where
//! the fast path is to be met (`fast`), which leaves a byte over. Memory is loom's cells: a write that a read or another write may meet is an error by itself.
//! What is checked beside that is in [`Reader::look`] and [`check`].
//!
//! `orderings` weakens each ordering of the code by itself and shows which model misses it.

mod delivery;
mod end;
mod exchange;
mod fast;
mod full;
mod snapshot;
mod waking;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{
    Frontend, Geometry, Grant, Held, Layout, Line, Measure, MemoryIndex, Mode, Refused, Timestamps,
};
use crate::sync::{AtomicU64, Ordering};

/// Names a step when a model fails: `RBPIPE_STEPS=1`.
pub(crate) fn step(name: &str) {
    if std::env::var_os("RBPIPE_STEPS").is_some() {
        eprintln!("{:?} {name}", thread::current().id());
    }
}

/// One stream, its memories, a clock.
struct Model {
    frontend: Frontend<Box<[Line]>>,
    memory: Vec<Vec<UnsafeCell<Byte>>>,
    /// What a machine's clock is to its threads: it never runs backwards for whoever knows of a
    /// later time, and says nothing more about the order of things. Writers tick it.
    clock: AtomicU64,
}

/// What a record leaves in each of its bytes.
#[derive(Clone, Copy, Default)]
struct Byte {
    /// Its value, and whether it is not the first one.
    value: u64,
    time: u64,
    /// What the time of the record before was held to be: a full timestamp is left out on the
    /// strength of it.
    last: Option<u64>,
}

/// A record that is timed here, of so many bytes.
struct One<'a> {
    clock: &'a AtomicU64,
    size: u64,
    last: Option<u64>,
}

impl Layout for One<'_> {
    fn now(&mut self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }
    fn measure(&mut self, now: u64, last: Option<u64>, _: u64) -> Measure {
        self.last = last;
        Measure { size: self.size, records: 1, end: now }
    }
}

impl Last for One<'_> {
    fn last(&self) -> Option<u64> {
        self.last
    }
}

trait Last: Layout {
    fn last(&self) -> Option<u64>;
}

/// A record that brings its own time.
struct Given(u64);

impl Layout for Given {
    fn now(&mut self) -> u64 {
        self.0
    }
    fn measure(&mut self, now: u64, _: Option<u64>, _: u64) -> Measure {
        Measure { size: 1, records: 1, end: now }
    }
}

impl Last for Given {
    fn last(&self) -> Option<u64> {
        None
    }
}

/// The value of a record's second byte is its value and this.
const MORE: u64 = 1 << 32;

impl Model {
    fn new(mode: Mode, reader: u32) -> Arc<Self> {
        Self::with(mode, reader, Timestamps::Clock, 2)
    }

    fn with(mode: Mode, reader: u32, timestamps: Timestamps, size: u64) -> Arc<Self> {
        let g = Geometry::small(size, 2, reader, 0).unwrap();
        let cells = || (0..size).map(|_| UnsafeCell::default()).collect();
        let needed = Frontend::<Box<[Line]>>::lines_needed(g);
        let lines: Box<[Line]> = (0..needed).map(|_| Line::default()).collect();
        Arc::new(Self {
            frontend: Frontend::new(lines, g, mode, timestamps).unwrap(),
            memory: (0..g.memories()).map(|_| cells()).collect(),
            clock: AtomicU64::new(1),
        })
    }

    fn deliver(&self, closing: super::Closing) {
        let claimed = self.frontend.claim(closing);
        self.frontend.publish(claimed);
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn one(&self, size: u64) -> One<'_> {
        self.clock.fetch_add(1, Ordering::Relaxed);
        One { clock: &self.clock, size, last: None }
    }

    /// Writes a record of one byte; false: lost, and counted.
    fn write(&self, value: u64) -> bool {
        self.write_as(value, &mut self.one(1))
    }

    /// Writes a record that fills a sub-buffer.
    fn write_long(&self, value: u64) -> bool {
        self.write_as(value, &mut self.one(2))
    }

    /// As the seam does it: the fast path first, then with the end waiting for what is lost.
    fn write_as(&self, value: u64, layout: &mut impl Last) -> bool {
        if let Some(grant) = self.frontend.reserve_fast(layout) {
            self.put(grant, value, layout.last());
            return true;
        }
        let Some(_deciding) = self.frontend.deciding() else { return false };
        match self.frontend.reserve(layout) {
            Ok(reserved) => {
                if let Some(c) = reserved.closing {
                    self.deliver(c);
                }
                self.put(reserved.grant, value, layout.last());
                true
            }
            Err(Refused::Lost(lost)) => {
                self.frontend.count_lost(lost, 1);
                false
            }
            Err(Refused::Closed) => false,
        }
    }

    /// A grant that is held for a while.
    fn hold(&self) -> Grant {
        let reserved = self.frontend.reserve(&mut self.one(1)).unwrap();
        if let Some(c) = reserved.closing {
            self.deliver(c);
        }
        reserved.grant
    }

    fn put(&self, grant: Grant, value: u64, last: Option<u64>) {
        let (at, time) = (grant.offset(self.frontend.geometry()) as usize, grant.time());
        for i in 0..grant.len() as usize {
            self.memory[grant.memory().get()][at + i].with_mut(|p| {
                // SAFETY: the grant is exclusive; loom checks just that.
                unsafe {
                    let value = if i == 0 { value } else { value | MORE };
                    *p = Byte { value, time, last };
                }
            });
        }
        if let Some(c) = self.frontend.commit(grant) {
            self.deliver(c);
        }
    }

    fn switch(&self) {
        if let Some(c) = self.frontend.switch(|| self.now()) {
            self.deliver(c);
        }
    }

    fn finalise(&self) {
        if let Some(c) = self.frontend.finalise(|| self.now()) {
            self.deliver(c);
        }
    }

    fn empty_packet(&self) {
        if let Some(c) = self.frontend.empty_packet(|| self.now()) {
            self.deliver(c);
        }
    }

    /// The bytes of a packet that the reader holds.
    fn content(&self, held: &Held) -> Vec<Byte> {
        let cells = &self.memory[held.memory().get()];
        (0..held.facts().content as usize)
            .map(|i| {
                cells[i].with(|p| {
                    // SAFETY: the reader owns the memory; loom checks just that.
                    unsafe { *p }
                })
            })
            .collect()
    }
}

/// A thread beside the model's own.
fn spawn<T: 'static>(
    model: &Arc<Model>,
    does: impl FnOnce(&Model) -> T + 'static,
) -> thread::JoinHandle<T> {
    let model = Arc::clone(model);
    thread::spawn(move || does(&model))
}

/// The reader's side: its spare memories, and what it has read.
struct Reader {
    spare: Vec<MemoryIndex>,
    read: Vec<u64>,
    packets: u64,
    /// Sequence number, end and losses of the last packet.
    last: Option<(u64, u64, u64)>,
}

impl Reader {
    fn new(reader: u32) -> Self {
        let spare = (2..2 + reader).map(MemoryIndex::new).collect();
        Self { spare, read: Vec::new(), packets: 0, last: None }
    }

    fn get(&mut self, model: &Model) -> Option<Held> {
        let spare = self.spare.pop()?;
        match model.frontend.get(spare) {
            Ok(held) => Some(held),
            Err(_) => {
                self.spare.push(spare);
                None
            }
        }
    }

    fn look(&mut self, model: &Model, held: &Held) {
        let bytes = model.content(held);
        let content: Vec<u64> = bytes.iter().map(|b| b.value).collect();
        let times: Vec<u64> = bytes.iter().map(|b| b.time).collect();
        let facts = held.facts();
        let records: Vec<u64> = content.iter().copied().filter(|v| v & MORE == 0).collect();
        assert_eq!(records.len() as u64, facts.records, "a delivered packet is complete (I3)");
        assert!(content.iter().all(|v| *v != 0), "no record is torn or missing (I3)");
        for pair in content.windows(2) {
            assert!(pair[1] & MORE == 0 || pair[1] == pair[0] | MORE, "a whole record (I1)");
        }
        for pair in bytes.windows(2).filter(|pair| pair[1].value & MORE == 0) {
            let (before, last) = (pair[0].time, pair[1].last);
            assert!(last.is_none_or(|last| last <= before), "a full time is missed: {last:?}");
        }
        let inside = [&[facts.begin], times.as_slice(), &[facts.end]].concat();
        assert!(inside.is_sorted(), "times never decrease in a packet (I6): {inside:?}");
        if let Some((sequence, end, lost)) = self.last {
            assert!(facts.sequence > sequence, "packets come in order (I5)");
            assert!(facts.begin >= end, "and do not overlap in time (I6): {end} {facts:?}");
            assert!(facts.lost >= lost, "losses never run backwards (I6): {lost} {facts:?}");
        }
        self.last = Some((facts.sequence, facts.end, facts.lost));
        self.packets += 1;
        self.read.extend(records);
    }

    /// What the last packet told.
    fn told(&self) -> u64 {
        self.last.map_or(0, |(_, _, lost)| lost)
    }

    /// Takes a packet, if there is one, and puts it back.
    fn turn(&mut self, model: &Model) -> bool {
        let Some(held) = self.get(model) else { return false };
        self.look(model, &held);
        self.spare.push(held.memory());
        true
    }

    fn drain(&mut self, model: &Model) {
        while self.turn(model) {}
    }

    /// Ends the stream, which all writers have left, takes what there is, and checks all.
    fn finish(&mut self, model: &Model, offered: u64) {
        model.finalise();
        assert!(model.frontend.is_settled());
        self.drain(model);
        check(model, self, offered);
    }
}

/// After the end: the books balance (I7), nobody is left out, no memory is lost (I2).
fn check(model: &Model, reader: &Reader, offered: u64) {
    let b = model.frontend.books();
    assert_eq!(b.offered(), offered, "offered is all that became of it (I7): {b:?}");
    let read = reader.read.len() as u64;
    assert!(b.recorded >= read + b.kept, "{b:?}, read {read}");
    if model.frontend.mode() != Mode::Overwrite {
        assert_eq!(b.recorded, read + b.kept, "nothing is overwritten here");
        assert_eq!(b.wrap, 0);
    } else {
        assert_eq!(b.full, 0);
    }
    let mut values = reader.read.clone();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), reader.read.len(), "no record is read twice");
    let mut seen: Vec<usize> = reader.spare.iter().map(|m| m.get()).collect();
    seen.extend((0..2).map(|i| model.frontend.table(i).memory().get()));
    seen.sort_unstable();
    assert_eq!(seen, (0..model.memory.len()).collect::<Vec<_>>(), "each memory in one place (I2)");
}

/// Explores every interleaving with at most so many preemptions; more with
/// `RBPIPE_PREEMPTIONS=n`, by hand.
fn explore(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let more = std::env::var("RBPIPE_PREEMPTIONS").ok().and_then(|n| n.parse().ok());
    let preemptions = preemptions.max(more.unwrap_or(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    // A model that explores next to nothing proves as much.
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        f();
    });
    let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
    println!("{runs} interleavings, {preemptions} preemptions");
    assert!(runs >= 5, "only {runs} interleavings were explored");
}
