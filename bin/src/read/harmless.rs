//! Text of others on its way to a terminal: what a console needs passes, what could drive the
//! terminal is shown instead.

/// How far into an escape sequence it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// Behind ESC.
    Escape,
    /// Behind ESC `[`.
    Sequence,
}

/// Lets through what a console needs: text, line ends, tabs, backspaces, and colours.
#[derive(Debug, Default)]
pub struct Harmless {
    state: State,
    /// What of an escape sequence has come.
    held: Vec<u8>,
    /// The beginning of a character.
    part: Vec<u8>,
}

/// A colour's sequence is not longer.
const LONGEST: usize = 32;

impl Harmless {
    /// Takes text, however it is cut; `out` gets what is harmless.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut all = std::mem::take(&mut self.part);
        all.extend_from_slice(bytes);
        let mut rest = &all[..];
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|c| self.char(c, out));
                    break;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    std::str::from_utf8(good).unwrap_or_default().chars().for_each(|c| {
                        self.char(c, out);
                    });
                    let Some(length) = e.error_len() else {
                        self.part = bad.to_vec();
                        break;
                    };
                    self.show(out);
                    for b in &bad[..length] {
                        out.extend_from_slice(format!("\\x{b:02X}").as_bytes());
                    }
                    rest = &bad[length..];
                }
            }
        }
    }

    fn char(&mut self, c: char, out: &mut Vec<u8>) {
        match (self.state, c) {
            (_, '\x1b') => {
                self.show(out);
                self.held.push(0x1b);
                self.state = State::Escape;
            }
            (State::Plain, '\n' | '\r' | '\t' | '\x08') => out.push(c as u8),
            (State::Plain, c) if c.is_control() => {
                out.extend_from_slice(format!("\\u{{{:x}}}", c as u32).as_bytes());
            }
            (State::Plain, c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            (State::Escape, '[') => {
                self.held.push(b'[');
                self.state = State::Sequence;
            }
            (State::Sequence, '0'..='9' | ';' | ':') if self.held.len() < LONGEST => {
                self.held.push(c as u8);
            }
            // A colour; and "to the end of the line", which loggers write behind it.
            (State::Sequence, 'm' | 'K') => {
                out.append(&mut self.held);
                out.push(c as u8);
                self.state = State::Plain;
            }
            _ => {
                self.show(out);
                self.char(c, out);
            }
        }
    }

    /// What was held is no colour.
    fn show(&mut self, out: &mut Vec<u8>) {
        for b in self.held.drain(..) {
            match b {
                0x1b => out.extend_from_slice(b"\\u{1b}"),
                b => out.push(b),
            }
        }
        self.state = State::Plain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(text: &[u8], step: usize) -> String {
        let (mut harmless, mut out) = (Harmless::default(), Vec::new());
        text.chunks(step).for_each(|part| harmless.pass(part, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn consoles_pass_and_terminals_are_not_driven() {
        for (text, shown) in [
            (&b"a\r\n\tb\x08c"[..], "a\r\n\tb\x08c"),
            (b"\x1b[1;32mgreen\x1b[0m\x1b[K", "\x1b[1;32mgreen\x1b[0m\x1b[K"),
            ("✓ ü".as_bytes(), "✓ ü"),
            (b"\x1b[2J\x1b[H", "\\u{1b}[2J\\u{1b}[H"),
            (b"\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            (b"\x1bP1$r\x1b\\", "\\u{1b}P1$r\\u{1b}\\"),
            (b"\x1b\x1b[0m", "\\u{1b}\x1b[0m"),
            (b"\x1b[6n\x9bc", "\\u{1b}[6n\\x9Bc"),
            ("\u{9b}6n".as_bytes(), "\\u{9b}6n"),
            (b"\x1b[\xff0m", "\\u{1b}[\\xFF0m"),
            (b"\x00\x7f", "\\u{0}\\u{7f}"),
        ] {
            for step in 1..=text.len() {
                assert_eq!(pass(text, step), shown, "{step}");
            }
        }
        let long = [&b"\x1b["[..], &[b'1'; 100]].concat();
        assert!(!pass(&long, 7).contains('\x1b'));
    }
}
