//! Goal: whoever runs a pipeline into a GPU is told in one sentence what is wrong with the
//! configuration or with the machine, and its report is exact, with and without a GPU. Method:
//! the program; a machine without a Vulkan driver is one whose drivers are hidden by the loader's
//! own variable.

use std::path::Path;
use std::process::{Command, Output};

use rbpipe_tests::have_gpu;
use rbpipe_tests::program::rbpipe;
use serde_json::Value;

/// A pipeline: the generator into the backend with these keys.
fn pipeline(dir: &Path, keys: &str) -> String {
    let path = dir.join("p.toml");
    let text = format!(
        "[pipeline]\ncontrol = false\n[source.g]\ntype = \"generator\"\nrate = \"max\"\nevents = 200000\nwriters = 2\n\
         channel = \"c\"\n[channel.c]\nmode = \"block\"\nblock_timeout = \"20 s\"\nsubbuf_size = \"64 KiB\"\n\
         [channel.c.backend]\ntype = \"gpu\"\n{keys}\n"
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn run(dir: &Path, keys: &str, set: impl FnOnce(&mut Command)) -> (Output, String, Value) {
    let config = pipeline(dir, keys);
    let report = dir.join("r.json");
    let mut command = rbpipe();
    command.args(["--config", &config, "--report"]).arg(&report);
    command.env_remove("XDG_RUNTIME_DIR");
    set(&mut command);
    let out = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let text = std::fs::read_to_string(report).unwrap_or("null".into());
    (out, said, serde_json::from_str(&text).expect("JSON"))
}

/// The loader finds no driver.
fn without_drivers(command: &mut Command) {
    command
        .env("VK_DRIVER_FILES", "/nowhere/icd.json")
        .env("VK_ICD_FILENAMES", "/nowhere/icd.json");
}

fn exact(report: &Value, said: &str) {
    let c = &report["channels"]["c"];
    for key in ["offered", "recorded"] {
        assert_eq!(c[key], 200_000, "{key}: {c} {said}");
    }
    assert_eq!((&c["output"]["records"], &c["output"]["failed"]), (&200_000.into(), &0.into()));
    assert_eq!(c["gpu"]["records"], 200_000, "{c}");
    assert_eq!(c["gpu"]["kept_bytes"].as_f64(), c["output"]["bytes"].as_f64(), "{c}");
}

#[test]
fn a_configuration_that_cannot_be_meant_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    for (keys, sentence) in [
        (
            "adapter = \" \"",
            "is empty: write \"auto\", a kind (\"discrete\", \"integrated\", \"cpu\"), or a name \
             that `rbpipe devices` lists",
        ),
        (
            "keep = \"128 KiB\"",
            "128 KiB is too small: the store has at least 4 sub-buffers, 256 KiB here",
        ),
        ("keep = \"20 ms\"", "is too short: \"100 ms\" or more, or a size"),
        ("keep = \"much\"", "a size such as \"512 MiB\", or a time such as \"30 s\""),
        ("keep = -1", "cannot be negative"),
        ("memory = \"huge\"", "unknown variant `huge`"),
        ("keeps = 1", "keeps"),
    ] {
        let config = pipeline(dir.path(), keys);
        let out = rbpipe().args(["check", "--config", &config]).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{keys}: {said}");
        assert!(said.contains(sentence), "{keys}: {said}");
        assert_eq!(said.matches("error").count(), 1, "{keys}: {said}");
    }
}

#[test]
fn without_a_gpu_ordinary_memory_is_used_and_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, said, report) = run(dir.path(), "", without_drivers);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let warnings: Vec<_> = said.lines().filter(|l| l.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    let sentence = "no GPU adapter: records are kept in ordinary memory instead; install your \
                    GPU's Vulkan driver, or Debian's mesa-vulkan-drivers for one in software";
    assert!(warnings[0].ends_with(sentence), "{said}");
    assert!(said.contains("no GPU: ordinary memory: all "), "{said}");
    exact(&report, &said);
}

#[test]
fn an_adapter_that_is_asked_for_must_be_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, said, _) = run(dir.path(), "adapter = \"discrete\"", without_drivers);
    assert_eq!(out.status.code(), Some(1), "{said}");
    let sentence = "no GPU adapter of the kind \"discrete\": no Vulkan driver finds any: install";
    assert!(said.contains(sentence), "{said}");
    let (out, said, _) = run(dir.path(), "adapter = \"Voodoo 3\"", |_| {});
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("no GPU adapter with \"Voodoo 3\" in its name: "), "{said}");
}

#[test]
fn a_gpu_in_software_is_used_and_exact() {
    if !have_gpu("a_gpu_in_software_is_used_and_exact") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for memory in ["auto", "staged", "direct", "heap"] {
        for keys in ["adapter = \"cpu\"", "adapter = \"LLVMpipe\"\nkeep = \"30 s\""] {
            let keys = format!("memory = \"{memory}\"\n{keys}");
            let (out, said, report) = run(dir.path(), &keys, |_| {});
            assert_eq!(out.status.code(), Some(0), "{said}");
            exact(&report, &said);
            let way = if memory == "auto" { "staged" } else { memory };
            assert!(said.contains("llvmpipe") && said.contains(&format!(", {way}: all")), "{said}");
            // A driver's own words about a display that it does not need.
            assert!(!said.contains("XDG_RUNTIME_DIR"), "{said}");
        }
    }
}

/// Two channels, one device: each has its store.
#[test]
fn channels_share_a_device() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, said, report) = run(dir.path(), "adapter = \"noop\"", |command| {
        command.args([
            "--set",
            "source.g.channel=[\"c\", \"d\"]",
            "--set",
            "channel.d={mode = \"block\", block_timeout = \"20 s\", backend = {type = \"gpu\", adapter = \"noop\", \
             memory = \"direct\"}}",
        ]);
    });
    assert_eq!(out.status.code(), Some(0), "{said}");
    exact(&report, &said);
    let (c, d) = (&report["channels"]["c"]["gpu"], &report["channels"]["d"]["gpu"]);
    assert_eq!((&c["records"], &d["records"]), (&200_000.into(), &200_000.into()));
    assert_eq!((c["copied_bytes"] == 0, d["copied_bytes"] == 0), (false, true), "{c} {d}");
}

/// The example runs where there is a GPU and where there is none, and comes to the same books.
#[test]
fn the_example_runs() {
    const EXAMPLE: &str = include_str!("../../examples/pipeline.gpu.toml");
    let dir = tempfile::tempdir().expect("a directory");
    let (config, report) = (dir.path().join("p.toml"), dir.path().join("r.json"));
    std::fs::write(&config, EXAMPLE).expect("written");
    let here = |_: &mut Command| {};
    type Set<'a> = (&'a str, &'a dyn Fn(&mut Command));
    let sets: [Set<'_>; 2] = [
        ("drivers", &here),
        ("", &|command| {
            without_drivers(command);
        }),
    ];
    for (what, set) in sets {
        let mut command = rbpipe();
        command.current_dir(&dir).arg("--config").arg(&config).arg("--report").arg(&report);
        command.args(["--set", "pipeline.duration=1 s"]);
        set(&mut command);
        let out = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{what}: {said}");
        let text = std::fs::read_to_string(&report).expect("a report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let c = &report["channels"]["events"];
        let recorded = c["recorded"].as_u64().expect("a number");
        let parts = ["/output/records", "/output/failed_records", "/overwritten", "/kept"];
        let sum: u64 = parts.iter().map(|p| c.pointer(p).and_then(Value::as_u64).expect(p)).sum();
        assert_eq!(recorded, sum, "{what}: {c}");
        assert!(recorded > 100_000, "{what}: {c}");
        assert_eq!(c["gpu"]["records"], c["output"]["records"], "{what}: {c}");
        std::fs::remove_file(dir.path().join("live.png")).expect("a picture");
    }
}

/// The generator into a store that wants more than there is, in sub-buffers of this size.
fn hungry(dir: &Path, ring: &str) {
    let text = format!(
        "[pipeline]\ncontrol = false\n[source.g]\ntype = \"generator\"\nrate = \"max\"\n\
         events = 200000\npayload = 2000\nchannel = \"c\"\n[channel.c]\nmode = \"block\"\n\
         block_timeout = \"20 s\"\nstreams = \"single\"\n{ring}\n[channel.c.backend]\n\
         type = \"gpu\"\nkeep = \"8 GiB\"\n"
    );
    std::fs::write(dir.join("p.toml"), text).expect("written");
}

/// Runs it, without a GPU, in so many MiB of address space.
fn run_in(dir: &Path, mib: u64, events: &str) -> (Option<i32>, String, Value) {
    let script = "ulimit -c 0; ulimit -v $1; exec \"$0\" --config p.toml --report r.json --set $2";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(rbpipe().get_program());
    command.args([&(mib << 10).to_string(), &format!("source.g.events={events}")]);
    // As many arenas as there are CPUs take more of it than a test can tell.
    command.current_dir(dir).env_remove("XDG_RUNTIME_DIR").env("MALLOC_ARENA_MAX", "1");
    without_drivers(&mut command);
    let _ = std::fs::remove_file(dir.join("r.json"));
    let out = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    // One that was killed leaves an empty one.
    let text = std::fs::read_to_string(dir.join("r.json")).unwrap_or_default();
    (out.status.code(), said, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The least that it starts in, within 16 MiB.
fn least(dir: &Path) -> u64 {
    let starts = |mib: &u64| run_in(dir, *mib, "1").0 == Some(0);
    (64..4096).step_by(16).find(starts).expect("it starts with 4 GiB")
}

/// What was recorded is in the store, or was, or is told as failed.
fn all_is_told(c: &Value, said: &str) -> (u64, u64) {
    let number = |p: &str| c.pointer(p).and_then(Value::as_u64).expect(p);
    let (written, failed) = (number("/output/records"), number("/output/failed_records"));
    assert_eq!((number("/offered"), number("/recorded")), (200_000, 200_000), "{c} {said}");
    assert_eq!(written + failed, 200_000, "{c} {said}");
    assert_eq!(c["gpu"]["records"], written, "{c}");
    assert_eq!(c["gpu"]["packets"], c["output"]["packets"], "{c}");
    assert_eq!(c["gpu"]["gone_packets"], 0, "{c}");
    (written, failed)
}

/// Goal: where there is no memory for all that is to be kept the process lives, and keeps what
/// there is memory for. Method: 400 MB into an address space that has 256 MiB for them.
#[test]
fn a_store_without_memory_keeps_less() {
    let dir = tempfile::tempdir().expect("a directory");
    hungry(dir.path(), "subbuf_size = \"64 KiB\"");
    let room = least(dir.path()) + 256;
    let (code, said, report) = run_in(dir.path(), room, "200000");
    assert_eq!(code, Some(0), "{said}");
    let c = &report["channels"]["c"];
    assert_eq!(all_is_told(c, &said), (200_000, 0));
    let kept = c["gpu"]["kept_bytes"].as_f64().expect("a number") / f64::from(1 << 20);
    assert!((160.0..320.0).contains(&kept), "{kept} MiB: {said}");
    let sentence =
        "channel c: no memory for more packets: its store keeps what there is memory for, ";
    assert_eq!(said.matches(sentence).count(), 1, "{said}");
    assert_eq!(said.matches("WARN").count(), 2, "{said}");
}

/// Goal: a packet that there is no memory for, whatever else goes, is counted and told, and the
/// next smaller one is kept. Method: sub-buffers of 64 MiB where the ring has just enough.
#[test]
fn a_packet_without_memory_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    hungry(dir.path(), "subbuf_size = \"64 MiB\"\nsubbuf_count = 2\nreader_subbufs = 1");
    // The last packet is of 3 MiB.
    let room = least(dir.path()) + 16;
    let (code, said, report) = run_in(dir.path(), room, "200000");
    assert_eq!(code, Some(1), "{said}");
    let c = &report["channels"]["c"];
    let (written, failed) = all_is_told(c, &said);
    assert!(written > 0 && failed > 190_000, "{c}");
    assert_eq!(c["gpu"]["kept_packets"], 1, "the last one, which is not full: {c}");
    let sentence = "channel c: no memory for a packet of 64.0 MiB: it is lost, as are others until";
    assert_eq!(said.matches(sentence).count(), 1, "{said}");
    assert_eq!(said.matches("WARN").count(), 2, "{said}");
}
