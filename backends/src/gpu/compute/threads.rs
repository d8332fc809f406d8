//! What processes did in each column, of what all CPUs' streams tell.

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params};
use super::states::Lane;
use super::{Compute, ComputeError, Pending};
use crate::timeline::{Doing, Kind, MOST_WOKEN, Threads, Window, Woken};

/// Words of a column of a process in the shaders, and of what is read back; of a wake-up.
const MARK: u64 = 18;
const DOING: usize = 9;
const WOKEN: usize = 6;
/// Columns of a workgroup, and processes of one.
const THREADS: u32 = 32;
const PROCESSES: u32 = 8;
/// No more columns before the window are looked at.
const BEFORE: u32 = 1024;

impl Compute {
    /// What processes did: what [`threads`](crate::timeline::threads) gives of these lanes. All
    /// lanes' transitions are in one buffer.
    ///
    /// # Errors
    /// More columns and processes than the device binds at once, or a lane that lies outside the
    /// buffer.
    pub fn threads(
        &self,
        transitions: &wgpu::Buffer,
        lanes: &[Lane],
        window: &Window,
        times: (u64, u64),
        tasks: &[u32],
    ) -> Result<Pending<Threads>, ComputeError> {
        let list = self.lanes(transitions, lanes)?;
        self.threads_in(transitions, (&list, lanes.len() as u32), window, times, tasks)
    }

    /// The same of lanes that a shader has made.
    pub(super) fn threads_in(
        &self,
        transitions: &wgpu::Buffer,
        (list, lanes): (&wgpu::Buffer, u32),
        window: &Window,
        (since, until): (u64, u64),
        tasks: &[u32],
    ) -> Result<Pending<Threads>, ComputeError> {
        let many = tasks.len() as u32;
        // How many there are changes nothing: as many as have room.
        let each = (16 * u64::from(lanes)).max(MARK * 4 * u64::from(many)).max(1);
        let room = (self.binding_size() / each).saturating_sub(window.columns.into());
        let most = u32::try_from(room).unwrap_or(BEFORE).clamp(1, BEFORE);
        let before = Window {
            from: since.min(window.from),
            to: window.from,
            columns: window.columns.min(if since < window.from { most } else { 0 }),
        };
        let columns = before.columns + window.columns;
        let all = Window { columns, ..*window };
        let bytes = self.bins(many, window, DOING as u64 * 4)?;
        let marks = self.bins(many, &all, MARK * 4)?;
        let heads = self.bins(lanes, &all, 16)?;
        let storage = BufferUsages::STORAGE;
        let bins = empty(&self.device, "what processes did", bytes, storage);
        let marks = empty(&self.device, "marks", marks, storage);
        let heads = empty(&self.device, "heads", heads, storage);
        let woken_bytes = (1 + MOST_WOKEN * WOKEN) as u64 * 4;
        let woken = empty(&self.device, "woken", woken_bytes, storage);
        let mut edges = before.edges();
        edges.pop();
        edges.extend(window.edges());
        let edges = self.edges(&edges);
        let table = table(tasks);
        let places = (table.len() / 2) as u32;
        let table = self.upload("processes", &table);
        let (low, high) = (until as u32, (until >> 32) as u32);
        let mut gather =
            Params { count: columns, a: lanes, b: before.columns, c: places, ..Params::default() };
        (gather.d, gather.more[0]) = (MOST_WOKEN as u32, [low, high, 0, 0]);
        let carry = Params {
            count: many,
            columns,
            a: low,
            b: high,
            c: before.columns,
            ..Params::default()
        };
        let params = upload_params(&self.device, &self.queue, &[gather, carry]);
        let mut encoder = self.encoder("threads");
        if bytes > 0 {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let used = [list, &edges, transitions, &table, &heads, &marks, &woken];
            let group = self.gather.bind(&self.device, &params, &used);
            self.gather.dispatch(&mut pass, &group, 0, columns.div_ceil(THREADS));
            let group = self.carry.bind(&self.device, &params, &[&edges, &marks, &bins]);
            self.carry.dispatch(&mut pass, &group, 1, many.div_ceil(PROCESSES));
        }
        let words = bytes as usize / 4;
        let wanted = [(&bins, bytes), (&woken, woken_bytes)];
        Ok(self.submit(encoder, &wanted).map(move |all| {
            let (bins, told) = all.split_at(words.min(all.len()));
            Threads { doing: bins.chunks_exact(DOING).map(doing).collect(), woken: woken_of(told) }
        }))
    }
}

/// Processes by their hash, as the shader looks for them.
fn table(tasks: &[u32]) -> Vec<u32> {
    let places = (2 * tasks.len()).next_power_of_two();
    let mut table = vec![0; 2 * places];
    for (number, task) in (0..).zip(tasks) {
        let mut at = (task.wrapping_mul(0x9e37_79b1) >> 16) as usize % places;
        while table[2 * at] != 0 {
            at = (at + 1) % places;
        }
        (table[2 * at], table[2 * at + 1]) = (*task, number);
    }
    table
}

fn doing(words: &[u32]) -> Doing {
    let long = |i: usize| u64::from(words[i + 1]) << 32 | u64::from(words[i]);
    let (running, waiting, blocked, asleep) = (long(0), long(2), long(4), long(6));
    Doing { running, waiting, blocked, asleep, on: words[8] }
}

/// In their order: invocations told them in any.
fn woken_of(words: &[u32]) -> Option<Vec<Woken>> {
    let (count, list) = words.split_first()?;
    let count = usize::try_from(*count).ok().filter(|n| *n <= MOST_WOKEN)?;
    let one = |w: &[u32]| Woken {
        time: u64::from(w[1]) << 32 | u64::from(w[0]),
        stream: w[2],
        waker: w[3],
        task: w[4],
        early: w[5] == Kind::Waking as u32,
    };
    let mut all: Vec<Woken> = list.chunks_exact(WOKEN).take(count).map(one).collect();
    all.sort_unstable();
    Some(all)
}
