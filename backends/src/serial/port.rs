//! The device: opened alone, its settings read back, and bytes to and from it without waiting.
//!
//! Never here: `flush` and `shutdown` of the runtime's port. They are a `tcdrain`, which waits in
//! the kernel for as long as the other side stops the line, and takes a whole runtime with it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rbpipe_core::backend::BackendError;
use tokio::runtime::Runtime;
use tokio_serial::{
    DataBits, ErrorKind as SerialError, FlowControl, SerialPort, SerialPortBuilder, SerialStream,
    StopBits,
};

use super::closing::Held;
use super::config::{Config, Flow, Parity};

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
    config: Config,
}

impl Opener {
    /// For this configuration.
    ///
    /// # Errors
    /// The system has no descriptors.
    pub(super) fn new(config: Config) -> Result<Self, BackendError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime =
            runtime.map_err(|e| BackendError::io("cannot make what serial ports need", e))?;
        Ok(Self { runtime, config })
    }

    /// Opens the device, alone, sets it up, and sees whether it is set up.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn open(&self) -> Result<Port, BackendError> {
        let (config, shown) = (&self.config, self.config.path.display());
        look(&config.path)?;
        let Some(path) = config.path.to_str() else {
            let message =
                format!("{shown}: a device's name is UTF-8: use a link with another name");
            return Err(BackendError::new(message));
        };
        let reactor = self.runtime.enter();
        let stream = SerialStream::open(&builder(path, config)).map_err(|e| {
            BackendError::new(match e.kind() {
                SerialError::NoDevice => format!(
                    "{shown}: is open in another program; `rbpipe devices` says in which: end it, \
                     or use another port"
                ),
                SerialError::Io(ErrorKind::PermissionDenied) => {
                    format!("{shown}: may not be opened; `rbpipe devices` says what to do about it")
                }
                _ => format!(
                    "{shown}: cannot be opened as a serial port: {e}; `rbpipe devices` lists the \
                     ports that are here"
                ),
            })
        })?;
        drop(reactor);
        check(&stream, config).map_err(|wrong| BackendError::new(format!("{shown}: {wrong}")))?;
        Ok(Port { stream: Held::new(stream) })
    }
}

/// What can be said better than by opening it.
fn look(path: &Path) -> Result<(), BackendError> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(m) if m.file_type().is_char_device() => Ok(()),
        Ok(_) => Err(BackendError::new(format!(
            "{shown}: is no device; `rbpipe devices` lists the serial ports that are here"
        ))),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(BackendError::new(format!(
            "{shown}: is not there: plug it in, or name another port (`rbpipe devices` lists them)"
        ))),
        Err(e) => Err(BackendError::io(format!("{shown}: cannot be looked at"), e)),
    }
}

fn builder(path: &str, config: &Config) -> SerialPortBuilder {
    tokio_serial::new(path, config.baud)
        .data_bits(data_bits(config))
        .parity(parity(config))
        .stop_bits(stop_bits(config))
        .flow_control(match config.flow {
            Flow::None => FlowControl::None,
            Flow::Hardware => FlowControl::Hardware,
            Flow::Software => FlowControl::Software,
        })
        .exclusive(true)
}

fn data_bits(config: &Config) -> DataBits {
    if config.data_bits == 7 { DataBits::Seven } else { DataBits::Eight }
}

fn parity(config: &Config) -> tokio_serial::Parity {
    match config.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    }
}

fn stop_bits(config: &Config) -> StopBits {
    if config.stop_bits == 2 { StopBits::Two } else { StopBits::One }
}

/// Drivers say "done" of rates and bits that they cannot do; what they have then is what
/// they say when they are asked.
fn check(stream: &SerialStream, config: &Config) -> Result<(), String> {
    let asked = |e: tokio_serial::Error| format!("does not tell how it is set up: {e}");
    let baud = stream.baud_rate().map_err(asked)?;
    if u64::from(baud.abs_diff(config.baud)) * 50 > u64::from(config.baud) {
        return Err(format!(
            "cannot do baud = {}: it stays at {baud}; write a rate that it can do",
            config.baud
        ));
    }
    let parity_is = stream.parity().map_err(asked)?;
    if parity_is != parity(config) {
        return Err(format!(
            "cannot do parity = \"{}\": it stays at {}; leave `parity` out, on both sides",
            parity(config).to_string().to_lowercase(),
            parity_is.to_string().to_lowercase()
        ));
    }
    let data_is = stream.data_bits().map_err(asked)?;
    if data_is != data_bits(config) {
        return Err(format!(
            "cannot do data_bits = {}: it stays at {}; leave it out, on both sides",
            config.data_bits,
            u8::from(data_is)
        ));
    }
    let stop_is = stream.stop_bits().map_err(asked)?;
    if stop_is != stop_bits(config) {
        return Err(format!(
            "cannot do stop_bits = {}: it stays at {}; leave it out, on both sides",
            config.stop_bits,
            u8::from(stop_is)
        ));
    }
    Ok(())
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
