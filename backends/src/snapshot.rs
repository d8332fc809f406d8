//! A snapshot on disk: a CTF trace directory with what the flight recorders of a pipeline hold.
//!
//! It is written under a name of its own beside the place where it goes, and renamed when it is
//! whole: there is a snapshot, or none. Packets go from the ring's memory to their files in one
//! write each (or one splice), nothing is forced to the disk. All channels that keep their
//! records are in one trace. Not here: what is in the ring and how it is lent (`rbpipe-core`),
//! who asks for a snapshot and when.

mod place;
mod splice;
mod stream;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::{BackendError, ChannelPlan, Context, Identity, StreamInfo};
use rbpipe_core::packet::StreamClass;
use rbpipe_core::snapshot::{SnapshotStream, SnapshotTo};

use crate::trace::{self, Member, Trace, new_uuid};
pub use place::Place;
use place::{may_become, numbered, parent};
use splice::Pipe;
use stream::Stream;

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
        Ok(Box::new(Stream::new(self, channel, info, pipe)))
    }
}

impl Snapshot {
    fn uuid(&self) -> [u8; 16] {
        self.recorders.uuid
    }
}
