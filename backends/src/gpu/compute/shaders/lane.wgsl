// A stream's ring of 16 bytes each, in a buffer of many.
struct Lane {
    // It begins at `base`, and has room for `capacity`: `len` of it are something, from `first` on.
    base: u32,
    capacity: u32,
    first: u32,
    len: u32,
    // Not 0: older ones have been overwritten.
    gone: u32,
}

// Where the `i`th from the oldest lies. (A remainder is a division, which few devices are fast at.)
fn place_in(lane: Lane, i: u32) -> u32 {
    let place = lane.first + i;
    return lane.base + select(place, place - lane.capacity, place >= lane.capacity);
}
