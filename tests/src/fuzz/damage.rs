//! What is done to an input that was right.

use arbitrary::{Result, Unstructured};

/// Numbers that have hurt somebody before.
const NUMBERS: [u64; 18] = [
    0,
    1,
    3,
    8,
    27,
    28,
    31,
    255,
    4096,
    (1 << 27) - 1,
    1 << 27,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Does a few damages (or none, or eight) to `bytes`; `words` are pieces that mean something in it. It grows
/// to `largest` bytes at most.
///
/// # Errors
/// There is no entropy left.
pub fn some(
    u: &mut Unstructured<'_>,
    bytes: &mut Vec<u8>,
    words: &[&str],
    largest: usize,
) -> Result<()> {
    for _ in 0..*u.choose(&[0, 0, 1, 1, 1, 2, 3, 8])? {
        one(u, bytes, words, largest)?;
        bytes.truncate(largest);
    }
    Ok(())
}

fn one(
    u: &mut Unstructured<'_>,
    bytes: &mut Vec<u8>,
    words: &[&str],
    largest: usize,
) -> Result<()> {
    let at = u.int_in_range(0..=bytes.len())?;
    let end =
        |u: &mut Unstructured<'_>, longest| Ok(bytes.len().min(at + u.int_in_range(0..=longest)?));
    match u.int_in_range(0..=11)? {
        // A bit.
        0 => {
            let bit = u.int_in_range(0..=7)?;
            if let Some(b) = bytes.get_mut(at) {
                *b ^= 1 << bit;
            }
        }
        // A byte.
        1 => {
            let byte = u.arbitrary()?;
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
        }
        // A binary number.
        2 => {
            let size = *u.choose(&[1, 2, 4, 8])?;
            // Sizes in a packet header are multiples of 8.
            let number = u.choose(&NUMBERS)?.wrapping_mul(*u.choose(&[1, 1, 8])?);
            let at = if u.arbitrary()? { at & !7 } else { at };
            if let Some(to) = bytes.get_mut(at..at + size) {
                to.copy_from_slice(&number.to_le_bytes()[..size]);
            }
        }
        // A number in decimal.
        3 => {
            let text = match u.int_in_range(0..=3)? {
                0 => "9".repeat(u.int_in_range(1..=400)?),
                1 => format!("-{}", u.choose(&NUMBERS)?),
                2 => format!("{}", i128::MIN),
                _ => u.choose(&NUMBERS)?.to_string(),
            };
            let digit = bytes.iter().skip(at).position(u8::is_ascii_digit);
            if let Some(from) = digit.map(|n| at + n) {
                let digits = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                bytes.splice(from..from + digits, text.bytes());
            }
        }
        // The end.
        4 => bytes.truncate(at),
        // Some of it gone.
        5 => {
            let end = end(u, 300)?;
            bytes.drain(at..end);
        }
        // Some of it elsewhere as well.
        6 => {
            let end = end(u, 2000)?;
            let part = bytes[at..end].to_vec();
            let to = u.int_in_range(0..=bytes.len())?;
            bytes.splice(to..to, part);
        }
        // Some of it again and again.
        7 => {
            let end = end(u, 200)?;
            let most = if u.ratio(1, 8)? { 40_000 } else { 40 };
            let times = u.int_in_range(2..=most)?;
            let part = bytes[at..end].repeat(times.min(1 + largest / (end - at).max(1)));
            bytes.splice(end..end, part);
        }
        // A word, once or nested.
        8 | 9 => {
            let word = u.choose(words)?;
            let times = *u.choose(&[1, 1, 1, 2, 100, 20_000])?;
            let times = 1.max(times.min(largest / word.len().max(1)));
            bytes.splice(at..at, word.repeat(times).into_bytes());
        }
        // A word in the place of another.
        10 => {
            let word = u.choose(words)?;
            let from = bytes[..at].iter().rposition(|b| !b.is_ascii_alphanumeric());
            let from = from.map_or(0, |n| n + 1);
            let end = bytes[at..].iter().position(|b| !b.is_ascii_alphanumeric());
            let end = end.map_or(bytes.len(), |n| at + n);
            bytes.splice(from..end, word.bytes());
        }
        // Bytes out of nowhere.
        _ => {
            let n = u.int_in_range(0..=40)?;
            let new = u.bytes(n.min(u.len()))?.to_vec();
            bytes.splice(at..at, new);
        }
    }
    Ok(())
}
