//! Drives a stream whose words somebody else scribbles into (a program that shares its ring
//! with us, and is broken or worse). Bytes say what is done; shared by the test beside it and
//! by the fuzzer.

use rbpipe_core::frontend::{
    Closing, Frontend, Geometry, Grant, Held, Layout, Line, Lost, Measure, MemoryIndex, Mode,
    Refused, Timestamps,
};
use std::sync::atomic::Ordering;

/// The bytes that are left.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn word(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
    fn below(&mut self, n: usize) -> Option<usize> {
        Some(usize::from(self.byte()?) % n)
    }
}

/// A record of so many bytes. Asked inside every retry loop: too often is a hang.
struct One {
    size: u64,
    asked: u32,
}

impl Layout for One {
    fn now(&mut self) -> u64 {
        self.asked += 1;
        assert!(self.asked < 100, "it does not come out of its loop");
        self.asked.into()
    }
    fn measure(&mut self, now: u64, _: Option<u64>, _: u64) -> Measure {
        Measure { size: self.size, records: 1, end: now }
    }
}

struct Stream<'a> {
    frontend: Frontend<&'a [Line]>,
    open: Vec<Grant>,
    spare: Vec<MemoryIndex>,
    held: Vec<Held>,
}

impl Stream<'_> {
    fn geometry(&self) -> Geometry {
        self.frontend.geometry()
    }

    fn deliver(&self, closing: Option<Closing>) {
        let Some(closing) = closing else { return };
        let claimed = self.frontend.claim(closing);
        assert!(claimed.facts().content <= self.geometry().subbuf_size(), "a length");
        self.check(claimed.memory());
        self.frontend.publish(claimed);
    }

    fn check(&self, memory: MemoryIndex) {
        assert!(memory.get() < self.geometry().memories() as usize, "an index");
    }

    fn reserve(&mut self, size: u64) {
        let mut one = One { size, asked: 0 };
        match self.frontend.reserve(&mut one) {
            Ok(reserved) => {
                self.deliver(reserved.closing);
                let (grant, g) = (reserved.grant, self.geometry());
                self.check(grant.memory());
                assert!(grant.offset(g) + grant.len() <= g.subbuf_size(), "a range");
                self.open.push(grant);
            }
            Err(Refused::Lost(lost)) => self.frontend.count_lost(lost, 1),
            Err(Refused::Closed) => {}
        }
    }

    fn get(&mut self) {
        let Some(spare) = self.spare.pop() else { return };
        match self.frontend.get(spare) {
            Ok(held) => {
                self.check(held.memory());
                assert!(held.facts().content <= self.geometry().subbuf_size(), "a length");
                self.held.push(held);
            }
            Err(_) => self.spare.push(spare),
        }
    }

    /// One step; `None`: the input has ended.
    fn step(&mut self, input: &mut Input<'_>, lines: &[Line]) -> Option<()> {
        let mut asked = 0;
        let now = || {
            asked += 1;
            assert!(asked < 100, "it does not come out of its loop");
            asked
        };
        match input.byte()? % 16 {
            0..=3 => {
                let size = 1 + (u64::from(input.byte()?) << (input.byte()? % 10));
                self.reserve(size);
            }
            4 | 5 => {
                if !self.open.is_empty() {
                    let grant = self.open.swap_remove(input.below(self.open.len())?);
                    let closing = self.frontend.commit(grant);
                    self.deliver(closing);
                }
            }
            6 => self.get(),
            7 => {
                if let Some(held) = self.held.pop() {
                    self.spare.push(held.memory());
                }
            }
            8 => {
                let closing = self.frontend.switch(now);
                self.deliver(closing);
            }
            9 => {
                let closing = self.frontend.empty_packet(now);
                self.deliver(closing);
            }
            10 => {
                if input.byte()?.is_multiple_of(4) {
                    let closing = self.frontend.finalise(now);
                    self.deliver(closing);
                }
            }
            11 => {
                let _ = (self.frontend.pass_over(), self.frontend.pass_over_all());
                let _ = self.frontend.last_words(None, 0, now);
            }
            12 => {
                let _ = (self.frontend.books(), self.frontend.underway(), self.frontend.fill());
                let _ = (self.frontend.has_packet(), self.frontend.is_settled());
                let _ = (self.frontend.oldest_undelivered(), self.frontend.unnamed());
                self.frontend.count_lost(Lost::Full, 1);
            }
            // A whole word, or a bit of one.
            13 => {
                let at = input.below(lines.len() * 8)?;
                lines[at / 8].words()[at % 8].store(input.word()?, Ordering::Relaxed);
            }
            _ => {
                let at = input.below(lines.len() * 8)?;
                let bit = 1 << (input.byte()? % 64);
                lines[at / 8].words()[at % 8].fetch_xor(bit, Ordering::Relaxed);
            }
        }
        Some(())
    }
}

/// Does what `bytes` say.
///
/// # Panics
/// If an index, a range or a length came out of it that leads outside, or a loop did not end.
pub fn drive(bytes: &[u8]) {
    let mut input = Input(bytes);
    let _ = (|| {
        let (size, count) = (4096 << input.below(3)?, 1 << (1 + input.below(3)?));
        let reader = 1 + input.below(3)? as u32;
        let geometry = Geometry::new(size, count, reader, 84).ok()?;
        let mode = Mode::ALL[input.below(3)?];
        let times = [Timestamps::Clock, Timestamps::Given][input.below(2)?];
        let needed = Frontend::<&[Line]>::lines_needed(geometry);
        let lines: Vec<Line> = (0..needed).map(|_| Line::default()).collect();
        let frontend = Frontend::new(lines.as_slice(), geometry, mode, times).ok()?;
        let spare = frontend.unnamed();
        let mut stream = Stream { frontend, open: Vec::new(), spare, held: Vec::new() };
        loop {
            // Somebody comes anew, and trusts what it finds only after a look.
            if input.byte()? == 0
                && let Ok(frontend) = Frontend::attach(lines.as_slice(), geometry, mode, times)
            {
                let spare = frontend.unnamed();
                assert_eq!(spare.len(), reader as usize, "attached with a table that is right");
                stream = Stream { frontend, open: Vec::new(), spare, held: Vec::new() };
            }
            stream.step(&mut input, &lines)?;
        }
        #[expect(unreachable_code, reason = "says the closure's type")]
        Some(())
    })();
}
