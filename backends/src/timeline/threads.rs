//! What processes did: ran, waited for a CPU, were blocked, slept; of what all CPUs tell.

use std::collections::HashMap;

use super::switches::Kind;
use super::{Transition, Window};

/// What a process did in one column, in nanoseconds; what is missing is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// It ran.
    pub running: u64,
    /// It could have, and had no CPU.
    pub waiting: u64,
    /// It waited for a device or a lock.
    pub blocked: u64,
    /// It slept.
    pub asleep: u64,
    /// The first CPU's stream on which it ran in the column, and 1; 0: it did not.
    pub on: u32,
}

/// Somebody was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Woken {
    /// When.
    pub time: u64,
    /// The stream of the CPU where that was told.
    pub stream: u32,
    /// Who ran there (its id and 1); 0: nobody knows.
    pub waker: u32,
    /// Who was woken (its id and 1).
    pub task: u32,
    /// Told where it was woken, not where it will run.
    pub early: bool,
}

/// What some processes did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// Each process's columns, process after process.
    pub doing: Vec<Doing>,
    /// By time; `None`: more than [`MOST_WOKEN`].
    pub woken: Option<Vec<Woken>>,
}

/// More wake-ups are not told one by one.
pub const MOST_WOKEN: usize = 2048;

/// What a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Waiting,
    Blocked,
    Asleep,
    /// On this stream's CPU.
    Running(u32),
}

/// A process while its columns are filled.
struct Lane<'a> {
    window: &'a Window,
    until: u64,
    state: State,
    since: u64,
    columns: &'a mut [Doing],
}

impl Lane<'_> {
    /// It was what it is thought to be until now.
    fn add(&mut self, time: u64) {
        let (mut at, to) = (self.since.max(self.window.from), time.min(self.until));
        let to = to.min(self.window.to);
        if self.state == State::Unknown {
            return;
        }
        while let Some(column) = self.window.column(at).filter(|_| at < to) {
            let end = self.window.edge(column + 1).min(to);
            let doing = &mut self.columns[column as usize];
            match self.state {
                State::Unknown => {}
                State::Waiting => doing.waiting += end - at,
                State::Blocked => doing.blocked += end - at,
                State::Asleep => doing.asleep += end - at,
                State::Running(stream) => {
                    doing.running += end - at;
                    if doing.on == 0 {
                        doing.on = stream + 1;
                    }
                }
            }
            at = end;
        }
    }

    fn change(&mut self, time: u64, state: State) {
        (self.since, self.state) = (time, state);
    }

    /// It comes there, and is in this state then; or, if that is not `sure`, is there since before.
    fn come(&mut self, time: u64, stream: u32, sure: bool, state: State) {
        // It is nowhere else: what was thought is not so.
        if sure && !matches!(self.state, State::Running(other) if other != stream) {
            self.add(time);
        }
        self.change(time, state);
    }

    /// It does no longer run there.
    fn leave(&mut self, time: u64, stream: u32, state: State) {
        if self.state == State::Running(stream) {
            self.add(time);
        }
        self.change(time, state);
    }

    fn wake(&mut self, time: u64) {
        if matches!(self.state, State::Unknown | State::Asleep | State::Blocked) {
            self.add(time);
            self.change(time, State::Waiting);
        }
    }
}

/// What these processes (ids and 1, each once) did in each column, of what each CPU's stream tells
/// ([`settle`](super::settle)d, sorted by time). What happened before `since` tells only who ran
/// then; from `until` on nothing is known. What happens at the same time does so in the order of
/// the streams.
#[must_use]
pub fn threads(
    streams: &[&[Transition]],
    window: &Window,
    (since, until): (u64, u64),
    tasks: &[u32],
) -> Threads {
    let (columns, since) = (window.columns as usize, since.min(window.from));
    let mut doing = vec![Doing::default(); tasks.len() * columns];
    let mut woken = Vec::new();
    // When, which stream, which of its transitions; the first ones are older.
    let mut order: Vec<(u64, u32, usize, bool)> = Vec::new();
    for (stream, all) in (0..).zip(streams) {
        let first = all.partition_point(|t| t.time() < since);
        let last = all.partition_point(|t| t.time() < window.to);
        if first > 0 {
            order.push((since, stream, first - 1, true));
        }
        order.extend((first..last).map(|i| (all[i].time(), stream, i, false)));
    }
    order.sort_unstable();
    // Without columns nothing is left of what they do.
    let mut rest = &mut doing[..];
    let mut lanes: HashMap<u32, Lane<'_>> = HashMap::new();
    for task in tasks {
        let (mine, others) = rest.split_at_mut(columns);
        rest = others;
        let (state, since) = (State::Unknown, 0);
        lanes.insert(*task, Lane { window, until, state, since, columns: mine });
    }
    for (time, stream, place, is_older) in order {
        let one = streams[stream as usize][place];
        let (kind, task) = one.told();
        let before = place.checked_sub(1).map_or(0, |i| streams[stream as usize][i].known());
        let left = match kind {
            _ if is_older => None,
            // Somebody left who is not told of: who was thought to run does no longer.
            Kind::LeftReady | Kind::LeftAsleep | Kind::LeftBlocked | Kind::LeftDead
                if task == 0 =>
            {
                Some((before, State::Unknown))
            }
            Kind::LeftReady => Some((task, State::Waiting)),
            Kind::LeftAsleep => Some((task, State::Asleep)),
            Kind::LeftBlocked => Some((task, State::Blocked)),
            Kind::LeftDead => Some((task, State::Unknown)),
            Kind::Lost | Kind::Begins => Some((before, State::Unknown)),
            Kind::Woken | Kind::Waking => {
                let early = kind == Kind::Waking;
                if let Some(lane) = lanes.get_mut(&task) {
                    lane.wake(time);
                    if time >= window.from && columns > 0 {
                        woken.push(Woken { time, stream, waker: one.state, task, early });
                    }
                }
                continue;
            }
        };
        if let Some((task, state)) = left
            && let Some(lane) = lanes.get_mut(&task)
        {
            lane.leave(time, stream, state);
        }
        let state = match one.left_untold() {
            // When it left is not known: whether it was still there then neither.
            true if is_older => continue,
            true => State::Unknown,
            false => State::Running(stream),
        };
        if let Some(lane) = lanes.get_mut(&one.state) {
            lane.come(time, stream, kind != Kind::Begins, state);
        }
    }
    lanes.into_values().for_each(|mut lane| lane.add(u64::MAX));
    // Of one moment and stream in the order of the processes: as a shader's may be sorted.
    woken.sort_unstable();
    Threads { doing, woken: (woken.len() <= MOST_WOKEN).then_some(woken) }
}
