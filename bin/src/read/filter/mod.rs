//! `--filter EXPR`: which events are printed, by their fields, in the kernel's manner:
//! `prev_pid != 0 && next_comm ~ "kw*"`.
//!
//! `parse.rs` makes a tree of the text; here it is fitted to an event class and asked for each
//! record. A comparison is true, false, or neither: an event without the field matches neither
//! the comparison nor its opposite, whatever stands around it.

mod parse;

use std::sync::Arc;

use rbpipe_core::class::{EventClass, FieldType};
use rbpipe_core::decode::{Value, value};

use super::event::Event;
use parse::{Expr, Literal, Op, Test};
pub use parse::{Filter, FilterError, parse};
use rbpipe_backends::glob;

/// What a comparison is over.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Cpu,
    Stream,
    /// A field, by its place; its offset where all before it have a fixed size.
    Field(usize, Option<usize>),
    /// The length of the sequence at this place.
    Length(usize, Option<usize>),
}

/// A filter, fitted to an event class.
#[derive(Debug)]
pub enum Fitted {
    /// The same for all events of the class.
    Always(Option<bool>),
    /// All of them.
    All(Vec<Fitted>),
    /// One of them.
    Any(Vec<Fitted>),
    /// The opposite.
    Not(Box<Fitted>),
    /// A comparison.
    Test(OperandTest),
}

/// One comparison, fitted.
#[derive(Debug)]
pub struct OperandTest {
    operand: Operand,
    test: Arc<Test>,
}

/// How well a comparison fits an event class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It has no such field.
    NoField,
    /// The field is of a type that cannot be compared so: why.
    Wrong(String),
    /// It can be asked.
    Fits,
}

impl Filter {
    /// Fits it to a class; `fits` gets, for each comparison, how well it does.
    pub fn fit(&self, class: &EventClass, fits: &mut Vec<Fit>) -> Fitted {
        fit(&self.expr, class, fits)
    }
}

fn fit(expr: &Expr, class: &EventClass, fits: &mut Vec<Fit>) -> Fitted {
    match expr {
        Expr::All(list) => Fitted::All(list.iter().map(|e| fit(e, class, fits)).collect()),
        Expr::Any(list) => Fitted::Any(list.iter().map(|e| fit(e, class, fits)).collect()),
        Expr::Not(e) => Fitted::Not(Box::new(fit(e, class, fits))),
        Expr::Test(test) => {
            let (fit, fitted) = fit_test(test, class);
            fits.push(fit);
            fitted
        }
    }
}

fn fit_test(test: &Arc<Test>, class: &EventClass) -> (Fit, Fitted) {
    let fitted =
        |operand| (Fit::Fits, Fitted::Test(OperandTest { operand, test: Arc::clone(test) }));
    let wrong = |what: String| (Fit::Wrong(what), Fitted::Always(None));
    let number = |operand| {
        if let Some(problem) = number_problem(test) { wrong(problem) } else { fitted(operand) }
    };
    let field = match test.field.as_str() {
        "name" => {
            let is = compare_text(class.name.as_bytes(), test.op, &test.value);
            return match is {
                Some(is) => (Fit::Fits, Fitted::Always(Some(is))),
                None => wrong("`name` is text: `&` is for numbers".into()),
            };
        }
        "cpu" => return number(Operand::Cpu),
        "stream" => return number(Operand::Stream),
        other => other.strip_prefix("fields.").unwrap_or(other),
    };
    let place = class.fields.iter().position(|f| f.name == field);
    let Some(place) = place else {
        let sequence = field.strip_prefix('_').and_then(|f| f.strip_suffix("_length"));
        let place = sequence.and_then(|name| {
            class
                .fields
                .iter()
                .position(|f| f.name == name && matches!(f.ty, FieldType::Sequence(_)))
        });
        return match place {
            Some(place) => number(Operand::Length(place, offset(class, place))),
            None => (Fit::NoField, Fitted::Always(None)),
        };
    };
    let operand = Operand::Field(place, offset(class, place));
    let text = |ty: &FieldType| matches!(ty, FieldType::Integer(i) if i.text);
    match &class.fields[place].ty {
        FieldType::Integer(_) | FieldType::Float32 | FieldType::Float64 => number(operand),
        FieldType::Enumeration(..) => {
            let by_number = test.value.number.is_some() && !test.value.quoted;
            match test.op {
                Op::Equal | Op::NotEqual | Op::Like => fitted(operand),
                _ if by_number => fitted(operand),
                _ => wrong(format!("labels of `{field}` are compared with ==, != and ~ alone")),
            }
        }
        FieldType::String if test.op != Op::Bits => fitted(operand),
        FieldType::Array(e, _) | FieldType::Sequence(e) if text(e) && test.op != Op::Bits => {
            fitted(operand)
        }
        FieldType::String => wrong(format!("`{field}` is text: `&` is for numbers")),
        FieldType::Array(e, _) | FieldType::Sequence(e) if text(e) => {
            wrong(format!("`{field}` is text: `&` is for numbers"))
        }
        FieldType::Array(..) | FieldType::Sequence(_) => {
            wrong(format!("`{field}` has many elements, which no comparison is for"))
        }
    }
}

fn number_problem(test: &Test) -> Option<String> {
    let field = &test.field;
    if test.op == Op::Like {
        return Some(format!("`{field}` is a number: `~` is for text"));
    }
    match test.value.number {
        None => Some(format!("`{field}` is a number, which {:?} is not", test.value.text)),
        Some(parse::Number::Float(_)) if test.op == Op::Bits => {
            Some("`&` is for whole numbers".into())
        }
        Some(_) => None,
    }
}

/// Where the field at this place begins, if that is the same in all records.
fn offset(class: &EventClass, place: usize) -> Option<usize> {
    class.fields[..place].iter().try_fold(0usize, |sum, f| sum.checked_add(f.ty.fixed_size()?))
}

impl Fitted {
    /// Whether it matches; `None`: neither it nor its opposite.
    pub fn ask(&self, event: &Event<'_>) -> Option<bool> {
        match self {
            Self::Always(is) => *is,
            Self::Not(inner) => inner.ask(event).map(|is| !is),
            Self::All(list) => {
                let mut all = Some(true);
                for e in list {
                    match e.ask(event) {
                        Some(false) => return Some(false),
                        None => all = None,
                        Some(true) => {}
                    }
                }
                all
            }
            Self::Any(list) => {
                let mut any = Some(false);
                for e in list {
                    match e.ask(event) {
                        Some(true) => return Some(true),
                        None => any = None,
                        Some(false) => {}
                    }
                }
                any
            }
            Self::Test(t) => t.ask(event),
        }
    }
}

impl OperandTest {
    fn ask(&self, event: &Event<'_>) -> Option<bool> {
        let Test { op, value: wanted, .. } = &*self.test;
        let integer = |v: i128| compare_number(v, *op, wanted);
        let Event { from, class, payload, .. } = *event;
        match self.operand {
            Operand::Stream => integer(from.stream.into()),
            Operand::Cpu => integer(from.cpu()?.into()),
            Operand::Length(place, offset) => {
                let bytes = at(class, place, offset, payload)?;
                integer(u32::from_le_bytes(*bytes.first_chunk()?).into())
            }
            Operand::Field(place, offset) => {
                let ty = &class.fields.get(place)?.ty;
                match value(ty, at(class, place, offset, payload)?)?.0 {
                    Value::Unsigned(v, _) => integer(v.into()),
                    Value::Signed(v, _) => integer(v.into()),
                    Value::Float(v) => compare_float(v, *op, wanted),
                    Value::Text(t) => compare_text(t, *op, wanted),
                    Value::Enum(v, _) => compare_enum(ty, v, *op, wanted),
                    Value::Elements(..) => None,
                }
            }
        }
    }
}

/// The payload from this field on.
fn at<'p>(
    class: &'p EventClass,
    place: usize,
    offset: Option<usize>,
    payload: &'p [u8],
) -> Option<&'p [u8]> {
    if let Some(offset) = offset {
        return payload.get(offset..);
    }
    let mut rest = payload;
    for field in class.fields.get(..place)? {
        rest = value(&field.ty, rest)?.1;
    }
    Some(rest)
}

fn compare_number(v: i128, op: Op, wanted: &Literal) -> Option<bool> {
    match wanted.number? {
        parse::Number::Integer(w) => Some(match op {
            Op::Bits => v & w != 0,
            _ => ordered(op, v.cmp(&w))?,
        }),
        parse::Number::Float(_) => compare_float(v as f64, op, wanted),
    }
}

fn compare_float(v: f64, op: Op, wanted: &Literal) -> Option<bool> {
    let w = match wanted.number? {
        parse::Number::Integer(w) => w as f64,
        parse::Number::Float(w) => w,
    };
    match v.partial_cmp(&w) {
        Some(order) => ordered(op, order),
        // Not a number: different from all.
        None => Some(op == Op::NotEqual),
    }
}

fn compare_text(v: &[u8], op: Op, wanted: &Literal) -> Option<bool> {
    match op {
        Op::Like => Some(glob::matches(wanted.text.as_bytes(), v)),
        _ => ordered(op, v.cmp(wanted.text.as_bytes())),
    }
}

fn compare_enum(ty: &FieldType, v: i128, op: Op, wanted: &Literal) -> Option<bool> {
    if !wanted.quoted && wanted.number.is_some() && op != Op::Like {
        return compare_number(v, op, wanted);
    }
    let FieldType::Enumeration(_, labels) = ty else { return None };
    let mut mine = labels.iter().filter(|l| l.first <= v && v <= l.last);
    match op {
        Op::Equal => Some(mine.any(|l| l.name == wanted.text)),
        Op::NotEqual => Some(!mine.any(|l| l.name == wanted.text)),
        Op::Like => Some(mine.any(|l| glob::matches(wanted.text.as_bytes(), l.name.as_bytes()))),
        _ => None,
    }
}

fn ordered(op: Op, order: std::cmp::Ordering) -> Option<bool> {
    Some(match op {
        Op::Equal => order.is_eq(),
        Op::NotEqual => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::LessEqual => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::GreaterEqual => order.is_ge(),
        Op::Like | Op::Bits => return None,
    })
}

#[cfg(test)]
mod tests {
    use rbpipe_core::packet::StreamClass;

    use super::*;
    use crate::read::event::Origin;
    use rbpipe_core::class::{Field, Integer, Label};

    fn class() -> EventClass {
        let label = |name: &str, first, last| Label { name: name.into(), first, last };
        EventClass::new(
            "sched:sched_switch",
            vec![
                Field::new(
                    "comm",
                    FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 4),
                ),
                Field::new("pid", FieldType::I32),
                Field::new("text", FieldType::String),
                Field::new(
                    "state",
                    FieldType::Enumeration(
                        Integer::unsigned(8),
                        vec![label("R", 0, 0), label("S", 1, 9), label("low", 0, 5)],
                    ),
                ),
                Field::new("load", FieldType::Float64),
                Field::new("bytes", FieldType::Sequence(Box::new(FieldType::U8))),
                Field::new("name", FieldType::U8),
            ],
        )
    }

    fn payload() -> Vec<u8> {
        let mut p = b"ab\0x".to_vec();
        p.extend((-5i32).to_le_bytes());
        p.extend(b"kworker/0:1\0");
        p.push(1);
        p.extend(1.5f64.to_le_bytes());
        p.extend(2u32.to_le_bytes());
        p.extend([7, 8, 42]);
        p
    }

    fn ask(text: &str) -> Option<bool> {
        let filter = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let class = Arc::new(class());
        let from = Origin { stream: 9, class: StreamClass::Cpu, number: 3 };
        let event = Event { time: 0, from, class: &class, payload: &payload() };
        filter.fit(&class, &mut Vec::new()).ask(&event)
    }

    #[test]
    fn comparisons() {
        for (text, is) in [
            ("pid == -5", true),
            ("pid != -5", false),
            ("pid < 0 && pid >= -0x5", true),
            ("pid > -4 || comm == ab", true),
            ("comm == \"ab\"", true),
            ("comm ~ a?", true),
            ("text ~ \"kw*\"", true),
            ("text ~ 'kw*:0'", false),
            ("text != \"x\"", true),
            ("text == kworker/0:1", true),
            ("state == S", true),
            ("state == low", true),
            ("state == \"R\"", false),
            ("state != R", true),
            ("state == 1", true),
            ("state ~ [ST]", true),
            ("load == 1.5", true),
            ("load > 1", true),
            ("pid < -4.5", true),
            ("state & 1", true),
            ("state & 0xfe", false),
            ("_bytes_length == 2", true),
            ("name == sched:sched_switch", true),
            ("name ~ sched:*", true),
            ("fields.name == 42", true),
            ("cpu == 3", true),
            ("stream == 9&&cpu==3", true),
            ("!(pid == -5)", false),
            ("!pid == -5", false),
            ("!!pid == -5", true),
            ("pid == 1 || pid == 2 && pid == 3 || pid == -5", true),
        ] {
            assert_eq!(ask(text), Some(is), "{text}");
        }
    }

    #[test]
    fn an_event_without_the_field_matches_neither_way() {
        assert_eq!(ask("nosuch == 1"), None);
        assert_eq!(ask("!(nosuch == 1)"), None);
        assert_eq!(ask("nosuch == 1 || pid == -5"), Some(true));
        assert_eq!(ask("nosuch == 1 && pid == 0"), Some(false));
        assert_eq!(ask("!(nosuch == 1 && pid == -5)"), None);
    }

    #[test]
    fn what_cannot_be_compared_is_told() {
        let fits = |text: &str| {
            let (filter, mut fits) = (parse(text).expect(text), Vec::new());
            filter.fit(&class(), &mut fits);
            fits
        };
        assert_eq!(fits("nosuch == 1 && pid == 2"), [Fit::NoField, Fit::Fits]);
        for text in ["pid == abc", "pid ~ 1*", "text & 1", "bytes == 1", "state < R", "load & 1.5"]
        {
            assert!(matches!(&fits(text)[..], [Fit::Wrong(_)]), "{text}");
        }
    }
}
