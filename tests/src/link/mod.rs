//! A link without ports: a sender with a ring that loses, a line that damages, a receiver that is
//! believed nothing. All of it is one thread with a clock of its own, so a run is a pure function
//! of its seed.

mod books;
pub mod damage;
pub mod frames;
pub mod mixed;
mod plan;
mod runs;
mod sender;
mod simulate;
mod traffic;

pub use books::{Books, Figures};
pub use plan::Plan;
pub use runs::runs;
pub use simulate::simulate;
pub use traffic::{Traffic, switches};
