//! What an event's print format tells of its fields: in which base a number is shown, and the
//! names of its values. Only what is plain: a field by itself, and values that are numbers.
//! It prints nothing, and never fails: what it does not understand, it leaves out.

use std::collections::HashMap;

use rbpipe_core::class::Base;

/// What is known of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// As its first conversion shows it.
    pub base: Option<Base>,
    /// It is shown as a string (`%s`).
    pub text: bool,
    /// The names of its values; the kernel compares them as `unsigned long`.
    pub labels: Vec<(u64, String)>,
    /// They are bits, of which a value has several.
    pub flags: bool,
}

/// How deep expressions are nested at most.
const DEPTH: u32 = 200;

/// What a print format (all behind `print fmt: `) tells, by the fields' names.
#[must_use]
pub fn hints(print_format: &str) -> HashMap<&str, Hint> {
    let mut out: HashMap<&str, Hint> = HashMap::new();
    let Some((text, rest)) = literals(print_format) else { return out };
    let arguments = split(rest);
    // What stands before the first comma is no argument.
    let mut arguments = arguments.into_iter().skip(1);
    for conversion in conversions(&text) {
        let Some(argument) = arguments.next() else { break };
        if let Some((field, flags, labels)) = names(argument) {
            let hint = out.entry(field).or_default();
            if hint.labels.is_empty() {
                (hint.flags, hint.labels) = (flags, labels);
            }
        } else if let Some(field) = plain(argument).or_else(|| chosen(argument)) {
            let hint = out.entry(field).or_default();
            match conversion {
                Conversion::Number(base) => _ = hint.base.get_or_insert(base),
                Conversion::Text => hint.text = true,
                Conversion::Other => {}
            }
        }
    }
    out
}

/// What a `%` takes from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conversion {
    Number(Base),
    Text,
    Other,
}

fn conversions(text: &str) -> Vec<Conversion> {
    let mut out = Vec::new();
    let mut bytes = text.bytes().peekable();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            continue;
        }
        let kind = loop {
            match bytes.next() {
                // A width or precision that is an argument of its own.
                Some(b'*') => out.push(Conversion::Other),
                Some(b'-' | b'+' | b' ' | b'#' | b'.' | b'0'..=b'9') => {}
                Some(b'h' | b'l' | b'L' | b'z' | b'j' | b't' | b'q') => {}
                other => break other,
            }
        };
        out.push(match kind {
            None => return out,
            Some(b'%') => continue,
            Some(b'x' | b'X') => Conversion::Number(Base::Hexadecimal),
            Some(b'o') => Conversion::Number(Base::Octal),
            Some(b'd' | b'i' | b'u') => Conversion::Number(Base::Decimal),
            Some(b's') => Conversion::Text,
            Some(b'p') => {
                let mut kind = String::new();
                while let Some(b) = bytes.next_if(u8::is_ascii_alphanumeric) {
                    kind.push(b.into());
                }
                // Dotted, with numbers as people write them.
                let dotted = kind.starts_with("I4") || kind.starts_with("i4");
                Conversion::Number(if dotted { Base::Decimal } else { Base::Hexadecimal })
            }
            Some(_) => Conversion::Other,
        });
    }
    out
}

/// String literals one behind the other, as one text, and what follows them.
fn literals(source: &str) -> Option<(String, &str)> {
    let (mut text, mut rest) = (None::<String>, source.trim_start());
    while rest.starts_with('"') {
        let (more, after) = literal(rest)?;
        text.get_or_insert_default().push_str(&more);
        rest = after.trim_start();
    }
    Some((text?, rest))
}

/// One string literal, its escapes resolved, and what follows it.
fn literal(source: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = source.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &source[1 + at + 1..])),
            '\\' => text.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'e' => '\u{1b}',
                '0' => '\0',
                other => other,
            }),
            _ => text.push(c),
        }
    }
    None
}

/// The parts between commas that stand in no bracket and no literal.
fn split(source: &str) -> Vec<&str> {
    let (mut out, mut begin, mut depth) = (Vec::new(), 0, 0u32);
    let mut quote = None;
    let mut bytes = source.bytes().enumerate();
    while let Some((at, b)) = bytes.next() {
        match (quote, b) {
            (Some(_), b'\\') => _ = bytes.next(),
            (Some(q), _) if q == b => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(b),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b',') if depth == 0 => {
                out.push(source[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    out.push(source[begin..].trim());
    out
}

/// What stands in the bracket that `source` begins with, and what follows it.
fn bracket(source: &str, open: char, close: char) -> Option<(&str, &str)> {
    let inner = source.strip_prefix(open)?;
    let (mut depth, mut quoted, mut escaped) = (0u32, false, false);
    for (at, c) in inner.char_indices() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            quoted = true;
        } else if c == open {
            depth += 1;
        } else if c == close {
            if depth == 0 {
                return Some((&inner[..at], &inner[at + 1..]));
            }
            depth -= 1;
        }
    }
    None
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Whether this is a type, as it stands in a cast.
fn is_type(text: &str) -> bool {
    let word = text.trim().trim_end_matches(['*', ' ']);
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| is_word(b) || b == b' ')
}

/// The field that this expression is, if it is one and nothing else: casts and parentheses
/// may be round it, an index behind it.
fn plain(expression: &str) -> Option<&str> {
    let mut rest = expression.trim();
    for _ in 0..DEPTH {
        if let Some(field) = rest.strip_prefix("REC->").or_else(|| rest.strip_prefix("(REC)->")) {
            let end = field.bytes().position(|b| !is_word(b)).unwrap_or(field.len());
            let (name, behind) = field.split_at(end);
            let behind = behind.trim();
            let index = bracket(behind, '[', ']').is_some_and(|(_, rest)| rest.is_empty());
            return (!name.is_empty() && (behind.is_empty() || index)).then_some(name);
        }
        let (inner, behind) = bracket(rest, '(', ')')?;
        let behind = behind.trim();
        rest = match behind.is_empty() {
            true => inner.trim(),
            false if is_type(inner) => behind,
            false => return None,
        };
    }
    None
}

/// `… ? REC->x : 0`, or the other way round: the field.
fn chosen(expression: &str) -> Option<&str> {
    let (one, other) = expression.split_once('?')?.1.rsplit_once(':')?;
    match (plain(one), plain(other)) {
        (Some(field), None) => number(other).map(|_| field),
        (None, Some(field)) => number(one).map(|_| field),
        _ => None,
    }
}

/// The labels of a value: what it is compared with, as `unsigned long`, and its name.
type Labels = Vec<(u64, String)>;

/// `__print_symbolic` and `__print_flags` of a plain field: it, whether they are bits, the
/// names. Also where there is another word for 0: `REC->x ? __print_flags(REC->x, …) : "none"`.
fn names(argument: &str) -> Option<(&str, bool, Labels)> {
    match argument.split_once('?').map(|(condition, rest)| (plain(condition), rest)) {
        Some((Some(asked), rest)) => {
            let (names, zero) = rest.rsplit_once(':')?;
            literals(zero)?;
            table(names.trim()).filter(|(field, ..)| *field == asked)
        }
        _ => table(argument),
    }
}

fn table(argument: &str) -> Option<(&str, bool, Labels)> {
    let (flags, rest) = match argument.strip_prefix("__print_symbolic") {
        Some(rest) => (false, rest),
        None => (true, argument.strip_prefix("__print_flags")?),
    };
    let (inner, behind) = bracket(rest.trim_start(), '(', ')')?;
    if !behind.trim().is_empty() {
        return None;
    }
    let parts = split(inner);
    let field = plain(parts.first()?)?;
    let mut labels = Vec::new();
    for part in parts.get(1 + usize::from(flags)..)? {
        let (pair, _) = bracket(part, '{', '}')?;
        let pair = split(pair);
        let [value, name] = pair[..] else { return None };
        // The list may have an end of its own: `{ 0, ((void *)0) }`.
        let Some((name, _)) = literals(name) else { break };
        labels.push((number(value)?, name));
    }
    Some((field, flags, labels))
}

/// The value of an expression of numbers, as C has it on a machine of 64 bits.
fn number(expression: &str) -> Option<u64> {
    let mut parser = Expression { rest: expression.trim_start() };
    let value = parser.binary(0, DEPTH)?;
    parser.rest.is_empty().then_some(value.0)
}

/// What C calculates with here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Int,
    Unsigned,
    Long,
}

/// A value, extended to 64 bits as its type asks for.
#[derive(Clone, Copy)]
struct Value(u64, Rank);

impl Value {
    fn of(value: u64, rank: Rank) -> Self {
        Self(
            match rank {
                Rank::Int => i64::from(value as i32).cast_unsigned(),
                Rank::Unsigned => u64::from(value as u32),
                Rank::Long => value,
            },
            rank,
        )
    }
}

struct Expression<'a> {
    rest: &'a str,
}

impl<'a> Expression<'a> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.map_or(self.rest, str::trim_start);
        found.is_some()
    }

    /// Binary operators from this strength on.
    fn binary(&mut self, strength: u32, depth: u32) -> Option<Value> {
        const OPERATORS: [(&str, u32); 8] =
            [("|", 1), ("^", 2), ("&", 3), ("<<", 4), (">>", 4), ("+", 5), ("-", 5), ("*", 6)];
        let mut left = self.unary(depth.checked_sub(1)?)?;
        'next: loop {
            for (operator, of) in OPERATORS {
                if of > strength && self.rest.starts_with(operator) {
                    self.take(operator);
                    let right = self.binary(of, depth.checked_sub(1)?)?;
                    left = apply(operator, left, right)?;
                    continue 'next;
                }
            }
            return Some(left);
        }
    }

    fn unary(&mut self, depth: u32) -> Option<Value> {
        let deeper = depth.checked_sub(1)?;
        if self.take("-") {
            let Value(v, rank) = self.unary(deeper)?;
            return Some(Value::of(v.wrapping_neg(), rank));
        }
        if self.take("~") {
            let Value(v, rank) = self.unary(deeper)?;
            return Some(Value::of(!v, rank));
        }
        if self.rest.starts_with('(') {
            let (inner, behind) = bracket(self.rest, '(', ')')?;
            if is_type(inner) {
                self.rest = behind.trim_start();
                let Value(v, rank) = self.unary(deeper)?;
                return Some(Value::of(v, cast(inner).unwrap_or(rank)));
            }
            self.take("(");
            let value = self.binary(0, deeper)?;
            return self.take(")").then_some(value);
        }
        let end = self.rest.bytes().position(|b| !is_word(b)).unwrap_or(self.rest.len());
        let (word, behind) = self.rest.split_at(end);
        self.rest = behind.trim_start();
        literal_number(word)
    }
}

fn apply(operator: &str, left: Value, right: Value) -> Option<Value> {
    let rank = left.1.max(right.1);
    let (a, b) = (left.0, right.0);
    Some(match operator {
        "|" => Value::of(a | b, rank),
        "^" => Value::of(a ^ b, rank),
        "&" => Value::of(a & b, rank),
        "+" => Value::of(a.wrapping_add(b), rank),
        "-" => Value::of(a.wrapping_sub(b), rank),
        "*" => Value::of(a.wrapping_mul(b), rank),
        _ => {
            // A shift is of its left side's type; beyond its bits there is no answer.
            let bits = if left.1 == Rank::Long { 64 } else { 32 };
            let by = u32::try_from(b).ok().filter(|by| *by < bits)?;
            Value::of(if operator == "<<" { a << by } else { a >> by }, left.1)
        }
    })
}

/// Types whose size matters here.
fn cast(name: &str) -> Option<Rank> {
    match name.trim() {
        "int" => Some(Rank::Int),
        "unsigned int" | "unsigned" | "u32" | "__u32" => Some(Rank::Unsigned),
        "long" | "unsigned long" | "long long" | "unsigned long long" | "u64" | "__u64" => {
            Some(Rank::Long)
        }
        _ => None,
    }
}

fn literal_number(word: &str) -> Option<Value> {
    let lower = word.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['u', 'l']);
    let suffix = &lower[digits.len()..];
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let value = u64::from_str_radix(digits, radix).ok()?;
    let fits_int = i32::try_from(value).is_ok();
    let fits_unsigned = u32::try_from(value).is_ok() && (radix != 10 || suffix.contains('u'));
    let rank = match suffix {
        _ if suffix.contains('l') => Rank::Long,
        "" if fits_int => Rank::Int,
        _ if fits_unsigned => Rank::Unsigned,
        _ => Rank::Long,
    };
    Some(Value::of(value, rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_what_c_says() {
        for (text, expected) in [
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("1U << 31", Some(1 << 31)),
            ("1 << 31", Some(0xFFFF_FFFF_8000_0000)),
            ("(1UL << 40) | 1", Some((1 << 40) | 1)),
            ("-1", Some(u64::MAX)),
            ("~0U", Some(0xFFFF_FFFF)),
            ("-9ULL", Some(u64::MAX - 8)),
            ("( int) (( __kernel_rwf_t)0x00000001)", Some(1)),
            ("2 + 3 * 4", Some(14)),
            ("1 << 2 + 1", Some(8)),
            ("7 & 3 | 8", Some(11)),
            ("( unsigned long)(( gfp_t)((((1UL))) << (3)))", Some(8)),
            ("1 << 64", None),
            ("TCP_FIN_WAIT1", None),
            ("(1 << NAME)", None),
            ("", None),
            ("1 +", None),
            ("(1", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_plain() {
        for (text, expected) in [
            ("REC->a", Some("a")),
            ("((unsigned long)(REC->dfd))", Some("dfd")),
            ("(void *)REC->ip", Some("ip")),
            ("REC->args[0]", Some("args")),
            ("(REC)->a", Some("a")),
            ("REC->a & 1", None),
            ("REC->a[0] + 1", None),
            ("-REC->a", None),
            ("REC->", None),
            ("__get_str(name)", None),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn a_field_or_a_number() {
        assert_eq!(chosen("REC->a != -1UL ? REC->a : 0"), Some("a"));
        assert_eq!(chosen("IS_ERR((void *)REC->r) ? 0 : REC->r"), Some("r"));
        assert_eq!(chosen("REC->a ? REC->b : REC->c"), None);
        assert_eq!(chosen("REC->a ? REC->b : NAME"), None);
    }

    #[test]
    fn bases_names_and_strings() {
        let text = r#""a=%d b=0x%lx c=%o %s d=%s %p %pI4 %% %*ph, %s", REC->a, REC->b, REC->c,
            __print_symbolic(REC->s, { 1, "ONE" }, {(2 << 1), "a, \"b\"" }), REC->d,
            (void *)REC->p, REC->ip, 4, REC->h,
            (REC->f) ? __print_flags(REC->f, "|", {0x1u, "X" }, {( unsigned long)0x2, "Y:?" }, { 0, ((void *)0) }) : "none""#;
        let hints = hints(text);
        let base = |name: &str| hints[name].base;
        assert_eq!(base("a"), Some(Base::Decimal));
        assert_eq!(base("b"), Some(Base::Hexadecimal));
        assert_eq!(base("c"), Some(Base::Octal));
        assert_eq!(base("p"), Some(Base::Hexadecimal));
        assert_eq!(base("ip"), Some(Base::Decimal));
        assert_eq!(base("h"), Some(Base::Hexadecimal));
        assert!(hints["d"].text);
        let labels = |n: &str| hints[n].labels.clone();
        assert_eq!(labels("s"), [(1, "ONE".into()), (4, "a, \"b\"".into())]);
        assert_eq!(labels("f"), [(1, "X".into()), (2, "Y:?".into())]);
        assert!(hints["f"].flags && !hints["s"].flags);
    }
}
