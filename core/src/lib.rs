//! rbpipe-core
pub mod class;
pub mod packet;
