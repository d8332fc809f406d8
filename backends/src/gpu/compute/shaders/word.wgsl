// Four bytes of the packets in `data`, wherever they begin.
fn word_at(at: u32) -> u32 {
    let shift = at % 4u * 8u;
    let first = data[at / 4u] >> shift;
    if shift == 0u {
        return first;
    }
    return first | (data[at / 4u + 1u] << (32u - shift));
}
