//! The thread that owns a device's work: it gathers packets, hands them over together, and gives
//! their memories back when the GPU has what was in them.
//!
//! Up to [`MOST`] packets are handed over at once, or what came within [`PATIENCE`]: a submission
//! and its end cost ten times what a packet in it does. The next are gathered while the GPU works.
//! A panic of the driver's ends here: the device is lost then, the thread is not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rbpipe_core::memory::Memory;
use rbpipe_core::stream::Nested;
use wgpu::{CommandEncoder, MapMode, PollType, SubmissionIndex};

use super::config::Way;
use super::device::{Gpu, one_at_a_time};
use super::lane::{Lane, Parcel, direct};
use super::memory::GpuMemory;
use super::store::{Kept, PacketEntry, Place, Room};

/// Packets that are handed over at once, at most.
const MOST: usize = 64;
/// With as many packets a submission costs little more for each than with more.
const WORTH: usize = 16;
/// How long a packet waits for others.
const PATIENCE: Duration = Duration::from_millis(1);
/// A GPU that does not answer for so long is lost.
const HUNG: Duration = Duration::from_secs(10);

/// Where channels leave packets for the thread.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<Parcel>,
    /// So many wait for all to be handed over.
    hurries: usize,
    /// A stream has so many waiting here that more would bring nothing.
    enough: bool,
    stop: bool,
}

/// While it lives nothing is waited for.
pub(super) struct Hurry<'a>(&'a Inbox);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.lock().hurries -= 1;
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, parcel: Parcel) {
        let mut state = self.lock();
        let enough = enough(parcel.lane.reader_subbufs);
        let (lane, stream) = (Arc::as_ptr(&parcel.lane), parcel.stream());
        state.parcels.push_back(parcel);
        let is_its = |p: &&Parcel| Arc::as_ptr(&p.lane) == lane && p.stream() == stream;
        state.enough |= state.parcels.iter().filter(is_its).count() >= enough;
        // The first one begins a batch, which somebody must look at in time.
        let wake = state.parcels.len() == 1 || state.parcels.len() == MOST || state.enough;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    pub(super) fn hurry(&self) -> Hurry<'_> {
        self.lock().hurries += 1;
        self.work.notify_one();
        Hurry(self)
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_one();
    }
}

/// Packets that the GPU has.
struct Batch {
    parcels: Vec<Parcel>,
    index: SubmissionIndex,
    since: Instant,
    answer: Arc<Answer>,
}

/// What callbacks said of a batch.
#[derive(Default)]
struct Answer {
    done: AtomicBool,
    failed: AtomicBool,
}

/// What the thread has.
pub(super) struct Owner {
    gpu: Arc<Gpu>,
    inbox: Arc<Inbox>,
    travelling: VecDeque<Batch>,
    lanes: Vec<Weak<Lane>>,
}

/// What there is to do.
enum Next {
    Submit(Vec<Parcel>),
    /// Look after what travels, so long at most.
    Poll(Duration),
    Stop,
}

impl Owner {
    pub(super) fn new(gpu: Arc<Gpu>, inbox: Arc<Inbox>) -> Self {
        Self { gpu, inbox, travelling: VecDeque::new(), lanes: Vec::new() }
    }

    pub(super) fn run(mut self) {
        // What drops a packet here is not to trace.
        let _nested = Nested::enter();
        let gpu = Arc::clone(&self.gpu);
        loop {
            match self.next() {
                Next::Stop => break,
                Next::Submit(parcels) => {
                    let began = thread_time();
                    let lanes = lanes_of(&parcels);
                    gpu.guard(|| self.submit(parcels, &lanes));
                    count(&lanes, began);
                    lanes.iter().for_each(|lane| lane.prepare());
                    gpu.guard(|| self.poll(Duration::ZERO));
                }
                Next::Poll(time) => _ = gpu.guard(|| self.poll(time)),
            }
            if gpu.is_lost() {
                self.fall();
            }
        }
        // Nobody waits for what is left; it fails.
        self.fall();
    }

    /// Waits for what there is to do.
    fn next(&mut self) -> Next {
        let inbox = Arc::clone(&self.inbox);
        let mut state = inbox.lock();
        loop {
            let idle = self.travelling.is_empty();
            let Some(first) = state.parcels.front() else {
                if !idle {
                    return Next::Poll(PATIENCE);
                }
                if state.stop {
                    return Next::Stop;
                }
                state = inbox.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = PATIENCE.saturating_sub(first.since.elapsed());
            let hurry = state.hurries > 0 || state.stop || (state.enough && idle);
            if hurry || left.is_zero() || state.parcels.len() >= MOST || self.gpu.is_lost() {
                return Next::Submit(take(&mut state));
            }
            if !idle {
                return Next::Poll(left);
            }
            let woken = inbox.work.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands packets over.
    fn submit(&mut self, mut parcels: Vec<Parcel>, lanes: &[Arc<Lane>]) {
        for lane in lanes {
            if !self.lanes.iter().any(|known| known.as_ptr() == Arc::as_ptr(lane)) {
                self.lanes.push(Arc::downgrade(lane));
            }
        }
        if self.gpu.is_lost() {
            parcels.into_iter().for_each(Parcel::keep);
            return;
        }
        let mut work = Work {
            gpu: &self.gpu,
            encoder: self.gpu.device.create_command_encoder(&Default::default()),
            answer: Arc::default(),
            is_empty: true,
        };
        let mut freed = Vec::new();
        // Until all is submitted nobody looks at what is not there yet.
        let mut tables: Vec<Kept<'_>> = lanes.iter().map(|l| l.store.lock()).collect();
        for (lane, table) in lanes.iter().zip(&mut tables) {
            let mine = parcels.iter_mut().filter(|p| Arc::ptr_eq(&p.lane, lane));
            let Some(entries) = work.place(lane, table, mine) else {
                // Its store has no memory at all. They fail.
                self.gpu.lose("it has no memory for a store");
                return;
            };
            if let Some(arrival) = &mut table.arrival {
                arrival.in_gpu(&self.gpu, &mut work.encoder, &entries);
                work.is_empty = false;
            }
            if lane.way == Way::Direct {
                freed.extend(table.trim(lane.store.keep).into_iter().map(|b| (b, lane)));
            }
        }
        let Work { encoder, answer, is_empty, .. } = work;
        let index = (!is_empty).then(|| {
            let told = Arc::clone(&answer);
            encoder.on_submitted_work_done(move || told.done.store(true, Ordering::Release));
            let commands = [encoder.finish()];
            let _turn = one_at_a_time();
            self.gpu.queue.submit(commands)
        });
        drop(tables);
        for (buffer, lane) in freed {
            recycle(&buffer, lane);
        }
        // They are in the store already.
        let is_there = |p: &mut Parcel| p.lane.way == Way::Direct && !p.is_ordinary();
        parcels.extract_if(.., is_there).for_each(Parcel::written);
        if let Some(index) = index {
            let since = Instant::now();
            self.travelling.push_back(Batch { parcels, index, since, answer });
        }
    }

    /// Looks after what travels: waits for the oldest, at most so long.
    fn poll(&mut self, timeout: Duration) {
        let oldest = self.travelling.front();
        let how = match oldest.filter(|_| !timeout.is_zero()) {
            Some(batch) => PollType::Wait {
                submission_index: Some(batch.index.clone()),
                timeout: Some(timeout),
            },
            None => PollType::Poll,
        };
        // That the time is over is no error.
        {
            let _turn = one_at_a_time();
            let _ = self.gpu.device.poll(how);
        }
        while let Some(batch) = self.travelling.front() {
            if batch.answer.failed.load(Ordering::Acquire) {
                self.gpu.lose("a sub-buffer does not come back from it");
            }
            if batch.since.elapsed() > HUNG {
                self.gpu.lose("it does not answer");
            }
            if self.gpu.is_lost() || !batch.answer.done.load(Ordering::Acquire) {
                return;
            }
            let Some(batch) = self.travelling.pop_front() else { return };
            let began = thread_time();
            let lanes = lanes_of(&batch.parcels);
            let mut parcels = batch.parcels;
            parcels.retain_mut(|parcel| {
                let back = parcel.packet().and_then(|p| p.memory_mut()).map(GpuMemory::came_back);
                match back {
                    Some(Ok(())) => true,
                    // Dropped, it fails.
                    Some(Err(why)) => {
                        self.gpu.lose(&why);
                        false
                    }
                    None => false,
                }
            });
            count(&lanes, began);
            parcels.into_iter().for_each(Parcel::written);
        }
    }

    /// There is no device any more: what travels fails; what waits does, too, unless it is in
    /// ordinary memory.
    fn fall(&mut self) {
        for lane in self.lanes.iter().filter_map(Weak::upgrade) {
            lane.look();
        }
        self.travelling.clear();
        let waiting = std::mem::take(&mut self.inbox.lock().parcels);
        waiting.into_iter().for_each(Parcel::keep);
    }
}

/// So many packets of a stream, of the memories that may be on their way at once, are not kept
/// waiting for others: all of them, since nothing more can come; of many memories half, so that
/// the other half is filled while the GPU copies (a batch of 16 has what there is to gain by
/// size).
fn enough(memories: usize) -> usize {
    if memories < 2 * WORTH { memories } else { memories / 2 }
}

/// A batch: so many packets, and no more than a segment of their store holds, so that none is
/// overwritten by another one of it.
fn take(state: &mut State) -> Vec<Parcel> {
    let mut bytes = 0;
    let mut batch = Vec::with_capacity(state.parcels.len().min(MOST));
    while let Some(parcel) = state.parcels.front() {
        bytes += parcel.size().next_multiple_of(super::store::ALIGNMENT);
        let fits = bytes <= parcel.lane.segment && batch.len() < MOST;
        if !fits && !batch.is_empty() {
            break;
        }
        batch.extend(state.parcels.pop_front());
    }
    state.enough = !state.parcels.is_empty();
    batch
}

/// The channels that packets are of, each once.
fn lanes_of(parcels: &[Parcel]) -> Vec<Arc<Lane>> {
    let mut lanes: Vec<Arc<Lane>> = Vec::new();
    for parcel in parcels {
        if !lanes.iter().any(|lane| Arc::ptr_eq(lane, &parcel.lane)) {
            lanes.push(Arc::clone(&parcel.lane));
        }
    }
    lanes
}

/// The time of this thread's own since then.
fn count(lanes: &[Arc<Lane>], began: u64) {
    let spent = thread_time().saturating_sub(began);
    for lane in lanes {
        lane.counts.busy.fetch_add(spent / lanes.len() as u64, Ordering::Relaxed);
    }
}

/// What this thread has had of a processor, in ns.
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A buffer that the store has overwritten: mapped again, writers may have it.
fn recycle(buffer: &wgpu::Buffer, lane: &Lane) {
    let (pool, mapped) = (Arc::clone(&lane.pool), buffer.clone());
    buffer.map_async(MapMode::Write, .., move |result| {
        if result.is_ok() {
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(mapped);
        }
    });
}

/// What is handed over in one submission.
struct Work<'a> {
    gpu: &'a Gpu,
    encoder: CommandEncoder,
    answer: Arc<Answer>,
    /// No command was recorded.
    is_empty: bool,
}

impl Work<'_> {
    /// Gives packets their place in the store, and what was entered there if somebody wants to
    /// know; `None`: it has no memory for them.
    fn place<'p>(
        &mut self,
        lane: &Lane,
        table: &mut Kept<'_>,
        parcels: impl Iterator<Item = &'p mut Parcel>,
    ) -> Option<Vec<PacketEntry>> {
        let mut entries = Vec::new();
        let is_told = table.arrival.is_some();
        let mut handed = 0;
        for packet in parcels.filter_map(Parcel::packet) {
            let (size, facts) = (packet.size() as u64, *packet.facts());
            let stream = Arc::clone(packet.stream());
            handed += 1;
            let memory = packet.memory_mut()?;
            let (place, own) = if lane.way == Way::Direct {
                let len = memory.len() as u64;
                (self.own(lane, memory, size)?, len)
            } else {
                (self.shared(lane, table, memory, (size, facts.end))?, 0)
            };
            let entry = table.insert(&stream, &facts, (size, own), place);
            if is_told {
                entries.push(entry.clone());
            }
        }
        lane.counts.handed.fetch_add(handed, Ordering::Relaxed);
        lane.counts.submits.fetch_add(1, Ordering::Relaxed);
        Some(entries)
    }

    /// In a segment: copied there.
    fn shared(
        &mut self,
        lane: &Lane,
        table: &mut Kept<'_>,
        memory: &mut GpuMemory,
        (size, end): (u64, u64),
    ) -> Option<Place> {
        let (to, offset) = loop {
            match table.room(lane.store.keep, size, lane.segment, end) {
                Room::Here { buffer, offset } => break (buffer, offset),
                Room::Another => {
                    let segment = table.ahead().or_else(|| lane.new_segment(self.gpu));
                    if !table.another(segment) {
                        return None;
                    }
                }
            }
        };
        let answer = Arc::clone(&self.answer);
        if let Some(from) = memory.unmap() {
            self.encoder.copy_buffer_to_buffer(from, 0, &to, offset, size);
            self.encoder.map_buffer_on_submit(from, MapMode::Write, .., move |result| {
                if result.is_err() {
                    answer.failed.store(true, Ordering::Release);
                }
            });
        } else {
            self.upload(lane, memory, &to, (offset, size));
        }
        lane.counts.copied.fetch_add(size, Ordering::Relaxed);
        self.is_empty = false;
        Some(Place::Gpu { buffer: to, offset })
    }

    fn upload(&self, lane: &Lane, memory: &GpuMemory, to: &wgpu::Buffer, (at, size): (u64, u64)) {
        let bytes = memory.bytes(usize::try_from(size).unwrap_or(0)).unwrap_or_default();
        self.gpu.queue.write_buffer(to, at, bytes);
        lane.counts.uploaded.fetch_add(size, Ordering::Relaxed);
    }

    /// In the buffer that it was written to; the memory gets another one.
    fn own(&mut self, lane: &Lane, memory: &mut GpuMemory, size: u64) -> Option<Place> {
        let len = memory.len() as u64;
        let Some(buffer) = memory.give() else {
            let buffer = self.gpu.buffer(len, direct(), false).ok()?;
            self.upload(lane, memory, &buffer, (0, size));
            self.is_empty = false;
            return Some(Place::Gpu { buffer, offset: 0 });
        };
        let pooled = lane.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let other = match pooled {
            Some(buffer) => GpuMemory::mapped(buffer).ok(),
            None => lane.mapped(self.gpu, len).ok(),
        };
        // Without one it is not ready: it gets ordinary memory when it is put.
        *memory = other.unwrap_or_else(GpuMemory::none);
        Some(Place::Gpu { buffer, offset: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Kind, Wanted};
    use super::super::device::Device;
    use super::*;

    #[test]
    fn a_device_that_does_not_answer_is_given_up() {
        let adapter =
            super::super::adapter::choose(&Wanted::Kind(Kind::Noop)).expect("it can be asked");
        let device = Device::open(&adapter.expect("wgpu has it")).expect("it opens");
        let gpu = Arc::clone(device.gpu());
        let mut owner = Owner::new(Arc::clone(&gpu), Arc::default());
        let index = gpu.queue.submit([]);
        let mut travel = |since| {
            let (parcels, answer) = (Vec::new(), Arc::default());
            owner.travelling.clear();
            owner.travelling.push_back(Batch { parcels, index: index.clone(), since, answer });
            owner.poll(Duration::ZERO);
            gpu.is_lost()
        };
        let now = Instant::now();
        assert!(!travel(now), "it has time");
        assert!(travel(now.checked_sub(HUNG + PATIENCE).expect("the machine has run longer")));
    }
}
