//! Which events are printed: by name, by fields, by time. (By stream and CPU: `Wanted`, which
//! passes whole packets.)
//!
//! What can be said of an event class is said once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rbpipe_core::class::EventClass;
use rbpipe_core::decode::Record;

use super::event::{Event, Origin};
use super::filter::{Filter, FilterError, Fit, Fitted};
use super::stream::{StreamReader, Wanted};
use super::tsdl::Metadata;
use crate::config::problem::suggest;
use rbpipe_backends::glob;

/// `--event GLOB`, each of them.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(bool, String)>);

impl Names {
    /// Of globs; those that begin with `!` leave out.
    #[must_use]
    pub fn new(globs: &[String]) -> Self {
        let one = |text: &String| match text.strip_prefix('!') {
            Some(rest) => (false, rest.to_owned()),
            None => (true, text.clone()),
        };
        Self(globs.iter().map(one).collect())
    }

    /// Whether an event of this name is wanted: one glob takes it (or there are none but
    /// those that leave out), and none leaves it out.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        let hit = |wanted: bool| self.0.iter().any(|(takes, g)| *takes == wanted && means(g, name));
        (hit(true) || !self.0.iter().any(|(takes, _)| *takes)) && !hit(false)
    }
}

/// Whether a glob means this event. Without a colon it is a provider's or an event's name, as
/// in `source.ftrace`.
fn means(glob: &str, name: &str) -> bool {
    let is = |glob: &str, text: &str| glob::matches(glob.as_bytes(), text.as_bytes());
    match (glob.split_once(':'), name.split_once(':')) {
        (Some((of, "")), Some((provider, _))) => is(of, provider),
        (None, Some((provider, event))) => is(glob, name) || is(glob, provider) || is(glob, event),
        _ => is(glob, name),
    }
}

/// Which events are printed.
#[derive(Debug)]
pub struct Selection {
    names: Names,
    filter: Option<Filter>,
    wanted: Arc<Wanted>,
    /// There is nothing to ask.
    all: bool,
    timed: bool,
    classes: Vec<(Arc<EventClass>, Verdict)>,
    /// By the address of a class (which `classes` keeps).
    places: HashMap<usize, usize>,
    recent: (usize, usize),
}

#[derive(Debug)]
enum Verdict {
    No,
    Yes,
    Ask(Fitted),
}

impl Default for Selection {
    fn default() -> Self {
        Self::new(&[], None, Arc::default())
    }
}

impl Selection {
    /// Of these events.
    #[must_use]
    pub fn new(events: &[String], filter: Option<Filter>, wanted: Arc<Wanted>) -> Self {
        let timed = wanted.from > 0 || wanted.to < u64::MAX;
        Self {
            names: Names::new(events),
            all: events.is_empty() && filter.is_none() && !timed,
            filter,
            wanted,
            timed,
            classes: Vec::new(),
            places: HashMap::new(),
            recent: (0, 0),
        }
    }

    /// Whether there is something that may be left out (but for streams and CPUs).
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether this record is wanted.
    #[inline]
    pub fn wants(&mut self, s: &StreamReader, record: &Record) -> bool {
        self.all || self.asked(s, record)
    }

    /// Whether an event is wanted that lies in no packet: its stream and CPU, too, are asked
    /// about.
    pub fn wants_event(&mut self, event: &Event<'_>) -> bool {
        self.wanted.has_origin(&event.from)
            && (!self.timed || self.wanted.has(event.time))
            && (self.all || self.asked_event(event))
    }

    /// Whether there is nothing at all that may be left out.
    pub fn is_everything(&self) -> bool {
        self.all && self.wanted.streams.is_empty() && self.wanted.cpus.is_empty()
    }

    /// Whether anything of this stream is wanted.
    pub fn wants_origin(&self, from: &Origin) -> bool {
        self.wanted.has_origin(from)
    }

    #[inline(never)]
    fn asked(&mut self, s: &StreamReader, record: &Record) -> bool {
        if self.timed && !self.wanted.has(record.time.saturating_add(s.clock_offset())) {
            return false;
        }
        // Records that were given up have no name and no field.
        if record.class.is_none() {
            return true;
        }
        s.event(record).is_some_and(|event| self.asked_event(&event))
    }

    fn asked_event(&mut self, event: &Event<'_>) -> bool {
        let key = Arc::as_ptr(event.class) as usize;
        if self.recent.0 != key {
            self.recent = (key, self.place(key, event.class));
        }
        match &self.classes[self.recent.1].1 {
            Verdict::No => false,
            Verdict::Yes => true,
            Verdict::Ask(f) => f.ask(event) == Some(true),
        }
    }

    fn place(&mut self, key: usize, class: &Arc<EventClass>) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let verdict = match &self.filter {
            _ if !self.names.wants(&class.name) => Verdict::No,
            None => Verdict::Yes,
            Some(filter) => match filter.fit(class, &mut Vec::new()) {
                Fitted::Always(is) => {
                    if is == Some(true) {
                        Verdict::Yes
                    } else {
                        Verdict::No
                    }
                }
                fitted => Verdict::Ask(fitted),
            },
        };
        self.classes.push((Arc::clone(class), verdict));
        self.places.insert(key, self.classes.len() - 1);
        self.classes.len() - 1
    }

    /// The classes that are wanted by their names, each once.
    #[must_use]
    pub fn classes(&self, of: &[Arc<Metadata>]) -> Vec<Arc<EventClass>> {
        let mut out: Vec<Arc<EventClass>> = Vec::new();
        let all = of.iter().flat_map(|m| m.streams.values()).flat_map(|s| s.classes.all());
        for class in all.filter(|c| self.names.wants(&c.name)) {
            if !out.contains(class) {
                out.push(Arc::clone(class));
            }
        }
        out
    }

    /// What of it cannot find anything in traces that are described so.
    #[must_use]
    pub fn in_vain(&self, of: &[Arc<Metadata>]) -> Vec<String> {
        let all = of.iter().flat_map(|m| m.streams.values()).flat_map(|s| s.classes.all());
        let names: BTreeSet<&str> = all.map(|c| c.name.as_str()).collect();
        let providers: BTreeSet<String> =
            names.iter().filter_map(|n| Some(format!("{}:*", n.split_once(':')?.0))).collect();
        let mut out = Vec::new();
        for (takes, glob) in &self.names.0 {
            if !names.iter().any(|n| means(glob, n)) {
                let shown = if *takes { glob.clone() } else { format!("!{glob}") };
                let help = if names.is_empty() {
                    "the trace describes no event yet".to_owned()
                } else {
                    has(glob, providers.iter().map(String::as_str).chain(names.iter().copied()))
                };
                out.push(format!("--event {shown:?} matches no event of the trace: {help}"));
            }
        }
        let (Some(filter), classes) = (&self.filter, self.classes(of)) else { return out };
        if classes.is_empty() {
            return out;
        }
        let tests = filter.tests();
        let mut best = vec![Fit::NoField; tests.len()];
        for class in &classes {
            let mut fits = Vec::new();
            filter.fit(class, &mut fits);
            for (best, fit) in best.iter_mut().zip(fits) {
                *best = best.clone().max(fit);
            }
        }
        for (test, fit) in tests.into_iter().zip(best) {
            let message = match fit {
                Fit::Fits => continue,
                Fit::Wrong(why) => why,
                Fit::NoField => {
                    let fields: BTreeSet<&str> =
                        classes.iter().flat_map(|c| &c.fields).map(|f| f.name.as_str()).collect();
                    let known = fields.into_iter().chain(["name", "cpu", "stream"]);
                    let help = has(&test.field, known);
                    format!("no event that is selected has a field `{}`; {help}", test.field)
                }
            };
            out.push(format!("--filter: {}", FilterError::about(filter, test, message)));
        }
        out
    }
}

/// What there is instead. Names are a trace's: none is to drive a terminal.
fn has<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let help = suggest(given, known).replace("accepted: ", "it has ");
    help.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_left_out() {
        let names =
            |globs: &[&str]| Names::new(&globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>());
        assert!(names(&[]).wants("a:b"));
        assert!(names(&["a:*"]).wants("a:b"));
        assert!(!names(&["a:*"]).wants("b:a"));
        assert!(names(&["a"]).wants("a:b") && names(&["b"]).wants("a:b"));
        assert!(names(&["a:"]).wants("a:b") && !names(&["a:"]).wants("b:a"));
        assert!(!names(&["a:*", "!a:b"]).wants("a:b"));
        assert!(names(&["!a:b"]).wants("a:c"));
        assert!(!names(&["!a:b", "a:*"]).wants("a:b"), "in any order");
    }
}
