//! One stream's file: whole packets, or nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rbpipe_core::backend::StreamInfo;
use rbpipe_core::packet::{MAGIC, PacketHeader, packet_size};
use rustix::fs::{FallocateFlags, fallocate};

/// Room is asked for in steps that double from here …
const FIRST_STEP: u64 = 1 << 20;
/// … to here, so that a short trace takes little and a long one few system calls.
const LAST_STEP: u64 = 64 << 20;

/// A stream file, open.
pub(crate) struct StreamFile {
    file: File,
    path: PathBuf,
    /// End of the last whole packet, and of the first one, which is the file's own.
    end: u64,
    begin: u64,
    allocated: u64,
    step: u64,
    /// The file system has no fallocate, or no room for it, or zeroes it: not asked (again).
    plain: bool,
    /// Written since the last sync.
    pub(super) dirty: bool,
    /// Which directory it was made in: see `Directory::ensure`.
    pub(super) generation: u64,
}

impl StreamFile {
    /// Makes the file. It begins with an empty packet with sequence number 0, at `start`, where
    /// the stream or its part in this piece begins, so that losses before the first data packet
    /// are told in full.
    pub(crate) fn create(
        directory: &Path,
        generation: u64,
        channel: &str,
        info: &StreamInfo,
        uuid: [u8; 16],
        start: u64,
    ) -> io::Result<Self> {
        let path = directory.join(format!("{channel}_{}", info.id));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let plain = zeroes_room(&file);
        let mut this = Self {
            file,
            path,
            end: 0,
            begin: 0,
            allocated: 0,
            step: FIRST_STEP,
            plain,
            dirty: false,
            generation,
        };
        let size = u64::from(info.class.header_size());
        let header = PacketHeader {
            uuid,
            stream_class: info.class,
            stream_class_id: info.identity.first_stream_class + info.class.number(),
            stream_id: info.identity.first_stream + u64::from(info.id),
            begin: start,
            end: start,
            content_size: size,
            packet_size: packet_size(size),
            sequence: 0,
            discarded: 0,
            origin: info.cpu.unwrap_or(0),
        }
        .encode();
        let mut packet = [0; 128];
        packet[..size as usize].copy_from_slice(&header[..size as usize]);
        let packet = &packet[..packet_size(size) as usize];
        match this.append(&[[packet, &[]]]) {
            (1, _) => {
                this.begin = this.end;
                Ok(this)
            }
            (_, error) => {
                // No file without its beginning: made anew when there is room.
                let _ = std::fs::remove_file(&this.path);
                Err(error.unwrap_or_else(|| ErrorKind::WriteZero.into()))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody removed the file, or cut it: what was in it is not whole any more.
    pub(super) fn is_gone(&self) -> bool {
        // One that was cut just before our last write is as long as it was, and begins with
        // nothing.
        let mut magic = [0; 4];
        let mut begins =
            || self.file.read_at(&mut magic, 0).is_ok_and(|_| magic == MAGIC.to_le_bytes());
        self.file.metadata().is_ok_and(|m| m.nlink() == 0 || m.len() < self.end) || !begins()
    }

    /// Takes its name away, so that another one can have it; not from a stranger's file.
    pub(super) fn give_up(&self) {
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        let mine = self.file.metadata().map(id).ok();
        if mine.is_some() && mine == std::fs::symlink_metadata(&self.path).map(id).ok() {
            // Gone in between: just as well.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Writes packets at the end, in one call where the system takes them so; each in two
    /// parts, of which one may be empty. Gives how many are in the file; the rest is cut off
    /// again, and the reason given.
    pub(crate) fn append(&mut self, packets: &[[&[u8]; 2]]) -> (usize, Option<io::Error>) {
        let length = |p: &[&[u8]; 2]| p[0].len() + p[1].len();
        let total: usize = packets.iter().map(length).sum();
        self.allocate(total as u64);
        self.dirty = true;
        let (mut at, mut first, mut skip) = (self.end, 0, 0);
        let error = loop {
            let Some(next) = packets.get(first) else { break None };
            let after = packets[first + 1..].iter().flatten().copied();
            let slices: Vec<IoSlice<'_>> = rest(*next, skip)
                .into_iter()
                .chain(after)
                .filter(|part| !part.is_empty())
                .take(64)
                .map(IoSlice::new)
                .collect();
            let written = match self.write(&slices, at) {
                Ok(0) => break Some(ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => break Some(e),
            };
            at += written as u64;
            skip += written;
            while let Some(done) = packets.get(first).map(length).filter(|length| skip >= *length) {
                skip -= done;
                self.end += done as u64;
                first += 1;
            }
        };
        if error.is_some() && at > self.end {
            // Back to the last whole packet; what babeltrace2 refuses is a cut one. If even
            // this fails, the next append writes over it, and `end` is where we know.
            let _ = self.file.set_len(self.end);
            self.allocated = self.end;
        }
        (first, error)
    }

    fn write(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        if let [one] = slices {
            return self.file.write_at(one, at);
        }
        Ok(rustix::io::pwritev(&self.file, slices, at)?)
    }

    /// Room ahead (KEEP_SIZE: the file's length stays that of its packets), so that the
    /// file system does not look for it at each write. 1.3 × at 64 KiB, measured.
    fn allocate(&mut self, more: u64) {
        if self.plain || self.end + more <= self.allocated {
            return;
        }
        let from = self.end.max(self.allocated);
        let to = (self.end + more).max(from + self.step);
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, to - from) {
            Ok(()) => {
                self.allocated = to;
                self.step = (self.step * 2).min(LAST_STEP);
            }
            Err(_) => self.plain = true,
        }
    }

    /// Forgets all packets but the file's own first one; their room is used again.
    pub(crate) fn begin_again(&mut self) {
        self.allocated = self.allocated.max(self.end);
        self.end = self.begin;
    }

    /// Whether it has no packet but the file's own.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == self.begin
    }

    /// Makes room for a packet that somebody else writes: into this file, at this place.
    pub(crate) fn make_room(&mut self, len: u64) -> (&File, u64) {
        self.allocate(len);
        self.dirty = true;
        (&self.file, self.end)
    }

    /// That packet is there.
    pub(crate) fn grew(&mut self, len: u64) {
        self.end += len;
    }

    /// Forces what was written to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.dirty = false;
        self.file.sync_data()
    }

    /// Gives back room that was allocated ahead.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if self.is_gone() {
            // To its end it would be filled with zeros, which nobody can read.
            return Err(io::Error::other("it was removed or cut just before the end"));
        }
        if self.allocated > self.end { self.file.set_len(self.end) } else { Ok(()) }
    }
}

/// Whether room is zeroed the moment it is asked for, and so costs as much as writing it: tmpfs
/// (twice the CPU time, measured).
fn zeroes_room(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type as u64 == TMPFS)
}

/// What is left of two parts after so many bytes of them.
fn rest(parts: [&[u8]; 2], skip: usize) -> [&[u8]; 2] {
    let [head, body] = parts;
    let in_head = skip.min(head.len());
    [&head[in_head..], &body[skip - in_head..]]
}
