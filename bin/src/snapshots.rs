//! Snapshots of a pipeline that runs: of all its flight recorders into one trace, when somebody
//! asks, at SIGUSR1, at the end. Here is who is asked and in which order; what is written, and
//! how, is `rbpipe_backends::snapshot`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use rbpipe_backends::snapshot::{By, Place, Snapshot};
use rbpipe_core::backend::Context;
use rbpipe_core::drain::{Answer, Ask, Control, Done, Refused};
use rbpipe_core::snapshot::{Snapped, SnapshotPlan};

use crate::status::{count, short};

/// A channel that keeps its records.
#[derive(Clone)]
pub struct Recorder {
    /// Its name.
    pub name: String,
    /// Asks its drain.
    pub control: Control,
    /// When it is copied without being asked by name.
    pub plan: SnapshotPlan,
}

/// All of them.
#[derive(Clone)]
pub struct Recorders {
    context: Arc<Context>,
    channels: Arc<[Recorder]>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub snapped: Snapped,
    /// From the ask to the last byte written.
    pub took: Duration,
    /// Nanoseconds from CLOCK_MONOTONIC's zero to the epoch.
    pub clock_offset: u64,
}

impl Taken {
    /// The times from and to which it goes, in ns since the epoch.
    pub fn times(&self) -> (u64, u64) {
        let epoch = |t: u64| if t == 0 { 0 } else { t.saturating_add(self.clock_offset) };
        (epoch(self.snapped.from), epoch(self.snapped.to))
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let (from, to) = self.times();
        serde_json::json!({
            "path": self.path,
            "streams": self.snapped.streams,
            "packets": self.snapped.packets,
            "events": self.snapped.events,
            "bytes": self.snapped.bytes,
            "from": from,
            "to": to,
            "outrun": self.snapped.outrun,
            "milliseconds": self.took.as_secs_f64() * 1e3,
        })
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.snapped;
        let seconds = s.to.saturating_sub(s.from) as f64 / 1e9;
        write!(
            f,
            "{}: {}, {}, {}, {}B, {seconds:.3} s of records, taken in {:.1} ms",
            self.path.display(),
            count(s.streams, "stream"),
            count(s.packets, "packet"),
            count(s.events, "event"),
            short(s.bytes as f64),
            self.took.as_secs_f64() * 1e3
        )?;
        if s.outrun > 0 {
            write!(
                f,
                "; the writers of {} came round to the newest packet faster than it could be \
                 copied: make the ring larger",
                count(s.outrun, "stream")
            )?;
        }
        Ok(())
    }
}

/// One that its channels have been asked for.
struct Asked {
    snapshot: Arc<Snapshot>,
    begin: Instant,
    replies: Vec<(String, Receiver<Answer>)>,
    clock_offset: u64,
}

impl Recorders {
    /// Of these channels.
    pub fn new(context: Arc<Context>, channels: Vec<Recorder>) -> Self {
        Self { context, channels: channels.into() }
    }

    /// Whether SIGUSR1 means anything to them.
    pub fn listen(&self) -> bool {
        self.channels.iter().any(|c| c.plan.on_signal)
    }

    /// Takes one of all of them, and waits for it.
    ///
    /// # Errors
    /// In one sentence; nothing is left of it.
    pub fn take(&self, to: &Path, by: By) -> anyhow::Result<Taken> {
        ensure!(
            !self.channels.is_empty(),
            "no channel of this pipeline keeps its records, so there is nothing to copy: set \
             `mode = \"overwrite\"` and a backend of `type = \"pages\"` in a channel"
        );
        let all: Vec<&Recorder> = self.channels.iter().collect();
        self.ask(&all, Place::Exactly(to.to_owned()), by, false)?.finish()
    }

    /// Takes those that SIGUSR1 asks for, one for each path.
    pub fn at_signal(&self) {
        for (path, channels) in self.by_path(|plan| plan.on_signal) {
            let taken = self
                .ask(&channels, Place::Numbered(path), By::Write, false)
                .and_then(Asked::finish);
            match taken {
                Ok(taken) => tracing::info!("snapshot {taken}"),
                Err(e) => tracing::error!("snapshot: {e:#}"),
            }
        }
    }

    /// Asks for those of the end, before the channels are told to stop.
    pub fn at_the_end(&self) -> AtTheEnd {
        let by_path = self.by_path(|plan| plan.on_exit).into_iter();
        let ask = |(path, channels): (PathBuf, Vec<&Recorder>)| {
            self.ask(&channels, Place::Numbered(path), By::Write, true)
        };
        AtTheEnd(by_path.map(ask).collect())
    }

    /// Channels whose plan is so, by their path.
    fn by_path(&self, wanted: fn(&SnapshotPlan) -> bool) -> BTreeMap<PathBuf, Vec<&Recorder>> {
        let mut by_path = BTreeMap::<_, Vec<_>>::new();
        for channel in self.channels.iter().filter(|c| wanted(&c.plan)) {
            by_path.entry(channel.plan.path.clone()).or_default().push(channel);
        }
        by_path
    }

    fn ask(
        &self,
        channels: &[&Recorder],
        place: Place,
        by: By,
        at_the_end: bool,
    ) -> anyhow::Result<Asked> {
        let begin = Instant::now();
        let snapshot = Arc::new(Snapshot::begin(&self.context, place, by)?);
        let ask = |c: &&Recorder| {
            let to = Arc::clone(&snapshot) as Arc<_>;
            (c.name.clone(), c.control.request(Ask::Snapshot { to, at_the_end }))
        };
        let replies = channels.iter().map(ask).collect();
        Ok(Asked { snapshot, begin, replies, clock_offset: self.context.clock_offset })
    }
}

impl Asked {
    /// Waits for all channels, and gives the snapshot its name.
    fn finish(self) -> anyhow::Result<Taken> {
        let mut snapped = Snapped::default();
        let mut failed = None;
        // All are waited for: nobody is to write into what is removed.
        for (name, reply) in self.replies {
            match reply.recv() {
                Ok(Ok(Done::Snapped(s))) => snapped = snapped.and(s),
                Ok(Err(Refused::Output(e))) => failed = failed.or(Some(e.into())),
                Ok(_) | Err(_) => {
                    let ended = || anyhow!("channel {name} has ended: there is no snapshot of it");
                    failed = failed.or_else(|| Some(ended()));
                }
            }
        }
        if let Some(e) = failed {
            return Err(e);
        }
        let Some(snapshot) = Arc::into_inner(self.snapshot) else {
            bail!("a channel still writes its snapshot: it is given up");
        };
        let path = snapshot.finish()?;
        let (took, clock_offset) = (self.begin.elapsed(), self.clock_offset);
        Ok(Taken { path, snapped, took, clock_offset })
    }
}

/// The snapshots of the end, on their way.
pub struct AtTheEnd(Vec<anyhow::Result<Asked>>);

impl AtTheEnd {
    /// When the channels have ended: gives what went wrong.
    pub fn finish(self) -> Vec<anyhow::Error> {
        let finish = |asked: anyhow::Result<Asked>| match asked.and_then(Asked::finish) {
            Ok(taken) => {
                tracing::info!("snapshot {taken}");
                None
            }
            Err(e) => Some(e.context("the snapshot at the end")),
        };
        self.0.into_iter().filter_map(finish).collect()
    }
}
