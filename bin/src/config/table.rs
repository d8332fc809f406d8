//! The first stage of reading: a table whose common keys are taken one by one, so that an
//! error keeps its place. (serde's tagged enums and `flatten` lose it.)

use std::borrow::Cow;
use std::env::VarError;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{Problem, SHOWN, suggest};

/// A table being read.
pub struct Table<'i> {
    /// As people write it: `channel.trace.backend`.
    pub path: String,
    /// Its header.
    pub span: Range<usize>,
    entries: DeTable<'i>,
    taken: Vec<&'static str>,
}

impl<'i> Table<'i> {
    /// The table in `value`, or a problem.
    pub fn from(
        path: impl Into<String>,
        value: Spanned<DeValue<'i>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let (path, span) = (path.into(), value.span());
        match value.into_inner() {
            DeValue::Table(entries) => Some(Self { path, span, entries, taken: Vec::new() }),
            other => {
                let named =
                    if matches!(path.as_str(), "source" | "channel") { ".NAME" } else { "" };
                problems.push(Problem::at(
                    span,
                    format!("`{path}` is a table, not {}", kind(&other)),
                    format!("write it as [{path}{named}]"),
                ));
                None
            }
        }
    }

    /// Takes a key's value.
    pub fn value(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.taken.push(key);
        let found = self.entries.keys().find(|k| k.get_ref() == key)?.clone();
        self.entries.remove(&found)
    }

    /// Takes a key's value as a `T`; `None` also where it cannot be read, with a problem.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        let (span, what) = (value.span(), kind(value.get_ref()));
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(v) => Some(Spanned::new(span, v)),
            Err(e) => {
                let at = e.span().filter(|s| !s.is_empty()).unwrap_or(span);
                problems.push(self.serde_problem(&format!("{}.{key}", self.path), &e, at, what));
                None
            }
        }
    }

    /// Takes a key whose value is one of a few words.
    pub fn one_of<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let span = value.span();
        let accepted = |given: &str| suggest(given, words.iter().map(|(w, _)| *w));
        let DeValue::String(text) = value.get_ref() else {
            let message = format!("`{}.{key}` cannot be {}", self.path, kind(value.get_ref()));
            problems.push(Problem::at(span, message, accepted("")));
            return None;
        };
        let found = words.iter().find(|(w, _)| w == text).map(|(_, t)| *t);
        if found.is_none() {
            let message = format!("`{}.{key}` cannot be {text:?}", self.path);
            problems.push(Problem::at(span, message, accepted(text)));
        }
        found
    }

    /// All keys in it.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().map(|k| k.get_ref().to_string()).collect()
    }

    /// The named tables in this one: `[source.NAME]`.
    pub fn children(self, problems: &mut Vec<Problem>) -> Vec<(Spanned<String>, Self)> {
        let mut out = Vec::new();
        for (key, value) in self.entries {
            let name = Spanned::new(key.span(), key.get_ref().to_string());
            let path = format!("{}.{}", self.path, name.get_ref());
            if !is_name(name.get_ref()) {
                problems.push(Problem::at(
                    key.span(),
                    format!("{:?} is no name", name.get_ref()),
                    NAMES,
                ));
            }
            if let Some(t) = Self::from(path, value, problems) {
                out.push((name, t));
            }
        }
        out
    }

    /// Reads what is left as a `T` (second stage). serde stops at the first error: the key that
    /// it names is taken out and the rest read again, so that all errors are shown at once (as
    /// many as are [`SHOWN`]: each costs a copy of the table).
    pub fn rest<T: DeserializeOwned>(mut self, problems: &mut Vec<Problem>) -> Option<T> {
        let mut wrong: Vec<String> = Vec::new();
        loop {
            let value = Spanned::new(self.span.clone(), DeValue::Table(self.entries.clone()));
            let e = match T::deserialize(ValueDeserializer::from(value)) {
                Ok(v) => return wrong.is_empty().then_some(v),
                Err(e) => e,
            };
            let at = e.span().filter(|s| !s.is_empty()).unwrap_or_else(|| self.span.clone());
            let holds = |s: Range<usize>| s.start <= at.start && at.end <= s.end;
            let named = self.entries.iter().find(|(k, v)| holds(k.span()) || holds(v.span()));
            if let Some((key, what)) = named.map(|(k, v)| (k.clone(), kind(v.get_ref()))) {
                let path = format!("{}.{}", self.path, key.get_ref());
                problems.push(self.serde_problem(&path, &e, at, what));
                self.entries.remove(&key);
                wrong.push(key.get_ref().to_string());
                if wrong.len() > SHOWN {
                    return None;
                }
                continue;
            }
            // Of the whole table: a key that is missing, unless it was there, and wrong.
            let missing = e.message().split('`').nth(1).unwrap_or_default();
            if !wrong.iter().any(|w| w == missing) {
                problems.push(self.serde_problem(&self.path, &e, at, "a table"));
            }
            return None;
        }
    }

    /// What is left are keys that nobody knows.
    pub fn finish(self, problems: &mut Vec<Problem>) {
        for key in self.entries.keys() {
            problems.push(Problem::at(
                key.span(),
                format!("unknown key `{}` in [{}]", key.get_ref(), self.path),
                suggest(key.get_ref(), self.taken.iter().copied()),
            ));
        }
    }

    /// Places of the keys that are left, for checks after the second stage.
    pub fn places(&self) -> Vec<(String, Range<usize>)> {
        self.entries.iter().map(|(k, v)| (k.get_ref().to_string(), v.span())).collect()
    }

    /// serde's words, made ours: which table, what is accepted, what was meant. `path`: the
    /// key's, or the table's where no key is to blame; `what`: what kind of value stands there.
    fn serde_problem(
        &self,
        path: &str,
        e: &toml::de::Error,
        span: Range<usize>,
        what: &str,
    ) -> Problem {
        let message = e.message();
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field") {
            let given = quoted.next().unwrap_or_default();
            let common = self.taken.iter().copied();
            return Problem::at(
                span,
                format!("unknown key `{given}` in [{}]", self.path),
                suggest(given, quoted.chain(common)),
            );
        }
        if message.starts_with("missing field") {
            let key = quoted.next().unwrap_or_default();
            return Problem::at(span, format!("[{path}] needs `{key}`"), format!("`{key}` = …"));
        }
        let typed = ["invalid type: ", "invalid value: "]
            .iter()
            .find_map(|p| message.strip_prefix(p)?.split_once(", expected "));
        let Some((given, expected)) = typed else {
            return Problem::at(span, format!("`{path}`: {message}"), "");
        };
        let given = match given {
            // A date, too, is a map to serde.
            "map" | "sequence" => what.to_owned(),
            value => format!("the {}", value.replace('`', "").replace(" as i128", "")),
        };
        let expected = match expected {
            "u32" => "a whole number, 0 to 4294967295",
            "u64" => "a whole number, 0 to 18446744073709551615",
            "path string" => "a string",
            "a boolean" => "true or false",
            other => other,
        };
        Problem::at(span, format!("`{path}` cannot be {given}"), format!("accepted: {expected}"))
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
        DeValue::String(_) => "a string",
        DeValue::Datetime(_) => "a date",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
    }
}

/// What a name is made of, for people.
pub const NAMES: &str = "accepted: letters, digits, `_`, `-` and `.` (not first), 64 at most";

/// Whether a pipeline, channel or source may be called so: files and sockets are named after
/// them.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Lays `over` over `under`, table by table; values are replaced.
pub fn merge<'i>(under: &mut DeTable<'i>, over: DeTable<'i>) {
    for (key, value) in over {
        let known = under.keys().find(|k| k.get_ref() == key.get_ref()).cloned();
        let Some(known) = known else {
            under.insert(key, value);
            continue;
        };
        let below = under.get_mut(&known);
        match (below, value) {
            (Some(below), value) => {
                let span = value.span();
                match (below.get_mut(), value.into_inner()) {
                    (DeValue::Table(a), DeValue::Table(b)) => merge(a, b),
                    (place, new) => {
                        *place = new;
                        *below = Spanned::new(span, below.get_ref().clone());
                    }
                }
            }
            (None, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Fills `${NAME}` and `${NAME:-default}` in all string values; `$${` stands for `${`.
pub fn fill_in(value: &mut Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match fill_in_text(text) {
            Ok(filled) => *text = Cow::Owned(filled),
            Err(e) => problems.push(Problem::at(span, e, "write `${NAME:-default}`, or set it")),
        },
        DeValue::Array(items) => items.iter_mut().for_each(|v| fill_in(v, problems)),
        DeValue::Table(table) => {
            for (_, v) in table.iter_mut() {
                fill_in(v, problems);
            }
        }
        _ => {}
    }
}

fn fill_in_text(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or("`${` without `}`")?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        match (std::env::var(name), default) {
            (Ok(value), _) => out.push_str(&value),
            (Err(VarError::NotUnicode(_)), _) => {
                return Err(format!("`{name}` in the environment is not UTF-8"));
            }
            (Err(VarError::NotPresent), Some(default)) => out.push_str(default),
            (Err(VarError::NotPresent), None) => {
                return Err(format!("`{name}` is not set in the environment"));
            }
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
