//! What is wrong with a configuration, and how it is shown: file, line, column, the line
//! with a caret, what would be accepted, and what was probably meant.

use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Texts that a configuration was read from, laid end to end: a place in any of them is one
/// number. The file comes first, then each `--set`.
#[derive(Debug, Default)]
pub struct Texts {
    parts: Vec<(String, usize, String)>,
}

impl Texts {
    /// Adds a text under a name; gives where it begins.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        let at = self.parts.last().map_or(0, |(_, at, text)| at + text.len() + 1);
        self.parts.push((name.into(), at, text.into()));
        at
    }

    /// The text that a place is in, its name, and the range in it.
    fn find(&self, span: &Range<usize>) -> Option<(&str, &str, Range<usize>)> {
        let (name, at, text) = self.parts.iter().rev().find(|(_, at, _)| *at <= span.start)?;
        let clamp = |p: usize| p.saturating_sub(*at).min(text.len());
        let (start, end) = (clamp(span.start), clamp(span.end));
        // A span over several lines (a table) is shown by its first.
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        Some((name, text, start..end.min(line_end).max(start)))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where, in [`Texts`].
    pub span: Option<Range<usize>>,
    /// What.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Worth a word, but no reason to stop.
    pub warning: bool,
}

impl Problem {
    /// An error at a place.
    pub fn at(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), help: help.into(), warning: false }
    }
    /// An error of the whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), help: String::new(), warning: false }
    }
}

/// So many are shown, and so many names are listed in one: more help nobody, and each costs a
/// walk through the whole text, so that a large file full of them took minutes.
pub const SHOWN: usize = 20;

/// All that is wrong, with the texts that it is in. Its `Display` is what people see: the
/// first [`SHOWN`].
#[derive(Debug)]
pub struct Problems {
    /// The texts.
    pub texts: Texts,
    /// In the order of their places.
    pub list: Vec<Problem>,
}

impl Problems {
    /// How it is shown on stderr: coloured on a terminal.
    pub fn for_stderr(&self) -> String {
        let renderer =
            if std::io::stderr().is_terminal() { Renderer::styled() } else { Renderer::plain() };
        self.render(&renderer)
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut out = String::new();
        for p in self.list.iter().take(SHOWN) {
            let level = if p.warning { Level::WARNING } else { Level::ERROR };
            let title = level.primary_title(&p.message);
            let found = p.span.as_ref().and_then(|s| self.texts.find(s));
            let group: Group<'_> = match &found {
                Some((name, text, range)) => {
                    let mark = AnnotationKind::Primary.span(range.clone()).label(&p.help);
                    title.element(Snippet::source(*text).path(*name).annotation(mark))
                }
                None if p.help.is_empty() => Group::with_title(title),
                None => title.element(Level::HELP.message(&p.help)),
            };
            // The renderer shows the control characters of ASCII as pictures, but lets those
            // through that Unicode adds (C1), which drive terminals, too.
            let c1 = |c| ('\u{80}'..='\u{9f}').contains(&c);
            out.push_str(&renderer.render(&[group]).replace(c1, "\u{fffd}"));
            out.push('\n');
        }
        if let Some(more @ 1..) = self.list.len().checked_sub(SHOWN) {
            out.push_str(&format!("and {more} more\n"));
        }
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Problems {}

/// Longer names (64 at most, `table::is_name`) are compared with none: it takes memory and
/// time as the product of both lengths.
const COMPARED: usize = 64;

/// "did you mean …? accepted: …"
pub fn suggest<'a>(given: &str, accepted: impl IntoIterator<Item = &'a str>) -> String {
    let accepted: Vec<&str> = accepted.into_iter().collect();
    let near = accepted
        .iter()
        .filter(|a| a.len().max(given.len()) <= COMPARED)
        .map(|a| (strsim::damerau_levenshtein(given, a), *a))
        .min()
        .filter(|(distance, a)| *distance <= (a.len() / 3).max(1));
    let mut list: Vec<_> = accepted.iter().take(SHOWN).map(|a| format!("`{a}`")).collect();
    if accepted.len() > SHOWN {
        list.push("…".into());
    }
    let list = list.join(", ");
    match near {
        Some((_, near)) => format!("did you mean `{near}`? accepted: {list}"),
        None if list.is_empty() => String::new(),
        None => format!("accepted: {list}"),
    }
}
