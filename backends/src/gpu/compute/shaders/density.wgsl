// How many entries each column has, by a search for each edge. A task is a sorted run of
// entries and up to 64 edges that lie in it; an invocation looks for one of them.

struct Task {
    // The run.
    first: u32,
    len: u32,
    // The edges.
    edge: u32,
    edges: u32,
    // The bin of the run's first column.
    bin: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tasks: array<Task>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> bins: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read> entries: array<vec4<u32>>;

@compute @workgroup_size(64)
fn density(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let task = tasks[params.first + number];
    if mine >= task.edges {
        return;
    }
    let at = task.edge + mine;
    let edge = edges[at];
    // How many of the run are earlier than the edge.
    var before = 0u;
    var left = task.len;
    while left > 0u {
        let half = left / 2u;
        if earlier(entries[task.first + before + half].xy, edge) {
            before += half + 1u;
            left -= half + 1u;
        } else {
            left = half;
        }
    }
    // What lies before an edge is in the columns before it and in none behind it: with all
    // edges that is, modulo 2^32, what lies between them.
    if at > 0u {
        atomicAdd(&bins[task.bin + at - 1u], before);
    }
    if at < params.columns {
        atomicSub(&bins[task.bin + at], before);
    }
}
