//! What is benched: each line of the registry, in each way that it has a plan for. The one place
//! where a backend's types are known; all else is the same for all of them.

use std::path::Path;
use std::time::Duration;

use rbpipe_core::backend::{Backend, BackendError, Visit};
use rbpipe_core::bench::{BenchPlan, BenchRig};
use serde::Deserialize;

use super::case::Case;
use super::report::named;
use super::run::{self, How, Sample};

/// A backend in one of its kinds.
pub trait Subject {
    /// Its type.
    fn backend(&self) -> &'static str;
    /// Which kind; may be empty.
    fn variant(&self) -> &str;
    /// What its bytes are held against.
    fn limit(&self) -> &str;
    /// That limit as bytes a second, where it is not the copying in memory.
    fn measure_limit(&self, place: &Path, time: Duration) -> Option<anyhow::Result<f64>>;
    /// Runs a case of it.
    fn run(&self, case: &Case, how: &How<'_>) -> anyhow::Result<Sample>;

    /// For people.
    fn name(&self) -> String {
        named(self.backend(), self.variant())
    }
}

/// All subjects of this build.
pub fn all() -> Vec<Box<dyn Subject>> {
    struct All(Vec<Box<dyn Subject>>);
    impl Visit for All {
        fn visit<B: Backend>(&mut self) {
            let mut plans = B::bench_plans();
            if plans.is_empty() {
                plans.push(of_sample::<B>());
            }
            self.0.extend(plans.into_iter().map(|p| Box::new(Of::<B>(p)) as Box<dyn Subject>));
        }
    }
    let mut all = All(Vec::new());
    rbpipe_backends::for_each(&mut all);
    all.0
}

struct Of<B: Backend>(BenchPlan<B::Config>);

impl<B: Backend> Subject for Of<B> {
    fn backend(&self) -> &'static str {
        B::TYPE
    }
    fn variant(&self) -> &str {
        &self.0.variant
    }
    fn limit(&self) -> &str {
        self.0.limit.as_ref().map_or("memory copy", |l| &l.what)
    }
    fn measure_limit(&self, place: &Path, time: Duration) -> Option<anyhow::Result<f64>> {
        let limit = self.0.limit.as_ref()?;
        Some((limit.measure)(place, time).map_err(Into::into))
    }
    fn run(&self, case: &Case, how: &How<'_>) -> anyhow::Result<Sample> {
        run::run::<B>(&self.0, case, how)
    }
}

/// A backend that says nothing else is run as its sample is.
fn of_sample<B: Backend>() -> BenchPlan<B::Config> {
    let set_up = |place: &Path| {
        let wrong = |e: &dyn std::fmt::Display| {
            BackendError::new(format!("the sample of {} cannot be read: {e}", B::TYPE))
        };
        let mut table: toml::Table = B::SAMPLE.parse().map_err(|e: toml::de::Error| wrong(&e))?;
        table.remove("type");
        if let Some(path) = table.get_mut("path") {
            let place = place.join("output");
            *path = toml::Value::String(place.to_string_lossy().into_owned());
        }
        Ok(BenchRig::new(B::Config::deserialize(table).map_err(|e| wrong(&e))?))
    };
    BenchPlan { variant: String::new(), limit: None, set_up: Box::new(set_up) }
}
