//! One stream's file in a snapshot: packets go there from the ring's memory, in one write each,
//! or in one splice.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rbpipe_core::backend::{BackendError, StreamInfo};
use rbpipe_core::frontend::PacketFacts;
use rbpipe_core::snapshot::{PacketView, SnapshotStream};

use super::Snapshot;
use super::splice::Pipe;
use crate::file::stream_file::StreamFile;

/// One stream's file.
pub(super) struct Stream<'a> {
    snapshot: &'a Snapshot,
    channel: String,
    info: StreamInfo,
    file: Option<StreamFile>,
    pipe: Option<Pipe>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        channel: &str,
        info: &StreamInfo,
        pipe: Option<Pipe>,
    ) -> Self {
        Self { snapshot, channel: channel.to_owned(), info: info.clone(), file: None, pipe }
    }

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
