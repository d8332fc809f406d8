//! What every trace directory of ours has, whoever writes it: an identity, its channels, and
//! their description as text. Not here: whose directory it is, and what happens to it while it
//! is written (`file/directory.rs`, `snapshot.rs`).

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rbpipe_core::backend::{BackendError, ChannelPlan, Context, Identity};
use rbpipe_core::class::ClassRegistry;
use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};
use rbpipe_core::packet::StreamClass;

/// The name of the description in its directory.
pub(crate) const METADATA: &str = "metadata";
/// The name that it is written under.
pub(crate) const TEMPORARY: &str = ".metadata.new";

/// What a trace says of where it comes from.
pub(crate) struct Trace {
    name: String,
    clock_offset: u64,
}

/// A channel that is part of a trace.
pub(crate) struct Member {
    name: String,
    pub(crate) classes: Arc<ClassRegistry>,
}

impl Trace {
    /// One that belongs to this pipeline.
    pub(crate) fn new(context: &Context) -> Self {
        Self { name: context.pipeline.clone(), clock_offset: context.clock_offset }
    }

    /// Writes the description of these channels, each with the stream classes that it has
    /// packets of (by [`StreamClass::number`]): whole, or not at all.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn describe<'a>(
        &self,
        directory: &Path,
        uuid: [u8; 16],
        channels: impl Iterator<Item = (&'a Member, [bool; 3])>,
    ) -> io::Result<()> {
        let mut streams = Vec::new();
        for (place, (member, used)) in channels.enumerate() {
            let classes = member.classes.all();
            for class in StreamClass::ALL.into_iter().filter(|c| used[c.number() as usize]) {
                streams.push(StreamDescription {
                    id: identity(uuid, place).first_stream_class + class.number(),
                    class,
                    channel: member.name.clone(),
                    classes: classes.clone(),
                });
            }
        }
        let text = metadata::write(&TraceDescription {
            uuid,
            name: self.name.clone(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            clock_offset: self.clock_offset,
            streams,
        });
        let temporary = directory.join(TEMPORARY);
        let result = fs::File::create(&temporary)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, directory.join(METADATA)));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }
}

/// Who the channel at `place` is in a trace: ids of its own for its stream classes and streams.
pub(crate) fn identity(uuid: [u8; 16], place: usize) -> Identity {
    Identity {
        uuid,
        first_stream_class: (place * StreamClass::ALL.len()) as u32,
        first_stream: (place as u64) << 32,
    }
}

/// A name that no other trace has.
///
/// # Errors
/// The system has no random bytes.
pub(crate) fn new_uuid() -> Result<[u8; 16], BackendError> {
    let mut uuid = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut uuid))
        .map_err(|e| BackendError::io("no random bytes for a uuid", e))?;
    uuid[6] = uuid[6] & 0x0f | 0x40; // RFC 4122, version 4
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

impl From<&ChannelPlan> for Member {
    fn from(plan: &ChannelPlan) -> Self {
        Self { name: plan.name.clone(), classes: Arc::clone(&plan.classes) }
    }
}
