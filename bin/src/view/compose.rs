//! From what was found to a picture: which lanes there are, in which order, and what they are
//! called.

use std::collections::HashMap;
use std::sync::Arc;

use rbpipe_backends::picture::{
    Arrow, Content, Gap, Group, Ink, Key, Lane, Picture, Plan, State, number, span, who,
};

use super::collect::{Collect, CpuLanes, Shown, TaskLanes, Waker};
use super::survey::{Missing, Survey};
use crate::read::event::Origin;

/// What a lane is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    Value(usize),
    Cpu(u32),
    Task(i64),
    Stream(u64),
    All,
    Name(usize),
}

/// Places of the groups.
const VALUES: usize = 0;
const CPUS: usize = 1;
const TASKS: usize = 2;
const STREAMS: usize = 3;
const EVENTS: usize = 4;

/// More lanes of a kind are never tried.
const MOST: usize = 512;

/// A picture without contents yet, and what its lanes are of.
pub struct Draft {
    /// It.
    pub picture: Picture,
    /// Of each lane.
    pub of: Vec<Of>,
    /// What is counted for it.
    pub shown: Shown,
}

/// Chooses the lanes that have room, by what `plan` says.
pub fn draft(
    survey: &Survey,
    (from, to): (u64, u64),
    title: String,
    values: &[(String, String)],
    plan: &dyn Fn(&Picture) -> Plan,
) -> Draft {
    let tasks = survey.busiest();
    let mut names: Vec<usize> =
        (0..survey.counts.len()).filter(|n| survey.counts[*n] > 0).collect();
    names.sort_by_key(|n| (u64::MAX - survey.counts[*n], &survey.names[*n]));
    let sched = !survey.cpus.is_empty();
    let mut streams: Vec<u64> =
        if sched { Vec::new() } else { survey.streams.keys().copied().collect() };
    streams.truncate(MOST);
    // So many of each at most; those of which there are most to be left out, one after the other.
    let mut most_tasks = tasks.len().min(MOST);
    let mut most_names = names.len().min(if sched { 7 } else { MOST });
    let mut most_streams = streams.len();
    let mut cpu_height = if survey.cpus.len() > 8 { 150 } else { 230 };
    loop {
        let mut draft = Draft {
            picture: Picture {
                title: title.clone(),
                facts: facts(survey),
                from,
                to,
                groups: groups(
                    survey,
                    (most_tasks, most_names, most_streams),
                    streams.len(),
                    names.len(),
                ),
                legend: legend(survey, &tasks),
                ..Picture::default()
            },
            of: Vec::new(),
            shown: Shown {
                tasks: tasks[..most_tasks].to_vec(),
                names: names[..most_names].to_vec(),
                streams: streams[..most_streams].to_vec(),
            },
        };
        draft.lanes(survey, to - from, cpu_height, values);
        if plan(&draft.picture).lanes.len() == draft.of.len() {
            return draft;
        }
        if most_tasks > 4 && most_tasks >= 2 * most_names {
            most_tasks -= 1;
        } else if most_names > 3 && most_names >= most_streams {
            most_names -= 1;
        } else if most_streams > 3 {
            most_streams -= 1;
        } else if cpu_height > 10 && survey.cpus.len() > 2 {
            cpu_height -= 10;
        } else if most_names > 0 {
            most_names -= 1;
        } else if most_tasks > 1 {
            most_tasks -= 1;
        } else {
            // The picture says what has no room.
            return draft;
        }
    }
}

/// Names are a trace's; what is no character is none in a picture.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn percent(part: u64, whole: u64) -> String {
    match u128::from(part) * 1000 / u128::from(whole.max(1)) {
        0 if part > 0 => "<0.1 %".into(),
        n if n < 100 => format!("{}.{} %", n / 10, n % 10),
        n => format!("{} %", (n + 5) / 10),
    }
}

fn stream_name(origin: &Origin) -> String {
    use rbpipe_core::packet::StreamClass;
    match origin.class {
        StreamClass::Cpu => format!("CPU {}", origin.number),
        StreamClass::Thread => format!("thread {}", origin.number),
        StreamClass::Plain => format!("stream {}", origin.stream),
    }
}

/// What is missing, in words.
pub fn missing(events: u64, packets: u64) -> String {
    let plural =
        |n: u64, what: &str| format!("{} {what}{}", number(n), if n == 1 { "" } else { "s" });
    match (events, packets) {
        (e, 0) => format!("{} lost", plural(e, "event")),
        (0, p) => format!("{} lost", plural(p, "packet")),
        (e, p) => format!("{} and {} lost", plural(e, "event"), plural(p, "packet")),
    }
}

fn facts(survey: &Survey) -> Vec<String> {
    let mut out = vec![format!("{} events", number(survey.events))];
    let sum = |f: &dyn Fn(&Missing) -> u64| survey.lost.iter().map(f).fold(0, u64::saturating_add);
    let (events, packets) = (sum(&|m| m.events), sum(&|m| m.packets));
    if (events, packets) != (0, 0) {
        out.push(missing(events, packets));
    }
    if !survey.cpus.is_empty() {
        let cpus = survey.cpus.len();
        out.push(format!("{cpus} CPU{}", if cpus == 1 { "" } else { "s" }));
    }
    if !survey.tasks.is_empty() {
        out.push(format!("{} threads", number(survey.tasks.len() as u64)));
    }
    out
}

/// Headings: with how many there are beside those that are shown.
fn groups(
    survey: &Survey,
    (tasks, names, streams): (usize, usize, usize),
    all_streams: usize,
    all_names: usize,
) -> Vec<Group> {
    let of = |name: &str, shown: usize, all: usize, which: &str| {
        let more = all.saturating_sub(shown);
        let note = match more {
            0 => String::new(),
            n => format!("the {shown} {which}, and {} more", number(n as u64)),
        };
        Group { name: name.into(), note }
    };
    vec![
        of("Values", 0, 0, ""),
        of("CPUs", 0, 0, ""),
        of("Threads", tasks, survey.tasks.len(), "busiest"),
        of("Streams", streams, all_streams, "first"),
        of("Events", names, all_names, "most frequent"),
    ]
}

fn legend(survey: &Survey, tasks: &[i64]) -> Vec<Key> {
    let mut out = Vec::new();
    let mut key = |ink, name: &str| {
        if !out.iter().any(|k: &Key| k.name == name) {
            out.push(Key { ink, name: name.into() });
        }
    };
    if !survey.lost.is_empty() {
        key(Ink::Lost, "lost");
    }
    if !survey.tasks.is_empty() {
        key(Ink::Waiting, "waits for a CPU");
        key(Ink::Blocked, "blocked");
        key(Ink::Idle, "idle");
        key(Ink::Others, "others");
        key(Ink::Count, "events");
        for pid in tasks.iter().take(24) {
            let name = shown(&survey.tasks[pid].name);
            key(Ink::of(&name), &name);
        }
    }
    out
}

impl Draft {
    fn lanes(&mut self, survey: &Survey, time: u64, cpu_height: u32, values: &[(String, String)]) {
        let empty = || Content::Density(Vec::new(), Ink::Count);
        let mut lane = |of: Of, group: usize, height: u32, name: String, detail: String| {
            self.of.push(of);
            self.picture.lanes.push(Lane { name, detail, group, height, content: empty() });
        };
        for (n, (event, field)) in values.iter().enumerate() {
            lane(Of::Value(n), VALUES, 360, format!("{event}.{field}"), String::new());
        }
        for (cpu, work) in &survey.cpus {
            let name = format!("CPU {cpu}");
            lane(Of::Cpu(*cpu), CPUS, cpu_height, name, percent(*work, time));
        }
        for pid in &self.shown.tasks {
            let task = &survey.tasks[pid];
            let detail = format!("{pid} {:>6}", percent(task.ran, time));
            lane(Of::Task(*pid), TASKS, 130, shown(&task.name), detail);
        }
        for stream in &self.shown.streams {
            let (origin, events) = &survey.streams[stream];
            lane(Of::Stream(*stream), STREAMS, 170, stream_name(origin), number(*events));
        }
        if self.shown.names.len() > 1 || survey.counts.len() > 1 {
            lane(Of::All, EVENTS, 170, "all events".into(), number(survey.events));
        }
        for name in &self.shown.names {
            let text = shown(survey.names[*name].as_bytes());
            lane(Of::Name(*name), EVENTS, 150, text, number(survey.counts[*name]));
        }
    }

    /// Puts what was counted into the lanes.
    pub fn fill(mut self, survey: &Survey, mut found: Collect, end: u64) -> Picture {
        let (mut cpus, mut tasks): (CpuLanes, TaskLanes) = found.finish(end);
        let numbers: Vec<u32> = survey.cpus.keys().copied().collect();
        let ran = cpu_states(survey);
        let mut values: Vec<_> = std::mem::take(&mut found.values).into_iter().map(Some).collect();
        for (lane, of) in self.picture.lanes.iter_mut().zip(&self.of) {
            lane.content = match of {
                Of::Value(n) => {
                    let lane = values.get_mut(*n).and_then(Option::take);
                    Content::Values(lane.map(|v| v.finish()).unwrap_or_default(), Ink::Value)
                }
                Of::Cpu(n) => Content::States(cpus.remove(n).unwrap_or_default(), Arc::clone(&ran)),
                Of::Task(pid) => {
                    let states = who::thread_states(&lane.name, numbers.iter().map(u32::to_string));
                    Content::States(tasks.remove(pid).unwrap_or_default(), states)
                }
                Of::Stream(id) => counts(found.streams.remove(id)),
                Of::All => counts(Some(std::mem::take(&mut found.all))),
                Of::Name(n) => counts(found.names.remove(n)),
            };
        }
        let places: HashMap<Of, usize> = self.of.iter().copied().zip(0..).collect();
        // Far out they would be a curtain.
        let columns = found.columns();
        if found.arrows.len() as u32 <= columns / 8 {
            self.picture.arrows = found
                .arrows
                .iter()
                .filter_map(|(time, waker, woken)| {
                    let from = match waker {
                        Waker::Task(pid) => Of::Task(*pid),
                        Waker::Cpu(n) => Of::Cpu(*n),
                    };
                    let (from, to) = (*places.get(&from)?, *places.get(&Of::Task(*woken))?);
                    Some(Arrow { time: *time, from, to })
                })
                .collect();
        }
        for m in &survey.lost {
            let stream = places.get(&Of::Stream(m.origin.stream));
            let cpu = m.origin.cpu().and_then(|n| places.get(&Of::Cpu(n)));
            let Some(lane) = cpu.or(stream).or(places.get(&Of::All)).or(places.values().min())
            else {
                continue;
            };
            let text = missing(m.events, m.packets);
            self.picture.lost.push(Gap { lane: *lane, from: m.from, to: m.to, text });
        }
        if !self.picture.arrows.is_empty() {
            self.picture
                .facts
                .push(format!("arrows: who wakes whom ({})", self.picture.arrows.len()));
        }
        let column = (self.picture.to - self.picture.from) / u64::from(columns.max(1));
        self.picture.facts.push(format!("a column is {}", span(column)));
        self.picture
    }
}

fn counts(counts: Option<Vec<u32>>) -> Content {
    Content::Density(counts.unwrap_or_default(), Ink::Count)
}

/// What a CPU can run, in the order of `Collect`'s ranks.
fn cpu_states(survey: &Survey) -> Arc<[State]> {
    who::cpu_states(survey.busiest().into_iter().map(|pid| shown(&survey.tasks[&pid].name)))
}
