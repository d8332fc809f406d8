//! Pages of the kernel's ring buffer, and the kernel's formats of events.
#![no_main]

use rbpipe_tests::fuzz::{self, held::Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::kernel_page(input);
});
