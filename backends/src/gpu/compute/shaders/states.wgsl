// Which states a lane was in in each column, and how long, where `few` has no room for so many.
// A workgroup has one column of one lane after the other, and a table of the states that it meets
// there, found by their hash.

const SLOTS = 1024u;

// Columns of lanes that are to be done.
struct Many {
    count: u32,
    list: array<u32>,
}

@group(0) @binding(5) var<storage, read> many: Many;

// A state, 0: none, and how long it held.
var<workgroup> keys: array<atomic<u32>, SLOTS>;
var<workgroup> low: array<atomic<u32>, SLOTS>;
var<workgroup> high: array<atomic<u32>, SLOTS>;
// Not 0: a state had no slot.
var<workgroup> full: atomic<u32>;
var<workgroup> again: u32;
// Time, state, slot.
var<workgroup> best: array<vec4<u32>, THREADS>;
// How long all known states held.
var<workgroup> all_low: atomic<u32>;
var<workgroup> all_high: atomic<u32>;

// Whether (time, state) `a` is to be taken before `b`: longer, or as long and smaller.
fn better(a: vec4<u32>, b: vec4<u32>) -> bool {
    return earlier(b.xy, a.xy) || (all(a.xy == b.xy) && a.z < b.z);
}

// Adds a time to a state's, if there is a slot for it.
fn hold(state: u32, held: vec2<u32>, room: u32) {
    var slot = (scatter(state) >> 16u) & (room - 1u);
    for (var tries = 0u; tries < room;) {
        let seen = atomicCompareExchangeWeak(&keys[slot], 0u, state);
        if seen.exchanged || seen.old_value == state {
            let old = atomicAdd(&low[slot], held.x);
            let carry = select(0u, 1u, old + held.x < old);
            atomicAdd(&high[slot], held.y + carry);
            return;
        }
        // Weak: it may fail where it should not; then the same slot once more.
        if seen.old_value != 0u {
            slot = (slot + 1u) & (room - 1u);
            tries += 1u;
        }
    }
    atomicStore(&full, 1u);
}

@compute @workgroup_size(THREADS)
fn states(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    for (var i = group.x; i < many.count; i += groups.x) {
        column_of(many.list[i], mine);
    }
}

fn column_of(number: u32, mine: u32) {
    let bin = number * WORDS;
    let lane = lanes[number / params.columns];
    let column = number % params.columns;
    let until = vec2<u32>(params.a, params.b);
    let begin = edges[column];
    let end = edges[column + 1u];

    // How many transitions are not later than the beginning, and earlier than the end.
    var next = 0u;
    var left = lane.len;
    while left > 0u {
        let half = left / 2u;
        if !earlier(begin, at(lane, next + half).xy) {
            next += half + 1u;
            left -= half + 1u;
        } else {
            left = half;
        }
    }
    var stop = next;
    left = lane.len - next;
    while left > 0u {
        let half = left / 2u;
        if earlier(at(lane, stop + half).xy, end) {
            stop += half + 1u;
            left -= half + 1u;
        } else {
            left = half;
        }
    }
    // From the one that holds at the beginning on; before the first one nothing is known.
    let first = max(next, 1u) - 1u;
    // Twice as many slots as states can come, if there are so many.
    let wanted = min(2u * min(stop - first, SLOTS), SLOTS);
    let room = max(THREADS, 1u << (32u - countLeadingZeros(wanted - 1u)));
    // Where there are more states than slots: those of a part of the hashes, then of the next.
    var parts = 1u;
    loop {
        if mine == 0u {
            atomicStore(&full, 0u);
            atomicStore(&all_low, 0u);
            atomicStore(&all_high, 0u);
        }
        var top: array<vec4<u32>, APART>;
        for (var k = 0u; k < APART; k++) {
            top[k] = vec4<u32>(0u, 0u, 0u, 0u);
        }
        for (var part = 0u; part < parts; part++) {
            for (var i = mine; i < room; i += THREADS) {
                atomicStore(&keys[i], 0u);
                atomicStore(&low[i], 0u);
                atomicStore(&high[i], 0u);
            }
            workgroupBarrier();
            for (var i = first + mine; i < stop; i += THREADS) {
                let transition = at(lane, i);
                if transition.z == 0u || ((scatter(transition.z) >> 4u) & (parts - 1u)) != part {
                    continue;
                }
                var since = transition.xy;
                if earlier(since, begin) {
                    since = begin;
                }
                var then = end;
                if i + 1u < stop {
                    then = at(lane, i + 1u).xy;
                }
                then = sooner(then, until);
                if !earlier(since, then) {
                    continue;
                }
                let held = minus(then, since);
                hold(transition.z, held, room);
                let old = atomicAdd(&all_low, held.x);
                let carry = select(0u, 1u, old + held.x < old);
                atomicAdd(&all_high, held.y + carry);
            }
            workgroupBarrier();
            for (var k = 0u; k < APART; k++) {
                var mine_best = vec4<u32>(0u, 0u, 0u, 0u);
                for (var i = mine; i < room; i += THREADS) {
                    let key = atomicLoad(&keys[i]);
                    let held = vec4<u32>(atomicLoad(&low[i]), atomicLoad(&high[i]), key, i);
                    if key != 0u && better(held, mine_best) {
                        mine_best = held;
                    }
                }
                best[mine] = mine_best;
                workgroupBarrier();
                for (var half = THREADS / 2u; half > 0u; half /= 2u) {
                    if mine < half && better(best[mine + half], best[mine]) {
                        best[mine] = best[mine + half];
                    }
                    workgroupBarrier();
                }
                if mine == 0u {
                    var one = best[0];
                    // Not once more.
                    atomicStore(&low[one.w], 0u);
                    atomicStore(&high[one.w], 0u);
                    for (var j = 0u; j < APART; j++) {
                        if better(one, top[j]) {
                            let other = top[j];
                            top[j] = one;
                            one = other;
                        }
                    }
                }
                workgroupBarrier();
            }
        }
        if mine == 0u {
            again = atomicLoad(&full);
            if again == 0u {
                var others = vec2<u32>(atomicLoad(&all_low), atomicLoad(&all_high));
                for (var k = 0u; k < APART; k++) {
                    bins[bin + 3u * k] = top[k].z;
                    bins[bin + 3u * k + 1u] = top[k].x;
                    bins[bin + 3u * k + 2u] = top[k].y;
                    others = minus(others, top[k].xy);
                }
                bins[bin + 3u * APART] = others.x;
                bins[bin + 3u * APART + 1u] = others.y;
            }
        }
        let more = workgroupUniformLoad(&again);
        if more == 0u || parts >= 4096u {
            break;
        }
        parts *= 4u;
    }
}
