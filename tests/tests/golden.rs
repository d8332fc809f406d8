//! Goal: metadata and packets are, byte for byte, what they were when somebody last looked.
//! Method: records with given times, so that nothing changes from run to run; the metadata,
//! a dump of the packets, and what babeltrace2 and `rbpipe read` print of them, held against
//! files in `golden/`. `RBPIPE_BLESS=1 cargo test -p rbpipe-tests --test golden` writes them
//! anew: to be read before they are committed.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rbpipe_core::backend::{Backend, ChannelPlan, Context};
use rbpipe_core::channel::{Channel, ChannelOptions, Streams};
use rbpipe_core::class::{
    Base, ClassRegistry, EventClass, Field, FieldType, Integer, Label, LogLevel,
};
use rbpipe_core::drain::Control;
use rbpipe_core::frontend::{Geometry, Mode};
use rbpipe_core::metadata::{self, StreamDescription, TraceDescription};
use rbpipe_core::packet::{PacketHeader, StreamClass, packet_size};
use rbpipe_core::stream::GivenRecord;
use rbpipe_tests::collect::Collect;
use rbpipe_tests::have;
use rbpipe_tests::program::rbpipe;

/// All keywords of TSDL (CTF 1.8.3, appendix C), and what our own metadata is made of.
const KEYWORDS: [&str; 40] = [
    "align",
    "callsite",
    "char",
    "clock",
    "const",
    "double",
    "enum",
    "env",
    "event",
    "float",
    "floating_point",
    "int",
    "integer",
    "long",
    "short",
    "signed",
    "stream",
    "string",
    "struct",
    "trace",
    "typealias",
    "typedef",
    "unsigned",
    "variant",
    "void",
    "_Bool",
    "_Complex",
    "_Imaginary",
    "id",
    "v",
    "timestamp",
    "name",
    "fields",
    "context",
    "header",
    "loglevel",
    "stream_id",
    "uint8_t",
    "compact",
    "extended",
];

/// What is recorded: class, time, payload.
fn records(classes: &ClassRegistry) -> Vec<(rbpipe_core::class::ClassId, u64, Vec<u8>)> {
    let register = |class| classes.register(class).expect("a class");
    let keywords = KEYWORDS.iter().map(|k| Field::new(*k, FieldType::U8)).collect();
    let keywords = register(EventClass::new("golden:keywords", keywords));
    let underscores = ["_one", "__two", "___three", "_"];
    let underscores = register(EventClass::new(
        "golden:\"underscores\\\"",
        underscores.iter().map(|k| Field::new(*k, FieldType::U16)).collect(),
    ));
    let label = |name: &str, first, last| Label { name: name.into(), first, last };
    let hex = Integer::unsigned(32).base(Base::Hexadecimal);
    let types = vec![
        Field::new("hex", FieldType::Integer(hex)),
        Field::new("oct", FieldType::Integer(Integer::unsigned(16).base(Base::Octal))),
        Field::new("bin", FieldType::Integer(Integer::unsigned(8).base(Base::Binary))),
        Field::new("i", FieldType::I64),
        Field::new("f", FieldType::Float32),
        Field::new("g", FieldType::Float64),
        Field::new("s", FieldType::String),
        Field::new(
            "e",
            FieldType::Enumeration(
                Integer::signed(8),
                vec![label("enum", -3, -1), label("two words", 1, 1)],
            ),
        ),
        Field::new("a", FieldType::Array(Box::new(FieldType::U16), 3)),
        Field::new("q", FieldType::Sequence(Box::new(FieldType::I32))),
        Field::new("comm", FieldType::Array(Box::new(FieldType::Integer(Integer::CHAR)), 16)),
    ];
    let types = register(EventClass::new("golden:types", types).level(LogLevel::Warning));
    let empty = register(EventClass::new("golden:empty", vec![]).level(LogLevel::Emergency));
    // The 29th class of the program's own has the number 31: an extended header.
    let late: Vec<_> = (4..30)
        .map(|i| EventClass::new(format!("late:{i}"), vec![Field::new("x", FieldType::U8)]))
        .map(register)
        .collect();
    let late = late[late.len() - 1];
    let mut payload = Vec::new();
    payload.extend(0xdead_beefu32.to_le_bytes());
    payload.extend(0o17u16.to_le_bytes());
    payload.push(5);
    payload.extend((-5i64).to_le_bytes());
    payload.extend(1.5f32.to_le_bytes());
    payload.extend((-2.25f64).to_le_bytes());
    payload.extend("h\u{e9}\t\"x\"\0".as_bytes());
    payload.push(-2i8 as u8);
    payload.extend([1, 0, 2, 0, 3, 0]);
    payload.extend([2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0]);
    payload.extend(b"bash\0\0\0\0\0\0\0\0\0\0\0\0");
    let second = 1_000_000_000u64;
    vec![
        (keywords, second, (0..KEYWORDS.len() as u8).collect()),
        (underscores, second + 100, vec![1, 0, 2, 0, 3, 0, 4, 0]),
        (types, second + 100, payload),
        (empty, second + 101, vec![]),
        // One less than a compact header can tell, exactly that, and far more.
        (empty, second + 101 + ((1 << 27) - 1), vec![]),
        (empty, second + 100 + (2 << 27), vec![]),
        (empty, 100 * second, vec![]),
        (late, 100 * second + 1, vec![9]),
        // It goes back: raised to the last one.
        (empty, 5, vec![]),
    ]
}

/// The packets of a stream that records with given times came into.
fn packets(cpu: Option<u32>) -> (Arc<ClassRegistry>, Vec<Vec<u8>>) {
    let classes = Arc::new(ClassRegistry::new());
    let plan = ChannelPlan {
        name: "c".into(),
        geometry: Geometry::new(4096, 2, 1, 84).expect("a geometry"),
        mode: Mode::Block,
        classes: Arc::clone(&classes),
    };
    let backend = Collect::open((), &plan, &Context::new("golden")).expect("it opens");
    let packets = Arc::clone(&backend.packets);
    let options = ChannelOptions {
        plan,
        streams: Streams::Single,
        block_timeout: None,
        switch_timer: None,
        read_timer: None,
        prefault: false,
    };
    let mut channel = Channel::open(options, backend).expect("it opens");
    let mut import = channel.import(cpu).expect("a stream");
    let control = Control::new(channel.waker());
    let asked = control.clone();
    let drain =
        std::thread::spawn(move || channel.run(&asked, Duration::from_secs(1), &mut |_| {}));
    let records = records(&classes);
    let given: Vec<_> = records
        .iter()
        .map(|(class, time, payload)| GivenRecord { time: *time, class: *class, payload })
        .collect();
    // One by one, a packet's end, and a run.
    assert_eq!(import.write_run(&given[..1]), Ok(1));
    assert_eq!(import.write_run(&given[1..2]), Ok(1));
    import.switch();
    assert_eq!(import.write_run(&given[2..]), Ok(given.len() - 2));
    control.stop();
    drain.join().expect("the drain").expect("it closes");
    let taken = std::mem::take(&mut *packets.lock().expect("no panic holds it"));
    let mut packets: Vec<Vec<u8>> = taken.into_iter().map(|(_, bytes)| bytes).collect();
    packets.insert(0, first(&packets[0]));
    (classes, packets)
}

/// The empty packet that a stream file begins with.
fn first(next: &[u8]) -> Vec<u8> {
    let of = |id| StreamClass::ALL.into_iter().find(|c| c.number() == id);
    let next = PacketHeader::decode(next, of).expect("a packet");
    let size = u64::from(next.stream_class.header_size());
    let header = PacketHeader {
        sequence: 0,
        end: next.begin,
        content_size: size,
        packet_size: packet_size(size),
        ..next
    };
    let mut bytes = header.encode()[..size as usize].to_vec();
    bytes.resize(packet_size(size) as usize, 0);
    bytes
}

fn dump(packets: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for (n, packet) in packets.iter().enumerate() {
        let _ = writeln!(out, "packet {n}, {} bytes", packet.len());
        for (line, bytes) in packet.chunks(16).enumerate() {
            let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let text: String =
                bytes.iter().map(|b| if b.is_ascii_graphic() { *b as char } else { '.' }).collect();
            let _ = writeln!(out, "{:04x}  {:47}  {text}", line * 16, hex.join(" "));
        }
    }
    out
}

fn golden(name: &str, found: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("RBPIPE_BLESS").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file");
    assert!(found == expected, "{}: not as it was:\n{found}", path.display());
}

fn printed(command: &mut Command) -> String {
    let out = command.env("TZ", "UTC").output().expect("it runs");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[test]
fn metadata_packets_and_what_is_read_of_them() {
    let (classes, with_cpu) = packets(Some(3));
    let (_, plain) = packets(None);
    let description = |class: StreamClass| StreamDescription {
        id: class.number(),
        class,
        channel: "c".into(),
        classes: classes.all(),
    };
    let text = metadata::write(&TraceDescription {
        uuid: *b"0123456789abcdef",
        name: "golden".into(),
        hostname: "machine".into(),
        clock_offset: 1_700_000_000_123_456_789,
        streams: StreamClass::ALL.map(description).into(),
    });
    golden("metadata", &text);
    golden("packets_with_cpu", &dump(&with_cpu));
    golden("packets_plain", &dump(&plain));

    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("metadata"), &text).expect("written");
    // Two files of one stream would be one too many: each stream alone.
    for (name, packets) in [("with_cpu", &with_cpu), ("plain", &plain)] {
        std::fs::write(dir.path().join("stream"), packets.concat()).expect("written");
        golden(&format!("read_{name}"), &printed(rbpipe().arg("read").arg(dir.path())));
        let json = ["read", "--format", "json"];
        golden(&format!("json_{name}"), &printed(rbpipe().args(json).arg(dir.path())));
        if have("golden", "babeltrace2", &["--version"]) {
            let mut command = Command::new("babeltrace2");
            let all = ["--clock-date", "--clock-gmt", "--fields=loglevel"];
            golden(&format!("babeltrace2_{name}"), &printed(command.args(all).arg(dir.path())));
        }
    }
}
