//! What people see when a configuration is wrong: a table of broken ones and the whole text
//! (`errors.golden`; `RBPIPE_BLESS=1 cargo test -p rbpipe` writes it anew, to be read before
//! it is committed). And: every sample, through the real reader.

use std::fmt::Write;

use rbpipe_core::backend::{Backend, Visit};
use rbpipe_core::channel::Streams;
use rbpipe_core::frontend::Mode;

use super::*;
use crate::sources::{self, Source, VisitSource};

fn errors(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let (mut texts, mut list) = (Texts::default(), Vec::new());
    let config = parse("p.toml", text, "p", &sets, &mut texts, &mut list);
    list.sort_by_key(|p| p.span.as_ref().map_or(0, |s| s.start));
    list.dedup_by(|b, a| a.span.is_some() && a.span == b.span);
    list.retain(|p| !p.warning);
    assert!(config.is_none() || list.iter().any(|p| !p.warning), "it is broken: {text}");
    Problems { texts, list }.to_string()
}

/// A pipeline that is right, to be broken.
const RIGHT: &str = r#"
[source.g]
type = "generator"
channel = "c"
[channel.c]
mode = "discard"
subbuf_size = "64 KiB"
[channel.c.backend]
type = "file"
path = "t"
"#;

#[test]
fn broken_configurations_are_told_in_full() {
    let with = |from: &str, to: &str| {
        assert!(RIGHT.contains(from), "{from}");
        RIGHT.replace(from, to)
    };
    let kernel = |keys: &str| with("\"generator\"", &format!("\"ftrace\"\n{keys}"));
    let cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("empty", String::new(), vec![]),
        ("syntax", with("mode = \"discard\"", "mode = \"discard"), vec![]),
        ("unknown table", format!("{RIGHT}\n[chanel.x]\n"), vec![]),
        ("unknown key", with("mode", "mood"), vec![]),
        ("unknown mode", with("discard", "overwite"), vec![]),
        ("unknown backend", with("\"file\"", "\"fiel\""), vec![]),
        ("unknown source", with("generator", "genrator"), vec![]),
        ("unknown backend key", with("path = \"t\"", "path = \"t\"\nsink = 1"), vec![]),
        ("missing backend key", with("path = \"t\"", ""), vec![]),
        ("kernel events", kernel("events = [\"!irq:*\", 5, \"a:b:c\"]"), vec![]),
        ("kernel pattern", kernel("events = [\"!irq:*\", \"sched:a b\"]"), vec![]),
        ("kernel filter", kernel("events = [{ event = \"irq:*\", fliter = \"\" }]"), vec![]),
        (
            "kernel ring",
            kernel("events = [\"irq\"]\nbuffer_size = \"64 KiB\"\nflush = \"0 s\""),
            vec![],
        ),
        ("missing type", with("type = \"generator\"", ""), vec![]),
        ("impossible size", with("64 KiB", "65 KiB"), vec![]),
        ("no size", with("64 KiB", "64 kb"), vec![]),
        ("impossible count", with("mode = \"discard\"", "subbuf_count = 3"), vec![]),
        ("no such channel", with("channel = \"c\"", "channel = [\"c\", \"d\"]"), vec![]),
        ("no unit", with("mode = \"discard\"", "switch_timer = 5"), vec![]),
        ("wrong type", with("mode = \"discard\"", "prefault = \"yes\""), vec![]),
        ("wrong rate", with("channel = \"c\"", "channel = \"c\"\nrate = \"fast\""), vec![]),
        ("impossible writers", with("channel = \"c\"", "channel = \"c\"\nwriters = 0"), vec![]),
        ("not in the environment", with("\"t\"", "\"${RBPIPE_NOT_SET}/t\""), vec![]),
        (
            "several of one table",
            with("path = \"t\"", "pth = \"t\"\nsync = 5\noverwrite = 1"),
            vec![],
        ),
        (
            "several of a source",
            with("channel = \"c\"", "channel = []\nevents = -1\nwrtiers = 3"),
            vec![],
        ),
        ("no time to stop", format!("pipeline.stop_timeout = \"0 s\"\n{RIGHT}"), vec![]),
        ("no mode", with("\"discard\"", "7"), vec![]),
        ("huge count", with("mode = \"discard\"", "subbuf_count = 99999999999"), vec![]),
        (
            "huge seed",
            with("channel = \"c\"", "channel = \"c\"\nseed = 99999999999999999999"),
            vec![],
        ),
        ("a date", with("mode = \"discard\"", "switch_timer = 1979-05-27"), vec![]),
        ("an array of tables", RIGHT.replace("[source.g]", "[[source]]"), vec![]),
        ("no channel table", RIGHT.into(), vec!["channel.c=3"]),
        (
            "stdin twice",
            format!(
                "{RIGHT}\n[source.a]\ntype = \"lines\"\nfrom = \"stdin\"\nchannel = \"c\"\n[source.b]\ntype = \"lines\"\nfrom = \"stdin\"\nchannel = \"c\"\n"
            ),
            vec![],
        ),
        (
            "several meanings",
            with("channel = \"c\"", "channel = \"c\"\nwriters = 0\npayload = 99999999"),
            vec![],
        ),
        ("no sync", with("path = \"t\"", "path = \"t\"\nsync = \"often\""), vec![]),
        ("no list of names", with("channel = \"c\"", "channel = 7"), vec![]),
        (
            "all sizes",
            RIGHT
                .replace("64 KiB", "1 B")
                .replace("mode = \"discard\"", "subbuf_count = 5\nreader_subbufs = 0")
                .replace("path", "pat"),
            vec![],
        ),
        ("empty path", with("path = \"t\"", "path = \"\""), vec![]),
        ("no name", format!("pipeline.name = \"a/b\"\n{RIGHT}"), vec![]),
        ("impossible rate", with("channel = \"c\"", "channel = \"c\"\nrate = 1e-300"), vec![]),
        ("two at once", with("discard", "x").replace("64 KiB", "1 B"), vec![]),
        (
            "no rotation",
            with("path = \"t\"", "path = \"t\"\nrotate_size = \"4 KiB\"\nrotate_every = \"1 ms\""),
            vec![],
        ),
        ("set: value", RIGHT.into(), vec!["channel.c.mode=newest"]),
        ("set: key", RIGHT.into(), vec!["channel.c.moed=discard"]),
        ("set: shape", RIGHT.into(), vec!["channel"]),
    ];
    let mut all = String::new();
    for (name, text, sets) in &cases {
        let _ = write!(all, "## {name}\n{}\n", errors(text, sets));
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/errors.golden");
    if std::env::var_os("RBPIPE_BLESS").is_some() {
        std::fs::write(golden, &all).unwrap();
    }
    assert_eq!(all, std::fs::read_to_string(golden).unwrap());
}

fn good(text: &str, sets: &[&str]) -> PipelineConfig {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let (mut texts, mut list) = (Texts::default(), Vec::new());
    let config = parse("p.toml", text, "p", &sets, &mut texts, &mut list);
    let problems = Problems { texts, list };
    assert!(problems.list.is_empty(), "{problems}");
    config.unwrap()
}

#[test]
fn a_file_without_an_end_is_no_configuration() {
    let error = read(Path::new("/dev/zero"), &[]).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "error: /dev/zero: is larger than 1 MiB: no configuration\n");
}

#[test]
fn sets_are_laid_over_the_file() {
    let c = good(
        RIGHT,
        &["channel.c.mode=overwrite", "channel.c.subbuf_count = 4", "pipeline.duration=3 s"],
    );
    assert_eq!(c.channels[0].options.plan.mode, Mode::Overwrite);
    assert_eq!(c.channels[0].options.plan.geometry.subbuf_count(), 4);
    assert_eq!(c.duration, Some(Duration::from_secs(3)));
    assert_eq!(c.name, "p");
}

#[test]
fn defaults_are_those_of_the_contract() {
    let c = good(RIGHT, &[]);
    let channel = &c.channels[0].options;
    assert_eq!(channel.streams, Streams::PerCpu);
    assert_eq!(channel.plan.geometry.subbuf_count(), 8);
    assert_eq!(channel.block_timeout, Some(Duration::from_millis(100)));
    assert_eq!(channel.switch_timer, Some(Duration::from_secs(1)));
    assert_eq!(channel.read_timer, Some(Duration::from_millis(10)));
    let c = good(RIGHT, &["channel.c.switch_timer=0 s", "channel.c.block_timeout=0 s"]);
    assert_eq!(
        (c.channels[0].options.switch_timer, c.channels[0].options.block_timeout),
        (None, None)
    );
}

#[test]
fn the_environment_fills_string_values_alone() {
    // PATH is set wherever tests run.
    let text = RIGHT.replace("\"t\"", "\"${PATH}x$${y}${RBPIPE_NOT_SET:-z}\"");
    let c = good(&text, &[]);
    let config = c.channels[0].config.downcast_ref::<rbpipe_backends::file::Config>().unwrap();
    let expected = format!("{}x${{y}}z", std::env::var("PATH").unwrap());
    assert_eq!(config.path.display().to_string(), expected);
}

#[test]
fn every_sample_is_read_by_the_real_reader() {
    struct Backends(Vec<&'static str>);
    impl Visit for Backends {
        fn visit<B: Backend>(&mut self) {
            // A build without GPUs refuses it, whatever is in its table.
            if B::TYPE != "gpu" || rbpipe_backends::gpu::BUILT {
                self.0.push(B::SAMPLE);
            }
        }
    }
    struct Sources(Vec<&'static str>);
    impl VisitSource for Sources {
        fn visit<S: Source>(&mut self) {
            self.0.push(S::SAMPLE);
        }
    }
    let (mut backends, mut all) = (Backends(Vec::new()), Sources(Vec::new()));
    rbpipe_backends::for_each(&mut backends);
    sources::for_each(&mut all);
    for b in &backends.0 {
        for s in &all.0 {
            good(&format!("[source.s]\nchannel = \"c\"\n{s}\n[channel.c.backend]\n{b}"), &[]);
        }
    }
    good(include_str!("../../../pipeline.toml"), &[]);
}
