//! The control socket: how a running pipeline is talked to.
//!
//! `place`: whose directory, which file. [`claim`]: one pipeline of a name; `find`: which there
//! are. `protocol`: what is said. [`server`]: the running pipeline's side. [`client`]: the
//! commands'. A pipeline without a control directory runs all the same.

pub mod claim;
pub mod client;
mod find;
mod place;
mod protocol;
pub mod server;
