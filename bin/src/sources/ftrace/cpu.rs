//! One CPU's part of the kernel's ring: its pages become runs of records in this CPU's stream
//! of each channel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rbpipe_core::class::ClassId;
use rbpipe_core::stream::{GivenRecord, ImportWriter};
use rustix::io::Errno;

use super::decoder::{Decoded, Formats};
use super::loss::{Losses, Stats};
use crate::sources::{Channels, Class};

/// A CPU that cannot be read (it is offline) is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// Pages that are read at once, so that no CPU keeps a thread from the others: 16 MiB.
const PAGES: usize = 256;
/// How long the last records wait for a channel that has no room; and how long others' records
/// wait with it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two words about pages.
const QUIET: Duration = Duration::from_secs(1);

/// What all CPUs share that one thread reads.
pub struct Shared<'a> {
    /// What the kernel's events look like.
    pub formats: &'a Formats,
    /// Where their records go.
    pub to: &'a Channels,
    /// By the place in `formats`, once it has occurred: the first ones get the short headers.
    pub classes: Vec<Option<Class>>,
    /// Bytes of a CPU's ring.
    pub ring: u64,
    /// A page's bytes.
    pub page: Vec<u8>,
    /// What was in it.
    pub decoded: Decoded,
    /// When something of a page was last said to be wrong.
    pub said: Option<Instant>,
}

/// One CPU.
pub struct Cpu {
    number: u32,
    directory: PathBuf,
    /// `trace_pipe_raw`; `None`: it could not be opened, it is offline.
    pipe: Option<File>,
    /// Whether it is to be waited for; not one that is readable for ever and gives nothing.
    waited: bool,
    stats: Option<File>,
    again: Instant,
    /// Since when a channel has had no room for it.
    full_since: Option<Instant>,
    losses: Losses,
    /// All there was is in the books.
    over: bool,
    /// Its stream in each channel.
    streams: Vec<ImportWriter>,
}

/// How far a CPU is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Whole pages: what is being filled is left to be.
    Whole,
    /// All that was there at this time (nanoseconds). Not all there is: where reading is itself
    /// traced (system calls), there would be no end of it.
    Then(u64),
    /// All there is.
    Empty,
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There is no more.
    Nothing,
    /// There was not one page.
    NotOne,
    /// There is, but others want to be read, too.
    More,
    /// A channel has no room: soon again.
    NoRoom,
}

/// The channels are closed: there is no sense in going on.
#[derive(Debug)]
pub struct Closed;

impl Cpu {
    pub fn new(number: u32, directory: PathBuf, streams: Vec<ImportWriter>) -> Self {
        let losses = Losses::default();
        let (pipe, stats, again) = (None, None, Instant::now());
        let (waited, full_since, over) = (false, None, false);
        Self { number, directory, pipe, waited, stats, again, full_since, losses, over, streams }
    }

    /// Opens its files, before anything is traced.
    ///
    /// # Errors
    /// Its losses could not be told, or no files are left. That it is offline is none.
    pub fn begin(&mut self) -> io::Result<()> {
        self.stats = Some(File::open(self.directory.join("stats"))?);
        match self.open_pipe() {
            Err(e) if Errno::from_io_error(&e) != Some(Errno::NODEV) => return Err(e),
            Err(e) => self.gone(&e),
            Ok(pipe) => self.pipe = Some(pipe),
        }
        Ok(())
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Bytes of the smallest ring that its records go to.
    pub fn smallest_ring(&self) -> Option<u64> {
        self.streams.iter().map(ImportWriter::ring).min()
    }

    /// What to wait at.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    /// Opens it, if it is not open and it is time; true: it is to be waited for from now on.
    pub fn open(&mut self) -> bool {
        if self.pipe.is_none() && Instant::now() >= self.again {
            match self.open_pipe() {
                Ok(pipe) => self.pipe = Some(pipe),
                Err(e) => self.gone(&e),
            }
        }
        self.pipe.is_some() && !std::mem::replace(&mut self.waited, true)
    }

    fn open_pipe(&self) -> io::Result<File> {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC).bits();
        let path = self.directory.join("trace_pipe_raw");
        File::options().read(true).custom_flags(flags.cast_signed()).open(path)
    }

    /// It is not waited for any more, until it is opened again.
    pub fn forgotten(&mut self) {
        self.waited = false;
    }

    fn gone(&mut self, error: &io::Error) {
        tracing::debug!("cpu {}: {error}; tried again in a second", self.number);
        (self.pipe, self.waited) = (None, false);
        self.again = Instant::now() + AGAIN;
    }

    /// Its `stats` now.
    fn stats(&self) -> Option<Stats> {
        // In one read: the kernel writes it anew for each.
        let mut text = [0; 1024];
        let n = self.stats.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = String::from_utf8_lossy(&text[..n]);
        Some(Stats::parse(&text))
    }

    /// Reads pages. In discard mode (`refused`) a look at `stats` comes first: pages do not tell
    /// what was refused.
    ///
    /// # Errors
    /// The channels are closed.
    pub fn drain(
        &mut self,
        shared: &mut Shared<'_>,
        until: Until,
        refused: bool,
    ) -> Result<Left, Closed> {
        if refused && let Some(stats) = self.stats() {
            self.losses.look(stats);
            let lost = self.losses.read(0);
            self.lost(shared.to, lost);
        }
        for n in 0..PAGES {
            if self.has_room(shared.page.len()) {
                self.full_since = None;
            } else if self.may_wait(shared) {
                return Ok(Left::NoRoom);
            }
            let Some(pipe) = &self.pipe else { return Ok(Left::Nothing) };
            let read = match rustix::io::read(pipe, &mut shared.page) {
                Ok(0) | Err(Errno::AGAIN) if n == 0 => return Ok(Left::NotOne),
                Ok(0) | Err(Errno::AGAIN) => return Ok(Left::Nothing),
                Err(Errno::INTR) => continue,
                Err(e) => {
                    self.gone(&e.into());
                    return Ok(Left::Nothing);
                }
                Ok(n) => n,
            };
            let used = self.page(shared, read)?;
            let enough = match until {
                // What is left is less than half a page: it can wait until it is more.
                Until::Whole => used < shared.page.len() / 2,
                Until::Then(time) => shared.decoded.last().is_some_and(|last| last >= time),
                Until::Empty => false,
            };
            if enough {
                return Ok(Left::Nothing);
            }
        }
        Ok(Left::More)
    }

    /// Whether each channel has room for what a page holds. Our records may be longer than the
    /// kernel's: rare classes have long headers.
    fn has_room(&self, page: usize) -> bool {
        self.streams.iter().all(|s| s.has_room(page as u64 * 2))
    }

    /// Where a channel has no room its records can wait in the kernel's ring, while that is less
    /// than half full, and other channels do not wait with it for long. Then they are read and
    /// lost in that channel: others shall not suffer.
    fn may_wait(&mut self, shared: &Shared<'_>) -> bool {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        (self.streams.len() == 1 || since.elapsed() < PATIENCE)
            && self.stats().is_some_and(|s| s.bytes < shared.ring / 2)
    }

    /// The last look, when the kernel's ring is stopped: all there is, and what was lost.
    ///
    /// # Errors
    /// The channels are closed.
    pub fn finish(&mut self, shared: &mut Shared<'_>) -> Result<(), Closed> {
        self.open();
        (self.full_since, self.again) = (None, Instant::now());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.drain(shared, Until::Empty, true)? {
                Left::Nothing | Left::NotOne => break,
                Left::More => {}
                // No reason to wait any more.
                Left::NoRoom if Instant::now() >= deadline => shared.ring = 0,
                Left::NoRoom => thread::sleep(Duration::from_millis(1)),
            }
        }
        if let Some(stats) = self.stats() {
            let lost = self.losses.end(stats);
            self.lost(shared.to, lost);
            if stats.entries > 0 {
                // Never seen; then it is in the books all the same.
                self.lost(shared.to, stats.entries);
            }
        }
        self.streams.iter().for_each(ImportWriter::switch);
        self.over = true;
        Ok(())
    }

    /// Where nobody came so far as to finish it (its channels were closed, its thread failed):
    /// what the kernel still has and what it lost is in the books of the source, at least.
    pub fn abandon(&mut self, to: &Channels) {
        if !self.over
            && let Some(stats) = self.stats()
        {
            let lost = self.losses.end(stats) + stats.entries;
            to.counts.lost_before.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Takes what is in `shared.page`; gives how many bytes of it were in use.
    fn page(&mut self, shared: &mut Shared<'_>, read: usize) -> Result<usize, Closed> {
        let Shared { formats, to, classes, page, decoded, said, ring: _ } = shared;
        let (formats, to, page) = (*formats, *to, &page[..read]);
        decoded.read(page, formats);
        if let Some(missed) = decoded.missed {
            let mut losses = std::mem::take(&mut self.losses);
            let lost = losses.page(missed, || self.stats());
            self.losses = losses;
            self.lost(to, lost);
        }
        classes.resize_with(formats.len(), || None);
        for i in 0..decoded.len() {
            let (_, place, _) = decoded.event(i, page);
            if classes[place].is_none() {
                // Its form was checked when the source was opened.
                classes[place] = to.class(formats.get(place).class()).ok();
            }
        }
        let mut open = false;
        for (channel, stream) in self.streams.iter_mut().enumerate() {
            let run = stream.write_run_of(decoded.len(), |i| {
                let (time, place, payload) = decoded.event(i, page);
                let class =
                    classes[place].as_ref().map_or(ClassId::from_index(0), |c| c.id(channel));
                GivenRecord { time, class, payload }
            });
            open |= run.is_ok();
        }
        if !open {
            return Err(Closed);
        }
        to.counts.read.fetch_add(decoded.len() as u64, Ordering::Relaxed);
        // In the kernel's page, and nothing that we could name.
        self.lost(to, decoded.unknown + decoded.short);
        if let Some(trouble) = trouble(self.number, decoded)
            && said.is_none_or(|at| at.elapsed() > QUIET)
        {
            *said = Some(Instant::now());
            tracing::warn!("{trouble}");
        }
        let lost = self.losses.read(decoded.len() as u64 + decoded.unknown + decoded.short);
        self.lost(to, lost);
        Ok(used(page))
    }

    /// Counts what the kernel lost, and tells it in each channel at this place.
    fn lost(&mut self, to: &Channels, records: u64) {
        if records > 0 {
            to.counts.lost_before.fetch_add(records, Ordering::Relaxed);
            self.streams.iter_mut().for_each(|s| s.lost_before(records));
        }
    }
}

/// How many bytes of a page are in use: the low bits of its second word.
fn used(page: &[u8]) -> usize {
    let word = page.get(8..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    (word & ((1 << 27) - 1)) as usize
}

/// What is wrong with a page, in words.
fn trouble(cpu: u32, page: &Decoded) -> Option<String> {
    let what = if let Some(broken) = &page.broken {
        format!(
            "a page of the kernel's that is not as it should be: {broken}; the rest of it is lost"
        )
    } else if page.unknown + page.short > 0 {
        let Decoded { unknown, short, .. } = page;
        format!(
            "{unknown} records of events that were not asked for and {short} that are shorter than \
             their format says, counted in lost_before"
        )
    } else if page.damaged > 0 {
        format!("{} fields that lie outside their record, taken as empty", page.damaged)
    } else {
        return None;
    };
    Some(format!("cpu {cpu}: {what}"))
}
