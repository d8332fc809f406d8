//! Where kernel tracing is: a mount of tracefs that is there, or one of our own that nobody
//! else sees.
//!
//! tracefs is one file system for the whole machine: options of any mount (`gid=`, `mode=`)
//! change permissions for everybody, so ours has none.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The root of tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
    /// Keeps a mount of our own.
    _mount: Option<OwnedFd>,
}

/// Why there is none: the step that failed, and what to do.
#[derive(Debug)]
pub struct NoTracefs {
    step: String,
    error: io::Error,
}

impl fmt::Display for NoTracefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, error } = self;
        write!(f, "kernel tracing is not to be had: {step}: {error}: ")?;
        f.write_str(match error.kind() {
            io::ErrorKind::PermissionDenied if rustix::process::geteuid().is_root() => {
                "root alone does not do: it needs CAP_SYS_ADMIN, or a mount of tracefs that it may \
                 write (a container?)"
            }
            io::ErrorKind::PermissionDenied => "run it as root",
            io::ErrorKind::ReadOnlyFilesystem => "mount it so that it can be written",
            io::ErrorKind::NotFound => "mount tracefs, or run it as root",
            _ => "this kernel has no tracefs (CONFIG_FTRACE), or a sandbox hides it",
        })
    }
}

impl std::error::Error for NoTracefs {}

impl NoTracefs {
    /// It is there, or could be; we may not.
    pub fn is_refused(&self) -> bool {
        self.error.kind() == io::ErrorKind::PermissionDenied
            || self.error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
    }
}

impl Tracefs {
    /// The first mount that lets us make instances; without any mount, one of our own.
    ///
    /// # Errors
    /// The step that failed.
    pub fn find() -> Result<Self, NoTracefs> {
        let mut refused = None;
        for place in mounts() {
            match look(&place) {
                Ok(()) => {
                    return Ok(Self { root: place, _mount: None });
                }
                Err(e) => refused = refused.or(Some((place, e))),
            }
        }
        // Hidden under another mount, it is as good as none.
        if let Some((place, error)) = refused.filter(|(_, e)| e.kind() != io::ErrorKind::NotFound) {
            return Err(NoTracefs {
                step: format!("{}", place.join("instances").display()),
                error,
            });
        }
        Self::mount()
    }

    /// A mount that is in no directory and goes with the process.
    fn mount() -> Result<Self, NoTracefs> {
        let failed = |step: &str| {
            let step = step.to_owned();
            move |e: rustix::io::Errno| NoTracefs { step, error: e.into() }
        };
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(failed("tracefs is not mounted, and fsopen(\"tracefs\")"))?;
        fsconfig_create(&context).map_err(failed("fsconfig of tracefs"))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&context, flags, MountAttrFlags::empty())
            .map_err(failed("fsmount of tracefs"))?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        look(&root).map_err(|error| NoTracefs { step: "a mount of our own".into(), error })?;
        Ok(Self { root, _mount: Some(mount) })
    }

    /// Where it is mounted; `None`: a mount of our own.
    pub fn mounted_at(&self) -> Option<&Path> {
        self._mount.is_none().then_some(self.root.as_path())
    }

    /// The path of a file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }
}

/// Where tracefs is mounted, whole.
fn mounts() -> Vec<PathBuf> {
    let Ok(mounts) = Process::myself().and_then(|me| me.mountinfo()) else { return Vec::new() };
    let all = mounts.into_iter().filter(|m| m.fs_type == "tracefs" && m.root == "/");
    all.map(|m| m.mount_point).collect()
}

/// Whether instances may be made there.
fn look(root: &Path) -> io::Result<()> {
    let instances = root.join("instances");
    std::fs::read_dir(&instances)?;
    rustix::fs::access(&instances, rustix::fs::Access::WRITE_OK)?;
    Ok(())
}
