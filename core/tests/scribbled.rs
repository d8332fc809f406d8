//! Goal: whatever somebody writes into a stream's words, the frontend neither panics nor hangs,
//! and gives no index, range or length that leads outside of what it belongs to (I12). Method:
//! random bytes say what is done and what is scribbled, between any two steps; and the corpus
//! of the fuzzer that does the same.

#[path = "scribbled/driver.rs"]
mod driver;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, max_shrink_iters: 20_000, ..Default::default() })]
    #[test]
    fn words_that_are_scribbled_into_lead_nowhere(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000)
    ) {
        driver::drive(&bytes);
    }
}

#[test]
fn the_fuzzers_corpus_leads_nowhere() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/words");
    let mut replayed = 0;
    for file in std::fs::read_dir(corpus).expect("it is there") {
        driver::drive(&std::fs::read(file.expect("readable").path()).expect("readable"));
        replayed += 1;
    }
    assert!(replayed > 20, "{replayed} inputs");
}
