//! The tests' harness: records that prove themselves, a reader that checks them, outputs
//! that misbehave, inputs that are damaged, and the program as a command.

pub mod collect;
pub mod faulty;
pub mod fuzz;
pub mod growing;
pub mod kept;
pub mod kernel;
pub mod line;
pub mod link;
pub mod picture;
pub mod program;
pub mod recording;
pub mod records;
pub mod schedule;
pub mod terminal;
pub mod timer;
pub mod tracefs;
pub mod wire;

use std::process::Command;

/// Whether a program that a test needs is there. Under `CI=true` it must be: the test
/// command installs it. Elsewhere the test says that it is skipped, and why.
///
/// # Panics
/// Under `CI=true`, if it is missing.
#[must_use]
pub fn have(test: &str, program: &str, probe: &[&str]) -> bool {
    let found = Command::new(program).args(probe).output().is_ok_and(|o| o.status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing under CI");
        eprintln!("SKIPPED {test}: {program} {} does not work here", probe.join(" "));
    }
    found
}

/// Whether there is a GPU, be it one in software; as [`have`] says it.
///
/// # Panics
/// Under `CI=true`, if there is none.
#[must_use]
pub fn have_gpu(test: &str) -> bool {
    let found = rbpipe_backends::gpu::adapters().is_ok_and(|all| !all.is_empty());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "a Vulkan driver is missing under CI"
        );
        eprintln!(
            "SKIPPED {test}: no Vulkan driver finds an adapter (mesa-vulkan-drivers has one)"
        );
    }
    found
}
