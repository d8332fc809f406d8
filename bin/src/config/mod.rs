//! The configuration: read whole, checked whole, before anything is opened.
//!
//! In two stages, so that each error keeps its place: first the tables and their common keys
//! ([`table`]), then, through the registries, what is each source's and backend's own. All
//! errors are shown at once ([`problem`]).

pub mod problem;
pub mod table;

use std::any::Any;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::units::{Size, Time};
use rbpipe_core::backend::{Backend, ChannelPlan, ConfigProblem, Visit};
use rbpipe_core::channel::{ChannelOptions, Streams};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::frontend::{Geometry, GeometryError, Mode};
use rbpipe_core::packet::MAX_HEADER;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::sources::{self, Source, VisitSource};
use problem::{Problem, Problems, Texts, suggest};
use table::Table;

/// A whole pipeline, checked.
pub struct PipelineConfig {
    /// Names the trace.
    pub name: String,
    /// Ends after this long.
    pub duration: Option<Duration>,
    /// How long records that are being written are waited for at the end.
    pub stop_timeout: Duration,
    /// In the order of their names.
    pub sources: Vec<SourceConfig>,
    /// In the order of their names.
    pub channels: Vec<ChannelConfig>,
}

/// `[source.NAME]`.
pub struct SourceConfig {
    /// NAME.
    pub name: String,
    /// Places in `channels`.
    pub channels: Vec<usize>,
    /// Which source.
    pub type_name: &'static str,
    /// Its own keys: that source's `Config`.
    pub config: Box<dyn Any + Send>,
}

/// `[channel.NAME]`.
pub struct ChannelConfig {
    /// What it is made with; its name is in its plan.
    pub options: ChannelOptions,
    /// Which backend.
    pub backend: &'static str,
    /// Its own keys: that backend's `Config`.
    pub config: Box<dyn Any + Send>,
}

/// Reads the file at `path` with `--set`s laid over it.
///
/// # Errors
/// All that is wrong.
pub fn read(path: &Path, sets: &[String]) -> Result<(PipelineConfig, Option<Problems>), Problems> {
    let whole =
        |message: String| Problems { texts: Texts::default(), list: vec![Problem::whole(message)] };
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| whole(format!("{shown}: cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&e.as_bytes()[..at]).into_owned();
        let (line, last) = (before.split('\n').count(), before.rsplit('\n').next());
        let column = last.map_or(0, |l| l.chars().count()) + 1;
        whole(format!("{shown}:{line}:{column}: is not UTF-8 (byte 0x{:02x})", e.as_bytes()[at]))
    })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut texts = Texts::default();
    let mut problems = Vec::new();
    let config = parse(&shown, &text, &stem, sets, &mut texts, &mut problems);
    problems.sort_by_key(|p| p.span.as_ref().map_or(0, |s| s.start));
    // What is wrong in one place is told once: the first word about it.
    problems.dedup_by(|b, a| a.span.is_some() && a.span == b.span);
    let failed = problems.iter().any(|p| !p.warning);
    if failed {
        // What is only worth a word may be the fault of what is wrong.
        problems.retain(|p| !p.warning);
    }
    let problems = Problems { texts, list: problems };
    match config {
        Some(config) if !failed => Ok((config, (!problems.list.is_empty()).then_some(problems))),
        _ => Err(problems),
    }
}

fn parse(
    name: &str,
    text: &str,
    stem: &str,
    sets: &[String],
    texts: &mut Texts,
    problems: &mut Vec<Problem>,
) -> Option<PipelineConfig> {
    texts.add(name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        problems.push(Problem::at(e.span().unwrap_or(0..0), e.message().to_owned(), ""));
    }
    if !errors.is_empty() {
        return None;
    }
    let mut root = table.into_inner();
    let set_texts = lay_out_sets(sets, texts, problems);
    for text in &set_texts {
        if let Ok(over) = DeTable::parse(text) {
            table::merge(&mut root, over.into_inner());
        }
    }
    let mut root = Spanned::new(0..0, DeValue::Table(root));
    table::fill_in(&mut root, problems);
    let mut root = Table::from("", root, problems)?;
    let pipeline = root.value("pipeline");
    let channels = root.value("channel");
    let sources = root.value("source");
    finish_root(root, problems);

    let (mut channel_list, mut declared) = (Vec::new(), Vec::new());
    if let Some(t) = channels.and_then(|v| Table::from("channel", v, problems)) {
        declared = t.names();
        for (name, t) in t.children(problems) {
            channel_list.push((name.clone(), channel(name.into_inner(), t, problems)));
        }
    }
    let names: Vec<String> = channel_list.iter().map(|(n, _)| n.get_ref().clone()).collect();
    let mut used = vec![false; names.len()];
    let mut source_list = Vec::new();
    let (mut source_count, mut claimed) = (0, Vec::new());
    if let Some(t) = sources.and_then(|v| Table::from("source", v, problems)) {
        for (name, t) in t.children(problems) {
            source_count += 1;
            let name = name.into_inner();
            let to = ChannelNames { names: &names, declared: &declared, used: &mut used };
            source_list.extend(source(name, t, to, &mut claimed, problems));
        }
    }
    // Only where nothing else is wrong: a channel or source that cannot be read is none, too.
    let clean = problems.iter().all(|p| p.warning);
    if names.is_empty() && clean {
        problems.push(Problem {
            help: "write [channel.NAME] and [channel.NAME.backend]".into(),
            ..Problem::whole(format!("{name}: there is no channel"))
        });
    }
    if source_count == 0 && clean {
        problems.push(Problem {
            help: "write [source.NAME] with `type` and `channel`; `rbpipe sources` lists them"
                .into(),
            ..Problem::whole(format!("{name}: there is no source"))
        });
    } else {
        for ((name, _), _) in channel_list.iter().zip(&used).filter(|(_, used)| !**used) {
            problems.push(Problem {
                warning: true,
                ..Problem::at(
                    name.span(),
                    format!("no source writes into channel `{}`", name.get_ref()),
                    "",
                )
            });
        }
    }
    let mut config = PipelineConfig {
        name: stem.to_owned(),
        duration: None,
        stop_timeout: Duration::from_secs(1),
        sources: source_list,
        channels: channel_list.into_iter().filter_map(|(_, c)| c).collect(),
    };
    if let Some(mut t) = pipeline.and_then(|v| Table::from("pipeline", v, problems)) {
        if let Some(name) = t.take::<String>("name", problems) {
            if !table::is_name(name.get_ref()) {
                let message = format!("`pipeline.name`: {:?} is no name", name.get_ref());
                problems.push(Problem::at(name.span(), message, table::NAMES));
            }
            config.name = name.into_inner();
        }
        config.duration = t.take::<Time>("duration", problems).map(|t| t.get_ref().0);
        if let Some(t) = t.take::<Time>("stop_timeout", problems) {
            config.stop_timeout = t.get_ref().0;
            if config.stop_timeout < Duration::from_millis(10) {
                let message = "`pipeline.stop_timeout`: sources need a moment to end";
                problems.push(Problem::at(t.span(), message, "accepted: \"10 ms\" or more"));
            }
        }
        t.finish(problems);
    }
    // A channel with an error is missing here; places in `channels` are right without.
    (config.channels.len() == names.len()).then_some(config)
}

fn finish_root(root: Table<'_>, problems: &mut Vec<Problem>) {
    let before = problems.len();
    root.finish(problems);
    for p in &mut problems[before..] {
        p.message = p.message.replace(" in []", " at the top level");
    }
}

/// Each `--set` as a TOML text, padded so that its spans are places in `texts`.
fn lay_out_sets(sets: &[String], texts: &mut Texts, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut out = Vec::new();
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            problems.push(Problem::whole(format!("--set {set}: is not KEY=VALUE")));
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let mut text = format!("{key} = {value}");
        if DeTable::parse(&text).is_err() || value.is_empty() {
            // What does not parse as TOML is a string.
            text = format!("{key} = {}", toml::Value::String(value.to_owned()));
        }
        let at = texts.add(format!("--set {set}"), text.clone());
        if let Err(e) = DeTable::parse(&text) {
            let span = e.span().unwrap_or(0..text.len());
            problems.push(Problem::at(
                at + span.start..at + span.end,
                format!("--set {set}: {}", e.message()),
                "a key is written as in `channel.trace.mode`",
            ));
            continue;
        }
        out.push(" ".repeat(at) + &text);
    }
    out
}

// --- channels -----------------------------------------------------------------------

fn channel(name: String, mut t: Table<'_>, problems: &mut Vec<Problem>) -> Option<ChannelConfig> {
    let modes = Mode::ALL.map(|m| (m.name(), m));
    let mode = t.one_of("mode", &modes, problems).unwrap_or(Mode::Discard);
    #[derive(Clone, Copy)]
    enum Kind {
        Cpu,
        Thread,
        Single,
    }
    let kinds = [("per-cpu", Kind::Cpu), ("per-thread", Kind::Thread), ("single", Kind::Single)];
    let kind = t.one_of("streams", &kinds, problems).unwrap_or(Kind::Cpu);
    let max = limited(&mut t, "max_streams", 64, 1..=4096, problems);
    let size = t.take::<Size>("subbuf_size", problems);
    let count = t.take::<u64>("subbuf_count", problems);
    let reader = t.take::<u64>("reader_subbufs", problems);
    let switch_timer = time(&mut t, "switch_timer", Duration::from_secs(1), problems);
    let read_timer = time(&mut t, "read_timer", Duration::from_millis(10), problems);
    let block_timeout = time(&mut t, "block_timeout", Duration::from_millis(100), problems);
    let prefault = t.take::<bool>("prefault", problems).is_some_and(|b| *b.get_ref());
    let backend = t.value("backend");
    let (path, span) = (t.path.clone(), t.span.clone());
    t.finish(problems);

    let default_reader = reader.is_none();
    let geometry = geometry(&path, size, count, reader, problems);
    let Some(backend) = backend else {
        let types = backend_types();
        problems.push(Problem::at(
            span,
            format!("[{path}] needs a backend"),
            format!("write [{path}.backend] with `type`: {}", types.join(", ")),
        ));
        return None;
    };
    // With any geometry, so that what is wrong with the backend is told, too.
    let any = Geometry::new(4096, 2, 1, MAX_HEADER as u32).ok();
    let valid = geometry.is_some();
    let geometry = geometry.or(any)?;
    let plan = ChannelPlan { name, geometry, mode, classes: Arc::new(ClassRegistry::new()) };
    let table = Table::from(format!("{path}.backend"), backend, problems)?;
    let mut choice = ChooseBackend {
        table: Some(table),
        wanted: None,
        plan,
        default_reader,
        found: None,
        problems,
    };
    choice.read_type()?;
    rbpipe_backends::for_each(&mut choice);
    let (type_name, config, plan) = choice.finish()?;
    let streams = match kind {
        Kind::Cpu => Streams::PerCpu,
        Kind::Thread => Streams::PerThread(max),
        Kind::Single => Streams::Single,
    };
    let options =
        ChannelOptions { plan, streams, block_timeout, switch_timer, read_timer, prefault };
    valid.then_some(ChannelConfig { options, backend: type_name, config })
}

/// The sizes of a channel; each key that cannot be is told on its own.
fn geometry(
    path: &str,
    size: Option<Spanned<Size>>,
    count: Option<Spanned<u64>>,
    reader: Option<Spanned<u64>>,
    problems: &mut Vec<Problem>,
) -> Option<Geometry> {
    const SIZE: u64 = 256 << 10;
    let (size_at, count_at) = (size.as_ref().map(Spanned::span), count.as_ref().map(Spanned::span));
    let reader_at = reader.as_ref().map(Spanned::span);
    let size = size.map_or(SIZE, |s| s.get_ref().0);
    let (count, reader) =
        (count.map_or(8, Spanned::into_inner), reader.map_or(2, Spanned::into_inner));
    // What no u32 holds is out of range anyhow.
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut tell = |at: Option<Range<usize>>, e: GeometryError| {
        problems.push(Problem::at(at.unwrap_or(0..0), format!("[{path}]: {e}"), ""));
    };
    let header = MAX_HEADER as u32;
    let mut valid = true;
    for (at, result) in [
        (size_at, Geometry::new(size, 2, 1, header)),
        (
            count_at,
            Geometry::new(SIZE, small(count), 1, header).map_err(|_| GeometryError::Count(count)),
        ),
        (
            reader_at,
            Geometry::new(SIZE, 2, small(reader), header)
                .map_err(|_| GeometryError::ReaderSubbufs(reader)),
        ),
    ] {
        if let Err(e) = result {
            tell(at, e);
            valid = false;
        }
    }
    valid.then(|| Geometry::new(size, small(count), small(reader), header).ok()).flatten()
}

/// A time whose zero means "none".
fn time(
    t: &mut Table<'_>,
    key: &'static str,
    default: Duration,
    problems: &mut Vec<Problem>,
) -> Option<Duration> {
    let value = t.take::<Time>(key, problems).map_or(default, |t| t.get_ref().0);
    (!value.is_zero()).then_some(value)
}

fn limited(
    t: &mut Table<'_>,
    key: &'static str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
    problems: &mut Vec<Problem>,
) -> u32 {
    let Some(value) = t.take::<u32>(key, problems) else { return default };
    if !range.contains(value.get_ref()) {
        problems.push(Problem::at(
            value.span(),
            format!("`{}.{key}` is {} to {}", t.path, range.start(), range.end()),
            "",
        ));
    }
    *value.get_ref()
}

/// The names of all backends of this build.
pub fn backend_types() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl Visit for Names {
        fn visit<B: Backend>(&mut self) {
            self.0.push(B::TYPE);
        }
    }
    let mut names = Names(Vec::new());
    rbpipe_backends::for_each(&mut names);
    names.0
}

/// Second stage: the visitor that finds the backend and reads its own keys.
struct ChooseBackend<'i, 'p> {
    table: Option<Table<'i>>,
    wanted: Option<String>,
    plan: ChannelPlan,
    default_reader: bool,
    found: Option<(&'static str, Option<Box<dyn Any + Send>>)>,
    problems: &'p mut Vec<Problem>,
}

impl ChooseBackend<'_, '_> {
    fn read_type(&mut self) -> Option<()> {
        let types = backend_types();
        let table = self.table.as_mut()?;
        self.wanted = read_type(table, &types, self.problems);
        self.wanted.as_ref().map(|_| ())
    }
    fn finish(self) -> Option<(&'static str, Box<dyn Any + Send>, ChannelPlan)> {
        let (name, config) = self.found?;
        Some((name, config?, self.plan))
    }
}

/// Takes `type` and checks that it is one of those that this build has.
fn read_type(t: &mut Table<'_>, types: &[&str], problems: &mut Vec<Problem>) -> Option<String> {
    let (path, span) = (t.path.clone(), t.span.clone());
    let before = problems.len();
    let Some(given) = t.take::<String>("type", problems) else {
        if problems.len() == before {
            problems.push(Problem::at(
                span,
                format!("[{path}] needs `type`"),
                format!("`type` = one of {}", types.join(", ")),
            ));
        }
        return None;
    };
    if !types.contains(&given.get_ref().as_str()) {
        problems.push(Problem::at(
            given.span(),
            format!("[{path}]: there is no {:?} in this build", given.get_ref()),
            suggest(given.get_ref(), types.iter().copied()),
        ));
        return None;
    }
    Some(given.into_inner())
}

impl Visit for ChooseBackend<'_, '_> {
    fn visit<B: Backend>(&mut self) {
        if self.wanted.as_deref() != Some(B::TYPE) {
            return;
        }
        let Some(table) = self.table.take() else { return };
        if self.default_reader {
            let g = self.plan.geometry;
            let header = g.header() as u32;
            let with = Geometry::new(g.subbuf_size(), g.subbuf_count(), B::READER_SUBBUFS, header);
            self.plan.geometry = with.unwrap_or(g);
        }
        let (path, span, places) = (table.path.clone(), table.span.clone(), table.places());
        let config = table.rest::<B::Config>(self.problems).filter(|config| {
            told(B::check(config, &self.plan), &path, span, &places, self.problems)
        });
        self.found = Some((B::TYPE, config.map(|c| Box::new(c) as Box<dyn Any + Send>)));
    }
}

/// Whether what types cannot say is right, too; if not, tells it at its keys.
fn told(
    wrong: Vec<ConfigProblem>,
    path: &str,
    table: Range<usize>,
    places: &[(String, Range<usize>)],
    problems: &mut Vec<Problem>,
) -> bool {
    let fine = wrong.is_empty();
    for p in wrong {
        let place = place(places, p.key).unwrap_or_else(|| table.clone());
        problems.push(Problem::at(place, format!("`{path}.{}`: {}", p.key, p.message), ""));
    }
    fine
}

/// Where a key's value is.
fn place(places: &[(String, Range<usize>)], key: &str) -> Option<Range<usize>> {
    places.iter().find(|(k, _)| k == key).map(|(_, s)| s.clone())
}

// --- sources ------------------------------------------------------------------------

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
struct ChannelNames<'a> {
    /// Those that could be read, in their order.
    names: &'a [String],
    /// All, those with an error included: no reason to tell of them once more.
    declared: &'a [String],
    /// Whether a source writes into it.
    used: &'a mut [bool],
}

fn source(
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

#[cfg(test)]
mod tests;
