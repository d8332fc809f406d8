//! The program `rbpipe`. All of it is in the library, so that fuzzers can call its readers.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    rbpipe::run()
}
