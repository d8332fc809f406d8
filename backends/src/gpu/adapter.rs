//! Which GPUs there are, and opening one of them. Not here: what is done with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rbpipe_core::backend::BackendError;
use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};

use super::config::{Kind, Wanted};
use crate::units::Size;

/// An adapter, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterLine {
    /// Its name, as `adapter = "…"` takes it.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// Its driver, with version.
    pub driver: String,
    /// What it can hold.
    pub limits: String,
}

/// What to do where no adapter is found.
pub const ADVICE: &str =
    "install your GPU's Vulkan driver, or Debian's mesa-vulkan-drivers for one in software";

/// The adapters of this machine, the best first. It loads the drivers.
///
/// # Errors
/// A driver that panics, in one sentence.
pub fn adapters() -> Result<Vec<AdapterLine>, BackendError> {
    let found = find(&instance(Backends::VULKAN), Backends::VULKAN)?;
    Ok(found.iter().map(line).collect())
}

fn line(adapter: &Adapter) -> AdapterLine {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    let driver: Vec<_> = driver.into_iter().filter(|s| !s.is_empty()).collect();
    let limits = format!(
        "buffers of {} at most, {} of them in a shader at once",
        about(limits.max_buffer_size),
        about(limits.max_storage_buffer_binding_size)
    );
    AdapterLine { name: info.name, kind: kind_of(adapter).name(), driver: driver.join(" "), limits }
}

/// A limit as people say it: 2 GiB - 1 is 2 GiB.
fn about(bytes: u64) -> String {
    let up = bytes.checked_next_multiple_of(1 << 20).unwrap_or(bytes);
    Size(if up - bytes < 16 { up } else { bytes }).to_string()
}

/// What an adapter is.
pub(super) fn kind_of(adapter: &Adapter) -> Kind {
    let info = adapter.get_info();
    match info.device_type {
        _ if info.backend == wgpu::Backend::Noop => Kind::Noop,
        DeviceType::DiscreteGpu => Kind::Discrete,
        DeviceType::IntegratedGpu => Kind::Integrated,
        DeviceType::VirtualGpu => Kind::Virtual,
        DeviceType::Cpu => Kind::Cpu,
        DeviceType::Other => Kind::Other,
    }
}

/// Whether what the processor writes may be where shaders find it.
pub(super) fn is_direct(adapter: &Adapter) -> bool {
    // Its documentation warns of it for memory that is not shared.
    let shares = matches!(kind_of(adapter), Kind::Integrated | Kind::Cpu | Kind::Noop);
    shares && adapter.features().contains(Features::MAPPABLE_PRIMARY_BUFFERS)
}

/// The adapters that a configuration can name, the best first: of those with one name the first.
///
/// # Errors
/// A driver that panics, in one sentence.
pub(super) fn named() -> Result<Vec<Adapter>, BackendError> {
    let mut found = find(&instance(Backends::VULKAN), Backends::VULKAN)?;
    let mut names = Vec::new();
    found.retain(|adapter| {
        let name = adapter.get_info().name;
        let is_new = !names.contains(&name);
        names.push(name);
        is_new
    });
    Ok(found)
}

fn instance(backends: Backends) -> Instance {
    let mut descriptor = InstanceDescriptor {
        backends,
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    };
    descriptor.backend_options.noop = if backends == Backends::NOOP {
        wgpu::NoopBackendOptions::enabled()
    } else {
        wgpu::NoopBackendOptions::default()
    };
    Instance::new(descriptor)
}

fn find(instance: &Instance, backends: Backends) -> Result<Vec<Adapter>, BackendError> {
    let find = || pollster::block_on(instance.enumerate_adapters(backends));
    let mut found = catch_unwind(AssertUnwindSafe(find)).map_err(|panic| {
        BackendError::new(format!("a GPU driver panicked: {}", panicked(&*panic)))
    })?;
    found.sort_by_key(kind_of);
    Ok(found)
}

/// What a panic says.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    words(text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default())
}

/// What a driver says, in one line: some go on for many.
pub(super) fn words(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let line = lines.take(3).collect::<Vec<_>>().join(": ");
    if line.is_empty() { "it does not say why".into() } else { line }
}

/// The adapter that is wanted; `None`: `auto`, and there is none.
///
/// # Errors
/// There is no such one, with what there is.
pub(super) fn choose(wanted: &Wanted) -> Result<Option<Adapter>, BackendError> {
    let backends = match wanted {
        Wanted::Kind(Kind::Noop) => Backends::NOOP,
        _ => Backends::VULKAN,
    };
    let found = find(&instance(backends), backends)?;
    let is_it = |adapter: &&Adapter| match wanted {
        Wanted::Auto => true,
        Wanted::Kind(kind) => kind_of(adapter) == *kind,
        Wanted::Named(name) => {
            adapter.get_info().name.to_lowercase().contains(&name.to_lowercase())
        }
    };
    // "RTX 3080" is that one, though an "RTX 3080 Ti" comes first.
    let is_named = |a: &&Adapter| matches!(wanted, Wanted::Named(n) if a.get_info().name == *n);
    if let Some(adapter) = found.iter().find(is_named).or_else(|| found.iter().find(is_it)) {
        return Ok(Some(adapter.clone()));
    }
    if *wanted == Wanted::Auto {
        return Ok(None);
    }
    let sort = match wanted {
        Wanted::Kind(kind) => format!("of the kind \"{}\"", kind.name()),
        _ => format!("with \"{wanted}\" in its name"),
    };
    let there_is = if found.is_empty() {
        format!("no Vulkan driver finds any: {ADVICE}; adapter = \"auto\" goes on without one")
    } else {
        let name = |a: &Adapter| format!("\"{}\" ({})", a.get_info().name, kind_of(a).name());
        let names: Vec<_> = found.iter().map(name).collect();
        format!("this machine has {}", names.join(", "))
    };
    Err(BackendError::new(format!("no GPU adapter {sort}: {there_is}")))
}

/// Keeps a driver's layer from complaining on stderr that there is no display: Mesa's looks for
/// one to find out which device is the default, which we do not ask. Only while the process has
/// one thread; later, nothing is done.
pub fn quiet_drivers() {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if alone && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the process's only thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
