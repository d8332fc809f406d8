//! What is measured: one case is one line of the table.

use rbpipe_core::channel::Streams;
use rbpipe_core::frontend::Mode;

/// One way to write into a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// What a full ring does.
    pub mode: Mode,
    /// Bytes of each record, its header apart.
    pub payload: usize,
    /// Threads that write.
    pub writers: u32,
    /// Which streams.
    pub streams: StreamKind,
    /// Whether packets are taken while it is written.
    pub reader: bool,
    /// Bytes of a sub-buffer.
    pub subbuf_size: u64,
    /// How many of them.
    pub subbuf_count: u32,
    /// Channels, into which each writer writes in turn.
    pub channels: u32,
    /// Event classes in use, in turn.
    pub classes: u32,
}

/// Which streams a channel has, by its name in a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamKind {
    PerCpu,
    PerThread,
    Single,
}

impl StreamKind {
    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerCpu => "per-cpu",
            Self::PerThread => "per-thread",
            Self::Single => "single",
        }
    }

    /// For so many writers.
    pub fn streams(self, writers: u32) -> Streams {
        match self {
            Self::PerCpu => Streams::PerCpu,
            Self::PerThread => Streams::PerThread(writers),
            Self::Single => Streams::Single,
        }
    }
}

impl Case {
    /// One writer with a reader, in a ring of the usual size.
    pub fn new(mode: Mode, payload: usize) -> Self {
        Self {
            mode,
            payload,
            writers: 1,
            streams: StreamKind::PerCpu,
            reader: true,
            subbuf_size: 256 << 10,
            subbuf_count: 8,
            channels: 1,
            classes: 1,
        }
    }
}

/// All cases of one backend: each mode with each payload; and, with one payload, what changes
/// with the streams' kind, with more writers, and without a reader.
pub fn all(payloads: &[usize], modes: &[Mode], most_writers: u32) -> Vec<Case> {
    let mut cases: Vec<_> =
        modes.iter().flat_map(|m| payloads.iter().map(|p| Case::new(*m, *p))).collect();
    let payload = if payloads.contains(&32) { 32 } else { payloads[0] };
    let base = Case::new(modes[0], payload);
    for streams in [StreamKind::PerThread, StreamKind::Single] {
        cases.push(Case { streams, ..base });
    }
    let mut writers = 2;
    while writers <= most_writers {
        cases.push(Case { writers, ..base });
        writers *= 2;
    }
    // Where nothing is taken, only the ring that goes round is of interest.
    if modes.contains(&Mode::Overwrite) {
        cases.push(Case { reader: false, ..Case::new(Mode::Overwrite, payload) });
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_and_payload_once_and_each_variation() {
        let cases = all(&[8, 32], &Mode::ALL, 5);
        assert_eq!(cases.len(), 3 * 2 + 2 + 2 + 1);
        for (i, a) in cases.iter().enumerate() {
            assert!(!cases[..i].contains(a), "{a:?} twice");
        }
        assert!(cases.iter().any(|c| c.writers == 4 && c.payload == 32));
        // Without 32 bytes, without overwrite mode: the first of what there is.
        let cases = all(&[100], &[Mode::Block], 1);
        assert_eq!(cases.len(), 3);
        assert!(cases.iter().all(|c| c.payload == 100 && c.mode == Mode::Block && c.reader));
    }
}
