// Takes what the scheduler's events tell of a CPU out of its records: who runs from then on, and
// who left, and how, or was woken. The twin, and why, is timeline/switches.rs.
//
// `columns` is the class of `sched_switch`. `more`: where its prev_pid begins in the payload, and
// its bytes; the same of prev_state, of next_pid, and of next_comm, at most 16; then for each event
// that tells of a wake-up its class, where its pid begins, its bytes, and its kind.

// What states are called: the state, 0: none, its text, and a sum of both. Whoever writes one may
// meet another who does: then the sum is wrong.
@group(0) @binding(7) var<storage, read_write> labels: array<array<atomic<u32>, LABEL>, LABELS>;

const LABELS = 2048u;
const LABEL = 6u;
// How many places are tried for a state.
const TRIES = 8u;

// The place of what a state is called: that which is its own, a free one, another's.
fn place_of(state: u32) -> u32 {
    let first = scatter(state) >> 16u;
    for (var i = 0u; i < TRIES;) {
        let place = (first + i) % LABELS;
        let seen = atomicCompareExchangeWeak(&labels[place][0], 0u, state);
        if seen.exchanged || seen.old_value == state {
            return place;
        }
        // Weak: it may fail where it should not; then the same place once more.
        if seen.old_value != 0u {
            i += 1u;
        }
    }
    return (first + state % TRIES) % LABELS;
}

fn name(state: u32, text: u32) {
    let place = place_of(state);
    atomicStore(&labels[place][0], state);
    var sum = state;
    for (var i = 0u; i < 4u; i++) {
        let left = params.more[1].w - min(params.more[1].w, 4u * i);
        var word = 0u;
        if left > 0u {
            word = word_at(text + 4u * i);
        }
        if left < 4u {
            word &= (1u << (8u * left)) - 1u;
        }
        atomicStore(&labels[place][1u + i], word);
        sum = scatter(sum ^ word) ^ (sum >> 15u);
    }
    atomicStore(&labels[place][5], sum);
}

// The transition before the last `back` ones of a stream that has so many.
fn newest(lane: u32, back: u32) -> u32 {
    let ring = lanes[lane];
    return ring.base + (ring.first + ring.len - 1u - back) % ring.capacity;
}

// From this time on it is not known who runs. If that is so already, it needs no place.
fn lose(lane: u32, time: vec2<u32>) {
    if lanes[lane].len == 0u || rings[newest(lane, 0u)].w >> 29u != LOST {
        add(lane, vec4<u32>(time, 0u, LOST << 29u));
    }
}

// Who ran until now.
fn tell_back(lane: u32, prev: u32) {
    let len = lanes[lane].len;
    if prev == 0u || len == 0u {
        return;
    }
    let thought = rings[newest(lane, 0u)].z;
    if thought == prev {
        return;
    }
    // Nobody knew; or somebody came in between, untold: when, nobody knows.
    let state = select(0u, prev, thought == 0u);
    for (var back = 0u; back < len; back++) {
        let at = newest(lane, back);
        let kind = rings[at].w >> 29u;
        if kind == LOST {
            return;
        }
        if kind == WOKEN || kind == WAKING {
            rings[at].z = state;
            continue;
        }
        if state == 0u {
            rings[at].w |= LEFT_UNTOLD;
        } else {
            rings[at].z = state;
        }
        return;
    }
}

fn how_left(state: u32) -> u32 {
    if (state & 0xffu) == 0u {
        return LEFT_READY;
    }
    if (state & 0x30u) != 0u {
        return LEFT_DEAD;
    }
    return select(LEFT_ASLEEP, LEFT_BLOCKED, (state & 2u) != 0u);
}

// A process: its id and 1.
fn task_at(at: u32, field: u32) -> u32 {
    return value_at(at, field).x + 1u;
}

// As it is told of: of one whose id is too large nothing is.
fn told_of(task: u32) -> u32 {
    return select(task, 0u, task > TASK);
}

@compute @workgroup_size(1)
fn switches(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let turn = turns[params.first + number];
    let lane = turn.lane;
    for (var p = 0u; p < turn.count; p++) {
        let place = places[turn.first + p];
        if place.lost != 0u {
            lose(lane, place.since);
        }
        let is_first = any(place.begin != vec2<u32>(NONE, NONE));
        if is_first && (lanes[lane].len == 0u || rings[newest(lane, 0u)].w >> 29u == LOST) {
            add(lane, vec4<u32>(place.begin, 0u, BEGINS << 29u));
        }
        for (var i = 0u; i < place.count; i++) {
            let entry = entries[place.entry + i];
            if entry.z == NONE {
                // There are no more records in the packet, and should be.
                lose(lane, entry.xy);
                break;
            }
            if entry.z == params.columns {
                let payload = payload_of(place, entry);
                let before = params.more[0];
                let after = params.more[1];
                let prev = told_of(task_at(payload + before.x, before.y));
                let kind = how_left(value_at(payload + before.z, before.w).x);
                let next = task_at(payload + after.x, after.y);
                tell_back(lane, prev);
                add(lane, vec4<u32>(entry.xy, next, kind << 29u | prev));
                if after.w != 0u && next != 0u {
                    name(next, payload + after.z);
                }
                continue;
            }
            for (var w = 2u; w < 5u; w++) {
                let wake = params.more[w];
                if entry.z == wake.x {
                    let task = task_at(payload_of(place, entry) + wake.y, wake.z);
                    var state = 0u;
                    if lanes[lane].len > 0u {
                        state = rings[newest(lane, 0u)].z;
                    }
                    add(lane, vec4<u32>(entry.xy, state, wake.w << 29u | told_of(task)));
                    break;
                }
            }
        }
    }
}
