//! Serial ports, from /sys/class/tty: those with a device behind them, and the places of ports
//! that the kernel keeps without a chip.

use std::fs;
use std::path::Path;

use super::access::{attribute, holders, link_name, may_open};
use super::{Device, State};

/// What `type` in sysfs means (linux/serial_core.h), the usual ones.
fn chip(number: u32) -> &'static str {
    match number {
        1 => "8250",
        2 => "16450",
        3 => "16550",
        4 => "16550A",
        7 => "16650",
        8 => "16650V2",
        9 => "16750",
        11 => "16950",
        14 => "XScale",
        32 => "PL011",
        _ => "UART",
    }
}

pub(super) fn look(root: &Path) -> Vec<Device> {
    let device = |name: String, state, what: String, advice| Device {
        kind: "serial",
        name,
        state,
        what,
        advice,
    };
    let mut ports: Vec<_> =
        fs::read_dir(root.join("sys/class/tty")).into_iter().flatten().flatten().collect();
    // ttyS2 before ttyS10.
    ports.sort_by_key(|p| {
        let name = p.file_name().to_string_lossy().into_owned();
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (stem, number) = name.split_at(name.len() - digits);
        (stem.to_owned(), number.parse::<u64>().unwrap_or(0))
    });
    let mut found = Vec::new();
    let mut holders_of = None;
    for port in ports {
        let (name, path) = (port.file_name().to_string_lossy().into_owned(), port.path());
        // Consoles and pseudo terminals have no device.
        if !path.join("device").exists() {
            continue;
        }
        let shown = format!("/dev/{name}");
        let number = attribute(&path.join("type")).and_then(|t| t.parse::<u32>().ok());
        if number == Some(0) {
            let what = "no chip behind this port".into();
            found.push(device(shown, State::Absent, what, None));
            continue;
        }
        let what = describe(&path, number);
        let node = root.join("dev").join(&name);
        if let Err(refused) = may_open(root, &node) {
            let what = format!("{what}, {}", refused.why);
            found.push(device(shown, State::NoAccess, what, Some(refused.advice)));
            continue;
        }
        let holders = holders_of.get_or_insert_with(|| holders(root));
        match holders.get(Path::new(&shown)) {
            Some((pid, comm)) => {
                let what = format!("{what}, open in {comm} (pid {pid})");
                let advice = Some("end that program, or use another port".into());
                found.push(device(shown, State::InUse, what, advice));
            }
            None => found.push(device(shown, State::Found, what, None)),
        }
    }
    if found.iter().all(|d| d.state == State::Absent) {
        let advice = Some("plug one in (a USB adapter is /dev/ttyUSB0 or /dev/ttyACM0)".into());
        found.push(device("-".into(), State::Absent, "no serial port".into(), advice));
    }
    found
}

/// The chip, the adapter's name, the driver: what there is to know.
fn describe(path: &Path, number: Option<u32>) -> String {
    let mut parts = Vec::new();
    parts.extend(number.map(|n| chip(n).to_owned()));
    // A USB adapter tells its name some levels above the port.
    let mut at = fs::canonicalize(path.join("device")).unwrap_or_default();
    for _ in 0..4 {
        if let Some(product) = attribute(&at.join("product")) {
            let maker = attribute(&at.join("manufacturer"));
            parts.push(maker.map_or(product.clone(), |maker| format!("{maker} {product}")));
            break;
        }
        if !at.pop() {
            break;
        }
    }
    if let Some(driver) = link_name(&path.join("device/driver")).filter(|d| d != "port") {
        parts.push(format!("driver {driver}"));
    }
    if parts.is_empty() { "a serial port".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::access::advice;
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A tree as sysfs has it.
    #[test]
    fn ports_with_and_without_a_chip() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(look(root).len(), 1, "none is said, too");
        for (name, kind) in [("ttyS0", "4"), ("ttyS1", "0"), ("ttyS10", "0"), ("ttyS2", "0")] {
            write(root, &format!("sys/class/tty/{name}/type"), kind);
            write(root, &format!("sys/class/tty/{name}/device/x"), "");
        }
        write(root, "sys/class/tty/tty1/active", "");
        write(root, "sys/devices/usb1/1-1/product", "FT232R USB UART\n");
        write(root, "sys/devices/usb1/1-1/manufacturer", "FTDI\n");
        write(root, "sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/x", "");
        write(root, "sys/bus/ftdi_sio/x", "");
        symlink(
            "../../../../bus/ftdi_sio",
            root.join("sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/driver"),
        )
        .unwrap();
        fs::create_dir_all(root.join("sys/class/tty/ttyUSB0")).unwrap();
        symlink(
            "../../../devices/usb1/1-1/1-1:1.0/ttyUSB0",
            root.join("sys/class/tty/ttyUSB0/device"),
        )
        .unwrap();
        write(root, "dev/ttyS0", "");
        let found = look(root);
        let short: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.state)).collect();
        assert_eq!(
            short,
            [
                ("/dev/ttyS0", State::Found),
                ("/dev/ttyS1", State::Absent),
                ("/dev/ttyS2", State::Absent),
                ("/dev/ttyS10", State::Absent),
                ("/dev/ttyUSB0", State::NoAccess),
            ]
        );
        assert_eq!(found[0].what, "16550A");
        assert_eq!(found[4].what, "FTDI FT232R USB UART, driver ftdi_sio, no device node");
        // A process that has it open.
        fs::create_dir_all(root.join("proc/77/fd")).unwrap();
        write(root, "proc/77/comm", "minicom\n");
        symlink("/dev/ttyS0", root.join("proc/77/fd/3")).unwrap();
        let found = look(root);
        assert_eq!(found[0].state, State::InUse);
        assert_eq!(found[0].what, "16550A, open in minicom (pid 77)");
    }

    #[test]
    fn a_group_to_join_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "etc/group", "root:x:0:\ndialout:x:20:me\n");
        let words = advice(root, 20, 0o20660);
        assert!(words.contains("usermod -aG dialout"), "{words}");
        // A group that may not open it either, one without a name, root's own.
        for (gid, mode) in [(20, 0o20600), (21, 0o20660), (0, 0o20660)] {
            assert_eq!(advice(root, gid, mode), "run it as root");
        }
    }
}
