//! Globs as the kernel's filters have them: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before a character
//! that is meant as it is. Over bytes, the whole text, no path in mind.
//!
//! Not the `glob` of shells: `*` passes `/`, `:` and a leading dot.

/// Whether `pattern` matches all of `text`. At most the product of their lengths in steps, and
/// no recursion.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when it does not fit: behind the last `*`, one character further.
    let mut back: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            back = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if let Some(length) = text.get(t).and_then(|c| one(&pattern[p..], *c)) {
            p += length;
            t += 1;
            continue;
        }
        match &mut back {
            Some((after, from)) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// How long the part of the pattern is that takes this character.
fn one(pattern: &[u8], c: u8) -> Option<usize> {
    match (*pattern.first()?, pattern.get(1)) {
        (b'?', _) => Some(1),
        (b'[', _) => match class(pattern, c) {
            Some((length, true)) => Some(length),
            Some((_, false)) => None,
            // Without an end it is a character.
            None => (c == b'[').then_some(1),
        },
        (b'\\', Some(next)) => (*next == c).then_some(2),
        (p, _) => (p == c).then_some(1),
    }
}

/// A `[…]`: its length, and whether the character is in it.
fn class(pattern: &[u8], c: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(negated);
    // A `]` that comes first is one of the characters.
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|b| *b == b']')?;
    let (mut at, mut found) = (first, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == b'-' {
            found |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= pattern[at] == c;
            at += 1;
        }
    }
    Some((end + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_all_of_a_text() {
        for (pattern, text, is) in [
            ("sched:*", "sched:sched_switch", true),
            ("sched:*", "resched:x", false),
            ("*switch", "sched:sched_switch", true),
            ("*a*b*c", "xxaxxbxxaxbc", true),
            ("*a*b*c", "xxaxxbxxaxb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[x", "[x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a/*", "a/b/c", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let (pattern, text) = ("*a".repeat(50), "a".repeat(20_000) + "b");
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
