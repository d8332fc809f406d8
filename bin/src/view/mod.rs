//! `rbpipe view`: a picture of a trace, as a PNG or in the terminal.
//!
//! The trace is read twice: what there is ([`survey`]), which says what lanes there are and how
//! wide they are ([`compose`]); then all of it by time, counted into columns ([`collect`]). What
//! is held in memory depends on the picture's size and on how many processes, streams and event
//! classes there are, not on how many events.

mod bins;
mod collect;
mod compose;
mod fields;
mod live;
mod survey;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use rbpipe_backends::picture::{self, Effort, Picture, Plan, Theme};
use rbpipe_backends::units::Time;

use crate::config::problem::suggest;
use crate::read::merge::merge;
use crate::read::moment::Moment;
use crate::read::stream::Wanted;
use crate::read::{Filter, ReadArgs, Selection, Trace, parse_filter, wanted};
use crate::status::say;
use collect::Collect;
use fields::Field;
use survey::Survey;

/// Arguments of `rbpipe view`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// Trace directories: several (the pieces of a rotated trace) are merged by time
    #[arg(required_unless_present = "config", value_name = "TRACE")]
    pub paths: Vec<PathBuf>,
    /// Show what the pipeline of this configuration records, again and again until it ends: the
    /// newest of the trace that it writes. With --png the file is replaced each time
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "from", "to"])]
    pub config: Option<PathBuf>,
    /// With --config: how much of the newest
    #[arg(long, value_name = "TIME", default_value = "10 s", requires = "config")]
    pub last: Time,
    /// Draw it into this file; without, into the terminal
    #[arg(long, value_name = "FILE.png")]
    pub png: Option<PathBuf>,
    /// The picture's size, pixels
    #[arg(long, value_name = "WxH", default_value = "1600x900", value_parser = size)]
    pub size: (u32, u32),
    /// What it is drawn on
    #[arg(long, value_enum, default_value_t = Ground::Dark)]
    pub theme: Ground,
    /// From this moment on: as `rbpipe read --from` has it (`+1.5s`, `-2s`, `10:00:00.5`, a date)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<Moment>,
    /// Up to this moment (see --from)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<Moment>,
    /// Only events of this name; globs (`sched:*`), `!GLOB` leaves out. May be repeated
    #[arg(long = "event", value_name = "GLOB")]
    pub events: Vec<String>,
    /// Only events that match: `prev_pid != 0` (see `rbpipe read --help`)
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    pub filter: Option<Filter>,
    /// Only this stream. May be repeated
    #[arg(long = "stream", value_name = "N")]
    pub streams: Vec<u64>,
    /// Only this CPU's streams. May be repeated
    #[arg(long = "cpu", value_name = "N")]
    pub cpus: Vec<u32>,
    /// A lane with the least, the mean and the largest value of a numeric field. May be repeated
    #[arg(long = "value", value_name = "EVENT.FIELD", value_parser = event_field)]
    pub values: Vec<(String, String)>,
}

/// What a picture is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ground {
    /// Light on dark
    Dark,
    /// Dark on light
    Light,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let number = |t: &str| t.trim().parse::<u32>().ok();
    let both = text.split_once(['x', 'X', '×']).and_then(|(w, h)| Some((number(w)?, number(h)?)));
    let size = both.ok_or("a size is WIDTHxHEIGHT, in pixels: 1600x900")?;
    picture::plan(&Picture::default(), size).map(|_| size).map_err(|e| e.to_string())
}

fn event_field(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('.') {
        Some((event, field)) if !event.is_empty() && !field.is_empty() => {
            Ok((event.into(), field.into()))
        }
        _ => Err("write EVENT.FIELD: sched:sched_switch.next_prio".into()),
    }
}

/// Where it is shown.
enum Sink<'a> {
    Png(&'a PathBuf, (u32, u32)),
    Terminal(terminal::Terminal),
}

impl Sink<'_> {
    fn plan(&self, picture: &Picture) -> Plan {
        match self {
            // Sizes are checked when they are read.
            Self::Png(_, size) => picture::plan(picture, *size).unwrap_or_default(),
            Self::Terminal(t) => t.plan(picture),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no trace, nothing in it, or the picture cannot be written.
pub fn run(args: &ViewArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match &args.config {
        None => show(args, &What::all(args), out, ""),
        Some(config) => live::run(args, config, out),
    }
}

/// What is read.
struct What {
    paths: Vec<PathBuf>,
    from: Option<Moment>,
    /// It is being written: a packet that is not whole yet is no damage.
    grows: bool,
}

impl What {
    fn all(args: &ViewArgs) -> Self {
        Self { paths: args.paths.clone(), from: args.from, grows: false }
    }
}

/// Shows it; `before` goes before what is printed.
fn show(args: &ViewArgs, what: &What, out: &mut impl Write, before: &str) -> anyhow::Result<()> {
    let sink = match &args.png {
        Some(path) => Sink::Png(path, args.size),
        None => Sink::Terminal(terminal::Terminal::of_stdout()),
    };
    let picture = look(args, what, &sink)?;
    let theme = match args.theme {
        Ground::Dark => Theme::Dark,
        Ground::Light => Theme::Light,
    };
    match sink {
        Sink::Png(path, size) => {
            let image = picture::draw(&picture, size, theme)?;
            let shown = path.display();
            let effort = if what.grows { Effort::Fast } else { Effort::Small };
            image.write_png(path, effort).with_context(|| format!("{shown}: cannot be written"))?;
            // On a terminal somebody waits for a word.
            if io::stderr().is_terminal() && !what.grows {
                let lanes = crate::status::count(picture.lanes.len() as u64, "lane");
                say!("rbpipe view: {shown}: {}x{}, {lanes}", size.0, size.1);
            }
        }
        Sink::Terminal(t) => {
            let text = t.text(&picture, theme);
            // What stood in these lines is taken away.
            let text = if before.is_empty() { text } else { text.replace('\n', "\x1b[K\n") };
            let after = if before.is_empty() { "" } else { "\x1b[J" };
            out.write_all(format!("{before}{text}{after}").as_bytes())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Reads what is to be seen.
fn look(args: &ViewArgs, what: &What, sink: &Sink<'_>) -> anyhow::Result<Picture> {
    let traces = what.paths.iter().map(|p| Trace::open(p)).collect::<anyhow::Result<Vec<_>>>()?;
    let range = ReadArgs {
        paths: what.paths.clone(),
        format: None,
        count: false,
        events: args.events.clone(),
        filter: args.filter.clone(),
        from: what.from,
        to: args.to,
        streams: args.streams.clone(),
        cpus: args.cpus.clone(),
        fields: Vec::new(),
        follow: false,
    };
    let wanted = Arc::new(wanted(&range, || {
        let streams = traces.iter().flat_map(Trace::streams);
        streams.map(|s| Ok(s?.extent())).collect()
    })?);
    ensure!(wanted.from < wanted.to, "--from is not before --to: there is no time to draw");
    // Not by time: what else is in a packet tells who ran when the time began, and when it ended.
    let origins = Wanted { from: 0, to: u64::MAX, ..Wanted::clone(&wanted) };
    let mut select = Selection::new(&args.events, args.filter.clone(), Arc::new(origins));
    let described: Vec<_> = traces.iter().map(|t| Arc::clone(&t.metadata)).collect();
    select.in_vain(&described).iter().for_each(|words| say!("rbpipe view: {words}"));
    let classes = Selection::default().classes(&described);
    for (event, field) in &args.values {
        check_value(&classes, event, field)?;
    }
    let mut survey = Survey::of(&traces, &wanted, &mut select, args.values.clone(), what.grows)?;
    let Some((first, last)) = survey.extent else {
        let all = select.is_everything() && what.from.is_none() && args.to.is_none();
        let which = if all { "" } else { " that is selected" };
        let paths: Vec<_> = what.paths.iter().map(|p| p.display().to_string()).collect();
        bail!("{}: has no event{which}: there is nothing to draw", paths.join(", "));
    };
    let from = if what.from.is_some() { wanted.from } else { first };
    let to = if args.to.is_some() { wanted.to } else { last.saturating_add(1) };
    let title = what.paths.iter().map(|p| name(p)).collect::<Vec<_>>().join(", ");
    let plan = |p: &Picture| sink.plan(p);
    let mut draft = compose::draft(&survey, (from, to.max(from + 1)), title, &args.values, &plan);
    let window = bins::window(from, to, sink.plan(&draft.picture).columns);
    draft.picture.to = window.to;
    let known = std::mem::take(&mut survey.known);
    let mut collect = Collect::new(&survey, known, window, &draft.shown, args.values.len());
    let streams = traces.iter().flat_map(Trace::streams).map(|s| {
        let mut s = s?;
        s.want(&wanted);
        s.set_growing(what.grows);
        Ok(s)
    });
    let mut streams = streams.collect::<anyhow::Result<Vec<_>>>()?;
    merge(&mut streams, &mut io::sink(), &mut collect, &mut select, &mut 0)?;
    let end = window.to.min(survey.end.saturating_add(1));
    Ok(draft.fill(&survey, collect, end))
}

/// What a trace is called in a picture.
fn name(path: &std::path::Path) -> String {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().unwrap_or(path.as_os_str()).as_encoded_bytes();
    compose::shown(name)
}

/// Says which field there is not.
fn check_value(
    classes: &[Arc<rbpipe_core::class::EventClass>],
    event: &str,
    field: &str,
) -> anyhow::Result<()> {
    use rbpipe_core::class::FieldType as T;
    let mine: Vec<_> = classes.iter().filter(|c| c.name == event).collect();
    let printable = |help: String| help.replace(|c: char| c.is_control(), "?");
    if mine.is_empty() {
        let help = printable(suggest(event, classes.iter().map(|c| c.name.as_str())));
        bail!("--value: the trace has no event {event:?}; {help}");
    }
    let of = |c: &rbpipe_core::class::EventClass| {
        c.fields.iter().find(|f| f.name == field).map(|f| f.ty.clone())
    };
    let Some(ty) = mine.iter().find_map(|c| of(c)) else {
        let help = printable(suggest(field, mine[0].fields.iter().map(|f| f.name.as_str())));
        bail!("--value: {event} has no field {field:?}; {help}");
    };
    let number = matches!(ty, T::Integer(_) | T::Enumeration(..) | T::Float32 | T::Float64);
    ensure!(number, "--value: {event}.{field} is no number: there is no band to draw of it");
    debug_assert!(mine.iter().any(|c| Field::of(c, field).is_some()));
    Ok(())
}
