//! Least, greatest and mean values of a field.

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params, words_bytes};
use super::{Compute, ComputeError, Pending, Run};
use crate::timeline::{Aggregate, Window};

/// What columns have in common, and the words of another buffer.
pub(super) type AllAnd = (Vec<Option<Aggregate>>, Vec<u32>);

/// Words of a column in the shader.
const FOUND: usize = 8;
/// Columns of a workgroup.
const THREADS: u32 = 64;

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
        let inside = |r: &&Run| r.row < rows && r.end >= window.from && r.begin < window.to;
        let runs: Vec<&Run> = runs.iter().filter(inside).collect();
        let words: Vec<u32> =
            runs.iter().flat_map(|r| [r.first, r.len.max(1), 0, r.len, 0]).collect();
        let list = self.upload("runs", &words);
        let tasks = runs.iter().map(|r| (&buffers[r.buffer], r.row * window.columns)).collect();
        let pending = self.aggregate_in(&list, tasks, (rows, window), None)?;
        // What is not known whole is none of these.
        Ok(pending.map(|(all, _)| all.into_iter().map(|a| a.unwrap_or(Aggregate::NONE)).collect()))
    }

    /// The same of all these rings together, which a shader has filled, and the words of another
    /// buffer. `None`: what a ring had in the column has been overwritten.
    pub(super) fn aggregate_rings(
        &self,
        values: &wgpu::Buffer,
        (list, rings): (&wgpu::Buffer, u32),
        window: &Window,
        other: &wgpu::Buffer,
    ) -> Result<Pending<AllAnd>, ComputeError> {
        self.aggregate_in(list, vec![(values, 0); rings as usize], (1, window), Some(other))
    }

    fn aggregate_in(
        &self,
        list: &wgpu::Buffer,
        tasks: Vec<(&wgpu::Buffer, u32)>,
        (rows, window): (u32, &Window),
        other: Option<&wgpu::Buffer>,
    ) -> Result<Pending<AllAnd>, ComputeError> {
        let bytes = self.bins(rows, window, FOUND as u64 * 4)?;
        let bins = empty(&self.device, "bins", bytes, BufferUsages::STORAGE);
        let none = [u32::MAX, 0x7fff_ffff, 0, 0x8000_0000, 0, 0, 0, 0];
        self.queue.write_buffer(&bins, 0, &words_bytes(&none).repeat(bytes as usize / 32));
        let edges = self.edges(&window.edges());
        let count = window.columns;
        let params: Vec<Params> = (0..)
            .zip(&tasks)
            .map(|(first, (_, a))| Params { first, count, a: *a, ..Params::default() })
            .collect();
        let params = upload_params(&self.device, &self.queue, &params);
        let mut encoder = self.encoder("aggregate");
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (place, (values, _)) in tasks.iter().enumerate() {
                let used = [list, &edges, &bins, *values];
                let group = self.aggregate.bind(&self.device, &params, &used);
                self.aggregate.dispatch(&mut pass, &group, place, count.div_ceil(THREADS));
            }
        }
        let mut wanted = vec![(&bins, bytes)];
        wanted.extend(other.map(|o| (o, o.size())));
        let words = bytes as usize / 4;
        Ok(self.submit(encoder, &wanted).map(move |mut all| {
            let other = all.split_off(words.min(all.len()));
            (all.chunks_exact(FOUND).map(found).collect(), other)
        }))
    }
}

fn found(w: &[u32]) -> Option<Aggregate> {
    let long = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) as i64;
    // 96 bits: the highest word has the sign.
    let sum = i128::from(w[6] as i32) << 64 | i128::from(w[5]) << 32 | i128::from(w[4]);
    let all = Aggregate { min: long(w[0], w[1]), max: long(w[2], w[3]), sum, count: w[7] };
    (w[7] != u32::MAX).then_some(all)
}
