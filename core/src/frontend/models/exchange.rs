//! Who owns a memory: the exchange.

use super::*;
use crate::frontend::subbuf_id::SubBufferId;
use crate::frontend::{Position, TABLE};

/// Two writers, one reader that reads while they write.
#[test]
fn no_reader_ever_holds_what_a_writer_may_still_write() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 1);
        let writer = |base: u64| spawn(&model, move |m| (0..2).for_each(|i| _ = m.write(base + i)));
        let (a, b) = (writer(10), writer(20));
        let mut r = Reader::new(1);
        r.turn(&model);
        a.join().unwrap();
        b.join().unwrap();
        r.finish(&model, 4);
    });
}

/// What the reader has put back is written only after its last look.
#[test]
fn a_memory_is_written_only_after_the_readers_last_look() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let reader = spawn(&model, |m| {
            let mut r = Reader::new(1);
            r.turn(m);
            r.turn(m);
            r
        });
        // The first goes where the reader's spare memory was put, the second where its first
        // packet was.
        for i in 2..4 {
            model.write_long(10 + i);
        }
        let mut r = reader.join().unwrap();
        r.finish(&model, 4);
    });
}

/// The same where nothing but the table's word orders the two: a writer comes round to a
/// sub-buffer just when its packet is exchanged against a memory that the reader has looked at.
#[test]
fn a_writer_that_meets_the_exchange_writes_after_the_readers_last_look() {
    explore(3, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let mut r = Reader::new(1);
        let held = r.get(&model).unwrap();
        assert!(model.write_long(12));
        let writer = spawn(&model, |m| assert!(m.write_long(13)));
        r.look(&model, &held);
        let spare = held.memory();
        match model.frontend.exchange(Position::new(2), spare) {
            Some(held) => {
                r.look(&model, &held);
                r.spare.push(held.memory());
            }
            None => r.spare.push(spare),
        }
        writer.join().unwrap();
        r.finish(&model, 4);
    });
}

#[test]
fn two_reader_subbufs_out_at_once_put_back_in_the_other_order() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(2, move || {
            let model = Model::new(mode, 2);
            for i in 0..2 {
                assert!(model.write_long(10 + i));
            }
            let reader = spawn(&model, |m| {
                let mut r = Reader::new(2);
                let first = r.get(m);
                let second = r.get(m);
                for held in [&first, &second].into_iter().flatten() {
                    r.look(m, held);
                }
                for held in [second, first].into_iter().flatten() {
                    r.spare.push(held.memory());
                }
                r
            });
            assert!(model.write_long(12) || mode == Mode::Discard);
            let mut r = reader.join().unwrap();
            r.finish(&model, 3);
        });
    }
}

/// A stream whose reader is delayed while a lap passes under its eyes: `get` looks, and takes
/// what it takes with the given exchange.
fn a_lap_passes(get: impl Fn(&mut Reader, &Model) + Clone + Send + Sync + 'static) {
    explore(1, move || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let get = get.clone();
        let reader = spawn(&model, move |m| {
            let mut r = Reader::new(1);
            get(&mut r, m);
            r
        });
        for i in 2..5 {
            assert!(model.write_long(10 + i), "overwrite never waits for the reader (I9)");
        }
        let mut r = reader.join().unwrap();
        model.finalise();
        r.drain(&model);
        assert_eq!(r.read.last(), Some(&14), "the newest is there (I8)");
        check(&model, &r, 5);
    });
}

/// A reader that is delayed between its look at the table and its exchange must not take a
/// newer lap for the one it asked for (the 2010 mail's ABA case).
#[test]
fn exchange_refuses_a_stale_lap() {
    a_lap_passes(|r, m| _ = r.turn(m));
}

/// The same with the words of the 2010 mail, a pointer and a noref bit: the exchange succeeds
/// a lap later, when the same memory is back in its place with noref set. A witness: it is to
/// fail, or `exchange_refuses_a_stale_lap` shows nothing.
#[test]
#[should_panic(expected = "a lap that it did not ask for (I5)")]
fn an_exchange_of_pointers_takes_a_stale_lap() {
    a_lap_passes(|r, m| {
        let (f, g) = (&m.frontend, m.frontend.geometry());
        let at = f.oldest(f.write_position());
        if !f.is_delivered(at) {
            return;
        }
        let asked = f.table(g.index(at));
        let word = f.cold(g.index(at), TABLE);
        let spare = r.spare.pop().unwrap();
        // Same pointer, same noref: what a compare-and-swap without a lap in the word sees.
        let same = |id: SubBufferId| id.memory() == asked.memory() && id.is_noref();
        let mut found = asked;
        while asked.is_noref() && !asked.is_taken() && same(found) {
            let fresh = SubBufferId::taken(spare).word();
            match word.compare_exchange(found.word(), fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // What a pointer cannot tell.
                    assert_eq!(found.lap(), g.lap(at), "a lap that it did not ask for (I5)");
                    r.spare.push(found.memory());
                    r.read.extend(m.memory[found.memory().get()].iter().map(|c| {
                        // SAFETY: the exchange made it ours.
                        c.with(|p| unsafe { (*p).value })
                    }));
                    f.set_consumed(at.plus(g.subbuf_size()));
                    return;
                }
                Err(now) => found = SubBufferId::from_word(now),
            }
        }
        r.spare.push(spare);
    });
}

/// A reader dies between its exchange and the store to `consumed`. The next one owns what the
/// table does not name, finds the place taken, and goes on; that packet alone is missing.
#[test]
fn a_reader_that_died_costs_the_packet_that_it_had() {
    for mode in [Mode::Discard, Mode::Overwrite] {
        explore(2, move || {
            let model = Model::new(mode, 1);
            for i in 0..4 {
                assert!(model.write(10 + i));
            }
            let dead = model.frontend.exchange(Position::new(0), MemoryIndex::new(2)).unwrap();
            let had = dead.facts().records;
            let writer = spawn(&model, |m| (4..6).for_each(|i| _ = m.write(10 + i)));
            let mut r = Reader::new(0);
            r.spare = model.frontend.unnamed();
            r.turn(&model);
            writer.join().unwrap();
            model.finalise();
            r.drain(&model);
            let b = model.frontend.books();
            assert_eq!(b.offered(), 6, "{b:?}");
            let read = r.read.len() as u64;
            assert!(read + had + b.kept <= b.recorded, "{b:?}, read {read}");
            assert!(mode == Mode::Overwrite || read + had == b.recorded, "{b:?}, read {read}");
        });
    }
}
