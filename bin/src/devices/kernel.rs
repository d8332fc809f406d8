//! Kernel tracing: whether `source.ftrace` could begin. A mount that is made to find out goes
//! with the process, and nobody else sees it.

use super::{Device, State};
use crate::sources::ftrace::mount::Tracefs;

pub(super) fn look() -> Device {
    let device = |state, what: String, advice| Device {
        kind: "kernel tracing",
        name: "tracefs".into(),
        state,
        what,
        advice,
    };
    match Tracefs::find() {
        Ok(tracefs) => {
            let place = match tracefs.mounted_at() {
                Some(place) => format!("mounted at {}", place.display()),
                None => "not mounted; rbpipe opens it for itself".into(),
            };
            let events = std::fs::read_to_string(tracefs.path("available_events"));
            let events = events.map_or(0, |e| e.lines().count());
            let instances = "instances of our own are possible";
            device(State::Usable, format!("{place}, {events} events, {instances}"), None)
        }
        Err(e) => {
            let state = if e.is_refused() { State::NoAccess } else { State::Absent };
            // The line says already what it is about.
            let words = e.to_string();
            let words = words.split_once("to be had: ").map_or(&*words, |(_, why)| why);
            device(state, words.to_owned(), None)
        }
    }
}
