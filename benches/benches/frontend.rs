//! What does a record cost at the writer, beside its parts (clock read + locked cmpxchg +
//! locked xadd), memcpy included? Each record size and stream kind, interleaved rounds.
fn main() {}
