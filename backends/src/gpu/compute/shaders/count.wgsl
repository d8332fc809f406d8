// How many entries of some classes each column has, by looking at all of them. A task is a
// block of entries in any order; an invocation takes every 64th, and adds up neighbours that
// fall in one bin before it adds them to the bin.

struct Task {
    first: u32,
    len: u32,
    // The bin of the first column of the first row.
    bin: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tasks: array<Task>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> bins: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read> entries: array<vec4<u32>>;
// The row of each class, or NONE: `params.a` of them; classes beyond have the row `params.b`.
@group(0) @binding(5) var<storage, read> rows: array<u32>;

@compute @workgroup_size(64)
fn count(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let task = tasks[params.first + number];
    // Where the last time was: in `column`, from `begin` up to `end`; NONE: outside.
    var column = NONE;
    var begin = vec2<u32>(0u, 0u);
    var end = vec2<u32>(0u, 0u);
    var bin = NONE;
    var found = 0u;
    for (var i = mine; i < task.len; i += 64u) {
        let entry = entries[task.first + i];
        let id = entry.z;
        var row = params.b;
        if id < params.a {
            row = rows[id];
        }
        if row == NONE || id == NONE {
            continue;
        }
        if earlier(entry.xy, begin) || !earlier(entry.xy, end) {
            if earlier(entry.xy, edges[0]) || !earlier(entry.xy, edges[params.columns]) {
                continue;
            }
            // The last edge that is not later.
            var low = 0u;
            var high = params.columns;
            while high - low > 1u {
                let middle = (low + high) / 2u;
                if earlier(entry.xy, edges[middle]) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            column = low;
            begin = edges[low];
            end = edges[high];
        }
        let here = task.bin + row * params.columns + column;
        if here != bin {
            if found > 0u {
                atomicAdd(&bins[bin], found);
            }
            bin = here;
            found = 0u;
        }
        found += 1u;
    }
    if found > 0u {
        atomicAdd(&bins[bin], found);
    }
}
