//! The sender's port: bytes to and from a device without waiting.
//!
//! Never here: `flush` and `shutdown` of the runtime's port. They are a `tcdrain`, which waits in
//! the kernel for as long as the other side stops the line, and takes a whole runtime with it.

use std::io::{self, ErrorKind};

use rbpipe_core::backend::BackendError;
use tokio::runtime::Runtime;
use tokio_serial::SerialPort;

use super::closing::Held;
use super::device::{self, Settings};

/// An open port. Dropped, it is closed; a port that is gone must be, before it can come back
/// under its name.
pub(super) struct Port {
    stream: Held,
}

/// What a port says instead of taking or giving bytes.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Not now.
    Full,
    /// It is gone: unplugged, or its other end is closed. It will not come back as this one.
    Gone(io::Error),
}

/// Opens one device, again and again.
pub(super) struct Opener {
    /// The port's reactor: it is registered there, and nobody asks.
    runtime: Runtime,
    settings: Settings,
}

impl Opener {
    /// Of this device.
    ///
    /// # Errors
    /// The system has no descriptors.
    pub(super) fn new(settings: Settings) -> Result<Self, BackendError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime =
            runtime.map_err(|e| BackendError::io("cannot make what serial ports need", e))?;
        Ok(Self { runtime, settings })
    }

    /// Opens it, as it is set up.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn open(&self) -> Result<Port, BackendError> {
        let _reactor = self.runtime.enter();
        Ok(Port { stream: Held::new(device::open(&self.settings)?) })
    }
}

impl Port {
    /// Hands over what the kernel takes of it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        loop {
            return match self.stream.with(|stream| stream.try_write(bytes)).unwrap_or_else(taken) {
                // Some drivers say so instead of "would block".
                Ok(0) => Err(Trouble::Full),
                Ok(n) => Ok(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => Err(Trouble::Full),
                Err(e) => Err(Trouble::Gone(e)),
            };
        }
    }

    /// What has come, as much as there is room for; 0: nothing.
    ///
    /// # Errors
    /// [`Trouble::Gone`].
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Trouble> {
        loop {
            return match self.stream.with(|stream| stream.try_read(into)).unwrap_or_else(taken) {
                // The end of a terminal is that it was hung up, and it says so for ever.
                Ok(0) => Err(Trouble::Gone(io::Error::from(ErrorKind::UnexpectedEof))),
                Ok(n) => Ok(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(e) => Err(Trouble::Gone(e)),
            };
        }
    }

    /// What the device says that it holds; a pseudo terminal says nothing, which is 0.
    pub(super) fn holds(&self) -> usize {
        self.stream.with(|stream| stream.bytes_to_write().unwrap_or(0)).unwrap_or(0) as usize
    }
}

/// The program ends, and the port was closed for that.
fn taken<T>() -> io::Result<T> {
    Err(io::Error::other("closed"))
}
