//! What a receiver tells of the line itself, as events: `link:session`, `link:stream`,
//! `link:loss`, `link:end`, `link:text`.
//!
//! They are what tells losses on the line from losses at the sender: both count as discarded
//! events of their streams.

use rbpipe_backends::link::{LinkStream, Missing, Session, Totals};
use rbpipe_core::class::{Base, EventClass, Field, FieldType, Integer};

use crate::sources::payload::Payload;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Who sends.
    Session(Session),
    /// A stream of the sender, and the number that it has here.
    Stream(u32, u64, LinkStream),
    /// Events of the stream of this number are missing.
    Loss(u32, Missing),
    /// The sender has closed the stream of this number: what it counts.
    End(u32, Totals),
    /// A line of text that others printed.
    Text(String),
}

/// How many kinds there are.
pub const KINDS: usize = 5;

/// Their classes, in the order of [`Told::kind`].
pub fn classes() -> [EventClass; KINDS] {
    let hexadecimal = FieldType::Integer(Integer::unsigned(64).base(Base::Hexadecimal));
    let session = ("session", hexadecimal);
    let number = |name| (name, FieldType::U32);
    let count = |name| (name, FieldType::U64);
    let text = |name| (name, FieldType::String);
    let class = |name: &str, fields: Vec<(&str, FieldType)>| {
        let fields = fields.into_iter().map(|(name, ty)| Field::new(name, ty)).collect();
        EventClass::new(format!("link:{name}"), fields)
    };
    [
        class(
            "session",
            vec![
                session.clone(),
                number("generation"),
                count("tick"),
                count("clock_offset"),
                number("baud"),
            ],
        ),
        class(
            "stream",
            vec![number("stream"), session, text("channel"), number("id"), ("cpu", FieldType::I32)],
        ),
        class("loss", vec![number("stream"), count("ring"), count("line"), count("before")]),
        class(
            "end",
            vec![
                number("stream"),
                count("produced"),
                count("lost"),
                count("overwritten"),
                count("aborted"),
            ],
        ),
        class("text", vec![text("line")]),
    ]
}

impl Told {
    /// The place of its class.
    pub fn kind(&self) -> usize {
        match self {
            Self::Session(_) => 0,
            Self::Stream(..) => 1,
            Self::Loss(..) => 2,
            Self::End(..) => 3,
            Self::Text(_) => 4,
        }
    }

    /// Its fields.
    pub fn write(&self, to: &mut Payload) {
        to.clear();
        match self {
            Self::Session(s) => {
                to.u64(s.id).u32(s.generation.into()).u64(s.tick).u64(s.clock_offset).u32(s.baud)
            }
            Self::Stream(number, session, s) => {
                let cpu = s.cpu.and_then(|c| i32::try_from(c).ok()).unwrap_or(-1);
                let to = to.u32(*number).u64(*session).text(&s.channel);
                to.u32(s.id).u32(cpu.cast_unsigned())
            }
            Self::Loss(number, m) => to.u32(*number).u64(m.ring).u64(m.line).u64(m.before),
            Self::End(number, t) => {
                to.u32(*number).u64(t.produced).u64(t.lost).u64(t.overwritten).u64(t.aborted)
            }
            Self::Text(line) => to.text(line),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rbpipe_core::class::ClassRegistry;
    use rbpipe_core::decode::Classes;

    use super::*;

    #[test]
    fn what_is_told_is_as_its_class_says() {
        let stream = LinkStream { channel: "c\0d".into(), id: 7, cpu: Some(3) };
        let all = [
            Told::Session(Session { id: 1, generation: 2, tick: 3, clock_offset: 4, baud: 5 }),
            Told::Stream(1, 2, stream.clone()),
            Told::Stream(1, 2, LinkStream { cpu: None, ..stream }),
            Told::Loss(1, Missing { ring: 2, line: 3, before: 4 }),
            Told::End(1, Totals { produced: 9, lost: 1, overwritten: 2, aborted: 3 }),
            Told::Text("a\0b".into()),
        ];
        let list = Classes::new(classes().into_iter().map(Arc::new));
        let mut payload = Payload::default();
        let mut kinds = [false; KINDS];
        for told in &all {
            told.write(&mut payload);
            assert!(list.fits(told.kind(), payload.bytes()), "{told:?}");
            kinds[told.kind()] = true;
        }
        assert_eq!(kinds, [true; KINDS]);
        let registry = ClassRegistry::new();
        assert!(classes().into_iter().all(|c| registry.register(c).is_ok()));
    }
}
