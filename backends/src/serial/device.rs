//! A serial device, opened alone and set up as it is asked for: for both ends of a line.
//!
//! What is asked for is read back: some drivers say "done" of what they cannot do.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rbpipe_core::backend::BackendError;
use tokio_serial::{
    DataBits, ErrorKind as SerialError, FlowControl, SerialPort, SerialPortBuilder, SerialStream,
    StopBits,
};

use super::config::{Flow, Parity};

/// Which device, and how the line is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The device.
    pub path: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// 7 or 8.
    pub data_bits: u8,
    /// What follows the data bits.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// How the other side stops the line.
    pub flow: Flow,
}

impl Settings {
    /// 8 data bits, no parity, one stop bit, no flow control.
    pub fn new(path: impl Into<PathBuf>, baud: u32) -> Self {
        let (parity, flow) = (Parity::None, Flow::None);
        Self { path: path.into(), baud, data_bits: 8, parity, stop_bits: 1, flow }
    }
}

/// Opens a device, within a runtime's context, and sees whether it is set up as asked.
///
/// # Errors
/// Why not, and what to do.
///
/// # Panics
/// Outside a runtime.
pub fn open(settings: &Settings) -> Result<SerialStream, BackendError> {
    let shown = settings.path.display();
    look(&settings.path)?;
    let Some(path) = settings.path.to_str() else {
        let message = format!("{shown}: a device's name is UTF-8: use a link with another name");
        return Err(BackendError::new(message));
    };
    let stream = SerialStream::open(&builder(path, settings)).map_err(|e| {
        BackendError::new(match e.kind() {
            SerialError::NoDevice => format!(
                "{shown}: is open in another program; `rbpipe devices` says in which: end it, or \
                 use another port"
            ),
            SerialError::Io(ErrorKind::PermissionDenied) => {
                format!("{shown}: may not be opened; `rbpipe devices` says what to do about it")
            }
            _ if e.description == NO_TERMINAL => {
                format!("{shown}: is no serial port; `rbpipe devices` lists those that are here")
            }
            _ => format!(
                "{shown}: cannot be opened as a serial port: {e}; `rbpipe devices` lists the ports \
                 that are here"
            ),
        })
    })?;
    check(&stream, settings).map_err(|wrong| BackendError::new(format!("{shown}: {wrong}")))?;
    Ok(stream)
}

/// What tokio-serial says of a device without a rate (ENOTTY).
const NO_TERMINAL: &str = "Not a typewriter";

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

fn builder(path: &str, settings: &Settings) -> SerialPortBuilder {
    tokio_serial::new(path, settings.baud)
        .data_bits(data_bits(settings))
        .parity(parity(settings))
        .stop_bits(stop_bits(settings))
        .flow_control(match settings.flow {
            Flow::None => FlowControl::None,
            Flow::Hardware => FlowControl::Hardware,
            Flow::Software => FlowControl::Software,
        })
        .exclusive(true)
}

fn data_bits(settings: &Settings) -> DataBits {
    if settings.data_bits == 7 { DataBits::Seven } else { DataBits::Eight }
}

fn parity(settings: &Settings) -> tokio_serial::Parity {
    match settings.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    }
}

fn stop_bits(settings: &Settings) -> StopBits {
    if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One }
}

/// Drivers say "done" of rates and bits that they cannot do; what they have then is what
/// they say when they are asked.
fn check(stream: &SerialStream, settings: &Settings) -> Result<(), String> {
    let asked = |e: tokio_serial::Error| format!("does not tell how it is set up: {e}");
    let baud = stream.baud_rate().map_err(asked)?;
    if u64::from(baud.abs_diff(settings.baud)) * 50 > u64::from(settings.baud) {
        return Err(format!(
            "cannot do baud = {}: it stays at {baud}; write a rate that it can do",
            settings.baud
        ));
    }
    let parity_is = stream.parity().map_err(asked)?;
    if parity_is != parity(settings) {
        return Err(format!(
            "cannot do parity = \"{}\": it stays at {}; leave `parity` out, on both sides",
            parity(settings).to_string().to_lowercase(),
            parity_is.to_string().to_lowercase()
        ));
    }
    let data_is = stream.data_bits().map_err(asked)?;
    if data_is != data_bits(settings) {
        return Err(format!(
            "cannot do data_bits = {}: it stays at {}; leave it out, on both sides",
            settings.data_bits,
            u8::from(data_is)
        ));
    }
    let stop_is = stream.stop_bits().map_err(asked)?;
    if stop_is != stop_bits(settings) {
        return Err(format!(
            "cannot do stop_bits = {}: it stays at {}; leave it out, on both sides",
            settings.stop_bits,
            u8::from(stop_is)
        ));
    }
    Ok(())
}
