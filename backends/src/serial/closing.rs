//! Closing a port without waiting for its other end.
//!
//! The last close of a terminal waits in the kernel until its queue is empty, up to half a
//! minute, and so does the exit of a process that has it open. Emptying the queue helps with a
//! chip on the board; drivers of USB adapters do nothing when they are asked to. So a thread of
//! its own closes, and nobody waits for it long: the process's exit ends it (measured in
//! tests/qemu: 6 to 20 ms against 31 s).

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

/// What a close may take: where nothing is queued it waits for what is in the chip.
const CLOSES: Duration = Duration::from_millis(300);
/// What all closes may take when the program ends at once.
const AT_ONCE: Duration = Duration::from_millis(100);

type Place = Mutex<Option<SerialStream>>;

/// The places of the ports that are open; `None`: the program ends, and none is opened any more.
static OPEN: Mutex<Option<Vec<Weak<Place>>>> = Mutex::new(Some(Vec::new()));

/// A panic elsewhere leaves a port as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open port. Dropped, it is closed, and that takes a moment at most.
pub(super) struct Held {
    place: Arc<Place>,
}

impl Held {
    pub(super) fn new(stream: SerialStream) -> Self {
        let place = Arc::new(Mutex::new(Some(stream)));
        match &mut *lock(&OPEN) {
            Some(open) => {
                open.retain(|place| place.strong_count() > 0);
                open.push(Arc::downgrade(&place));
            }
            // Opened again by whoever missed the one that was taken away.
            None => *lock(&place) = None,
        }
        Self { place }
    }

    /// Does something with it that waits for nothing; `None`: it was taken away ([`abandon`]).
    pub(super) fn with<T>(&self, does: impl FnOnce(&mut SerialStream) -> T) -> Option<T> {
        lock(&self.place).as_mut().map(does)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(stream) = lock(&self.place).take() {
            close([stream], CLOSES);
        }
    }
}

/// Closes all ports that are open, whatever is on its way: the process ends now.
pub fn abandon() {
    let open: Vec<_> = lock(&OPEN).take().iter().flatten().filter_map(Weak::upgrade).collect();
    close(open.iter().filter_map(|place| lock(place).take()), AT_ONCE);
}

fn close(streams: impl IntoIterator<Item = SerialStream>, within: Duration) {
    let deadline = Instant::now() + within;
    let (closed, all_closed) = channel::<()>();
    for stream in streams {
        // What is queued now goes nowhere; where nothing is, the chip is left alone.
        if stream.bytes_to_write().is_ok_and(|n| n > 0) {
            let _ = stream.clear(ClearBuffer::Output);
        }
        let closed = closed.clone();
        let closes = move || {
            drop(stream);
            drop(closed);
        };
        // Without a thread to spare the closure is dropped here, and closes here.
        let _ = thread::Builder::new().name("serial-close".into()).spawn(closes);
    }
    drop(closed);
    // Ends when all senders are gone.
    let left = deadline.saturating_duration_since(Instant::now());
    let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
        all_closed.recv_timeout(left);
}
