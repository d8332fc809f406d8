// What `few` and `states` have in common: lanes of transitions, and what a column of one is told as.

const THREADS = 64u;
// States that are told apart, and the words of a column: state and time of each, time of others.
const APART = 3u;
const WORDS = 11u;

// From the time (`a`, `b`) on nothing is known.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lanes: array<Lane>;
@group(0) @binding(2) var<storage, read> edges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> bins: array<u32>;
@group(0) @binding(4) var<storage, read> transitions: array<vec4<u32>>;

fn at(lane: Lane, i: u32) -> vec4<u32> {
    var one = transitions[place_in(lane, i)];
    one.z = known(one);
    return one;
}

fn sooner(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, earlier(a, b));
}

