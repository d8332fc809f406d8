//! Which machine this is, and whether it had something else to do.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The CPU's model.
    pub cpu: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// It is virtual: the host may take its CPUs away.
    pub is_virtual: bool,
    /// MiB.
    pub memory: u64,
    /// Its release.
    pub kernel: String,
    /// Where CLOCK_MONOTONIC comes from.
    pub clock_source: String,
    /// Who chooses the CPU's frequency; `none` where nobody does.
    pub governor: String,
    /// The file system that is written to.
    pub file_system: String,
    /// What `rbpipe devices` finds.
    pub gpus: Vec<String>,
    /// The program was built with optimisation; figures of one that was not say nothing.
    pub optimised: bool,
}

impl Machine {
    /// This one; files go to `dir`.
    pub fn look(dir: &Path) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|l| l.split(':').next().unwrap_or("").trim() == name);
            line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
        };
        let cpu = field("model name").or_else(|| field("Model")).or_else(|| field("cpu model"));
        let uname = rustix::system::uname();
        let sys = |path: &str| read(&format!("/sys/devices/system/{path}")).trim().to_owned();
        let or = |text: String, other: &str| if text.is_empty() { other.into() } else { text };
        let gpus = crate::devices::gpus();
        Self {
            cpu: cpu.unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
            cores: cores(),
            is_virtual: field("flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            memory: number("/proc/meminfo", "MemTotal:") >> 10,
            kernel: uname.release().to_string_lossy().into_owned(),
            clock_source: or(sys("clocksource/clocksource0/current_clocksource"), "unknown"),
            governor: or(sys("cpu/cpu0/cpufreq/scaling_governor"), "none"),
            file_system: file_system(dir),
            gpus,
            optimised: !cfg!(debug_assertions),
        }
    }

    /// For people, in two lines.
    pub fn words(&self) -> String {
        let kind = if self.is_virtual { ", virtual" } else { "" };
        let gpus = if self.gpus.is_empty() { "none".to_owned() } else { self.gpus.join(", ") };
        format!(
            "{}, {}{kind}, {:.1} GiB; Linux {}\nclock {}; governor {}; files on {}; GPU {gpus}",
            self.cpu,
            crate::status::count(self.cores as u64, "core"),
            self.memory as f64 / 1024.0,
            self.kernel,
            self.clock_source,
            self.governor,
            self.file_system,
        )
    }
}

/// CPUs that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The type of the file system that a directory is on, as it is mounted.
fn file_system(dir: &Path) -> String {
    let Ok(dir) = fs::canonicalize(dir) else { return "unknown".into() };
    let mounts = read("/proc/self/mounts");
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?.replace("\\040", " "), fields.next()?);
        dir.starts_with(&at).then_some((at.len(), kind))
    });
    // The last one that is mounted at a place is the one that is seen.
    found.max_by_key(|(len, _)| *len).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// A number in one of the kernel's lists.
fn number(path: &str, name: &str) -> u64 {
    let text = read(path);
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of this process that are in memory.
pub fn resident() -> u64 {
    number("/proc/self/status", "VmRSS:") << 10
}

/// The most that ever were.
pub fn most_resident() -> u64 {
    number("/proc/self/status", "VmHWM:") << 10
}

/// How often this thread lost its CPU to another one without wanting to.
pub fn pushed_aside() -> u64 {
    number("/proc/thread-self/status", "nonvoluntary_ctxt_switches:")
}

/// The load of the last minute.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// What the CPUs have done by a time, in hundredths of a second (the kernel's USER_HZ).
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    busy: f64,
    stolen: f64,
    all: f64,
}

impl Ticks {
    /// By now.
    pub fn now() -> Self {
        Self::of(&read("/proc/stat"))
    }

    fn of(stat: &str) -> Self {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or("");
        let n: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let at = |i: usize| n.get(i).copied().unwrap_or(0.0);
        // user nice system idle iowait irq softirq steal (guests are in user and nice)
        let stolen = at(7);
        let busy = at(0) + at(1) + at(2) + at(5) + at(6) + stolen;
        Self { busy, stolen, all: busy + at(3) + at(4) }
    }

    /// The part of the CPUs' time since then that went to others than this process, which used
    /// so many seconds of it: 0 to 1. The host's part is in it.
    pub fn others(&self, used: f64) -> f64 {
        self.others_by(&Self::now(), used)
    }

    fn others_by(&self, now: &Self, used: f64) -> f64 {
        let all = now.all - self.all;
        if all <= 0.0 { 0.0 } else { ((now.busy - self.busy - used * 100.0) / all).clamp(0.0, 1.0) }
    }

    /// The part that the host took away.
    pub fn stolen(&self) -> f64 {
        let now = Self::now();
        let all = now.all - self.all;
        if all <= 0.0 { 0.0 } else { (now.stolen - self.stolen) / all }
    }
}

/// What else the machine had to do while it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// The part of the CPUs that other programs used, and the host took: 0 to 1.
    pub others: f64,
    /// The host's part.
    pub stolen: f64,
    /// The load before it began.
    pub load: f64,
    /// How often in a second a writer lost its CPU.
    pub pushed_aside: f64,
    /// Runs, and those of them in which others used more than a quarter of the CPUs.
    pub runs: u64,
    pub noisy_runs: u64,
}

impl Noise {
    /// Whether figures are worth less for it.
    pub fn is_loud(&self) -> bool {
        self.others > 0.05 || self.stolen > 0.02
    }

    /// For people, in a line.
    pub fn words(&self) -> String {
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        if !self.is_loud() {
            return format!("the machine was quiet (others used {})", percent(self.others));
        }
        format!(
            "the machine was noisy: others used {} of its CPUs (the host took {}), load {:.1} \
             before; read ratios, and the spread",
            percent(self.others),
            percent(self.stolen),
            self.load
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_use_is_what_is_not_ours() {
        let then = Ticks::of("cpu  100 0 50 1000 10 0 0 5 0 0\ncpu0 1 2 3\n");
        let now = Ticks::of("cpu  180 0 60 1090 10 5 0 10 80 0\n");
        // 100 of 190 ticks were busy, 5 of them the host's.
        assert!((then.others_by(&now, 0.25) - 75.0 / 190.0).abs() < 1e-9);
        assert_eq!(then.others_by(&now, 9.0), 0.0, "never less than nothing");
        assert_eq!(then.others_by(&then, 0.0), 0.0);
    }

    #[test]
    fn this_machine_is_named() {
        let machine = Machine::look(Path::new("/proc"));
        assert_eq!(machine.file_system, "proc");
        assert!(machine.cores > 0 && machine.memory > 0 && !machine.kernel.is_empty());
        assert!(resident() > 1 << 20);
    }
}
