//! Records as bytes: lines, or frames of the link.

use std::sync::Arc;

use rbpipe_core::backend::{BackendError, Context};
use rbpipe_core::class::EventClass;
use rbpipe_core::packet::StreamClass;

use super::config::{Config, Format};
use super::lane::Lane;
use super::text::Lines;
use crate::link::{Encoder, LinkOptions, LinkRecord, LinkStream, Totals};
use crate::trace::new_uuid;

/// See above.
pub(super) enum Encode {
    /// Lines.
    Text(Lines),
    /// Frames.
    Link(Box<Encoder>),
}

impl Encode {
    /// As the configuration says.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new(config: &Config, context: &Context) -> Result<Self, BackendError> {
        let tick = u64::try_from(config.tick.0.as_nanos()).unwrap_or(1_000_000).max(1);
        if config.format == Format::Text {
            return Ok(Self::Text(Lines::new(tick, config.frame as usize, config.colour)));
        }
        let random = new_uuid()?;
        let session = random.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let announce_every = config.announce_every.0.as_nanos();
        Ok(Self::Link(Box::new(Encoder::new(LinkOptions {
            tick,
            frame: config.frame as usize,
            announce_every: u64::try_from(announce_every).unwrap_or(u64::MAX),
            session,
            clock_offset: context.clock_offset,
            baud: config.baud,
            mixed: config.format == Format::Mixed,
        }))))
    }

    /// Whether the other side is told what became of all records, and so finds out for itself
    /// what was lost on the line.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Link(_))
    }

    /// A stream that is new; its number.
    pub(super) fn stream(
        &mut self,
        channel: &str,
        id: u32,
        class: StreamClass,
        cpu: Option<u32>,
    ) -> u32 {
        match self {
            Self::Text(_) => 0,
            Self::Link(link) => {
                let cpu = cpu.filter(|_| class == StreamClass::Cpu);
                link.stream(LinkStream { channel: channel.to_owned(), id, cpu })
            }
        }
    }

    /// The port was opened again.
    pub(super) fn reopened(&mut self) {
        if let Self::Link(link) = self {
            link.reopened();
        }
    }

    /// All is announced anew.
    pub(super) fn resync(&mut self) {
        if let Self::Link(link) = self {
            link.resync();
        }
    }

    /// What is due whatever is sent.
    pub(super) fn due(&mut self, now: u64, out: &mut Vec<u8>) {
        if let Self::Link(link) = self {
            link.due(now, out);
        }
    }

    /// So many of a lane's records make a frame, at a guess.
    pub(super) fn typical(&self, lane: &Lane) -> usize {
        match self {
            Self::Text(lines) => lines.typical(),
            Self::Link(link) => link.typical(lane.number),
        }
        .max(1)
    }

    /// One frame of these records; gives how many it took, and how many of them do not go out
    /// and are told as lost.
    pub(super) fn frame(
        &mut self,
        lane: &Lane,
        now: u64,
        classes: &[Arc<EventClass>],
        records: &[LinkRecord<'_>],
        out: &mut Vec<u8>,
    ) -> (usize, u64) {
        match self {
            Self::Text(lines) => (lines.frame(lane.info.cpu, classes, records, out), 0),
            Self::Link(link) => {
                let before = link.too_big(lane.number);
                let taken = link.frame(lane.number, now, classes, records, out);
                (taken, link.too_big(lane.number) - before)
            }
        }
    }

    /// Tells what became of a lane's records. In text that is what is missing after the last.
    pub(super) fn totals(&mut self, lane: &mut Lane, last: bool, out: &mut Vec<u8>) {
        let totals = lane.totals(last);
        match self {
            Self::Text(lines) => {
                if lane.untold() > 0 && (last || lane.in_hand() == 0) {
                    lines.lost(lane.tell(), lane.info.cpu, out);
                }
            }
            Self::Link(link) => {
                // Those that were too big for a frame it adds to the lost ones itself.
                let too_big = link.too_big(lane.number);
                let totals = Totals { overwritten: totals.overwritten - too_big, ..totals };
                if last || lane.told.is_none_or(|told: Totals| told != totals) {
                    link.totals(lane.number, &totals, last, out);
                    lane.told = Some(totals);
                }
            }
        }
    }

    /// Answers the other side.
    pub(super) fn reply(&mut self, line: &str, out: &mut Vec<u8>) {
        match self {
            Self::Text(lines) => lines.reply(line, out),
            Self::Link(link) => link.reply(line, out),
        }
    }
}
