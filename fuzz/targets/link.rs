//! Both halves of a serial link.
#![no_main]

use rbpipe_tests::fuzz::{self, held::Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::link(input);
});
