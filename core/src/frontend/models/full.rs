//! A full ring: what is kept, what is lost, and who waits.

use super::*;

#[test]
fn discard_keeps_the_oldest() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        let other = spawn(&model, |m| (0..2).filter(|i| m.write(20 + i)).count());
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

/// The reader holds a packet all the while, the writer goes round and round, and what is there
/// at the end is the newest, without a gap.
#[test]
fn overwrite_waits_for_nobody_and_keeps_the_newest() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write(10 + i));
        }
        let writer = spawn(&model, |m| {
            for i in 2..9 {
                assert!(m.write(10 + i), "no writer waits for the reader (I9)");
            }
        });
        let mut r = Reader::new(1);
        let held = r.get(&model);
        writer.join().unwrap();
        // A reader that looks only now, with the memories that are left.
        let mut late = Reader::new(0);
        late.spare.append(&mut r.spare);
        if let Some(held) = held {
            r.look(&model, &held);
            late.spare.push(held.memory());
        }
        model.finalise();
        late.drain(&model);
        let newest = late.read.iter().copied();
        assert!(newest.clone().eq(19 - newest.len() as u64..19), "{:?}", late.read);
        // A sub-buffer, and what is in the other one (I8); unless it is the one that was held.
        assert!((16..19).all(|v| late.read.contains(&v) || r.read.contains(&v)));
        late.read.append(&mut r.read);
        check(&model, &late, 9);
    });
}

/// A writer stands in a sub-buffer when the others come round to it, and commits just then: what
/// is lost is named, and what comes after its commit is not.
#[test]
fn a_stalled_writer_costs_what_is_counted_until_it_commits() {
    explore(3, || {
        let model = Model::new(Mode::Overwrite, 1);
        let grant = model.hold();
        for i in 0..3 {
            assert!(model.write(10 + i), "the others go on until the ring comes round (I11)");
        }
        let stalled = spawn(&model, move |m| m.put(grant, 20, None));
        let written = model.write(30);
        stalled.join().unwrap();
        assert!(model.write(40), "the stream has recovered (I11)");
        model.finalise();
        assert_eq!(model.frontend.books().wrap, u64::from(!written));
        let mut r = Reader::new(1);
        r.drain(&model);
        assert_eq!(r.read.last(), Some(&40));
        check(&model, &r, 6);
    });
}

/// Writers lose and write while the reader makes room: the sum that packets carry only grows,
/// and with the last words nothing is left out.
#[test]
fn losses_never_run_backwards() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        for i in 0..4 {
            assert!(model.write(10 + i));
        }
        let other = spawn(&model, |m| (0..2).for_each(|i| _ = m.write(20 + i)));
        let mut r = Reader::new(1);
        r.turn(&model);
        (0..2).for_each(|i| _ = model.write(30 + i));
        other.join().unwrap();
        r.turn(&model);
        model.write(40);
        model.finalise();
        r.drain(&model);
        let last = model.frontend.last_words(Some(r.told()), 0, || model.now());
        assert_eq!(last.map_or(r.told(), |f| f.lost), model.frontend.books().full);
        check(&model, &r, 9);
    });
}

/// Block mode: a writer that found no room and goes to sleep is woken by the reader that makes
/// some.
#[test]
fn a_writer_that_waits_for_room_is_woken() {
    use crate::wake::Wake;
    explore(3, || {
        let model = Model::new(Mode::Block, 1);
        for i in 0..4 {
            assert!(model.write(10 + i));
        }
        let space = Arc::new(Wake::new());
        let writer = {
            let space = Arc::clone(&space);
            spawn(&model, move |m| {
                let ticket = space.prepare();
                match m.frontend.reserve(&mut m.one(1)) {
                    Ok(reserved) => {
                        m.put(reserved.grant, 20, None);
                        None
                    }
                    Err(_) => Some(ticket),
                }
            })
        };
        let mut r = Reader::new(1);
        assert!(r.turn(&model));
        space.wake();
        if let Some(ticket) = writer.join().unwrap() {
            assert!(!space.would_sleep(&ticket), "it would sleep with room in the ring");
            assert!(model.write(20));
        }
        r.finish(&model, 5);
    });
}
