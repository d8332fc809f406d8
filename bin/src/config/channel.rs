//! `[channel.NAME]` and `[channel.NAME.backend]`.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_backends::units::{Size, Time};
use rbpipe_core::backend::{Backend, ChannelPlan, Visit};
use rbpipe_core::channel::{ChannelOptions, Streams};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::frontend::{Geometry, GeometryError, Mode};
use rbpipe_core::packet::MAX_HEADER;
use toml::Spanned;

use super::problem::Problem;
use super::table::Table;
use super::{ChannelConfig, read_type, told};

/// Reads a channel's table.
pub(super) fn read(
    name: String,
    mut t: Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<ChannelConfig> {
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
fn backend_types() -> Vec<&'static str> {
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
