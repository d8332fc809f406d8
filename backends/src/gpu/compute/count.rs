//! Counts of some classes, by looking at all entries in the window's time.

use std::collections::BTreeMap;

use wgpu::BufferUsages;

use super::density::flat;
use super::kernel::{empty, upload_params};
use super::{Compute, ComputeError, Pending, Run};
use crate::timeline::{Filter, NO_CLASS, Rows, Window};

/// Entries of a workgroup.
const BLOCK: u32 = 8192;
/// Words of a task in the shader.
const TASK: usize = 4;

/// Which classes are counted, and in which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The row of each class, [`NO_CLASS`]: none.
    table: Vec<u32>,
    /// That of the classes beyond.
    beyond: u32,
    rows: u32,
}

impl From<&Filter> for Wanted {
    /// All classes of the filter in one row.
    fn from(filter: &Filter) -> Self {
        let row = |wanted| if wanted { 0 } else { NO_CLASS };
        let (known, beyond) = filter.known();
        let table = (0..known).map(|c| row(filter.contains(c))).collect();
        Self { table, beyond: row(beyond), rows: 1 }
    }
}

impl From<&Rows> for Wanted {
    fn from(rows: &Rows) -> Self {
        Self { table: rows.table().to_vec(), beyond: NO_CLASS, rows: rows.len() }
    }
}

impl Compute {
    /// How many entries of the wanted classes each column has. A run's row stands for as many
    /// rows as are wanted: bins come lane after lane (`lanes` of them, by [`Run::row`]), row
    /// after row. What [`count`](crate::timeline::count) and
    /// [`count_rows`](crate::timeline::count_rows) give; runs need not be sorted.
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn count(
        &self,
        buffers: &[wgpu::Buffer],
        runs: &[Run],
        lanes: u32,
        window: &Window,
        wanted: &Wanted,
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        let (pending, _) = self.count_and(buffers, runs, lanes, window, wanted, None)?;
        Ok(pending)
    }

    /// The same, and behind the bins the words of another buffer; how many are bins.
    pub(super) fn count_and(
        &self,
        buffers: &[wgpu::Buffer],
        runs: &[Run],
        lanes: u32,
        window: &Window,
        wanted: &Wanted,
        other: Option<&wgpu::Buffer>,
    ) -> Result<(Pending<Vec<u32>>, usize), ComputeError> {
        let bytes = self.bins(lanes.saturating_mul(wanted.rows), window, 4)?;
        let mut tasks = BTreeMap::<usize, Vec<u32>>::new();
        let inside = |r: &&Run| r.row < lanes && r.end >= window.from && r.begin < window.to;
        if window.columns > 0 && wanted.rows > 0 {
            for run in runs.iter().filter(inside) {
                let bin = run.row * wanted.rows * window.columns;
                for at in (0..run.len).step_by(BLOCK as usize) {
                    let len = BLOCK.min(run.len - at);
                    tasks.entry(run.buffer).or_default().extend([run.first + at, len, bin, 0]);
                }
            }
        }
        let bins = empty(&self.device, "bins", bytes, BufferUsages::STORAGE);
        let mut encoder = self.encoder("count");
        let edges = self.edges(&window.edges());
        let rows = match &wanted.table[..] {
            [] => self.nothing.clone(),
            table => self.upload("rows of classes", table),
        };
        let known = wanted.table.len() as u32;
        let (params, words) = flat(&tasks, TASK, window.columns, known, wanted.beyond);
        let params = upload_params(&self.device, &self.queue, &params);
        let list = self.upload("tasks", &words);
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (place, (buffer, words)) in tasks.iter().enumerate() {
                let used = [&list, &edges, &bins, &buffers[*buffer], &rows];
                let group = self.count.bind(&self.device, &params, &used);
                self.count.dispatch(&mut pass, &group, place, (words.len() / TASK) as u32);
            }
        }
        let mut back = vec![(&bins, bytes)];
        back.extend(other.map(|o| (o, o.size())));
        Ok((self.submit(encoder, &back), bytes as usize / 4))
    }
}
