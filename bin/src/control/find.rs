//! Which pipelines are there, for the commands that talk to one.

use std::fs;
use std::os::unix::net::UnixStream;

use super::place::{Place, candidates, read_lock, stem};

/// Why there is no pipeline to talk to.
#[derive(Debug)]
pub enum Missing {
    /// None of that name, or none at all.
    Nobody(String),
    /// Several, and no name.
    Which(String),
}

/// Connects to the pipeline of that name, or to the only one: where this user's control
/// directory is, and, if nobody is there, where it is for who has no `XDG_RUNTIME_DIR` (a
/// service).
///
/// # Errors
/// There is none, or there are several.
pub fn connect(name: Option<&str>) -> Result<(UnixStream, String), Missing> {
    let mut others = Vec::new();
    for path in candidates().into_iter().filter(|p| fs::symlink_metadata(p).is_ok()) {
        // As who opens one: what is not to be trusted is a reason to stop.
        let place = Place::open(path).map_err(Missing::Nobody)?;
        if let Some(name) = name {
            let address = place.address(&format!("{}.sock", stem(name)));
            if let Ok(stream) = UnixStream::connect(address) {
                return Ok((stream, name.to_owned()));
            }
        }
        let mut running = running(&place);
        match (name, running.len()) {
            (None, 1) => return Ok(running.remove(0)),
            (None, 2..) => {
                let names = quoted(running.iter().map(|(_, name)| name));
                return Err(Missing::Which(format!("several pipelines run: name one of {names}")));
            }
            _ => others.extend(running.into_iter().map(|(_, name)| name)),
        }
    }
    Err(Missing::Nobody(match name {
        Some(name) if !others.is_empty() => {
            format!("no pipeline called {name:?} runs; there are {}", quoted(others.iter()))
        }
        _ => {
            let looked: Vec<_> = candidates().iter().map(|p| p.display().to_string()).collect();
            format!("no pipeline runs (looked in {})", looked.join(" and "))
        }
    }))
}

fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

/// The pipelines that listen, in the order of their names.
fn running(place: &Place) -> Vec<(UnixStream, String)> {
    let mut all: Vec<(UnixStream, String)> = Vec::new();
    for entry in fs::read_dir(&place.path).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(".sock") else { continue };
        let Ok(stream) = UnixStream::connect(place.address(&file)) else { continue };
        let name = read_lock(place, stem).map_or_else(|| stem.to_owned(), |(_, name)| name);
        all.push((stream, name));
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}
