//! What is taken out of a channel's records for its picture: what the scheduler's events tell,
//! and the values that are asked for. Classes come while it is recorded; a field is looked for as
//! soon as its class is there, before any record of it is.

use std::sync::Arc;

use rbpipe_core::channel::possible_cpus;
use rbpipe_core::class::{ClassId, EventClass};

use super::{ComputeError, Picker, Take, Timeline};
use crate::timeline::{Entry, Field, Name, Scheduler, Transition, Value, pick, switches};

/// What is wanted of a channel's records beside their times.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Numeric fields: (event, field).
    pub values: Vec<(String, String)>,
    /// How many states and values, of all streams together, the device keeps (16 bytes each,
    /// for what there is of them).
    pub room: u64,
}

/// What the scheduler tells.
pub(super) struct Schedule {
    pub known: Scheduler,
    /// The device does not know all of it.
    changed: bool,
    /// Of the device's rings.
    room: u64,
    /// On the device, once it has come there.
    pub number: Option<usize>,
    /// The device cannot take it.
    pub refused: bool,
}

/// One field whose values are taken, or are to be.
pub(super) struct Taken {
    value: (String, String),
    /// Of the device's rings.
    room: u64,
    pub found: Found,
}

pub(super) enum Found {
    /// Its class is not there yet.
    Awaited,
    /// There; on the device it has this number, once it is known there.
    Here { field: Field, number: Option<usize> },
    /// It cannot be taken, and why.
    Refused(String),
}

/// What was taken out of a packet in ordinary memory.
#[derive(Debug, Default)]
pub(super) struct Picks {
    /// To be settled.
    pub states: Vec<Transition>,
    pub names: Vec<(u32, Name)>,
    /// Of each field that is asked for.
    pub values: Vec<Vec<Value>>,
}

impl Asking {
    /// What the scheduler tells, and the values in their order.
    pub(super) fn taken(self) -> (Schedule, Vec<Taken>) {
        let room = self.room / (1 + self.values.len() as u64);
        let known = Scheduler::default();
        let schedule = Schedule { known, changed: false, room, number: None, refused: false };
        let one = |value| Taken { value, room, found: Found::Awaited };
        (schedule, self.values.into_iter().map(one).collect())
    }
}

/// Streams that a device has rings for: each CPU's own, in three sources.
pub(super) fn lanes() -> u32 {
    (possible_cpus() * 3).clamp(16, 1024)
}

fn picker(timeline: &Timeline, take: Take, room: u64) -> Result<Picker, ComputeError> {
    let streams = lanes();
    let most = (timeline.compute().binding_size() / 16).min(room) / u64::from(streams);
    let capacity = u32::try_from(most).unwrap_or(u32::MAX);
    Picker::new(timeline.compute(), take, streams, capacity)
}

impl Schedule {
    /// A class has come.
    pub fn look(&mut self, place: usize, class: &EventClass) {
        self.changed |= self.known.look(ClassId::from_index(place as u32).number(), class);
    }

    /// Has the device take what is known from now on.
    pub fn begin(&mut self, timeline: &mut Timeline) {
        if !std::mem::take(&mut self.changed) || self.refused {
            return;
        }
        match self.number {
            Some(number) => timeline.know(number, self.known),
            None => match picker(timeline, Take::Switches(self.known), self.room) {
                Ok(picker) => self.number = Some(timeline.pick(picker)),
                Err(_) => self.refused = true,
            },
        }
    }

    /// Takes it out of a packet's entries, which begins then; `lost`: since when something is
    /// missing before it.
    pub fn pick(
        &self,
        packet: &[u8],
        entries: &[Entry],
        (lost, begin): (Option<u64>, u64),
        picks: &mut Picks,
    ) {
        if self.known.is_unknown() {
            return;
        }
        let before = (lost, Some(begin));
        (picks.states, picks.names) = switches(packet, 0, entries, &self.known, before);
        // Each as it was called last.
        let mut seen = std::collections::HashSet::new();
        picks.names.reverse();
        picks.names.retain(|(state, _)| seen.insert(*state));
    }
}

impl Taken {
    /// A class has come.
    pub fn look(&mut self, place: usize, class: &EventClass) {
        let (event, name) = &self.value;
        // One that has not what is wanted may be followed by one of the same name that has.
        if matches!(self.found, Found::Here { .. }) || *event != class.name {
            return;
        }
        let id = ClassId::from_index(place as u32).number();
        self.found = match Field::of(id, class, name) {
            Some(field) => Found::Here { field, number: None },
            None => Found::Refused(refusal(class, name)),
        };
    }

    /// Has the device take it from now on.
    pub fn begin(&mut self, timeline: &mut Timeline) {
        let Found::Here { field, number: number @ None } = &mut self.found else { return };
        match picker(timeline, Take::Values(*field), self.room) {
            Ok(picker) => *number = Some(timeline.pick(picker)),
            Err(ComputeError(why)) => self.found = Found::Refused(why),
        }
    }

    /// Takes it out of a packet's entries.
    pub fn pick(&self, packet: &[u8], entries: &[Entry], picks: &mut Picks) {
        picks.values.push(match &self.found {
            Found::Here { field, .. } => pick(packet, 0, entries, field),
            Found::Awaited | Found::Refused(_) => Vec::new(),
        });
    }

    /// Why there are no values; `None`: there are, or, if it is not the end, may be.
    pub fn missing(&self, classes: &[Arc<EventClass>], is_end: bool) -> Option<String> {
        match (&self.found, &self.value) {
            (Found::Refused(why), _) => Some(why.clone()),
            (Found::Awaited, (event, _)) if is_end => Some(format!(
                "no event {event:?} has come; {}",
                list("events", classes, |c| &c.name)
            )),
            _ => None,
        }
    }
}

fn refusal(class: &EventClass, name: &str) -> String {
    let event = &class.name;
    match class.fields.iter().position(|f| f.name == name) {
        None => {
            let fields = list("its fields", &class.fields, |f| &f.name);
            format!("{event} has no field {name:?}; {fields}")
        }
        Some(place) if class.fields[..place].iter().any(|f| f.ty.fixed_size().is_none()) => {
            format!(
                "{event}.{name} lies behind something of varying length: a picture while it is \
                 recorded has values of fields that lie at the same place in each record; record \
                 it, and use rbpipe view --value"
            )
        }
        Some(_) => format!(
            "{event}.{name} is no integer: a picture while it is recorded has integers alone; \
             record it, and use rbpipe view --value"
        ),
    }
}

fn list<'a, T>(what: &str, all: &'a [T], name: impl Fn(&'a T) -> &'a String) -> String {
    let names: Vec<&str> = all.iter().take(12).map(|one| name(one).as_str()).collect();
    match all.len() {
        0 => format!("there are no {what}"),
        n if n > names.len() => format!("{what} are {}, …", names.join(", ")),
        _ => format!("{what}: {}", names.join(", ")),
    }
}
