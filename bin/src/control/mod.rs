//! The control socket: how a running pipeline is talked to.
//!
//! [`place`]: whose directory, which file, and that there is one pipeline of a name.
//! [`protocol`]: what is said. [`server`]: the running pipeline's side. [`client`]: the
//! commands'. A pipeline without a control directory runs all the same.

pub mod client;
pub mod place;
mod protocol;
pub mod server;
