//! Records pages of the kernel's ring buffer, and the kernel's own text of them: the fixtures
//! of `kernel_pages`. `tests/fixtures/kernel/record` runs it; see the README there.
//!
//! In an instance of its own, of the tracefs that it is given: a load of its own is traced
//! (its threads and children, and what interrupts them), the instance is stopped, the text is
//! read in three forms, then the pages, which empties it. Nothing else is touched.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

struct Recording {
    name: &'static str,
    clock: &'static str,
    subbuf_kb: u32,
    buffer_kb: u32,
    /// `SYSTEM` or `SYSTEM/EVENT`; none: all.
    events: &'static [&'static str],
    /// Of an event: what is kept of it.
    filters: &'static [(&'static str, &'static str)],
    /// Options of the instance that are on.
    options: &'static [&'static str],
    load: fn(&Path, &Tracer),
}

const MANY: &[&str] = &[
    "sched",
    "signal",
    "task",
    "irq",
    "irq_vectors",
    "timer",
    "workqueue",
    "block",
    "ext4",
    "jbd2",
    "net",
    "tcp",
    "skb",
    "udp",
    "sock",
    "napi",
    "exceptions",
    "writeback",
    "raw_syscalls",
    "syscalls/sys_enter_openat",
    "syscalls/sys_exit_openat",
    "syscalls/sys_enter_execve",
    "syscalls/sys_enter_unlink",
    "kmem/kmalloc",
    "kmem/mm_page_alloc",
    "mmap",
    "rcu",
    "cgroup",
    "percpu",
    "x86_fpu",
    "tlb",
    "ipi",
    "filemap",
];

const RECORDINGS: &[Recording] = &[
    Recording {
        name: "many-4k",
        clock: "mono",
        subbuf_kb: 4,
        buffer_kb: 4096,
        events: MANY,
        filters: &[],
        options: &[],
        load: |dir, instance| {
            markers(instance, 3800);
            everything(dir);
        },
    },
    Recording {
        name: "many-64k",
        clock: "mono",
        subbuf_kb: 64,
        buffer_kb: 8192,
        events: MANY,
        filters: &[],
        options: &["stacktrace", "userstacktrace"],
        load: |dir, instance| {
            markers(instance, 1000);
            files(dir);
            exec();
            std::thread::sleep(Duration::from_millis(200));
        },
    },
    // The clock's text is its full value. Events that are filtered while another one is, are
    // written and taken back: the next one has a time of its own.
    Recording {
        name: "filter-tsc",
        clock: "x86-tsc",
        subbuf_kb: 4,
        buffer_kb: 1024,
        events: &["raw_syscalls", "irq_vectors", "timer/hrtimer_expire_entry"],
        filters: &[
            ("raw_syscalls/sys_enter", "id == 230"),
            ("raw_syscalls/sys_exit", "id == 230"),
            ("irq_vectors/local_timer_entry", "vector == 0"),
            ("timer/hrtimer_expire_entry", "now == 1"),
        ],
        options: &[],
        load: |_, _| {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                });
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(300) {
                    let _ = rustix::process::getppid();
                }
                done.store(true, Ordering::Relaxed);
            });
        },
    },
    // More than it holds, and the reader comes too late.
    Recording {
        name: "overwrite-4k",
        clock: "mono",
        subbuf_kb: 4,
        buffer_kb: 12,
        events: &["raw_syscalls"],
        filters: &[],
        options: &["overwrite"],
        load: |_, _| {
            for _ in 0..2000 {
                drop(File::open("/dev/null"));
            }
        },
    },
];

/// An instance of the tracer.
struct Tracer(PathBuf);

impl Tracer {
    fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        let written = OpenOptions::new().write(true).truncate(true).open(&path);
        let written = written.and_then(|mut f| f.write_all(value.as_bytes()));
        written.unwrap_or_else(|e| panic!("{value} > {}: {e}", path.display()));
    }
    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).expect("the instance is removed");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tracefs, out, wanted @ ..] = &arguments[..] else {
        eprintln!("record_kernel TRACEFS OUT [NAME|all]...");
        std::process::exit(2);
    };
    let all = Recording {
        name: "all",
        clock: "mono",
        subbuf_kb: 64,
        buffer_kb: 65536,
        events: &[],
        filters: &[],
        options: &[],
        load: |dir, instance| {
            markers(instance, 3800);
            everything(dir);
        },
    };
    for recording in RECORDINGS.iter().chain([&all]) {
        let named = wanted.iter().any(|w| w == recording.name);
        if named || (wanted.is_empty() && recording.name != "all") {
            record(Path::new(tracefs), Path::new(out), recording);
        }
    }
}

fn record(tracefs: &Path, out: &Path, recording: &Recording) {
    let path = tracefs.join(format!("instances/rbpipe-fixture-{}", std::process::id()));
    fs::create_dir(&path).expect("an instance: root, and a tracefs");
    let instance = Tracer(path);
    let dir = tempfile::tempdir().expect("a directory");
    instance.set("tracing_on", "0");
    instance.set("trace_clock", recording.clock);
    instance.set("buffer_subbuf_size_kb", &recording.subbuf_kb.to_string());
    instance.set("buffer_size_kb", &recording.buffer_kb.to_string());
    instance.set("set_event_pid", &std::process::id().to_string());
    for option in recording.options.iter().chain(&["event-fork"]) {
        instance.set(&format!("options/{option}"), "1");
    }
    instance.set("options/hash-ptr", "0");
    for (event, filter) in recording.filters {
        instance.set(&format!("events/{event}/filter"), filter);
    }
    let enabled = recording.events.iter().map(|e| format!("events/{e}/enable"));
    for file in enabled.chain(recording.events.is_empty().then(|| "events/enable".into())) {
        instance.set(&file, "1");
    }
    instance.set("tracing_on", "1");
    (recording.load)(dir.path(), &instance);
    instance.set("tracing_on", "0");

    let out = out.join(recording.name);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).expect("a directory");
    let write = |name: &str, text: &str| fs::write(out.join(name), text).expect("written");
    write("text", &instance.get("trace"));
    for form in ["fields", "raw"] {
        instance.set(&format!("options/{form}"), "1");
        write(form, &instance.get("trace"));
        instance.set(&format!("options/{form}"), "0");
    }
    for cpu in 0.. {
        let per_cpu = format!("per_cpu/cpu{cpu}");
        if !instance.0.join(&per_cpu).exists() {
            break;
        }
        write(&format!("stats{cpu}"), &instance.get(&format!("{per_cpu}/stats")));
        let pages = pages(&instance, &per_cpu, recording.subbuf_kb as usize * 1024);
        write_pages(&out.join(format!("pages{cpu}")), &pages);
    }
    formats(&instance, &out, &ids(&out.join("raw")));
}

/// The ids that the raw text names, and those that it prints in a way of their own.
fn ids(raw: &Path) -> Vec<u32> {
    let text = fs::read_to_string(raw).expect("text");
    let mut ids: Vec<u32> =
        text.lines().filter_map(|l| l.rsplit_once("type: ")?.1.trim().parse().ok()).collect();
    // print, raw_data, kernel_stack, user_stack.
    ids.extend([4, 5, 13, 19]);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// All pages of a CPU, each without what lies behind its events.
fn pages(instance: &Tracer, per_cpu: &str, size: usize) -> Vec<Vec<u8>> {
    let path = instance.0.join(per_cpu).join("trace_pipe_raw");
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .expect("pages");
    let mut out = Vec::new();
    let mut page = vec![0; size];
    loop {
        match file.read(&mut page) {
            Ok(0) => return out,
            Ok(n) => {
                let commit = u64::from_le_bytes(page[8..16].try_into().expect("eight"));
                let stored = if commit & (1 << 30) != 0 { 8 } else { 0 };
                let end = 16 + (commit & 0x7FF_FFFF) as usize + stored;
                assert!(end <= n, "a page of {n} bytes with {end} in it");
                out.push(page[..end].to_vec());
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return out,
            Err(e) => panic!("{per_cpu}: {e}"),
        }
    }
}

/// Each with its length before it.
fn write_pages(path: &Path, pages: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for page in pages {
        bytes.extend((page.len() as u32).to_le_bytes());
        bytes.extend(page);
    }
    fs::write(path, bytes).expect("written");
}

/// The formats of these events, added to the one file for all recordings.
fn formats(instance: &Tracer, out: &Path, ids: &[u32]) {
    let file = out.parent().expect("a parent").join("formats");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for part in before.split("== ").filter(|p| !p.is_empty()) {
        let (name, text) = part.split_once('\n').expect("a line");
        known.insert(name.into(), text.into());
    }
    for system in fs::read_dir(instance.0.join("events")).expect("events") {
        let system = system.expect("readable").path();
        let Ok(events) = fs::read_dir(&system) else { continue };
        for event in events {
            let event = event.expect("readable").path();
            let Ok(format) = fs::read_to_string(event.join("format")) else { continue };
            let id = format.lines().find_map(|l| l.strip_prefix("ID: ")?.parse().ok());
            if id.is_some_and(|id| ids.contains(&id)) {
                let name = |p: &Path| p.file_name().expect("a name").to_string_lossy().into_owned();
                known.insert(format!("{}:{}", name(&system), name(&event)), format);
            }
        }
    }
    let text: String = known.iter().map(|(name, text)| format!("== {name}\n{text}")).collect();
    fs::write(file, text).expect("written");
}

/// Text and bytes from user space: short, longer than a small event, as long as it goes.
fn markers(instance: &Tracer, longest: usize) {
    let text = "the quick brown fox ".repeat(300);
    for n in [1, 5, 80, 108, 109, 112, 113, 120, 200, 1000, longest] {
        instance.set("trace_marker", &text[..n]);
        // The kernel's own text has no room for more of these.
        let n = n.min(2000);
        let mut raw = (n as u32).to_le_bytes().to_vec();
        raw.extend((0..n).map(|i| (i * 7) as u8));
        let mut file = OpenOptions::new()
            .write(true)
            .open(instance.0.join("trace_marker_raw"))
            .expect("a marker");
        file.write_all(&raw).expect("a marker is taken");
    }
}

fn everything(dir: &Path) {
    files(dir);
    network(dir);
    exec();
    memory();
    // On other CPUs, as far as there are some.
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
        });
        scope.spawn(exec);
        busy.join().expect("it ends");
    });
    threads();
}

fn files(dir: &Path) {
    let path = dir.join("a file with a longer name");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&[7; 9000]).expect("written");
    file.sync_all().expect("synced");
    file.seek(SeekFrom::Start(1 << 20)).expect("sparse");
    file.write_all(b"end").expect("written");
    file.set_len(100).expect("cut");
    drop(file);
    fs::rename(&path, dir.join("b")).expect("renamed");
    std::os::unix::fs::symlink("b", dir.join("link")).expect("a link");
    fs::create_dir(dir.join("d")).expect("a directory");
    fs::remove_file(dir.join("b")).expect("removed");
    let _ = fs::read_to_string("/proc/self/stat");
    let _ = fs::read_dir(dir).map(Iterator::count);
}

fn network(dir: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    client.write_all(&[1; 3000]).expect("sent");
    let mut bytes = [0; 3000];
    server.read_exact(&mut bytes).expect("received");
    drop((client, server));
    if let Ok(listener) = TcpListener::bind("[::1]:0") {
        let _ = TcpStream::connect(listener.local_addr().expect("bound"));
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    udp.send_to(b"datagram", udp.local_addr().expect("bound")).expect("sent");
    udp.recv(&mut bytes).expect("received");
    let (mut a, mut b) = UnixStream::pair().expect("a pair");
    a.write_all(b"hello").expect("sent");
    b.read_exact(&mut bytes[..5]).expect("received");
    let _ = UnixStream::connect(dir.join("nobody"));
}

fn exec() {
    let run = |program: &str, arguments: &[&str]| {
        let _ = Command::new(program).args(arguments).stdout(Stdio::null()).status();
    };
    run("/bin/true", &[]);
    run("/bin/sh", &["-c", "trap : USR1; kill -USR1 $$; kill -TERM $$"]);
    run("/bin/sh", &["-c", "exec /bin/cat /dev/null"]);
}

fn memory() {
    let mut bytes = vec![0u8; 3 << 20];
    bytes.iter_mut().step_by(4096).for_each(|b| *b = 1);
    std::hint::black_box(&bytes);
}

fn threads() {
    std::thread::scope(|scope| {
        for n in 0..3 {
            scope.spawn(move || {
                for _ in 0..5 {
                    std::thread::sleep(Duration::from_millis(n));
                    std::thread::yield_now();
                }
            });
        }
    });
    // More than 27 bits of nanoseconds without an event of ours.
    std::thread::sleep(Duration::from_millis(300));
}
