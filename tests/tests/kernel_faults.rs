//! Goal: `source.ftrace` stays quiet, counts, and leaves nothing behind where the kernel or the
//! system is not as it hopes: it traces its own reading, there are no
//! files left, it is interrupted while it opens. Needs tracefs (root).

use std::fs;
use std::io::Read;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rbpipe_tests::program::{rbpipe, report, signal, start};
use rbpipe_tests::tracefs::{Tracefs, tracefs};
use rustix::process::{Pid, Signal, kill_process};

/// One at a time: they look at what is left of instances.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pipeline(events: &str, backend: &str) -> String {
    format!(
        r#"
[pipeline]
name = "faults"
[source.kernel]
type = "ftrace"
events = [{events}]
channel = "trace"
[channel.trace]
streams = "single"
[channel.trace.backend]
{backend}
"#
    )
}

const FILE: &str = "type = \"file\"\npath = \"trace\"";
const PAGES: &str = "type = \"pages\"";

/// The directory of the thread that reads the first CPUs.
fn reader(program: &Child) -> std::path::PathBuf {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.id())).expect("threads");
    let mut tasks = tasks.map(|t| t.expect("a thread").path());
    let is_it = |t: &std::path::PathBuf| {
        fs::read_to_string(t.join("comm")).is_ok_and(|name| name.trim() == "ftrace cpu0")
    };
    tasks.find(is_it).expect("a thread that reads")
}

#[test]
fn its_own_reading_is_no_flood() {
    let Some(tracefs) = tracefs("its_own_reading…") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut program = start(dir.path(), &pipeline("\"raw_syscalls:sys_enter\"", FILE));
    tracefs.instance_of(&program);
    let reader = reader(&program).file_name().expect("a tid").to_string_lossy().into_owned();
    thread::sleep(Duration::from_secs(1));
    signal(&program, Signal::INT);
    assert!(program.wait().expect("it ends").success());
    let read = rbpipe().current_dir(dir.path()).args(["read", "trace"]).output().expect("read");
    let text = String::from_utf8(read.stdout).expect("text");
    let own = text.lines().filter(|l| l.contains(&format!("common_pid = {reader},"))).count();
    // Ten ticks, with some calls in each.
    assert!((10..600).contains(&own), "{own} of {} records", text.lines().count());
}

/// Whatever is missing, what it does not read is not said to be none.
#[test]
fn without_files_it_fails_before_it_loses() {
    let Some(tracefs) = tracefs("without_files…") else { return };
    let _alone = alone();
    let mut failed = 0;
    for files in 16..30 {
        let dir = tempfile::tempdir().expect("a directory");
        let toml = pipeline("\"sched:sched_switch\"", PAGES);
        let toml = toml.replace("[pipeline]", "[pipeline]\nduration = \"200 ms\"");
        fs::write(dir.path().join("p.toml"), toml).expect("written");
        let mut command = std::process::Command::new("sh");
        let program = rbpipe();
        let script = format!("ulimit -n {files}; exec \"$0\" --config p.toml --report report.json");
        command.arg("-c").arg(script).arg(program.get_program());
        command.current_dir(dir.path()).env("XDG_RUNTIME_DIR", dir.path());
        let out = command.output().expect("it runs");
        assert_eq!(tracefs_left(&tracefs), 0, "{files} files");
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            let report = report(dir.path());
            let streams = report["channels"]["trace"]["streams"].as_array().expect("streams");
            // Its timer switches to the reader and back ten times a second on one of them at
            // least; on the others something happens in this time.
            let with_cpu = streams.iter().filter(|s| !s["cpu"].is_null());
            let quiet = with_cpu.filter(|s| s["offered"] == 0).count();
            assert!(quiet < streams.len() - 1, "{files} files: {report}");
        } else {
            failed += 1;
            assert!(!stderr.contains("refuses \"0\""), "{files} files: {stderr}");
        }
    }
    assert!(failed > 0, "too many files for a test");
}

/// Instances of any process of the program's that nobody has locked are left by it.
fn tracefs_left(tracefs: &Tracefs) -> usize {
    let all = fs::read_dir(tracefs.path("instances")).expect("it is listed");
    let ours = all.map(|e| e.expect("an entry").path()).filter(|p| {
        p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("rbpipe-"))
            && !p.to_string_lossy().contains("rbpipe-test-")
    });
    ours.filter(|p| {
        let file = fs::File::open(p);
        file.is_ok_and(|f| {
            rustix::fs::flock(&f, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
        })
    })
    .count()
}

/// Twice, while the kernel's events are being switched on: it exits at once, and removes what it
/// made.
#[test]
fn interrupted_twice_while_it_opens_it_leaves_nothing() {
    let Some(tracefs) = tracefs("interrupted_twice…") else { return };
    let _alone = alone();
    let mut at_once = 0;
    for late in [0, 5, 10, 20, 40, 60, 80, 100] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = rbpipe();
        fs::write(dir.path().join("p.toml"), pipeline("\"*:*\"", PAGES)).expect("written");
        command.current_dir(dir.path()).args(["--config", "p.toml"]);
        command.stderr(std::process::Stdio::piped());
        let mut program = command.spawn().expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while tracefs.instances_of(program.id()).is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(late));
        signal(&program, Signal::INT);
        thread::sleep(Duration::from_millis(3));
        let _ =
            kill_process(Pid::from_raw(program.id().cast_signed()).expect("a pid"), Signal::INT);
        let mut said = String::new();
        program.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        let code = program.wait().expect("it ends").code();
        at_once += usize::from(code == Some(130));
        let left = tracefs.instances_of(program.id());
        assert_eq!(left, Vec::<String>::new(), "after {late} ms, code {code:?}: {said}");
    }
    assert!(at_once > 0, "no second signal came in time: not a test");
}
