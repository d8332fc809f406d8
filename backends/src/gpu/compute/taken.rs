//! Which fields of which events are taken out of a channel's records for its picture: who runs
//! next on a CPU, and the values that are asked for. Classes come while it is recorded; a field
//! is looked for as soon as its class is there, before any record of it is.

use std::sync::Arc;

use rbpipe_core::channel::possible_cpus;
use rbpipe_core::class::{ClassId, EventClass};

use super::{ComputeError, Picker, Take, Timeline};
use crate::timeline::{Entry, Field, Label, Name, Transition, Value, pick, pick_states};

/// What is wanted of a channel's records beside their times.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Numeric fields: (event, field).
    pub values: Vec<(String, String)>,
    /// How many states and values, of all streams together, the device keeps (16 bytes each,
    /// for what there is of them).
    pub room: u64,
}

/// One field that is taken, or is to be.
pub(super) struct Taken {
    /// `None`: who runs.
    value: Option<(String, String)>,
    /// Of the device's rings.
    room: u64,
    pub found: Found,
}

pub(super) enum Found {
    /// Its class is not there yet.
    Awaited,
    /// There; on the device it has this number, once it is known there.
    Here { field: Field, take: Take, number: Option<usize> },
    /// It cannot be taken, and why.
    Refused(String),
}

/// What was taken out of a packet in ordinary memory.
#[derive(Debug, Default)]
pub(super) struct Picks {
    pub states: Vec<Transition>,
    pub names: Vec<(u32, Name)>,
    /// Of each field that is asked for.
    pub values: Vec<Vec<Value>>,
}

impl Asking {
    /// The states first, then the values in their order.
    pub(super) fn taken(self) -> Vec<Taken> {
        let room = self.room / (1 + self.values.len() as u64);
        let one = |value| Taken { value, room, found: Found::Awaited };
        std::iter::once(one(None)).chain(self.values.into_iter().map(|v| one(Some(v)))).collect()
    }
}

/// Streams that a device has rings for: each CPU's own, in three sources.
pub(super) fn lanes() -> u32 {
    (possible_cpus() * 3).clamp(16, 1024)
}

impl Taken {
    /// A class has come.
    pub fn look(&mut self, place: usize, class: &EventClass) {
        // One that has not what is wanted may be followed by one of the same name that has.
        if matches!(self.found, Found::Here { .. }) {
            return;
        }
        let id = ClassId::from_index(place as u32).number();
        let here = |field, take| Found::Here { field, take, number: None };
        match &self.value {
            None if class.name.rsplit(':').next() == Some("sched_switch") => {
                if let Some(field) = Field::of(id, class, "next_pid") {
                    let label = Label::of(class, "next_comm");
                    self.found = here(field, Take::States(label));
                }
            }
            Some((event, name)) if *event == class.name => {
                self.found = match Field::of(id, class, name) {
                    Some(field) => here(field, Take::Values),
                    None => Found::Refused(refusal(class, name)),
                };
            }
            _ => {}
        }
    }

    /// Has the device take it from now on.
    pub fn begin(&mut self, timeline: &mut Timeline) {
        let Found::Here { field, take, number: number @ None } = &mut self.found else { return };
        let streams = lanes();
        let most = (timeline.compute().binding_size() / 16).min(self.room) / u64::from(streams);
        let capacity = u32::try_from(most).unwrap_or(u32::MAX);
        match Picker::new(timeline.compute(), *field, *take, streams, capacity) {
            Ok(picker) => *number = Some(timeline.pick(picker)),
            Err(ComputeError(why)) => self.found = Found::Refused(why),
        }
    }

    /// Takes it out of a packet's entries.
    pub fn pick(&self, packet: &[u8], entries: &[Entry], picks: &mut Picks) {
        let mut values = Vec::new();
        match &self.found {
            Found::Here { field, take: Take::States(label), .. } => {
                let (states, names) = pick_states(packet, 0, entries, field, label.as_ref());
                picks.states.extend(states);
                picks.names = names;
                // Each as it was called last.
                let mut seen = std::collections::HashSet::new();
                picks.names.reverse();
                picks.names.retain(|(state, _)| seen.insert(*state));
                return;
            }
            Found::Here { field, take: Take::Values, .. } => {
                values = pick(packet, 0, entries, field);
            }
            Found::Awaited | Found::Refused(_) => {}
        }
        if self.value.is_some() {
            picks.values.push(values);
        }
    }

    /// Why there are no values; `None`: there are, or, if it is not the end, may be.
    pub fn missing(&self, classes: &[Arc<EventClass>], is_end: bool) -> Option<String> {
        match (&self.found, &self.value) {
            (Found::Refused(why), _) => Some(why.clone()),
            (Found::Awaited, Some((event, _))) if is_end => Some(format!(
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
