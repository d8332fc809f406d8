//! Least, greatest and mean values of a field.

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params, words_bytes};
use super::{Compute, ComputeError, Pending, Run};
use crate::timeline::{Aggregate, Window};

/// Words of a column in the shader.
const FOUND: usize = 8;

impl Compute {
    /// What the values of a field have in common in each column, row after row: what
    /// [`aggregate`](crate::timeline::aggregate) gives for each run, taken together. A run's
    /// values are sorted by time; each has 16 bytes, as an entry has.
    ///
    /// # Errors
    /// More columns than the device binds at once.
    pub fn aggregate(
        &self,
        buffers: &[wgpu::Buffer],
        runs: &[Run],
        rows: u32,
        window: &Window,
    ) -> Result<Pending<Vec<Aggregate>>, ComputeError> {
        let bytes = self.bins(rows, window, FOUND as u64 * 4)?;
        let inside = |r: &&Run| r.row < rows && r.end >= window.from && r.begin < window.to;
        let runs: Vec<&Run> = runs.iter().filter(inside).collect();
        let bins = empty(&self.device, "bins", bytes, BufferUsages::STORAGE);
        let none = [u32::MAX, 0x7fff_ffff, 0, 0x8000_0000, 0, 0, 0, 0];
        self.queue.write_buffer(&bins, 0, &words_bytes(&none).repeat(bytes as usize / 32));
        let edges = self.edges(&window.edges());
        let words: Vec<u32> =
            runs.iter().flat_map(|r| [r.first, r.len, r.row * window.columns, 0]).collect();
        let list = self.upload("runs", &words);
        let count = window.columns;
        let params: Vec<Params> = (0..runs.len() as u32)
            .map(|first| Params { first, count, columns: count, ..Params::default() })
            .collect();
        let params = upload_params(&self.device, &self.queue, &params);
        let mut encoder = self.encoder("aggregate");
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (place, run) in runs.iter().enumerate() {
                let used = [&list, &edges, &bins, &buffers[run.buffer]];
                let group = self.aggregate.bind(&self.device, &params, &used);
                self.aggregate.dispatch(&mut pass, &group, place, count);
            }
        }
        Ok(self
            .submit(encoder, &[(&bins, bytes)])
            .map(|words| words.chunks_exact(FOUND).map(found).collect()))
    }
}

fn found(w: &[u32]) -> Aggregate {
    let long = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) as i64;
    // 96 bits: the highest word has the sign.
    let sum = i128::from(w[6] as i32) << 64 | i128::from(w[5]) << 32 | i128::from(w[4]);
    Aggregate { min: long(w[0], w[1]), max: long(w[2], w[3]), sum, count: w[7] }
}
