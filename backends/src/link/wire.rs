//! What lies on the wire: delimiters, frames, and the numbers in them.

/// A frame's longest body and checksum, whatever the sender says: the largest `frame`.
pub(super) const LONGEST: usize = 4096;
/// Bytes of the checksum.
pub(super) const CHECK: usize = 4;

/// How often a sender says who it is (ns).
pub(super) const HELLO_EVERY: u64 = 2_000_000_000;

/// This protocol's version, of two bits.
const VERSION: u8 = 1;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who the sender is.
    Hello = 1,
    /// A stream.
    Stream = 2,
    /// An event class.
    Class = 3,
    /// Records.
    Data = 4,
    /// What became of a stream's records.
    Totals = 5,
    /// A piece of a body that no frame holds.
    Piece = 6,
    /// An answer to a line of the back-channel.
    Reply = 7,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [Self::Hello, Self::Stream, Self::Class, Self::Data, Self::Totals, Self::Piece, Self::Reply]
            .into_iter()
            .find(|k| *k as u8 == number)
    }
}

/// Which announcements a frame relies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Ten bits that tell sessions apart, with few exceptions.
    pub(super) tag: u16,
    /// The generation of the session.
    pub(super) generation: u8,
}

/// Begins a body.
pub(super) fn head(kind: Kind, epoch: Epoch, out: &mut Vec<u8>) {
    let [low, high] = epoch.tag.to_le_bytes();
    out.extend([VERSION << 6 | (kind as u8) << 2 | (high & 3), low, epoch.generation]);
}

/// A body's beginning; `None`: not of this version.
pub(super) fn read_head(body: &[u8]) -> Option<(Kind, Epoch, &[u8])> {
    let (&[first, low, generation], rest) = body.split_first_chunk()?;
    let kind = Kind::of(first >> 2 & 15).filter(|_| first >> 6 == VERSION)?;
    let tag = u16::from_le_bytes([low, first & 3]);
    Some((kind, Epoch { tag, generation }, rest))
}

/// A number, seven bits a byte, the lowest first.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number.
pub(super) fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        if place == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a number of 32 bits.
pub(super) fn read_small(bytes: &mut &[u8]) -> Option<u32> {
    read_number(bytes)?.try_into().ok()
}

/// A count, then bytes.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Takes a count and bytes.
pub(super) fn read_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = usize::try_from(read_number(bytes)?).ok()?;
    let (mine, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(mine)
}

/// A signed number as one that is small where it is near 0.
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The way back.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes of the longest body that a frame of `frame` bytes holds: less the delimiter, the
/// checksum, and what stuffing adds.
pub(super) fn room(frame: usize) -> usize {
    let stuffed = frame - 1;
    stuffed - stuffed.div_ceil(255) - CHECK
}

/// A frame: the body and its CRC32C, stuffed (S. Cheshire, M. Baker, "Consistent Overhead Byte
/// Stuffing", 1997), and a delimiter. `begin`: a delimiter before it, too.
pub(super) fn frame(body: &[u8], begin: bool, out: &mut Vec<u8>) {
    if begin {
        out.push(0);
    }
    let check = crc32c::crc32c(body).to_le_bytes();
    let mut code_at = out.len();
    out.push(0);
    for &byte in body.iter().chain(&check) {
        // A full group is opened anew only where something follows it.
        if out.len() - code_at == 255 {
            out[code_at] = 255;
            code_at = out.len();
            out.push(0);
        }
        if byte == 0 {
            out[code_at] = (out.len() - code_at) as u8;
            code_at = out.len();
            out.push(0);
        } else {
            out.push(byte);
        }
    }
    out[code_at] = (out.len() - code_at) as u8;
    out.push(0);
}

/// The body of what lies between two delimiters, if it is a whole frame: appended to `body`, which is
/// cleared first.
pub(super) fn unframe(piece: &[u8], body: &mut Vec<u8>) -> bool {
    body.clear();
    if piece.len() < CHECK + 3 || piece.len() > LONGEST {
        return false;
    }
    let mut rest = piece;
    while let Some((&code, after)) = rest.split_first() {
        let n = usize::from(code).wrapping_sub(1);
        let Some((group, after)) = after.split_at_checked(n) else { return false };
        if group.contains(&0) {
            return false;
        }
        body.extend_from_slice(group);
        rest = after;
        if code != 255 && !rest.is_empty() {
            body.push(0);
        }
    }
    let Some((_, check)) = body.split_last_chunk::<CHECK>() else { return false };
    let check = u32::from_le_bytes(*check);
    let length = body.len() - CHECK;
    body.truncate(length);
    length >= 2 && crc32c::crc32c(body) == check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back_and_keep_to_their_room() {
        for frame_limit in [64, 254, 255, 256, 257, 508, 4096] {
            for length in 2..=room(frame_limit) {
                for fill in [0u8, 1, 255] {
                    let body: Vec<u8> = (0..length)
                        .map(|i| if i % 300 == 299 { 0 } else { fill.wrapping_mul(i as u8 | 1) })
                        .collect();
                    let mut out = Vec::new();
                    frame(&body, false, &mut out);
                    assert!(out.len() <= frame_limit, "{length}: {} bytes", out.len());
                    assert_eq!(out.iter().position(|b| *b == 0), Some(out.len() - 1));
                    let mut back = Vec::new();
                    assert!(unframe(&out[..out.len() - 1], &mut back), "{length} {fill}");
                    assert_eq!(back, body);
                }
            }
        }
    }

    #[test]
    fn numbers_come_back_and_long_ones_are_refused() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            number(v, &mut out);
            let mut rest = &out[..];
            assert_eq!(read_number(&mut rest), Some(v));
            assert!(rest.is_empty());
            assert_eq!(read_number(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(read_number(&mut &[0xff; 10][..]), None, "more than 64 bits");
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
    }
}
