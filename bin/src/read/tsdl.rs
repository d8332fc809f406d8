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
    pub streams: BTreeMap<u32, Stream>,
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
enum Token {
    Word(String),
    Number(i128),
    Text(String),
    Sign(char),
    /// `...`
    Dots,
    /// `:=`
    Becomes,
}

struct Tokens {
    list: Vec<(Token, u32)>,
    at: usize,
}

/// Parses metadata.
///
/// # Errors
/// What cannot be read, and its line.
pub fn parse(text: &str) -> anyhow::Result<Metadata> {
    ensure!(
        text.starts_with("/* CTF 1.8"),
        "metadata is not CTF 1.8 text (packetised metadata and CTF 2 are not read here)"
    );
    let mut t = Tokens { list: tokens(text)?, at: 0 };
    let mut out = Metadata::default();
    let mut ours = false;
    let mut events: BTreeMap<u32, BTreeMap<usize, Arc<EventClass>>> = BTreeMap::new();
    let mut classes: BTreeMap<u32, StreamClass> = BTreeMap::new();
    while let Some(word) = t.next() {
        let line = t.line();
        let Token::Word(word) = word else { bail!("line {line}: a block was expected") };
        match word.as_str() {
            "env" => {
                for (key, value) in t.assignments()? {
                    ours |= key == "tracer_name" && value == Token::Text("rbpipe".into());
                }
            }
            "clock" => {
                for (key, value) in t.assignments()? {
                    let Token::Number(n) = value else { continue };
                    let n = u64::try_from(n).unwrap_or(0);
                    match key.as_str() {
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
        // Ids are given in order: what is described has no gap.
        let list: Vec<_> = mine
            .into_iter()
            .enumerate()
            .take_while(|(n, (place, _))| n == place)
            .map(|(_, (_, c))| c)
            .collect();
        out.streams.insert(id, Stream { class, classes: Classes::new(list) });
    }
    Ok(out)
}

fn tokens(text: &str) -> anyhow::Result<Vec<(Token, u32)>> {
    let mut out = Vec::new();
    let mut rest = text.char_indices().peekable();
    let mut line = 1;
    while let Some((at, c)) = rest.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '/' if text[at..].starts_with("/*") => {
                let end = text[at + 2..].find("*/").map(|n| at + 2 + n + 2);
                let end = end.with_context(|| format!("line {line}: a comment has no end"))?;
                line += text[at..end].matches('\n').count() as u32;
                while rest.next_if(|(i, _)| *i < end).is_some() {}
            }
            '/' if text[at..].starts_with("//") => {
                while rest.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '"' => {
                let mut s = String::new();
                loop {
                    match rest.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => s.extend(rest.next().map(|(_, c)| c)),
                        Some((_, '\n')) | None => bail!("line {line}: a string has no end"),
                        Some((_, c)) => s.push(c),
                    }
                }
                out.push((Token::Text(s), line));
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let mut end = at + 1;
                while let Some((i, _)) =
                    rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_')
                {
                    end = i + 1;
                }
                out.push((Token::Word(text[at..end].into()), line));
            }
            c if c.is_ascii_digit() || c == '-' => {
                let mut end = at + 1;
                while let Some((i, _)) = rest.next_if(|(_, c)| c.is_ascii_digit()) {
                    end = i + 1;
                }
                let n = text[at..end].parse();
                out.push((Token::Number(n.with_context(|| format!("line {line}: number"))?), line));
            }
            '.' if text[at..].starts_with("...") => {
                rest.next();
                rest.next();
                out.push((Token::Dots, line));
            }
            ':' if text[at..].starts_with(":=") => {
                rest.next();
                out.push((Token::Becomes, line));
            }
            c => out.push((Token::Sign(c), line)),
        }
    }
    Ok(out)
}

impl Tokens {
    fn next(&mut self) -> Option<Token> {
        let token = self.list.get(self.at)?.0.clone();
        self.at += 1;
        Some(token)
    }
    fn peek(&self) -> Option<&Token> {
        self.list.get(self.at).map(|(t, _)| t)
    }
    fn line(&self) -> u32 {
        self.list.get(self.at.saturating_sub(1)).map_or(0, |(_, l)| *l)
    }
    fn eat(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }
    fn need(&mut self, sign: char) -> anyhow::Result<()> {
        ensure!(self.eat(sign), "line {}: `{sign}` was expected", self.line());
        Ok(())
    }
    fn word(&mut self) -> anyhow::Result<String> {
        match self.next() {
            Some(Token::Word(w)) => Ok(w),
            _ => bail!("line {}: a name was expected", self.line()),
        }
    }
    fn number(&mut self) -> anyhow::Result<i128> {
        match self.next() {
            Some(Token::Number(n)) => Ok(n),
            _ => bail!("line {}: a number was expected", self.line()),
        }
    }

    /// To behind the next `;` that is in no block.
    fn skip_statement(&mut self) -> anyhow::Result<()> {
        let mut depth = 0u32;
        while let Some(token) = self.next() {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth = depth.saturating_sub(1),
                Token::Sign(';') if depth == 0 => return Ok(()),
                _ => {}
            }
        }
        bail!("line {}: a statement has no end", self.line())
    }

    /// `{ key = value; … };`, values of other shapes left out.
    fn assignments(&mut self) -> anyhow::Result<Vec<(String, Token)>> {
        let mut out = Vec::new();
        self.need('{')?;
        while !self.eat('}') {
            let begin = self.at;
            let key = self.word()?;
            let value = if self.eat('=') { self.next() } else { None };
            match value {
                Some(value) if self.eat(';') => out.push((key, value)),
                _ => {
                    self.at = begin;
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
            let begin = self.at;
            if self.word()? == "id" && self.eat('=') {
                id = u32::try_from(self.number()?)?;
                self.need(';')?;
                continue;
            }
            self.at = begin;
            self.skip_statement()?;
            for (token, _) in &self.list[begin..self.at] {
                match token {
                    Token::Word(w) if w == "cpu_id" => class = StreamClass::Cpu,
                    Token::Word(w) if w == "tid" => class = StreamClass::Thread,
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
            let begin = self.at;
            let key = self.word()?;
            if key == "fields" && self.peek() == Some(&Token::Becomes) {
                self.at += 1;
                class.fields = self.fields()?;
                self.need(';')?;
                continue;
            }
            let value = if self.eat('=') { self.next() } else { None };
            match (key.as_str(), value) {
                ("name", Some(Token::Text(name))) => class.name = name,
                ("id", Some(Token::Number(n))) => id = Some(u32::try_from(n)?),
                ("stream_id", Some(Token::Number(n))) => stream = Some(u32::try_from(n)?),
                ("loglevel", Some(Token::Number(n))) => {
                    class.level = LogLevel::from_number(u64::try_from(n)?);
                }
                _ => {
                    self.at = begin;
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
        ensure!(self.word()? == "struct", "line {}: `struct` was expected", self.line());
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
                    self.line()
                );
                let ty = match self.next() {
                    Some(Token::Number(n)) => FieldType::Array(Box::new(ty), u32::try_from(n)?),
                    Some(Token::Word(length)) => {
                        // The length is part of the sequence, not a field of its own.
                        let length = bare(&length);
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
                    _ => bail!("line {}: a length was expected", self.line()),
                };
                self.need(']')?;
                ty
            } else {
                ty
            };
            self.need(';')?;
            out.push(Field::new(bare(&name), ty));
        }
        Ok(out)
    }

    fn ty(&mut self, depth: u32) -> anyhow::Result<FieldType> {
        ensure!(depth < 4, "line {}: types are nested too deep", self.line());
        let word = self.word()?;
        let fixed = |bits| FieldType::Integer(Integer::unsigned(bits));
        Ok(match word.as_str() {
            "uint8_t" => fixed(8),
            "uint32_t" => fixed(32),
            "uint64_t" => fixed(64),
            "integer" => FieldType::Integer(self.integer()?),
            "string" => {
                if self.peek() == Some(&Token::Sign('{')) {
                    self.assignments()?;
                }
                FieldType::String
            }
            "floating_point" => {
                let all = self.assignments()?;
                let is =
                    |v: i128| all.iter().any(|(k, t)| k == "mant_dig" && *t == Token::Number(v));
                match (is(24), is(53)) {
                    (true, _) => FieldType::Float32,
                    (_, true) => FieldType::Float64,
                    _ => bail!("line {}: a float of another size", self.line()),
                }
            }
            "enum" => {
                self.need(':')?;
                let FieldType::Integer(i) = self.ty(depth + 1)? else {
                    bail!("line {}: an enumeration of no integer", self.line())
                };
                FieldType::Enumeration(i, self.labels()?)
            }
            other => bail!("line {}: type `{other}` is not known", self.line()),
        })
    }

    fn integer(&mut self) -> anyhow::Result<Integer> {
        let mut i = Integer::unsigned(0);
        for (key, value) in self.assignments()? {
            match (key.as_str(), value) {
                ("size", Token::Number(n @ (8 | 16 | 32 | 64))) => i.bits = n as u8,
                ("align", Token::Number(n)) => {
                    ensure!(
                        n == 8,
                        "line {}: an alignment that rbpipe does not write",
                        self.line()
                    );
                }
                ("signed", Token::Word(w)) => i.signed = w == "true",
                ("base", Token::Number(16)) => i.base = Base::Hexadecimal,
                ("base", Token::Number(8)) => i.base = Base::Octal,
                ("base", Token::Number(2)) => i.base = Base::Binary,
                ("encoding", Token::Word(w)) => i.text = w == "UTF8",
                _ => {}
            }
        }
        ensure!(i.bits != 0, "line {}: an integer of another size", self.line());
        Ok(i)
    }

    fn labels(&mut self) -> anyhow::Result<Vec<Label>> {
        let mut out = Vec::new();
        self.need('{')?;
        while !self.eat('}') {
            let name = match self.next() {
                Some(Token::Text(t) | Token::Word(t)) => t,
                _ => bail!("line {}: a label was expected", self.line()),
            };
            self.need('=')?;
            let first = self.number()?;
            let mut last = first;
            if self.peek() == Some(&Token::Dots) {
                self.at += 1;
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
