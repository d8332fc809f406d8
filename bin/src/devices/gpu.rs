//! GPUs: render nodes, NVIDIA's own nodes, and the Vulkan drivers that are installed: what is
//! found, without opening it; and the adapters that those drivers give, which are what
//! `backend.gpu` takes: for that they are loaded.

use std::fs;
use std::path::{Path, PathBuf};

use rbpipe_backends::gpu as backend;

use super::access::{attribute, link_name, may_open};
use super::{Device, State};

fn vendor(id: &str) -> Option<&'static str> {
    Some(match id {
        "0x1002" => "AMD",
        "0x10de" => "NVIDIA",
        "0x8086" => "Intel",
        "0x1af4" => "virtio",
        "0x15ad" => "VMware",
        "0x1a03" => "ASPEED",
        "0x1414" => "Microsoft",
        "0x14e4" => "Broadcom",
        "0x5143" => "Qualcomm",
        "0x13b5" => "Arm",
        _ => return None,
    })
}

pub(super) fn look(root: &Path) -> Vec<Device> {
    let mut found = render_nodes(root);
    found.extend(nvidia(root));
    let none = found.is_empty();
    if none {
        found.push(device("gpu", "-".into(), "no GPU (no render node, no NVIDIA device)".into()));
    }
    let drivers = vulkan(root);
    let mut line = device("vulkan", "drivers".into(), drivers.join(", "));
    if drivers.is_empty() {
        line.what = "none installed".into();
        line.advice = Some(if none {
            "without a GPU Mesa has one in software (Debian: mesa-vulkan-drivers)".into()
        } else {
            "install your GPU's (Debian: mesa-vulkan-drivers; NVIDIA has its own)".into()
        });
    } else {
        line.state = State::Found;
    }
    found.push(line);
    found
}

/// A line for each adapter, under the name that the backend takes.
pub(super) fn adapters() -> Vec<Device> {
    let none = |what: String, advice: &str| Device {
        advice: Some(advice.into()),
        ..device("adapter", "-".into(), what)
    };
    let found = match backend::adapters() {
        Ok(found) if found.is_empty() => {
            return vec![none("no driver has one".into(), backend::ADVICE)];
        }
        Ok(found) => found,
        Err(e) => return vec![none(e.to_string(), backend::ADVICE)],
    };
    let line = |a: backend::AdapterLine| Device {
        state: State::Usable,
        ..device("adapter", a.name, format!("{}, {}, {}", a.kind, a.driver, a.limits))
    };
    found.into_iter().map(line).collect()
}

fn device(kind: &'static str, name: String, what: String) -> Device {
    Device { kind, name, state: State::Absent, what, advice: None }
}

/// `/dev/dri/renderD128` and those after it.
fn render_nodes(root: &Path) -> Vec<Device> {
    let mut cards: Vec<_> = fs::read_dir(root.join("sys/class/drm"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|c| c.file_name().to_string_lossy().starts_with("renderD"))
        .collect();
    cards.sort_by_key(fs::DirEntry::file_name);
    let mut out = Vec::new();
    for card in cards {
        let (name, path) = (card.file_name(), card.path().join("device"));
        let mut parts = Vec::new();
        parts.extend(attribute(&path.join("vendor")).map(|id| {
            let model = attribute(&path.join("device")).unwrap_or_default();
            format!("{} {id}:{model}", vendor(&id).unwrap_or("PCI"))
        }));
        parts.extend(link_name(&path.join("driver")).map(|d| format!("driver {d}")));
        let shown = format!("/dev/dri/{}", name.to_string_lossy());
        out.push(with_access(root, shown, parts.join(", ")));
    }
    out
}

fn with_access(root: &Path, name: String, what: String) -> Device {
    let node = root.join(name.trim_start_matches('/'));
    let mut found = Device { state: State::Found, ..device("gpu", name, what) };
    if let Err(refused) = may_open(root, &node) {
        found.state = State::NoAccess;
        found.what = format!("{}, {}", found.what, refused.why);
        found.advice = Some(refused.advice);
    }
    found
}

/// NVIDIA's own driver has nodes of its own beside render nodes.
fn nvidia(root: &Path) -> Vec<Device> {
    let mut out = Vec::new();
    let gpus = root.join("proc/driver/nvidia/gpus");
    for gpu in fs::read_dir(gpus).into_iter().flatten().flatten() {
        let text = fs::read_to_string(gpu.path().join("information")).unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        let minor = value("Device Minor").unwrap_or_else(|| "0".into());
        let model = value("Model").unwrap_or_else(|| "NVIDIA".into());
        let what = format!("{model}, driver nvidia");
        out.push(with_access(root, format!("/dev/nvidia{minor}"), what));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// The names of the drivers that a Vulkan loader would find.
fn vulkan(root: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = Vec::new();
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find_map(std::env::var_os);
    match chosen {
        // These alone, whatever is installed.
        Some(list) => files.extend(std::env::split_paths(&list)),
        None => {
            for place in ["etc", "usr/local/etc", "usr/local/share", "usr/share"] {
                let folder = root.join(place).join("vulkan/icd.d");
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                files.extend(entries.map(|e| e.path()));
            }
        }
    }
    let json = |p: &PathBuf| p.extension().is_some_and(|e| e == "json");
    let stem = |p: &PathBuf| Some(p.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = files
        .iter()
        .filter(|p| json(p) && p.exists())
        .filter_map(stem)
        // radeon_icd.x86_64: one for each architecture.
        .map(|name| {
            let name = name.split('.').next().unwrap_or_default().trim_end_matches("_icd");
            match name {
                "lvp" => "lvp (software)".into(),
                name => name.to_owned(),
            }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_there_is_named_by_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let found = look(root);
        assert_eq!((found[0].name.as_str(), found[0].state), ("-", State::Absent));
        assert_eq!((found[1].kind, found[1].what.as_str()), ("vulkan", "none installed"));
        assert!(found[1].advice.as_ref().unwrap().contains("software"));
        write(root, "sys/class/drm/renderD128/device/vendor", "0x1002\n");
        write(root, "sys/class/drm/renderD128/device/device", "0x73bf\n");
        symlink(
            "../../bus/pci/drivers/amdgpu",
            root.join("sys/class/drm/renderD128/device/driver"),
        )
        .unwrap();
        write(root, "dev/dri/renderD128", "");
        write(root, "sys/class/drm/card0/device/vendor", "0x1002\n");
        write(
            root,
            "proc/driver/nvidia/gpus/0000:01:00.0/information",
            "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 1\nDevice Minor: \t 3\n",
        );
        write(root, "usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}");
        write(root, "usr/share/vulkan/icd.d/lvp_icd.json", "{}");
        write(root, "usr/share/vulkan/icd.d/README", "");
        let found = look(root);
        let short: Vec<_> =
            found.iter().map(|d| (d.name.as_str(), d.state, d.what.as_str())).collect();
        assert_eq!(
            short,
            [
                ("/dev/dri/renderD128", State::Found, "AMD 0x1002:0x73bf, driver amdgpu"),
                (
                    "/dev/nvidia3",
                    State::NoAccess,
                    "NVIDIA H100 PCIe, driver nvidia, no device node"
                ),
                ("drivers", State::Found, "lvp (software), radeon"),
            ]
        );
    }
}
