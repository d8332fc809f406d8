//! What is wrong with a line, recognised by what comes over it. Each trouble is said once, and
//! again only after it has gone away.

use std::time::{Duration, Instant};

use rbpipe_backends::link::Health;

use crate::status::count;

/// A sender says who it is every 2 s: no whole frame in this long, and there is none.
const NO_FRAME: Duration = Duration::from_secs(5);
/// … when what comes is no text either, it is told sooner, …
const NOISE: Duration = Duration::from_secs(2);
/// … if it is so many bytes in that time.
const ENOUGH: u64 = 128;
/// Frames that wait for an announcement are everyday for so long.
const WAITING: Duration = Duration::from_secs(3);
/// What has not happened again for so long has gone away.
const AWAY: Duration = Duration::from_secs(30);

/// What is wrong at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// Nothing comes.
    Silent,
    /// What comes is neither frames nor text.
    Noise,
    /// What comes is text.
    Text,
}

/// Something that happens now and then: said when it begins.
#[derive(Debug, Default)]
struct Bout {
    seen: u64,
    last: Option<Instant>,
}

impl Bout {
    /// Whether it has just begun.
    fn begins(&mut self, now: Instant, counted: u64) -> bool {
        let more = counted > self.seen;
        self.seen = counted;
        let over = self.last.is_none_or(|last| now.duration_since(last) >= AWAY);
        if more {
            self.last = Some(now);
        }
        more && over
    }
}

/// Watches a line.
#[derive(Debug)]
pub struct Troubles {
    baud: u32,
    /// Nothing for so long is trouble; `None`: never.
    quiet: Option<Duration>,
    state: State,
    /// Bytes and frames so far, and when the last ones came.
    bytes: (u64, Instant),
    frames: (u64, Instant),
    /// What comes is judged by what has come since then: bytes and text by then.
    window: (Instant, u64, u64),
    damaged: Bout,
    given_up: Bout,
    strange: Bout,
    /// Since when frames wait, and whether that was said.
    waiting: Option<(Instant, bool)>,
    gone: bool,
}

impl Troubles {
    /// Of a line at this rate, from now on.
    #[must_use]
    pub fn new(baud: u32, quiet: Option<Duration>, now: Instant) -> Self {
        Self {
            baud,
            quiet,
            state: State::Fine,
            bytes: (0, now),
            frames: (0, now),
            window: (now, 0, 0),
            damaged: Bout::default(),
            given_up: Bout::default(),
            strange: Bout::default(),
            waiting: None,
            gone: false,
        }
    }

    /// Looks at what has come; gives what is to be said.
    pub fn look(&mut self, now: Instant, health: &Health) -> Vec<String> {
        let mut words = Vec::new();
        if health.bytes > self.bytes.0 {
            if self.state == State::Silent {
                self.state = State::Fine;
                words.push("bytes come again".into());
                // Frames had no time to come.
                self.frames.1 = now;
            }
            self.bytes = (health.bytes, now);
        }
        if health.frames > self.frames.0 {
            if matches!(self.state, State::Noise | State::Text) {
                self.state = State::Fine;
                words.push("frames come".into());
            }
            self.frames = (health.frames, now);
            self.window = (now, health.bytes, health.text);
        }
        if !self.gone {
            self.look_at_what_comes(now, health, &mut words);
        }
        if self.damaged.begins(now, health.damaged) && health.frames > 0 {
            words.push(format!(
                "damage: {} ({} bytes) so far; what was in them counts as lost on the line",
                count(health.damaged, "stretch").replace("stretchs", "stretches"),
                health.damaged_bytes
            ));
        }
        if self.given_up.begins(now, health.given_up) {
            words.push(format!(
                "{} waited in vain for what they need to be read (joined late, or it was \
                 damaged); their records count as lost on the line",
                count(health.given_up, "frame")
            ));
        }
        if self.strange.begins(now, health.strange) {
            words.push(format!(
                "{} so far that mean nothing here: of another version of the link, or left over \
                 from before the sender opened its port again",
                count(health.strange, "whole frame")
            ));
        }
        match (&mut self.waiting, health.waiting) {
            (waiting, 0) => *waiting = None,
            (None, _) => self.waiting = Some((now, false)),
            (Some((since, said)), n) => {
                if !*said && now.duration_since(*since) >= WAITING {
                    *said = true;
                    words.push(format!(
                        "{} for the sender to announce what is in them (it does so every \
                         `announce_every`)",
                        if n == 1 { "1 frame waits".into() } else { format!("{n} frames wait") }
                    ));
                }
            }
        }
        words
    }

    fn look_at_what_comes(&mut self, now: Instant, health: &Health, words: &mut Vec<String>) {
        let since = |at: Instant| now.saturating_duration_since(at);
        if let Some(quiet) = self.quiet
            && since(self.bytes.1) >= quiet
        {
            if self.state != State::Silent {
                self.state = State::Silent;
                words.push(format!(
                    "nothing has come for {} s: does the sender run, is the cable the right one?",
                    quiet.as_secs_f64()
                ));
            }
            return;
        }
        let (begin, bytes, text) = self.window;
        if since(begin) < NOISE {
            return;
        }
        self.window = (now, health.bytes, health.text);
        let (bytes, text) = (health.bytes - bytes, health.text.saturating_sub(text));
        let is_text = text >= bytes.saturating_sub(text);
        let state = if bytes >= ENOUGH && !is_text {
            State::Noise
        } else if text > 0 && is_text && since(self.frames.1) >= NO_FRAME {
            State::Text
        } else {
            return;
        };
        if self.state == state {
            return;
        }
        self.state = state;
        let (baud, bytes) = (self.baud, health.since_frame);
        words.push(match (state, health.frames) {
            (State::Noise, _) => format!(
                "{bytes} bytes without a whole frame, and no text: is {baud} baud the sender's \
                 rate?"
            ),
            (_, 0) => "text comes, but no frame: does the sender have format = \"binary\" or \
                       \"mixed\"?"
                .into(),
            _ => "text comes, but no more frames: the sender has ended".into(),
        });
    }

    /// The port is gone. Gives what is to be said.
    pub fn gone(&mut self, why: &str) -> Option<String> {
        let first = !std::mem::replace(&mut self.gone, true);
        first.then(|| format!("the port is gone ({why}); it is opened again when it comes back"))
    }

    /// It is back.
    pub fn back(&mut self, now: Instant) -> Option<String> {
        self.bytes.1 = now;
        self.frames.1 = now;
        let was = std::mem::replace(&mut self.gone, false);
        was.then(|| "the port is back".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line {
        troubles: Troubles,
        now: Instant,
        health: Health,
    }

    impl Line {
        fn new() -> Self {
            let now = Instant::now();
            let quiet = Some(Duration::from_secs(10));
            Self { troubles: Troubles::new(9600, quiet, now), now, health: Health::default() }
        }
        /// Seconds pass, in each of which this happens; gives what was said.
        fn pass(&mut self, seconds: u32, each: impl Fn(&mut Health)) -> Vec<String> {
            let mut said = Vec::new();
            for _ in 0..seconds * 10 {
                self.now += Duration::from_millis(100);
                each(&mut self.health);
                said.extend(self.troubles.look(self.now, &self.health));
            }
            said
        }
    }

    fn frame(h: &mut Health) {
        h.bytes += 100;
        h.frames += 1;
        h.since_frame = 0;
    }
    fn text(h: &mut Health) {
        h.bytes += 20;
        h.text += 20;
        h.since_frame += 20;
    }
    fn noise(h: &mut Health) {
        h.bytes += 100;
        h.damaged += 1;
        h.damaged_bytes += 90;
        h.text += 10;
        h.since_frame += 100;
    }
    fn nothing(_: &mut Health) {}

    /// What was said, by a word in it.
    fn only(said: &[String], word: &str) {
        assert!(said.len() == 1 && said[0].contains(word), "{word}: {said:?}");
    }

    #[test]
    fn a_line_that_works_is_not_talked_about() {
        let mut line = Line::new();
        assert!(line.pass(20, frame).is_empty());
        let both = |h: &mut Health| {
            text(h);
            frame(h);
        };
        assert!(line.pass(20, both).is_empty());
        // Between two words of the sender there may be text alone.
        assert!(line.pass(3, text).is_empty());
        assert!(line.pass(20, frame).is_empty());
    }

    #[test]
    fn silence_is_said_once_and_again_after_it_went_away() {
        let mut line = Line::new();
        only(&line.pass(60, nothing), "nothing has come for 10 s");
        only(&line.pass(5, frame), "bytes come again");
        only(&line.pass(60, nothing), "nothing has come");
    }

    #[test]
    fn another_rate_is_recognised() {
        let mut line = Line::new();
        only(&line.pass(60, noise), "is 9600 baud");
        // The noise was damage, too, but that was not the trouble.
        only(&line.pass(5, frame), "frames come");
        only(&line.pass(60, noise), "is 9600 baud");
    }

    #[test]
    fn text_without_frames_is_recognised() {
        let mut line = Line::new();
        only(&line.pass(60, text), "format = \"binary\"");
        only(&line.pass(5, frame), "frames come");
        only(&line.pass(60, text), "no more frames");
        // It changes.
        let said = line.pass(60, noise);
        assert!(said[0].contains("damage") && said[1].contains("is 9600 baud"), "{said:?}");
        assert_eq!(said.len(), 2);
        only(&line.pass(60, text), "no more frames");
    }

    #[test]
    fn damage_is_said_when_it_begins() {
        let mut line = Line::new();
        assert!(line.pass(2, frame).is_empty());
        let damaged = |h: &mut Health| {
            frame(h);
            h.damaged += 1;
            h.damaged_bytes += 50;
        };
        only(&line.pass(20, damaged), "damage: 1 stretch (50 bytes)");
        assert!(line.pass(20, frame).is_empty());
        assert!(line.pass(1, damaged).is_empty(), "not away for long enough");
        assert!(line.pass(31, frame).is_empty());
        only(&line.pass(1, damaged), "damage: 211 stretches");
    }

    #[test]
    fn frames_that_wait_are_said_after_a_while() {
        let mut line = Line::new();
        let waits = |h: &mut Health| {
            frame(h);
            h.waiting += 1;
        };
        assert!(line.pass(2, waits).is_empty());
        only(&line.pass(20, waits), "frames wait");
        let gives_up = |h: &mut Health| {
            frame(h);
            h.given_up += h.waiting;
            h.waiting = 0;
        };
        only(&line.pass(2, gives_up), "in vain");
        only(&line.pass(20, waits), "frames wait");
        let strange = |h: &mut Health| {
            frame(h);
            h.waiting = 0;
            h.strange += 1;
        };
        only(&line.pass(20, strange), "mean nothing");
    }

    #[test]
    fn a_port_that_is_gone_is_not_a_silent_one() {
        let mut line = Line::new();
        assert!(line.pass(2, frame).is_empty());
        assert!(line.troubles.gone("unplugged").expect("said").contains("unplugged"));
        assert_eq!(line.troubles.gone("unplugged"), None);
        assert!(line.pass(60, nothing).is_empty());
        assert!(line.troubles.back(line.now).is_some());
        assert_eq!(line.troubles.back(line.now), None);
        assert!(line.pass(9, nothing).is_empty());
        only(&line.pass(60, nothing), "nothing has come");
    }
}
