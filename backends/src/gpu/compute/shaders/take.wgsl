// What `pick` and `switches` have in common. Both take something out of records, in their order:
// an invocation for each stream, which goes through the entries of the stream's packets and adds
// what it finds to the stream's ring.

struct Turn {
    lane: u32,
    // Its packets are those from `first` on.
    first: u32,
    count: u32,
    pad: u32,
}

struct Place {
    // What is to be added to an entry's offset to find its header in `data`.
    data: u32,
    // Its entries.
    entry: u32,
    count: u32,
    // Not 0: something is missing before the packet, from this time on.
    lost: u32,
    since: vec2<u32>,
    // From when on nothing is; NONE twice: its first records are not among the entries.
    begin: vec2<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> turns: array<Turn>;
@group(0) @binding(2) var<storage, read> places: array<Place>;
@group(0) @binding(3) var<storage, read> data: array<u32>;
@group(0) @binding(4) var<storage, read> entries: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lanes: array<Lane>;
@group(0) @binding(6) var<storage, read_write> rings: array<vec4<u32>>;

// Beside a field's bytes.
const SIGNED = 0x200u;

// Where a record's payload begins.
fn payload_of(place: Place, entry: vec4<u32>) -> u32 {
    let header = place.data + entry.w;
    return header + select(4u, 13u, (word_at(header) & 31u) == 31u);
}

// An integer of 1, 2, 4 or 8 bytes.
fn value_at(at: u32, field: u32) -> vec2<u32> {
    let bytes = field & 0xffu;
    var value = vec2<u32>(word_at(at), 0u);
    if bytes == 8u {
        value.y = word_at(at + 4u);
        return value;
    }
    let unused = 32u - 8u * bytes;
    if (field & SIGNED) != 0u {
        value.x = bitcast<u32>(bitcast<i32>(value.x << unused) >> unused);
        value.y = select(0u, NONE, value.x >= 0x80000000u);
    } else {
        value.x = value.x << unused >> unused;
    }
    return value;
}

fn add(lane: u32, what: vec4<u32>) {
    let ring = lanes[lane];
    if ring.capacity == 0u {
        return;
    }
    rings[ring.base + (ring.first + ring.len) % ring.capacity] = what;
    if ring.len < ring.capacity {
        lanes[lane].len = ring.len + 1u;
    } else {
        lanes[lane].first = (ring.first + 1u) % ring.capacity;
        lanes[lane].gone = 1u;
    }
}
