//! The threads that write: several files at once, one write at a time for each file.
//!
//! A packet goes to its stream's queue; a stream with packets that no thread writes is in
//! the ready list; a thread takes one stream from there, all its packets, writes them in
//! one call, and puts the stream back if more have come. Order in a file is the queue's.
//!
//! The drain is one of these threads while it has nothing to take ([`Pool::turn`]): a single
//! busy stream then needs no other thread, which on a machine with few cores would cost more
//! in waking than in writing. Long writes are left to the others, so that the drain stays
//! free for its other streams and its timers.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, StreamInfo};
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::packet::packet_size;
use rbpipe_core::stream::{Nested, Packet};

use super::Sync;
use super::directory::Directory;
use super::place::{HEAD, Place};
use super::rotation::Piece;
use super::stream_file::StreamFile;
use crate::heap::HeapMemory;

/// Bytes that one write carries at most (4 MiB at once were slower than 1 MiB, measured),
/// but always one packet.
const MOST_BYTES: usize = 1 << 20;

/// The threads of one channel.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a channel's threads share.
pub(super) struct Shared {
    directory: Arc<Directory>,
    channel: String,
    sync: Sync,
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
    trouble: Mutex<Trouble>,
    /// Bytes that one write carries at most.
    most_bytes: usize,
}

#[derive(Default)]
struct State {
    streams: Vec<Queue>,
    ready: VecDeque<usize>,
    /// Packets that were taken and are not put back yet.
    open: usize,
    stop: bool,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Packet<HeapMemory>>,
    /// A thread has the file, or will take it from the ready list.
    busy: bool,
    place: Place,
    next_sync: Option<Instant>,
}

/// Whose thread writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Drain,
    Pool,
}

/// What was said of failures: once, and then at most once a second.
#[derive(Default)]
struct Trouble {
    said: Option<Instant>,
    /// The last failure, until it has been said that all is well again.
    last: Option<Instant>,
    packets: u64,
}

/// Time between two words about failures, and without one before all is said to be well.
const QUIET: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn start(
        directory: Arc<Directory>,
        channel: String,
        sync: Sync,
    ) -> Result<Self, BackendError> {
        let most_bytes = directory.most_bytes(MOST_BYTES);
        let shared = Arc::new(Shared {
            most_bytes,
            directory,
            channel,
            sync,
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            trouble: Mutex::default(),
        });
        shared.directory.register(&shared);
        let count = thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, 4);
        // If one cannot be started, the drop of this ends the others.
        let mut pool = Self { shared, threads: Vec::new() };
        for i in 0..count {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name(format!("write-{i}"))
                .spawn(move || shared.run())
                .map_err(|e| BackendError::io("cannot start a thread that writes", e))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Takes a packet.
    pub(super) fn write(&self, packet: Packet<HeapMemory>) {
        let stream = packet.stream().id as usize;
        let mut state = lock(&self.shared.state);
        if state.streams.len() <= stream {
            state.streams.resize_with(stream + 1, Queue::default);
        }
        state.open += 1;
        let long = packet.size() > MOST_BYTES;
        let queue = &mut state.streams[stream];
        queue.packets.push_back(packet);
        if !queue.busy {
            queue.busy = true;
            state.ready.push_back(stream);
            // The first short one is for the drain's own turn.
            let others = long || state.ready.len() > 1;
            drop(state);
            if others {
                self.shared.work.notify_one();
            }
        }
    }

    /// Writes what is ready on the caller's thread, but for long writes.
    pub(super) fn turn(&self) {
        let mut state = lock(&self.shared.state);
        // Not what takes long: long packets, and files whose sync is due.
        let is_short = |s: &State, stream: &usize| {
            let queue = &s.streams[*stream];
            queue.packets.front().is_some_and(|p| p.size() <= MOST_BYTES)
                && queue.next_sync.is_none_or(|at| at > Instant::now())
        };
        while let Some(at) = state.ready.iter().position(|stream| is_short(&state, stream)) {
            if let Some(stream) = state.ready.remove(at) {
                state = self.shared.serve(state, stream, By::Drain);
            }
        }
        // What is left is for the others; nobody has told them yet of what was behind a short
        // one.
        if !state.ready.is_empty() {
            self.shared.work.notify_all();
        }
    }

    /// Waits until every packet taken so far has been written or has failed.
    pub(super) fn wait_idle(&self) {
        self.turn();
        let mut state = lock(&self.shared.state);
        while state.open > 0 {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the threads and closes the files.
    pub(super) fn close(&mut self) -> Result<(), BackendError> {
        self.wait_idle();
        lock(&self.shared.state).stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let mut state = lock(&self.shared.state);
        let mut result = Ok(());
        for place in state.streams.iter_mut().map(|q| &mut q.place) {
            let Some(file) = &mut place.file else { continue };
            let mut done = file.close();
            if self.shared.sync != Sync::Never {
                done = done.and(file.sync());
            }
            // Another channel may have rotated twice by now: an ended piece is removed when
            // no more are kept, with files that nobody has closed yet.
            let ended = || place.piece < self.shared.directory.count();
            if let (Err(e), Ok(())) = (done, &result)
                && !(file.is_gone() && ended())
            {
                let path = file.path().display();
                result = Err(BackendError::io(format!("{path}: cannot be closed"), e));
            }
        }
        state.streams.clear();
        drop(state);
        self.shared.directory.finish_chores();
        result
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl Shared {
    fn run(&self) {
        // A thread that writes never waits for a ring.
        let _nested = (Nested::enter(), Nested::enter());
        let mut state = lock(&self.state);
        loop {
            if let Some(stream) = state.ready.pop_front() {
                state = self.serve(state, stream, By::Pool);
                continue;
            }
            if state.stop {
                return;
            }
            let (next, due) = self.sync_due(state);
            state = next;
            if !state.ready.is_empty() {
                continue;
            }
            let wait = due.unwrap_or(Duration::from_secs(3600));
            state = self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what the stream has, without the lock.
    fn serve<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        stream: usize,
        by: By,
    ) -> MutexGuard<'a, State> {
        let queue = &mut state.streams[stream];
        let mut place = mem::take(&mut queue.place);
        let mut packets: Vec<Packet<HeapMemory>> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.packets.front() {
            if !packets.is_empty() && bytes + next.size() > self.most_bytes {
                break;
            }
            bytes += next.size();
            packets.extend(queue.packets.pop_front());
        }
        drop(state);
        let count = packets.len();
        let id = stream as u32;
        // Whatever goes wrong in there costs these packets (dropped, they count as failed) and
        // nothing else: who waits for them below must not wait for ever.
        let write = AssertUnwindSafe(|| self.write(&mut place, packets));
        if catch_unwind(write).is_err() {
            self.failed(id, &"the thread that writes failed badly (a panic)", count);
        }
        let mut state = lock(&self.state);
        state.open -= count;
        if state.open == 0 {
            self.idle.notify_all();
        }
        let mut queue = &mut state.streams[stream];
        if place.file.as_ref().is_none_or(|f| !f.dirty) {
            // Nothing to force (the file could not be made): nobody is to look for its time.
            queue.next_sync = None;
        }
        if let (Sync::Every(t), Some(f)) = (self.sync, &mut place.file)
            && f.dirty
        {
            let now = Instant::now();
            match queue.next_sync {
                None => {
                    queue.next_sync = Some(now + t);
                    // Somebody must be there when its time comes.
                    self.work.notify_one();
                }
                // The drain has other streams, and timers.
                Some(at) if at <= now && by == By::Drain => self.work.notify_one(),
                // A stream that is always busy has no other time for it.
                Some(at) if at <= now => {
                    queue.next_sync = None;
                    drop(state);
                    self.sync(f);
                    state = lock(&self.state);
                    queue = &mut state.streams[stream];
                }
                Some(_) => {}
            }
        }
        queue.place = place;
        if queue.packets.is_empty() {
            queue.busy = false;
        } else {
            state.ready.push_back(stream);
        }
        state
    }

    /// Writes packets of one stream, all into one piece; those that are in the file count as
    /// written, the others fail by being dropped.
    fn write(&self, place: &mut Place, packets: Vec<Packet<HeapMemory>>) {
        let Some(first) = packets.first() else { return };
        let (info, count) = (Arc::clone(first.stream()), packets.len());
        // With the empty packet of a new file.
        let empty = packet_size(u64::from(info.class.header_size()));
        let announced = empty + packets.iter().map(|p| p.size() as u64).sum::<u64>();
        let piece = self.directory.enter(announced);
        let stale = place.follow(&piece);
        let made = place.file.is_none();
        let result = self.opened(place, &piece, &info, first.facts()).map(|()| {
            let heads: Vec<_> = packets.iter().map(|p| place.head(&piece, p)).collect();
            let parts: Vec<[&[u8]; 2]> = packets
                .iter()
                .zip(&heads)
                .map(|(packet, head)| match (packet.bytes(), head) {
                    (bytes, Some(head)) => [&head[..], &bytes[HEAD..]],
                    (bytes, None) => [&[], bytes],
                })
                .collect();
            match &mut place.file {
                Some(file) => file.append(&parts),
                None => (0, None),
            }
        });
        let mut used = if made && place.file.is_some() { empty } else { 0 };
        let (written, error) = match result {
            Ok((written, None)) => (written, None),
            Ok((written, Some(e))) => (written, Some(e)),
            Err(e) => (0, Some(e)),
        };
        for packet in packets.into_iter().take(written) {
            let (facts, bytes) = (*packet.facts(), packet.size() as u64);
            place.written(&facts);
            used += bytes;
            packet.written(bytes);
        }
        self.directory.give_back(&piece, announced.saturating_sub(used));
        let in_piece = piece.count;
        drop(piece);
        // The piece may have ended just now, with nobody left to close this.
        let left = if self.directory.count() == in_piece { None } else { place.file.take() };
        for file in stale.into_iter().chain(left) {
            self.directory.retire(file, self.sync != Sync::Never);
        }
        match error {
            Some(e) => self.failed(info.id, &e, count - written),
            None => self.fine(),
        }
    }

    /// Files that no thread has and whose piece has ended; whether they are to be forced to
    /// the disk.
    pub(super) fn stale(&self, count: u64) -> Vec<(StreamFile, bool)> {
        let mut state = lock(&self.state);
        let idle = state.streams.iter_mut().filter(|q| !q.busy && q.place.piece < count);
        let files = idle.filter_map(|q| {
            q.next_sync = None;
            q.place.file.take()
        });
        files.map(|file| (file, self.sync != Sync::Never)).collect()
    }

    /// The stream's file, described, and made if there is none, or if somebody removed it.
    fn opened(
        &self,
        place: &mut Place,
        piece: &Piece,
        info: &StreamInfo,
        first: &PacketFacts,
    ) -> io::Result<()> {
        let mut generation = self.directory.ensure(piece)?;
        // Two system calls, at each write: asked once where all is well.
        let gone = place.file.as_ref().is_some_and(|f| f.generation == generation && f.is_gone());
        if gone {
            self.directory.settle();
            generation = self.directory.ensure(piece)?;
        }
        if let Some(known) = &mut place.file {
            if known.generation != generation {
                // In the directory that was moved away: what is in it stays whole.
                let _ = known.close();
                if self.sync != Sync::Never {
                    self.sync(known);
                }
                place.file = None;
            } else if gone && known.is_gone() {
                tracing::warn!(
                    "{}: was removed or cut while the pipeline runs; what was in it is gone, a \
                     new one is begun",
                    known.path().display()
                );
                known.give_up();
                place.file = None;
            }
        }
        // Before a packet that needs it, the file's first one included.
        self.directory.describe(piece, info.identity, info.class)?;
        if place.file.is_none() {
            let (path, channel) = (self.directory.path(), &self.channel);
            let id = info.id;
            tracing::debug!("{}: channel {channel}: a file for stream {id}", path.display());
            let start = place.start(piece, info, first);
            place.file =
                Some(StreamFile::create(path, generation, channel, info, piece.uuid, start)?);
        }
        Ok(())
    }

    fn failed(&self, stream: u32, error: &dyn std::fmt::Display, packets: usize) {
        let so_far = {
            let mut trouble = lock(&self.trouble);
            trouble.last = Some(Instant::now());
            trouble.packets += packets as u64;
            if trouble.said.is_some_and(|at| at.elapsed() < QUIET) {
                return;
            }
            trouble.said = Some(Instant::now());
            trouble.packets
        };
        tracing::error!(
            "{}: stream {stream} of channel {}: cannot write: {error}; {so_far} packets lost so \
             far, counted as output.failed; recording goes on",
            self.directory.path().display(),
            self.channel,
        );
    }

    fn fine(&self) {
        {
            let mut trouble = lock(&self.trouble);
            // One stream may find room where another one does not.
            if trouble.last.is_none_or(|at| at.elapsed() < QUIET) {
                return;
            }
            trouble.last = None;
        }
        tracing::warn!(
            "{}: channel {}: writing again",
            self.directory.path().display(),
            self.channel
        );
    }

    fn sync(&self, file: &mut StreamFile) {
        if let Err(e) = file.sync() {
            tracing::error!("{}: cannot force to the disk: {e}", file.path().display());
        }
    }

    /// Syncs files whose time has come: one fdatasync for each in an interval. Gives how
    /// long it is to the next one.
    fn sync_due<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Option<Duration>) {
        let Sync::Every(_) = self.sync else { return (state, None) };
        loop {
            let now = Instant::now();
            let due = state.streams.iter().position(|q| {
                !q.busy && q.place.file.is_some() && q.next_sync.is_some_and(|t| t <= now)
            });
            let Some(stream) = due else {
                let next = state.streams.iter().filter_map(|q| q.next_sync).min();
                // A busy one is looked at when it is done.
                let wait =
                    next.map(|t| t.saturating_duration_since(now).max(Duration::from_millis(1)));
                return (state, wait);
            };
            let queue = &mut state.streams[stream];
            queue.busy = true;
            queue.next_sync = None;
            let file = queue.place.file.take();
            drop(state);
            let mut file = file;
            if let Some(file) = &mut file {
                self.sync(file);
            }
            state = lock(&self.state);
            let queue = &mut state.streams[stream];
            queue.place.file = file;
            queue.busy = false;
            if !queue.packets.is_empty() {
                queue.busy = true;
                state.ready.push_back(stream);
                return (state, Some(Duration::ZERO));
            }
        }
    }
}
