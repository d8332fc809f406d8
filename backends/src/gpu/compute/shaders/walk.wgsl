// Goes through the records of packets and makes an entry of the index for each: an invocation
// for each packet. Bytes are never trusted: each step takes at least the four bytes of a
// header and stops at the content's end, and only the packet's own room is written to.

struct Place {
    // Where the packet begins in `data`, in bytes; a multiple of 4.
    data: u32,
    header: u32,
    content: u32,
    begin_low: u32,
    begin_high: u32,
    end_low: u32,
    end_high: u32,
    base: u32,
    skip: u32,
    room: u32,
    // Its first entry in `entries`.
    entry: u32,
    // Not 0: this is the part of the packet that counts it in `totals`.
    last: u32,
}

const WALKERS = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> places: array<Place>;
// How many classes there are; then for each its size, or, with the top bit, where its parts
// are: how many they are, and for each what it is (0: bytes, 1: text, 2: a sequence) and how
// many bytes it, or an element of it, has.
@group(0) @binding(2) var<storage, read> classes: array<u32>;
// Records, records that were given up, entries that no record was found for, packets that
// could not be read to their end.
@group(0) @binding(3) var<storage, read_write> totals: array<atomic<u32>, 4>;
@group(0) @binding(4) var<storage, read> data: array<u32>;
@group(0) @binding(5) var<storage, read_write> entries: array<vec4<u32>>;

const PARTS = 0x80000000u;
const END = 0u;
const TRUNCATED = 1u;
const UNKNOWN = 2u;
const TIME = 3u;
const ROOM = 4u;

fn byte_at(at: u32) -> u32 {
    return (data[at / 4u] >> (at % 4u * 8u)) & 255u;
}

// Bytes of a payload that begins at `at`, of which there are at most `rest`; NONE: more.
fn payload_size(parts: u32, at: u32, rest: u32) -> u32 {
    var size = 0u;
    let count = classes[parts];
    for (var i = 0u; i < count; i++) {
        let kind = classes[parts + 1u + 2u * i];
        let bytes = classes[parts + 2u + 2u * i];
        var left = rest - size;
        if kind == 0u {
            if bytes > left {
                return NONE;
            }
            size += bytes;
        } else if kind == 1u {
            loop {
                if size >= rest {
                    return NONE;
                }
                size += 1u;
                if byte_at(at + size - 1u) == 0u {
                    break;
                }
            }
        } else {
            if left < 4u {
                return NONE;
            }
            left -= 4u;
            let length = word_at(at + size);
            if bytes != 0u && length > left / bytes {
                return NONE;
            }
            size += 4u + length * bytes;
        }
    }
    return size;
}

// The same of a record that was given up.
fn aborted_size(id: u32, at: u32, rest: u32) -> u32 {
    if id == 28u {
        return 0u;
    }
    if id == 29u {
        if rest < 1u {
            return NONE;
        }
        return 1u + byte_at(at);
    }
    if rest < 4u || word_at(at) > rest - 4u {
        return NONE;
    }
    return 4u + word_at(at);
}

@compute @workgroup_size(WALKERS)
fn walk(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) mine: u32,
) {
    let number = task_of(group, groups) * WALKERS + mine;
    if number >= params.count {
        return;
    }
    let place = places[params.first + number];
    let end = vec2<u32>(place.end_low, place.end_high);
    var time = vec2<u32>(place.begin_low, place.begin_high);
    var at = place.header;
    var found = 0u;
    var written = 0u;
    var aborted = 0u;
    var stop = END;
    while at < place.content {
        let left = place.content - at;
        let here = place.data + at;
        var now = time;
        var header = 4u;
        if left < 4u {
            stop = TRUNCATED;
            break;
        }
        let first = word_at(here);
        var id = first & 31u;
        if id == 31u {
            header = 13u;
            if left < 13u {
                stop = TRUNCATED;
                break;
            }
            id = word_at(here + 1u);
            now = vec2<u32>(word_at(here + 5u), word_at(here + 9u));
        } else {
            // At most one wrap since the record before.
            now = plus(time, vec2<u32>(((first >> 5u) - time.x) & 0x7ffffffu, 0u));
        }
        let rest = left - header;
        let given_up = id >= 28u && id <= 30u;
        var size = 0u;
        if given_up {
            size = aborted_size(id, here + header, rest);
        } else {
            var listed = id;
            if id > 30u {
                listed = id - 3u;
            }
            if listed >= classes[0] {
                stop = UNKNOWN;
                break;
            }
            size = classes[1u + listed];
            if (size & PARTS) != 0u {
                size = payload_size(size & ~PARTS, here + header, rest);
            }
        }
        if size > rest {
            stop = TRUNCATED;
            break;
        }
        if earlier(now, time) || earlier(end, now) {
            stop = TIME;
            break;
        }
        time = now;
        if given_up {
            aborted += 1u;
        } else {
            if found >= place.skip {
                if written >= place.room {
                    stop = ROOM;
                    break;
                }
                entries[place.entry + written] = vec4<u32>(now, id, place.base + at);
                written += 1u;
            }
            found += 1u;
        }
        at += header + size;
    }
    // A packet that has fewer records than it should: what is left is nothing, at the time of
    // the last one.
    for (var i = written; i < place.room; i++) {
        entries[place.entry + i] = vec4<u32>(time, NONE, 0u);
    }
    atomicAdd(&totals[0], written);
    atomicAdd(&totals[2], place.room - written);
    if place.last != 0u {
        atomicAdd(&totals[1], aborted);
        if stop != END {
            atomicAdd(&totals[3], 1u);
        }
    }
}
