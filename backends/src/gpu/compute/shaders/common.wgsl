// What all shaders share. There are no integers of 64 bits: a time is (low, high).

// Of a dispatch; each of the shaders says what it makes of the letters.
struct Params {
    // Its tasks are those from `first` on, so many: one for each workgroup.
    first: u32,
    count: u32,
    columns: u32,
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    more: array<vec4<u32>, 5>,
}

const NONE = 0xffffffffu;

fn earlier(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// Which of a dispatch's tasks is this workgroup's: more of them than one dimension has go on
// in the second.
fn task_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// Numbers that are near each other, far apart. Its high bits are the better ones.
fn scatter(value: u32) -> u32 {
    return value * 0x9e3779b1u;
}
