//! The state that held longest, of many lanes at once.

use wgpu::BufferUsages;

use super::kernel::{Params, empty, upload_params};
use super::{Compute, ComputeError, Pending};
use crate::timeline::Window;

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

/// States that one dispatch has counters for.
const SLOTS: u32 = 1024;

impl Compute {
    /// The state that held longest in each column, lane after lane: what
    /// [`states`](crate::timeline::states) gives. All lanes' transitions are in one buffer.
    /// States from `states` on are not seen: they are to be small numbers, for every 1024 of
    /// them take another dispatch.
    ///
    /// # Errors
    /// More bins than the device binds at once, or a lane that lies outside the buffer.
    pub fn states(
        &self,
        transitions: &wgpu::Buffer,
        lanes: &[Lane],
        states: u32,
        window: &Window,
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        // Beside each bin lies how long its state held.
        let twice = self.bins(lanes.len() as u32, window, 8)?;
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
            lanes.iter().flat_map(|l| [l.base, l.capacity.max(1), l.first, l.len]).collect();
        let list = self.upload("lanes", &words);
        self.states_in(transitions, (&list, lanes.len() as u32, twice), states, window, None)
    }

    /// The same of lanes that a shader has made.
    pub(super) fn states_in(
        &self,
        transitions: &wgpu::Buffer,
        (list, lanes, twice): (&wgpu::Buffer, u32, u64),
        states: u32,
        window: &Window,
        other: Option<&wgpu::Buffer>,
    ) -> Result<Pending<Vec<u32>>, ComputeError> {
        let bins = empty(&self.device, "bins", twice / 2, BufferUsages::STORAGE);
        let longest = empty(&self.device, "how long", twice, BufferUsages::STORAGE);
        let edges = self.edges(&window.edges());
        let count = lanes * window.columns;
        let params: Vec<Params> = (0..states.max(1))
            .step_by(SLOTS as usize)
            .map(|a| Params { first: 0, count, columns: window.columns, a, b: 0 })
            .collect();
        let buffer = upload_params(&self.device, &self.queue, &params);
        let mut encoder = self.encoder("states");
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let used = [list, &edges, &bins, transitions, &longest];
            let group = self.states.bind(&self.device, &buffer, &used);
            for place in 0..params.len() {
                self.states.dispatch(&mut pass, &group, place, count);
            }
        }
        let mut wanted = vec![(&bins, twice / 2)];
        wanted.extend(other.map(|o| (o, o.size())));
        Ok(self.submit(encoder, &wanted))
    }
}
