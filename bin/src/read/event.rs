//! An event as it is printed and asked about, wherever it lies: in a packet of a trace, or just
//! come over a line.

use std::sync::Arc;

use rbpipe_core::class::EventClass;
use rbpipe_core::packet::{PacketHeader, StreamClass};

/// The stream that something is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub stream: u64,
    /// What the number is.
    pub class: StreamClass,
    /// The CPU, or the thread; 0 where there is neither.
    pub number: u32,
}

impl Origin {
    /// Its CPU.
    #[inline]
    #[must_use]
    pub fn cpu(&self) -> Option<u32> {
        (self.class == StreamClass::Cpu).then_some(self.number)
    }
}

impl From<&PacketHeader> for Origin {
    #[inline]
    fn from(header: &PacketHeader) -> Self {
        Self { stream: header.stream_id, class: header.stream_class, number: header.origin }
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// Whose.
    pub from: Origin,
    /// What its fields are.
    pub class: &'a Arc<EventClass>,
    /// Their bytes.
    pub payload: &'a [u8],
}

/// What is missing of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub from: Origin,
    /// Events.
    pub events: u64,
    /// Packets, with how many events nobody knows.
    pub packets: u64,
    /// Where the events were lost, of those that came over a line: at the sender, on the line.
    pub on_the_way: Option<(u64, u64)>,
}
