//! Other ways to bring `sched_switch` over a wire, for the benchmark `link`: each with what it is
//! usually framed with. All carry time, CPU, both tasks (comm, pid, priority) and the state; the
//! common fields (flags, preemption count) only CTF, whose records are as they lie in a
//! sub-buffer.

use std::io::Write;

use rbpipe_core::class::ClassId;
use rbpipe_core::decode::{Classes, Cursor};
use rbpipe_core::packet::{PacketHeader, RecordHeader, StreamClass, packet_size};
use rbpipe_tests::recording::Recording;
use serde::{Deserialize, Serialize};

/// A `sched_switch`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the event's own")]
pub struct Switch<'a> {
    pub time: u64,
    pub cpu: u32,
    pub prev_comm: &'a str,
    pub prev_pid: i32,
    pub prev_prio: i32,
    pub prev_state: i64,
    pub next_comm: &'a str,
    pub next_pid: i32,
    pub next_prio: i32,
}

/// Where the fields lie in a payload.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    prev: [usize; 3],
    state: usize,
    next: [usize; 3],
    flags: usize,
    preempt: usize,
}

impl Places {
    /// In this recording.
    ///
    /// # Panics
    /// It is none of `sched_switch`.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let at = |name: &str| {
            let fields = &recording.class.fields;
            let place = fields.iter().position(|f| f.name == name);
            let place = place.unwrap_or_else(|| panic!("no field {name}"));
            fields[..place].iter().map(|f| f.ty.fixed_size().expect("one")).sum()
        };
        Self {
            prev: [at("prev_comm"), at("prev_pid"), at("prev_prio")],
            state: at("prev_state"),
            next: [at("next_comm"), at("next_pid"), at("next_prio")],
            flags: at("common_flags"),
            preempt: at("common_preempt_count"),
        }
    }

    /// The event at this place.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn switch<'a>(&self, recording: &'a Recording, i: usize) -> Switch<'a> {
        let event = recording.get(i);
        let payload = event.payload;
        let int = |at: usize| i32::from_le_bytes(*payload[at..].first_chunk().expect("four"));
        Switch {
            time: event.time,
            cpu: event.cpu,
            prev_comm: comm(&payload[self.prev[0]..]),
            prev_pid: int(self.prev[1]),
            prev_prio: int(self.prev[2]),
            prev_state: i64::from_le_bytes(*payload[self.state..].first_chunk().expect("eight")),
            next_comm: comm(&payload[self.next[0]..]),
            next_pid: int(self.next[1]),
            next_prio: int(self.next[2]),
        }
    }
}

fn comm(bytes: &[u8]) -> &str {
    let end = bytes[..16].iter().position(|b| *b == 0).unwrap_or(16);
    std::str::from_utf8(&bytes[..end]).unwrap_or("?")
}

/// What a console shows of the kernel's `trace`, CR and LF at the end.
pub fn text(recording: &Recording, out: &mut Vec<u8>) {
    let places = Places::of(recording);
    for i in 0..recording.len() {
        let s = places.switch(recording, i);
        let payload = recording.get(i).payload;
        let (flags, preempt) = (payload[places.flags], payload[places.preempt]);
        let sign = |bit: u8, c: u8| if flags & bit != 0 { c as char } else { '.' };
        let comm = if s.prev_pid == 0 { "<idle>" } else { s.prev_comm };
        let _ = write!(
            out,
            "{comm:>16}-{:<7} [{:03}] {}{}{}{:x}. {:5}.{:06}: sched_switch: prev_comm={} prev_pid={} \
             prev_prio={} prev_state={}{} ==> next_comm={} next_pid={} next_prio={}\r\n",
            s.prev_pid,
            s.cpu,
            sign(1, b'd'),
            sign(4, b'N'),
            sign(8, b'h'),
            preempt & 15,
            s.time / 1_000_000_000,
            s.time / 1000 % 1_000_000,
            s.prev_comm,
            s.prev_pid,
            s.prev_prio,
            State(s.prev_state),
            if s.prev_state & 0x100 != 0 { "+" } else { "" },
            s.next_comm,
            s.next_pid,
            s.next_prio,
        );
    }
}

struct State(i64);

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut left = self.0 & 0xFF;
        if left == 0 {
            return f.write_str("R");
        }
        for (bit, letter) in "SDTtXZPI".chars().enumerate() {
            if left & (1 << bit) != 0 {
                left &= !(1 << bit);
                write!(f, "{letter}{}", if left == 0 { "" } else { "|" })?;
            }
        }
        Ok(())
    }
}

/// A line of JSON for each event.
///
/// # Panics
/// Never: what is written to is memory.
pub fn json(recording: &Recording, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        name: &'a str,
        #[serde(flatten)]
        switch: Switch<'a>,
    }
    let places = Places::of(recording);
    for i in 0..recording.len() {
        let switch = places.switch(recording, i);
        serde_json::to_writer(&mut *out, &Line { name: "sched:sched_switch", switch })
            .expect("memory takes all");
        out.push(b'\n');
    }
}

/// Reads lines of JSON; gives how many there are.
///
/// # Panics
/// They are none.
#[must_use]
pub fn from_json(bytes: &[u8]) -> usize {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| {
            let switch: Switch<'_> = serde_json::from_slice(line).expect("JSON");
            std::hint::black_box(switch);
        })
        .count()
}

/// The packets of a file backend with sub-buffers of 4 KiB, each a COBS frame with its CRC-32C;
/// the metadata is not counted.
pub fn ctf(recording: &Recording, out: &mut Vec<u8>) {
    const PACKET: usize = 4096;
    let header_size = StreamClass::Cpu.header_size() as usize;
    for cpu in recording.cpus() {
        let mut packet = vec![0; header_size];
        let mut header = PacketHeader {
            uuid: [7; 16],
            stream_class: StreamClass::Cpu,
            stream_class_id: 1,
            stream_id: cpu.into(),
            begin: 0,
            end: 0,
            content_size: 0,
            packet_size: 0,
            sequence: 1,
            discarded: 0,
            origin: cpu,
        };
        let mut close = |packet: &mut Vec<u8>, header: &mut PacketHeader| {
            header.content_size = packet.len() as u64;
            header.packet_size = packet_size(header.content_size);
            packet.resize(header.packet_size as usize, 0);
            packet[..header_size].copy_from_slice(&header.encode()[..header_size]);
            framed(packet, out);
            packet.truncate(header_size);
            header.sequence += 1;
        };
        let mut last = None;
        for event in recording.events().filter(|e| e.cpu == cpu) {
            let id = ClassId::from_index(0);
            let mut kind = RecordHeader::choose(id, event.time, last);
            if packet.len() + kind.size() as usize + event.payload.len() > PACKET {
                close(&mut packet, &mut header);
                kind = RecordHeader::Compact;
            }
            if packet.len() == header_size {
                header.begin = event.time;
            }
            match kind {
                RecordHeader::Compact => packet.extend(RecordHeader::compact(0, event.time)),
                RecordHeader::Extended => packet.extend(RecordHeader::extended(0, event.time)),
            }
            packet.extend_from_slice(event.payload);
            (header.end, last) = (event.time, Some(event.time));
        }
        if packet.len() > header_size {
            close(&mut packet, &mut header);
        }
    }
}

/// COBS of bytes and their CRC-32C, and a 00.
fn framed(bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.extend(crc.to_le_bytes());
    let at = out.len();
    out.resize(at + cobs::max_encoding_length(bytes.len()) + 1, 0);
    let n = cobs::encode(bytes, &mut out[at..]);
    out.truncate(at + n + 1);
    out[at + n] = 0;
}

/// Reads such packets; gives how many events there are.
///
/// # Panics
/// They are none.
#[must_use]
pub fn from_ctf(recording: &Recording, bytes: &[u8]) -> usize {
    let classes = Classes::new([recording.class.clone()]);
    let (mut events, mut packet) = (0, vec![0; 8192]);
    for frame in bytes.split(|b| *b == 0).filter(|f| !f.is_empty()) {
        let size = cobs::decode(frame, &mut packet).expect("a frame").frame_size();
        let (content, crc) = packet[..size].split_at(size - 4);
        assert_eq!(crc, crc32c::crc32c(content).to_le_bytes());
        let header = PacketHeader::decode(content, |_| Some(StreamClass::Cpu)).expect("a header");
        let mut cursor = Cursor::new(StreamClass::Cpu.header_size() as usize, header.begin);
        let content = &content[..header.content_size as usize];
        while let Some(record) = cursor.next(content, &classes).expect("a record") {
            std::hint::black_box(record);
            events += 1;
        }
    }
    events
}

/// postcard of each event, each a COBS frame without a check, as postcard makes it.
///
/// # Panics
/// Never: an event is shorter than the room that it is given.
pub fn postcard(recording: &Recording, out: &mut Vec<u8>) {
    let (places, mut room) = (Places::of(recording), [0; 256]);
    for i in 0..recording.len() {
        let switch = places.switch(recording, i);
        let frame = ::postcard::to_slice_cobs(&switch, &mut room).expect("it is short");
        out.extend_from_slice(frame);
    }
}

/// Reads such frames; gives how many there are.
///
/// # Panics
/// They are none.
#[must_use]
pub fn from_postcard(bytes: &[u8]) -> usize {
    let (mut events, mut room) = (0, [0; 256]);
    for frame in bytes.split_inclusive(|b| *b == 0) {
        room[..frame.len()].copy_from_slice(frame);
        let switch: Switch<'_> =
            ::postcard::from_bytes_cobs(&mut room[..frame.len()]).expect("a frame");
        std::hint::black_box(switch);
        events += 1;
    }
    events
}
