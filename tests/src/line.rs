//! A sender on a pseudo terminal, for tests of the receiving side: what it sends is known, frame
//! by frame. No wire: bytes are there when they are written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbpipe_backends::link::{Encoder, LinkOptions, LinkRecord, LinkStream, Totals};
use rbpipe_core::class::{EventClass, Field, FieldType};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

/// A pseudo terminal: what is written here can be read at its path.
pub struct Pty {
    /// This side.
    pub master: File,
    /// The other side's device.
    pub path: PathBuf,
    // So that what is written before somebody opens it is there for them.
    _slave: File,
}

impl Pty {
    /// A new one; its other side passes bytes as they are.
    ///
    /// # Panics
    /// If there is none to be had.
    #[must_use]
    pub fn new() -> Self {
        // Not for the programs that are started meanwhile: it would stay open with them.
        // SAFETY: no pointers.
        let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
        assert!(master >= 0, "a pseudo terminal");
        // SAFETY: just made, and nobody else has it.
        let master = unsafe { OwnedFd::from_raw_fd(master) };
        let mut name = [0; 64];
        // SAFETY: the descriptor is open, and the name's place is as long as it says.
        let named = unsafe {
            libc::grantpt(master.as_raw_fd())
                | libc::unlockpt(master.as_raw_fd())
                | libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len())
        };
        assert_eq!(named, 0, "it has another side");
        let path = name.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char);
        let path = PathBuf::from(path.collect::<String>());
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(&path)
            .expect("the other side");
        let mut settings = tcgetattr(&slave).expect("a terminal");
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings).expect("set");
        Self { master: master.into(), path, _slave: slave }
    }

    /// Sends bytes; waits until they are taken.
    ///
    /// # Panics
    /// If the other side is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).expect("written");
    }
}

impl Default for Pty {
    fn default() -> Self {
        Self::new()
    }
}

/// The tick of the sender's link (ns).
pub const TICK: u64 = 1000;

/// A sender: what it sends is written down.
pub struct Sender {
    encoder: Encoder,
    classes: Vec<Arc<EventClass>>,
    /// Its clock.
    pub clock_offset: u64,
    streams: Vec<(LinkStream, Totals)>,
    /// Its clock's present.
    pub now: u64,
    next: u64,
    /// What was sent, as JSON of the form of `rbpipe read`, without its stream.
    pub sent: Vec<Value>,
}

/// The sender's first time.
pub const BEGIN: u64 = 5_000_000_000;

impl Sender {
    /// With this number for its run, on a clock whose zero is so many nanoseconds after the epoch.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(session: u64, clock_offset: u64) -> Self {
        let array = FieldType::Sequence(Box::new(FieldType::U16));
        let classes = [
            EventClass::new(
                "test:switch",
                vec![
                    Field::new("comm", FieldType::String),
                    Field::new("pid", FieldType::I32),
                    Field::new("n", FieldType::U64),
                ],
            ),
            EventClass::new(
                "test:list",
                vec![Field::new("n", FieldType::U64), Field::new("list", array)],
            ),
            EventClass::new("test:bare", vec![]),
        ];
        let encoder = Encoder::new(LinkOptions {
            tick: TICK,
            frame: 254,
            announce_every: 10_000_000_000,
            session,
            clock_offset,
            baud: 115_200,
            mixed: true,
        });
        let classes = classes.into_iter().map(Arc::new).collect();
        let (streams, sent) = (Vec::new(), Vec::new());
        Self { encoder, classes, clock_offset, streams, now: BEGIN, next: 0, sent }
    }

    /// A stream more; gives its number.
    pub fn stream(&mut self, id: u32, cpu: Option<u32>) -> u32 {
        let stream = LinkStream { channel: "trace".into(), id, cpu };
        self.streams.push((stream.clone(), Totals::default()));
        self.encoder.stream(stream)
    }

    /// Who it is, if it is time to say so.
    pub fn hello(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encoder.due(self.now, &mut out);
        out
    }

    /// So many records of a stream, of which `lost` more came before the first; each frame by
    /// itself. What is told of them is written down, with the frame's place.
    pub fn records(&mut self, stream: u32, count: u64, lost: u64) -> Vec<(Vec<u8>, Vec<Value>)> {
        let mut records = Vec::new();
        let cpu = self.streams[stream as usize].0.cpu;
        for i in 0..count {
            self.now += 12_345;
            self.next += 1;
            let n = self.next;
            let class = (n % 3) as usize;
            let (mut payload, fields);
            match class {
                0 => {
                    let comm = format!("task\x1b{}", n % 7);
                    payload = [comm.as_bytes(), b"\0"].concat();
                    let pid = -5 + (n % 11) as i32;
                    payload.extend(pid.to_le_bytes());
                    payload.extend(n.to_le_bytes());
                    fields = json!({"comm": comm, "pid": pid, "n": n});
                }
                1 => {
                    payload = n.to_le_bytes().to_vec();
                    let list: Vec<u16> = (0..n % 5).map(|i| (n * 7 + i) as u16).collect();
                    payload.extend((list.len() as u32).to_le_bytes());
                    list.iter().for_each(|v| payload.extend(v.to_le_bytes()));
                    fields = json!({"n": n, "_list_length": list.len(), "list": list});
                }
                _ => {
                    payload = Vec::new();
                    fields = json!({});
                }
            }
            let time = self.now / TICK * TICK + self.clock_offset;
            let name = &self.classes[class].name;
            let told = json!({"time": time, "cpu": cpu, "name": name, "fields": fields});
            let lost_before = if i == 0 { lost } else { 0 };
            records.push((self.now, class, payload, lost_before, told));
        }
        let totals = &mut self.streams[stream as usize].1;
        totals.produced += count + lost;
        totals.lost += lost;
        let links: Vec<LinkRecord<'_>> = records
            .iter()
            .map(|(time, class, payload, lost_before, _)| LinkRecord {
                time: *time,
                class: *class,
                payload,
                lost_before: *lost_before,
            })
            .collect();
        let (mut at, mut frames) = (0, Vec::new());
        while at < links.len() {
            let mut out = Vec::new();
            let n = self.encoder.frame(stream, self.now, &self.classes, &links[at..], &mut out);
            let told: Vec<Value> = records[at..at + n].iter().map(|r| r.4.clone()).collect();
            self.sent.extend(told.iter().cloned());
            frames.push((out, told));
            at += n;
        }
        frames
    }

    /// All streams' totals.
    pub fn totals(&mut self, last: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (_, totals)) in self.streams.iter().enumerate() {
            self.encoder.totals(number as u32, totals, last, &mut out);
        }
        out
    }

    /// Its port was opened again.
    pub fn reopened(&mut self) {
        self.encoder.reopened();
    }
}

/// Makes `link` point to this device, whatever it pointed to.
///
/// # Panics
/// If it cannot.
pub fn point(link: &Path, to: &Path) {
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(to, &new).expect("a link");
    std::fs::rename(new, link).expect("renamed");
}
