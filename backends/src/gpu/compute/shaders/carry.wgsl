// What processes did in each column: an invocation for each process goes through its columns, and
// knows what it was in when each began.
//
// `count` processes; `columns` columns, of which those from `c` on are the picture's; from the
// time (`a`, `b`) on nothing is known.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> marks: array<Mark>;
// Ran, waited, was blocked, slept (each low, high), and the first stream on which it ran, and 1.
@group(0) @binding(3) var<storage, read_write> bins: array<u32>;

const WORDS = 9u;
const PROCESSES = 8u;

fn bin_of(process: u32, column: u32) -> u32 {
    return (process * (params.columns - params.c) + column - params.c) * WORDS;
}

fn put(bin: u32, state: u32, time: vec2<u32>) {
    let at = bin + 2u * place_of(state);
    let sum = plus(vec2<u32>(bins[at], bins[at + 1u]), time);
    bins[at] = sum.x;
    bins[at + 1u] = sum.y;
}

// It was in a state from a time in the first of these columns to a time in the last one.
fn held(process: u32, state: u32, since: vec2<u32>, time: vec2<u32>, first: u32, last: u32) {
    if state == UNKNOWN {
        return;
    }
    let until = vec2<u32>(params.a, params.b);
    var end = time;
    if earlier(until, end) {
        end = until;
    }
    for (var column = max(first, params.c); column <= last; column++) {
        var begin = edges[column];
        if !earlier(begin, end) {
            break;
        }
        if earlier(begin, since) {
            begin = since;
        }
        var then = edges[column + 1u];
        if earlier(end, then) {
            then = end;
        }
        if earlier(begin, then) {
            let bin = bin_of(process, column);
            put(bin, state, minus(then, begin));
            if state >= RUNNING && bins[bin + 8u] == 0u {
                bins[bin + 8u] = state - RUNNING + 1u;
            }
        }
    }
}

@compute @workgroup_size(PROCESSES)
fn carry(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let process = task_of(group, groups) * PROCESSES + mine;
    if process >= params.count || params.columns == params.c {
        return;
    }
    var state = UNKNOWN;
    var since = vec2<u32>(0u, 0u);
    var column = 0u;
    for (var here = 0u; here < params.columns; here++) {
        let mark = process * params.columns + here;
        if marks[mark].woken != 0u && can_be_woken(state) {
            let time = vec2<u32>(marks[mark].woken_low, marks[mark].woken_high);
            held(process, state, since, time, column, here);
            state = WAITING;
            since = time;
            column = here;
        }
        let first = marks[mark].first;
        if first == 0u {
            continue;
        }
        if is_so(state, (first - 1u) / 3u, (first - 1u) % 3u) {
            let time = vec2<u32>(marks[mark].first_low, marks[mark].first_high);
            held(process, state, since, time, column, here);
        }
        if here >= params.c {
            let bin = bin_of(process, here);
            for (var place = 0u; place < 4u; place++) {
                let time = vec2<u32>(marks[mark].low[place], marks[mark].high[place]);
                if any(time != vec2<u32>(0u, 0u)) {
                    put(bin, place, time);
                }
            }
            if bins[bin + 8u] == 0u {
                bins[bin + 8u] = marks[mark].on;
            }
        }
        state = marks[mark].state;
        since = vec2<u32>(marks[mark].since_low, marks[mark].since_high);
        column = here;
    }
    let end = edges[params.columns];
    held(process, state, since, end, column, params.columns - 1u);
}
