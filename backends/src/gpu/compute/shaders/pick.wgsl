// Takes a field out of the records of one class, in their order: an invocation for each stream,
// which goes through the entries of the stream's packets and adds what it finds to the stream's
// ring: the state that a lane is in from then on, or the field's value.

struct Lane {
    // The stream's ring of `capacity`, and which of it hold something.
    base: u32,
    capacity: u32,
    first: u32,
    len: u32,
}

struct Turn {
    lane: u32,
    // Its packets are those from `first` on.
    first: u32,
    count: u32,
    pad: u32,
}

struct Place {
    // What is to be added to an entry's offset to find its header in `data`.
    data: u32,
    // Its entries.
    entry: u32,
    count: u32,
    // Not 0: something is missing before the packet, from this time on.
    lost: u32,
    since_low: u32,
    since_high: u32,
    pad0: u32,
    pad1: u32,
}

// `columns` is the class; `a` where the field begins in the payload; `b` its bytes, and what is
// wanted of it; `c` where a text begins that says what the state is called, `d` how many bytes
// of it, at most 16.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> turns: array<Turn>;
@group(0) @binding(2) var<storage, read> places: array<Place>;
@group(0) @binding(3) var<storage, read> data: array<u32>;
@group(0) @binding(4) var<storage, read> entries: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lanes: array<Lane>;
@group(0) @binding(6) var<storage, read_write> rings: array<vec4<u32>>;
// What states are called: the state, 0: none, its text, and a sum of both. Whoever writes one may
// meet another who does: then the sum is wrong.
@group(0) @binding(7) var<storage, read_write> labels: array<array<atomic<u32>, LABEL>, LABELS>;

const LABELS = 2048u;
const LABEL = 6u;
// How many places are tried for a state.
const TRIES = 8u;
const STATES = 0x100u;
const SIGNED = 0x200u;

fn word_at(at: u32) -> u32 {
    let shift = at % 4u * 8u;
    let first = data[at / 4u] >> shift;
    if shift == 0u {
        return first;
    }
    return first | (data[at / 4u + 1u] << (32u - shift));
}

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
        let left = params.d - min(params.d, 4u * i);
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

fn add(lane: u32, what: vec4<u32>) {
    let ring = lanes[lane];
    if ring.capacity == 0u {
        return;
    }
    rings[ring.base + (ring.first + ring.len) % ring.capacity] = what;
    if ring.len < ring.capacity {
        lanes[lane].len = ring.len + 1u;
    } else {
        lanes[lane].first = (ring.first + 1u) % ring.capacity;
    }
}

// From this time on the state is not known. If it is not already, that needs no place.
fn forget(lane: u32, time: vec2<u32>) {
    let ring = lanes[lane];
    if ring.len > 0u && rings[ring.base + (ring.first + ring.len - 1u) % ring.capacity].z == 0u {
        return;
    }
    add(lane, vec4<u32>(time, 0u, 0u));
}

@compute @workgroup_size(1)
fn pick(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let turn = turns[params.first + number];
    let bytes = params.b & 0xffu;
    for (var p = 0u; p < turn.count; p++) {
        let place = places[turn.first + p];
        if place.lost != 0u && (params.b & STATES) != 0u {
            forget(turn.lane, vec2<u32>(place.since_low, place.since_high));
        }
        for (var i = 0u; i < place.count; i++) {
            let entry = entries[place.entry + i];
            if entry.z == NONE {
                // There are no more records in the packet, and should be.
                if (params.b & STATES) != 0u {
                    forget(turn.lane, entry.xy);
                }
                break;
            }
            if entry.z != params.columns {
                continue;
            }
            let header = place.data + entry.w;
            let payload = header + select(4u, 13u, (word_at(header) & 31u) == 31u);
            let at = payload + params.a;
            var value = vec2<u32>(word_at(at), 0u);
            if bytes == 8u {
                value.y = word_at(at + 4u);
            } else {
                let unused = 32u - 8u * bytes;
                if (params.b & SIGNED) != 0u {
                    value.x = bitcast<u32>(bitcast<i32>(value.x << unused) >> unused);
                    value.y = select(0u, NONE, value.x >= 0x80000000u);
                } else {
                    value.x = value.x << unused >> unused;
                }
            }
            if (params.b & STATES) != 0u {
                let state = value.x + 1u;
                add(turn.lane, vec4<u32>(entry.xy, state, 0u));
                if params.d != 0u && state != 0u {
                    name(state, payload + params.c);
                }
            } else {
                add(turn.lane, vec4<u32>(entry.xy, value));
            }
        }
    }
}
