//! Recorded pages of the kernel's ring buffer, with the kernel's own text of them
//! (`tests/fixtures/kernel`, see the README there), and what they are compared with: a second,
//! naive reader ([`naive`]), and the text's lines ([`text`]).

pub mod naive;
pub mod text;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rbpipe::fuzz::{EventFormat, Formats};

/// What one stopped instance held.
pub struct Recording {
    /// The name of its folder.
    pub name: String,
    /// Of each CPU, its pages in order: cut behind what is in them.
    pub pages: Vec<Vec<Vec<u8>>>,
    /// `trace`, as it is by itself.
    pub text: String,
    /// `trace` with `options/fields`.
    pub fields: String,
    /// `trace` with `options/raw`.
    pub raw: String,
    /// `per_cpu/cpuN/stats`.
    pub stats: Vec<String>,
}

/// An event's system, name and format.
pub type FormatText = (String, String, String);

/// The folder of the fixtures.
#[must_use]
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kernel")
}

/// A file, or that file as it was compressed.
fn read(path: &Path) -> Option<Vec<u8>> {
    let packed = PathBuf::from(format!("{}.zst", path.display()));
    match fs::File::open(&packed) {
        Ok(file) => Some(unpack(file).unwrap_or_else(|e| panic!("{}: {e}", packed.display()))),
        Err(_) => fs::read(path).ok(),
    }
}

/// What zstd has packed.
///
/// # Errors
/// It is not what zstd writes, or not whole.
pub fn unpack(packed: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| e.to_string())?;
    decoder.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|e| e.expect("readable").path()).collect();
    paths.sort();
    paths
}

/// All recordings in a folder.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn recordings(dir: &Path) -> Vec<Recording> {
    let mut out = Vec::new();
    for path in names(dir).into_iter().filter(|p| p.is_dir()) {
        let text = |name: &str| {
            let bytes = read(&path.join(name));
            String::from_utf8_lossy(&bytes.expect("a recording has it")).into_owned()
        };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let (mut pages, mut stats) = (Vec::new(), Vec::new());
        while let Some(bytes) = read(&path.join(format!("pages{}", pages.len()))) {
            stats.push(text(&format!("stats{}", pages.len())));
            pages.push(split(&bytes));
        }
        let (text, fields, raw) = (text("text"), text("fields"), text("raw"));
        out.push(Recording { name, pages, text, fields, raw, stats });
    }
    out
}

/// Pages, each with its length before it.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (page, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        out.push(page.to_vec());
        bytes = rest;
    }
    out
}

/// The formats that recordings in a folder need.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn format_texts(dir: &Path) -> Vec<FormatText> {
    let bytes = read(&dir.join("formats")).expect("the formats");
    let mut out: Vec<FormatText> = Vec::new();
    for line in String::from_utf8(bytes).expect("text").split_inclusive('\n') {
        match line.strip_prefix("== ").and_then(|l| l.trim().split_once(':')) {
            Some((system, event)) => out.push((system.into(), event.into(), String::new())),
            None => out.last_mut().expect("a name comes first").2.push_str(line),
        }
    }
    out
}

/// The same, for the decoder.
///
/// # Panics
/// One is refused.
#[must_use]
pub fn formats(texts: &[FormatText]) -> Formats {
    let mut out = Formats::new();
    for (system, event, text) in texts {
        let format = EventFormat::parse(system, event, text);
        out.add(format.unwrap_or_else(|e| panic!("{system}:{event}: {e}")));
    }
    out
}
