//! The first reading: what there is, so that the second one knows what is to be counted, for
//! whom, and in which columns.
//!
//! Stream by stream, no more than one packet in memory, and of events only numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::fields::{Known, Role};
use crate::read::event::{Event, Origin};
use crate::read::stream::Wanted;
use crate::read::{Selection, StreamReader, Trace};
use crate::status::say;

/// What a trace has.
#[derive(Debug, Default)]
pub struct Survey {
    /// Event classes.
    pub known: Known,
    /// Their names.
    pub names: Vec<String>,
    /// Events by the places of their names.
    pub counts: Vec<u64>,
    /// All events.
    pub events: u64,
    /// The first and the last event's time; of those in the time that is drawn.
    pub extent: Option<(u64, u64)>,
    /// The last event's time, of all that were seen.
    pub end: u64,
    /// Streams by their ids, and how many events each has.
    pub streams: BTreeMap<u64, (Origin, u64)>,
    /// CPUs whose scheduler is told, and how long each was seen to work.
    pub cpus: BTreeMap<u32, u64>,
    /// Processes by their ids; not the idle ones.
    pub tasks: HashMap<i64, Task>,
    /// What is missing.
    pub lost: Vec<Missing>,
    /// Whether it is told who wakes (not only who is woken).
    pub early: bool,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its name, the last that was told.
    pub name: Vec<u8>,
    /// How long it was seen to run.
    pub ran: u64,
}

/// What is missing of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose.
    pub origin: Origin,
    /// Between the last event before …
    pub from: u64,
    /// … and the first one after.
    pub to: u64,
    /// Events.
    pub events: u64,
    /// Packets, with how many events nobody knows.
    pub packets: u64,
}

/// What a CPU's last event told.
#[derive(Default)]
struct Last {
    /// Since when it is known who runs; 0: since the first event.
    since: u64,
    /// Who does, and what it is called.
    pid: Option<i64>,
    name: Vec<u8>,
}

impl Survey {
    /// Looks at traces.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn of(
        traces: &[Trace],
        wanted: &Arc<Wanted>,
        select: &mut Selection,
        values: Vec<(String, String)>,
        grows: bool,
    ) -> anyhow::Result<Self> {
        let mut this = Self { known: Known::new(values), ..Self::default() };
        for stream in traces.iter().flat_map(Trace::streams) {
            let mut stream = stream?;
            stream.want(wanted);
            stream.set_growing(grows);
            this.stream(&mut stream, wanted, select);
            if let Some(damage) = stream.new_damage() {
                say!("rbpipe view: {}: {damage}", stream.path.display());
            }
        }
        // Those that did nothing are CPUs, too.
        if !this.cpus.is_empty() {
            let others: Vec<_> = this.streams.values().filter_map(|(o, _)| o.cpu()).collect();
            others.into_iter().for_each(|cpu| {
                this.cpus.entry(cpu).or_default();
            });
        }
        this.names = this.known.names.clone();
        this.lost.sort_by_key(|m| (m.from, m.origin.stream));
        Ok(this)
    }

    fn stream(&mut self, s: &mut StreamReader, wanted: &Wanted, select: &mut Selection) {
        let mut end = None;
        let mut last = Last { since: wanted.from, ..Last::default() };
        while s.next_packet() {
            let Some(header) = s.header().copied() else { continue };
            let at = |t: u64| t.saturating_add(s.clock_offset());
            let from = Origin::from(&header);
            if let Some(lost) = s.lost() {
                let to = at(header.begin);
                // The packet's last event was there.
                let since = end.map_or(to, |e: u64| e.saturating_add(1).min(to));
                let (events, packets) = (lost.events, lost.packets);
                self.lost.push(Missing { origin: from, from: since, to, events, packets });
                last = Last { since: to.max(wanted.from), ..Last::default() };
            }
            end = Some(at(header.end));
            self.streams.entry(from.stream).or_insert((from, 0));
            while let Some(record) = s.next_record() {
                if record.class.is_some()
                    && select.wants(s, &record)
                    && let Some(event) = s.event(&record)
                {
                    self.event(&event, wanted, &mut last);
                }
            }
        }
        // Who ran last ran to the end, as far as that is known.
        let until = end.unwrap_or(0).min(wanted.to);
        let ran = until.saturating_sub(last.since);
        if let Some(pid) = last.pid.filter(|p| *p != 0 && ran > 0)
            && let Some(cpu) = s.header().and_then(|h| Origin::from(h).cpu())
        {
            *self.cpus.entry(cpu).or_default() += ran;
            task(&mut self.tasks, pid, &last.name).ran += ran;
        }
    }

    #[inline]
    fn event(&mut self, event: &Event<'_>, wanted: &Wanted, last: &mut Last) {
        let place = self.known.place(event.class);
        let met = &self.known.list[place];
        let t = event.time;
        self.end = self.end.max(t);
        if self.counts.len() <= met.name {
            self.counts.resize(met.name + 1, 0);
        }
        if wanted.has(t) {
            self.counts[met.name] += 1;
            self.events += 1;
            self.extent = Some(self.extent.map_or((t, t), |(a, b)| (a.min(t), b.max(t))));
            if let Some((_, n)) = self.streams.get_mut(&event.from.stream) {
                *n += 1;
            }
        }
        let (class, payload) = (event.class, event.payload);
        match (&met.role, event.from.cpu()) {
            (Role::Switch { prev, prev_comm, next, next_comm, .. }, Some(cpu)) => {
                let (before, after) = (prev.number(class, payload), next.number(class, payload));
                let until = t.clamp(wanted.from, wanted.to);
                // A trace that is drawn from its beginning begins with its first event.
                let since = if last.since == 0 { until } else { last.since };
                let told = last.pid.is_none() || last.pid == before;
                let ran = if told { until.saturating_sub(since) } else { 0 };
                (last.since, last.pid) = (until, after);
                next_comm.text(class, payload).clone_into(&mut last.name);
                let work = self.cpus.entry(cpu).or_default();
                // Who only ran at another time has no lane.
                let inside = ran > 0 || wanted.has(t);
                if let Some(pid) = before.filter(|p| *p != 0 && inside) {
                    *work += ran;
                    task(&mut self.tasks, pid, prev_comm.text(class, payload)).ran += ran;
                }
                if let Some(pid) = after.filter(|p| *p != 0 && wanted.has(t)) {
                    task(&mut self.tasks, pid, next_comm.text(class, payload));
                }
            }
            (Role::Wake { pid, comm, early }, Some(_)) => {
                self.early |= early;
                if let Some(pid) = pid.number(class, payload).filter(|p| *p != 0 && wanted.has(t)) {
                    task(&mut self.tasks, pid, comm.text(class, payload));
                }
            }
            _ => {}
        }
    }

    /// Processes, the busiest first; those that are the same in order of their ids.
    pub fn busiest(&self) -> Vec<i64> {
        let mut all: Vec<_> = self.tasks.iter().map(|(pid, t)| (u64::MAX - t.ran, *pid)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, pid)| pid).collect()
    }
}

fn task<'a>(tasks: &'a mut HashMap<i64, Task>, pid: i64, name: &[u8]) -> &'a mut Task {
    let task = tasks.entry(pid).or_default();
    if task.name != name && !name.is_empty() {
        name.clone_into(&mut task.name);
    }
    task
}
