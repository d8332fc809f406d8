// What a transition tells beside the state of its lane: its upper 3 bits are one of these, the
// others a process, its id and 1; 0: nobody. (`Kind` and `TASK` in timeline/switches.rs.)

const LEFT_READY = 0u;
const LEFT_ASLEEP = 1u;
const LEFT_BLOCKED = 2u;
const LEFT_DEAD = 3u;
const WOKEN = 4u;
const WAKING = 5u;
const LOST = 6u;
const BEGINS = 7u;
const TASK = 0x1fffffffu;
