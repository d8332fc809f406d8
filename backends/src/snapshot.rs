//! A snapshot on disk: a CTF trace directory with what the flight recorders of a pipeline hold.
//!
//! It is written under a name of its own beside the place where it goes, and renamed when it is
//! whole: there is a snapshot, or none. Packets go from the ring's memory to their files in one
//! write each (or one splice), nothing is forced to the disk. All channels that keep their
//! records are in one trace. Not here: what is in the ring and how it is lent (`rbpipe-core`),
//! who asks for a snapshot and when.

mod splice;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::{BackendError, ChannelPlan, Context, Identity, StreamInfo};
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::packet::StreamClass;
use rbpipe_core::snapshot::{PacketView, SnapshotStream, SnapshotTo};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::file::stream_file::StreamFile;
use crate::trace::{self, Member, Trace, new_uuid};
use splice::Pipe;

/// The channels of a pipeline that keep their records: one trace.
pub(crate) struct Recorders {
    trace: Trace,
    uuid: [u8; 16],
    members: Mutex<Vec<Arc<Member>>>,
}

impl Recorders {
    /// Those of this pipeline.
    pub(crate) fn of(context: &Context) -> Result<Arc<Self>, BackendError> {
        context.shared("snapshots", || {
            Ok(Self { trace: Trace::new(context), uuid: new_uuid()?, members: Mutex::default() })
        })
    }

    /// A channel becomes one of them.
    pub(crate) fn join(&self, plan: &ChannelPlan) -> Identity {
        let mut members = lock(&self.members);
        members.push(Arc::new(plan.into()));
        trace::identity(self.uuid, members.len() - 1)
    }
}

/// Which name a snapshot gets in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This one: a directory that does not exist yet, or is empty.
    Exactly(PathBuf),
    /// This one and the next free number: `snapshot.1`, `snapshot.2`, ….
    Numbered(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Exactly(path) | Self::Numbered(path) => path,
        }
    }
}

/// How packets get into their files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// write(2) from the ring's memory.
    #[default]
    Write,
    /// splice(2) from the memfd that is the ring's memory: nothing else will do.
    Splice,
}

/// A snapshot being written; dropped before its end, nothing is left of it.
pub struct Snapshot {
    recorders: Arc<Recorders>,
    /// Those that were there when it began.
    members: Vec<Arc<Member>>,
    place: Place,
    by: By,
    /// Where it is written; `None`: it has been renamed.
    temporary: Option<PathBuf>,
    /// Stream classes that have a packet, by channel.
    used: Mutex<Vec<[bool; 3]>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Begins one: looks whether it may go where it is to go, and makes its directory beside.
    ///
    /// # Errors
    /// In one sentence what is in the way.
    pub fn begin(context: &Context, place: Place, by: By) -> Result<Self, BackendError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = place.path();
        let shown = path.display();
        let (Some(name), false) = (path.file_name(), path.as_os_str().is_empty()) else {
            let message = format!("{shown}: names no directory that a snapshot could become");
            return Err(BackendError::new(message));
        };
        if let Place::Exactly(path) = &place {
            may_become(path)?;
        }
        let parent = parent(path);
        fs::create_dir_all(parent).map_err(|e| {
            BackendError::io(format!("{}: cannot make the directory", parent.display()), e)
        })?;
        let mut beside = OsString::from(".");
        beside.push(name);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        beside.push(format!(".{}-{number}.new", std::process::id()));
        let temporary = parent.join(beside);
        fs::create_dir(&temporary).map_err(|e| {
            let message = format!("{}: cannot make the snapshot's directory", temporary.display());
            BackendError::io(message, e)
        })?;
        let recorders = Recorders::of(context)?;
        let members = lock(&recorders.members).clone();
        let used = Mutex::new(vec![[false; 3]; members.len()]);
        Ok(Self { recorders, members, place, by, temporary: Some(temporary), used })
    }

    /// Describes what was written and gives it its name; gives that.
    ///
    /// # Errors
    /// In one sentence; nothing is left of it.
    pub fn finish(mut self) -> Result<PathBuf, BackendError> {
        let Some(temporary) = &self.temporary else { return Ok(self.place.path().to_owned()) };
        let shown = self.place.path().display();
        let used = lock(&self.used).clone();
        let channels = self.members.iter().map(|m| &**m).zip(used);
        self.recorders
            .trace
            .describe(temporary, self.recorders.uuid, channels)
            .map_err(|e| BackendError::io(format!("{shown}: cannot write metadata"), e))?;
        let path = match &self.place {
            Place::Exactly(path) => {
                // Onto nothing, or onto an empty directory: rename takes no other.
                fs::rename(temporary, path).map_err(|e| {
                    BackendError::io(format!("{shown}: the snapshot cannot be put there"), e)
                })?;
                path.clone()
            }
            Place::Numbered(path) => numbered(temporary, path)
                .map_err(|e| BackendError::io(format!("{shown}.N: cannot be made"), e))?,
        };
        self.temporary = None;
        Ok(path)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take()
            && let Err(e) = fs::remove_dir_all(&temporary)
        {
            let shown = temporary.display();
            tracing::error!("{shown}: half a snapshot is left, and cannot be removed: {e}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a snapshot may become `path`.
fn may_become(path: &Path) -> Result<(), BackendError> {
    let shown = path.display();
    let message = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BackendError::io(format!("{shown}: cannot be looked at"), e)),
        Ok(m) if m.is_dir() => match fs::read_dir(path).map(|mut d| d.next().is_none()) {
            Ok(true) => return Ok(()),
            Ok(false) => "is not empty: a snapshot replaces nothing; name another directory",
            Err(e) => return Err(BackendError::io(format!("{shown}: cannot be listed"), e)),
        },
        Ok(_) => "exists and is no directory; name another one",
    };
    Err(BackendError::new(format!("{shown}: {message}")))
}

/// Gives the snapshot the first number that is free, whoever else takes numbers.
fn numbered(temporary: &Path, path: &Path) -> io::Result<PathBuf> {
    for number in 1..u64::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let to = PathBuf::from(name);
        match renameat_with(CWD, temporary, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(to),
            Err(Errno::EXIST) => {}
            // A file system that cannot promise it: as well as it goes.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if fs::symlink_metadata(&to).is_err() {
                    fs::rename(temporary, &to)?;
                    return Ok(to);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

impl SnapshotTo for Snapshot {
    fn stream(
        &self,
        channel: &str,
        info: &StreamInfo,
    ) -> Result<Box<dyn SnapshotStream + '_>, BackendError> {
        let place = info.identity.first_stream_class as usize / StreamClass::ALL.len();
        let mut used = lock(&self.used);
        let Some(used) = used.get_mut(place).filter(|_| info.identity.uuid == self.uuid()) else {
            return Err(BackendError::new(format!(
                "channel {channel} is not among those that keep their records"
            )));
        };
        used[info.class.number() as usize] = true;
        let pipe = match self.by {
            By::Write => None,
            By::Splice => {
                Some(Pipe::new().map_err(|e| BackendError::io("no pipe to splice through", e))?)
            }
        };
        let (channel, info) = (channel.to_owned(), info.clone());
        Ok(Box::new(Stream { snapshot: self, channel, info, file: None, pipe }))
    }
}

impl Snapshot {
    fn uuid(&self) -> [u8; 16] {
        self.recorders.uuid
    }
}

/// One stream's file.
struct Stream<'a> {
    snapshot: &'a Snapshot,
    channel: String,
    info: StreamInfo,
    file: Option<StreamFile>,
    pipe: Option<Pipe>,
}

impl Stream<'_> {
    fn failed(&self, e: io::Error) -> BackendError {
        let shown = self.snapshot.place.path().display();
        let message = format!(
            "{shown}: stream {} of channel {} cannot be written, so there is no snapshot",
            self.info.id, self.channel
        );
        BackendError::io(message, e)
    }
}

impl SnapshotStream for Stream<'_> {
    fn begin_again(&mut self) {
        if let Some(file) = &mut self.file {
            file.begin_again();
        }
    }

    fn packet(&mut self, facts: &PacketFacts, packet: PacketView<'_>) -> Result<(), BackendError> {
        let mut file = match (self.file.take(), &self.snapshot.temporary) {
            (Some(file), _) => file,
            (None, Some(directory)) => {
                let (info, uuid) = (&self.info, self.snapshot.uuid());
                // Records that bring their own time may be older than their stream.
                let start = info.start.min(facts.begin);
                StreamFile::create(directory, 0, &self.channel, info, uuid, start)
                    .map_err(|e| self.failed(e))?
            }
            (None, None) => return Err(self.failed(ErrorKind::NotFound.into())),
        };
        let written = match (&self.pipe, packet.file) {
            (None, _) => match file.append(&[[packet.bytes, &[]]]) {
                (1, _) => Ok(()),
                (_, error) => Err(error.unwrap_or_else(|| ErrorKind::WriteZero.into())),
            },
            (Some(pipe), Some((memory, at))) => {
                let (to, end) = file.make_room(packet.bytes.len() as u64);
                let spliced = pipe.carry(memory, at, to.as_fd(), end, packet.bytes.len() as u64);
                spliced.map(|()| file.grew(packet.bytes.len() as u64))
            }
            (Some(_), None) => {
                return Err(BackendError::new(format!(
                    "channel {}: its memory cannot be spliced: set `memory = \"memfd\"` in its \
                     backend, or ask without --splice",
                    self.channel
                )));
            }
        };
        self.file = Some(file);
        written.map_err(|e| self.failed(e))
    }

    fn finish(&mut self) -> Result<(), BackendError> {
        let closed = match &mut self.file {
            // Writers were faster than each try.
            Some(file) if file.is_empty() => fs::remove_file(file.path()),
            Some(file) => file.close(),
            None => Ok(()),
        };
        closed.map_err(|e| self.failed(e))
    }
}
