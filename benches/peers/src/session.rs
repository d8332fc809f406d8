//! All peers, cases and payloads in turns, round after round, so that what disturbs the machine for
//! a while disturbs all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::each::each;
use crate::measure::{self, Found};
use crate::peer::{Case, Kind, Opened, Put, Visit};

/// Bytes of payloads.
pub const PAYLOADS: [usize; 3] = [8, 32, 256];

/// What is run.
pub struct Plan {
    /// Rounds begin until then.
    pub time: Duration,
    /// So many at least.
    pub least: usize,
    /// How long one run is.
    pub run: Duration,
    /// Peers whose name has one of these in it; all where there are none.
    pub only: Vec<String>,
}

/// The middle, the least and the most of some rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle.
    pub mid: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        [self.mid, self.least, self.most].serialize(s)
    }
}

/// Of these; `None` of nothing.
#[must_use]
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut v: Vec<f64> = values.into_iter().collect();
    v.sort_by(f64::total_cmp);
    let (least, most) = (*v.first()?, *v.last()?);
    Some(Spread { mid: v[v.len() / 2], least, most })
}

/// A peer's place in the list, payload and case.
type Cell = (usize, usize, u8);

/// What all rounds have found.
#[derive(Default)]
pub struct Session {
    names: Vec<(&'static str, Kind)>,
    cells: BTreeMap<Cell, Vec<Found>>,
    /// Whole rounds.
    pub rounds: usize,
}

struct Round<'a> {
    plan: &'a Plan,
    noise: &'a [u8],
    session: &'a mut Session,
    place: usize,
}

impl<const N: usize> Visit<N> for Round<'_> {
    fn peer<P: Put<N> + 'static>(
        &mut self,
        name: &'static str,
        kind: Kind,
        open: impl Fn(Case) -> Opened<P>,
    ) {
        let place = self.place;
        self.place += 1;
        if self.session.names.len() == place {
            self.session.names.push((name, kind));
        }
        let only = &self.plan.only;
        if !only.is_empty() && !only.iter().any(|part| name.contains(part.as_str())) {
            return;
        }
        for case in [Case::Alone, Case::Drained, Case::Flooded, Case::Two] {
            if kind.has(case) {
                let found = measure::run((name, kind, case), &open, self.plan.run, self.noise);
                self.session.cells.entry((place, N, case as u8)).or_default().push(found);
            }
        }
    }
}

impl Session {
    /// Runs the plan; `told` is called after each round.
    pub fn run(plan: &Plan, told: &mut dyn FnMut(usize)) -> Self {
        let (mut session, noise, begin) = (Self::default(), measure::noise(), Instant::now());
        let mut longest = Duration::ZERO;
        // No round is begun that would not be done in time, but for the least.
        while session.rounds < plan.least || begin.elapsed() + longest < plan.time {
            let round = Instant::now();
            let mut visit = Round { plan, noise: &noise, session: &mut session, place: 0 };
            each::<8>(&mut visit);
            visit.place = 0;
            each::<32>(&mut visit);
            visit.place = 0;
            each::<256>(&mut visit);
            session.rounds += 1;
            longest = longest.max(round.elapsed());
            told(session.rounds);
        }
        session
    }

    /// All peers that were run.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let named = self.names.iter().enumerate();
        named
            .flat_map(|(place, (name, kind))| PAYLOADS.map(|n| self.row(place, name, *kind, n)))
            .filter(|row| row.alone.is_some() || row.drained.is_some())
            .collect()
    }

    fn row(&self, place: usize, name: &'static str, kind: Kind, payload: usize) -> Row {
        let cell = |case: Case| self.cells.get(&(place, payload, case as u8));
        let of = |case: Case, f: &dyn Fn(&Found) -> Option<f64>| {
            spread(cell(case)?.iter().filter_map(f))
        };
        // Of runs of one round: what disturbed it disturbed both.
        let by = |case: Case| {
            let pairs = cell(case)?.iter().zip(cell(Case::Alone)?);
            spread(pairs.map(|(a, b)| a.ns / b.ns))
        };
        Row {
            name,
            kind: format!("{kind:?}").to_lowercase(),
            payload,
            alone: of(Case::Alone, &|f| Some(f.ns)),
            drained: of(Case::Drained, &|f| Some(f.ns)),
            two: of(Case::Two, &|f| Some(f.ns)),
            drained_by_alone: by(Case::Drained),
            two_by_alone: by(Case::Two),
            lost: of(Case::Flooded, &|f| Some(f.lost)),
            flooded: of(Case::Flooded, &|f| Some(f.ns)),
            p999: of(Case::Drained, &|f| f.p999),
            p999_by_median: of(Case::Drained, &|f| Some(f.p999? / f.median)),
            p999_alone: of(Case::Alone, &|f| f.p999),
            p999_by_median_alone: of(Case::Alone, &|f| Some(f.p999? / f.median)),
        }
    }
}

/// A peer with one payload: nanoseconds of a record, and what else there is.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// `ours`, `limit`, `queue`, `worker`.
    pub kind: String,
    /// Bytes.
    pub payload: usize,
    /// One thread.
    pub alone: Option<Spread>,
    /// With a consumer.
    pub drained: Option<Spread>,
    /// Two threads.
    pub two: Option<Spread>,
    /// With a consumer ÷ without.
    pub drained_by_alone: Option<Spread>,
    /// Two threads ÷ one.
    pub two_by_alone: Option<Spread>,
    /// Part of the records that was lost with a consumer, and a writer that never waits.
    pub lost: Option<Spread>,
    /// What a record costs then; where nearly all slices lost some, lost ones are among them.
    pub flooded: Option<Spread>,
    /// 99.9 % of single records with a consumer took no longer, one clock read taken off.
    pub p999: Option<Spread>,
    /// That, beside the median of single records.
    pub p999_by_median: Option<Spread>,
    /// The same without a consumer.
    pub p999_alone: Option<Spread>,
    /// The same without a consumer.
    pub p999_by_median_alone: Option<Spread>,
}
