//! Constants in print formats: the kernel has put numbers in the place of its names, and left
//! the arithmetic. C's, as far as numbers, casts and these operators go: `| ^ & << >> + - * ~`.
//! What has a name in it is no constant.

/// How deep expressions are nested at most.
pub const DEPTH: u32 = 200;

/// The value of an expression of numbers, as C has it on a machine of 64 bits.
#[must_use]
pub fn number(expression: &str) -> Option<u64> {
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

/// What stands in the bracket that `source` begins with, and what follows it.
#[must_use]
pub fn bracket(source: &str, open: char, close: char) -> Option<(&str, &str)> {
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

/// Whether a name has this in it.
#[must_use]
pub fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Whether this is a type, as it stands in a cast.
#[must_use]
pub fn is_type(text: &str) -> bool {
    let word = text.trim().trim_end_matches(['*', ' ']);
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| is_word(b) || b == b' ')
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
            ("1 << 32", None),
            ("1U << 32", None),
            ("1L << 32", Some(1 << 32)),
            ("TCP_FIN_WAIT1", None),
            ("(1 << NAME)", None),
            ("", None),
            ("1 +", None),
            ("(1", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
