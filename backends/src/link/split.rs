//! Finds frames, and the text between them, in what comes from a line.
//!
//! Nothing is remembered from one delimiter to the next: a piece between two of them is a frame
//! if it unstuffs and its checksum is right, text if all of it can be printed, and damage
//! otherwise. Others may print on the same line (a kernel's console, a boot loader) without
//! knowing of frames, so text may stand right before a frame or a damaged one.

use super::Health;
use super::wire::{self, LONGEST};

/// A line of text that stands before damage is believed from this length on.
const BELIEVED: usize = 8;
/// A frame that stands behind text is looked for behind so many line ends: its own first bytes
/// may look like text, too.
const TRIED: usize = 8;
/// Lines that stand behind damage, from this length on.
const SURE: usize = 32;
/// So much of whole lines is text though nothing has paused.
const CERTAIN: usize = 256;

/// Who is told of the pieces.
pub(super) trait Pieces {
    fn frame(&mut self, body: &[u8]);
    fn text(&mut self, bytes: &[u8]);
    /// Something that is neither.
    fn damage(&mut self) {}
}

/// What has come since the last delimiter.
#[derive(Debug, Default)]
pub(super) struct Split {
    piece: Vec<u8>,
    body: Vec<u8>,
    /// The piece is damage, its rest is not kept.
    lost: bool,
}

impl Split {
    pub(super) fn feed(&mut self, bytes: &[u8], health: &mut Health, to: &mut impl Pieces) {
        health.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == 0) {
            self.add(&rest[..at], health, to);
            self.end(health, to);
            rest = &rest[at + 1..];
        }
        self.add(rest, health, to);
        // A console that prints on and on leaves no pause.
        if rest.ends_with(b"\n") && self.piece.len() >= CERTAIN {
            self.certain(health, to);
        }
    }

    /// Gives lines that are too many to be a frame's beginning, whatever stands before them.
    fn certain(&mut self, health: &mut Health, to: &mut impl Pieces) {
        if printable(&self.piece) {
            return self.text(self.piece.len(), health, to);
        }
        let lines = lines_behind_damage(&self.piece);
        if let Some(at) = lines.filter(|at| self.piece.len() - at >= CERTAIN) {
            self.text_behind(at, health, to);
        }
    }

    /// What stands before `at` is damage, what stands behind is text.
    fn text_behind(&mut self, at: usize, health: &mut Health, to: &mut impl Pieces) {
        health.damaged += 1;
        health.damaged_bytes += at as u64;
        health.since_frame += at as u64;
        to.damage();
        self.piece.drain(..at);
        self.text(self.piece.len(), health, to);
    }

    fn add(&mut self, mut bytes: &[u8], health: &mut Health, to: &mut impl Pieces) {
        while !bytes.is_empty() {
            if self.lost {
                health.damaged_bytes += bytes.len() as u64;
                health.since_frame += bytes.len() as u64;
                return;
            }
            // Room for some text before the longest frame.
            let room = 2 * LONGEST - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == 2 * LONGEST {
                let text = whole_lines(&self.piece);
                if text > 0 {
                    // A frame may still follow the last line.
                    self.text(text, health, to);
                } else if printable(&self.piece) {
                    self.text(self.piece.len(), health, to);
                } else {
                    health.damaged += 1;
                    health.damaged_bytes += self.piece.len() as u64;
                    health.since_frame += self.piece.len() as u64;
                    self.piece.clear();
                    self.lost = true;
                    to.damage();
                }
            }
        }
    }

    fn text(&mut self, n: usize, health: &mut Health, to: &mut impl Pieces) {
        to.text(&self.piece[..n]);
        health.text += n as u64;
        health.since_frame += n as u64;
        self.piece.drain(..n);
    }

    /// A delimiter.
    fn end(&mut self, health: &mut Health, to: &mut impl Pieces) {
        if self.piece.is_empty() || self.lost {
            self.lost = false;
            return;
        }
        if wire::unframe(&self.piece, &mut self.body) {
            return self.frame(health, to);
        }
        if printable(&self.piece) {
            return self.text(self.piece.len(), health, to);
        }
        // Text, and a frame that no delimiter begins.
        let lines = whole_lines(&self.piece);
        let mut begin = lines;
        for _ in 0..TRIED {
            if begin == 0 {
                break;
            }
            if wire::unframe(&self.piece[begin..], &mut self.body) {
                self.text(begin, health, to);
                return self.frame(health, to);
            }
            begin = after_last_line(&self.piece[..begin - 1]);
        }
        if lines >= BELIEVED {
            self.text(lines, health, to);
        }
        health.damaged += 1;
        health.damaged_bytes += self.piece.len() as u64;
        health.since_frame += self.piece.len() as u64;
        self.piece.clear();
        to.damage();
    }

    fn frame(&mut self, health: &mut Health, to: &mut impl Pieces) {
        health.frames += 1;
        health.since_frame = 0;
        to.frame(&self.body);
        self.piece.clear();
    }

    /// Nothing has come for a while: text that waits is given.
    pub(super) fn idle(&mut self, health: &mut Health, to: &mut impl Pieces) {
        // What comes after a pause may be text of somebody who knows of no delimiters.
        self.lost = false;
        if self.piece.is_empty() {
            return;
        }
        if printable(&self.piece) {
            self.text(self.piece.len(), health, to);
        } else if let n @ BELIEVED.. = whole_lines(&self.piece) {
            self.text(n, health, to);
        } else if let Some(at) = lines_behind_damage(&self.piece) {
            self.text_behind(at, health, to);
        }
    }

    /// What was begun will not be finished.
    pub(super) fn cut(&mut self, health: &mut Health, to: &mut impl Pieces) {
        self.idle(health, to);
        if !self.piece.is_empty() {
            health.damaged += 1;
            health.damaged_bytes += self.piece.len() as u64;
            self.piece.clear();
        }
        self.lost = false;
    }
}

/// Bytes of the printable beginning, to its last line's end.
fn whole_lines(bytes: &[u8]) -> usize {
    let text = printable_prefix(bytes);
    after_last_line(&bytes[..text])
}

fn after_last_line(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
}

/// Where whole lines begin that are all there is behind what is neither a frame nor text: enough
/// of them not to be the beginning of a frame.
fn lines_behind_damage(bytes: &[u8]) -> Option<usize> {
    let mut at = bytes.len();
    // The first one has no beginning.
    let first = bytes.iter().position(|b| *b == b'\n')? + 1;
    for line in bytes[first..].split_inclusive(|b| *b == b'\n').rev() {
        if !line.ends_with(b"\n") || !printable(line) {
            break;
        }
        at -= line.len();
    }
    (bytes.len() - at >= SURE).then_some(at)
}

fn printable(bytes: &[u8]) -> bool {
    printable_prefix(bytes) == bytes.len()
}

/// How many bytes at the beginning are what consoles print: UTF-8, line ends, tabs, and the
/// escape of colours.
fn printable_prefix(bytes: &[u8]) -> usize {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
    };
    let control = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t' | '\x1b');
    whole.find(control).unwrap_or(whole.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        frames: Vec<Vec<u8>>,
        text: Vec<u8>,
    }
    impl Pieces for Seen {
        fn frame(&mut self, body: &[u8]) {
            self.frames.push(body.into());
        }
        fn text(&mut self, bytes: &[u8]) {
            self.text.extend(bytes);
        }
    }

    #[test]
    fn text_behind_noise_is_text_after_a_pause() {
        let (mut split, mut health, mut seen) =
            (Split::default(), Health::default(), Seen::default());
        let line = b"a console that knows of no delimiters\r\n";
        split.feed(b"\x81\x92noise\n\xff\x80", &mut health, &mut seen);
        split.feed(line, &mut health, &mut seen);
        split.idle(&mut health, &mut seen);
        assert_eq!(seen.text, b"", "its beginning is not sure");
        split.feed(line, &mut health, &mut seen);
        split.idle(&mut health, &mut seen);
        assert_eq!(seen.text, line);
        assert_eq!(health.damaged, 1);
        // So much noise that its rest was not kept.
        split.feed(&[0x81; 3 * LONGEST], &mut health, &mut seen);
        split.feed(line, &mut health, &mut seen);
        split.idle(&mut health, &mut seen);
        split.feed(line, &mut health, &mut seen);
        split.idle(&mut health, &mut seen);
        assert_eq!(seen.text, [&line[..], line].concat());
        // The beginning of a frame is not.
        let mut frame = framed(250, false);
        frame.pop();
        split.feed(&frame, &mut health, &mut seen);
        split.idle(&mut health, &mut seen);
        split.feed(&[0], &mut health, &mut seen);
        assert_eq!(seen.frames, [body(250)]);
    }

    fn body(n: u8) -> Vec<u8> {
        (0..n).map(|i| i.wrapping_mul(37) ^ n).collect()
    }

    fn framed(n: u8, mixed: bool) -> Vec<u8> {
        let mut out = Vec::new();
        wire::frame(&body(n), mixed, &mut out);
        out
    }

    fn all(bytes: &[u8], step: usize) -> (Seen, Health) {
        let (mut split, mut health, mut seen) =
            (Split::default(), Health::default(), Seen::default());
        for part in bytes.chunks(step) {
            split.feed(part, &mut health, &mut seen);
        }
        split.idle(&mut health, &mut seen);
        (seen, health)
    }

    #[test]
    fn frames_and_text_are_told_apart_however_they_are_cut() {
        let line = b"\x1b[1;32m[    0.1] usb 1-1: ready \xe2\x9c\x93\x1b[0m\r\n";
        for mixed in [false, true] {
            let mut wire = Vec::new();
            for n in [20, 40, 60] {
                wire.extend(line);
                wire.extend(framed(n, mixed));
            }
            wire.extend(line);
            for step in [1, 3, 7, 100, 1000] {
                let (seen, health) = all(&wire, step);
                assert_eq!(seen.frames, [body(20), body(40), body(60)], "{mixed} {step}");
                assert_eq!(seen.text, line.repeat(4));
                assert_eq!((health.damaged, health.frames), (0, 3));
                assert_eq!(health.text, 4 * line.len() as u64);
            }
        }
    }

    #[test]
    fn damage_is_no_text_and_costs_one_frame() {
        let mut wire: Vec<u8> = [30u8, 40, 50].iter().flat_map(|n| framed(*n, false)).collect();
        wire[40] ^= 4;
        let (seen, health) = all(&wire, 9);
        assert_eq!(seen.frames, [body(30), body(50)]);
        assert_eq!(seen.text, b"");
        assert_eq!(health.damaged, 1);
        assert_eq!(health.bytes, wire.len() as u64);
    }

    #[test]
    fn a_line_before_damage_is_text() {
        let mut wire = b"panic: it is over\n".to_vec();
        wire.extend(&framed(90, false)[..50]);
        wire.extend(framed(30, false));
        let (seen, health) = all(&wire, 1000);
        assert_eq!(seen.text, b"panic: it is over\n");
        assert_eq!((seen.frames.len(), health.damaged), (0, 1), "the delimiter between was lost");
    }

    #[test]
    fn text_without_end_is_given_and_noise_without_end_is_counted() {
        let text = b"a line that goes on and on, \n".repeat(1000);
        let (seen, health) = all(&text, 777);
        assert_eq!((seen.text.len(), health.damaged), (text.len(), 0));
        let noise = vec![0x80u8; 100_000];
        let (seen, health) = all(&noise, 777);
        assert_eq!((seen.text.len(), health.damaged), (0, 1));
        let mut split = Split::default();
        split.feed(&noise, &mut Health::default(), &mut Seen::default());
        assert!(split.piece.capacity() <= 4 * LONGEST);
        let mut wire = noise;
        wire.push(0);
        wire.extend(framed(30, false));
        assert_eq!(all(&wire, 777).0.frames.len(), 1);
    }

    #[test]
    fn a_console_that_never_pauses_is_read_behind_noise_too() {
        let line = b"just a console that prints on and on\r\n";
        for noise in [&b""[..], b"\x80\x01\xff"] {
            let (mut split, mut health, mut seen) =
                (Split::default(), Health::default(), Seen::default());
            split.feed(noise, &mut health, &mut seen);
            for _ in 0..20 {
                split.feed(line, &mut health, &mut seen);
            }
            // At most the beginning waits, and the line that noise stands in is not believed.
            assert!(seen.text.len() >= 10 * line.len(), "{}", seen.text.len());
            assert_eq!(health.damaged, u64::from(!noise.is_empty()));
        }
    }
}
