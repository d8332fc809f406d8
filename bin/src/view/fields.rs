//! What is known of event classes: the scheduler's events, and where their fields lie.

use std::collections::HashMap;
use std::sync::Arc;

use rbpipe_core::class::EventClass;
use rbpipe_core::decode::{Value, value};

/// A field of a class.
#[derive(Clone, Debug)]
pub struct Field {
    place: usize,
    /// Where it begins, if that is the same in every payload.
    offset: Option<usize>,
}

impl Field {
    /// Of this name.
    pub fn of(class: &EventClass, name: &str) -> Option<Self> {
        let place = class.fields.iter().position(|f| f.name == name)?;
        let before = class.fields[..place].iter();
        let offset = before.map(|f| f.ty.fixed_size()).try_fold(0, |sum, n| Some(sum + n?));
        Some(Self { place, offset })
    }

    /// Its value in a payload.
    pub fn value<'a>(&self, class: &'a EventClass, payload: &'a [u8]) -> Option<Value<'a>> {
        let mut rest = match self.offset {
            Some(at) => payload.get(at..)?,
            None => payload,
        };
        let from = if self.offset.is_some() { self.place } else { 0 };
        for field in &class.fields[from..self.place] {
            rest = value(&field.ty, rest)?.1;
        }
        Some(value(&class.fields[self.place].ty, rest)?.0)
    }

    /// The same, a whole number.
    pub fn number(&self, class: &EventClass, payload: &[u8]) -> Option<i64> {
        match self.value(class, payload)? {
            Value::Unsigned(n, _) => i64::try_from(n).ok(),
            Value::Signed(n, _) => Some(n),
            Value::Enum(n, _) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// The same, any number.
    pub fn float(&self, class: &EventClass, payload: &[u8]) -> Option<f64> {
        match self.value(class, payload)? {
            Value::Float(n) => Some(n).filter(|n| n.is_finite()),
            Value::Unsigned(n, _) => Some(n as f64),
            _ => self.number(class, payload).map(|n| n as f64),
        }
    }

    /// The same, text.
    pub fn text<'a>(&self, class: &'a EventClass, payload: &'a [u8]) -> &'a [u8] {
        match self.value(class, payload) {
            Some(Value::Text(text)) => text,
            _ => &[],
        }
    }
}

/// What an event means.
#[derive(Clone, Debug)]
pub enum Role {
    /// A CPU goes from one process to another.
    Switch { prev: Field, prev_comm: Field, prev_state: Field, next: Field, next_comm: Field },
    /// A process can run. `early`: told where it was woken, not where it will run.
    Wake { pid: Field, comm: Field, early: bool },
    /// Nothing but that it happened.
    Other,
}

impl Role {
    fn of(class: &EventClass) -> Self {
        let field = |name| Field::of(class, name);
        let name = class.name.rsplit(':').next().unwrap_or_default();
        let known = match name {
            "sched_switch" => (|| {
                Some(Self::Switch {
                    prev: field("prev_pid")?,
                    prev_comm: field("prev_comm")?,
                    prev_state: field("prev_state")?,
                    next: field("next_pid")?,
                    next_comm: field("next_comm")?,
                })
            })(),
            "sched_wakeup" | "sched_wakeup_new" | "sched_waking" => (|| {
                let early = name == "sched_waking";
                Some(Self::Wake { pid: field("pid")?, comm: field("comm")?, early })
            })(),
            _ => None,
        };
        known.unwrap_or(Self::Other)
    }
}

/// An event class that was met.
#[derive(Debug)]
pub struct Met {
    /// It: its address is its own for as long as this is here.
    _class: Arc<EventClass>,
    /// What it means.
    pub role: Role,
    /// The place of its name: several traces, or streams, may each have a class of that name.
    pub name: usize,
    /// Fields whose values are wanted: which lane's, which field.
    pub values: Vec<(usize, Field)>,
}

/// Classes by their addresses (each `Arc` is kept, so none is another's).
#[derive(Debug, Default)]
pub struct Known {
    pub list: Vec<Met>,
    pub names: Vec<String>,
    wanted: Vec<(String, String)>,
    places: HashMap<usize, usize>,
    recent: Option<(usize, usize)>,
}

impl Known {
    /// With the values of these fields (event, field), each for a lane.
    pub fn new(wanted: Vec<(String, String)>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// The place of a class.
    #[inline]
    pub fn place(&mut self, class: &Arc<EventClass>) -> usize {
        let key = Arc::as_ptr(class) as usize;
        match self.recent {
            Some((k, place)) if k == key => place,
            _ => {
                let place = self.find(key, class);
                self.recent = Some((key, place));
                place
            }
        }
    }

    fn find(&mut self, key: usize, class: &Arc<EventClass>) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let name = self.names.iter().position(|n| *n == class.name).unwrap_or_else(|| {
            self.names.push(class.name.clone());
            self.names.len() - 1
        });
        let wanted = self.wanted.iter().enumerate().filter(|(_, (event, _))| *event == class.name);
        let values = wanted.filter_map(|(n, (_, f))| Some((n, Field::of(class, f)?))).collect();
        self.list.push(Met { _class: Arc::clone(class), role: Role::of(class), name, values });
        self.places.insert(key, self.list.len() - 1);
        self.list.len() - 1
    }
}
