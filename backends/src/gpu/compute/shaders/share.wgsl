// Moves what is in the streams' rings to rings of other sizes: the newest of each, as many as have
// room. A workgroup has one stream.

const THREADS = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> old_lanes: array<Lane>;
@group(0) @binding(2) var<storage, read> old_rings: array<vec4<u32>>;
// Empty, and where they lie.
@group(0) @binding(3) var<storage, read_write> lanes: array<Lane>;
@group(0) @binding(4) var<storage, read_write> rings: array<vec4<u32>>;

@compute @workgroup_size(THREADS)
fn share(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let stream = task_of(group, groups);
    if stream >= params.count {
        return;
    }
    let old = old_lanes[stream];
    let base = lanes[stream].base;
    let len = min(old.len, lanes[stream].capacity);
    let first = old.first + (old.len - len);
    for (var i = mine; i < len; i += THREADS) {
        rings[base + i] = old_rings[old.base + (first + i) % old.capacity];
    }
    if mine == 0u {
        lanes[stream].len = len;
        lanes[stream].gone = select(old.gone, 1u, len < old.len);
    }
}
