// What processes did in each column, as far as the column alone tells: an invocation for each
// column goes through what all CPUs' streams tell in it, in the order of time, and of the streams
// where that is the same. The twin is timeline/threads.rs, which goes through all columns in turn.
//
// `count` columns, of which those from `b` on are the picture's (what is before that only tells
// what processes are in when it begins); `a` streams; the table of processes has `c` places, a
// power of two; at most `d` wake-ups are told; from the time in `more` on nothing is known.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lanes: array<Lane>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> transitions: array<vec4<u32>>;
// Processes that are asked for, by their hash: an id and 1, 0: none, and which one it is.
@group(0) @binding(4) var<storage, read> tasks: array<vec2<u32>>;
// For each column a heap of the streams that have something left in it: when (low, high), which
// stream, which of its transitions.
@group(0) @binding(5) var<storage, read_write> heads: array<vec4<u32>>;
// Process after process, each with all columns.
@group(0) @binding(6) var<storage, read_write> marks: array<Mark>;
@group(0) @binding(7) var<storage, read_write> woken: Woken;

struct Woken {
    count: atomic<u32>,
    // When (low, high), the stream, who ran there, who was woken, how that was told.
    list: array<array<u32, 6>>,
}

const THREADS = 32u;

fn at(stream: u32, i: u32) -> vec4<u32> {
    let lane = lanes[stream];
    return transitions[place_in(lane, i)];
}

// Whether one head is to be taken before another.
fn before(a: vec4<u32>, b: vec4<u32>) -> bool {
    return earlier(a.xy, b.xy) || (all(a.xy == b.xy) && a.z < b.z);
}

// Puts one into a column's heap, which has so many.
fn push(base: u32, count: u32, one: vec4<u32>) {
    var place = count;
    while place > 0u {
        let above = (place - 1u) / 2u;
        let other = heads[base + above];
        if !before(one, other) {
            break;
        }
        heads[base + place] = other;
        place = above;
    }
    heads[base + place] = one;
}

// Puts one in the place of the first one.
fn replace(base: u32, count: u32, one: vec4<u32>) {
    var place = 0u;
    loop {
        var below = 2u * place + 1u;
        if below >= count {
            break;
        }
        var other = heads[base + below];
        if below + 1u < count {
            let right = heads[base + below + 1u];
            if before(right, other) {
                other = right;
                below += 1u;
            }
        }
        if !before(other, one) {
            break;
        }
        heads[base + place] = other;
        place = below;
    }
    heads[base + place] = one;
}

// Where a process's mark is in the first column; NONE: it is not asked for.
fn mark_of(task: u32) -> u32 {
    if task == 0u {
        return NONE;
    }
    for (var i = scatter(task) >> 16u;; i++) {
        let one = tasks[i & (params.c - 1u)];
        if one.x == task {
            return one.y * params.count;
        }
        if one.x == 0u {
            return NONE;
        }
    }
    return NONE;
}

// It was what it is thought to be until now.
fn held(mark: u32, time: vec2<u32>) {
    let state = marks[mark].state;
    let since = vec2<u32>(marks[mark].since_low, marks[mark].since_high);
    var end = params.more[0].xy;
    if earlier(time, end) {
        end = time;
    }
    if state == UNKNOWN || !earlier(since, end) {
        return;
    }
    let place = place_of(state);
    let sum = plus(vec2<u32>(marks[mark].low[place], marks[mark].high[place]), minus(end, since));
    marks[mark].low[place] = sum.x;
    marks[mark].high[place] = sum.y;
    if state >= RUNNING && marks[mark].on == 0u {
        marks[mark].on = state - RUNNING + 1u;
    }
}

fn change(mark: u32, time: vec2<u32>, state: u32) {
    marks[mark].state = state;
    marks[mark].since_low = time.x;
    marks[mark].since_high = time.y;
}

// It does something on a stream's CPU, and is in this state then.
fn moves(mark: u32, time: vec2<u32>, stream: u32, does: u32, state: u32) {
    if marks[mark].first == 0u {
        marks[mark].first = 1u + 3u * stream + does;
        marks[mark].first_low = time.x;
        marks[mark].first_high = time.y;
    } else if is_so(marks[mark].state, stream, does) {
        held(mark, time);
    }
    change(mark, time, state);
}

fn wake(mark: u32, time: vec2<u32>) {
    if marks[mark].first == 0u {
        if marks[mark].woken == 0u {
            marks[mark].woken = 1u;
            marks[mark].woken_low = time.x;
            marks[mark].woken_high = time.y;
        }
    } else if can_be_woken(marks[mark].state) {
        held(mark, time);
        change(mark, time, WAITING);
    }
}

@compute @workgroup_size(THREADS)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let column = task_of(group, groups) * THREADS + mine;
    if column >= params.count {
        return;
    }
    let begin = edges[column];
    let end = edges[column + 1u];
    if column > 0u && !earlier(begin, end) {
        return;
    }
    let base = column * params.a;
    var count = 0u;
    for (var stream = 0u; stream < params.a; stream++) {
        let len = lanes[stream].len;
        // How many are earlier than the column.
        var next = 0u;
        var left = len;
        while left > 0u {
            let half = left / 2u;
            if earlier(at(stream, next + half).xy, begin) {
                next += half + 1u;
                left -= half + 1u;
            } else {
                left = half;
            }
        }
        if column == 0u && next > 0u {
            // Who ran when all that is looked at began.
            push(base, count, vec4<u32>(begin, stream, next - 1u));
            count += 1u;
        } else if next < len {
            let time = at(stream, next).xy;
            if earlier(time, end) {
                push(base, count, vec4<u32>(time, stream, next));
                count += 1u;
            }
        }
    }
    while count > 0u {
        let head = heads[base];
        let stream = head.z;
        one(column, head.xy, stream, head.w, column == 0u && earlier(at(stream, head.w).xy, begin));
        let next = head.w + 1u;
        if next < lanes[stream].len {
            let time = at(stream, next).xy;
            if earlier(time, end) {
                replace(base, count, vec4<u32>(time, stream, next));
                continue;
            }
        }
        count -= 1u;
        replace(base, count, heads[base + count]);
    }
}

// What one transition tells; of an older one no more than who runs.
fn one(column: u32, time: vec2<u32>, stream: u32, place: u32, is_older: bool) {
    let what = at(stream, place);
    let kind = what.w >> 29u;
    let task = what.w & TASK;
    if !is_older {
        if kind == WOKEN || kind == WAKING {
            let mark = mark_of(task);
            if mark != NONE {
                wake(mark + column, time);
                if column >= params.b {
                    let number = atomicAdd(&woken.count, 1u);
                    if number < params.d {
                        woken.list[number] = array(time.x, time.y, stream, what.z, task, kind);
                    }
                }
            }
            return;
        }
        var who = task;
        var state = UNKNOWN;
        if kind == LOST || kind == BEGINS || task == 0u {
            // Who was thought to run does no longer.
            who = 0u;
            if place > 0u {
                who = known(at(stream, place - 1u));
            }
        } else if kind == LEFT_READY {
            state = WAITING;
        } else if kind == LEFT_ASLEEP {
            state = ASLEEP;
        } else if kind == LEFT_BLOCKED {
            state = BLOCKED;
        }
        let mark = mark_of(who);
        if mark != NONE {
            moves(mark + column, time, stream, LEAVES, state);
        }
    }
    let left_untold = (what.w & LEFT_UNTOLD) != 0u;
    if left_untold && is_older {
        return;
    }
    let mark = mark_of(what.z);
    if mark != NONE {
        let does = select(COMES, IS_THERE, kind == BEGINS);
        moves(mark + column, time, stream, does, select(RUNNING + stream, UNKNOWN, left_untold));
    }
}
