//! From what processes did to their lanes, and to arrows of who woke whom: as `rbpipe view` draws
//! them. Knows no device.

use std::sync::Arc;

use rbpipe_core::backend::StreamInfo;

use super::super::compute::{States, ThreadRows};
use super::states::{NOBODY, name, part};
use crate::picture::who::{BLOCKED, IDLE, RUNNING, WAITING, thread_states};
use crate::picture::{Arrow, Cell, Share, State};
use crate::timeline::{Doing, Window};

/// What processes did, those that ran longest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Did {
    /// Who they are: ids and 1.
    pub(super) tasks: Vec<u32>,
    /// Of so many.
    pub(super) all: usize,
    /// What they did, in that order.
    pub(super) found: ThreadRows,
}

/// A process's lane.
pub(super) struct Thread {
    /// Who: its id and 1.
    pub(super) task: u32,
    pub(super) name: String,
    /// For how long it ran, in nanoseconds.
    pub(super) ran: u64,
    pub(super) cells: Vec<Cell>,
    /// What cells name.
    pub(super) states: Arc<[State]>,
}

impl Did {
    /// A lane for each, the busiest first.
    pub(super) fn lanes(&self, states: &States, window: &Window) -> Vec<Thread> {
        let columns = window.columns.max(1) as usize;
        let lane = |(task, doing): (&u32, &[Doing])| {
            let name = name(states, *task);
            let width = |column| window.edge(column + 1) - window.edge(column);
            Thread {
                task: *task,
                ran: doing.iter().map(|d| d.running).sum(),
                cells: (0..).zip(doing).map(|(i, d)| cell(d, width(i))).collect(),
                states: self.states(&name),
                name,
            }
        };
        let mut all: Vec<Thread> =
            self.tasks.iter().zip(self.found.threads.doing.chunks(columns)).map(lane).collect();
        all.sort_by_key(|t| (u64::MAX - t.ran, t.task));
        all
    }

    /// What a process can be in: running it has its own colour, and the CPU's number.
    fn states(&self, name: &str) -> Arc<[State]> {
        let cpu = |s: &Arc<StreamInfo>| s.cpu.map_or_else(String::new, |n| n.to_string());
        thread_states(name, self.found.streams.iter().map(cpu))
    }

    /// From who woke somebody (or the CPU, where the kernel did or the waker has no lane) to who
    /// was woken, where `thread` knows the lane of a process, and `cpu` that of a stream. Where it
    /// is told where somebody is woken, that counts.
    pub(super) fn arrows(
        &self,
        thread: impl Fn(u32) -> Option<usize>,
        cpu: impl Fn(u32) -> Option<usize>,
    ) -> Vec<Arrow> {
        let woken = self.found.threads.woken.as_deref().unwrap_or_default();
        let arrow = |w: &crate::timeline::Woken| {
            let to = thread(w.task)?;
            let waker = Some(w.waker).filter(|t| *t > NOBODY && *t != w.task);
            let stream = || cpu(self.found.streams.get(w.stream as usize)?.id);
            let from = waker.and_then(&thread).or_else(stream)?;
            Some(Arrow { time: w.time, from, to })
        };
        woken.iter().filter(|w| w.early == self.found.early).filter_map(arrow).collect()
    }
}

/// What a column of so many nanoseconds is drawn as: running lowest, then what waits.
fn cell(doing: &Doing, width: u64) -> Cell {
    let running = u16::try_from(doing.on).map_or(u16::MAX, |on| (RUNNING - 1).saturating_add(on));
    let all = [
        (running, doing.running),
        (WAITING, doing.waiting),
        (BLOCKED, doing.blocked),
        (IDLE, doing.asleep),
    ];
    let mut cell = Cell::default();
    let known = all.into_iter().filter(|(_, time)| *time > 0);
    for (share, (state, time)) in cell.shares.iter_mut().zip(known) {
        *share = Share { state, part: part(time, width) };
    }
    cell
}
