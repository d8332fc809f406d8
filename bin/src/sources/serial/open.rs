//! The receiver's port: it waits for bytes.

use std::time::Duration;

use anyhow::Context as _;
use rbpipe_backends::serial::device::{self, Settings};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio_serial::SerialStream;

/// A port that is open, and the little runtime that waits for it.
pub struct Port {
    // Before the runtime, which it is registered with.
    stream: SerialStream,
    runtime: Runtime,
}

/// What a read has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// None in this time.
    Nothing,
    /// There will be no more: it was unplugged, or the other side of a pseudo terminal closed it.
    Gone(String),
}

impl Port {
    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be had, in a sentence that names it.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.context("cannot wait for a port")?;
        let stream = {
            let _runtime = runtime.enter();
            device::open(settings)?
        };
        Ok(Self { stream, runtime })
    }

    /// Waits for bytes, at most this long, and reads what there is.
    pub fn read(&mut self, to: &mut [u8], at_most: Duration) -> Read {
        let Self { stream, runtime } = self;
        // Not `try_read` behind `readable`: that does not clear the readiness, and spins.
        let read = runtime.block_on(async { tokio::time::timeout(at_most, stream.read(to)).await });
        match read {
            Err(_) => Read::Nothing,
            Ok(Ok(0)) => Read::Gone("it was hung up".into()),
            Ok(Ok(n)) => Read::Bytes(n),
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::Interrupted => Read::Nothing,
            Ok(Err(e)) => Read::Gone(e.to_string()),
        }
    }
}
