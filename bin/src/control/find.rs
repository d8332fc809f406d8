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

/// Connects to the pipeline of that name, or to the only one.
///
/// # Errors
/// There is none, or there are several.
pub fn connect(name: Option<&str>) -> Result<(UnixStream, String), Missing> {
    let (places, refused) = Place::all();
    let also = refused.iter().map(|r| format!("; {r}")).collect::<String>();
    if let Some(name) = name {
        let file = format!("{}.sock", stem(name));
        if let Some(stream) = places.iter().find_map(|p| UnixStream::connect(p.address(&file)).ok())
        {
            return Ok((stream, name.to_owned()));
        }
    }
    let mut running = running(&places);
    let names = running.iter().map(|(_, n)| format!("{n:?}")).collect::<Vec<_>>().join(", ");
    match (name, running.len()) {
        (_, 0) => {
            let looked: Vec<_> = candidates().iter().map(|p| p.display().to_string()).collect();
            let looked = looked.join(" and ");
            Err(Missing::Nobody(format!("no pipeline runs (looked in {looked}){also}")))
        }
        (None, 1) => Ok(running.remove(0)),
        (None, _) => Err(Missing::Which(format!("several pipelines run: name one of {names}"))),
        (Some(name), _) => {
            Err(Missing::Nobody(format!("no pipeline called {name:?} runs; there are {names}")))
        }
    }
}

/// The pipelines that listen, in the order of their names.
fn running(places: &[Place]) -> Vec<(UnixStream, String)> {
    let mut all: Vec<(UnixStream, String)> = Vec::new();
    for place in places {
        for entry in fs::read_dir(&place.path).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = file.strip_suffix(".sock") else { continue };
            let Ok(stream) = UnixStream::connect(place.address(&file)) else { continue };
            let name = read_lock(place, stem).map_or_else(|| stem.to_owned(), |(_, name)| name);
            all.push((stream, name));
        }
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}
