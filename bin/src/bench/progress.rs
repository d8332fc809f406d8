//! How far it is, on stderr, where that is a terminal: one line, gone at the end.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::status::tell;

/// The line.
pub struct Progress {
    terminal: bool,
    end: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Of something that ends then.
    pub fn until(end: Instant) -> Self {
        Self { terminal: io::stderr().is_terminal(), end, shown: None }
    }

    /// What is being done just now.
    pub fn show(&mut self, what: &str) {
        let recently = self.shown.is_some_and(|t| t.elapsed() < Duration::from_millis(200));
        if !self.terminal || recently {
            return;
        }
        let left = self.end.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        // A line that wraps could not be taken away again.
        let line: String = format!("{left:3.0} s left  {what}").chars().take(78).collect();
        tell(&format!("\r\x1b[K{line}"));
        self.shown = Some(Instant::now());
    }

    /// Takes it away.
    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            tell("\r\x1b[K");
        }
    }
}
