//! A serial port, opened for its bytes.
//!
//! What it is asked for is read back: some drivers take a rate that they do not have. A port is
//! had alone (TIOCEXCL and a lock), as far as others ask.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio_serial::{SerialPort, SerialPortBuilderExt, SerialStream};

/// A port that is open, and the little runtime that waits for it.
pub struct Port {
    // Before the runtime, which it is registered with.
    stream: SerialStream,
    runtime: Runtime,
}

/// What tokio-serial says of a device without a rate (ENOTTY).
const NO_TERMINAL: &str = "Not a typewriter";

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

/// Opens a port: 8 data bits, no parity, one stop bit, no flow control. Within a runtime.
///
/// # Errors
/// Why it cannot be had, in a sentence that names it.
pub fn open(path: &Path, baud: u32) -> Result<SerialStream, String> {
    let shown = path.display();
    if baud == 0 {
        return Err(format!("{shown}: a rate of 0 baud hangs up; give the sender's rate"));
    }
    let name = path.to_str().ok_or_else(|| format!("{shown}: the name is not UTF-8"))?;
    let opened =
        tokio_serial::new(name, baud).open_native_async().map_err(
            |e| match std::fs::metadata(path).map_err(|e| e.kind()) {
                Err(std::io::ErrorKind::NotFound) => {
                    format!("{shown}: there is no such port; `rbpipe devices` lists them")
                }
                Ok(m) if !is_character_device(&m) || e.description == NO_TERMINAL => {
                    format!("{shown}: is no serial port")
                }
                _ => format!("{shown}: cannot be opened: {}", e.description),
            },
        )?;
    let real = opened
        .baud_rate()
        .map_err(|e| format!("{shown}: does not tell which rate it runs at: {}", e.description))?;
    if real.abs_diff(baud) > baud / 50 {
        return Err(format!(
            "{shown}: runs at {real} baud, not at the {baud} that it was asked for: its driver has \
             no such rate"
        ));
    }
    Ok(opened)
}

fn is_character_device(m: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&m.file_type())
}

impl Port {
    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be had, in a sentence that names it.
    pub fn open(path: &Path, baud: u32) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|e| format!("cannot wait for a port: {e}"))?;
        let stream = {
            let _runtime = runtime.enter();
            open(path, baud)?
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
