//! Goal: a pipeline into GPU memory leaves a picture of its newest records: while it runs, soon
//! after their commit, and at the end, with a GPU and without one. Method: the program, and the
//! pixels that it wrote.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rbpipe_tests::have_gpu;
use rbpipe_tests::picture::Pixels;
use rbpipe_tests::program::{rbpipe, runtime, signal};

fn pipeline(dir: &Path, source: &str, keys: &str) -> Command {
    let text = format!(
        "[pipeline]\nname = \"p\"\ncontrol = false\n[source.s]\n{source}\nchannel = \"c\"\n\
         [channel.c]\nmode = \"block\"\nblock_timeout = \"20 s\"\nsubbuf_size = \"64 KiB\"\n\
         [channel.c.backend]\ntype = \"gpu\"\n{keys}\n"
    );
    std::fs::write(dir.join("p.toml"), text).expect("written");
    let mut command = rbpipe();
    command.current_dir(dir).args(["--config", "p.toml"]).env("XDG_RUNTIME_DIR", runtime());
    command
}

/// A second of records in the middle of nothing, at the end of which there is a picture.
fn the_end_has_a_picture(set: impl FnOnce(&mut Command)) {
    let dir = tempfile::tempdir().expect("a directory");
    let source = "type = \"generator\"\nrate = 20000\nevents = 20000\nwriters = 2";
    let mut command = pipeline(dir.path(), source, "png = \"p.png\"\npng_size = \"800x400\"");
    set(&mut command);
    let out = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("p.png"), "where to look is said: {said}");
    let picture = Pixels::read(&dir.path().join("p.png")).expect("a picture");
    assert_eq!((picture.width, picture.height), (800, 400));
    // As fast as that for all of the time: nearly every column has some.
    let columns = picture.columns();
    assert!(columns > 500, "{columns} columns: {said}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 2, "nothing is left beside it: {left:?}");
}

#[test]
fn the_end_has_a_picture_that_a_device_counted() {
    if have_gpu("the_end_has_a_picture_that_a_device_counted") {
        the_end_has_a_picture(|_| {});
    }
}

#[test]
fn the_end_has_a_picture_without_a_device() {
    the_end_has_a_picture(nowhere);
}

/// No driver is found.
fn nowhere(command: &mut Command) {
    let nowhere = "/nowhere/icd.json";
    command.env("VK_DRIVER_FILES", nowhere).env("VK_ICD_FILENAMES", nowhere);
}

/// A lane with the values of a field: a number that only grows is a line from the lower left to
/// the upper right.
fn values_have_a_lane(set: impl FnOnce(&mut Command)) {
    let dir = tempfile::tempdir().expect("a directory");
    let source = "type = \"generator\"\nrate = 20000\nevents = 20000\nwriters = 1";
    let keys = "png = \"p.png\"\npng_size = \"800x400\"\npng_value = [\"rbpipe:generated.seq\", \
                \"rbpipe:generated.sequence\", \"rbpipe:generated.payload\"]";
    let mut command = pipeline(dir.path(), source, keys);
    set(&mut command);
    let out = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    for sentence in [
        "p.png: png_value: rbpipe:generated has no field \"sequence\"; its fields: writer, seq",
        "p.png: png_value: rbpipe:generated.payload is no integer",
    ] {
        assert_eq!(said.matches(sentence).count(), 1, "{sentence}: {said}");
    }
    let picture = Pixels::read(&dir.path().join("p.png")).expect("a picture");
    let line = picture.values();
    let columns: Vec<&Vec<u32>> = line.iter().filter(|rows| !rows.is_empty()).collect();
    assert!(columns.len() > 500, "{} columns", columns.len());
    let middle = |rows: &Vec<u32>| rows.iter().sum::<u32>() as usize / rows.len();
    let heights: Vec<usize> = columns.iter().map(|rows| middle(rows)).collect();
    let (first, last) = (heights[0], heights[heights.len() - 1]);
    assert!(first > last + 20, "from the bottom, {first}, to the top, {last}");
    // A second thread of the pipeline may have been late now and then.
    let falls = heights.windows(2).filter(|h| h[0] + 1 < h[1]).count();
    assert!(falls * 20 < heights.len(), "{falls} times it falls: {heights:?}");
}

#[test]
fn values_have_a_lane_that_a_device_counted() {
    if have_gpu("values_have_a_lane_that_a_device_counted") {
        values_have_a_lane(|_| {});
    }
}

#[test]
fn values_have_a_lane_without_a_device() {
    values_have_a_lane(nowhere);
}

/// One line is written; how long is it until a picture shows it?
#[test]
fn a_picture_shows_what_was_just_committed() {
    if !have_gpu("a_picture_shows_what_was_just_committed") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let keys = "png = \"p.png\"\npng_interval = \"250 ms\"";
    let source = "type = \"lines\"\nfrom = \"stdin\"";
    let mut child = pipeline(dir.path(), source, keys)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let path = dir.path().join("p.png");
    let shown = || Pixels::read(&path).map(|p| p.counts());
    let until = |what: &str, is: &dyn Fn(usize) -> bool| {
        let begin = Instant::now();
        while !shown().is_some_and(is) {
            assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    };
    until("a first picture", &|_| true);
    let (empty, mut longest) = (shown().expect("it is there"), Duration::ZERO);
    assert!(empty < 500, "the legend alone: {empty}");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "one").expect("it reads");
    longest = longest.max(until("the line", &|n| n > empty + 20));
    eprintln!("a line is in a picture {longest:?} after it was written; every 250 ms there is one");
    // 300 ms where nobody else is at work.
    assert!(longest < Duration::from_millis(2000), "{longest:?}");
    signal(&child, rustix::process::Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// There is no room for it: said once, and the end is none that was asked for. (A directory that
/// goes away is as good as a full disk, and needs no root.)
#[test]
fn a_picture_that_cannot_be_written_is_a_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("here")).expect("made");
    let source = "type = \"generator\"\nrate = 10000\nevents = 10000";
    let keys = "png = \"here/p.png\"\npng_interval = \"100 ms\"";
    let child = pipeline(dir.path(), source, keys).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let begin = Instant::now();
    while !dir.path().join("here/p.png").exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "a first picture");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::rename(dir.path().join("here"), dir.path().join("there")).expect("moved");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("10000 events recorded"), "nothing is lost with it: {said}");
    // While it runs, and as the reason for its end.
    assert_eq!(said.matches("here/p.png: no picture: No such file").count(), 2, "{said}");
}

#[test]
fn a_picture_is_on_the_ground_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    for (theme, page) in [("dark", [0x0F, 0x13, 0x18]), ("light", [0xFF; 3])] {
        let keys = format!("png = \"p.png\"\npng_theme = \"{theme}\"");
        let source = "type = \"generator\"\nevents = 10";
        let out = pipeline(dir.path(), source, &keys).output().expect("it runs");
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let picture = Pixels::read(&dir.path().join("p.png")).expect("a picture");
        assert_eq!(picture.page(), page, "{theme}");
    }
}

#[test]
fn what_cannot_be_a_picture_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("here")).expect("made");
    let fields: Vec<String> = (0..9).map(|n| format!("\"a.f{n}\"")).collect();
    let nine = format!("png = \"p.png\"\npng_value = [{}]", fields.join(", "));
    for (keys, code, sentence) in [
        ("png_value = \"a.b\"", 2, "is of a picture: write png = \"live.png\", too"),
        ("png = \"p.png\"\npng_value = \"b\"", 2, "\"b\" is no field: write EVENT.FIELD"),
        ("png = \"p.png\"\npng_value = 3", 2, "a field such as"),
        ("png = \"p.png\"\npng_valeu = \"a.b\"", 2, "did you mean `png_value`"),
        ("png_size = \"800x400\"", 2, "is of a picture: write png = \"live.png\", too"),
        ("png_interval = \"1 s\"", 2, "is of a picture: write png = \"live.png\", too"),
        ("png_window = \"1 s\"", 2, "is of a picture: write png = \"live.png\", too"),
        (nine.as_str(), 2, "has too many fields: at most 8 have a lane"),
        ("png = \"p.png\"\npng_size = \"big\"", 2, "is no size: write \"1600x900\""),
        ("png = \"p.png\"\npng_size = \"10x10\"", 2, "no picture is 10x10"),
        ("png = \"p.png\"\npng_interval = \"1 ms\"", 2, "is too short: \"50 ms\" or more"),
        ("png = \"p.png\"\npng_window = \"1 ns\"", 2, "is too short: \"1 us\" or more"),
        ("png = \"p.png\"\npng_theme = \"pale\"", 2, "expected `dark` or `light`"),
        ("png_theme = \"light\"", 2, "is of a picture: write png = \"live.png\", too"),
        ("png = \"/\"", 2, "is no file: write a name such as \"live.png\""),
        ("png = \"nowhere/p.png\"", 1, "nowhere/p.png: nowhere is no directory: make it"),
        ("png = \"here\"", 1, "here: is a directory: name a file for the picture"),
    ] {
        let source = "type = \"generator\"\nevents = 10";
        let out = pipeline(dir.path(), source, keys).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{keys}: {said}");
        assert!(said.contains(sentence), "{keys}: {said}");
    }
}
