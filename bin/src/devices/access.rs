//! Whether we may open a device node, and what to do if not; and who has it open.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Why a node cannot be opened, and what to do.
pub(super) struct Refused {
    pub why: String,
    pub advice: String,
}

/// Whether we may read and write it. Nothing is opened: opening a serial port moves its lines.
pub(super) fn may_open(root: &Path, node: &Path) -> Result<(), Refused> {
    let Ok(m) = fs::metadata(node) else {
        return Err(Refused {
            why: "no device node".into(),
            advice: "in a container it has to be passed in".into(),
        });
    };
    if access(node, Access::READ_OK | Access::WRITE_OK).is_ok() {
        return Ok(());
    }
    Err(Refused { why: "not yours to open".into(), advice: advice(root, m.gid(), m.mode()) })
}

/// Who may open a node of this group and with these rights.
pub(super) fn advice(root: &Path, gid: u32, mode: u32) -> String {
    let group = group_name(root, gid).filter(|_| mode & 0o060 == 0o060 && gid != 0);
    match group {
        Some(group) => {
            format!("join its group and log in again: sudo usermod -aG {group} \"$USER\"")
        }
        None => "run it as root".into(),
    }
}

/// A group's name.
fn group_name(root: &Path, gid: u32) -> Option<String> {
    let groups = fs::read_to_string(root.join("etc/group")).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// Who has a device open, as far as we may know: by path, a process's id and name.
pub(super) fn holders(root: &Path) -> HashMap<PathBuf, (i32, String)> {
    let mut out = HashMap::new();
    for process in fs::read_dir(root.join("proc")).into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let path = process.path();
        for fd in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            if target.starts_with("/dev") {
                let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
                out.entry(target).or_insert((pid, comm.trim_end().to_owned()));
            }
        }
    }
    out
}

/// The one line of an attribute in sysfs.
pub(super) fn attribute(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// The last part of where a link goes.
pub(super) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}
