// Which state of a lane held longest in each column. A workgroup has one column of one lane
// and a counter for each of up to 1024 states; more states take more dispatches, which the
// best so far is handed on through.

const SLOTS = 1024u;

struct Lane {
    // A ring of `capacity` transitions begins at `base`; the lane's are `len` from `first` on.
    base: u32,
    capacity: u32,
    first: u32,
    len: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lanes: array<Lane>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> bins: array<u32>;
@group(0) @binding(4) var<storage, read> transitions: array<vec4<u32>>;
// How long the state in the bin held. `params.a` is the first state of this dispatch.
@group(0) @binding(5) var<storage, read_write> longest: array<vec2<u32>>;

var<workgroup> low: array<atomic<u32>, SLOTS>;
var<workgroup> high: array<atomic<u32>, SLOTS>;
var<workgroup> best: array<vec3<u32>, 64>;

fn at(lane: Lane, i: u32) -> vec4<u32> {
    return transitions[lane.base + (lane.first + i) % lane.capacity];
}

// Whether (time, state) `a` is to be taken before `b`: longer, or as long and smaller.
fn better(a: vec3<u32>, b: vec3<u32>) -> bool {
    return earlier(b.xy, a.xy) || (all(a.xy == b.xy) && a.z < b.z);
}

@compute @workgroup_size(64)
fn states(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let bin = params.first * params.columns + number;
    let lane = lanes[bin / params.columns];
    let column = bin % params.columns;
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
    if all(begin == end) {
        if mine == 0u && params.a == 0u {
            var state = 0u;
            if next > 0u {
                state = at(lane, next - 1u).z;
            }
            bins[bin] = state;
            // Nothing is better.
            longest[bin] = vec2<u32>(NONE, NONE);
        }
        return;
    }

    for (var i = mine; i < SLOTS; i += 64u) {
        atomicStore(&low[i], 0u);
        atomicStore(&high[i], 0u);
    }
    workgroupBarrier();
    // From the one that holds at the beginning on; before the first one nothing is known.
    for (var i = max(next, 1u) - 1u + mine; i < stop; i += 64u) {
        let transition = at(lane, i);
        let slot = transition.z - params.a;
        if slot >= SLOTS || transition.z == 0u {
            continue;
        }
        var since = transition.xy;
        if earlier(since, begin) {
            since = begin;
        }
        var until = end;
        if i + 1u < stop {
            until = at(lane, i + 1u).xy;
        }
        let held = minus(until, since);
        let old = atomicAdd(&low[slot], held.x);
        let carry = select(0u, 1u, old + held.x < old);
        atomicAdd(&high[slot], held.y + carry);
    }
    workgroupBarrier();
    var mine_best = vec3<u32>(0u, 0u, 0u);
    for (var i = mine; i < SLOTS; i += 64u) {
        let held = vec3<u32>(atomicLoad(&low[i]), atomicLoad(&high[i]), params.a + i);
        if (held.x | held.y) != 0u && better(held, mine_best) {
            mine_best = held;
        }
    }
    best[mine] = mine_best;
    workgroupBarrier();
    if mine == 0u {
        var all_best = vec3<u32>(0u, 0u, 0u);
        if params.a != 0u {
            all_best = vec3<u32>(longest[bin], bins[bin]);
        }
        for (var i = 0u; i < 64u; i++) {
            if better(best[i], all_best) && (best[i].x | best[i].y) != 0u {
                all_best = best[i];
            }
        }
        bins[bin] = all_best.z;
        longest[bin] = all_best.xy;
    }
}
