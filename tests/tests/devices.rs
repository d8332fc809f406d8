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
    for kind in ["kernel tracing", "serial", "gpu", "vulkan", "adapter"] {
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

/// `check --devices` opens what a pipeline needs, records nothing and replaces nothing.
#[test]
fn check_with_devices_opens_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("taken");
    let _taken = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let toml = |from: &str| {
        format!(
            "source.l = {{type = \"lines\", from = \"{from}\", channel = \"c\"}}\n\
             channel.c = {{backend = {{type = \"file\", path = \"t\", overwrite = true}}}}\n"
        )
    };
    let check = |toml: &str, devices: bool| {
        std::fs::write(dir.path().join("p.toml"), toml).expect("written");
        let mut command = rbpipe();
        command.current_dir(dir.path()).args(["check", "--config", "p.toml"]);
        if devices {
            command.arg("--devices");
        }
        let out = command.output().expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let taken = toml(&format!("unix:{}", socket.display()));
    let (code, said) = check(&taken, false);
    assert_eq!((code, said.trim_end()), (Some(0), "p.toml: fine: 1 source, 1 channel"));
    assert!(!dir.path().join("t").exists(), "nothing is opened");
    let (code, said) = check(&taken, true);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("rbpipe: source l: ") && said.contains("taken"), "{said}");
    let free = toml(&format!("unix:{}", dir.path().join("free").display()));
    let (code, said) = check(&free, true);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("fine: 1 source, 1 channel, all can be opened\n"), "{said}");
    assert!(!dir.path().join("free").exists(), "it is closed again");
    assert!(!dir.path().join("t/metadata").exists(), "no trace is begun");
}

/// An adapter is listed under the name that the backend takes, or what to do where there is none.
#[test]
fn adapters_are_listed_as_the_backend_takes_them() {
    let list = |set: &dyn Fn(&mut Command)| {
        let mut command = rbpipe();
        set(&mut command);
        let out = command.args(["devices", "--json"]).output().expect("it runs");
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        let all: Vec<Value> = serde_json::from_slice(&out.stdout).expect("JSON");
        all.into_iter().filter(|d| d["kind"] == "adapter").collect::<Vec<_>>()
    };
    let none = list(&|command| {
        command.env("VK_DRIVER_FILES", "/nowhere/icd.json");
        command.env("VK_ICD_FILENAMES", "/nowhere/icd.json");
    });
    assert_eq!((none.len(), &none[0]["state"]), (1, &"absent".into()), "{none:?}");
    assert!(none[0]["advice"].as_str().expect("advice").contains("mesa-vulkan-drivers"));
    if !rbpipe_tests::have_gpu("adapters_are_listed_as_the_backend_takes_them") {
        return;
    }
    let found = list(&|_| {});
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p.toml");
    for adapter in &found {
        assert_eq!(adapter["state"], "usable", "{adapter}");
        let name = adapter["name"].as_str().expect("a name");
        let toml = format!(
            "source.g = {{type = \"generator\", events = 1, channel = \"c\"}}\n\
             channel.c.backend = {{type = \"gpu\", adapter = {name:?}}}\n"
        );
        std::fs::write(&path, toml).expect("written");
        let out = rbpipe().args(["check", "--devices", "--config"]).arg(&path).output();
        let out = out.expect("it runs");
        assert_eq!(out.status.code(), Some(0), "{out:?}");
    }
}
