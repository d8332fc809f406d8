//! loom models of the frontend, one for each claim, named after it. They run the real code
//! through `sync.rs`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p rbpipe-core --lib -- frontend::models
//! ```
//!
//! Two sub-buffers of two bytes, records of one byte, no packet header. Memory is an array of
//! loom's cells: a write that a read or another write may meet is an error by itself.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{
    Frontend, Geometry, Held, Layout, Line, Measure, MemoryIndex, Mode, Refused, Timestamps,
};
use crate::memory::Publish;
use crate::sync::{AtomicU64, Ordering};

/// Names a step when a model fails: `RBPIPE_STEPS=1`.
pub(crate) fn step(name: &str) {
    if std::env::var_os("RBPIPE_STEPS").is_some() {
        eprintln!("{:?} {name}", thread::current().id());
    }
}

/// One stream, its memories, a clock that counts.
struct Model {
    frontend: Frontend<Box<[Line]>>,
    memory: Vec<[UnsafeCell<u64>; 2]>,
    clock: AtomicU64,
}

struct One<'a>(&'a AtomicU64);

impl Layout for One<'_> {
    fn now(&mut self) -> u64 {
        // A clock that never runs backwards, as a machine's.
        self.0.fetch_add(1, Ordering::SeqCst)
    }
    fn measure(&mut self, now: u64, _: Option<u64>, _: u64) -> Measure {
        Measure { size: 1, records: 1, end: now }
    }
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

impl Model {
    fn new(mode: Mode, reader: u32) -> Arc<Self> {
        Self::with(mode, reader, Timestamps::Clock)
    }

    fn with(mode: Mode, reader: u32, timestamps: Timestamps) -> Arc<Self> {
        let g = Geometry::small(2, 2, reader, 0).unwrap();
        let needed = Frontend::<Box<[Line]>>::lines_needed(g);
        let lines: Box<[Line]> = (0..needed).map(|_| Line::default()).collect();
        Arc::new(Self {
            frontend: Frontend::new(lines, g, mode, timestamps).unwrap(),
            memory: (0..g.memories()).map(|_| [UnsafeCell::new(0), UnsafeCell::new(0)]).collect(),
            clock: AtomicU64::new(1),
        })
    }

    fn deliver(&self, closing: super::Closing) {
        let claimed = self.frontend.claim(closing);
        self.frontend.publish(claimed, Publish::Release);
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Writes `value`; false: lost, and counted.
    fn write(&self, value: u64) -> bool {
        self.write_as(value, &mut One(&self.clock))
    }

    /// As the seam does it: the fast path first, then with the end waiting for what is lost.
    fn write_as(&self, value: u64, layout: &mut impl Layout) -> bool {
        if let Some(grant) = self.frontend.reserve_fast(layout) {
            self.put(grant, value);
            return true;
        }
        let Some(_deciding) = self.frontend.deciding() else { return false };
        match self.frontend.reserve(layout) {
            Ok(reserved) => {
                if let Some(c) = reserved.closing {
                    self.deliver(c);
                }
                self.put(reserved.grant, value);
                true
            }
            Err(Refused::Lost(lost)) => {
                self.frontend.count_lost(lost, 1);
                false
            }
            Err(Refused::Closed) => false,
        }
    }

    fn put(&self, grant: super::Grant, value: u64) {
        let at = grant.offset(self.frontend.geometry()) as usize;
        self.memory[grant.memory().get()][at].with_mut(|p| {
            // SAFETY: the grant is exclusive; loom checks just that.
            unsafe { *p = value }
        });
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

    /// The records of a packet that the reader holds.
    fn content(&self, held: &Held) -> Vec<u64> {
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

/// The reader's side: its spare memories, and what it has read.
struct Reader {
    spare: Vec<MemoryIndex>,
    read: Vec<u64>,
    packets: u64,
    last: Option<(u64, u64)>,
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
        let content = model.content(held);
        let facts = held.facts();
        assert_eq!(content.len() as u64, facts.records, "a delivered packet is complete (I3)");
        assert!(content.iter().all(|v| *v != 0), "no record is torn or missing (I3)");
        assert!(facts.begin <= facts.end);
        if let Some((sequence, end)) = self.last {
            assert!(facts.sequence > sequence, "packets come in order (I5)");
            assert!(facts.begin >= end, "and do not overlap in time (I6)");
        }
        self.last = Some((facts.sequence, facts.end));
        self.packets += 1;
        self.read.extend(content);
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
}

/// After the end: the books balance (I7), nobody is left out, no memory is lost (I2).
fn check(model: &Model, reader: &Reader, offered: u64) {
    let b = model.frontend.books();
    assert_eq!(b.offered(), offered, "offered is all that became of it: {b:?}");
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
    assert_eq!(seen, (0..model.memory.len()).collect::<Vec<_>>(), "each memory in one place");
}

fn explore(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
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
    println!("{runs} interleavings");
    assert!(runs >= 5, "only {runs} interleavings were explored");
}

/// Two writers, one reader that reads while they write.
fn writers_and_reader(mode: Mode, reader: u32, records: u64, preemptions: usize) {
    explore(preemptions, move || {
        let model = Model::new(mode, reader);
        let writer = |base: u64| {
            let model = Arc::clone(&model);
            thread::spawn(move || (0..records).for_each(|i| _ = model.write(base + i)))
        };
        let (a, b) = (writer(10), writer(20));
        let mut r = Reader::new(reader);
        r.turn(&model);
        a.join().unwrap();
        b.join().unwrap();
        model.finalise();
        assert!(model.frontend.is_settled());
        r.drain(&model);
        check(&model, &r, 2 * records);
    });
}

#[test]
fn discard_delivers_complete_packets_with_exact_books() {
    writers_and_reader(Mode::Discard, 1, 2, 2);
}

#[test]
fn overwrite_reader_never_holds_what_a_writer_may_write() {
    writers_and_reader(Mode::Overwrite, 1, 2, 2);
}

#[test]
fn two_reader_subbufs_out_at_once_put_back_in_the_other_order() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(1, move || {
            let model = Model::new(mode, 2);
            for i in 0..3 {
                assert!(model.write(10 + i));
            }
            let reader = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let mut r = Reader::new(2);
                    let first = r.get(&model);
                    let second = r.get(&model);
                    for held in [&first, &second].into_iter().flatten() {
                        r.look(&model, held);
                    }
                    for held in [second, first].into_iter().flatten() {
                        r.spare.push(held.memory());
                    }
                    r
                })
            };
            for i in 3..6 {
                model.write(10 + i);
            }
            let mut r = reader.join().unwrap();
            model.finalise();
            r.drain(&model);
            check(&model, &r, 6);
        });
    }
}

/// A reader that is delayed between its look at the table and its exchange must not take a
/// newer lap for the one it asked for (the 2010 mail's ABA case).
#[test]
fn exchange_refuses_a_stale_lap() {
    explore(1, || {
        let model = Model::new(Mode::Overwrite, 1);
        // What is there before the reader comes; then a lap more passes under its eyes.
        for i in 0..3 {
            assert!(model.write(10 + i));
        }
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let mut r = Reader::new(1);
                r.turn(&model);
                r
            })
        };
        for i in 3..8 {
            assert!(model.write(10 + i), "overwrite never waits for the reader (I9)");
        }
        let mut r = reader.join().unwrap();
        model.finalise();
        r.drain(&model);
        // The newest is there (I8).
        assert_eq!(r.read.last(), Some(&17));
        check(&model, &r, 8);
    });
}

#[test]
fn discard_keeps_the_oldest() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        let other = {
            let model = Arc::clone(&model);
            thread::spawn(move || (0..2).filter(|i| model.write(20 + i)).count())
        };
        let mine = (0..3).filter(|i| model.write(10 + i)).count();
        let kept = mine + other.join().unwrap();
        model.finalise();
        let mut r = Reader::new(1);
        r.drain(&model);
        assert_eq!(r.read.len(), kept);
        assert_eq!(kept, 4, "four bytes, four records, nobody reads");
        check(&model, &r, 5);
    });
}

#[test]
fn switch_racing_with_a_reserve_loses_nothing() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let timer = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.switch())
        };
        let other = {
            let model = Arc::clone(&model);
            thread::spawn(move || _ = model.write(20))
        };
        model.write(10);
        timer.join().unwrap();
        other.join().unwrap();
        model.finalise();
        let mut r = Reader::new(1);
        r.drain(&model);
        check(&model, &r, 2);
        assert_eq!(r.read.len() as u64 + model.frontend.books().full, 2);
    });
}

/// Where times are given, a packet begins and ends at its records' own, whatever switch comes
/// in between, and no time is changed.
#[test]
fn given_times_are_kept_when_a_switch_races() {
    explore(3, || {
        let model = Model::with(Mode::Discard, 1, Timestamps::Given);
        let timer = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                model.switch();
                model.switch();
            })
        };
        let times = [10, 20, 30];
        let written: Vec<u64> =
            times.into_iter().filter(|t| model.write_as(*t, &mut Given(*t))).collect();
        timer.join().unwrap();
        model.finalise();
        let mut r = Reader::new(1);
        let mut read = Vec::new();
        while let Some(held) = r.get(&model) {
            let (content, facts) = (model.content(&held), *held.facts());
            assert_eq!(content.first(), Some(&facts.begin));
            assert_eq!(content.last(), Some(&facts.end));
            read.extend(content);
            r.look(&model, &held);
            r.spare.push(held.memory());
        }
        assert_eq!(read, written);
        check(&model, &r, 3);
    });
}

#[test]
fn finalise_racing_with_writers_leaves_everything_committed_readable() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let writer = {
            let model = Arc::clone(&model);
            thread::spawn(move || (0..2).filter(|i| model.write(10 + i)).count())
        };
        model.finalise();
        let written = writer.join().unwrap();
        assert!(!model.write(99), "no grant after finalise (I13)");
        let mut r = Reader::new(1);
        r.drain(&model);
        assert_eq!(r.read.len(), written);
        assert_eq!(model.frontend.books().recorded, written as u64);
    });
}

/// A writer that is refused while the stream ends: its loss is in the books, so the stream's
/// last packet tells it.
#[test]
fn a_loss_that_races_with_the_end_is_told() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        for i in 0..4 {
            model.write(10 + i);
        }
        let late = {
            let model = Arc::clone(&model);
            thread::spawn(move || _ = model.write(20))
        };
        model.finalise();
        while !model.frontend.is_settled() {
            thread::yield_now();
        }
        let mut r = Reader::new(1);
        r.drain(&model);
        let told = model.frontend.last_words(Some(0), 0, || model.now()).map_or(0, |f| f.lost);
        late.join().unwrap();
        assert_eq!(told, model.frontend.books().full);
        check(&model, &r, 4 + told);
    });
}

/// A flush that makes an empty packet while a writer loses, and writes.
#[test]
fn empty_packet_racing_with_a_writer_tells_what_was_lost_before() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        for i in 0..5 {
            model.write(10 + i);
        }
        let mut r = Reader::new(1);
        r.turn(&model);
        let late = {
            let model = Arc::clone(&model);
            thread::spawn(move || (0..2).for_each(|i| _ = model.write(20 + i)))
        };
        if let Some(c) = model.frontend.empty_packet(|| model.now()) {
            model.deliver(c);
        }
        late.join().unwrap();
        model.finalise();
        let mut told = 0;
        while let Some(held) = r.get(&model) {
            assert!(held.facts().lost >= told, "losses never run backwards (I6)");
            told = held.facts().lost;
            r.look(&model, &held);
            r.spare.push(held.memory());
        }
        let last = model.frontend.last_words(Some(told), 0, || model.now());
        assert_eq!(last.map_or(told, |f| f.lost), model.frontend.books().full);
        check(&model, &r, 7);
    });
}

/// What the reader has read was recorded before.
#[test]
fn recorded_is_never_less_than_what_was_read() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let writer = {
            let model = Arc::clone(&model);
            thread::spawn(move || (0..2).for_each(|i| _ = model.write(10 + i)))
        };
        let mut r = Reader::new(1);
        while !r.turn(&model) {
            thread::yield_now();
        }
        let b = model.frontend.books();
        assert!(b.recorded >= r.read.len() as u64, "{b:?}, read {}", r.read.len());
        writer.join().unwrap();
    });
}

/// A writer comes back just when its sub-buffer is given up: its record is delivered or
/// counted as lost, never both, never neither.
#[test]
fn a_commit_that_races_with_a_pass_over_is_counted_once() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let reserved = model.frontend.reserve(&mut One(&model.clock)).unwrap();
        model.finalise();
        let late = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.put(reserved.grant, 10))
        };
        let mut r = Reader::new(1);
        r.drain(&model);
        let passed = model.frontend.pass_over().is_some();
        late.join().unwrap();
        r.drain(&model);
        let b = model.frontend.books();
        assert_eq!(b.offered(), 1, "{b:?} passed over: {passed}");
        assert!(b.recorded == r.read.len() as u64 + b.kept, "{b:?}");
    });
}

/// "Delivered, then look whether somebody sleeps" against "say that I sleep, then look again":
/// one of them sees the other, also when another sleeper comes in between and finds what it
/// waits for.
#[test]
fn no_wake_up_is_lost() {
    explore(3, || {
        let wake = Arc::new(crate::wake::Wake::new());
        let delivered = Arc::new(AtomicU64::new(0));
        let sleeper = || {
            let (wake, delivered) = (Arc::clone(&wake), Arc::clone(&delivered));
            thread::spawn(move || {
                let ticket = wake.prepare();
                (ticket, delivered.load(Ordering::Acquire) == 1)
            })
        };
        let (a, b) = (sleeper(), sleeper());
        delivered.store(1, Ordering::Release);
        wake.wake();
        for (ticket, seen) in [a.join().unwrap(), b.join().unwrap()] {
            assert!(seen || !wake.would_sleep(&ticket), "it would sleep with something to read");
        }
    });
}
