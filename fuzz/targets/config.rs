//! The reader of configurations: a file, then `--set`s.
#![no_main]

use rbpipe_tests::fuzz::{self, held::Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::config(input);
});
