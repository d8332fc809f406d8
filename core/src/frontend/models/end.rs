//! The end of a stream, and what is told at it.

use super::*;
use crate::frontend::Lost;

#[test]
fn finalise_racing_with_writers_leaves_everything_committed_readable() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(2, move || {
            let model = Model::new(mode, 1);
            let writer = |base: u64, n: u64| {
                spawn(&model, move |m| (0..n).filter(|i| m.write(base + i)).count())
            };
            let (a, b) = (writer(10, 2), writer(20, 1));
            model.finalise();
            assert!(!model.write(99), "no grant after finalise (I13)");
            let written = a.join().unwrap() + b.join().unwrap();
            assert!(model.frontend.is_settled());
            let mut r = Reader::new(1);
            r.drain(&model);
            assert_eq!(r.read.len(), written);
            assert_eq!(model.frontend.books().recorded, written as u64);
        });
    }
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
        let late = spawn(&model, move |model| _ = model.write(20));
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

/// The same for a record that no sub-buffer has room for, whose writer only looks whether the
/// stream has ended.
#[test]
fn a_loss_that_looks_at_the_end_once_is_told() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let late = spawn(&model, |m| {
            // As the seam does.
            let Some(_deciding) = m.frontend.deciding() else { return };
            if !m.frontend.is_finalised() {
                m.frontend.count_lost(Lost::TooBig, 1);
            }
        });
        model.finalise();
        while !model.frontend.is_settled() {
            thread::yield_now();
        }
        let told = model.frontend.last_words(Some(0), 0, || model.now()).map_or(0, |f| f.lost);
        late.join().unwrap();
        assert_eq!(told, model.frontend.books().too_big);
        check(&model, &Reader::new(1), told);
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
        let late = spawn(&model, move |model| (0..2).for_each(|i| _ = model.write(20 + i)));
        model.empty_packet();
        late.join().unwrap();
        model.finalise();
        r.drain(&model);
        let last = model.frontend.last_words(Some(r.told()), 0, || model.now());
        assert_eq!(last.map_or(r.told(), |f| f.lost), model.frontend.books().full);
        check(&model, &r, 7);
    });
}

/// The same with room for it: it begins after the packet before it has ended, whoever's clock
/// said so, and tells nothing twice.
#[test]
fn an_empty_packet_begins_after_the_packet_before_it() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        for i in 0..5 {
            model.write(10 + i);
        }
        let mut r = Reader::new(1);
        r.turn(&model);
        r.turn(&model);
        let writer = spawn(&model, |m| (0..2).for_each(|i| assert!(m.write(20 + i))));
        model.empty_packet();
        writer.join().unwrap();
        model.finalise();
        let mut told = 0;
        while let Some(held) = r.get(&model) {
            let facts = *held.facts();
            assert!(facts.records > 0 || facts.lost > told, "a packet that tells nothing");
            told = facts.lost;
            r.look(&model, &held);
            r.spare.push(held.memory());
        }
        assert_eq!(told, 1);
        check(&model, &r, 7);
    });
}

/// A writer comes back just when its sub-buffer is given up: its record is delivered or
/// counted as lost, never both, never neither.
#[test]
fn a_commit_that_races_with_a_pass_over_is_counted_once() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let grant = model.hold();
        model.finalise();
        let late = spawn(&model, move |model| model.put(grant, 10, None));
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
