//! The kernel's tracer, for tests that look at it from outside: a mount of their own, as the
//! program has one, and instances beside the program's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// tracefs, mounted for this process alone.
pub struct Tracefs {
    mount: OwnedFd,
}

/// It, if it is to be had. Under `CI=true` it must be. Elsewhere the test says that it is
/// skipped, and why.
///
/// # Panics
/// Under `CI=true`, if it is not to be had.
#[must_use]
pub fn tracefs(test: &str) -> Option<Tracefs> {
    match open() {
        Ok(mount) => Some(Tracefs { mount }),
        Err(e) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no tracefs under CI: {e}");
            eprintln!("SKIPPED {test}: tracefs is not to be had: {e}; root may");
            None
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

impl Tracefs {
    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.mount.as_raw_fd())).join(file)
    }

    /// The instances of a process of the program's, by the pid in their names.
    #[must_use]
    pub fn instances_of(&self, pid: u32) -> Vec<String> {
        let entries = fs::read_dir(self.path("instances")).expect("it is listed");
        let names =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|n| n.starts_with(&format!("rbpipe-{pid}-"))).collect()
    }

    /// Whether an instance traces. (One that was just made traces nothing for a moment: its
    /// events are not switched on yet.)
    #[must_use]
    pub fn traces(&self, instance: &str) -> bool {
        let read = |file| fs::read_to_string(self.path(&format!("instances/{instance}/{file}")));
        // In this order: it is switched off before its events are switched on.
        read("set_event").is_ok_and(|events| !events.trim().is_empty())
            && read("tracing_on").is_ok_and(|on| on.trim() == "1")
    }

    /// The name of a running program's instance, once it traces.
    ///
    /// # Panics
    /// It has none in twenty seconds.
    pub fn instance_of(&self, program: &Child) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let names = self.instances_of(program.id());
            if let Some(name) = names.into_iter().find(|n| self.traces(n)) {
                return name;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no instance of process {}", program.id());
    }

    /// What its top-level files say: those that say how it traces, by name.
    #[must_use]
    pub fn top_level(&self) -> BTreeMap<String, String> {
        let names = [
            "buffer_percent",
            "buffer_size_kb",
            "buffer_subbuf_size_kb",
            "current_tracer",
            "error_log",
            "events/enable",
            "kprobe_events",
            "max_graph_depth",
            "saved_cmdlines_size",
            "set_event",
            "set_event_pid",
            "set_ftrace_filter",
            "set_ftrace_pid",
            "trace_clock",
            "trace_options",
            "tracing_cpumask",
            "tracing_max_latency",
            "tracing_on",
            "uprobe_events",
        ];
        let read =
            |name: &&str| Some(((*name).to_owned(), fs::read_to_string(self.path(name)).ok()?));
        let mut all: BTreeMap<String, String> = names.iter().filter_map(read).collect();
        for name in ["", "instances", "trace", "tracing_on"] {
            let m = fs::metadata(self.path(name)).expect("it is there");
            all.insert(
                format!("mode of {name:?}"),
                format!("{:o} {} {}", m.mode(), m.uid(), m.gid()),
            );
        }
        all
    }

    /// An instance of the test's own; taken away when it is dropped.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn instance(&self, name: &str) -> Instance {
        let path =
            self.path("instances").join(format!("rbpipe-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("an instance");
        let this = Instance { path };
        this.set("tracing_on", "0");
        this
    }
}

/// An instance of a test's own.
pub struct Instance {
    path: PathBuf,
}

impl Instance {
    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Writes a value into one of its files.
    ///
    /// # Panics
    /// It is refused.
    pub fn set(&self, file: &str, value: &str) {
        set(&self.path.join(file), value).unwrap_or_else(|e| panic!("{file} = {value}: {e}"));
    }
    /// The text of one of its files.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = set(&self.path.join("tracing_on"), "0");
        let _ = set(&self.path.join("events/enable"), "0");
        let _ = fs::remove_dir(&self.path);
    }
}

/// Writes a value into a file of the tracer's.
///
/// # Errors
/// It is refused.
pub fn set(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
