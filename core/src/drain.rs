//! The drain of a channel: takes packets and hands them to the output, on a thread of its
//! own. The only timers of the engine are here: the switch timer (switch and drain in one
//! turn) and the read timer (how long an idle reader sleeps at most).

mod control;
mod paced;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, BackendError, Before, Output, Rotate};
use crate::channel::Channel;
use crate::frontend::Position;
use crate::snapshot::SnapshotTo;
use crate::stream::{Nested, Stream};

pub use control::{Answer, Ask, Control, Done, Refused, Reply};

/// Runs a future on this thread, which sleeps in between. Futures that need a runtime's
/// timers or sockets find it if the thread has entered it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    // The common future is ready at once and never asks for its waker.
    if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return out;
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(out) => return out,
            Poll::Pending => thread::park(),
        }
    }
}

/// Something that people should know while the channel runs; words are in `Display`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A writer stands inside a sub-buffer for longer than a switch timer (and a second).
    #[error("stream {stream}: a writer has not finished its record for {seconds:.1} s; what follows in its sub-buffer waits for it", seconds = .since.as_secs_f64())]
    #[expect(missing_docs, reason = "named by the message")]
    Stalled { stream: u32, since: Duration },
    /// At the end a writer was still inside; that packet is not written.
    #[error(
        "stream {stream}: a writer never finished its record: a packet with {records} finished records is not written (they count as lost, wrap)"
    )]
    #[expect(missing_docs, reason = "named by the message")]
    PassedOver { stream: u32, records: u64 },
    /// The output left a memory unusable; another one was made.
    #[error("stream {stream}: the output left a sub-buffer's memory unusable; it was replaced")]
    #[expect(missing_docs, reason = "named by the message")]
    Retired { stream: u32 },
    /// At the end there was no memory to take the last packets with.
    #[error(
        "stream {stream}: no memory to take its last packets with; they stay in the ring (kept)"
    )]
    #[expect(missing_docs, reason = "named by the message")]
    Left { stream: u32 },
    /// … nor to tell in the trace what was lost since the last packet.
    #[error(
        "stream {stream}: no memory for a last packet: its trace does not tell that {lost} more records were lost"
    )]
    #[expect(missing_docs, reason = "named by the message")]
    Untold { stream: u32, lost: u64 },
    /// … and none could be made.
    #[error(
        "stream {stream}: no memory in place of a retired one: {reason}; asked again every second"
    )]
    #[expect(missing_docs, reason = "named by the message")]
    NoMemory { stream: u32, reason: String },
}

/// A delivery that is missing for less than this is no stall, whatever the switch timer: with
/// more writers than processors it is everyday.
const WORTH_A_WORD: Duration = Duration::from_secs(1);

/// How long a flush with a reply waits for records that are still being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// A delivery that is missing.
#[derive(Clone, Copy)]
struct Missing {
    at: Position,
    since: Instant,
    said: bool,
}

impl<B: Backend> Channel<B> {
    /// Drains the channel until it is told to stop; then finalises every stream, waits at
    /// most `stop_timeout` for records that are still being written, drains, and closes
    /// the output.
    ///
    /// # Errors
    /// What the output could not bring to its end.
    pub fn run(
        mut self,
        control: &Control,
        stop_timeout: Duration,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), BackendError> {
        // This thread never waits for itself in block mode.
        let _nested = Nested::enter();
        let _nested_twice = Nested::enter();
        let _asks = control.until_the_end();
        let takes = self.backend.takes(self.options.plan.mode);
        let switch_timer = self.options.switch_timer.filter(|_| takes);
        let mut next_switch = switch_timer.map(|t| Instant::now() + t);
        let mut missing: Vec<Option<Missing>> = vec![None; self.streams.len()];
        let mut refill_at = Instant::now();
        while !control.is_stopped() {
            if let Some((ask, reply)) = control.next() {
                self.serve(ask, reply, takes, control, notice, &mut refill_at);
            }
            if let (Some(at), Some(timer)) = (next_switch, switch_timer) {
                let now = Instant::now();
                if now >= at {
                    self.look_for_stalls(&mut missing, timer, notice);
                    // An output with a pace says when.
                    if self.output.pace().is_none() {
                        self.streams.iter().for_each(Stream::switch);
                    }
                    // No bunching up after a long write.
                    next_switch = Some((at + timer).max(now));
                }
            }
            if takes && self.output.rotate_at().is_some_and(|at| at <= Instant::now()) {
                self.flush(notice, &mut refill_at);
                // What goes wrong the output says itself.
                let _ = block_on(self.output.rotate(Rotate::Due));
            }
            if let Some(pace) = self.output.pace().filter(|_| takes) {
                self.keep(pace, control, next_switch, notice, &mut refill_at);
                continue;
            }
            if takes && self.take_all(notice, &mut refill_at) > 0 {
                continue;
            }
            let ticket = self.wake.prepare();
            // Everything that somebody may have woken it for.
            let asked = control.is_asked();
            let until_refill = self.until_refill(refill_at);
            let refill = until_refill.is_some_and(|t| t.is_zero());
            if asked || (takes && (refill || self.streams.iter().any(Stream::has_packet))) {
                self.wake.cancel(ticket);
                continue;
            }
            let until_switch = next_switch.map(|at| at.saturating_duration_since(Instant::now()));
            let idle = if takes { self.options.read_timer } else { None };
            let until_rotation = self.output.rotate_at().filter(|_| takes);
            let until_rotation =
                until_rotation.map(|at| at.saturating_duration_since(Instant::now()));
            let at_most =
                [until_switch, until_refill, until_rotation, idle].into_iter().flatten().min();
            self.wake.sleep(ticket, at_most);
        }
        self.finish(takes, stop_timeout, control, notice, &mut refill_at)
    }

    /// How long until memory is asked for; `None`: none is missing.
    fn until_refill(&self, refill_at: Instant) -> Option<Duration> {
        let missing = self.streams.iter().any(|s| s.missing() > 0);
        missing.then(|| refill_at.saturating_duration_since(Instant::now()))
    }

    /// Takes what there is, of each stream no more than a ring's worth, so that a busy one
    /// keeps neither the others waiting nor the timers; gives how many packets.
    fn take_all(&mut self, notice: &mut dyn FnMut(Notice), refill_at: &mut Instant) -> usize {
        let taken = self.take(notice, refill_at);
        if taken > 0 {
            block_on(self.output.turn());
        }
        taken
    }

    fn take(&mut self, notice: &mut dyn FnMut(Notice), refill_at: &mut Instant) -> usize {
        let mut taken = 0;
        self.refill(notice, refill_at);
        for stream in &mut self.streams {
            for _ in 0..self.options.plan.geometry.subbuf_count() {
                let Some(packet) = stream.get() else { break };
                block_on(self.output.write_packet(packet));
                taken += 1;
            }
        }
        taken
    }

    /// Takes what was there when it began, as far as it can be taken: waits for memories to
    /// come back, and for new ones in place of retired ones until `deadline`.
    fn drain(
        &mut self,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
        deadline: Option<Instant>,
    ) {
        let marks: Vec<Position> = self.streams.iter().map(Stream::mark).collect();
        if self.output.pace().is_some() {
            self.drain_paced(&marks, notice, refill_at, deadline);
            return;
        }
        loop {
            self.take_all(notice, refill_at);
            block_on(self.output.flush());
            let rest = || self.streams.iter().zip(&marks).filter(|(s, mark)| !s.is_past(**mark));
            if rest().any(|(s, _)| s.has_packet()) {
                continue;
            }
            if !rest().any(|(s, _)| s.wants_memory() && s.missing() > 0) {
                return;
            }
            let (now, deadline) = (Instant::now(), deadline.unwrap_or(*refill_at));
            if now >= *refill_at {
                continue;
            }
            if deadline <= *refill_at {
                return;
            }
            thread::sleep(refill_at.saturating_duration_since(now));
        }
    }

    /// Does what somebody asks for, and says so.
    fn serve(
        &mut self,
        ask: Ask,
        reply: Reply,
        takes: bool,
        control: &Control,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
    ) {
        match ask {
            // Where nothing is taken all is where it belongs.
            Ask::Flush if !takes => reply.tell(Ok(Done::Flushed)),
            Ask::Flush if reply.is_nobody() && self.output.pace().is_some() => {
                // It goes out at its pace.
                self.step(Before::Switch, notice, refill_at);
            }
            Ask::Flush if reply.is_nobody() => self.flush(notice, refill_at),
            Ask::Flush => {
                // All that was asked before it begins is done when it is.
                let others = control.more_flushes();
                let result = self.flush_all(control, notice, refill_at);
                let again = |r: &Result<(), Refused>| match r {
                    Ok(()) => Ok(Done::Flushed),
                    Err(Refused::Behind { stream }) => Err(Refused::Behind { stream: *stream }),
                    Err(Refused::Failed { packets }) => Err(Refused::Failed { packets: *packets }),
                    Err(Refused::Slow) => Err(Refused::Slow),
                    Err(_) => Err(Refused::Ended),
                };
                for other in others {
                    other.tell(again(&result));
                }
                reply.tell(result.map(|()| Done::Flushed));
            }
            Ask::Rotate { since } => {
                // What cannot be taken now goes into the new piece: nothing is waited for.
                if takes {
                    self.flush(notice, refill_at);
                }
                let result = block_on(self.output.rotate(Rotate::Asked { since }));
                reply.tell(result.map(Done::Rotated));
            }
            Ask::Snapshot { to, at_the_end: true } => self.last_snapshots.push((to, reply)),
            Ask::Snapshot { to, at_the_end: false } => self.snapshot_for(to, reply),
            Ask::Import { cpu, start } => {
                let made = self.import_from(cpu, start);
                reply.tell(made.map(Done::Imported).map_err(Refused::from));
            }
        }
    }

    fn snapshot_for(&mut self, to: Arc<dyn SnapshotTo>, reply: Reply) {
        let result = self.snapshot(&*to);
        // Who is told has it to himself.
        drop(to);
        reply.tell(result.map(Done::Snapped).map_err(Refused::from));
    }

    /// Snapshots of all that is left when the channel ends: those that were to wait for it, and
    /// those that came too late to be made before.
    fn last_snapshots(&mut self, control: &Control) {
        for (to, reply) in std::mem::take(&mut self.last_snapshots) {
            self.snapshot_for(to, reply);
        }
        while let Some((ask, reply)) = control.next() {
            if let Ask::Snapshot { to, .. } = ask {
                self.snapshot_for(to, reply);
            }
        }
    }

    /// A flush that knows whether everything recorded before it is where it belongs; waits a
    /// while for records that are still being written.
    fn flush_all(
        &mut self,
        control: &Control,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
    ) -> Result<(), Refused> {
        let failed = |this: &Self| this.streams.iter().map(|s| s.books().failed).sum::<u64>();
        let before = failed(self);
        // Before the switch: what is reserved later may be in a sub-buffer that stays open.
        let marks: Vec<Position> = self.streams.iter().map(Stream::mark).collect();
        let deadline = Instant::now() + PATIENCE;
        self.flush(notice, refill_at);
        if self.output.pace().is_some_and(|pace| pace.behind) {
            return Err(if control.is_stopped() { Refused::Ended } else { Refused::Slow });
        }
        let stream = loop {
            let behind = self.streams.iter().zip(&marks).find(|(s, mark)| !s.is_past(**mark));
            let Some((behind, _)) = behind else { break None };
            if control.is_stopped() {
                return Err(Refused::Ended);
            }
            if Instant::now() >= deadline {
                break Some(behind.info().id);
            }
            thread::sleep(Duration::from_millis(1));
            self.drain(notice, refill_at, None);
        };
        match (stream, failed(self) - before) {
            (Some(stream), _) => Err(Refused::Behind { stream }),
            (None, 0) => Ok(()),
            (None, packets) => Err(Refused::Failed { packets }),
        }
    }

    fn flush(&mut self, notice: &mut dyn FnMut(Notice), refill_at: &mut Instant) {
        self.streams.iter().for_each(Stream::switch);
        self.drain(notice, refill_at, None);
        let told = self.streams.iter().filter(|s| s.empty_packet()).count();
        if told > 0 {
            self.drain(notice, refill_at, None);
        }
    }

    fn look_for_stalls(
        &self,
        missing: &mut Vec<Option<Missing>>,
        timer: Duration,
        notice: &mut dyn FnMut(Notice),
    ) {
        missing.resize(self.streams.len(), None);
        for (stream, known) in self.streams.iter().zip(missing) {
            let at = stream.oldest_undelivered();
            *known = match (at, *known) {
                (None, _) => None,
                (Some(at), Some(mut m)) if m.at == at => {
                    if !m.said && m.since.elapsed() > timer.max(WORTH_A_WORD) {
                        m.said = true;
                        let since = m.since.elapsed();
                        notice(Notice::Stalled { stream: stream.info().id, since });
                    }
                    Some(m)
                }
                (Some(at), _) => Some(Missing { at, since: Instant::now(), said: false }),
            };
        }
    }

    fn finish(
        mut self,
        takes: bool,
        stop_timeout: Duration,
        control: &Control,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
    ) -> Result<(), BackendError> {
        self.streams.iter().for_each(Stream::finalise);
        if takes {
            self.output.ending();
        }
        let deadline = Instant::now() + stop_timeout;
        loop {
            if takes {
                self.drain(notice, refill_at, Some(deadline));
            }
            if self.streams.iter().all(Stream::is_settled) || Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // What is still open now is not waited for any longer.
        loop {
            if takes {
                self.drain(notice, refill_at, Some(deadline));
            }
            let mut passed = false;
            for stream in &mut self.streams {
                let over = if takes { stream.pass_over() } else { stream.pass_over_all() };
                if let Some(records) = over {
                    passed = takes;
                    notice(Notice::PassedOver { stream: stream.info().id, records });
                }
            }
            if !passed {
                break;
            }
        }
        if takes {
            for stream in &mut self.streams {
                if stream.wants_memory() {
                    notice(Notice::Left { stream: stream.info().id });
                    stream.pass_over_all();
                }
            }
            // What was written is known only now.
            block_on(self.output.flush());
            self.last_words(notice, refill_at, deadline);
        } else {
            self.last_snapshots(control);
        }
        block_on(self.output.flush());
        block_on(self.output.close())
    }

    /// Tells what no packet has told; waits until `deadline` for a memory to do so.
    fn last_words(
        &mut self,
        notice: &mut dyn FnMut(Notice),
        refill_at: &mut Instant,
        deadline: Instant,
    ) {
        let lacks =
            |s: &Stream<B::Memory>| s.missing() > 0 && !s.has_spare() && s.untold().is_some();
        while self.streams.iter().any(lacks) && Instant::now().max(*refill_at) < deadline {
            thread::sleep(refill_at.saturating_duration_since(Instant::now()));
            self.refill(notice, refill_at);
        }
        // Once more, whatever the time: the last packet may just have spoilt its memory.
        if self.streams.iter().any(lacks) {
            *refill_at = Instant::now();
            self.refill(notice, refill_at);
        }
        for stream in &mut self.streams {
            // Where packets were left in the ring, words would come before them.
            if stream.wants_memory() {
                continue;
            }
            let Some(lost) = stream.untold() else { continue };
            if let Some(packet) = stream.last_words() {
                block_on(self.output.write_packet(packet));
            } else if lost > 0 {
                notice(Notice::Untold { stream: stream.info().id, lost });
            }
        }
    }

    /// Asks for memory in place of retired ones, if it is time.
    fn refill(&mut self, notice: &mut dyn FnMut(Notice), refill_at: &mut Instant) {
        for stream in &mut self.streams {
            if stream.missing() == 0 || Instant::now() < *refill_at {
                continue;
            }
            let info = Arc::clone(stream.info());
            let backend = &mut self.backend;
            match stream.refill(|| backend.memory(&info)) {
                Ok(true) => {}
                Ok(false) => notice(Notice::Retired { stream: info.id }),
                Err(e) => {
                    *refill_at = Instant::now() + Duration::from_secs(1);
                    notice(Notice::NoMemory { stream: info.id, reason: e.to_string() });
                }
            }
        }
    }
}
