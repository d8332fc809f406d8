//! Goal: `rbpipe devices` tells what is here, to people and to programs, to root and to others,
//! and changes nothing. Method: the program, and the system's own lists.

use std::process::{Command, Output};

use rbpipe_tests::have;
use rbpipe_tests::program::rbpipe;
use serde_json::Value;

fn devices(args: &[&str]) -> Output {
    rbpipe().arg("devices").args(args).output().expect("it runs")
}

#[test]
fn a_line_for_each_and_the_same_as_json() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let before = mounts();
    let (text, json) = (devices(&[]), devices(&["--json"]));
    assert_eq!((text.status.code(), json.status.code()), (Some(0), Some(0)), "{text:?} {json:?}");
    let text = String::from_utf8(text.stdout).expect("text");
    let list: Vec<Value> = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(text.lines().count(), list.len());
    for (line, d) in text.lines().zip(&list) {
        for key in ["kind", "name", "what"] {
            assert!(line.contains(d[key].as_str().expect(key)), "{line}: {d}");
        }
        let state = d["state"].as_str().expect("a state");
        assert!(line.contains(&state.replace('-', " ")), "{line}: {d}");
        // What is not usable has something to do about it, or nothing can be done.
        let advised = d["advice"].is_string() || ["usable", "found", "absent"].contains(&state);
        assert!(advised || d["kind"] == "kernel tracing", "{d}");
    }
    for kind in ["kernel tracing", "serial", "gpu", "vulkan"] {
        assert!(list.iter().any(|d| d["kind"] == kind), "{kind}: {text}");
    }
    // Aligned: the state begins in one column.
    let column = |line: &str, d: &Value| {
        let state = d["state"].as_str().expect("a state").replace('-', " ");
        line.find(&format!("  {state}")).expect("a state")
    };
    let columns: Vec<usize> = text.lines().zip(&list).map(|(l, d)| column(l, d)).collect();
    let widest = list.iter().map(|d| d["name"].as_str().map_or(0, str::len)).max();
    assert!(columns.iter().all(|c| *c <= 14 + 2 + widest.unwrap_or(0)), "{text}");
    assert_eq!(mounts(), before, "nothing is mounted");
}

#[test]
fn who_is_not_root_is_told_what_to_do() {
    let root = rustix::process::geteuid().is_root();
    if !root || !have("devices", "setpriv", &["--reuid", "65534", "--clear-groups", "true"]) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root");
        eprintln!("SKIPPED who_is_not_root_is_told_what_to_do: it needs root to be somebody else");
        return;
    }
    // Where everybody may run it.
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("rbpipe");
    std::fs::copy(rbpipe().get_program(), &program).expect("copied");
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), all).expect("set");
    let out = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(program)
        .args(["devices", "--json"])
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let list: Vec<Value> = serde_json::from_slice(&out.stdout).expect("JSON");
    let kernel = list.iter().find(|d| d["kind"] == "kernel tracing").expect("a line");
    assert_ne!(kernel["state"], "usable", "{kernel}");
    assert!(kernel["what"].as_str().expect("why").contains("root"), "{kernel}");
    for port in list.iter().filter(|d| d["kind"] == "serial" && d["state"] == "no-access") {
        assert!(port["advice"].is_string(), "{port}");
    }
}
