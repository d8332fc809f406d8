//! A trace that a test writes by hand, packet by packet, as slowly or as badly as it likes.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbpipe_core::class::{EventClass, Field, FieldType};
use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};
use rbpipe_core::packet::{PacketHeader, RecordHeader, StreamClass, packet_size};
use rustix::fs::{FlockOperation, flock};

/// A trace being written: locked for as long as this lives.
pub struct Growing {
    /// Where it is.
    pub path: PathBuf,
    classes: Vec<Arc<EventClass>>,
    clock_offset: u64,
    lock: File,
}

/// The event `t:NAME` with `seq` and `text`.
#[must_use]
pub fn class(name: &str) -> EventClass {
    let fields = vec![Field::new("seq", FieldType::U64), Field::new("text", FieldType::String)];
    EventClass::new(format!("t:{name}"), fields)
}

impl Growing {
    /// A trace with one event class, `t:e`, whose clock begins at the epoch.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self::with(path, vec![class("e")], 0)
    }

    /// A trace with these event classes.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn with(path: &Path, classes: Vec<EventClass>, clock_offset: u64) -> Self {
        fs::create_dir_all(path).expect("a directory");
        let lock = File::open(path).expect("a directory");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else writes it");
        let classes = classes.into_iter().map(Arc::new).collect();
        let this = Self { path: path.to_owned(), classes, clock_offset, lock };
        this.describe();
        this
    }

    /// Another event class: `t:NAME`, whose id is the number of those before.
    pub fn add_class(&mut self, name: &str) {
        self.classes.push(Arc::new(class(name)));
        self.describe();
    }

    fn describe(&self) {
        let text = metadata::write(&TraceDescription {
            uuid: [7; 16],
            name: "grows".into(),
            hostname: "here".into(),
            clock_offset: self.clock_offset,
            streams: vec![StreamDescription {
                id: 0,
                class: StreamClass::Cpu,
                channel: "c".into(),
                classes: self.classes.clone(),
            }],
        });
        let new = self.path.join(".metadata.new");
        fs::write(&new, text).expect("written");
        fs::rename(&new, self.path.join("metadata")).expect("renamed");
    }

    /// The file of a stream, whatever the directory is called by now.
    #[must_use]
    pub fn file(&self, stream: u64) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/c_{stream}", self.lock.as_raw_fd()))
    }

    /// Writes bytes at the end of a stream's file.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn append(&self, stream: u64, bytes: &[u8]) {
        let path = self.file(stream);
        let file = File::options().create(true).append(true).open(path).expect("opened");
        let end = file.metadata().expect("a length").len();
        file.write_all_at(bytes, end).expect("written");
    }

    /// Writes a packet with these records at the end of its stream's file.
    pub fn packet(&self, stream: u64, sequence: u64, records: &[(u64, u32, u64, &str)]) {
        self.append(stream, &packet(stream, sequence, 0, records));
    }
}

/// A packet's bytes. Records: time, class, `seq`, `text`.
#[must_use]
pub fn packet(
    stream: u64,
    sequence: u64,
    discarded: u64,
    records: &[(u64, u32, u64, &str)],
) -> Vec<u8> {
    let payload = |seq: &u64, text: &str| [&seq.to_le_bytes(), text.as_bytes(), &[0]].concat();
    let records = records.iter().map(|(t, class, seq, text)| (*t, *class, payload(seq, text)));
    packet_of(stream, sequence, discarded, &records.collect::<Vec<_>>())
}

/// A packet's bytes. Records: time, class, payload.
#[must_use]
pub fn packet_of(
    stream: u64,
    sequence: u64,
    discarded: u64,
    records: &[(u64, u32, Vec<u8>)],
) -> Vec<u8> {
    let size = StreamClass::Cpu.header_size() as usize;
    let mut bytes = vec![0; size];
    for (time, class, payload) in records {
        bytes.extend(RecordHeader::extended(*class, *time));
        bytes.extend(payload);
    }
    let content = bytes.len() as u64;
    bytes.resize(packet_size(content) as usize, 0);
    let header = PacketHeader {
        uuid: [7; 16],
        stream_class: StreamClass::Cpu,
        stream_class_id: 0,
        stream_id: stream,
        begin: records.first().map_or(0, |r| r.0),
        end: records.last().map_or(0, |r| r.0),
        content_size: content,
        packet_size: packet_size(content),
        sequence,
        discarded,
        origin: stream as u32,
    };
    bytes[..size].copy_from_slice(&header.encode()[..size]);
    bytes
}
