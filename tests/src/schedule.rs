//! A trace of a scheduler whose schedule a test decides: `sched:sched_switch` and
//! `sched:sched_waking`, with the kernel's fields.

use std::path::Path;

use rbpipe_core::class::{EventClass, Field, FieldType, Integer};

use crate::growing::{Growing, packet_of};

/// A process: its id and its name. The idle one is `(0, "swapper/0")`.
pub type Task = (i32, &'static str);

/// Nobody.
pub const IDLE: Task = (0, "swapper/0");

/// Could go on.
pub const RUNNABLE: i64 = 0;
/// Waits for something to come.
pub const SLEEPS: i64 = 1;
/// Waits for a device.
pub const BLOCKED: i64 = 2;

/// Something that happened on a CPU: when, as a class' place and its payload.
pub type Happened = (u64, u32, Vec<u8>);

fn comm(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// From one process, which is in this state then, to the other.
#[must_use]
pub fn switch(time: u64, prev: Task, state: i64, next: Task) -> Happened {
    let payload = [
        &comm(prev.1)[..],
        &prev.0.to_le_bytes(),
        &120i32.to_le_bytes(),
        &state.to_le_bytes(),
        &comm(next.1),
        &next.0.to_le_bytes(),
        &120i32.to_le_bytes(),
    ];
    (time, 0, payload.concat())
}

/// Somebody who runs there wakes this one.
#[must_use]
pub fn wake(time: u64, task: Task) -> Happened {
    (time, 1, [&comm(task.1)[..], &task.0.to_le_bytes()].concat())
}

/// `sched:sched_switch`: what [`switch`] gives the payload of.
#[must_use]
pub fn switch_class() -> EventClass {
    let field = Field::new;
    EventClass::new(
        "sched:sched_switch",
        vec![
            field("prev_comm", text()),
            field("prev_pid", FieldType::I32),
            field("prev_prio", FieldType::I32),
            field("prev_state", FieldType::I64),
            field("next_comm", text()),
            field("next_pid", FieldType::I32),
            field("next_prio", FieldType::I32),
        ],
    )
}

/// `sched:sched_waking`: what [`wake`] gives the payload of.
#[must_use]
pub fn waking_class() -> EventClass {
    let fields = vec![Field::new("comm", text()), Field::new("pid", FieldType::I32)];
    EventClass::new("sched:sched_waking", fields)
}

fn text() -> FieldType {
    FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16)
}

/// An empty trace at `path`, whose clock begins at the epoch.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn trace(path: &Path) -> Growing {
    Growing::with(path, vec![switch_class(), waking_class()], 0)
}

/// Adds a packet of a CPU; `lost`: how many events its CPU has lost until then, in all.
pub fn packet(trace: &Growing, cpu: u64, sequence: u64, lost: u64, events: &[Happened]) {
    trace.append(cpu, &packet_of(cpu, sequence, lost, events));
}
