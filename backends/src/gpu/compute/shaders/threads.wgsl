// What `gather` and `carry` have in common: what a process did in a column, as far as the column
// alone tells. What it was in when the column began is not known there: `carry` knows.
struct Mark {
    // What first tells where the process is: 0: nothing does; else 1, three times the number of a
    // CPU's stream, and what it does there. And when.
    first: u32,
    first_low: u32,
    first_high: u32,
    // Not 0: before that it was woken, and when.
    woken: u32,
    woken_low: u32,
    woken_high: u32,
    // From `first` up to `since`, by the state: ran, waited, was blocked, slept.
    low: array<u32, 4>,
    high: array<u32, 4>,
    // Since then it is in this one.
    state: u32,
    since_low: u32,
    since_high: u32,
    // The first stream on which it ran, and 1.
    on: u32,
}

// States. From RUNNING on: on the stream of this number.
const UNKNOWN = 0u;
const WAITING = 1u;
const BLOCKED = 2u;
const ASLEEP = 3u;
const RUNNING = 4u;

// Where a state's time is.
fn place_of(state: u32) -> u32 {
    return select(state, 0u, state >= RUNNING);
}

// Whether somebody who is in this state may be woken.
fn can_be_woken(state: u32) -> bool {
    return state == UNKNOWN || state == ASLEEP || state == BLOCKED;
}

// What it does: it comes to a CPU, leaves it, is there since before.
const COMES = 0u;
const LEAVES = 1u;
const IS_THERE = 2u;

// Whether the state that it was thought to be in until then is so. Who comes to a CPU does not run
// on another; who leaves it ran there; who is there may have come at any time.
fn is_so(state: u32, stream: u32, does: u32) -> bool {
    let here = state == RUNNING + stream;
    return (does == COMES && (state < RUNNING || here)) || (does == LEAVES && here);
}
