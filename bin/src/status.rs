//! The live status line: only on a terminal, one line, and gone when the program ends.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use crate::walk::Running;

/// Whether a status line stands on stderr at the moment.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// The line, and what it was computed from.
pub struct StatusLine {
    terminal: bool,
    last: Option<(Instant, u64, u64)>,
}

impl StatusLine {
    /// Nothing is shown where stderr is no terminal.
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: None }
    }

    /// Whether there is somebody to show it to.
    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Events/s, bytes/s, lost, fill of the fullest stream.
    pub fn show(&mut self, channels: &[Running]) {
        let (mut recorded, mut bytes, mut lost, mut fill) = (0u64, 0u64, 0u64, 0.0f64);
        for c in channels {
            for s in c.monitor.streams() {
                // With what is not delivered yet: packets come in bursts, events do not.
                let (records, more) = s.books.underway;
                recorded += s.books.engine.recorded + records;
                bytes += s.books.bytes + more;
                let e = &s.books.engine;
                lost += e.full + e.wrap + e.too_big + s.books.failed_records;
            }
            let (used, of) = c.monitor.fullest();
            fill = fill.max(used.min(of) as f64 / of.max(1) as f64);
        }
        let now = Instant::now();
        if let Some((then, recorded_then, bytes_then)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            let mut line = format!(
                "{} events/s  {}B/s  lost {lost}  fill {:.0} %",
                short(rate(recorded, recorded_then)),
                short(rate(bytes, bytes_then)),
                fill * 100.0
            );
            // A line that wraps could not be taken away again.
            // 0: a terminal that does not say.
            let width = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
            line.truncate(usize::from(if width == 0 { 80 } else { width }) - 1);
            tell(&format!("\r\x1b[K{line}"));
            SHOWN.store(true, Ordering::Relaxed);
        }
        self.last = Some((now, recorded, bytes));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        clear_line();
    }
}

/// Takes the status line away, if there is one.
fn clear_line() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        tell("\r\x1b[K");
    }
}

/// What the thread that owns stderr is asked for.
enum Ask {
    Text(String),
    /// Answer when all before it is written.
    Flush(SyncSender<()>),
}

/// Words that may wait for a stderr that is slow; more are left out, and counted.
const WAITING: usize = 1000;
/// How long a stderr that takes nothing holds up the end of the program.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the thread that owns stderr.
fn stderr() -> &'static SyncSender<Ask> {
    static THREAD: OnceLock<SyncSender<Ask>> = OnceLock::new();
    THREAD.get_or_init(|| {
        let (to, from) = mpsc::sync_channel(WAITING);
        let own = move || {
            for ask in from {
                match ask {
                    Ask::Text(text) => {
                        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
                        let mut stderr = io::stderr();
                        let _ = stderr.write_all(text.as_bytes());
                        if left_out > 0 {
                            let _ = writeln!(stderr, "rbpipe: {left_out} messages were left out");
                        }
                    }
                    Ask::Flush(done) => _ = done.send(()),
                }
            }
        };
        // Without a thread nothing is told, which is what a closed stderr means, too.
        let _ = thread::Builder::new().name("stderr".into()).spawn(own);
        to
    })
}

static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Tells people something, on stderr. One that is full, closed, gone, or a terminal that was
/// stopped changes nothing: `eprint` would panic or wait, and with it the report, or the
/// thread that writes the trace.
pub fn tell(text: &str) {
    if stderr().try_send(Ask::Text(text.to_owned())).is_err() {
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until all that was told is written, but not for ever.
pub fn flush() {
    let (done, told) = mpsc::sync_channel(1);
    let begin = Instant::now();
    while let Err(TrySendError::Full(_)) = stderr().try_send(Ask::Flush(done.clone())) {
        if begin.elapsed() > PATIENCE {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let _ = told.recv_timeout(PATIENCE.saturating_sub(begin.elapsed()));
}

/// [`tell`] as `eprintln`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::status::tell(&format!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use say;

/// stderr for the program's log: what it writes never stands behind the status line, and
/// always succeeds (see [`tell`]).
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        clear_line();
        tell(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// "1 packet", "2 packets".
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// 1234567 as "1.2 M".
pub fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0} "),
    }
}
