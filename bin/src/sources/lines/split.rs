//! Cuts bytes into lines that can be recorded: of at most so many bytes, in UTF-8, without NUL.

/// Cuts bytes into lines that can be recorded.
pub struct Splitter {
    max: usize,
    bytes: Vec<u8>,
    cut: bool,
}

const MARK: &str = "…";

impl Splitter {
    pub fn new(max: usize) -> Self {
        Self { max, bytes: Vec::new(), cut: false }
    }

    /// Takes bytes; gives each line that ends in them. False: `line` said so.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str) -> bool) -> bool {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.add(&bytes[..end]);
            if !self.give(&mut line) {
                return false;
            }
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
        true
    }

    /// The end: what is left is a line.
    pub fn finish(&mut self, mut line: impl FnMut(&str) -> bool) {
        if !self.bytes.is_empty() || self.cut {
            self.give(&mut line);
        }
    }

    /// Keeps no more than can be recorded, however long the line is.
    fn add(&mut self, bytes: &[u8]) {
        let room = (self.max + 4).saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn give(&mut self, line: &mut impl FnMut(&str) -> bool) -> bool {
        let mut text = escape(&self.bytes);
        if self.cut || text.len() > self.max {
            let mut end = self.max - MARK.len();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str(MARK);
        }
        self.bytes.clear();
        self.cut = false;
        line(&text)
    }
}

/// Text as it is; other bytes and NUL as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().contains('\0') {
            out.push_str(&chunk.valid().replace('\0', "\\x00"));
        } else {
            out.push_str(chunk.valid());
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(max: usize, parts: &[&[u8]]) -> Vec<String> {
        let (mut s, mut out) = (Splitter::new(max), Vec::new());
        for p in parts {
            assert!(s.push(p, |l| {
                out.push(l.to_owned());
                true
            }));
        }
        s.finish(|l| {
            out.push(l.to_owned());
            true
        });
        out
    }

    #[test]
    fn lines_over_several_reads() {
        assert_eq!(split(64, &[b"a\nb", b"c\n", b"\nlast"]), ["a", "bc", "", "last"]);
        assert_eq!(split(64, &[b"a\n"]), ["a"]);
        assert!(split(64, &[b""]).is_empty());
    }

    #[test]
    fn other_bytes_are_escaped() {
        assert_eq!(split(64, &[b"a\xFFb\0c\n"]), ["a\\xFFb\\x00c"]);
        // A character cut in two by a read is still one.
        assert_eq!(split(64, &["é\n".as_bytes().split_at(1).0, b"\xA9\n"]), ["é"]);
    }

    #[test]
    fn long_lines_are_cut_and_marked_within_the_limit() {
        let long = vec![b'x'; 10 << 20];
        let out = split(64, &[&long, b"\nshort\n"]);
        assert_eq!(out[0], "x".repeat(61) + "…");
        assert_eq!(out[1], "short");
        // Never inside a character, escapes counted.
        let out = split(16, &["ééééééééééé\n".as_bytes(), &[0xFF; 9], b"\n"]);
        assert!(out.iter().all(|l| l.len() <= 16 && l.ends_with('…')), "{out:?}");
        assert_eq!(split(16, &[b"exactly 16 bytes\n"]), ["exactly 16 bytes"]);
    }
}
