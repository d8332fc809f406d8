//! `[source.NAME]`.

use std::any::Any;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::problem::{Problem, suggest};
use super::table::Table;
use super::{SourceConfig, place, read_type, told};
use crate::sources::{self, Source, VisitSource};

/// `channel = "NAME"`, or a list of names.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a channel's name, or a list of names")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Names, E> {
                Ok(Names(vec![v.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                if names.is_empty() {
                    return Err(de::Error::custom("an empty list: name at least one channel"));
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The channels that a source may name.
pub(super) struct ChannelNames<'a> {
    /// Those that could be read, in their order.
    pub names: &'a [String],
    /// All, those with an error included: no reason to tell of them once more.
    pub declared: &'a [String],
    /// Whether a source writes into it.
    pub used: &'a mut [bool],
}

/// Reads a source's table.
pub(super) fn read(
    name: String,
    mut t: Table<'_>,
    to: ChannelNames<'_>,
    claimed: &mut Vec<(String, String)>,
    problems: &mut Vec<Problem>,
) -> Option<SourceConfig> {
    let types: Vec<&str> = sources::types();
    let type_name = read_type(&mut t, &types, problems);
    let (path, span) = (t.path.clone(), t.span.clone());
    let before = problems.len();
    let wanted = t.take::<Names>("channel", problems).map(|c| (c.span(), c.into_inner().0));
    let wrong = problems.len() > before;
    let mut places = Vec::new();
    match wanted {
        None if wrong => {}
        None => problems.push(Problem::at(
            span,
            format!("[{path}] needs `channel`"),
            format!("`channel` = a channel's name: {}", to.names.join(", ")),
        )),
        Some((span, names)) => {
            for wanted in names {
                match to.names.iter().position(|c| *c == wanted) {
                    Some(place) => {
                        to.used[place] = true;
                        if !places.contains(&place) {
                            places.push(place);
                        }
                    }
                    None if to.declared.contains(&wanted) => {}
                    None => problems.push(Problem::at(
                        span.clone(),
                        format!("[{path}]: there is no channel {wanted:?}"),
                        suggest(
                            &wanted,
                            to.names.iter().map(String::as_str).filter(|c| !c.is_empty()),
                        ),
                    )),
                }
            }
        }
    }
    let mut choice =
        ChooseSource { table: Some(t), wanted: type_name?, claimed, found: None, problems };
    sources::for_each(&mut choice);
    let (type_name, config) = choice.found?;
    Some(SourceConfig { name, channels: places, type_name, config: config? })
}

struct ChooseSource<'i, 'p> {
    table: Option<Table<'i>>,
    wanted: String,
    /// What sources before this one claimed, each with who did.
    claimed: &'p mut Vec<(String, String)>,
    found: Option<(&'static str, Option<Box<dyn Any + Send>>)>,
    problems: &'p mut Vec<Problem>,
}

impl VisitSource for ChooseSource<'_, '_> {
    fn visit<S: Source>(&mut self) {
        if self.wanted != S::TYPE {
            return;
        }
        let Some(table) = self.table.take() else { return };
        let (path, span, places) = (table.path.clone(), table.span.clone(), table.places());
        let config = table
            .rest::<S::Config>(self.problems)
            .filter(|config| told(S::check(config), &path, span.clone(), &places, self.problems));
        if let Some((key, what)) = config.as_ref().and_then(S::claims) {
            if let Some((_, other)) = self.claimed.iter().find(|(w, _)| *w == what) {
                let message = format!("`{path}.{key}`: `{other}` reads {what} already");
                let at = place(&places, key).unwrap_or(span);
                self.problems.push(Problem::at(at, message, "one source alone can have it"));
            }
            self.claimed.push((what, path));
        }
        self.found = Some((S::TYPE, config.map(|c| Box::new(c) as Box<dyn Any + Send>)));
    }
}
