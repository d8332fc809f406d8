//! Rings of what is taken out of records: one for each stream, all in one buffer. Who has more to
//! keep than the others gets more of it.
//!
//! How full its ring is only the device knows. Frames read it back ([`Rings::told`]), and the next
//! arrival gives streams other shares, if one whose ring is more than half full would get much
//! more ([`Rings::share`]); what is newest of each moves with it.

use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{BufferUsages, CommandEncoder, ErrorFilter};

use super::kernel::{Params, empty, upload_params};
use super::{Compute, ComputeError};

/// Words of a stream's ring in `lanes`: where it begins, its room, the oldest, how many there are,
/// and whether older ones have been overwritten.
pub(super) const LANE: usize = 5;
/// Nobody's share is smaller, if there is so much.
const LEAST: u32 = 1024;

/// See the module.
pub(super) struct Rings {
    /// Streams that have one: the first ones.
    pub streams: u32,
    pub lanes: wgpu::Buffer,
    pub rings: wgpu::Buffer,
    /// Their rooms, and all of it.
    rooms: Vec<u32>,
    room: u32,
    /// The words of `lanes`, as the last frame saw them.
    seen: Arc<Mutex<Option<Vec<u32>>>>,
}

impl Rings {
    /// For so many streams, at first with room for `capacity` of each.
    ///
    /// # Errors
    /// More than the device binds at once.
    pub fn new(compute: &Compute, streams: u32, capacity: u32) -> Result<Self, ComputeError> {
        let (streams, capacity) = (streams.max(1), capacity.max(1));
        let room = u64::from(streams) * u64::from(capacity);
        let bytes = room.saturating_mul(16);
        let room = u32::try_from(room).ok().filter(|_| bytes <= compute.binding_size());
        let room = room.ok_or_else(|| {
            ComputeError(format!(
                "{capacity} values of {streams} streams are {bytes} bytes, and this GPU's \
                 shaders see {}: keep fewer",
                compute.binding_size()
            ))
        })?;
        let device = &compute.device;
        let rooms = vec![capacity; streams as usize];
        let list = compute.upload("lanes", &lanes(&rooms));
        let rings = empty(device, "what was picked", bytes, BufferUsages::STORAGE);
        Ok(Self { streams, lanes: list, rings, rooms, room, seen: Arc::default() })
    }

    /// What a frame calls with the words of `lanes` when it has them.
    pub fn told(&self) -> impl FnOnce(Vec<u32>) + Send + 'static {
        let seen = Arc::clone(&self.seen);
        move |lanes| *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(lanes)
    }

    /// Encodes that streams get other shares, if the last frame saw that one needs more.
    pub fn share(&mut self, compute: &Compute, encoder: &mut CommandEncoder) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(wanted) = seen.and_then(|lanes| better(&lanes, &self.rooms, self.room)) else {
            return;
        };
        // A device that has no room for both goes on with what it has.
        let device = &compute.device;
        let scope = device.push_error_scope(ErrorFilter::OutOfMemory);
        let bytes = u64::from(self.room) * 16;
        let rings = empty(device, "what was picked", bytes, BufferUsages::STORAGE);
        if pollster::block_on(scope.pop()).is_some() {
            return;
        }
        let to = compute.upload("lanes", &lanes(&wanted));
        let params = Params { count: self.streams, ..Params::default() };
        let params = upload_params(device, &compute.queue, &[params]);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let used = [&self.lanes, &self.rings, &to, &rings];
        let group = compute.share.bind(device, &params, &used);
        compute.share.dispatch(&mut pass, &group, 0, self.streams);
        (self.lanes, self.rings, self.rooms) = (to, rings, wanted);
    }
}

/// Empty rings with these rooms, one behind the other.
fn lanes(rooms: &[u32]) -> Vec<u32> {
    let mut base = 0;
    let mut lane = |room: &u32| {
        base += room;
        [base - room, *room, 0, 0, 0]
    };
    rooms.iter().flat_map(&mut lane).collect()
}

/// Other shares, if a stream whose ring is more than half full gets half as much again by them:
/// those that need less than an equal share of what is left get that, twice what they have; the
/// others equal shares. (Half: where little happened for long, the first few that are overwritten
/// are all that is known of that time.)
fn better(lanes: &[u32], rooms: &[u32], all: u32) -> Option<Vec<u32>> {
    let rings: Vec<&[u32]> = lanes.chunks_exact(LANE).collect();
    // A frame that was asked for before shares were given says nothing of them.
    if !rings.iter().map(|ring| ring[1]).eq(rooms.iter().copied()) {
        return None;
    }
    let least = LEAST.min(all / rooms.len().max(1) as u32).max(1);
    let is_tight = |place: usize| rings[place][3] > rings[place][1] / 2;
    let need = |place: usize| match is_tight(place) {
        true => u32::MAX,
        false => rings[place][3].saturating_mul(2).max(least),
    };
    let mut order: Vec<usize> = (0..rooms.len()).collect();
    order.sort_by_key(|place| need(*place));
    let (mut wanted, mut left) = (vec![0; rooms.len()], all);
    for (given, place) in order.iter().enumerate() {
        let share = left / (rooms.len() - given) as u32;
        wanted[*place] = need(*place).min(share).max(1);
        left -= wanted[*place];
    }
    let grows = |place: usize| {
        u64::from(wanted[place]) * 2 >= u64::from(rooms[place]) * 3 && is_tight(place)
    };
    (0..rooms.len()).any(grows).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(room: u32, len: u32) -> [u32; LANE] {
        [0, room, 0, len, 0]
    }

    #[test]
    fn who_has_much_gets_what_others_do_not_need() {
        let (rooms, all) = ([10_000; 4], 40_000);
        let half = lane(10_000, 5000);
        assert_eq!(better(&half.repeat(4), &rooms, all), None, "nobody needs more");
        let lanes = [lane(10_000, 5001), lane(10_000, 0), lane(10_000, 2000), lane(10_000, 10_000)];
        let shares = better(&lanes.concat(), &rooms, all).unwrap();
        assert_eq!(shares, [17_488, LEAST, 4000, 17_488]);
        assert_eq!(better(&lanes.concat(), &shares, all), None, "that was seen before");
        let same = [lane(17_488, 17_488), lane(LEAST, 0), lane(4000, 1900), lane(17_488, 12_000)];
        assert_eq!(better(&same.concat(), &shares, all), None, "they have it");
        assert_eq!(better(&lane(10_000, 10_000).repeat(4), &rooms, all), None, "as have all");
        // One that had little needs more: the others give it.
        let lanes: Vec<u32> = shares.iter().flat_map(|room| lane(*room, *room)).collect();
        assert_eq!(better(&lanes, &shares, all), Some(vec![10_000; 4]));
        // Less than the least.
        let tiny = [lane(8, 8), lane(8, 0)].concat();
        assert_eq!(better(&tiny, &[8, 8], 16), None);
    }

    #[test]
    fn rings_lie_one_behind_the_other() {
        assert_eq!(lanes(&[3, 5]), [0, 3, 0, 0, 0, 3, 5, 0, 0, 0]);
    }
}
