//! Frames that wait for what they lack: an announcement, or the HELLO of their sender.

use super::super::Receive;
use super::frame::Key;
use super::{HELD_BYTES, HELD_FRAME, Link, MOST_READS};

impl Link {
    /// Looks again at frames that waited for what has just been learned.
    pub(super) fn resolve(&mut self, to: &mut impl Receive) {
        let mut any = false;
        loop {
            let news = self.decoding.news();
            if news.is_empty() {
                break;
            }
            any = true;
            for number in 0..self.streams.len() {
                for at in 0..self.streams[number].held.len() {
                    let stream = &mut self.streams[number];
                    let held = &mut stream.held[at];
                    let has_come = held.missing.is_some_and(|key| news.contains(&key));
                    if has_come && held.reads < MOST_READS {
                        held.reads += 1;
                        let unknown = stream.who.is_none().then_some(Key::Stream(number as u32));
                        let read = self.decoding.read_body(&stream.held[at].body);
                        let missing = unknown.or(read.and_then(|f| f.missing));
                        self.streams[number].held[at].missing = missing;
                        if let Some(key) = missing {
                            self.decoding.wants(key);
                        }
                    }
                }
            }
        }
        if any {
            for number in 0..self.streams.len() {
                while self.streams[number].held.front().is_some_and(|h| h.missing.is_none()) {
                    self.deliver_held(number, to);
                }
            }
        }
    }

    /// Delivers a stream's first held frame, as far as it is understood.
    pub(super) fn deliver_held(&mut self, number: usize, to: &mut impl Receive) {
        let Some(held) = self.streams[number].held.pop_front() else { return };
        self.held_bytes -= held.body.len() + HELD_FRAME;
        let start = self.session.map_or(0, |h| h.start);
        match self.decoding.read_body(&held.body) {
            // Nobody knows whose records these are.
            Some(_) if self.streams[number].who.is_none() => self.given_up += 1,
            Some(frame) => {
                self.given_up += u64::from(frame.missing.is_some());
                self.deliver(number as u32, &frame, start, to);
            }
            None => self.strange += 1,
        }
    }

    /// Frames that have waited for too long, or are too many.
    pub(super) fn give_up_old(&mut self, to: &mut impl Receive) {
        loop {
            let waiting = self.streams.iter().enumerate();
            let waiting = waiting.filter_map(|(n, s)| Some((s.held.front()?.until, n)));
            let Some((until, number)) = waiting.min() else { return };
            if self.clock <= until && self.held_bytes <= HELD_BYTES {
                return;
            }
            self.deliver_held(number, to);
            while self.streams[number].held.front().is_some_and(|h| h.missing.is_none()) {
                self.deliver_held(number, to);
            }
        }
    }

    pub(super) fn give_up_streams(&mut self, to: &mut impl Receive) {
        for number in 0..self.streams.len() {
            while !self.streams[number].held.is_empty() {
                self.deliver_held(number, to);
            }
        }
    }

    pub(super) fn give_up_all(&mut self, to: &mut impl Receive) {
        if std::mem::take(&mut self.doubt) {
            // No other session has said that these are its frames.
            self.go_on(to);
        }
        self.give_up_streams(to);
        for body in std::mem::take(&mut self.waiting) {
            self.held_bytes -= body.len() + HELD_FRAME;
            self.given_up += 1;
        }
    }
}
