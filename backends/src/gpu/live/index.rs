//! What is in each column of a picture of a store: counts, who ran, values.

use std::collections::BTreeMap;
use std::sync::Arc;

use rbpipe_core::class::{ClassId, ClassRegistry};

use super::super::compute::{self, Asking, ComputeError};
use super::super::config::Kind;
use super::super::device::Gpu;
use super::super::store::Store;
use super::states::busiest;
use super::threads::Did;
use crate::picture::Range;
use crate::timeline::{Aggregate, Window};

/// Event classes that are counted apart.
const CLASSES: usize = 1024;
/// Entries of an index, at least and at most: 1 MiB and 512 MiB of video memory.
const ENTRIES: (u64, u64) = (1 << 16, 1 << 25);

/// Events of each stream, and of each class, in each column, and what else there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bins {
    /// By the stream's number.
    pub(super) streams: BTreeMap<u32, Vec<u32>>,
    /// By the class's place in the registry.
    pub(super) classes: Vec<Vec<u32>>,
    /// Who ran, where that is told.
    pub(super) states: Option<compute::States>,
    /// What processes did, those that ran longest.
    pub(super) threads: Option<Did>,
    /// Of each field that is asked for.
    pub(super) values: Vec<Option<Vec<Option<Range>>>>,
}

/// Has a store's records indexed from now on, with so many bytes of memory for entries where
/// there is a device that can count: a quarter for who runs and for these fields' values.
///
/// # Errors
/// The device cannot.
pub(super) fn watch(
    store: &Arc<Store>,
    device: Option<&Arc<Gpu>>,
    registry: &Arc<ClassRegistry>,
    bytes: u64,
    values: Vec<(String, String)>,
) -> Result<compute::Live, ComputeError> {
    let all = (bytes / 16).clamp(ENTRIES.0, ENTRIES.1);
    let asking = Asking { values, room: all / 4 };
    // One that only copies cannot count.
    let device = device.filter(|gpu| gpu.kind != Kind::Noop);
    compute::Live::watch(store, device, Arc::clone(registry), all - all / 4, asking)
}

/// Counts what is in a window, who ran until a time, what so many processes did, and so many
/// fields' values.
///
/// # Errors
/// The device does not.
pub(super) fn count(
    live: &compute::Live,
    (window, until): (&Window, u64),
    (classes, values, threads): (usize, usize, usize),
) -> Result<Bins, ComputeError> {
    let classes: Vec<u32> =
        (0..classes.min(CLASSES) as u32).map(|i| ClassId::from_index(i).number()).collect();
    let missing = || live.totals().0.missing;
    let before = missing();
    let mut rows = live.density(window)?;
    // Records that were given up have no class. Where the device meets the first ones, they are
    // counted as records until that is known, which it is now.
    if missing() != before {
        rows = live.density(window)?;
    }
    let by_class = live.by_class(window, &classes)?;
    let columns = window.columns.max(1) as usize;
    let states = live.states(window, until)?;
    let mut tasks = states.as_ref().map_or_else(Vec::new, busiest);
    let all = tasks.len();
    tasks.truncate(threads);
    let found = match tasks.len() {
        0 => None,
        _ => live.threads(window, until, &tasks)?,
    };
    Ok(Bins {
        streams: rows.into_iter().map(|(stream, bins)| (stream.id, bins)).collect(),
        classes: by_class.chunks_exact(columns).map(<[u32]>::to_vec).collect(),
        states,
        threads: found.map(|found| Did { tasks, all, found }),
        values: (0..values)
            .map(|n| Ok(live.values(n, window)?.map(|all| all.into_iter().map(range).collect())))
            .collect::<Result<_, ComputeError>>()?,
    })
}

/// As it is drawn; `None`: there is no value, or not all of them are there.
fn range(all: Option<Aggregate>) -> Option<Range> {
    let all = all?;
    let mean = all.mean()?;
    Some(Range { min: all.min as f64, mean, max: all.max as f64 })
}
