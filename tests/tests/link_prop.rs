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
fn what_fuzzers_found_worth_keeping() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/link");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a corpus") {
        let path = entry.expect("readable").path();
        // A panic does not say which.
        println!("{}", path.display());
        fuzz::link(&std::fs::read(&path).expect("readable"));
        files += 1;
    }
    assert!(files > 0, "there is none");
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

/// Bodies for a sender of the first generation, tag 1.
fn body(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[1 << 6 | kind << 2 | 1, 1], rest].concat()
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Who the sender is.
fn hello(session: u64) -> Vec<u8> {
    let mut rest = vec![1];
    rest.extend(session.to_le_bytes());
    [1000, 0, 0, 0, 0, 10_000_000_000].iter().for_each(|n| number(*n, &mut rest));
    body(1, &rest)
}

/// In pieces, where it is long.
fn feed(decoder: &mut rbpipe_backends::link::Decoder, body: &[u8], serial: u64) -> u64 {
    let mut told = Nothing::default();
    if body.len() < 4000 {
        decoder.feed(&link::sealed(body), &mut told);
        return told.0;
    }
    let mut at = 0;
    for part in body.chunks(3900) {
        let mut piece = self::body(6, &[]);
        [serial, body.len() as u64, at as u64].iter().for_each(|n| number(*n, &mut piece));
        piece.extend_from_slice(part);
        decoder.feed(&link::sealed(&piece), &mut told);
        at += part.len();
    }
    told.0
}

/// Frames of two bytes wait for a HELLO: what they cost beside their bytes counts, too.
#[test]
fn small_frames_that_wait_have_a_bound() {
    let ((), held) = peak(|| {
        let mut decoder = rbpipe_backends::link::Decoder::new();
        for _ in 0..1_500_000 {
            feed(&mut decoder, &body(5, &[]), 0);
        }
    });
    println!("{held} bytes held");
    assert!(held <= LINK / 2, "{held} bytes held");
}

/// A class with as many fields as a body can say costs no more time than its bytes, and no more
/// memory than a few times them, whether or not it is taken.
#[test]
fn classes_that_nobody_should_believe() {
    let begin = std::time::Instant::now();
    let ((), held) = peak(|| {
        let mut decoder = rbpipe_backends::link::Decoder::new();
        for n in 0..20u64 {
            let mut rest = Vec::new();
            number(n, &mut rest);
            rest.extend([1, b'c', 0]);
            let fields = 18_000;
            number(fields, &mut rest);
            for i in 0..fields {
                let name = format!("f{i:x}");
                rest.push(name.len() as u8);
                rest.extend(name.bytes());
                rest.push(2);
            }
            // Columns that are not its fields: it is refused, at its very end.
            rest.push(9);
            feed(&mut decoder, &hello(n / 5), n);
            feed(&mut decoder, &body(3, &rest), n);
        }
    });
    let each = begin.elapsed() / 20;
    println!("{held} bytes held, {each:?} each");
    assert!(held <= LINK, "{held} bytes held");
    assert!(each < std::time::Duration::from_millis(300), "{each:?} for a class");
}

#[derive(Default)]
struct Nothing(u64);

impl rbpipe_backends::link::Receive for Nothing {
    fn record(&mut self, _: rbpipe_backends::link::Received<'_>) {
        self.0 += 1;
    }
}
