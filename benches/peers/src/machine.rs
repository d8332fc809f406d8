//! Which machine this is, and its first two CPUs.

use std::fs;
use std::hint::black_box;
use std::sync::OnceLock;

use rbpipe_core::clock;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's model.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Its release.
    pub kernel: String,
    /// Where CLOCK_MONOTONIC comes from.
    pub clock_source: String,
    /// The load of the last minute, at the beginning: figures of a busy machine mean little.
    pub load: f64,
    /// The program was built with optimisation.
    pub optimised: bool,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn look() -> Self {
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let load = read("/proc/loadavg");
        Self {
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: cpus().len(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            clock_source: source.trim().to_owned(),
            load: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// In one line.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { cpu, cores, kernel, clock_source, load, optimised } = self;
        let not = if *optimised { "" } else { "; BUILT WITHOUT OPTIMISATION: use --release" };
        format!(
            "{cpu}, {cores} cores, Linux {kernel}, clock {clock_source}, load {load:.1} at the \
             beginning{not}"
        )
    }
}

/// CPUs that this process could use when it was first asked.
fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let set = sched_getaffinity(None).expect("a thread has CPUs");
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    })
}

/// Puts this thread on the `i`-th of the CPUs; where there is one alone, all are there.
pub fn pin(i: usize) {
    let cpus = cpus();
    let mut set = CpuSet::new();
    set.set(cpus[i % cpus.len()]);
    // Where it may not, it runs where the kernel wants.
    let _ = sched_setaffinity(None, &set);
}

/// Nanoseconds of a clock read.
pub fn clock_ns() -> f64 {
    static NS: OnceLock<f64> = OnceLock::new();
    *NS.get_or_init(|| {
        let mut times: Vec<f64> = (0..101)
            .map(|_| {
                let begin = clock::now();
                for _ in 0..1000 {
                    black_box(clock::now());
                }
                (clock::now() - begin) as f64 / 1001.0
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[50]
    })
}
