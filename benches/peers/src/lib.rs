//! What does a record cost, beside other crates' queues, with the same record, on one machine in
//! one run? A program (`main.rs`); as a library for its own test alone.
//!
//! `peer` says what a peer is, `each` lists them; `ours`, `limits`, `items`, `bytes` and `workers`
//! are they; `measure` runs one of them, `session` all of them in turns.

pub mod bytes;
pub mod each;
pub mod file;
pub mod items;
pub mod limits;
pub mod machine;
pub mod measure;
pub mod ours;
pub mod peer;
pub mod session;
pub mod table;
pub mod workers;
