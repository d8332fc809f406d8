//! Goal: what arrives over a link is what was sent, field by field, however the bytes are cut, and
//! what does not arrive is counted exactly. Method: senders made from entropy (any classes, any
//! values, any frame size and tick, several streams, openings, announcements again, answers, text
//! of others between), seeded: the same ones at every run; `RBPIPE_FUZZ_SEED=7` tries others,
//! `RBPIPE_LINK_CASES=100000` more. What is checked: `rbpipe_tests::fuzz::link`.

use std::cell::Cell;

use fastrand::Rng;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rbpipe_tests::fuzz::held::{Counting, peak};
use rbpipe_tests::fuzz::{self, LINK, link};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many times as many as are given, by the environment.
fn cases(usual: u32) -> u32 {
    std::env::var("RBPIPE_LINK_CASES").map_or(usual, |n| n.parse().expect("a number"))
}

/// Inputs of this kind (see `fuzz::link`); gives how many records they had in all.
fn random(kind: u8, cases: u32) -> usize {
    let seed = std::env::var("RBPIPE_FUZZ_SEED").map_or(0, |s| s.parse::<u64>().expect("a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] = kind;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let records = Cell::new(0);
    let result = TestRunner::new_with_rng(config, rng).run(&vec(any::<u8>(), 0..300), |entropy| {
        records.set(records.get() + fuzz::link(&[&[kind][..], &entropy].concat()));
        Ok(())
    });
    match result {
        Ok(()) => records.get(),
        Err(TestError::Fail(why, entropy)) => {
            let hex: String = entropy.iter().map(|b| format!("{b:02x}")).collect();
            panic!("{why}\nkind {kind}, entropy {hex}")
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn what_is_sent_arrives() {
    let cases = cases(400);
    let records = random(2, cases);
    assert!(records > 100 * cases as usize, "{records} records in {cases} cases");
}

#[test]
fn what_does_not_arrive_is_counted() {
    let cases = cases(400);
    let records = random(3, cases);
    assert!(records > 100 * cases as usize, "{records} records in {cases} cases");
}

#[test]
fn frames_of_nonsense_do_no_harm() {
    let cases = cases(400);
    let records = random(4, cases);
    assert!(records > cases as usize, "{records} records in {cases} cases");
}

#[test]
fn bytes_of_nonsense_do_no_harm() {
    random(0, cases(2000));
    random(1, cases(2000));
}

/// Goal: a receiver's memory has a bound, whatever comes and for however long. Method: a line of
/// frames whose checksums are right and whose contents are as bad as they can be, tens of MiB of
/// them: streams, classes, words, and records that wait for what never comes.
#[test]
fn memory_has_a_bound() {
    let ((), held) = peak(|| {
        let mut rng = Rng::with_seed(7);
        let (mut decoder, mut told) = (rbpipe_backends::link::Decoder::new(), Nothing::default());
        for round in 0..200u64 {
            let entropy: Vec<u8> = (0..200).map(|_| rng.u8(..)).collect();
            let mut u = arbitrary::Unstructured::new(&entropy);
            let Ok(sent) = link::sent(&mut u) else { continue };
            // Only now and then who the sender is, and what its classes are.
            for frame in sent.bytes().split(|b| *b == 0) {
                let Some(mut body) = link::opened(frame) else { continue };
                if round % 5 == 0 || body[0] >> 2 & 15 > 3 {
                    body[0] = body[0] & !3 | 1;
                    body[1] = 1;
                    if rng.bool() && body.len() > 2 {
                        let at = rng.usize(2..body.len().min(12));
                        body[at] = rng.u8(..);
                    }
                    decoder.feed(&link::sealed(&body), &mut told);
                }
            }
        }
        println!("{:?}, {} records", decoder.health(), told.0);
    });
    println!("{held} bytes held");
    assert!(held <= LINK, "{held} bytes held");
}

#[derive(Default)]
struct Nothing(u64);

impl rbpipe_backends::link::Receive for Nothing {
    fn record(&mut self, _: rbpipe_backends::link::Received<'_>) {
        self.0 += 1;
    }
}
