//! Frames and coloured lines of text on one line: what gets into which.

use fastrand::Rng;
use rbpipe_backends::link::{Decoder, Receive, Received};

use super::frames::{frames, whole};
use crate::wire::{Line, Rates};

/// What came over of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixed {
    /// Frames that were sent, and those that came whole.
    pub frames: (u64, u64),
    /// Lines that were sent, those that the line left as they were, and those that came whole.
    pub lines: (usize, usize, usize),
    /// Bytes in the text that nobody printed.
    pub leaked: usize,
}

#[derive(Default)]
struct Text(Vec<u8>);

impl Receive for Text {
    fn record(&mut self, _: Received<'_>) {}
    fn text(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
}

/// Sends so many frames and lines of some `width` bytes over a line that turns bits round.
#[must_use]
pub fn mixed(seed: u64, count: (usize, usize), width: usize, flip: f64) -> Mixed {
    let mut rng = Rng::with_seed(seed);
    let frames = frames(seed, count.0, true);
    let text: Vec<Vec<u8>> = (0..count.1)
        .map(|n| {
            let colour = 31 + n % 7;
            let rest = "a line that others print ".repeat(width / 25 + 1);
            let rest = &rest[..width.saturating_sub(18)];
            format!("\x1b[{colour}m{n:05}{rest}\x1b[0m\r\n").into_bytes()
        })
        .collect();
    // Anywhere among each other, each in its own order.
    let mut order: Vec<bool> = (0..count.0 + count.1).map(|i| i < count.0).collect();
    rng.shuffle(&mut order);
    let (mut from, mut lines) = (frames.iter(), text.iter());
    let mut line = Line::new(seed, Rates { flip, ..Rates::CLEAN });
    let (mut decoder, mut out, mut left) = (Decoder::new(), Text::default(), Vec::new());
    for frame in order {
        let bytes = if frame { from.next() } else { lines.next() }.expect("as many as there are");
        let mut over = Vec::new();
        line.carry(bytes, &mut over);
        if !frame && over == *bytes {
            left.push(over.clone());
        }
        decoder.feed(&over, &mut out);
    }
    decoder.end(&mut out);
    let (arrived, leaked) = compare(&text, &out.0);
    Mixed {
        frames: (whole(&frames.concat()), decoder.health().frames),
        lines: (count.1, left.len(), arrived),
        leaked,
    }
}

/// How many lines came as they were sent, and how many bytes were not sent at all: between two
/// lines that came whole, as few as make the rest of it.
fn compare(sent: &[Vec<u8>], came: &[u8]) -> (usize, usize) {
    let (mut whole, mut leaked, mut at, mut since) = (0, 0, 0, 0);
    for (i, line) in sent.iter().enumerate() {
        let window = &came[at..came.len().min(at + 20_000)];
        if let Some(found) = window.windows(line.len()).position(|w| w == line) {
            leaked += inserted(&sent[since..i].concat(), &window[..found]);
            whole += 1;
            at += found + line.len();
            since = i + 1;
        }
    }
    (whole, leaked + inserted(&sent[since..].concat(), &came[at..]))
}

/// How many bytes of `came` are in nothing that was sent: bytes beyond those that are lost,
/// changed or the same in the shortest way from one to the other.
fn inserted(sent: &[u8], came: &[u8]) -> usize {
    if came.is_empty() || sent.is_empty() {
        return came.len();
    }
    // A changed byte is text still; an inserted one costs more than a lost and a changed one.
    let mut row: Vec<(usize, usize)> = (0..=sent.len()).map(|i| (i, 0)).collect();
    for (j, c) in came.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = (row[0].0 + 1, j + 1);
        for (i, s) in sent.iter().enumerate() {
            let change = (diagonal.0 + usize::from(s != c), diagonal.1);
            let insert = (row[i + 1].0 + 1, row[i + 1].1 + 1);
            let lose = (row[i].0 + 1, row[i].1);
            diagonal = row[i + 1];
            row[i + 1] = change.min(insert).min(lose);
        }
    }
    row[sent.len()].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_printed_is_counted_and_what_is_changed_is_not() {
        let sent = [b"one line\n".to_vec(), b"two lines\n".to_vec(), b"three\n".to_vec()];
        assert_eq!(compare(&sent, b"one line\ntwo lines\nthree\n"), (3, 0));
        assert_eq!(compare(&sent, b"one line\nt7o lines\nthree\n"), (2, 0));
        assert_eq!(compare(&sent, b"one line\nxy~two lines\nthree\n"), (3, 3));
        assert_eq!(compare(&sent, b"one line\nthree\n"), (2, 0));
        assert_eq!(compare(&sent, b"one line\ntwo lines\nthree\n...."), (3, 4));
    }
}
