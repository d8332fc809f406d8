//! The configuration: read whole, checked whole, before anything is opened.
//!
//! In two stages, so that each error keeps its place: first the tables and their common keys
//! ([`table`], [`channel`], [`source`]), then, through the registries, what is each source's
//! and backend's own. All errors are shown at once ([`problem`]).

mod channel;
pub mod problem;
mod source;
pub mod table;

use std::any::Any;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use rbpipe_backends::units::{Size, Time};
use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::channel::ChannelOptions;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use problem::{Problem, Problems, Texts, suggest};
use source::ChannelNames;
use table::Table;

/// A whole pipeline, checked.
pub struct PipelineConfig {
    /// Names the trace and the control socket.
    pub name: String,
    /// Whether there is a control socket.
    pub control: bool,
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

/// More is no configuration: something else was named (`/dev/zero` never ends).
const LARGEST: u64 = 1 << 20;

/// As much of a file as says whether it is too large. It may be a pipe.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the file at `path` with `--set`s laid over it.
///
/// # Errors
/// All that is wrong.
pub fn read(path: &Path, sets: &[String]) -> Result<(PipelineConfig, Option<Problems>), Problems> {
    let shown = path.display().to_string();
    let bytes = read_file(path).map_err(|e| whole(format!("{shown}: cannot be read: {e}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(whole(format!("{shown}: is larger than {}: no configuration", Size(LARGEST))));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    read_bytes(&shown, bytes, &stem, sets)
}

/// The same of a file's bytes; `stem` names a pipeline that has no name.
///
/// # Errors
/// All that is wrong.
pub fn read_bytes(
    shown: &str,
    bytes: Vec<u8>,
    stem: &str,
    sets: &[String],
) -> Result<(PipelineConfig, Option<Problems>), Problems> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&e.as_bytes()[..at]).into_owned();
        let (line, last) = (before.split('\n').count(), before.rsplit('\n').next());
        let column = last.map_or(0, |l| l.chars().count()) + 1;
        whole(format!("{shown}:{line}:{column}: is not UTF-8 (byte 0x{:02x})", e.as_bytes()[at]))
    })?;
    let mut texts = Texts::default();
    let mut problems = Vec::new();
    let config = parse(shown, &text, stem, sets, &mut texts, &mut problems);
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

fn whole(message: String) -> Problems {
    Problems { texts: Texts::default(), list: vec![Problem::whole(message)] }
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
            channel_list.push((name.clone(), channel::read(name.into_inner(), t, problems)));
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
            source_list.extend(source::read(name, t, to, &mut claimed, problems));
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
        control: true,
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
        if let Some(on) = t.take::<bool>("control", problems) {
            config.control = *on.get_ref();
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

/// What a `--set` is called where something is wrong with it: by itself, as long as it is short
/// and whatever is in it.
fn set_name(set: &str) -> String {
    let mut name = String::from("--set ");
    for (n, c) in set.chars().enumerate() {
        match c {
            _ if n == 80 => return name + "…",
            c if c.is_control() => name.extend(c.escape_default()),
            c => name.push(c),
        }
    }
    name
}

/// Each `--set` as a TOML text, padded so that its spans are places in `texts`.
fn lay_out_sets(sets: &[String], texts: &mut Texts, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut out = Vec::new();
    for set in sets {
        let name = set_name(set);
        let Some((key, value)) = set.split_once('=') else {
            problems.push(Problem::whole(format!("{name}: is not KEY=VALUE")));
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let mut text = format!("{key} = {value}");
        if DeTable::parse(&text).is_err() || value.is_empty() {
            // What does not parse as TOML is a string.
            text = format!("{key} = {}", toml::Value::String(value.to_owned()));
        }
        let at = texts.add(name.clone(), text.clone());
        if let Err(e) = DeTable::parse(&text) {
            let span = e.span().unwrap_or(0..text.len());
            problems.push(Problem::at(
                at + span.start..at + span.end,
                format!("{name}: {}", e.message()),
                "a key is written as in `channel.trace.mode`",
            ));
            continue;
        }
        out.push(" ".repeat(at) + &text);
    }
    out
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

#[cfg(test)]
mod tests;
