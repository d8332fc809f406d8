//! From bins to a picture: a lane for each field whose values are asked for, for each CPU that
//! tells who ran, for the processes that ran longest, for each other stream, and for each event
//! class that there is much of. Knows no device.

use std::sync::Arc;

use rbpipe_core::class::ClassRegistry;
use rbpipe_core::packet::StreamClass;

use super::super::store::Table;
use super::index::Bins;
use super::states::Ran;
use super::threads::Thread;
use crate::picture::{Arrow, Content, Gap, Group, Ink, Key, Lane, Picture, Range, number, span};
use crate::timeline::Window;

/// More lanes of a kind are not tried.
const MOST: usize = 256;
/// Places of the groups.
const VALUES: usize = 0;
const CPUS: usize = 1;
const TASKS: usize = 2;
const STREAMS: usize = 3;
const EVENTS: usize = 4;

/// What stays the same from picture to picture.
pub(super) struct Scene {
    pub(super) title: String,
    /// From the channel's clock to the epoch, ns.
    pub(super) clock_offset: u64,
    pub(super) classes: Arc<ClassRegistry>,
    /// What fields are called whose values are asked for.
    pub(super) values: Vec<String>,
}

/// What is known of a picture before anything is counted.
pub(super) struct Sketch {
    pub(super) picture: Picture,
    /// On the channel's clock.
    pub(super) from: u64,
    pub(super) to: u64,
    /// From here on nothing has come yet.
    pub(super) until: u64,
    /// Streams that have packets in it, by number, and what they are called.
    streams: Vec<(u32, String)>,
    gaps: Vec<Missing>,
}

/// What a stream lacks between two of its packets.
struct Missing {
    stream: u32,
    from: u64,
    to: u64,
    records: u64,
    packets: u64,
}

impl Scene {
    /// Looks at what the store has of a time.
    pub(super) fn sketch(&self, table: &Table, (from, to): (u64, u64)) -> Sketch {
        let mut streams: Vec<(u32, String)> = Vec::new();
        let mut gaps = Vec::new();
        let mut ends = std::collections::HashMap::new();
        for packet in table.packets() {
            let id = packet.stream.id;
            let before = ends.insert(id, packet.last).unwrap_or(packet.first);
            if packet.first >= to || packet.last < from {
                continue;
            }
            if (packet.lost, packet.missing) != (0, 0) {
                // A packet tells of what was lost before it was closed: between its neighbours.
                gaps.push(Missing {
                    stream: id,
                    from: before,
                    to: packet.first.max(before + 1),
                    records: packet.lost,
                    packets: packet.missing,
                });
            }
            if !streams.iter().any(|(known, _)| *known == id) {
                let name = match (packet.stream.class, packet.stream.cpu) {
                    (StreamClass::Cpu, Some(cpu)) => format!("CPU {cpu}"),
                    (StreamClass::Thread, _) => format!("thread {id}"),
                    _ => format!("stream {id}"),
                };
                streams.push((id, name));
            }
        }
        streams.sort();
        let groups = ["Values", "CPUs", "Threads", "Streams", "Events"];
        let groups = groups.map(|n| Group { name: n.into(), ..Group::default() });
        let until = table.span().map_or(from, |(_, newest)| newest.saturating_add(1));
        let picture = Picture {
            title: self.title.clone(),
            from: from.saturating_add(self.clock_offset),
            to: to.saturating_add(self.clock_offset),
            groups: groups.into(),
            ..Picture::default()
        };
        Sketch { picture, from, to, until, streams, gaps }
    }

    /// Processes that have a lane.
    pub(super) fn threads(picture: &Picture) -> usize {
        picture.lanes.iter().filter(|lane| lane.group == TASKS).count()
    }

    /// Puts what was counted into lanes: as many as have room.
    pub(super) fn fill(
        &self,
        sketch: &Sketch,
        mut bins: Bins,
        columns: u32,
        room: &dyn Fn(&Picture) -> usize,
    ) -> Picture {
        let (from, to, gaps) = (sketch.from, sketch.to, &sketch.gaps);
        let (mut picture, mut streams) = (sketch.picture.clone(), sketch.streams.clone());
        let sum = |bins: &[u32]| bins.iter().map(|n| u64::from(*n)).sum::<u64>();
        let all: u64 = bins.streams.values().map(|b| sum(b)).sum();
        let names = self.classes.all();
        let mut events: Vec<(u64, Vec<u32>, &str)> = names
            .iter()
            .zip(std::mem::take(&mut bins.classes))
            .map(|(class, bins)| (sum(&bins), bins, class.name.as_str()))
            .filter(|(sum, ..)| *sum > 0)
            .collect();
        events.sort_by(|a, b| (b.0, a.2).cmp(&(a.0, b.2)));
        let window = Window { from, to, columns };
        let states = bins.states.take().unwrap_or_default();
        let ran = Ran::of(&states, &window);
        let did = bins.threads.take();
        let mut threads = did.as_ref().map_or_else(Vec::new, |did| did.lanes(&states, &window));
        let mut cpus: Vec<(u32, String)> = Vec::new();
        streams.retain(|one| {
            let tells = ran.lanes.contains_key(&one.0);
            if tells {
                cpus.push(one.clone());
            }
            !tells
        });
        let values: Vec<(&String, Vec<Option<Range>>)> = self
            .values
            .iter()
            .zip(std::mem::take(&mut bins.values))
            .filter_map(|(name, values)| Some((name, values?)))
            .collect();
        let (all_cpus, all_streams, all_events) = (cpus.len(), streams.len(), events.len());
        cpus.truncate(MOST);
        streams.truncate(MOST);
        events.truncate(MOST);
        picture.facts = vec![format!("{} events", number(all))];
        let lost = gaps.iter().map(|gap| gap.records).sum::<u64>();
        let packets = gaps.iter().map(|gap| gap.packets).sum::<u64>();
        if lost > 0 {
            picture.facts.push(format!("{} events lost", number(lost)));
        }
        if packets > 0 {
            picture.facts.push(format!("{} packets lost", number(packets)));
        }
        if !gaps.is_empty() {
            picture.legend.push(Key { ink: Ink::Lost, name: "lost".into() });
        }
        let mut key = |ink, name: &str| picture.legend.push(Key { ink, name: name.into() });
        if !threads.is_empty() {
            key(Ink::Waiting, "waits for a CPU");
            key(Ink::Blocked, "blocked");
        }
        if !cpus.is_empty() {
            key(Ink::Idle, "idle");
            key(Ink::Others, "others");
        }
        key(Ink::Count, "events");
        picture.legend.extend(ran.keys);
        for name in self.values.iter().filter(|name| !values.iter().any(|v| v.0 == *name)) {
            picture.facts.push(format!("no values of {name}"));
        }
        picture
            .facts
            .push(format!("a column is {}", span((to - from) / u64::from(columns.max(1)))));
        let mut value_height = 360;
        let mut cpu_height = if cpus.len() > 8 { 150 } else { 230 };
        loop {
            picture.groups[CPUS].note = more(cpus.len(), all_cpus, "first");
            let all_threads = did.as_ref().map_or(0, |did| did.all);
            picture.groups[TASKS].note = more(threads.len(), all_threads, "busiest");
            picture.groups[STREAMS].note = more(streams.len(), all_streams, "first");
            picture.groups[EVENTS].note = more(events.len(), all_events, "most frequent");
            let of_value = |(name, values): &(&String, Vec<Option<Range>>)| Lane {
                name: (*name).clone(),
                detail: String::new(),
                group: VALUES,
                height: value_height,
                content: Content::Values(values.clone(), Ink::Value),
            };
            let of_cpu = |(id, name): &(u32, String)| {
                let (cells, busy) = ran.lanes.get(id).cloned().unwrap_or_default();
                let content = Content::States(cells, Arc::clone(&ran.states));
                let detail = percent(busy, to - from);
                Lane { name: name.clone(), detail, group: CPUS, height: cpu_height, content }
            };
            let of_stream = |(id, name): &(u32, String)| {
                let empty = || vec![0; columns as usize];
                let bins = bins.streams.get(id).cloned().unwrap_or_else(empty);
                lane(STREAMS, name.clone(), sum(&bins), bins)
            };
            let lanes = values.iter().map(of_value).chain(cpus.iter().map(of_cpu));
            let of_thread = |thread: &Thread| Lane {
                name: thread.name.clone(),
                detail: format!("{} {:>6}", thread.task - 1, percent(thread.ran, to - from)),
                group: TASKS,
                height: 130,
                content: Content::States(thread.cells.clone(), Arc::clone(&thread.states)),
            };
            let lanes = lanes.chain(threads.iter().map(of_thread));
            let lanes = lanes.chain(streams.iter().map(of_stream));
            picture.lanes =
                lanes
                    .chain(events.iter().map(|(sum, bins, name)| {
                        lane(EVENTS, (*name).to_owned(), *sum, bins.clone())
                    }))
                    .collect();
            if room(&picture) >= picture.lanes.len() {
                break;
            }
            if threads.len() > 4 && threads.len() >= 2 * events.len() {
                threads.pop();
            } else if events.len() >= streams.len() && events.len() > 3 {
                events.pop();
            } else if streams.len() > 3 {
                streams.pop();
            } else if !values.is_empty() && value_height > 140 {
                value_height -= 20;
            } else if cpus.len() > 2 && cpu_height > 10 {
                cpu_height -= 10;
            } else if events.len() > 1 {
                events.pop();
            } else if streams.len() > 1 {
                streams.pop();
            } else if threads.len() > 1 {
                threads.pop();
            } else if cpus.len() > 1 {
                cpus.pop();
            } else {
                break;
            }
        }
        let place = |id: u32| {
            let before = values.len();
            if let Some(cpu) = cpus.iter().position(|(stream, _)| *stream == id) {
                return Some(before + cpu);
            }
            let stream = streams.iter().position(|(stream, _)| *stream == id)?;
            Some(before + cpus.len() + threads.len() + stream)
        };
        let thread = |task: u32| {
            let place = threads.iter().position(|t| t.task == task)?;
            Some(values.len() + cpus.len() + place)
        };
        let arrows = did.as_ref().map_or_else(Vec::new, |did| did.arrows(thread, place));
        // Far out they would be a curtain.
        if !arrows.is_empty() && arrows.len() as u32 <= columns / 8 {
            picture.facts.insert(1, format!("arrows: who wakes whom ({})", arrows.len()));
            let time = |a: Arrow| Arrow { time: a.time.saturating_add(self.clock_offset), ..a };
            picture.arrows = arrows.into_iter().map(time).collect();
        }
        let at = |time: u64| time.clamp(from, to).saturating_add(self.clock_offset);
        picture.lost = gaps
            .iter()
            .filter_map(|gap| {
                let text = match (gap.records, gap.packets) {
                    (0, packets) => format!("{} packets lost", number(packets)),
                    (records, _) => format!("{} lost", number(records)),
                };
                Some(Gap { lane: place(gap.stream)?, from: at(gap.from), to: at(gap.to), text })
            })
            .collect();
        picture
    }
}

fn lane(group: usize, name: String, events: u64, bins: Vec<u32>) -> Lane {
    let height = if group == STREAMS { 230 } else { 150 };
    let content = Content::Density(bins, Ink::Count);
    Lane { name, detail: number(events), group, height, content }
}

/// Said beside a heading.
fn more(shown: usize, all: usize, which: &str) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        n => format!("the {shown} {which}, and {} more", number(n as u64)),
    }
}

fn percent(part: u64, whole: u64) -> String {
    match u128::from(part) * 1000 / u128::from(whole.max(1)) {
        0 if part > 0 => "<0.1 %".into(),
        n if n < 100 => format!("{}.{} %", n / 10, n % 10),
        n => format!("{} %", (n + 5) / 10),
    }
}
