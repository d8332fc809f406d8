//! `rbpipe devices`: what of this machine could be traced or written to, and what to do about
//! what cannot. It looks; it opens nothing that others would notice.

mod access;
mod gpu;
mod kernel;
mod serial;

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde::Serialize;

/// Arguments of `rbpipe devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// A JSON array: kind, name, state, what, advice
    #[arg(long)]
    pub json: bool,
}

/// Something that was found, or is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// "kernel tracing", "serial", "gpu", "vulkan", "adapter".
    pub kind: &'static str,
    /// Its name, or path.
    pub name: String,
    /// How it is, in a word or two.
    pub state: State,
    /// What it is.
    pub what: String,
    /// What to do about it, if there is something.
    pub advice: Option<String>,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// rbpipe can trace with it.
    Usable,
    /// It is there, and may be opened.
    Found,
    /// Another program has it open.
    InUse,
    /// It is there, and may not be opened.
    NoAccess,
    /// It is not there, or nothing is behind it.
    Absent,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Found => "found",
            Self::InUse => "in use",
            Self::NoAccess => "no access",
            Self::Absent => "absent",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// `out` cannot be written.
pub fn run(args: &DevicesArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let root = Path::new("/");
    let mut all = vec![kernel::look()];
    all.extend(serial::look(root));
    all.extend(gpu::look(root));
    all.extend(gpu::adapters());
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)?;
    } else {
        out.write_all(table(&all).as_bytes())?;
    }
    Ok(out.flush()?)
}

/// GPUs that a pipeline can use, by name, and whether that is one in software.
pub fn gpus() -> Vec<String> {
    let found = rbpipe_backends::gpu::adapters().unwrap_or_default().into_iter();
    let name = |a: rbpipe_backends::gpu::AdapterLine| match a.kind {
        "cpu" => format!("{} in software", a.name),
        _ => a.name,
    };
    found.map(name).collect()
}

/// A line for each, in columns. Names and models are the system's: none is to drive a terminal.
fn table(all: &[Device]) -> String {
    let width = |of: fn(&Device) -> usize| all.iter().map(of).max().unwrap_or(0);
    let kind = width(|d| d.kind.chars().count());
    let name = width(|d| d.name.chars().count());
    let state = width(|d| d.state.words().len());
    let mut text = String::new();
    for d in all {
        let more = match &d.advice {
            Some(advice) if d.what.is_empty() => advice.clone(),
            Some(advice) => format!("{}; {advice}", d.what),
            None => d.what.clone(),
        };
        let words = d.state.words();
        let line = format!("{:kind$}  {:name$}  {words:state$}  {more}", d.kind, d.name);
        text.extend(line.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_drive_no_terminal() {
        let device = |name: &str, state, advice: Option<&str>| Device {
            kind: "serial",
            name: name.into(),
            state,
            what: "a \x1b[2J port".into(),
            advice: advice.map(Into::into),
        };
        let all = [
            device("/dev/ttyS0", State::NoAccess, Some("do this")),
            device("/dev/ttyUSB10", State::Found, None),
        ];
        assert_eq!(
            table(&all),
            "serial  /dev/ttyS0     no access  a ?[2J port; do this\n\
             serial  /dev/ttyUSB10  found      a ?[2J port\n"
        );
        assert_eq!(serde_json::to_value(&all[0]).unwrap()["state"], "no-access");
    }
}
