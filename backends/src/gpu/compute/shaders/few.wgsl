// Which states a lane was in in each column, and how long: an invocation for each column of each
// lane, which has room for some states. What it has no room for, `states` does after it.

const ROOM = 48u;

// Columns of lanes that are left to be done.
struct Many {
    count: atomic<u32>,
    list: array<u32>,
}

@group(0) @binding(5) var<storage, read_write> many: Many;

@compute @workgroup_size(THREADS)
fn few(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups) * THREADS + mine;
    if number >= params.count {
        return;
    }
    let bin = number * WORDS;
    let lane = lanes[number / params.columns];
    let column = number % params.columns;
    let until = vec2<u32>(params.a, params.b);
    let begin = edges[column];
    let end = edges[column + 1u];
    if !earlier(begin, until) {
        return;
    }

    // How many transitions are not later than the beginning.
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
    var state = 0u;
    if next > 0u {
        state = at(lane, next - 1u).z;
    }
    if !earlier(begin, end) {
        bins[bin] = state;
        return;
    }
    var keys: array<u32, ROOM>;
    var times: array<vec2<u32>, ROOM>;
    var used = 0u;
    var since = begin;
    loop {
        var then = end;
        var after = 0u;
        if next < lane.len {
            let transition = at(lane, next);
            if earlier(transition.xy, end) {
                then = transition.xy;
                after = transition.z;
            }
        }
        let known = sooner(then, until);
        if state != 0u && earlier(since, known) {
            var j = 0u;
            while j < used && keys[j] != state {
                j += 1u;
            }
            if j == ROOM {
                many.list[atomicAdd(&many.count, 1u)] = number;
                return;
            }
            let held = minus(known, since);
            if j == used {
                keys[j] = state;
                times[j] = held;
                used += 1u;
            } else {
                times[j] = plus(times[j], held);
            }
        }
        if !earlier(then, end) {
            break;
        }
        since = then;
        state = after;
        next += 1u;
    }
    for (var k = 0u; k < APART && k < used; k++) {
        var best = k;
        for (var j = k + 1u; j < used; j++) {
            let longer = earlier(times[best], times[j]);
            if longer || (all(times[j] == times[best]) && keys[j] < keys[best]) {
                best = j;
            }
        }
        bins[bin + 3u * k] = keys[best];
        bins[bin + 3u * k + 1u] = times[best].x;
        bins[bin + 3u * k + 2u] = times[best].y;
        keys[best] = keys[k];
        times[best] = times[k];
    }
    var others = vec2<u32>(0u, 0u);
    for (var j = APART; j < used; j++) {
        others = plus(others, times[j]);
    }
    bins[bin + 3u * APART] = others.x;
    bins[bin + 3u * APART + 1u] = others.y;
}
