//! `ftrace`: the kernel's own trace events, from its ring buffer.

pub mod constant;
pub mod decoder;
pub mod fields;
pub mod format;
pub mod page;
pub mod print;
