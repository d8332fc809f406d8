//! The states that lanes of who ran, and of what threads did, are made of: the same wherever they
//! are counted.

use std::sync::Arc;

use super::{Ink, State};

/// States that all lanes know: nothing is known …
pub const UNKNOWN: u16 = 0;
/// … it is there and does nothing …
pub const IDLE: u16 = 1;
/// … several that are not told apart. The lane's own come after them.
pub const OTHERS: u16 = 2;
/// A thread could run, and has no CPU.
pub const WAITING: u16 = OTHERS + 1;
/// It waits for a device or a lock.
pub const BLOCKED: u16 = OTHERS + 2;
/// It runs, on the first of the CPUs; on the next ones in the states after this one.
pub const RUNNING: u16 = OTHERS + 3;

fn state(name: impl Into<String>, ink: Ink) -> State {
    State { name: name.into(), ink }
}

/// What a CPU can run: nobody, and threads of these names, each in its own colour.
#[must_use]
pub fn cpu_states(names: impl IntoIterator<Item = String>) -> Arc<[State]> {
    let common = [Ink::Unknown, Ink::Idle, Ink::Others].map(|ink| state("", ink));
    let own = names.into_iter().map(|name| State { ink: Ink::of(&name), name });
    common.into_iter().chain(own).collect()
}

/// What a thread can be in: running it has its own colour, and what the CPU is called.
#[must_use]
pub fn thread_states(name: &str, cpus: impl IntoIterator<Item = String>) -> Arc<[State]> {
    let common = [Ink::Unknown, Ink::Idle, Ink::Others, Ink::Waiting, Ink::Blocked];
    let common = common.map(|ink| state("", ink));
    let running = cpus.into_iter().map(|cpu| state(cpu, Ink::of(name)));
    common.into_iter().chain(running).collect()
}
