//! Which states held how long, of many lanes at once.

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params};
use super::{Compute, ComputeError, Pending};
use crate::timeline::{APART, Held, Window};

/// A lane's transitions, sorted by time: `len` of them from `first` on, in a ring of `capacity`
/// that begins at `base`. All count transitions, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Where its ring begins in the buffer.
    pub base: u32,
    /// How many the ring has room for.
    pub capacity: u32,
    /// The oldest, counted from `base`.
    pub first: u32,
    /// How many there are.
    pub len: u32,
}

/// What lanes were in, and the words of other buffers.
type HeldAnd = (Vec<Held>, Vec<u32>);

/// Words of a column in the shader.
const HELD: usize = 3 * APART + 2;
/// Columns of a workgroup where there are few states; workgroups where there are many.
const THREADS: u32 = 64;
const GROUPS: u32 = 256;

impl Compute {
    /// Which states held how long in each column, lane after lane: what
    /// [`states`](crate::timeline::states) gives. All lanes' transitions are in one buffer.
    ///
    /// # Errors
    /// More bins than the device binds at once, or a lane that lies outside the buffer.
    pub fn states(
        &self,
        transitions: &wgpu::Buffer,
        lanes: &[Lane],
        window: &Window,
        until: u64,
    ) -> Result<Pending<Vec<Held>>, ComputeError> {
        let list = self.lanes(transitions, lanes)?;
        let lanes = (&list, lanes.len() as u32);
        self.states_in(transitions, lanes, (window, until), &[]).map(|p| p.map(|(held, _)| held))
    }

    /// So many lanes of so many columns have bins that the device binds at once.
    pub(super) fn most_lanes(&self, columns: u32) -> u32 {
        let each = HELD as u64 * 4 * u64::from(columns.max(1));
        u32::try_from(self.binding_size() / each).unwrap_or(u32::MAX)
    }

    /// Lanes as a shader reads them, if all lie in the buffer.
    pub(super) fn lanes(
        &self,
        transitions: &wgpu::Buffer,
        lanes: &[Lane],
    ) -> Result<wgpu::Buffer, ComputeError> {
        let all = transitions.size() / 16;
        let fits = |l: &Lane| {
            u64::from(l.base) + u64::from(l.capacity) <= all
                && l.len <= l.capacity
                && l.first.checked_add(l.len).is_some()
        };
        if let Some(lane) = lanes.iter().find(|l| !fits(l)) {
            return Err(ComputeError(format!(
                "a lane of {} transitions at {} lies outside its buffer of {all}",
                lane.capacity, lane.base
            )));
        }
        // A ring without room is one of one: there is no remainder by 0.
        let words: Vec<u32> =
            lanes.iter().flat_map(|l| [l.base, l.capacity.max(1), l.first, l.len, 0]).collect();
        Ok(self.upload("lanes", &words))
    }

    /// The same of lanes that a shader has made, and other buffers beside it, one behind the other.
    pub(super) fn states_in(
        &self,
        transitions: &wgpu::Buffer,
        (list, lanes): (&wgpu::Buffer, u32),
        (window, until): (&Window, u64),
        others: &[&wgpu::Buffer],
    ) -> Result<Pending<HeldAnd>, ComputeError> {
        let bytes = self.bins(lanes, window, HELD as u64 * 4)?;
        let bins = empty(&self.device, "bins", bytes, BufferUsages::STORAGE);
        let edges = self.edges(&window.edges());
        let count = lanes * window.columns;
        let many = empty(&self.device, "many", (u64::from(count) + 1) * 4, BufferUsages::STORAGE);
        let (a, b) = (until as u32, (until >> 32) as u32);
        let params = Params { count, columns: window.columns, a, b, ..Params::default() };
        let params = upload_params(&self.device, &self.queue, &[params]);
        let mut encoder = self.encoder("states");
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let used = [list, &edges, &bins, transitions, &many];
            let group = self.few.bind(&self.device, &params, &used);
            self.few.dispatch(&mut pass, &group, 0, count.div_ceil(THREADS));
            let group = self.states.bind(&self.device, &params, &used);
            self.states.dispatch(&mut pass, &group, 0, count.min(GROUPS));
        }
        let mut wanted = vec![(&bins, bytes)];
        wanted.extend(others.iter().map(|o| (*o, o.size())));
        let words = count as usize * HELD;
        Ok(self.submit(encoder, &wanted).map(move |mut all| {
            let other = all.split_off(words.min(all.len()));
            (all.chunks_exact(HELD).map(held).collect(), other)
        }))
    }
}

fn held(words: &[u32]) -> Held {
    let long = |i: usize| u64::from(words[i + 1]) << 32 | u64::from(words[i]);
    let one = |k: usize| (words[3 * k], long(3 * k + 1));
    Held { longest: std::array::from_fn(one), others: long(3 * APART) }
}
