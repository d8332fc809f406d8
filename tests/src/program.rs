//! The program, as people run it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program, with a place of its own for its control socket: pipelines of one name that run
/// at once are no trouble.
///
/// # Panics
/// If it cannot be built.
pub fn rbpipe() -> Command {
    let mut command = Command::new(path());
    command.stdin(Stdio::null()).env("XDG_RUNTIME_DIR", runtime());
    command
}

/// A fresh `XDG_RUNTIME_DIR`, beside the program: for who calls it in another way, or talks to
/// it.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn runtime() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Those of earlier runs of this process's number are as good as new.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("runtime/{}-{count}", std::process::id());
    let place = path().with_file_name(name);
    std::fs::create_dir_all(&place).expect("made");
    place
}

/// The program's path: built once for the tests, optimised, as it is used.
fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let out = Command::new(env!("CARGO"))
            .args(["build", "--release", "-q", "-p", "rbpipe", "--message-format=json"])
            .current_dir(&root)
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(out.status.success(), "the program builds");
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .filter(|m| m["target"]["name"] == "rbpipe")
            .find_map(|m| m["executable"].as_str().map(PathBuf::from))
            .expect("cargo says where the program is")
    })
}

/// Runs a pipeline written as TOML in `dir`, with a report; gives both.
///
/// # Panics
/// If it cannot be run.
pub fn run(dir: &Path, toml: &str) -> (Output, Value) {
    let config = dir.join("pipeline.toml");
    let report = dir.join("report.json");
    let _ = std::fs::remove_file(&report);
    std::fs::write(&config, toml).expect("written");
    let out = rbpipe()
        .current_dir(dir)
        .args(["--config", "pipeline.toml", "--report", "report.json"])
        .output()
        .expect("it runs");
    let text = std::fs::read(&report).unwrap_or_default();
    (out, serde_json::from_slice(&text).unwrap_or(Value::Null))
}

/// Runs a pipeline in `dir`, with a report, whose files may have so many KiB and no more: a
/// full disk of its own kind.
///
/// # Panics
/// If it cannot be run.
pub fn run_limited(dir: &Path, toml: &str, kib: u32) -> Output {
    limited(dir, toml, kib).output().expect("it runs")
}

/// See [`run_limited`].
///
/// # Panics
/// If the configuration cannot be written.
pub fn limited(dir: &Path, toml: &str, kib: u32) -> Command {
    std::fs::write(dir.join("pipeline.toml"), toml).expect("written");
    let script = format!("ulimit -f {kib}; exec \"$0\" --config pipeline.toml --report \"$1\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(rbpipe().get_program()).arg("report.json");
    command.current_dir(dir).stdin(Stdio::null()).env("XDG_RUNTIME_DIR", runtime());
    command
}

/// The report that a run left in `dir`.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn report(dir: &Path) -> Value {
    let text = std::fs::read(dir.join("report.json")).expect("a report");
    serde_json::from_slice(&text).expect("JSON")
}

/// Starts a pipeline and leaves it running.
///
/// # Panics
/// If it cannot be started.
pub fn start(dir: &Path, toml: &str) -> Child {
    std::fs::write(dir.join("pipeline.toml"), toml).expect("written");
    rbpipe()
        .current_dir(dir)
        .args(["--config", "pipeline.toml", "--report", "report.json"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// A running pipeline that can be talked to. Killed when it is dropped.
pub struct Pipeline {
    child: Option<Child>,
    /// Its `XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
}

/// Starts a pipeline in `dir`, with a report, and leaves it running.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn launch(dir: &Path, toml: &str) -> Pipeline {
    launch_in(dir, toml, runtime())
}

/// The same with an `XDG_RUNTIME_DIR`.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn launch_in(dir: &Path, toml: &str, runtime: PathBuf) -> Pipeline {
    std::fs::write(dir.join("pipeline.toml"), toml).expect("written");
    let child = rbpipe()
        .current_dir(dir)
        .env("XDG_RUNTIME_DIR", &runtime)
        .args(["--config", "pipeline.toml", "--report", "report.json"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    Pipeline { child: Some(child), runtime }
}

impl Pipeline {
    /// One that was started in another way, with this `XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn of(child: Child, runtime: PathBuf) -> Self {
        Self { child: Some(child), runtime }
    }

    /// Its process.
    ///
    /// # Panics
    /// Never.
    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("until it is waited for")
    }

    /// Runs a command that talks to pipelines: `["flush"]`.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn talk(&self, args: &[&str]) -> Output {
        rbpipe().args(args).env("XDG_RUNTIME_DIR", &self.runtime).output().expect("it runs")
    }

    /// The same; it succeeds. Gives its stdout.
    ///
    /// # Panics
    /// If it does not.
    pub fn told(&self, args: &[&str]) -> String {
        assert!(self.listens(), "{args:?} is not for somebody else's");
        let out = self.talk(args);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Whether it runs by now.
    ///
    /// # Panics
    /// If the command cannot be run.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.listens() && self.talk(&["status", "--json"]).status.success()
    }

    /// Whether it has a socket of its own: where there is none, commands look for others.
    fn listens(&self) -> bool {
        let all = std::fs::read_dir(self.runtime.join("rbpipe")).into_iter().flatten().flatten();
        let mut sockets =
            all.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "sock"));
        sockets.any(|p| std::os::unix::net::UnixStream::connect(p).is_ok())
    }

    /// Waits until it runs.
    ///
    /// # Panics
    /// If it does not within 20 s.
    pub fn wait_until_it_answers(&self) {
        let begin = Instant::now();
        while !self.answers() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_with_output(mut self) -> Output {
        let child = self.child.take().expect("waited for once");
        child.wait_with_output().expect("it ends")
    }

    /// Kills it, as nothing else does: nothing is put in order.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("waited for once");
        child.kill().expect("killed");
        child.wait().expect("it has ended");
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a running program.
///
/// # Panics
/// If it is gone.
pub fn signal(program: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(program.id().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("sent");
}

/// Checks the books of a channel or a stream in a report.
///
/// # Panics
/// If they do not balance.
pub fn balance(b: &Value) {
    let n = |path: &str| b.pointer(path).and_then(Value::as_u64).expect(path);
    assert_eq!(
        n("/offered"),
        n("/recorded") + n("/lost/full") + n("/lost/wrap") + n("/lost/too_big") + n("/aborted"),
        "{b}"
    );
    assert_eq!(
        n("/recorded"),
        n("/output/records") + n("/output/failed_records") + n("/overwritten") + n("/kept"),
        "{b}"
    );
}

/// What `rbpipe read --count` says of a trace in `dir`: events, discarded, packets lost.
///
/// # Panics
/// If it does not.
#[must_use]
pub fn counts(dir: &Path, trace: &str) -> (u64, u64, u64) {
    let out = rbpipe().current_dir(dir).args(["read", "--count", trace]).output().expect("runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let n = |key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).expect(key);
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect(key)
    };
    (n("events"), n("discarded"), n("packets_lost"))
}

/// The pieces of the trace at `path`, the oldest first, the current one last.
///
/// # Panics
/// If its directory cannot be read.
#[must_use]
pub fn pieces(path: &Path) -> Vec<PathBuf> {
    let name = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut all: Vec<PathBuf> = std::fs::read_dir(path.parent().expect("it is in a directory"))
        .expect("readable")
        .map(|e| e.expect("readable").path())
        .filter(|p| {
            let file = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            file.strip_prefix(&name).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        })
        .collect();
    all.sort();
    all.push(path.to_owned());
    all
}
