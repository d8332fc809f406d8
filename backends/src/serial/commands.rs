//! Lines that come from the other side, where that is allowed: what they may say, and what they
//! change. They are noise until they are understood: a line has a bound, and so have replies.

use std::sync::Arc;

use rbpipe_core::class::{EventClass, LogLevel};

use super::lane::Worth;
use super::level::{self, Level};
use crate::glob;

/// A longer line is none.
const LONGEST: usize = 128;
/// Replies that wait; the line may be slow, and the other side a loop.
const REPLIES: usize = 8;
/// Names that may be said one after the other; the oldest rule is forgotten.
const RULES: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Everything is announced anew, at once.
    Resync,
    /// What is sent has changed: the filter knows.
    Filter,
    /// What the ring holds now is sent, none of it given up.
    Dump,
    /// Nothing is sent; the ring goes on.
    Pause,
    /// Sent again.
    Resume,
}

/// Which records are sent, and which of them first.
pub(super) struct Filter {
    important: Option<LogLevel>,
    level: Option<LogLevel>,
    /// Takes or leaves out what a glob takes; the last one that does decides.
    rules: Vec<(bool, String)>,
    worths: Vec<Worth>,
}

impl Filter {
    /// All are sent; these first.
    pub(super) fn new(important: Option<LogLevel>) -> Self {
        Self { important, level: None, rules: Vec::new(), worths: Vec::new() }
    }

    /// Whether it makes any difference.
    pub(super) fn is_active(&self) -> bool {
        self.important.is_some() || self.level.is_some() || !self.rules.is_empty()
    }

    /// Whether some records are held back or come first, by the places of their classes.
    pub(super) fn worths(&self) -> &[Worth] {
        &self.worths
    }

    /// Classes have come.
    pub(super) fn learn(&mut self, classes: &[Arc<EventClass>]) {
        for class in &classes[self.worths.len().min(classes.len())..] {
            self.worths.push(self.worth(class));
        }
    }

    fn worth(&self, class: &EventClass) -> Worth {
        let level = level::of(class);
        let takes =
            |(_, glob): &&(bool, String)| glob::matches(glob.as_bytes(), class.name.as_bytes());
        let enabled = self.rules.iter().rev().find(takes).is_none_or(|(on, _)| *on);
        if !enabled || self.level.is_some_and(|least| level > least) {
            Worth::Nothing
        } else if self.important.is_some_and(|least| level <= least) {
            Worth::Important
        } else {
            Worth::Ordinary
        }
    }

    fn rule(&mut self, on: bool, glob: &str) {
        if glob == "*" {
            self.rules.clear();
        }
        self.rules.retain(|(_, known)| known != glob);
        if !(on && self.rules.is_empty()) {
            self.rules.push((on, glob.to_owned()));
        }
        if self.rules.len() > RULES {
            self.rules.remove(0);
        }
        self.worths.clear();
    }
}

/// Puts lines together, and answers them.
#[derive(Default)]
pub(super) struct Listener {
    line: Vec<u8>,
    /// The line is too long, and is passed over.
    over: bool,
    replies: Vec<String>,
}

impl Listener {
    /// The port was opened again: what was begun will not be finished.
    pub(super) fn forget(&mut self) {
        (self.line, self.over) = (Vec::new(), false);
    }

    /// Takes bytes, however they are cut; gives what is asked for.
    pub(super) fn feed(&mut self, bytes: &[u8], filter: &mut Filter) -> Vec<Command> {
        let mut commands = Vec::new();
        for b in bytes {
            if !matches!(b, b'\r' | b'\n') {
                if self.line.len() < LONGEST {
                    self.line.push(*b);
                } else {
                    self.over = true;
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.over) {
                self.reply(format!("a line has {LONGEST} characters at most"));
            } else if !line.is_empty() {
                let line = String::from_utf8_lossy(&line);
                match understand(line.trim(), filter) {
                    Ok(command) => {
                        self.reply(format!("ok {}", line.trim()));
                        commands.extend(command);
                    }
                    Err(why) => self.reply(why),
                }
            }
        }
        commands
    }

    /// Says something to the other side.
    pub(super) fn reply(&mut self, line: String) {
        if self.replies.len() < REPLIES {
            self.replies.push(line);
        }
    }

    /// What is to be said.
    pub(super) fn replies(&mut self) -> Vec<String> {
        std::mem::take(&mut self.replies)
    }
}

fn understand(line: &str, filter: &mut Filter) -> Result<Option<Command>, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let command = match (word, rest) {
        ("resync", "") => Command::Resync,
        ("dump", "") => Command::Dump,
        ("pause", "") => Command::Pause,
        ("resume", "") => Command::Resume,
        ("level", name) => {
            let Ok(Level(level)) = name.parse() else {
                return Err(format!("no level {name:?}: {}", level::ACCEPTED));
            };
            // The last one lets all through, so it is as if none had been said.
            filter.level = (level < LogLevel::Debug).then_some(level);
            filter.worths.clear();
            Command::Filter
        }
        ("enable" | "disable", glob) if !glob.is_empty() => {
            filter.rule(word == "enable", glob);
            Command::Filter
        }
        // Spaces alone.
        ("", _) => return Ok(None),
        _ => {
            return Err(format!(
                "not understood: {line:?}; resync, level LEVEL, enable NAME, disable NAME, dump, \
                 pause, resume"
            ));
        }
    };
    Ok(Some(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<Arc<EventClass>> {
        let class = |name: &str| EventClass::new(name, vec![]);
        vec![
            Arc::new(class("a:error").level(LogLevel::Error)),
            Arc::new(class("a:info").level(LogLevel::Info)),
            Arc::new(class("b:none")),
        ]
    }

    fn after(lines: &str, important: Option<LogLevel>) -> (Vec<Worth>, Vec<String>) {
        let (mut filter, mut listener) = (Filter::new(important), Listener::default());
        filter.learn(&classes());
        for b in lines.as_bytes() {
            listener.feed(&[*b], &mut filter);
            filter.learn(&classes());
        }
        (filter.worths().to_vec(), listener.replies())
    }

    #[test]
    fn what_is_sent_is_what_was_said_last() {
        use Worth::{Important as I, Nothing as N, Ordinary as O};
        let error = Some(LogLevel::Error);
        for (lines, important, expected) in [
            ("", None, [O, O, O]),
            ("", error, [I, O, O]),
            ("level warning\n", None, [O, N, N]),
            ("level info\r\n", error, [I, O, N]),
            ("level info\nlevel debug\n", None, [O, O, O]),
            ("disable a:*\n", error, [N, N, O]),
            ("disable *\nenable a:in*\n", None, [N, O, N]),
            ("disable a:*\nenable a:error\nenable *\n", None, [O, O, O]),
        ] {
            assert_eq!(after(lines, important).0, expected, "{lines:?}");
        }
    }

    #[test]
    fn each_line_gets_a_reply_and_noise_few() {
        let (_, replies) = after("resync\r\nbogus \u{1b}[2J\nlevel loud\n\n \n", None);
        assert_eq!(replies.len(), 4, "{replies:?}");
        assert_eq!(replies[0], "ok resync");
        assert!(replies[1].contains("not understood") && replies[1].contains("\\u{1b}"));
        assert!(replies[2].contains("no level \"loud\""));
        let (_, replies) = after(&("x".repeat(100_000) + "\n"), None);
        assert_eq!(replies, ["a line has 128 characters at most"]);
        let (_, replies) = after(&"noise\n".repeat(1000), None);
        assert_eq!(replies.len(), REPLIES);
    }

    #[test]
    fn rules_are_bounded() {
        let mut filter = Filter::new(None);
        for n in 0..10_000 {
            filter.rule(false, &format!("class{n}"));
        }
        assert_eq!(filter.rules.len(), RULES);
        filter.rule(true, "*");
        assert!(!filter.is_active());
    }
}
