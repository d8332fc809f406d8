//! From bins to a picture: a lane for each stream, and one for each event class that there is
//! much of. Knows no device.

use std::sync::Arc;

use rbpipe_core::class::ClassRegistry;
use rbpipe_core::packet::StreamClass;

use super::super::store::Table;
use super::index::Bins;
use crate::picture::{Content, Gap, Group, Ink, Key, Lane, Picture, number, span};

/// More lanes of a kind are not tried.
const MOST: usize = 256;
/// Places of the groups.
const STREAMS: usize = 0;
const EVENTS: usize = 1;

/// What stays the same from picture to picture.
pub(super) struct Scene {
    pub(super) title: String,
    /// From the channel's clock to the epoch, ns.
    pub(super) clock_offset: u64,
    pub(super) classes: Arc<ClassRegistry>,
}

/// What is known of a picture before anything is counted.
pub(super) struct Sketch {
    pub(super) picture: Picture,
    /// On the channel's clock.
    pub(super) from: u64,
    pub(super) to: u64,
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
        let groups = ["Streams", "Events"].map(|n| Group { name: n.into(), ..Group::default() });
        let picture = Picture {
            title: self.title.clone(),
            from: from.saturating_add(self.clock_offset),
            to: to.saturating_add(self.clock_offset),
            groups: groups.into(),
            ..Picture::default()
        };
        Sketch { picture, from, to, streams, gaps }
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
        let (all_streams, all_events) = (streams.len(), events.len());
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
        picture.legend.push(Key { ink: Ink::Count, name: "events".into() });
        picture
            .facts
            .push(format!("a column is {}", span((to - from) / u64::from(columns.max(1)))));
        loop {
            picture.groups[STREAMS].note = more(streams.len(), all_streams, "first");
            picture.groups[EVENTS].note = more(events.len(), all_events, "most frequent");
            let empty = || vec![0; columns as usize];
            picture.lanes =
                streams
                    .iter()
                    .map(|(id, name)| {
                        let bins = bins.streams.get(id).cloned().unwrap_or_else(empty);
                        lane(STREAMS, name.clone(), sum(&bins), bins)
                    })
                    .chain(events.iter().map(|(sum, bins, name)| {
                        lane(EVENTS, (*name).to_owned(), *sum, bins.clone())
                    }))
                    .collect();
            if room(&picture) >= picture.lanes.len() {
                break;
            }
            if events.len() >= streams.len() && events.len() > 1 {
                events.pop();
            } else if streams.len() > 1 {
                streams.pop();
            } else {
                break;
            }
        }
        let place = |id: u32| streams.iter().position(|(stream, _)| *stream == id);
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
