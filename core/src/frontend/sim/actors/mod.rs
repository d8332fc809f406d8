//! What actors do, as the seam and the drain do it.

mod reader;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::world::{Over, World};
pub(super) use writer::write;

/// An actor's life.
pub(super) fn run(world: &World, actor: usize) {
    let life = || match actor {
        0 => reader::live(world),
        n if n <= world.plan.writers => {
            for _ in 0..world.plan.writes {
                if !write(world) {
                    break;
                }
            }
        }
        _ => writer::timer(world),
    };
    if let Err(cause) = catch_unwind(AssertUnwindSafe(life))
        && !cause.is::<Over>()
    {
        resume_unwind(cause);
    }
}
