//! Density by search: the host knows from which edges on a run's entries are searched.

use std::collections::BTreeMap;

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params};
use super::{Compute, ComputeError, Pending};
use crate::timeline::Window;

/// Entries of one stream that lie one behind the other in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which of the buffers.
    pub buffer: usize,
    /// The first of them in it.
    pub first: u32,
    /// How many they are.
    pub len: u32,
    /// None is earlier.
    pub begin: u64,
    /// None is later.
    pub end: u64,
    /// The row of columns that they count in.
    pub row: u32,
}

/// Edges of one task: as many as a workgroup has invocations.
const EDGES: usize = 64;
/// Words of a task in the shader.
const TASK: usize = 8;

/// A buffer's tasks, as words.
type Tasks = BTreeMap<usize, Vec<u32>>;

impl Compute {
    /// How many entries each column has, row after row: what
    /// [`density`](crate::timeline::density) gives for each run, added up. Each run is sorted
    /// by time; the runs of a row may be in any order.
    ///
    /// # Errors
    /// More bins than the device binds at once.
    pub fn density(
        &self,
        buffers: &[wgpu::Buffer],
        runs: &[Run],
        rows: u32,
        window: &Window,
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        let (pending, _) = self.density_and(buffers, runs, rows, window, None)?;
        Ok(pending)
    }

    /// The same, and behind the bins the words of another buffer; how many are bins.
    pub(super) fn density_and(
        &self,
        buffers: &[wgpu::Buffer],
        runs: &[Run],
        rows: u32,
        window: &Window,
        other: Option<&wgpu::Buffer>,
    ) -> Result<(Pending<Vec<u32>>, usize), ComputeError> {
        let columns = window.columns as usize;
        let bytes = self.bins(rows, window, 4)?;
        let edges = window.edges();
        let mut tasks = Tasks::new();
        // Runs count whole in the column in which they end: that the edges in them take from
        // it what lies before is the shader's part.
        let mut whole: Vec<(usize, u32)> = Vec::new();
        if columns > 0 {
            for run in runs.iter().filter(|r| r.len > 0 && r.row < rows) {
                let from = edges.partition_point(|e| *e <= run.begin);
                let to = edges.partition_point(|e| *e <= run.end);
                let bin = run.row as usize * columns;
                if (1..=columns).contains(&to) {
                    whole.push((bin + to - 1, run.len));
                }
                for edge in (from..to).step_by(EDGES) {
                    let n = EDGES.min(to - edge);
                    let task = [run.first, run.len, edge as u32, n as u32, bin as u32, 0, 0, 0];
                    tasks.entry(run.buffer).or_default().extend(task);
                }
            }
        }
        let bins = empty(&self.device, "bins", bytes, BufferUsages::STORAGE);
        let mut encoder = self.encoder("density");
        let edges = self.edges(&edges);
        let (params, words) = flat(&tasks, TASK, window.columns, 0, 0);
        let params = upload_params(&self.device, &self.queue, &params);
        let list = self.upload("tasks", &words);
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (place, (buffer, words)) in tasks.iter().enumerate() {
                let used = [&list, &edges, &bins, &buffers[*buffer]];
                let group = self.density.bind(&self.device, &params, &used);
                self.density.dispatch(&mut pass, &group, place, (words.len() / TASK) as u32);
            }
        }
        let mut wanted = vec![(&bins, bytes)];
        wanted.extend(other.map(|o| (o, o.size())));
        let pending = self.submit(encoder, &wanted).map(move |mut bins| {
            for (bin, len) in whole {
                bins[bin] = bins[bin].wrapping_add(len);
            }
            bins
        });
        Ok((pending, bytes as usize / 4))
    }

    /// Bytes of so many rows of bins, each of so many bytes.
    pub(super) fn bins(&self, rows: u32, window: &Window, bin: u64) -> Result<u64, ComputeError> {
        let bins = u64::from(rows) * u64::from(window.columns);
        let bytes = bins.saturating_mul(bin);
        let most = self.binding_size();
        if bytes > most {
            return Err(ComputeError(format!(
                "{rows} rows of {} columns are {bins} bins of {bin} bytes, and this GPU's shaders see \
                 {most} bytes: ask for fewer rows or columns",
                window.columns
            )));
        }
        Ok(bytes)
    }
}

/// All tasks one behind the other, and the parameters of each buffer's dispatch.
pub(super) fn flat(
    tasks: &Tasks,
    task: usize,
    columns: u32,
    a: u32,
    b: u32,
) -> (Vec<Params>, Vec<u32>) {
    let (mut params, mut all) = (Vec::new(), Vec::new());
    for words in tasks.values() {
        let (first, count) = ((all.len() / task) as u32, (words.len() / task) as u32);
        params.push(Params { first, count, columns, a, b, ..Params::default() });
        all.extend(words);
    }
    (params, all)
}
