//! The trace directory: whose it is, and its metadata.
//!
//! Metadata is replaced by rename, before the first packet that needs it is written, so that
//! whoever opens the trace at any moment can read every packet in it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbpipe_core::backend::{BackendError, ChannelPlan, Context, Identity};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};
use rbpipe_core::packet::{MAGIC, StreamClass};

/// What the metadata of every trace that rbpipe writes has in its `env` block.
const OURS: &str = "tracer_name = \"rbpipe\"";
const METADATA: &str = "metadata";
const TEMPORARY: &str = ".metadata.new";

/// A trace directory, shared by the channels that write into it.
pub(super) struct Directory {
    path: PathBuf,
    uuid: [u8; 16],
    name: String,
    clock_offset: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which directory `path` was when it was made: device and inode.
    id: Option<(u64, u64)>,
    /// How often it had to be made anew: a stream file of an earlier one is not in it.
    generation: u64,
    channels: Vec<Member>,
    /// Of the metadata on disk: each channel's classes and stream classes.
    written: Option<Vec<(usize, [bool; 3])>>,
}

struct Member {
    name: String,
    classes: Arc<ClassRegistry>,
    /// Stream classes that have a packet, by [`StreamClass::number`].
    used: [bool; 3],
}

impl Directory {
    /// Makes the directory, or takes over an empty one; one that holds a trace of rbpipe's
    /// only with `overwrite`.
    pub(super) fn open(
        path: &Path,
        overwrite: bool,
        context: &Context,
    ) -> Result<Self, BackendError> {
        prepare(path, overwrite)?;
        let mut uuid = [0; 16];
        random(&mut uuid).map_err(|e| BackendError::io("no random bytes for a uuid", e))?;
        uuid[6] = uuid[6] & 0x0f | 0x40; // RFC 4122, version 4
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let this = Self {
            path: path.to_owned(),
            uuid,
            name: context.pipeline.clone(),
            clock_offset: context.clock_offset,
            state: Mutex::new(State { id: identity(path), ..State::default() }),
        };
        // At once: a trace that nothing was recorded into is a trace, too.
        this.update(&mut this.state(), &[]).map_err(|e| {
            BackendError::io(format!("{}: cannot write metadata", path.display()), e)
        })?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A channel becomes part of the trace; it gets ids of its own for its stream classes
    /// and streams.
    pub(super) fn join(&self, plan: &ChannelPlan) -> Identity {
        let mut state = self.state();
        let place = state.channels.len() as u32;
        state.channels.push(Member {
            name: plan.name.clone(),
            classes: Arc::clone(&plan.classes),
            used: [false; 3],
        });
        Identity {
            uuid: self.uuid,
            first_stream_class: place * StreamClass::ALL.len() as u32,
            first_stream: u64::from(place) << 32,
        }
    }

    /// Brings the metadata on disk up to what packets of this stream class of this channel
    /// may need by now.
    pub(super) fn describe(&self, identity: Identity, class: StreamClass) -> io::Result<()> {
        let mut state = self.state();
        let place = identity.first_stream_class as usize / StreamClass::ALL.len();
        if let Some(member) = state.channels.get_mut(place) {
            member.used[class.number() as usize] = true;
        }
        let wanted: Vec<(usize, [bool; 3])> =
            state.channels.iter().map(|m| (m.classes.len(), m.used)).collect();
        let is = |m: &(usize, [bool; 3])| {
            wanted.get(place).is_some_and(|w| m.0 >= w.0 && m.1[class.number() as usize])
        };
        if state.written.as_ref().is_some_and(|w| w.get(place).is_some_and(is)) {
            return Ok(());
        }
        self.update(&mut state, &wanted)
    }

    fn update(&self, state: &mut State, wanted: &[(usize, [bool; 3])]) -> io::Result<()> {
        let mut streams = Vec::new();
        for (place, member) in state.channels.iter().enumerate() {
            let classes = member.classes.all();
            for class in StreamClass::ALL.into_iter().filter(|c| member.used[c.number() as usize]) {
                streams.push(StreamDescription {
                    id: (place * StreamClass::ALL.len()) as u32 + class.number(),
                    class,
                    channel: member.name.clone(),
                    classes: classes.clone(),
                });
            }
        }
        let text = metadata::write(&TraceDescription {
            uuid: self.uuid,
            name: self.name.clone(),
            hostname: hostname(),
            clock_offset: self.clock_offset,
            streams,
        });
        let temporary = self.path.join(TEMPORARY);
        let result = fs::File::create(&temporary)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, self.path.join(METADATA)));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        } else {
            state.written = Some(wanted.to_vec());
        }
        result
    }

    /// Makes sure that `path` still is the directory that was made; if it was removed or
    /// moved away while the pipeline runs, makes it anew. Gives its generation.
    pub(super) fn ensure(&self) -> io::Result<u64> {
        let mut state = self.state();
        if state.id != identity(&self.path) {
            tracing::warn!(
                "{}: was removed or moved away while the pipeline runs; a new one is begun",
                self.path.display()
            );
            fs::create_dir_all(&self.path)?;
            state.id = identity(&self.path);
            state.generation += 1;
            let wanted: Vec<(usize, [bool; 3])> =
                state.channels.iter().map(|m| (m.classes.len(), m.used)).collect();
            self.update(&mut state, &wanted)?;
        }
        Ok(state.generation)
    }
}

/// Device and inode of the directory at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    fs::File::open("/dev/urandom")?.read_exact(bytes)
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Makes `path` an empty directory of ours, or says why not.
fn prepare(path: &Path, overwrite: bool) -> Result<(), BackendError> {
    let shown = path.display();
    let said = |what: &str| BackendError::new(format!("{shown}: {what}"));
    let failed = |what: &str, e: io::Error| BackendError::io(format!("{shown}: {what}"), e);
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return fs::create_dir_all(path)
                .map_err(|e| failed("cannot make the trace directory", e));
        }
        Err(e) => return Err(failed("cannot be looked at", e)),
        Ok(_) if path.is_dir() => {}
        Ok(_) => return Err(said("is not a directory; name another path")),
    }
    let mut entries = Vec::new();
    let listed = fs::read_dir(path).map_err(|e| failed("cannot be listed", e))?;
    for entry in listed {
        let entry = entry.map_err(|e| failed("cannot be listed", e))?;
        entries.push(entry.path());
    }
    if entries.is_empty() {
        return Ok(());
    }
    let text = fs::read(path.join(METADATA)).unwrap_or_default();
    if !String::from_utf8_lossy(&text).contains(OURS) {
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
    for entry in &entries {
        if !is_ours(entry) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(said(&format!(
                "holds {name:?}, which rbpipe did not write: it is left alone; move it away or \
                 name another path"
            )));
        }
    }
    // Metadata last: until then the directory is recognised as ours.
    entries.sort_by_key(|e| e.file_name().is_some_and(|n| n == METADATA));
    for entry in entries {
        fs::remove_file(&entry).map_err(|e| failed("cannot remove the trace there", e))?;
    }
    Ok(())
}

/// A file that rbpipe puts into a trace: metadata, or a stream file (empty, or packets).
fn is_ours(path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        return false;
    }
    if path.file_name().is_some_and(|n| n == METADATA || n == TEMPORARY) {
        return true;
    }
    let mut magic = [0; 4];
    match fs::File::open(path).and_then(|mut f| f.read(&mut magic)) {
        Ok(0) => true,
        Ok(4) => u32::from_le_bytes(magic) == MAGIC,
        _ => false,
    }
}
