//! Metadata, read back: TSDL text to event classes.
//!
//! Reads what rbpipe writes (`rbpipe_core::metadata`), in any layout and order; a trace of
//! another tool gets one sentence. No input panics, and nesting has a bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rbpipe_core::class::{Base, ClassId, EventClass, Field, FieldType, Integer, Label, LogLevel};
use rbpipe_core::decode::Classes;
use rbpipe_core::packet::StreamClass;

/// What the metadata says.
#[derive(Debug, Default)]
pub struct Metadata {
    /// Nanoseconds from the clock's zero to the epoch.
    pub clock_offset: u64,
    /// Stream classes by id.
    pub streams: BTreeMap<u32, Arc<Stream>>,
}

/// A stream class.
#[derive(Debug)]
pub struct Stream {
    /// What its packets say of their origin.
    pub class: StreamClass,
    /// Its event classes.
    pub classes: Classes,
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'t> {
    Word(&'t str),
    Number(i128),
    Text(String),
    Sign(char),
    /// `...`
    Dots,
    /// `:=`
    Becomes,
}

/// The text's tokens, read when they are asked for: none is kept, so that what is held in
/// memory has a bound in what the text says, not in how many signs it says it with.
struct Tokens<'t> {
    text: &'t str,
    /// Behind the last token.
    at: usize,
    /// The last token's.
    line: u32,
}

/// Parses metadata.
///
/// # Errors
/// What cannot be read, and its line.
pub fn parse(text: &str) -> anyhow::Result<Metadata> {
    parse_again(text, &Metadata::default())
}

/// Parses metadata that took the place of other metadata. Classes that are as they were are
/// the same ones: what was made for them is not made again.
///
/// # Errors
/// What cannot be read, and its line.
pub fn parse_again(text: &str, before: &Metadata) -> anyhow::Result<Metadata> {
    ensure!(
        text.starts_with("/* CTF 1.8"),
        "metadata is not CTF 1.8 text (packetised metadata and CTF 2 are not read here)"
    );
    let mut t = Tokens { text, at: 0, line: 1 };
    let mut out = Metadata::default();
    let mut ours = false;
    let mut events: BTreeMap<u32, BTreeMap<usize, Arc<EventClass>>> = BTreeMap::new();
    let mut classes: BTreeMap<u32, StreamClass> = BTreeMap::new();
    while let Some(word) = t.next()? {
        let line = t.line;
        let Token::Word(word) = word else { bail!("line {line}: a block was expected") };
        match word {
            "env" => {
                for (key, value) in t.assignments()? {
                    ours |= key == "tracer_name" && value == Token::Text("rbpipe".into());
                }
            }
            "clock" => {
                for (key, value) in t.assignments()? {
                    let Token::Number(n) = value else { continue };
                    let n = u64::try_from(n).unwrap_or(0);
                    match key {
                        "offset_s" => {
                            let ns = n.saturating_mul(1_000_000_000);
                            out.clock_offset = out.clock_offset.saturating_add(ns);
                        }
                        "offset" => out.clock_offset = out.clock_offset.saturating_add(n),
                        _ => {}
                    }
                }
            }
            "stream" => {
                let (id, class) = t.stream().with_context(|| format!("line {line}: stream"))?;
                classes.insert(id, class);
            }
            "event" => {
                let (id, stream, class) =
                    t.event().with_context(|| format!("line {line}: event"))?;
                if let Some(place) = ClassId::index(id) {
                    events.entry(stream).or_default().insert(place, Arc::new(class));
                }
            }
            _ => t.skip_statement()?,
        }
    }
    ensure!(
        ours,
        "the trace was not written by rbpipe, whose traces alone are read here; use babeltrace2"
    );
    for (id, class) in classes {
        let mine = events.remove(&id).unwrap_or_default();
        let known = before.streams.get(&id).map(|s| &s.classes);
        // Ids are given in order: what is described has no gap.
        let list: Vec<_> = mine
            .into_iter()
            .enumerate()
            .take_while(|(n, (place, _))| n == place)
            .map(|(n, (_, c))| {
                known.and_then(|k| k.get(n)).filter(|k| **k == c).cloned().unwrap_or(c)
            })
            .collect();
        let stream = Stream { class, classes: Classes::new(list) };
        out.streams.insert(id, Arc::new(stream));
    }
    Ok(out)
}

impl<'t> Tokens<'t> {
    /// The next token, and where and in which line it ends.
    fn read(&self) -> anyhow::Result<Option<(Token<'t>, usize, u32)>> {
        let (mut at, mut line) = (self.at, self.line);
        loop {
            let rest = &self.text[at..];
            let Some(c) = rest.chars().next() else { return Ok(None) };
            // What of the rest, from its first character, is such a character.
            let run = |of: fn(char) -> bool| {
                rest[1..].find(|c: char| !of(c)).map_or(rest.len(), |n| 1 + n)
            };
            let (token, length) = match c {
                c if c.is_whitespace() => {
                    line += u32::from(c == '\n');
                    at += c.len_utf8();
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    let end = rest[2..].find("*/");
                    let end = end.with_context(|| format!("line {line}: a comment has no end"))?;
                    line += rest[..2 + end].matches('\n').count() as u32;
                    at += 2 + end + 2;
                    continue;
                }
                '/' if rest.starts_with("//") => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '"' => {
                    let mut text = String::new();
                    let mut chars = rest[1..].chars();
                    loop {
                        match chars.next() {
                            Some('"') => break,
                            Some('\\') => text.extend(chars.next()),
                            Some('\n') | None => bail!("line {line}: a string has no end"),
                            Some(c) => text.push(c),
                        }
                    }
                    (Token::Text(text), rest.len() - chars.as_str().len())
                }
                c if c.is_ascii_alphabetic() || c == '_' => {
                    let length = run(|c| c.is_ascii_alphanumeric() || c == '_');
                    (Token::Word(&rest[..length]), length)
                }
                c if c.is_ascii_digit() || c == '-' => {
                    let length = run(|c| c.is_ascii_digit());
                    let n = rest[..length].parse();
                    (Token::Number(n.with_context(|| format!("line {line}: number"))?), length)
                }
                '.' if rest.starts_with("...") => (Token::Dots, 3),
                ':' if rest.starts_with(":=") => (Token::Becomes, 2),
                c => (Token::Sign(c), c.len_utf8()),
            };
            return Ok(Some((token, at + length, line)));
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Token<'t>>> {
        let Some((token, at, line)) = self.read()? else { return Ok(None) };
        (self.at, self.line) = (at, line);
        Ok(Some(token))
    }
    /// Takes the next token if it is this one. (One that cannot be read is none; `next` tells.)
    fn take(&mut self, wanted: &Token<'_>) -> bool {
        match self.read() {
            Ok(Some((token, at, line))) if token == *wanted => {
                (self.at, self.line) = (at, line);
                true
            }
            _ => false,
        }
    }
    fn eat(&mut self, sign: char) -> bool {
        self.take(&Token::Sign(sign))
    }
    fn need(&mut self, sign: char) -> anyhow::Result<()> {
        ensure!(self.eat(sign), "line {}: `{sign}` was expected", self.line);
        Ok(())
    }
    fn word(&mut self) -> anyhow::Result<&'t str> {
        match self.next()? {
            Some(Token::Word(w)) => Ok(w),
            _ => bail!("line {}: a name was expected", self.line),
        }
    }
    fn number(&mut self) -> anyhow::Result<i128> {
        match self.next()? {
            Some(Token::Number(n)) => Ok(n),
            _ => bail!("line {}: a number was expected", self.line),
        }
    }

    /// To behind the next `;` that is in no block.
    fn skip_statement(&mut self) -> anyhow::Result<()> {
        let mut depth = 0u32;
        while let Some(token) = self.next()? {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth = depth.saturating_sub(1),
                Token::Sign(';') if depth == 0 => return Ok(()),
                _ => {}
            }
        }
        bail!("line {}: a statement has no end", self.line)
    }

    /// `{ key = value; … };`, values of other shapes left out.
    fn assignments(&mut self) -> anyhow::Result<Vec<(&'t str, Token<'t>)>> {
        let mut out = Vec::new();
        self.need('{')?;
        while !self.eat('}') {
            let begin = (self.at, self.line);
            let key = self.word()?;
            let value = if self.eat('=') { self.next()? } else { None };
            match value {
                Some(value) if self.eat(';') => out.push((key, value)),
                _ => {
                    (self.at, self.line) = begin;
                    self.skip_statement()?;
                }
            }
        }
        self.eat(';');
        Ok(out)
    }

    fn stream(&mut self) -> anyhow::Result<(u32, StreamClass)> {
        let (mut id, mut class) = (0, StreamClass::Plain);
        self.need('{')?;
        while !self.eat('}') {
            let begin = (self.at, self.line);
            if self.word()? == "id" && self.eat('=') {
                id = u32::try_from(self.number()?)?;
                self.need(';')?;
                continue;
            }
            (self.at, self.line) = begin;
            self.skip_statement()?;
            let mut words = Tokens { text: &self.text[..self.at], at: begin.0, line: begin.1 };
            while let Some(token) = words.next()? {
                match token {
                    Token::Word("cpu_id") => class = StreamClass::Cpu,
                    Token::Word("tid") => class = StreamClass::Thread,
                    _ => {}
                }
            }
        }
        self.eat(';');
        Ok((id, class))
    }

    fn event(&mut self) -> anyhow::Result<(u32, u32, EventClass)> {
        let (mut id, mut stream) = (None, None);
        let mut class = EventClass::new("", Vec::new());
        self.need('{')?;
        while !self.eat('}') {
            let begin = (self.at, self.line);
            let key = self.word()?;
            if key == "fields" && self.take(&Token::Becomes) {
                class.fields = self.fields()?;
                self.need(';')?;
                continue;
            }
            let value = if self.eat('=') { self.next()? } else { None };
            match (key, value) {
                ("name", Some(Token::Text(name))) => class.name = name,
                ("id", Some(Token::Number(n))) => id = Some(u32::try_from(n)?),
                ("stream_id", Some(Token::Number(n))) => stream = Some(u32::try_from(n)?),
                ("loglevel", Some(Token::Number(n))) => {
                    class.level = LogLevel::from_number(u64::try_from(n)?);
                }
                _ => {
                    (self.at, self.line) = begin;
                    self.skip_statement()?;
                    continue;
                }
            }
            self.need(';')?;
        }
        self.eat(';');
        Ok((id.context("it has no id")?, stream.context("it has no stream_id")?, class))
    }

    /// `struct { TYPE NAME; TYPE NAME[N]; uint32_t LENGTH; TYPE NAME[LENGTH]; }`
    fn fields(&mut self) -> anyhow::Result<Vec<Field>> {
        ensure!(self.word()? == "struct", "line {}: `struct` was expected", self.line);
        self.need('{')?;
        let mut out: Vec<Field> = Vec::new();
        while !self.eat('}') {
            let ty = self.ty(0)?;
            let name = self.word()?;
            let ty = if self.eat('[') {
                ensure!(
                    matches!(
                        ty,
                        FieldType::Integer(_)
                            | FieldType::Enumeration(..)
                            | FieldType::Float32
                            | FieldType::Float64
                    ),
                    "line {}: elements of a type that rbpipe does not write",
                    self.line
                );
                let ty = match self.next()? {
                    Some(Token::Number(n)) => FieldType::Array(Box::new(ty), u32::try_from(n)?),
                    Some(Token::Word(length)) => {
                        // The length is part of the sequence, not a field of its own.
                        let length = bare(length);
                        let last = out.pop().filter(|f| {
                            f.name == length && f.ty.fixed_size().is_some_and(|n| n == 4)
                        });
                        // `rbpipe:aborted` has other lengths; its fields are not shown.
                        if last.is_none() {
                            FieldType::Array(Box::new(ty), 0)
                        } else {
                            FieldType::Sequence(Box::new(ty))
                        }
                    }
                    _ => bail!("line {}: a length was expected", self.line),
                };
                self.need(']')?;
                ty
            } else {
                ty
            };
            self.need(';')?;
            out.push(Field::new(bare(name), ty));
        }
        Ok(out)
    }

    fn ty(&mut self, depth: u32) -> anyhow::Result<FieldType> {
        ensure!(depth < 4, "line {}: types are nested too deep", self.line);
        let word = self.word()?;
        let fixed = |bits| FieldType::Integer(Integer::unsigned(bits));
        Ok(match word {
            "uint8_t" => fixed(8),
            "uint32_t" => fixed(32),
            "uint64_t" => fixed(64),
            "integer" => FieldType::Integer(self.integer()?),
            "string" => {
                let begin = (self.at, self.line);
                if self.eat('{') {
                    (self.at, self.line) = begin;
                    self.assignments()?;
                }
                FieldType::String
            }
            "floating_point" => {
                let all = self.assignments()?;
                let is =
                    |v: i128| all.iter().any(|(k, t)| *k == "mant_dig" && *t == Token::Number(v));
                match (is(24), is(53)) {
                    (true, _) => FieldType::Float32,
                    (_, true) => FieldType::Float64,
                    _ => bail!("line {}: a float of another size", self.line),
                }
            }
            "enum" => {
                self.need(':')?;
                let FieldType::Integer(i) = self.ty(depth + 1)? else {
                    bail!("line {}: an enumeration of no integer", self.line)
                };
                FieldType::Enumeration(i, self.labels()?)
            }
            other => bail!("line {}: type `{other}` is not known", self.line),
        })
    }

    fn integer(&mut self) -> anyhow::Result<Integer> {
        let mut i = Integer::unsigned(0);
        for (key, value) in self.assignments()? {
            match (key, value) {
                ("size", Token::Number(n @ (8 | 16 | 32 | 64))) => i.bits = n as u8,
                ("align", Token::Number(n)) => {
                    ensure!(n == 8, "line {}: an alignment that rbpipe does not write", self.line);
                }
                ("signed", Token::Word(w)) => i.signed = w == "true",
                ("base", Token::Number(16)) => i.base = Base::Hexadecimal,
                ("base", Token::Number(8)) => i.base = Base::Octal,
                ("base", Token::Number(2)) => i.base = Base::Binary,
                ("encoding", Token::Word(w)) => i.text = w == "UTF8",
                _ => {}
            }
        }
        ensure!(i.bits != 0, "line {}: an integer of another size", self.line);
        Ok(i)
    }

    fn labels(&mut self) -> anyhow::Result<Vec<Label>> {
        let mut out = Vec::new();
        self.need('{')?;
        while !self.eat('}') {
            let name = match self.next()? {
                Some(Token::Text(t)) => t,
                Some(Token::Word(w)) => w.to_owned(),
                _ => bail!("line {}: a label was expected", self.line),
            };
            self.need('=')?;
            let first = self.number()?;
            let mut last = first;
            if self.take(&Token::Dots) {
                last = self.number()?;
            }
            self.eat(',');
            out.push(Label { name, first, last });
        }
        Ok(out)
    }
}

/// One `_` taken off.
fn bare(name: &str) -> String {
    name.strip_prefix('_').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};

    #[test]
    fn reads_back_what_is_written() {
        let classes: Vec<Arc<EventClass>> = vec![
            EventClass::new(
                "a:\"b\\",
                vec![
                    Field::new("event", FieldType::U16),
                    Field::new("_x", FieldType::Sequence(Box::new(FieldType::I64))),
                    Field::new(
                        "comm",
                        FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16),
                    ),
                    Field::new("f", FieldType::Float32),
                    Field::new("g", FieldType::Float64),
                    Field::new("s", FieldType::String),
                    Field::new(
                        "e",
                        FieldType::Enumeration(
                            Integer::signed(8),
                            vec![
                                Label { name: "one".into(), first: 1, last: 1 },
                                Label { name: "low".into(), first: -9, last: 0 },
                            ],
                        ),
                    ),
                    Field::new(
                        "h",
                        FieldType::Integer(Integer::unsigned(64).base(Base::Hexadecimal)),
                    ),
                ],
            )
            .level(LogLevel::Notice)
            .into(),
        ];
        let mut classes = classes;
        for i in 1..40 {
            classes.push(EventClass::new(format!("c{i}"), vec![]).into());
        }
        let text = metadata::write(&TraceDescription {
            uuid: [7; 16],
            name: "n\"".into(),
            hostname: "h".into(),
            clock_offset: 1_700_000_000_123_456_789,
            streams: StreamClass::ALL
                .iter()
                .map(|c| StreamDescription {
                    id: c.number(),
                    class: *c,
                    channel: "t".into(),
                    classes: classes.clone(),
                })
                .collect(),
        });
        let back = parse(&text).unwrap();
        assert_eq!(back.clock_offset, 1_700_000_000_123_456_789);
        for c in StreamClass::ALL {
            let s = &back.streams[&c.number()];
            assert_eq!(s.class, c);
            for (i, class) in classes.iter().enumerate() {
                assert_eq!(s.classes.get(i), Some(class));
            }
        }
    }

    #[test]
    fn other_traces_get_a_sentence() {
        assert!(parse("").is_err());
        let other = "/* CTF 1.8 */ env { tracer_name = \"lttng-ust\"; };";
        assert!(parse(other).unwrap_err().to_string().contains("not written by rbpipe"));
    }

    #[test]
    fn damaged_text_never_panics() {
        let text = metadata::write(&TraceDescription {
            uuid: [7; 16],
            name: "n".into(),
            hostname: "h".into(),
            clock_offset: 1,
            streams: vec![StreamDescription {
                id: 0,
                class: StreamClass::Cpu,
                channel: "t".into(),
                classes: vec![EventClass::new("e", vec![Field::new("x", FieldType::U8)]).into()],
            }],
        });
        for n in 0..text.len() {
            if text.is_char_boundary(n) {
                let _ = parse(&text[..n]);
                let _ = parse(&format!("{}{}", &text[..n], &text[(n + 7).min(text.len())..]));
                let _ = parse(&format!("{}}}{}", &text[..n], &text[n..]));
            }
        }
    }
}
