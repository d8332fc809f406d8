//! The second reading: all streams in the order of time, counted into columns.
//!
//! Of the scheduler's events it makes what each CPU ran and what each process did. The first
//! event of a CPU tells who ran until then; where something is lost nothing is known, until it
//! is told again.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use rbpipe_backends::picture::who::{BLOCKED, IDLE, OTHERS, RUNNING, UNKNOWN, WAITING};
use rbpipe_backends::timeline::Window;

use super::bins::{Columns, StateLane, ValueLane};
use super::fields::{Known, Role};
use super::survey::Survey;
use crate::read::event::{Event, Lost};
use crate::read::merge::Print;

/// More arrows are no picture.
const MOST_ARROWS: usize = 4096;

/// Who wakes: a process, or the CPU in whose name the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waker {
    /// Its id.
    Task(i64),
    /// Its number.
    Cpu(u32),
}

/// A CPU.
struct Cpu {
    /// Its place among them.
    place: u16,
    lane: StateLane,
    /// Who runs.
    current: Option<i64>,
    /// Since when nothing is missing.
    known: u64,
}

/// What is counted.
pub struct Collect {
    window: Window,
    columns: Columns,
    known: Known,
    /// All events.
    pub all: Vec<u32>,
    /// By name: those that have a lane.
    pub names: HashMap<usize, Vec<u32>>,
    /// By stream.
    pub streams: HashMap<u64, Vec<u32>>,
    /// What was asked for with `--value`.
    pub values: Vec<ValueLane>,
    cpus: BTreeMap<u32, Cpu>,
    tasks: HashMap<i64, StateLane>,
    /// The state, in CPUs' lanes, of each process.
    ranks: HashMap<i64, u16>,
    /// Who woke whom, when; empty if there are too many.
    pub arrows: Vec<(u64, Waker, i64)>,
    too_many: bool,
    early: bool,
    /// When something begins and ends to be missing of a CPU: the next last.
    gaps: Vec<(u64, u32, bool)>,
}

/// What has lanes.
#[derive(Debug, Default)]
pub struct Shown {
    /// Processes.
    pub tasks: Vec<i64>,
    /// Places of events' names.
    pub names: Vec<usize>,
    /// Streams.
    pub streams: Vec<u64>,
}

impl Collect {
    /// Nothing yet.
    pub fn new(
        survey: &Survey,
        known: Known,
        window: Window,
        shown: &Shown,
        values: usize,
    ) -> Self {
        let counts = || vec![0u32; window.columns as usize];
        let cpus = survey.cpus.keys().zip(0..);
        let lane = |alike| StateLane::new(window, alike);
        let mut gaps: Vec<_> = survey
            .lost
            .iter()
            .filter_map(|m| Some((m, m.origin.cpu()?)))
            .flat_map(|(m, cpu)| [(m.from, cpu, false), (m.to, cpu, true)])
            .collect();
        gaps.sort_unstable();
        gaps.reverse();
        Self {
            window,
            columns: Columns::new(window),
            known,
            all: counts(),
            names: shown.names.iter().map(|n| (*n, counts())).collect(),
            streams: shown.streams.iter().map(|s| (*s, counts())).collect(),
            values: vec![ValueLane::new(window.columns); values],
            cpus: cpus
                .map(|(number, place)| {
                    let lane = lane(u16::MAX);
                    (*number, Cpu { place, lane, current: None, known: window.from })
                })
                .collect(),
            tasks: shown.tasks.iter().map(|pid| (*pid, lane(RUNNING))).collect(),
            ranks: survey.busiest().into_iter().zip(OTHERS + 1..u16::MAX - 1).collect(),
            arrows: Vec::new(),
            too_many: false,
            early: survey.early,
            gaps,
        }
    }

    /// How many columns there are.
    pub fn columns(&self) -> u32 {
        self.window.columns
    }

    /// The lanes of CPUs, of processes: nothing is known after `end`.
    pub fn finish(&mut self, end: u64) -> (CpuLanes, TaskLanes) {
        self.pass_gaps(end);
        let cpus = std::mem::take(&mut self.cpus).into_iter();
        let tasks = std::mem::take(&mut self.tasks).into_iter();
        (
            cpus.map(|(n, cpu)| (n, cpu.lane.finish(end))).collect(),
            tasks.map(|(pid, lane)| (pid, lane.finish(end))).collect(),
        )
    }

    /// What begins or ends to be missing before this moment.
    #[inline]
    fn pass_gaps(&mut self, time: u64) {
        while let Some((t, cpu, is_end)) = self.gaps.pop_if(|(t, ..)| *t <= time) {
            let Some(cpu) = self.cpus.get_mut(&cpu) else { continue };
            if is_end {
                cpu.known = t;
                continue;
            }
            cpu.lane.change(t, UNKNOWN);
            if let Some(lane) = cpu.current.take().and_then(|pid| self.tasks.get_mut(&pid)) {
                lane.change(t, UNKNOWN);
            }
        }
    }

    fn rank(&self, pid: i64) -> u16 {
        if pid == 0 { IDLE } else { self.ranks.get(&pid).copied().unwrap_or(OTHERS) }
    }

    fn switch(&mut self, time: u64, cpu: u32, (prev, state, next): (i64, i64, i64)) {
        let (before, after) = (self.rank(prev), self.rank(next));
        let Some(cpu) = self.cpus.get_mut(&cpu) else { return };
        // Until when it can be told back that this one ran.
        let mut since = time;
        if cpu.lane.state == UNKNOWN {
            since = cpu.known;
            cpu.lane.correct(since, before);
        } else if cpu.current != Some(prev) {
            // Somebody else came in between, untold: when, nobody knows.
            cpu.lane.correct(time, UNKNOWN);
            let running = RUNNING.saturating_add(cpu.place);
            let thought = cpu.current.and_then(|pid| self.tasks.get_mut(&pid));
            if let Some(lane) = thought.filter(|l| l.state == running) {
                lane.correct(time, UNKNOWN);
            }
        }
        cpu.lane.change(time, after);
        cpu.current = Some(next);
        let running = RUNNING.saturating_add(cpu.place);
        if let Some(lane) = self.tasks.get_mut(&prev) {
            if lane.state == UNKNOWN {
                lane.correct(since, running);
            } else if lane.state != running {
                lane.correct(time, UNKNOWN);
            }
            lane.change(time, left(state));
        }
        if let Some(lane) = self.tasks.get_mut(&next) {
            lane.change(time, running);
        }
    }

    fn wake(&mut self, time: u64, cpu: u32, pid: i64, early: bool) {
        let Some(lane) = self.tasks.get_mut(&pid) else { return };
        if matches!(lane.state, UNKNOWN | IDLE | BLOCKED) {
            lane.change(time, WAITING);
        }
        if early != self.early || self.too_many || time < self.window.from || time >= self.window.to
        {
            return;
        }
        let current = self.cpus.get(&cpu).and_then(|c| c.current).filter(|p| *p != 0);
        let shown = current.filter(|p| self.tasks.contains_key(p) && *p != pid);
        self.arrows.push((time, shown.map_or(Waker::Cpu(cpu), Waker::Task), pid));
        if self.arrows.len() > MOST_ARROWS {
            self.too_many = true;
            self.arrows.clear();
        }
    }
}

/// By number.
pub type CpuLanes = BTreeMap<u32, Vec<rbpipe_backends::picture::Cell>>;
/// By process.
pub type TaskLanes = HashMap<i64, Vec<rbpipe_backends::picture::Cell>>;

/// What a process does that left its CPU in this state (the kernel's `prev_state`).
fn left(state: i64) -> u16 {
    match state {
        // Could go on: was preempted.
        s if s & 0xFF == 0 => WAITING,
        // Dead, a zombie.
        s if s & 0x30 != 0 => UNKNOWN,
        s if s & 0x02 != 0 => BLOCKED,
        _ => IDLE,
    }
}

impl Print for Collect {
    #[inline]
    fn event(&mut self, _: &mut impl Write, event: &Event<'_>) -> io::Result<()> {
        let time = event.time;
        if self.gaps.last().is_some_and(|(t, ..)| *t <= time) {
            self.pass_gaps(time);
        }
        let place = self.known.place(event.class);
        let column = self.columns.of(time);
        let met = &self.known.list[place];
        if let Some(column) = column {
            let at = column as usize;
            self.all[at] += 1;
            if let Some(counts) = self.names.get_mut(&met.name) {
                counts[at] += 1;
            }
            if let Some(counts) = self.streams.get_mut(&event.from.stream) {
                counts[at] += 1;
            }
            for (lane, field) in &met.values {
                if let Some(value) = field.float(event.class, event.payload) {
                    self.values[*lane].add(column, value);
                }
            }
        }
        let (class, payload) = (event.class, event.payload);
        match (&met.role, event.from.cpu()) {
            (Role::Switch { prev, prev_state, next, .. }, Some(cpu)) => {
                let number = |f: &super::fields::Field| f.number(class, payload);
                if let (Some(p), Some(s), Some(n)) =
                    (number(prev), number(prev_state), number(next))
                {
                    self.switch(time, cpu, (p, s, n));
                }
            }
            (Role::Wake { pid, early, .. }, Some(cpu)) => {
                let early = *early;
                if let Some(pid) = pid.number(class, payload) {
                    self.wake(time, cpu, pid, early);
                }
            }
            _ => {}
        }
        Ok(())
    }

    // When, is known since the first reading.
    fn lost(&mut self, _: &mut impl Write, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self, _: &mut impl Write) -> io::Result<()> {
        Ok(())
    }
}
