//! Snapshots: what is lent, looked at and given back while writers go on (I8, I2, I7).

use super::*;

/// What one snapshot gathered.
struct Run {
    /// Sequence numbers.
    packets: Vec<u64>,
    values: Vec<u64>,
    /// The newest one's sequence number when it began.
    newest: u64,
    is_whole: bool,
    /// A writer came past what was lent.
    passed: bool,
}

/// Takes a snapshot as the seam does, and checks that it is one run.
fn snapshot(r: &mut Reader, model: &Model) -> Run {
    let f = &model.frontend;
    model.switch();
    let mut gathering = f.gather(u64::MAX);
    let newest = f.geometry().sequence(gathering.end()) - 1;
    let (mut looker, mut packets, mut passed) = (Reader::new(0), Vec::new(), false);
    let mut spare = r.spare.pop().expect("a memory to exchange");
    while let Some(lent) = f.lend(&mut gathering, spare) {
        if lent.begins_again() {
            (looker, packets) = (Reader::new(0), Vec::new());
        }
        looker.look(model, lent.held());
        let sequence = lent.facts().sequence;
        assert!(packets.last().is_none_or(|p| p + 1 == sequence), "one run without a gap (I8)");
        packets.push(sequence);
        let had = spare;
        spare = f.give_back(lent);
        passed |= spare != had;
    }
    r.spare.push(spare);
    let is_whole = gathering.is_whole();
    assert_eq!(packets.len() as u64, gathering.gathered());
    if is_whole && let Some(last) = packets.last() {
        assert_eq!(*last, newest, "it ends at the newest (I8)");
    }
    Run { packets, values: looker.read, newest, is_whole, passed }
}

/// A writer passes while it is taken. What is refused was the writer's to overwrite.
#[test]
fn a_snapshot_is_one_run_that_ends_at_the_newest() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let writer = spawn(&model, |m| {
            for i in 2..4 {
                assert!(m.write_long(10 + i), "overwrite never waits for a snapshot (I9)");
            }
        });
        let mut r = Reader::new(1);
        let run = snapshot(&mut r, &model);
        let expected: Vec<u64> = run.packets.iter().map(|p| 9 + p).collect();
        assert_eq!(run.values, expected, "the records of these packets");
        assert!(run.newest >= 2 && run.packets.len() <= 2);
        writer.join().unwrap();
        r.finish(&model, 4);
        assert_eq!(r.read, [12, 13], "what it did not take is there");
    });
}

/// A writer that looked at the table before a packet was lent, and clears noref when it is
/// back, writes after the snapshot's last look.
#[test]
fn a_lap_that_comes_back_is_written_after_the_snapshots_last_look() {
    explore(3, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let mut gathering = model.frontend.gather(u64::MAX);
        let writer = spawn(&model, |m| assert!(m.write_long(12)));
        let mut r = Reader::new(1);
        let spare = r.spare.pop().unwrap();
        if let Some(lent) = model.frontend.lend(&mut gathering, spare) {
            Reader::new(0).look(&model, lent.held());
            r.spare.push(model.frontend.give_back(lent));
        } else {
            r.spare.push(spare);
        }
        writer.join().unwrap();
        r.finish(&model, 3);
    });
}

/// Two writers enter a sub-buffer, one behind the other, while its packet is given back: they
/// have one memory, and the reader the other one.
#[test]
fn writers_that_enter_while_a_lap_is_given_back_have_one_memory() {
    explore(2, || {
        let model = Model::with(Mode::Overwrite, 1, Timestamps::Clock, 4);
        for i in 0..2 {
            assert!(model.write_as(10 + i, &mut model.one(4)));
        }
        // From the oldest one, which the writers come to.
        let mut gathering = model.frontend.gather(u64::MAX);
        let writer = |base: u64| spawn(&model, move |m| assert!(m.write(base)));
        let (a, b) = (writer(20), writer(30));
        let mut r = Reader::new(1);
        let spare = r.spare.pop().unwrap();
        if let Some(lent) = model.frontend.lend(&mut gathering, spare) {
            Reader::new(0).look(&model, lent.held());
            r.spare.push(model.frontend.give_back(lent));
        } else {
            r.spare.push(spare);
        }
        a.join().unwrap();
        b.join().unwrap();
        r.finish(&model, 4);
    });
}

/// With memories for all, all are lent before the first is looked at: what was delivered is
/// caught, though a writer comes round to it. Given back in the other order.
#[test]
fn packets_that_are_lent_at_once_are_safe_from_writers() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 2);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let mut gathering = model.frontend.gather(u64::MAX);
        let writer = spawn(&model, |m| (2..4).for_each(|i| assert!(m.write_long(10 + i))));
        let mut r = Reader::new(2);
        let mut lend = |r: &mut Reader| {
            let spare = r.spare.pop().unwrap();
            let lent = model.frontend.lend(&mut gathering, spare);
            if lent.is_none() {
                r.spare.push(spare);
            }
            lent
        };
        let lent = [lend(&mut r), lend(&mut r)];
        let mut looker = Reader::new(0);
        for lent in lent.iter().flatten() {
            looker.look(&model, lent.held());
        }
        assert!([&[10, 11][..], &[10], &[11], &[]].contains(&&looker.read[..]));
        for lent in lent.into_iter().rev().flatten() {
            r.spare.push(model.frontend.give_back(lent));
        }
        writer.join().unwrap();
        r.finish(&model, 4);
        assert_eq!(r.read, [12, 13]);
    });
}

/// Two in a row: nothing is missing in the second that was in the first, but what a writer
/// overwrote; when nobody writes, both hold all there is.
#[test]
fn two_snapshots_in_a_row_take_nothing_from_each_other() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let writer = spawn(&model, |m| assert!(m.write_long(12)));
        let mut r = Reader::new(1);
        let first = snapshot(&mut r, &model);
        let second = snapshot(&mut r, &model);
        assert!(second.newest >= first.newest);
        for run in [&first, &second] {
            // One writer, which passes one sub-buffer: whatever is delivered behind it is there.
            let delivered = run.newest - u64::from(!run.is_whole);
            assert_eq!(run.packets.last(), Some(&delivered), "{:?} of {}", run.packets, run.newest);
        }
        writer.join().unwrap();
        let quiet = snapshot(&mut r, &model);
        assert_eq!((quiet.values, quiet.passed), (vec![11, 12], false), "all that is kept");
        r.finish(&model, 3);
    });
}

/// Where packets are taken, too, a snapshot takes none of them: nothing is overwritten, nobody
/// finds the ring fuller than it is.
#[test]
fn a_snapshot_leaves_every_packet_to_be_taken() {
    explore(2, || {
        let model = Model::new(Mode::Discard, 1);
        assert!(model.write_long(10));
        let writer = spawn(&model, |m| (1..3).filter(|i| m.write_long(10 + i)).count() as u64);
        let mut r = Reader::new(1);
        let run = snapshot(&mut r, &model);
        assert!(run.values.starts_with(&[10]) && !run.passed, "{:?}", run.values);
        assert!(r.turn(&model));
        let later = snapshot(&mut r, &model);
        assert!(!later.values.contains(&10), "what was taken is gone");
        let written = 1 + writer.join().unwrap();
        r.finish(&model, 3);
        assert_eq!(r.read.len() as u64, written);
    });
}

/// A reader dies with a packet that was lent: the next one passes it, it counts as overwritten.
#[test]
fn a_snapshot_that_dies_costs_the_lap_that_it_had() {
    explore(2, || {
        let model = Model::new(Mode::Overwrite, 1);
        for i in 0..2 {
            assert!(model.write_long(10 + i));
        }
        let mut gathering = model.frontend.gather(1);
        let writer = spawn(&model, |m| assert!(m.write_long(12)));
        // Nobody gives it back.
        let lent = model.frontend.lend(&mut gathering, MemoryIndex::new(2));
        assert_eq!(lent.map(|l| l.facts().sequence), Some(2));
        let mut r = Reader::new(0);
        r.spare = model.frontend.unnamed();
        let run = snapshot(&mut r, &model);
        assert!(!run.packets.contains(&2), "it is not in the ring");
        writer.join().unwrap();
        r.finish(&model, 3);
        assert!(!r.read.contains(&11) && r.read.contains(&12));
    });
}
