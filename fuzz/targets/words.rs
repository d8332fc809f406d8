//! A stream's words, scribbled into between any two steps of writers and reader.
#![no_main]

#[path = "../../core/tests/scribbled/driver.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driver::drive(bytes));
