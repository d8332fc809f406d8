//! rbpipe's ring buffer: one synchronisation engine, generic over memory.
//!
//! Writers ([`stream`]) reserve room in a stream, write a record forward and commit it; the
//! last to commit in a sub-buffer delivers the packet; the reader takes it by exchanging the
//! sub-buffer's memory against a spare one, and hands it to an output by value. The
//! [`frontend`] does all synchronisation and knows no pointer; a [`backend`] owns bytes and
//! what becomes of a packet. Modules are listed in the order of a record's walk.

// Unsafe code is in the seam (`stream`) alone; a memory's contract is an unsafe trait.
#![deny(unsafe_code)]

/// Names a step that others can see: nothing in release; in a loom model the story line
/// when it fails (`RBPIPE_STEPS=1`), in the simulator that of a seed (`RBPIPE_SEED`).
macro_rules! step {
    ($name:literal) => {
        #[cfg(all(test, loom))]
        $crate::frontend::models::step($name);
        #[cfg(all(test, sim))]
        $crate::frontend::sim::step($name);
    };
}

pub mod backend;
pub mod bench;
pub mod channel;
pub mod class;
pub mod clock;
pub mod decode;
pub mod drain;
pub mod frontend;
#[expect(unsafe_code, reason = "a contract on implementers")]
pub mod memory;
pub mod metadata;
pub mod packet;
pub mod snapshot;
#[expect(unsafe_code, reason = "the seam")]
pub mod stream;
pub mod sync;
pub mod wake;
