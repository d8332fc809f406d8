//! `host`: what this machine does, from /proc, without privileges: CPU time per core, load
//! and context switches, memory, disks, network, and the busiest processes (`processes.rs`).
//!
//! Values of counters are differences over the interval; the first interval begins when the
//! source does. A file that is missing or unreadable is said once and left out.

mod processes;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use procfs::prelude::*;
use procfs::{CpuTime, KernelStats, LoadAverage, Meminfo};
use rbpipe_backends::units::Time;
use rbpipe_core::backend::ConfigProblem;
use rbpipe_core::class::{EventClass, Field, FieldType};
use serde::Deserialize;

use processes::Processes;

use super::payload::Payload;
use super::{Channels, Class, Source, Stop};

/// Keys of `type = "host"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two looks.
    pub interval: Time,
    /// So many of the busiest processes, of each interval but at most twice a second; 0: none.
    pub processes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval: Time(Duration::from_millis(100)), processes: 5 }
    }
}

/// The source.
pub struct Host;

impl Source for Host {
    const TYPE: &'static str = "host";
    const ABOUT: &'static str = "this machine: CPU, load, memory, disk and network, from /proc";
    const SAMPLE: &'static str = "\
# What this machine does, without privileges: host:cpu (one for each core), host:load,
# host:memory, host:disk, host:net; host:process for each of the busiest processes (-1: bytes
# read and written are not yours to know). Counters are differences over the interval.
type = \"host\"
interval = \"100 ms\"
processes = 5           # so many of the busiest, at most twice a second; 0: none
";
    type Config = Config;

    fn check(config: &Config) -> Vec<ConfigProblem> {
        if config.interval.0 >= Duration::from_millis(1) {
            return Vec::new();
        }
        vec![ConfigProblem { key: "interval", message: "at least \"1 ms\"".into() }]
    }

    type Opened = Config;

    fn open(config: Config) -> anyhow::Result<Config> {
        Ok(config)
    }
    fn run(config: Config, to: &Channels, stop: &Stop) -> anyhow::Result<()> {
        let mut host = Looks::new(to, config.processes)?;
        host.look(false);
        let mut next = Instant::now();
        loop {
            // From the beginning on, so that ticks do not drift; a tick missed is left out.
            next = (next + config.interval.0).max(Instant::now());
            if stop.wait_until(next) || !host.look(true) {
                return Ok(());
            }
        }
    }
}

/// The busiest processes are looked for no more often.
const PROCESSES_EVERY: Duration = Duration::from_millis(490);

const CPU: [&str; 8] =
    ["user_ns", "nice_ns", "system_ns", "idle_ns", "iowait_ns", "irq_ns", "softirq_ns", "steal_ns"];
const MEMORY: [&str; 8] =
    ["total", "free", "available", "buffers", "cached", "shmem", "swap_total", "swap_free"];
const DISK: [&str; 5] = ["reads", "writes", "read_bytes", "written_bytes", "io_ms"];
const NET: [&str; 8] = [
    "rx_bytes",
    "rx_packets",
    "rx_errors",
    "rx_dropped",
    "tx_bytes",
    "tx_packets",
    "tx_errors",
    "tx_dropped",
];

/// The source at work: classes, and the last value of each counter.
struct Looks<'a> {
    to: &'a Channels,
    cpu: Class,
    load: Class,
    memory: Class,
    disk: Class,
    net: Class,
    process: Class,
    processes: Option<Processes>,
    /// When they were last looked at.
    processes_at: Option<Instant>,
    last: HashMap<String, Vec<u64>>,
    said: Vec<&'static str>,
    payload: Payload,
    open: bool,
}

impl<'a> Looks<'a> {
    fn new(to: &'a Channels, processes: u32) -> anyhow::Result<Self> {
        let class = |name: &str, first: Option<Field>, rest: &[&str]| {
            let rest = rest.iter().map(|n| Field::new(*n, FieldType::U64));
            to.class(&EventClass::new(name, first.into_iter().chain(rest).collect()))
        };
        let name = || Some(Field::new("name", FieldType::String));
        let load = ["load1", "load5", "load15"].map(|n| Field::new(n, FieldType::Float64));
        let counts = ["running", "tasks", "context_switches", "forks"]
            .map(|n| Field::new(n, FieldType::U64));
        Ok(Self {
            to,
            cpu: class("host:cpu", Some(Field::new("cpu", FieldType::U32)), &CPU)?,
            load: to
                .class(&EventClass::new("host:load", load.into_iter().chain(counts).collect()))?,
            memory: class("host:memory", None, &MEMORY)?,
            disk: class("host:disk", name(), &DISK)?,
            net: class("host:net", name(), &NET)?,
            process: to.class(&EventClass::new("host:process", process_fields()))?,
            processes: (processes > 0).then(|| Processes::new(processes as usize)),
            processes_at: None,
            last: HashMap::new(),
            said: Vec::new(),
            payload: Payload::default(),
            open: true,
        })
    }

    /// One look. The first only takes the counters' values. False: nobody listens any more.
    fn look(&mut self, record: bool) -> bool {
        let stat = self.had("/proc/stat", KernelStats::current());
        if let Some(stat) = &stat {
            self.look_cpus(stat, record);
        }
        let load = self.had("/proc/loadavg", LoadAverage::current());
        if let (Some(load), Some(stat)) = (load, stat) {
            let since = self.since("load".into(), vec![stat.ctxt, stat.processes]);
            self.payload.clear();
            for average in [load.one, load.five, load.fifteen] {
                // The file has two digits; as binary32 they came with more.
                self.payload.f64((f64::from(average) * 100.0).round() / 100.0);
            }
            self.payload.u64(load.cur.into()).u64(load.max.into());
            self.payload.u64(since[0]).u64(since[1]);
            self.record(record, |s| &s.load);
        }
        if let Some(m) = self.had("/proc/meminfo", Meminfo::current()) {
            let values = [
                m.mem_total,
                m.mem_free,
                m.mem_available.unwrap_or(0),
                m.buffers,
                m.cached,
                m.shmem.unwrap_or(0),
                m.swap_total,
                m.swap_free,
            ];
            self.payload.clear();
            self.put(&values);
            self.record(record, |s| &s.memory);
        }
        for d in self.had("/proc/diskstats", procfs::diskstats()).unwrap_or_default() {
            // Loop devices and the like that nothing was ever done with.
            if d.reads + d.writes == 0 {
                continue;
            }
            // /proc/diskstats counts sectors of 512 bytes, whatever the device's are.
            let now = vec![
                d.reads,
                d.writes,
                d.sectors_read * 512,
                d.sectors_written * 512,
                d.time_in_progress,
            ];
            self.named(format!("disk {}", d.name), &d.name, now, record, |s| &s.disk);
        }
        for (name, n) in self.had("/proc/net/dev", procfs::net::dev_status()).unwrap_or_default() {
            let now = vec![
                n.recv_bytes,
                n.recv_packets,
                n.recv_errs,
                n.recv_drop,
                n.sent_bytes,
                n.sent_packets,
                n.sent_errs,
                n.sent_drop,
            ];
            self.named(format!("net {name}"), &name, now, record, |s| &s.net);
        }
        self.look_processes(record);
        self.open
    }

    fn look_cpus(&mut self, stat: &KernelStats, record: bool) {
        let tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let numbers = cpu_numbers(&online, stat.cpu_time.len());
        for (cpu, t) in numbers.into_iter().zip(&stat.cpu_time) {
            let CpuTime { user, nice, system, idle, iowait, irq, softirq, steal, .. } = t;
            let values = [
                *user,
                *nice,
                *system,
                *idle,
                iowait.unwrap_or(0),
                irq.unwrap_or(0),
                softirq.unwrap_or(0),
                steal.unwrap_or(0),
            ];
            let now = values.iter().map(|v| v * tick).collect();
            let since = self.since(format!("cpu {cpu}"), now);
            self.payload.clear().u32(cpu);
            self.put(&since);
            self.record(record, |s| &s.cpu);
        }
    }

    fn look_processes(&mut self, record: bool) {
        let Some(processes) = &mut self.processes else { return };
        // All of /proc is read for it: some milliseconds where there are hundreds.
        if self.processes_at.is_some_and(|at| at.elapsed() < PROCESSES_EVERY) {
            return;
        }
        self.processes_at = Some(Instant::now());
        let busy = processes.look().map_err(procfs::ProcError::from);
        for p in self.had("/proc", busy).unwrap_or_default() {
            let (read, written) = p.io.unwrap_or((u64::MAX, u64::MAX));
            self.payload.clear().u32(p.pid.cast_unsigned()).text(&p.comm);
            self.payload.text(p.state.encode_utf8(&mut [0; 4]));
            self.payload.u64(p.cpu_ns).u64(p.rss).u32(p.threads).u64(read).u64(written);
            self.record(record, |s| &s.process);
        }
    }

    fn named(
        &mut self,
        key: String,
        name: &str,
        now: Vec<u64>,
        record: bool,
        class: fn(&Self) -> &Class,
    ) {
        let since = self.since(key, now);
        self.payload.clear().text(name);
        self.put(&since);
        self.record(record, class);
    }

    fn put(&mut self, values: &[u64]) {
        for v in values {
            self.payload.u64(*v);
        }
    }

    /// The counters' differences; a counter that went back (a device that came again)
    /// counts from 0.
    fn since(&mut self, key: String, now: Vec<u64>) -> Vec<u64> {
        let before = self.last.insert(key, now.clone()).unwrap_or_else(|| now.clone());
        now.iter().zip(&before).map(|(n, b)| n.checked_sub(*b).unwrap_or(*n)).collect()
    }

    fn record(&mut self, record: bool, class: fn(&Self) -> &Class) {
        if record {
            self.open &= self.to.record(class(self), self.payload.bytes());
        }
    }

    fn had<T>(&mut self, file: &'static str, result: procfs::ProcResult<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                if !self.said.contains(&file) {
                    self.said.push(file);
                    tracing::warn!("host: {file}: {e}; events that come from it are left out");
                }
                None
            }
        }
    }
}

fn process_fields() -> Vec<Field> {
    let fields = [
        ("pid", FieldType::I32),
        ("comm", FieldType::String),
        ("state", FieldType::String),
        ("cpu_ns", FieldType::U64),
        ("rss", FieldType::U64),
        ("threads", FieldType::U32),
        // -1: not permitted.
        ("read_bytes", FieldType::I64),
        ("written_bytes", FieldType::I64),
    ];
    fields.map(|(name, ty)| Field::new(name, ty)).into()
}

/// The numbers of the CPUs whose times /proc/stat lists (procfs leaves them out): those that
/// are online, as in "0-3,6". While one comes or goes the two files may differ: then 0, 1, ….
fn cpu_numbers(online: &str, count: usize) -> Vec<u32> {
    let ranges = online.trim().split(',').map_while(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    let numbers: Vec<u32> = ranges.flatten().take(count + 1).collect();
    if numbers.len() == count { numbers } else { (0..count as u32).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_named_by_their_numbers() {
        assert_eq!(cpu_numbers("0-1\n", 2), [0, 1]);
        assert_eq!(cpu_numbers("1\n", 1), [1]);
        assert_eq!(cpu_numbers("0,2-3,7\n", 4), [0, 2, 3, 7]);
        assert_eq!(cpu_numbers("0-3\n", 3), [0, 1, 2]);
        assert_eq!(cpu_numbers("", 2), [0, 1]);
        assert_eq!(cpu_numbers("0-4294967295", 1), [0]);
    }

    #[test]
    fn counters_are_differences_and_may_begin_again() {
        let to = Channels::default();
        let mut looks = Looks::new(&to, 0).unwrap();
        assert_eq!(looks.since("a".into(), vec![5, 7]), [0, 0]);
        assert_eq!(looks.since("a".into(), vec![6, 9]), [1, 2]);
        assert_eq!(looks.since("a".into(), vec![2, 9]), [2, 0]);
    }
}
