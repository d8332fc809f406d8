//! Which way of writing packets to a file is the best: pwrite (what the file backend does: room
//! allocated ahead, several packets in one call up to 1 MiB), io_uring with and without registered
//! buffers, vmsplice and splice, splice from a memfd, a mapped file, touched or mapped in ahead?
//! The same packets of 64 KiB, 256 KiB and 1 MiB from the same memory (a memfd's, as many as a ring
//! of 8 with 4 more), in turns, in another order each round; GB/s of wall-clock time, and CPU seconds
//! for a GB. `cargo bench --bench file_ways -- pwrite`: only the ways whose name says so, and ours.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use io_uring::{IoUring, opcode, types};
use memmap2::{MmapMut, MmapOptions};
use rbpipe_benches::{measuring, seconds, spread};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::pipe::{IoSliceRaw, SpliceFlags, splice, vmsplice};
use rustix::time::{ClockId, clock_gettime};

/// Packets that lie in memory, one behind the other.
const PACKETS: usize = 12;
/// Room that is asked for, or mapped, at once.
const STEP: u64 = 64 << 20;
/// What the backend writes in one call at most.
const MOST: usize = 1 << 20;
const DEPTH: usize = 4;

struct Memory {
    map: MmapMut,
    memfd: OwnedFd,
    size: usize,
}

impl Memory {
    fn new(size: usize) -> Self {
        let memfd = memfd_create("packets", MemfdFlags::CLOEXEC).expect("a memfd");
        let file = File::from(memfd);
        file.set_len((size * PACKETS) as u64).expect("its size");
        // SAFETY: nobody else has this file, and nobody shortens it.
        let mut map = unsafe { MmapMut::map_mut(&file) }.expect("mapped");
        map.fill(7);
        Self { map, memfd: file.into(), size }
    }
    fn packet(&self, i: usize) -> &[u8] {
        let at = i % PACKETS * self.size;
        &self.map[at..at + self.size]
    }
    fn offset(&self, i: usize) -> u64 {
        (i % PACKETS * self.size) as u64
    }
}

/// Asks for room as the file backend does.
fn room(file: &File, at: u64) {
    if at.is_multiple_of(STEP) {
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, at, STEP);
    }
}

type Way = fn(&File, &Memory, u64) -> io::Result<()>;

/// Calls `f` for each packet with its place in the file.
fn each(m: &Memory, bytes: u64, mut f: impl FnMut(usize, u64) -> io::Result<()>) -> io::Result<()> {
    (0..bytes as usize / m.size).try_for_each(|i| f(i, (i * m.size) as u64))
}

fn plain(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    each(m, bytes, |i, at| file.write_all_at(m.packet(i), at))
}

fn pwrite(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    each(m, bytes, |i, at| {
        room(file, at);
        file.write_all_at(m.packet(i), at)
    })
}

fn pwritev(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    let together = (MOST / m.size).max(1);
    let mut slices = Vec::with_capacity(together);
    each(m, bytes, |i, at| {
        room(file, at);
        slices.push(IoSlice::new(m.packet(i)));
        if slices.len() < together {
            return Ok(());
        }
        let length = slices.len() * m.size;
        let written = rustix::io::pwritev(file, &slices, at + m.size as u64 - length as u64)?;
        slices.clear();
        whole(written, length)
    })
}

fn whole(written: usize, length: usize) -> io::Result<()> {
    if written == length { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn uring(file: &File, m: &Memory, bytes: u64, fixed: bool) -> io::Result<()> {
    let mut ring = IoUring::new(8)?;
    if fixed {
        let vectors: Vec<libc::iovec> = (0..PACKETS)
            .map(|i| libc::iovec {
                iov_base: m.packet(i).as_ptr().cast_mut().cast(),
                iov_len: m.size,
            })
            .collect();
        // SAFETY: the memory outlives the ring.
        unsafe { ring.submitter().register_buffers(&vectors) }?;
    }
    let (count, fd) = (bytes as usize / m.size, types::Fd(file.as_raw_fd()));
    let (mut next, mut open) = (0, 0);
    while next < count || open > 0 {
        while next < count && open < DEPTH {
            let (at, from) = ((next * m.size) as u64, m.packet(next).as_ptr());
            room(file, at);
            let entry = if fixed {
                let index = (next % PACKETS) as u16;
                opcode::WriteFixed::new(fd, from, m.size as u32, index).offset(at).build()
            } else {
                opcode::Write::new(fd, from, m.size as u32).offset(at).build()
            };
            // SAFETY: file and memory outlive the ring, which waits for all of them below.
            unsafe { ring.submission().push(&entry) }.expect("the queue is longer than the depth");
            next += 1;
            open += 1;
        }
        ring.submit_and_wait(1)?;
        for done in ring.completion() {
            if done.result() < 0 {
                return Err(io::Error::from_raw_os_error(-done.result()));
            }
            whole(done.result() as usize, m.size)?;
            open -= 1;
        }
    }
    Ok(())
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&writer, MOST)?;
    Ok((reader, writer))
}

/// What is in the pipe into the file.
fn out(pipe: &OwnedFd, file: &File, at: &mut u64, mut n: usize) -> io::Result<()> {
    while n > 0 {
        let moved = splice(pipe, None, file, Some(at), n, SpliceFlags::MOVE)?;
        whole(moved.min(1), 1)?;
        n -= moved;
    }
    Ok(())
}

fn by_vmsplice(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    let (reader, writer) = pipe()?;
    each(m, bytes, |i, mut at| {
        room(file, at);
        let mut rest = m.packet(i);
        while !rest.is_empty() {
            let slice = IoSliceRaw::from_slice(rest);
            // SAFETY: the bytes stay as they are until the splice below has copied them.
            let n = unsafe { vmsplice(&writer, &[slice], SpliceFlags::empty()) }?;
            out(&reader, file, &mut at, n)?;
            rest = &rest[n..];
        }
        Ok(())
    })
}

fn by_splice(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    let (reader, writer) = pipe()?;
    each(m, bytes, |i, mut at| {
        room(file, at);
        let (mut from, mut rest) = (m.offset(i), m.size);
        while rest > 0 {
            let n =
                splice(m.memfd.as_fd(), Some(&mut from), &writer, None, rest, SpliceFlags::MOVE)?;
            whole(n.min(1), 1)?;
            out(&reader, file, &mut at, n)?;
            rest -= n;
        }
        Ok(())
    })
}

fn mapped(file: &File, m: &Memory, bytes: u64, populate: bool) -> io::Result<()> {
    let mut window: Option<MmapMut> = None;
    each(m, bytes, |i, at| {
        if at.is_multiple_of(STEP) {
            drop(window.take());
            room(file, at);
            let length = STEP.min(bytes - at);
            file.set_len(at + length)?;
            let mut options = MmapOptions::new();
            options.offset(at).len(length as usize);
            if populate {
                options.populate();
            }
            // SAFETY: nobody else has this file, and nobody shortens it.
            window = Some(unsafe { options.map_mut(file) }?);
        }
        let at = (at % STEP) as usize;
        if let Some(window) = &mut window {
            window[at..at + m.size].copy_from_slice(m.packet(i));
        }
        Ok(())
    })
}

/// Calls of this size, whatever a packet's is: four packets of 64 KiB together, or a quarter of one.
fn pieces(file: &File, m: &Memory, bytes: u64) -> io::Result<()> {
    const PIECE: usize = 256 << 10;
    let together = (PIECE / m.size).max(1);
    let mut slices = Vec::with_capacity(together);
    each(m, bytes, |i, at| {
        room(file, at);
        if m.size > PIECE {
            let mut pieces = m.packet(i).chunks(PIECE).enumerate();
            return pieces.try_for_each(|(n, p)| file.write_all_at(p, at + (n * PIECE) as u64));
        }
        slices.push(IoSlice::new(m.packet(i)));
        if slices.len() < together {
            return Ok(());
        }
        let length = slices.len() * m.size;
        let written = rustix::io::pwritev(file, &slices, at + m.size as u64 - length as u64)?;
        slices.clear();
        whole(written, length)
    })
}

const WAYS: [(&str, Way); 10] = [
    ("pwrite, no room ahead", plain),
    ("pwrite", pwrite),
    ("pwritev, up to 1 MiB (ours)", pwritev),
    ("pwritev, 256 KiB", pieces),
    ("io_uring, depth 4", |f, m, n| uring(f, m, n, false)),
    ("io_uring, registered", |f, m, n| uring(f, m, n, true)),
    ("vmsplice and splice", by_vmsplice),
    ("splice from a memfd", by_splice),
    ("mapped file", |f, m, n| mapped(f, m, n, false)),
    ("mapped file, populated", |f, m, n| mapped(f, m, n, true)),
];
/// The one that the others are measured by.
const OURS: usize = 2;

fn cpu() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// GB/s and CPU seconds for a GB.
fn measure(path: &Path, m: &Memory, bytes: u64, way: Way) -> io::Result<(f64, f64)> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let (mut result, before) = (Ok(()), cpu());
    let t = seconds(|| result = way(&file, m, bytes));
    let used = cpu() - before;
    let mut byte = [0; 1];
    result = result.and_then(|()| file.read_exact_at(&mut byte, bytes - 1));
    std::fs::remove_file(path)?;
    result?;
    assert_eq!(byte, [7], "the last byte is there");
    Ok((bytes as f64 / t / 1e9, used / (bytes as f64 / 1e9)))
}

/// Another order (xorshift: any will do).
fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(last, (*random % (last as u64 + 1)) as usize);
    }
}

fn main() {
    let (rounds, bytes) = if measuring() { (9, 256 << 20) } else { (1, 4 << 20) };
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let path = dir.path().join("file");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |i: &usize| {
        *i == OURS || wanted.is_empty() || wanted.iter().any(|w| WAYS[*i].0.contains(w.as_str()))
    };
    let mut order: Vec<usize> = (0..WAYS.len()).filter(is_wanted).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15;
    println!("GB/s: median [min max], ratio to ours round by round; CPU s a GB, the same");
    for size in [64 << 10, 256 << 10, 1 << 20] {
        let memory = Memory::new(size);
        let mut found = vec![Vec::new(); WAYS.len()];
        let mut refused = vec![None; WAYS.len()];
        for _ in 0..rounds {
            // One that always came behind the same other one would have what that leaves behind.
            shuffle(&mut order, &mut random);
            for &i in &order {
                match measure(&path, &memory, bytes, WAYS[i].1) {
                    Ok(one) => found[i].push(one),
                    Err(e) => refused[i] = Some(e.to_string()),
                }
            }
        }
        for (i, (name, _)) in WAYS.iter().enumerate().filter(|(i, _)| is_wanted(i)) {
            if let Some(why) = &refused[i] {
                eprintln!("SKIPPED: {name}: {why}");
                let ci = std::env::var("CI").is_ok_and(|v| v == "true");
                assert!(!ci, "CI is to have each way");
                continue;
            }
            let ratio = |pick: fn(&(f64, f64)) -> f64| {
                let all = found[i].iter().zip(&found[OURS]).map(|(a, b)| pick(a) / pick(b));
                let (low, mid, high) = spread(all.collect());
                format!("× {mid:.2} [{low:.2} {high:.2}]")
            };
            let (low, mid, high) = spread(found[i].iter().map(|x| x.0).collect());
            let (least, used, most) = spread(found[i].iter().map(|x| x.1).collect());
            println!(
                "{:5} KiB  {name:28} {mid:5.2} [{low:.2} {high:.2}] {}   {used:.3} [{least:.3} {most:.3}] {}",
                size >> 10,
                ratio(|x| x.0),
                ratio(|x| x.1)
            );
        }
    }
}
