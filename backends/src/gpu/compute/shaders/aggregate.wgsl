// The least, greatest and mean value of a field in each column. An invocation has one column
// of one sorted run of values; what earlier dispatches found of other runs is taken on.

// Signed numbers of 64 bits, and a sum of 96.
struct Found {
    min: vec2<u32>,
    max: vec2<u32>,
    sum: vec3<u32>,
    count: u32,
}

// `a` is the run's first column of all in `bins`. Where values have been overwritten, columns that
// begin before those that are left are not known.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Lane>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
// Eight words for each column: least, greatest, sum, how many (NONE: not known).
@group(0) @binding(3) var<storage, read_write> bins: array<u32>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;

fn less(a: vec2<u32>, b: vec2<u32>) -> bool {
    let x = bitcast<i32>(a.y);
    let y = bitcast<i32>(b.y);
    return x < y || (x == y && a.x < b.x);
}

fn both(a: Found, b: Found) -> Found {
    var out = a;
    if less(b.min, a.min) {
        out.min = b.min;
    }
    if less(a.max, b.max) {
        out.max = b.max;
    }
    let low = a.sum.x + b.sum.x;
    let rest = plus(a.sum.yz, b.sum.yz);
    out.sum = vec3<u32>(low, plus(rest, vec2<u32>(select(0u, 1u, low < a.sum.x), 0u)));
    out.count = a.count + b.count;
    return out;
}

fn value_at(run: Lane, i: u32) -> vec4<u32> {
    return values[place_in(run, i)];
}

fn before(run: Lane, edge: vec2<u32>) -> u32 {
    var before = 0u;
    var left = run.len;
    while left > 0u {
        let half = left / 2u;
        if earlier(value_at(run, before + half).xy, edge) {
            before += half + 1u;
            left -= half + 1u;
        } else {
            left = half;
        }
    }
    return before;
}

@compute @workgroup_size(64)
fn aggregate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups) * 64u + mine;
    if number >= params.count {
        return;
    }
    let run = runs[params.first];
    let begin = before(run, edges[number]);
    let end = before(run, edges[number + 1u]);
    var all: Found;
    all.min = vec2<u32>(NONE, 0x7fffffffu);
    all.max = vec2<u32>(0u, 0x80000000u);
    for (var i = begin; i < end; i++) {
        let value = value_at(run, i).zw;
        let sign = select(0u, NONE, value.y >= 0x80000000u);
        all = both(all, Found(value, value, vec3<u32>(value, sign), 1u));
    }
    let bin = (params.a + number) * 8u;
    if bins[bin + 7u] == NONE || (run.gone != 0u && earlier(edges[number], value_at(run, 0u).xy)) {
        bins[bin + 7u] = NONE;
        return;
    }
    let old = Found(
        vec2<u32>(bins[bin], bins[bin + 1u]),
        vec2<u32>(bins[bin + 2u], bins[bin + 3u]),
        vec3<u32>(bins[bin + 4u], bins[bin + 5u], bins[bin + 6u]),
        bins[bin + 7u],
    );
    let sum = both(old, all);
    bins[bin] = sum.min.x;
    bins[bin + 1u] = sum.min.y;
    bins[bin + 2u] = sum.max.x;
    bins[bin + 3u] = sum.max.y;
    bins[bin + 4u] = sum.sum.x;
    bins[bin + 5u] = sum.sum.y;
    bins[bin + 6u] = sum.sum.z;
    bins[bin + 7u] = sum.count;
}
