//! How a ring's pages are had: ordinary ones, huge ones, or a memfd's. Not here: who has which
//! part of them (`heap.rs`).

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde::Deserialize;

/// Which pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    /// Anonymous memory.
    #[default]
    Heap,
    /// Huge pages: reserved ones (hugetlbfs) if there are, else transparent ones.
    Huge,
    /// A memfd for each stream, which another process may map, and which can be spliced.
    Memfd,
}

/// What pages were had in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Had {
    Ordinary,
    /// Reserved huge pages.
    Reserved,
    /// The kernel was asked for them.
    Transparent,
    /// Asked for huge ones, and the machine's setting is `never`.
    NotHuge,
    Memfd,
}

impl Had {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Ordinary => "in ordinary pages",
            Self::Reserved => "in reserved huge pages (hugetlbfs)",
            Self::Transparent => {
                "in transparent huge pages (madvise), as far as the kernel has them; no reserved \
                 ones are free (/proc/sys/vm/nr_hugepages)"
            }
            Self::NotHuge => {
                "in ordinary pages: no reserved huge ones are free (/proc/sys/vm/nr_hugepages), \
                 and /sys/kernel/mm/transparent_hugepage/enabled says never"
            }
            Self::Memfd => "in a memfd for each stream",
        }
    }
}

/// A mapping, zeroed.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    /// Where the same bytes are, from its beginning.
    file: Option<File>,
    pub(crate) had: Had,
    // Held for its address; bytes are reached through `base` alone.
    _map: MmapMut,
}

// SAFETY: `base` points into `_map`, which moves with it; parts of it are handed out once each.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared mapping gives out addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many bytes; a memfd gets this name.
    pub(crate) fn new(pages: Pages, bytes: usize, name: &str) -> io::Result<Self> {
        match pages {
            Pages::Heap => {
                let map = MmapOptions::new().len(bytes).map_anon()?;
                Ok(Self::of(map, 0, None, Had::Ordinary))
            }
            Pages::Huge => Self::huge(bytes),
            Pages::Memfd => Self::memfd(bytes, name),
        }
    }

    fn of(mut map: MmapMut, skip: usize, file: Option<File>, had: Had) -> Self {
        let base = NonNull::from(&mut map[skip..]).cast::<u8>();
        Self { base, file, had, _map: map }
    }

    fn huge(bytes: usize) -> io::Result<Self> {
        let page = huge_page();
        let rounded = bytes.checked_next_multiple_of(page).ok_or(io::ErrorKind::OutOfMemory)?;
        if let Ok(map) = MmapOptions::new().len(rounded).huge(None).map_anon() {
            return Ok(Self::of(map, 0, None, Had::Reserved));
        }
        // The kernel puts a huge page only where its whole room is mapped.
        let room = rounded.checked_add(page).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(room).map_anon()?;
        let skip = map.as_ptr().align_offset(page);
        let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        let never = enabled.is_ok_and(|text| text.contains("[never]"));
        let had = match map.advise(Advice::HugePage) {
            Ok(()) if !never => Had::Transparent,
            _ => Had::NotHuge,
        };
        Ok(Self::of(map, skip, None, had))
    }

    /// Of a length that nobody can change, and written through this mapping alone: others may
    /// map it to read.
    fn memfd(bytes: usize, name: &str) -> io::Result<Self> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
        let file = File::from(file);
        // SAFETY: the file is ours, new, sealed against another length, and sealed below against
        // any writer but this mapping.
        let map = unsafe { MmapOptions::new().len(bytes).map_mut(&file)? };
        fcntl_add_seals(&file, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        Ok(Self::of(map, 0, Some(file), Had::Memfd))
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
    /// The file that holds the same bytes.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

/// Bytes of a huge page, as the machine has them.
fn huge_page() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Hugepagesize:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.filter(|kib| kib.is_power_of_two()).unwrap_or(2048) << 10
}
