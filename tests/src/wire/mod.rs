//! A serial line in software: two ports (pseudo terminals behind names that stay), and a wire
//! between them that is as slow as a line of its baud rate and damages what it carries, as a seed
//! decides, in both directions.
//!
//! What it has not: modem lines, parity, the driver's own queue and a flush that blocks. What is
//! written to a port waits in the pseudo terminal (some 20 KB) until the wire takes it. What comes
//! out at a port that nobody has open is gone, as on a real line.

mod bucket;
mod ear;
mod faults;
pub mod measure;
mod pty;
mod run;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use bucket::Bucket;
pub use ear::{Ear, Heard};
pub use faults::{Break, Done, Fault, Line, Rates, fault, mix};
pub use pty::{Moved, Pty, open};

/// One of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The port `a`.
    A,
    /// The port `b`.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// How a wire is made.
#[derive(Clone, Copy, Debug)]
pub struct WireOptions {
    /// Bits a second; a byte has ten.
    pub baud: u32,
    /// Decides all faults.
    pub seed: u64,
    /// What happens to bytes from `a` to `b`. A hang-up takes away both ports.
    pub there: Rates,
    /// What happens to bytes from `b` to `a`.
    pub back: Rates,
    /// Whether to keep what went in and what came out ([`Wire::went_in`], [`Wire::came_out`]).
    pub keep: bool,
}

impl WireOptions {
    /// A line without faults.
    #[must_use]
    pub fn clean(baud: u32) -> Self {
        Self { baud, seed: 0, there: Rates::CLEAN, back: Rates::CLEAN, keep: false }
    }
}

/// What one direction of a wire has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the line did; `bytes`: those that it was given.
    pub done: Done,
    /// Bytes that whoever has the other port open was given.
    pub given: u64,
    /// Bytes that came out where nobody had the port open.
    pub unheard: u64,
    /// Bytes that were lost because the other port was open and not read.
    pub overrun: u64,
    /// Bytes that were sent into a line that was away.
    pub away: u64,
    went_in: Vec<u8>,
    came_out: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Unplug(Side),
    Plug(Side),
    Rates(Side, Rates),
    End,
}

/// A wire that runs, until it is dropped.
#[derive(Debug)]
pub struct Wire {
    dir: PathBuf,
    orders: Sender<(Order, Sender<()>)>,
    waker: std::io::PipeWriter,
    seen: Arc<Mutex<[Seen; 2]>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Lays a wire between the ports `a` and `b` in this directory.
    ///
    /// # Panics
    /// If the system gives no pseudo terminals.
    #[must_use]
    pub fn lay(dir: &Path, options: WireOptions) -> Self {
        let (orders, from): (_, Receiver<(Order, Sender<()>)>) = channel();
        let (wake, waker) = std::io::pipe().expect("a pipe");
        let seen = Arc::<Mutex<[Seen; 2]>>::default();
        let run = run::Run::new(dir, options, Arc::clone(&seen), wake, from);
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn(move || run.run())
            .expect("a thread");
        Self { dir: dir.to_owned(), orders, waker, seen, thread: Some(thread) }
    }

    /// The name of a port. While it is unplugged there is none.
    #[must_use]
    pub fn port(&self, side: Side) -> PathBuf {
        self.dir.join(side.name())
    }

    fn order(&self, order: Order) {
        use std::io::Write;
        let (done, wait) = channel();
        if self.orders.send((order, done)).is_ok() && (&self.waker).write_all(&[1]).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Takes a port away: who has it open sees it go, its name is gone.
    pub fn unplug(&self, side: Side) {
        self.order(Order::Unplug(side));
    }

    /// Puts a port back, as another device under its old name.
    pub fn plug(&self, side: Side) {
        self.order(Order::Plug(side));
    }

    /// From here on the line does this to bytes that go in at this port.
    pub fn set_rates(&self, from: Side, rates: Rates) {
        self.order(Order::Rates(from, rates));
    }

    fn look<T>(&self, from: Side, f: impl FnOnce(&Seen) -> T) -> T {
        f(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)[from as usize])
    }

    /// What the direction that begins at this port has seen; its copies are left out.
    #[must_use]
    pub fn seen(&self, from: Side) -> Seen {
        self.look(from, |s| Seen { went_in: Vec::new(), came_out: Vec::new(), ..*s })
    }

    /// What went in at this port (with [`WireOptions::keep`]).
    #[must_use]
    pub fn went_in(&self, from: Side) -> Vec<u8> {
        self.look(from, |s| s.went_in.clone())
    }

    /// What came out of the direction that begins at this port, heard or not (with
    /// [`WireOptions::keep`]).
    #[must_use]
    pub fn came_out(&self, from: Side) -> Vec<u8> {
        self.look(from, |s| s.came_out.clone())
    }

    /// Waits until nothing has gone in at this port for so long.
    pub fn wait_until_quiet(&self, from: Side, quiet: Duration) {
        let (mut bytes, mut since) = (self.seen(from).done.bytes, Instant::now());
        while since.elapsed() < quiet {
            std::thread::sleep(quiet.min(Duration::from_millis(5)));
            let now = self.seen(from).done.bytes;
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
