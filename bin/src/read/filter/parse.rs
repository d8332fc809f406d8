//! The text of a filter: `OR := AND { "||" AND }`, `AND := NOT { "&&" NOT }`,
//! `NOT := "!" NOT | "(" OR ")" | FIELD OP VALUE`.
//!
//! A value is a number, text in quotes, or a word: what `trace-cmd -f` takes. Nesting has a
//! bound, and what is wrong is shown in its place.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How deep parentheses and `!` may be nested.
const DEEPEST: u32 = 64;

/// A filter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// As it was written.
    pub text: String,
    /// What it says.
    pub(super) expr: Expr,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Test(Arc<Test>),
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Test {
    /// The field's name.
    pub field: String,
    /// Where in the text it stands.
    pub place: Range<usize>,
    pub(super) op: Op,
    pub(super) value: Literal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `~`: a glob.
    Like,
    /// `&`: a bit in common.
    Bits,
}

#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub text: String,
    pub quoted: bool,
    pub number: Option<Number>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

/// What is wrong with a filter, and where.
#[derive(Clone, Debug)]
pub struct FilterError {
    text: String,
    place: Range<usize>,
    message: String,
}

impl FilterError {
    /// Something about a comparison of a filter.
    pub fn about(filter: &Filter, test: &Test, message: String) -> Self {
        Self { text: filter.text.clone(), place: test.place.clone(), message }
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let before: usize = self.text.get(..self.place.start).map_or(0, |t| t.chars().count());
        let carets = self.text.get(self.place.clone()).map_or(0, |t| t.chars().count()).max(1);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", self.text.chars().map(plain).collect::<String>())?;
        write!(f, "  {}{}", " ".repeat(before), "^".repeat(carets))
    }
}

impl Filter {
    /// All comparisons, in the order of the text.
    pub fn tests(&self) -> Vec<&Test> {
        fn collect<'e>(expr: &'e Expr, to: &mut Vec<&'e Test>) {
            match expr {
                Expr::All(list) | Expr::Any(list) => list.iter().for_each(|e| collect(e, to)),
                Expr::Not(e) => collect(e, to),
                Expr::Test(t) => to.push(t),
            }
        }
        let mut out = Vec::new();
        collect(&self.expr, &mut out);
        out
    }
}

/// Parses a filter.
///
/// # Errors
/// What is wrong, with a caret below its place.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let mut p = Parser { text, at: 0 };
    let expr = p.any(0)?;
    p.skip_space();
    if let Some(c) = p.peek() {
        let message = match c {
            ')' => "there is no `(` for this `)`",
            _ => "`&&` or `||` was expected",
        };
        return Err(p.wrong(p.at..p.at + c.len_utf8(), message));
    }
    Ok(Filter { text: text.to_owned(), expr })
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }
    fn eat(&mut self, sign: &str) -> bool {
        self.skip_space();
        let is = self.rest().starts_with(sign);
        if is {
            self.at += sign.len();
        }
        is
    }
    fn wrong(&self, place: Range<usize>, message: impl Into<String>) -> FilterError {
        FilterError { text: self.text.to_owned(), place, message: message.into() }
    }
    fn here(&self, message: impl Into<String>) -> FilterError {
        let length = self.peek().map_or(0, char::len_utf8);
        self.wrong(self.at..self.at + length, message)
    }

    fn any(&mut self, depth: u32) -> Result<Expr, FilterError> {
        let mut list = vec![self.all(depth)?];
        while self.eat("||") {
            list.push(self.all(depth)?);
        }
        Ok(one_or(list, Expr::Any))
    }

    fn all(&mut self, depth: u32) -> Result<Expr, FilterError> {
        let mut list = vec![self.not(depth)?];
        while self.eat("&&") {
            list.push(self.not(depth)?);
        }
        Ok(one_or(list, Expr::All))
    }

    fn not(&mut self, depth: u32) -> Result<Expr, FilterError> {
        self.skip_space();
        if depth > DEEPEST {
            return Err(self.here(format!("nested deeper than {DEEPEST}")));
        }
        let begin = self.at;
        if self.eat("!") {
            return Ok(Expr::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.eat("(") {
            let inner = self.any(depth + 1)?;
            if !self.eat(")") {
                if self.peek().is_some() {
                    return Err(self.here("`&&`, `||` or `)` was expected"));
                }
                return Err(self.wrong(begin..begin + 1, "this `(` has no `)`"));
            }
            return Ok(inner);
        }
        self.test().map(|t| Expr::Test(Arc::new(t)))
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let begin = self.at;
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = self.rest().find(|c| !of_name(c)).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.here("the name of a field was expected"));
        }
        self.at += length;
        let (field, place) = (self.text[begin..self.at].to_owned(), begin..self.at);
        let op = self.op(&field)?;
        let value = self.value()?;
        Ok(Test { field, place, op, value })
    }

    fn op(&mut self, field: &str) -> Result<Op, FilterError> {
        self.skip_space();
        let two = self.rest().starts_with("&&");
        for (sign, op) in [
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("<=", Op::LessEqual),
            (">=", Op::GreaterEqual),
            ("<", Op::Less),
            (">", Op::Greater),
            ("~", Op::Like),
            ("&", Op::Bits),
        ] {
            if !(two && op == Op::Bits) && self.eat(sign) {
                return Ok(op);
            }
        }
        let message = if self.rest().starts_with('=') {
            "`=` is no comparison: write `==`".to_owned()
        } else {
            format!("after `{field}` one of == != < <= > >= ~ & was expected")
        };
        Err(self.here(message))
    }

    fn value(&mut self) -> Result<Literal, FilterError> {
        self.skip_space();
        let begin = self.at;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            let (mut text, mut escaped) = (String::new(), false);
            for (n, c) in self.rest().char_indices().skip(1) {
                match c {
                    c if escaped => {
                        // A glob's escape is the glob's.
                        if c != quote && c != '\\' {
                            text.push('\\');
                        }
                        text.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    c if c == quote => {
                        self.at += n + 1;
                        let number = number(&text);
                        return Ok(Literal { text, quoted: true, number });
                    }
                    c => text.push(c),
                }
            }
            return Err(self.wrong(begin..begin + 1, "this quote has no end"));
        }
        let ends = |c: char| c.is_whitespace() || "()&|\"'".contains(c);
        let length = self.rest().find(ends).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.here("a number, a word or text in quotes was expected"));
        }
        self.at += length;
        let text = self.text[begin..self.at].to_owned();
        let number = number(&text);
        Ok(Literal { text, quoted: false, number })
    }
}

fn one_or(mut list: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match list.pop() {
        Some(one) if list.is_empty() => one,
        last => {
            list.extend(last);
            many(list)
        }
    }
}

/// `-12`, `0x1f`, `0b101`, `017` as in C, `1.5`, `2e9`.
fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let radix = |prefix: &[&str], radix| {
        let rest = prefix.iter().find_map(|p| digits.strip_prefix(p))?;
        let is = rest.starts_with(|c: char| c.is_ascii_alphanumeric());
        is.then(|| i128::from_str_radix(rest, radix).ok()).flatten()
    };
    let integer = radix(&["0x", "0X"], 16)
        .or_else(|| radix(&["0b", "0B"], 2))
        .or_else(|| radix(&["0"], 8))
        .or_else(|| digits.parse().ok());
    match integer {
        Some(n) => Some(Number::Integer(if negative { -n } else { n })),
        None => text.parse().ok().map(Number::Float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn errors_show_their_place() {
        assert_eq!(
            error("prev_pid = 0"),
            "`=` is no comparison: write `==`\n  prev_pid = 0\n           ^"
        );
        assert_eq!(error("é == 1"), "the name of a field was expected\n  é == 1\n  ^");
        assert_eq!(error("(a == 1"), "this `(` has no `)`\n  (a == 1\n  ^");
        assert_eq!(error("a == 1)"), "there is no `(` for this `)`\n  a == 1)\n        ^");
        assert_eq!(error("a == \"x"), "this quote has no end\n  a == \"x\n       ^");
        assert!(error("a ==").contains("was expected\n  a ==\n      ^"), "{}", error("a =="));
        assert!(error("a && b == 1").contains("after `a` one of =="));
        assert!(error("a == 1 b == 2").contains("`&&` or `||` was expected"));
        assert!(error("").contains("the name of a field"));
        assert!(error("a\x1b == 1").find('\x1b').is_none());
    }

    #[test]
    fn numbers() {
        let int = |text| match number(text) {
            Some(Number::Integer(n)) => n,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            (int("-12"), int("0x1F"), int("0b11"), int("017"), int("0")),
            (-12, 31, 3, 15, 0)
        );
        assert_eq!(int("18446744073709551615"), i128::from(u64::MAX));
        assert!(matches!(number("1.5"), Some(Number::Float(f)) if f == 1.5));
        assert!(
            ["", "-", "abc", "inf", "nan", "0x", "-x", "1:2", "0x-1"]
                .iter()
                .all(|t| number(t).is_none())
        );
    }

    #[test]
    fn nesting_has_a_bound() {
        assert!(parse(&format!("{}a == 1{}", "(".repeat(64), ")".repeat(64))).is_ok());
        for sign in ["(", "!", "!("] {
            assert!(
                error(&format!("{}a == 1", sign.repeat(1_000_000))).starts_with("nested deeper")
            );
        }
        let long = vec!["a == 1"; 100_000].join(" && ");
        assert_eq!(parse(&long).expect("long, not deep").tests().len(), 100_000);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse(&text).map_err(|e| e.to_string());
        }
        #[test]
        fn no_signs_make_it_panic(parts in prop::collection::vec(prop::sample::select(vec![
            "a", "==", "!=", "~", "&", "&&", "||", "!", "(", ")", "\"", "'", "\\", "é", "0x", "-1",
            " ", "\n", "<=", "fields.", "[",
        ]), 0..30)) {
            let text = parts.concat();
            match parse(&text) {
                Ok(filter) => { let _ = filter.tests(); }
                Err(e) => prop_assert!(!e.to_string().contains('\x1b')),
            }
        }
    }
}
