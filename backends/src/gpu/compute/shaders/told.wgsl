// What a transition tells beside the state of its lane: its upper 3 bits are one of these, then
// comes LEFT_UNTOLD, the others are a process, its id and 1; 0: nobody. (`Kind` and `TASK` in
// timeline/switches.rs.)

const LEFT_READY = 0u;
const LEFT_ASLEEP = 1u;
const LEFT_BLOCKED = 2u;
const LEFT_DEAD = 3u;
const WOKEN = 4u;
const WAKING = 5u;
const LOST = 6u;
const BEGINS = 7u;
const LEFT_UNTOLD = 0x10000000u;
const TASK = 0x0fffffffu;

// The state from a transition on; 0: it is not known.
fn known(transition: vec4<u32>) -> u32 {
    return select(transition.z, 0u, (transition.w & LEFT_UNTOLD) != 0u);
}
