//! Goal: no input makes a reader of the program panic, hang, or hold more memory than its
//! bound. Method: what fuzzers found worth keeping (`fuzz/corpus`), inputs that were right and
//! were damaged (seeded: the same ones at every run; `RBPIPE_FUZZ_SEED=7` tries others), and
//! every input that once broke something, by name. What an input is and what is promised:
//! `rbpipe_tests::fuzz`. The fuzzers themselves: `fuzz/README.md`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rbpipe_tests::fuzz::held::{Counting, peak};
use rbpipe_tests::fuzz::{self, LARGEST, PATIENCE, pack};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Inputs that are being read: since when, by what, and the input.
static READ: Mutex<Vec<(Instant, &str, Vec<u8>)>> = Mutex::new(Vec::new());

/// Where an input is put that broke something.
fn save(target: &str, input: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
    std::fs::write(&path, input).expect("written");
    format!("the input is in {}; in fuzz/corpus/{target} it is tried again", path.display())
}

/// Reads an input; one that takes too long ends the tests, since a thread cannot be ended.
fn read<T>(target: &'static str, input: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    static WATCH: OnceLock<()> = OnceLock::new();
    let lock = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    WATCH.get_or_init(|| {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(250));
                if let Some((_, target, input)) = lock().iter().find(|r| r.0.elapsed() > PATIENCE) {
                    // `eprintln` would be kept for the end of the test.
                    let place = save(target, input);
                    let _ =
                        writeln!(std::io::stderr(), "{target}: no end after {PATIENCE:?}: {place}");
                    std::process::abort();
                }
            }
        });
    });
    /// Takes it off the list, after a panic, too.
    struct Done<'a>(Instant, &'a str);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            let mut list = READ.lock().unwrap_or_else(PoisonError::into_inner);
            list.retain(|(begin, target, _)| (*begin, *target) != (self.0, self.1));
        }
    }
    let begin = Instant::now();
    lock().push((begin, target, input.to_vec()));
    let _done = Done(begin, target);
    read(input)
}

/// So many inputs, each what `made` makes of entropy.
fn random<T>(
    target: &'static str,
    cases: u32,
    made: impl Fn(&[u8]) -> Vec<u8>,
    tried: impl Fn(&[u8]) -> T,
) {
    let seed = std::env::var("RBPIPE_FUZZ_SEED").map_or(0, |s| s.parse::<u64>().expect("a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&vec(any::<u8>(), 0..1500), |entropy| {
        read(target, &made(&entropy), &tried);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, entropy)) => panic!("{why}\n{}", save(target, &made(&entropy))),
        Err(e) => panic!("{e}"),
    }
}

/// A recipe for a trace: any first byte but that of metadata.
fn trace_input(entropy: &[u8]) -> Vec<u8> {
    fuzz::trace_input(&[b"R", entropy].concat())
}

#[test]
fn damaged_traces() {
    random("trace", 2500, trace_input, fuzz::trace);
}

#[test]
fn damaged_configurations() {
    random("config", 4000, fuzz::config_input, fuzz::config);
}

#[test]
fn damaged_packets() {
    random("packet", 20_000, fuzz::packet_input, fuzz::packet);
}

#[test]
fn damaged_kernel_pages() {
    random("kernel", 20_000, fuzz::kernel_input, fuzz::kernel_page);
}

#[test]
fn bytes_that_are_nothing() {
    random("kernel", 5000, <[u8]>::to_vec, fuzz::kernel_page);
    random("packet", 5000, <[u8]>::to_vec, fuzz::packet);
    random("config", 1000, <[u8]>::to_vec, fuzz::config);
}

/// What is made of entropy would be no test of anything if it were refused at its first byte.
#[test]
fn much_of_what_is_damaged_is_read() {
    let mut state = 1u64;
    let mut entropy = || {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(1500).collect::<Vec<u8>>()
    };
    let (mut traces, mut events, mut configs, mut records) = (0, 0, 0, 0);
    let (mut alone, mut with_format) = (0, 0);
    for _ in 0..200 {
        let trace = fuzz::trace(&trace_input(&entropy()));
        traces += u32::from(trace.is_ok());
        events += u32::from(trace.is_ok_and(|n| n > 0));
        configs += u32::from(fuzz::config(&fuzz::config_input(&entropy())).is_ok());
        records += u32::from(fuzz::packet(&fuzz::packet_input(&entropy())).0 > 0);
        let input = fuzz::kernel_input(&entropy());
        let read = u32::from(fuzz::kernel_page(&input) > 0);
        *(if input.starts_with(b"name:") { &mut with_format } else { &mut alone }) += read;
    }
    let all = (traces, events, configs, records, alone, with_format);
    assert!(traces > 100 && events > 50 && configs > 10 && records > 50, "{all:?}");
    assert!(alone > 50 && with_format > 50, "{all:?}");
}

fn folder(name: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name).join(target)
}

fn corpus(target: &'static str, tried: impl Fn(&[u8])) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder("corpus", target)).expect("a corpus") {
        let path = entry.expect("readable").path();
        let input = std::fs::read(&path).expect("readable");
        // A panic does not say which.
        println!("{}", path.display());
        read(target, &input, &tried);
        files += 1;
    }
    assert!(files > 0, "there is none");
}

#[test]
fn what_fuzzers_found_worth_keeping() {
    corpus("trace", |input| _ = fuzz::trace(input));
    corpus("config", |input| _ = fuzz::config(input));
    corpus("packet", |input| _ = fuzz::packet(input));
    corpus("kernel", |input| _ = fuzz::kernel_page(input));
}

// What was found. Small inputs are files, in fuzz/regressions.

fn regression(target: &str, name: &str) -> Vec<u8> {
    std::fs::read(folder("regressions", target).join(name)).expect("it is kept")
}

fn trace(input: &[u8]) -> Result<u64, String> {
    assert!(input.len() <= LARGEST);
    read("trace", input, fuzz::trace)
}

fn config_error(input: &[u8]) -> String {
    assert!(input.len() <= LARGEST);
    read("config", input, fuzz::config).expect_err("it is wrong")
}

/// Lost events and lost packets were added before they were printed.
#[test]
fn more_is_lost_than_a_number_can_say() {
    assert_eq!(trace(&regression("trace", "losses_of_two_kinds")), Ok(0));
}

/// And lost packets to those before.
#[test]
fn more_is_lost_in_all_than_a_number_can_say() {
    assert_eq!(trace(&regression("trace", "losses_that_add_up")), Ok(0));
}

/// The name went to the terminal as it was.
#[test]
fn an_event_s_name_cannot_drive_a_terminal() {
    assert_eq!(trace(&regression("trace", "name_with_an_escape")), Ok(3));
}

/// A place in a `--set` is named by the `--set`.
#[test]
fn a_set_cannot_drive_a_terminal() {
    config_error(&regression("config", "set_with_control_characters"));
}

/// The renderer of errors lets those through that ASCII does not have.
#[test]
fn a_configuration_cannot_drive_a_terminal() {
    config_error("a\u{9b}b = 1\n".as_bytes());
    config_error("a = 1\nb = \"\u{9b}2J\"\n".as_bytes());
}

const OURS: &str = "/* CTF 1.8 */ env { tracer_name = \"rbpipe\"; }; stream { id = 0; };";

/// A trace of one packet, whose content this is.
fn one_packet(fields: &str, content: &[u8]) -> Vec<u8> {
    use rbpipe_core::packet::{PacketHeader, StreamClass, packet_size};
    let metadata =
        format!("{OURS} event {{ id = 0; stream_id = 0; fields := struct {{ {fields} }}; }};");
    let size = 80 + content.len() as u64;
    let header = PacketHeader {
        uuid: [7; 16],
        stream_class: StreamClass::Plain,
        stream_class_id: 0,
        stream_id: 0,
        begin: 0,
        end: 1,
        content_size: size,
        packet_size: packet_size(size),
        sequence: 0,
        discarded: 0,
        origin: 0,
    };
    let mut stream = [&header.encode()[..80], content].concat();
    stream.resize(packet_size(size) as usize, 0);
    pack(metadata.as_bytes(), &[stream])
}

fn sequence(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; 4];
    content.extend((bytes as u32).to_le_bytes());
    content.resize(8 + bytes, 0);
    content
}

/// One event of 30 KB was gathered as 900 MB of text before any was written.
#[test]
fn labels_are_long_and_there_are_many_of_them() {
    let label = "x".repeat(30_000);
    let fields = format!("uint32_t n; enum : uint8_t {{ \"{label}\" = 0 }} q[n];");
    assert_eq!(trace(&one_packet(&fields, &sequence(30_000))), Ok(1));
}

/// 48 bytes of memory for each sign, and as many again while the list grew.
#[test]
fn metadata_is_signs_alone() {
    let signs = format!("{OURS} a{}", "{".repeat(60_000));
    let (result, held) = peak(|| rbpipe::fuzz::trace(signs.as_bytes(), &[]));
    assert!(result.is_err_and(|e| e.contains("a statement has no end")));
    assert!(held < 4096, "{held} bytes");
}

/// Tests have a stack of 2 MiB, the program 8.
#[test]
fn nesting_has_an_end() {
    for part in ["a.", "a={", "[", "a=[", "{a="] {
        config_error(part.repeat(60_000 / part.len()).as_bytes());
    }
    config_error(format!("[{}a]", "a.".repeat(30_000)).as_bytes());
    config_error(format!("\0{}a=1", "a.".repeat(30_000)).as_bytes());
    let fields = "enum : ".repeat(8000);
    assert!(trace(&one_packet(&fields, &[])).is_err_and(|e| e.contains("nested too deep")));
    assert!(trace(&one_packet(&"struct { ".repeat(6000), &[])).is_err());
}

fn with(channel: &str, backend: &str) -> String {
    format!(
        "[source.g]\ntype = \"generator\"\nchannel = \"c\"\n[channel.c]\n{channel}\n\
         [channel.c.backend]\ntype = \"file\"\npath = \"t\"\n{backend}"
    )
}

fn wrong_keys(separator: &str) -> String {
    (0..5000).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join(separator)
}

/// Each wrong key cost a copy of its table and a walk through the text: half a minute.
#[test]
fn thousands_of_keys_are_wrong() {
    let error = config_error(with("", &wrong_keys("\n")).as_bytes());
    assert!(error.contains("unknown key `k0`") && error.contains("more"), "{error}");
    let error = config_error(with(&wrong_keys("\n"), "").as_bytes());
    assert!(error.contains("unknown key `k0`") && error.contains("and 4980 more"), "{error}");
    // In one line, which was shown with each of them.
    let line = format!("a = {{ {} }}", wrong_keys(", "));
    config_error(with(&line, "").as_bytes());
    config_error(with("", &line).as_bytes());
}

/// A walk through the text for each, again; and there are more.
#[test]
fn thousands_of_keys_are_there_twice() {
    let error = config_error("a = 1\n".repeat(10_000).as_bytes());
    assert!(error.contains("duplicate key") && error.contains("more"), "{error}");
}

/// "Did you mean" took memory and time as the product of both: 7 GB.
#[test]
fn two_long_names_are_not_the_same() {
    let (a, b) = ("a".repeat(30_000), "b".repeat(30_000));
    let text = format!(
        "[source.g]\ntype = \"generator\"\nchannel = \"{a}\"\n[channel.{b}]\nbackend.type = \"pages\"\n"
    );
    config_error(text.as_bytes());
}

/// Formats that are made to be as bad as they can: signs alone, nesting, labels, names.
#[test]
fn formats_that_nobody_should_believe() {
    let fields = "name: e\nID: 7\nformat:\n\tfield:u16 id;\toffset:0;\tsize:2;\tsigned:0;\n";
    let print = |text: &str| format!("{fields}\nprint fmt: {text}").into_bytes();
    let labels = "{1,\"a\"},".repeat(7000);
    for text in [
        format!("\"{}\"{}", "%d".repeat(12_000), ",".repeat(36_000)),
        format!("\"%s\", {}", "REC->id?".repeat(7000)),
        format!("\"%s\", {}{}", "REC->id?".repeat(3000), ":\"a\"".repeat(3000)),
        format!("\"%d\", {}REC->id{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("\"%d\", {}REC->id", "(u8)".repeat(15_000)),
        format!("\"%s\", __print_flags(REC->id, \"|\", {labels})"),
        format!("\"%s\", __print_symbolic(REC->id, {labels})"),
        format!("\"%s\", __print_symbolic(REC->id, {{ {}1, \"a\" }})", "(".repeat(60_000)),
        format!("\"%s\", __print_symbolic(REC->id, {{ {}1, \"a\" }})", "-~".repeat(30_000)),
        format!("\"%s\", __print_symbolic(REC->id, {{ {}1, \"a\" }})", "1|".repeat(30_000)),
        format!("\"%s\", __print_symbolic(REC->id, {{ {}1, \"a\" }})", "(u8)".repeat(15_000)),
        "\"".repeat(60_000),
    ] {
        read("kernel", &print(&text), fuzz::kernel_page);
    }
    let same: String = (2..1400)
        .map(|n| format!("\tfield:__data_loc u8[] a;\toffset:{};\tsize:4;\tsigned:0;\n", n * 4))
        .collect();
    read("kernel", format!("{fields}{same}").as_bytes(), fuzz::kernel_page);
}

/// A name began in the midst of a character.
#[test]
fn a_field_s_name_need_not_be_ascii() {
    let text = "name: e\nID: 7\nformat:\n\tfield:int c\u{fffd}a;\toffset:0;\tsize:4;\tsigned:0;\n";
    assert_eq!(read("kernel", text.as_bytes(), fuzz::kernel_page), 0);
}
