//! Records of all kinds of fields, and classes for them.

use std::sync::Arc;

use fastrand::Rng;
use rbpipe_core::class::{EventClass, Field, FieldType, Integer, Label, LogLevel};

/// Event classes, and records of them.
#[derive(Debug)]
pub struct Traffic {
    /// The classes, in the sender's order.
    pub classes: Vec<Arc<EventClass>>,
    names: Vec<String>,
    /// How long the long ones are at most.
    longest: usize,
}

/// The class of `sched_switch`, as the kernel declares it.
#[must_use]
pub fn switches() -> EventClass {
    let comm = FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16);
    EventClass::new(
        "sched:sched_switch",
        vec![
            Field::new("prev_comm", comm.clone()),
            Field::new("prev_pid", FieldType::I32),
            Field::new("prev_prio", FieldType::I32),
            Field::new("prev_state", FieldType::I64),
            Field::new("next_comm", comm),
            Field::new("next_pid", FieldType::I32),
            Field::new("next_prio", FieldType::I32),
        ],
    )
}

fn palette() -> Vec<EventClass> {
    let seq = |t: FieldType| FieldType::Sequence(Box::new(t));
    let states = vec![
        Label { name: "R".into(), first: 0, last: 0 },
        Label { name: "S".into(), first: 1, last: 5 },
    ];
    let number = || Field::new("n", FieldType::U64);
    vec![
        EventClass::new("test:tick", vec![]),
        switches(),
        EventClass::new("test:text", vec![number(), Field::new("text", FieldType::String)])
            .level(LogLevel::Warning),
        EventClass::new("test:blob", vec![number(), Field::new("bytes", seq(FieldType::U8))]),
        EventClass::new(
            "test:numbers",
            vec![
                number(),
                Field::new("a", FieldType::I64),
                Field::new("b", FieldType::U16),
                Field::new("c", FieldType::Float64),
                Field::new("d", FieldType::Float32),
                Field::new("e", FieldType::Enumeration(Integer::signed(8), states)),
            ],
        )
        .level(LogLevel::Debug),
        EventClass::new(
            "test:lists",
            vec![
                Field::new("words", seq(FieldType::U32)),
                number(),
                Field::new("fixed", FieldType::Array(Box::new(FieldType::I32), 3)),
                Field::new("text", FieldType::String),
            ],
        ),
        EventClass::new(
            "test:two",
            vec![Field::new("first", FieldType::String), Field::new("second", FieldType::String)],
        ),
    ]
}

impl Traffic {
    /// Some of all classes, in any order; `many` of one kind more, so that ids are large.
    #[must_use]
    pub fn new(rng: &mut Rng, many: usize, longest: usize) -> Self {
        let mut classes = palette();
        rng.shuffle(&mut classes);
        classes.truncate(rng.usize(1..=classes.len()));
        for i in 0..many {
            let fields = vec![Field::new(format!("f{i}"), FieldType::U32)];
            classes.push(EventClass::new(format!("many:{i}"), fields));
        }
        let names = (0..rng.usize(1..200)).map(|i| format!("task/{i}")).collect();
        Self { classes: classes.into_iter().map(Arc::new).collect(), names, longest }
    }

    /// Records of one class, with so many different names in them.
    #[must_use]
    pub fn of(class: EventClass, rng: &mut Rng, names: usize) -> Self {
        let names = (0..names).map(|i| format!("{}/{i}", ["kworker", "task"][rng.usize(0..2)]));
        Self { classes: vec![Arc::new(class)], names: names.collect(), longest: 40 }
    }

    /// Any class of them, the first ones more often.
    pub fn class(&self, rng: &mut Rng) -> usize {
        let below = rng.usize(1..=self.classes.len());
        rng.usize(0..below)
    }

    /// A payload of this class.
    pub fn payload(&self, rng: &mut Rng, class: usize, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.classes[class].fields {
            if field.name == "n" {
                out.extend(number.to_le_bytes());
            } else {
                self.value(rng, &field.ty, &mut out);
            }
        }
        out
    }

    fn name(&self, rng: &mut Rng) -> String {
        if rng.u8(..) < 8 {
            let len = if rng.u8(..) < 8 { rng.usize(0..300) } else { rng.usize(0..20) };
            (0..len).map(|_| rng.char('\u{1}'..'\u{3000}')).collect()
        } else {
            let below = rng.usize(1..=self.names.len());
            self.names[rng.usize(0..below)].clone()
        }
    }

    fn value(&self, rng: &mut Rng, ty: &FieldType, out: &mut Vec<u8>) {
        match ty {
            FieldType::Integer(i) | FieldType::Enumeration(i, _) => {
                let wide = match rng.u8(..) {
                    0..128 => rng.u64(..8),
                    128..200 => rng.u64(..1000),
                    200..210 => 0u64.wrapping_sub(rng.u64(..1000)),
                    _ => rng.u64(..),
                };
                out.extend(&wide.to_le_bytes()[..i.size()]);
            }
            FieldType::Float32 => out.extend(rng.u32(..).to_le_bytes()),
            FieldType::Float64 if rng.bool() => out.extend(rng.f64().to_le_bytes()),
            FieldType::Float64 => out.extend(rng.u64(..).to_le_bytes()),
            FieldType::String => {
                out.extend(self.name(rng).bytes());
                out.push(0);
            }
            FieldType::Array(e, n) if **e == FieldType::Integer(Integer::CHAR) => {
                let mut text = self.name(rng).into_bytes();
                text.resize(*n as usize, 0);
                if rng.u8(..) < 4 {
                    // The kernel leaves what was there before behind the NUL.
                    let last = text.len() - 1;
                    text[last] = b'x';
                }
                out.extend(text);
            }
            FieldType::Array(e, n) => (0..*n).for_each(|_| self.value(rng, e, out)),
            FieldType::Sequence(e) => {
                let most = if rng.u8(..) < 4 { self.longest } else { 40 };
                let len = rng.usize(0..=most);
                out.extend((len as u32).to_le_bytes());
                (0..len).for_each(|_| self.value(rng, e, out));
            }
        }
    }
}
