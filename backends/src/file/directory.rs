//! The trace directory: whose it is, and its metadata.
//!
//! Metadata is replaced by rename, before the first packet that needs it is written, so that
//! whoever opens the trace at any moment can read every packet in it.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rbpipe_core::backend::{BackendError, ChannelPlan, Context, Identity};
use rbpipe_core::packet::{MAGIC, StreamClass};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use super::chores::Chores;
use super::pieces;
use super::rotation::{Limits, Piece};
use crate::trace::{self, METADATA, Member, TEMPORARY, Trace, new_uuid};

/// What the metadata of every trace that rbpipe writes has in its `env` block.
const OURS: &str = "tracer_name = \"rbpipe\"";

/// No metadata of ours is larger: some hundred thousand event classes.
const LARGEST: u64 = 64 << 20;

/// Who removes the directory is given time to come to an end: a file that is put back in
/// between would be in its way.
const SETTLE: Duration = Duration::from_millis(20);
/// What went wrong is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// A trace directory, shared by the channels that write into it.
pub(super) struct Directory {
    path: PathBuf,
    /// The path as it was first written in the configuration.
    shown: PathBuf,
    /// The first piece's.
    uuid: [u8; 16],
    trace: Trace,
    state: Mutex<State>,
    // The rest is `rotation.rs`'s and `chores.rs`'s. Locked in this order: `piece`, `state`;
    // `chores` alone.
    /// The current piece; read by who writes into it.
    pub(super) piece: RwLock<Piece>,
    /// Bytes in it.
    pub(super) bytes: AtomicU64,
    pub(super) chores: Mutex<Chores>,
}

#[derive(Default)]
pub(super) struct State {
    /// Which directory `path` was when it was made: device and inode.
    pub(super) id: Option<(u64, u64)>,
    /// How often it was made anew: a stream file of an earlier one is not in it.
    generation: u64,
    /// Held for as long as it is written: see [`lock`].
    lock: Option<fs::File>,
    /// When somebody who removes it was last given time.
    settled: Option<Instant>,
    /// Why it could not be made anew, and when that was tried.
    failed: Option<(Instant, String)>,
    /// All channels so far replace what is there.
    overwrite: bool,
    /// What was in it is gone, and it has metadata of ours.
    begun: bool,
    /// With the stream classes that have a packet, by [`StreamClass::number`].
    channels: Vec<(Member, [bool; 3])>,
    /// Of the metadata on disk: each channel's classes and stream classes.
    pub(super) written: Option<Written>,
    /// The number that the current piece gets when it ends.
    pub(super) next_piece: u64,
}

/// Each channel's number of classes, and its stream classes.
type Written = Vec<(usize, [bool; 3])>;

impl State {
    /// What metadata is to describe by now.
    pub(super) fn wanted(&self) -> Written {
        self.channels.iter().map(|(m, used)| (m.classes.len(), *used)).collect()
    }

    /// Another directory is at `path` now.
    pub(super) fn begun_anew(&mut self, path: &Path, lock: Option<fs::File>) {
        self.lock = lock;
        self.id = identity(path);
        self.generation += 1;
        self.failed = None;
    }
}

/// Makes the directory if there is none. Gives its one name, however `path` is written.
pub(super) fn find(path: &Path) -> Result<PathBuf, BackendError> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(m) if m.is_dir() => {}
        Ok(_) => {
            let message = format!("{shown}: is not a directory; name another path");
            return Err(BackendError::new(message));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => fs::create_dir_all(path).map_err(|e| {
            BackendError::io(format!("{shown}: cannot make the trace directory"), e)
        })?,
        Err(e) => return Err(BackendError::io(format!("{shown}: cannot be looked at"), e)),
    }
    fs::canonicalize(path).map_err(|e| BackendError::io(format!("{shown}: cannot be found"), e))
}

impl Directory {
    /// The directory at `path` (see [`find`]), locked. Changes nothing in it.
    pub(super) fn open(
        path: &Path,
        shown: PathBuf,
        context: &Context,
    ) -> Result<Self, BackendError> {
        let lock = lock(path)?;
        let uuid = new_uuid()?;
        let state = State { id: identity(path), lock, overwrite: true, ..State::default() };
        Ok(Self {
            path: path.to_owned(),
            shown,
            uuid,
            trace: Trace::new(context),
            state: Mutex::new(state),
            piece: RwLock::new(Piece::first(uuid)),
            bytes: AtomicU64::new(0),
            chores: Mutex::default(),
        })
    }

    /// Whether a channel may write into it: it is empty, or, with `overwrite`, holds a trace
    /// of rbpipe's. It is replaced only if all channels that share it say so.
    pub(super) fn may_write(&self, overwrite: bool, limits: Limits) -> Result<(), BackendError> {
        self.state().overwrite &= overwrite;
        let mut piece = self.piece.write().unwrap_or_else(PoisonError::into_inner);
        piece.limits = piece.limits.merge(limits).map_err(|key| {
            let shown = self.path.display();
            BackendError::new(format!("{shown}: its channels differ in `{key}`: say one of them"))
        })?;
        if piece.limits.any() {
            pieces::refuse(&self.path)?;
        }
        examine(&self.path, overwrite).map(|_| ())
    }

    /// Removes the trace that is there, and begins this one. Once for all channels, and only
    /// when every output of the pipeline could be opened.
    pub(super) fn begin(&self) -> Result<(), BackendError> {
        let mut state = self.state();
        if state.begun {
            return Ok(());
        }
        let entries = examine(&self.path, state.overwrite)?;
        let shown = self.path.display();
        for entry in entries {
            fs::remove_file(&entry).map_err(|e| {
                BackendError::io(format!("{shown}: cannot remove the trace there"), e)
            })?;
        }
        if state.overwrite {
            self.remove_pieces();
        }
        let there = pieces::numbers(&self.path).unwrap_or_default();
        state.next_piece = there.last().map_or(1, |last| last.saturating_add(1));
        // At once: a trace that nothing was recorded into is a trace, too.
        self.update(&mut state, self.uuid, &Written::new())
            .map_err(|e| BackendError::io(format!("{shown}: cannot write metadata"), e))?;
        state.begun = true;
        drop(state);
        self.first_begins();
        Ok(())
    }

    /// The pieces of the trace that is replaced, and what a killed pipeline left of one.
    fn remove_pieces(&self) {
        let there = pieces::numbers(&self.path).unwrap_or_default();
        let there = there.into_iter().map(|number| pieces::name(&self.path, number));
        let next = pieces::next(&self.path);
        let _ = fs::remove_file(next.join(TEMPORARY));
        for piece in there.chain([next]) {
            match pieces::remove_ours(&piece) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    tracing::warn!("{}: is not removed: {e}", piece.display());
                }
                _ => {}
            }
        }
    }

    /// The path as it was first written in the configuration.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A channel becomes part of the trace; it gets ids of its own for its stream classes
    /// and streams.
    pub(super) fn join(&self, plan: &ChannelPlan) -> Identity {
        let mut state = self.state();
        state.channels.push((plan.into(), [false; 3]));
        trace::identity(self.uuid, state.channels.len() - 1)
    }

    /// Brings the metadata on disk up to what packets of this stream class of this channel
    /// may need by now.
    pub(super) fn describe(
        &self,
        piece: &Piece,
        identity: Identity,
        class: StreamClass,
    ) -> io::Result<()> {
        let uuid = piece.uuid;
        let mut state = self.state();
        let place = identity.first_stream_class as usize / StreamClass::ALL.len();
        if let Some((_, used)) = state.channels.get_mut(place) {
            used[class.number() as usize] = true;
        }
        let wanted = state.wanted();
        let is = |m: &(usize, [bool; 3])| {
            wanted.get(place).is_some_and(|w| m.0 >= w.0 && m.1[class.number() as usize])
        };
        if state.written.as_ref().is_some_and(|w| w.get(place).is_some_and(is)) {
            return Ok(());
        }
        self.update(&mut state, uuid, &wanted)
    }

    fn update(&self, state: &mut State, uuid: [u8; 16], wanted: &Written) -> io::Result<()> {
        self.update_in(&self.path, uuid, state, wanted)
    }

    /// Writes the metadata of the piece in `directory`.
    pub(super) fn update_in(
        &self,
        directory: &Path,
        uuid: [u8; 16],
        state: &mut State,
        wanted: &Written,
    ) -> io::Result<()> {
        let channels = state.channels.iter().map(|(member, used)| (member, *used));
        self.trace.describe(directory, uuid, channels)?;
        state.written = Some(wanted.clone());
        Ok(())
    }

    /// Makes sure that `path` still is the directory that was made, with its metadata; if
    /// somebody removed it or moved it away while the pipeline runs, makes it anew. Gives its
    /// generation.
    pub(super) fn ensure(&self, piece: &Piece) -> io::Result<u64> {
        let mut state = self.state();
        let damage = |state: &State| {
            let moved = state.id != identity(&self.path);
            (moved || !self.path.join(METADATA).exists()).then_some(moved)
        };
        if damage(&state).is_none() {
            state.failed = None;
            return Ok(state.generation);
        }
        // What failed just now fails again, for every stream that asks.
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < AGAIN) {
            return Err(io::Error::other(why.clone()));
        }
        settle(&mut state);
        let Some(moved) = damage(&state) else { return Ok(state.generation) };
        let result = self.make_anew(&mut state, piece.uuid, moved);
        state.failed = result.as_ref().err().map(|e| (Instant::now(), e.to_string()));
        result
    }

    /// Gives whoever removes files here time to come to an end.
    pub(super) fn settle(&self) {
        settle(&mut self.state());
    }

    fn make_anew(&self, state: &mut State, uuid: [u8; 16], moved: bool) -> io::Result<u64> {
        if moved {
            fs::create_dir_all(&self.path)?;
            // Another pipeline's by now, or somebody else's: not ours to write into.
            let lock = lock(&self.path).map_err(io::Error::other)?;
            if fs::read_dir(&self.path)?.next().is_some() {
                return Err(io::Error::other("another directory has its place, and is not empty"));
            }
            state.begun_anew(&self.path, lock);
        }
        let wanted = state.wanted();
        self.update(state, uuid, &wanted)?;
        let what = if moved { "" } else { "its metadata " };
        tracing::warn!(
            "{}: {what}was removed or moved away while the pipeline runs; a new one is begun",
            self.path.display()
        );
        Ok(state.generation)
    }
}

/// Locks a directory for one writer, so that no second pipeline replaces a trace that is
/// being written. The lock goes with the process, however it ends. `None`: a file system
/// without locks.
pub(super) fn lock(path: &Path) -> Result<Option<fs::File>, BackendError> {
    let shown = path.display();
    let directory = fs::File::open(path)
        .map_err(|e| BackendError::io(format!("{shown}: cannot be opened"), e))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(Errno::WOULDBLOCK) => Err(BackendError::new(format!(
            "{shown}: another pipeline writes into it: name another path, or stop that one"
        ))),
        Err(_) => Ok(None),
    }
}

fn settle(state: &mut State) {
    // Once for all files that are found missing.
    if state.settled.is_none_or(|at| at.elapsed() >= AGAIN) {
        thread::sleep(SETTLE);
        state.settled = Some(Instant::now());
    }
}

/// Device and inode of the directory at `path`.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

/// What is in `path`, if all of it may be removed; or why not.
pub(super) fn examine(path: &Path, overwrite: bool) -> Result<Vec<PathBuf>, BackendError> {
    let shown = path.display();
    let said = |what: &str| BackendError::new(format!("{shown}: {what}"));
    let failed = |what: &str, e: io::Error| BackendError::io(format!("{shown}: {what}"), e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| failed("cannot be listed", e))? {
        entries.push(entry.map_err(|e| failed("cannot be listed", e))?.path());
    }
    if entries.is_empty() {
        return Ok(entries);
    }
    let text = read_metadata(path).unwrap_or_default();
    if !text.contains(OURS) {
        return Err(said(
            "exists and is no trace that rbpipe wrote: it is left alone; name another path",
        ));
    }
    if !overwrite {
        return Err(said(
            "holds a trace already: set `overwrite = true` to replace it, or name another path",
        ));
    }
    // All or nothing: first look at everything, then remove.
    if let Some(other) = entries.iter().find(|entry| !is_ours(entry, &text)) {
        let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(said(&format!(
            "holds {name:?}, which rbpipe did not write: it is left alone; move it away or name \
             another path"
        )));
    }
    // Metadata last: who removes is interrupted, and until then the directory is recognised.
    entries.sort_by_key(|e| e.file_name().is_some_and(|n| n == METADATA));
    Ok(entries)
}

/// The text of a trace directory's metadata.
///
/// # Errors
/// There is none, or what is there is no file, or none of a size that metadata has.
pub fn read_metadata(directory: &Path) -> io::Result<String> {
    let path = directory.join(METADATA);
    // A named pipe would keep the reader waiting, a device never end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(open(&path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || found.len() > LARGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, "metadata is no file of a usual size"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that rbpipe put into the trace of this metadata: metadata, or a stream file (by its
/// name; empty, or packets with the trace's uuid).
fn is_ours(path: &Path, metadata: &str) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        return false;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name == METADATA || name == TEMPORARY {
        return true;
    }
    let is_stream = name.rsplit_once('_').is_some_and(|(channel, id)| {
        !channel.is_empty() && !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
    });
    let mut head = [0; 20];
    match fs::File::open(path).and_then(|mut f| f.read(&mut head)) {
        Ok(0) => is_stream,
        Ok(20) => {
            let uuid: String = head[4..].iter().map(|b| format!("{b:02x}")).collect();
            is_stream
                && head[..4] == MAGIC.to_le_bytes()
                && metadata.replace('-', "").contains(&format!("uuid = \"{uuid}\""))
        }
        _ => false,
    }
}
