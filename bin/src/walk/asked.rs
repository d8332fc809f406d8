//! What asks a running program to end, or to take a snapshot: signals, and the control socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::claim::Claim;
use crate::snapshots::Recorders;
use crate::sources;
use crate::status::say;

/// Whether a signal asked the program to end. A second SIGINT ends it at once, from its first
/// step to its last.
#[derive(Clone, Default)]
pub struct Asked {
    asked: Arc<AtomicBool>,
    /// It ends anyhow: records are brought to their places.
    ending: Arc<AtomicBool>,
    notify: Arc<tokio::sync::Notify>,
}

impl Asked {
    /// `claim`: given back before the program ends at once. Within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(claim: Option<Arc<Claim>>) -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // A file that grows beyond the process's limit is an output that fails, like a full
        // disk: taken, the signal ends nobody, and the write says why.
        let file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        let this = Self::default();
        let Self { asked, ending, notify } = this.clone();
        tokio::spawn(async move {
            let _file_size = file_size;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {
                        if asked.swap(true, Ordering::Relaxed) {
                            sources::put_back();
                            if let Some(claim) = &claim {
                                claim.give_up();
                            }
                            // Else the exit waits for what a stalled line holds.
                            rbpipe_backends::serial::abandon();
                            std::process::exit(130);
                        }
                        // The first one never cuts a trace short.
                        if ending.load(Ordering::Relaxed) {
                            say!("rbpipe: writing the rest; interrupt once more to give it up");
                        }
                    }
                    _ = terminate.recv() => asked.store(true, Ordering::Relaxed),
                }
                notify.notify_one();
            }
        });
        Ok(this)
    }

    /// Returns when somebody has asked.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// It ends now: the next SIGINT finds it ending.
    pub fn is_ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// As SIGTERM.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// While nothing has been recorded, and nothing old removed: an end is an error.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.asked.load(Ordering::Relaxed), "interrupted before anything was recorded");
        Ok(())
    }
}

/// Takes the snapshots that SIGUSR1 asks for, one after the other.
pub(super) fn at_signal(recorders: Recorders) -> std::io::Result<()> {
    let mut usr1 = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while usr1.recv().await.is_some() {
            let recorders = recorders.clone();
            // It waits for the channels; the runtime has other things to do.
            let _ = tokio::task::spawn_blocking(move || recorders.at_signal()).await;
        }
    });
    Ok(())
}
