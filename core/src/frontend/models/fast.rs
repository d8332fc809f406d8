//! The fast path: records that neither open a sub-buffer nor reach its end. Sub-buffers of four
//! bytes.

use super::*;
use crate::frontend::Position;

fn model(mode: Mode) -> Arc<Model> {
    Model::with(mode, 1, Timestamps::Clock, 4)
}

/// Whoever reserves after another one has a later time, and thinks no record later than it is.
#[test]
fn times_never_decrease_where_writers_meet() {
    explore(3, || {
        let model = model(Mode::Discard);
        assert!(model.write(10));
        let other = spawn(&model, |m| assert!(m.write(20)));
        assert!(model.write(30));
        other.join().unwrap();
        let mut r = Reader::new(1);
        r.finish(&model, 3);
    });
}

/// Two writers meet in a sub-buffer that a switch leaves: every record is in a packet, whole.
#[test]
fn a_switch_among_records_leaves_none_out() {
    explore(2, || {
        let model = model(Mode::Discard);
        assert!(model.write(10));
        let other = spawn(&model, |m| assert!(m.write(20)));
        let timer = spawn(&model, Model::switch);
        assert!(model.write(30));
        other.join().unwrap();
        timer.join().unwrap();
        let mut r = Reader::new(1);
        r.turn(&model);
        model.finalise();
        r.drain(&model);
        assert_eq!(r.read.len(), 3);
        check(&model, &r, 3);
    });
}

/// An opener stands between its compare-and-swap and the clearing of noref, another writer comes
/// in behind it, and the reader takes the packet of the lap before: it must not be written into.
#[test]
fn every_writer_clears_noref_not_only_the_opener() {
    explore(2, || {
        let model = model(Mode::Overwrite);
        for i in 0..2 {
            assert!(model.write_as(10 + i, &mut model.one(4)));
        }
        let opener = spawn(&model, |m| assert!(m.write(20)));
        let other = spawn(&model, |m| assert!(m.write(30)));
        let mut r = Reader::new(1);
        let spare = r.spare.pop().unwrap();
        // The reader looked at `write_pos` before the opener came.
        match model.frontend.exchange(Position::new(0), spare) {
            Some(held) => {
                r.look(&model, &held);
                r.spare.push(held.memory());
            }
            None => r.spare.push(spare),
        }
        opener.join().unwrap();
        other.join().unwrap();
        r.finish(&model, 4);
    });
}

#[test]
fn no_grant_comes_after_finalise() {
    explore(3, || {
        let model = model(Mode::Discard);
        assert!(model.write(10));
        let writer = spawn(&model, |m| (0..2).filter(|i| m.write(20 + i)).count());
        model.finalise();
        assert!(!model.write(99), "no grant after finalise (I13)");
        let written = 1 + writer.join().unwrap();
        assert!(model.frontend.is_settled());
        let mut r = Reader::new(1);
        r.drain(&model);
        assert_eq!(r.read.len(), written);
        assert_eq!(model.frontend.books().recorded, written as u64);
    });
}
