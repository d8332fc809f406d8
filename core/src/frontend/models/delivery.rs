//! What is delivered is complete, and delivered once.

use super::*;

#[test]
fn a_delivered_packet_is_complete_and_the_books_are_exact() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        let writer = |base: u64| spawn(&model, move |m| (0..2).for_each(|i| _ = m.write(base + i)));
        let (a, b) = (writer(10), writer(20));
        let mut r = Reader::new(1);
        r.turn(&model);
        a.join().unwrap();
        b.join().unwrap();
        r.finish(&model, 4);
    });
}

/// One record ends where the sub-buffer does, the other one does not fit: padding, close and
/// open, and the boundary itself.
#[test]
fn two_writers_meet_at_a_sub_buffers_end() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(3, move || {
            let model = Model::new(mode, 1);
            assert!(model.write(10));
            let long = spawn(&model, |m| _ = m.write_long(20));
            model.write(30);
            long.join().unwrap();
            let mut r = Reader::new(1);
            r.finish(&model, 3);
        });
    }
}

/// A writer is between reserve and commit when its sub-buffer is left: the packet comes with
/// its commit, not before, and with its record.
#[test]
fn a_flush_waits_for_a_record_in_flight() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(3, move || {
            let model = Model::new(mode, 1);
            let grant = model.hold();
            let writer = spawn(&model, move |m| m.put(grant, 10, None));
            model.switch();
            let mut r = Reader::new(1);
            r.turn(&model);
            model.empty_packet();
            r.turn(&model);
            writer.join().unwrap();
            r.drain(&model);
            assert_eq!((r.read.as_slice(), r.packets), (&[10][..], 1));
            check(&model, &r, 1);
        });
    }
}

/// What the reader has read was recorded before.
#[test]
fn recorded_is_never_less_than_what_was_read() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        let writer = spawn(&model, |m| (0..2).for_each(|i| _ = m.write(10 + i)));
        let mut r = Reader::new(1);
        while !r.turn(&model) {
            thread::yield_now();
        }
        let b = model.frontend.books();
        assert!(b.recorded >= r.read.len() as u64, "{b:?}, read {}", r.read.len());
        writer.join().unwrap();
    });
}

#[test]
fn switch_racing_with_a_reserve_loses_nothing() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let timer = spawn(&model, Model::switch);
        let other = spawn(&model, |m| _ = m.write(20));
        model.write(10);
        timer.join().unwrap();
        other.join().unwrap();
        let mut r = Reader::new(1);
        r.finish(&model, 2);
        assert_eq!(r.read.len() as u64 + model.frontend.books().full, 2);
    });
}

/// Writers close and open one after the other: each packet begins after the one before has
/// ended, whoever looked at the clock.
#[test]
fn packets_do_not_overlap_in_time() {
    explore(3, || {
        let model = Model::new(Mode::Discard, 1);
        let other = spawn(&model, |m| (0..2).for_each(|i| _ = m.write_long(20 + i)));
        model.write(10);
        model.switch();
        other.join().unwrap();
        let mut r = Reader::new(1);
        r.finish(&model, 3);
    });
}

/// Where times are given, a packet begins and ends at its records' own, whatever switch comes
/// in between, and no time is changed.
#[test]
fn given_times_are_kept_when_a_switch_races() {
    explore(3, || {
        let model = Model::with(Mode::Discard, 1, Timestamps::Given, 2);
        let timer = spawn(&model, |m| {
            m.switch();
            m.switch();
        });
        let times = [10, 20, 30];
        let written: Vec<u64> =
            times.into_iter().filter(|t| model.write_as(*t, &mut Given(*t))).collect();
        timer.join().unwrap();
        model.finalise();
        let mut r = Reader::new(1);
        let mut read = Vec::new();
        while let Some(held) = r.get(&model) {
            let (content, facts) = (model.content(&held), *held.facts());
            assert_eq!(
                content.first().map(|b| (b.value, b.time)),
                Some((facts.begin, facts.begin))
            );
            assert_eq!(content.last().map(|b| (b.value, b.time)), Some((facts.end, facts.end)));
            read.extend(content.iter().map(|b| b.value));
            r.look(&model, &held);
            r.spare.push(held.memory());
        }
        assert_eq!(read, written);
        check(&model, &r, 3);
    });
}
