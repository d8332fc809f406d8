//! `rbpipe read --follow`: prints a trace while it grows.
//!
//! In turns: what is new is looked for, what all streams have by then is printed in the order
//! of time, and waited for is the next change. A packet is taken when it is whole in its file.
//!
//! How it knows the end: who writes a trace holds a lock on its directory for as long. When
//! that is free, what lies there is all. A rotated trace (its directory was renamed, a new one
//! has its path) is several *pieces*: each is read to its end, by the same rule.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::stream::Wanted;
use super::tsdl::{Metadata, parse_again};
use super::watch::{Watch, Woken};
use super::{Csv, Format, Printers, ReadArgs, Selection, StreamReader, Total, wanted};
use crate::status::{count, say};

/// It looks at least so often: nothing tells of a lock that was let go.
const TICK: Duration = Duration::from_millis(250);
/// A lock that was free for so long is nobody's: who rotates lets it go for a moment.
const FREE: Duration = Duration::from_millis(100);
/// How long a path that was renamed away may be missing.
const GAP: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// There is no trace, or `out` cannot be written.
pub fn run(args: &ReadArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let format = args.format.unwrap_or(Format::Text);
    let mut follow = Follow::open(&args.paths)?;
    follow.look(true);
    let wanted = Arc::new(wanted(args, || Ok(follow.extents()))?);
    follow.want(&wanted);
    let mut select = Selection::new(&args.events, args.filter.clone(), wanted);
    let mut printer = None;
    let stdout = io::stdout();
    loop {
        let described = follow.described();
        // The columns depend on what events there are; before there are any, none comes.
        let known = described.iter().any(|m| !m.streams.is_empty());
        if printer.is_none() && (known || follow.is_over()) {
            select.in_vain(&described).iter().for_each(|words| say!("rbpipe read: {words}"));
            let csv = || Csv::new(&args.fields, &select.classes(&described));
            printer = Some(Printers::new(format, csv));
        }
        if let Some(printer) = &mut printer {
            follow.total.aborted += printer.print(&mut follow.streams, &mut select, out)?;
        }
        // Packets that are not whole now never will be.
        if follow.end_pieces()
            && let Some(printer) = &mut printer
        {
            follow.total.aborted += printer.print(&mut follow.streams, &mut select, out)?;
        }
        follow.clear();
        if follow.is_over() && printer.is_some() {
            break;
        }
        match follow.watch.wait(follow.patience(), Some(stdout.as_fd())) {
            Woken::ReaderGone => return Ok(()),
            woken => follow.look(woken == Woken::Changed),
        }
    }
    follow.total.say_missing(format);
    follow.total.say_aborted();
    Ok(())
}

/// A directory, whatever it is called: device, inode, when it was made.
type Id = (u64, u64, Option<std::time::SystemTime>);

fn identity(path: &Path) -> Option<Id> {
    let m = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((m.dev(), m.ino(), m.created().ok()))
}

/// A path that was asked for.
struct Base {
    path: PathBuf,
    /// What is there, of what was looked at.
    current: Option<Id>,
    /// Finished pieces up to this number were there before.
    before: u64,
    /// Since when nothing is there.
    missing: Option<Instant>,
    /// Pieces of it that were opened, and how many were gone before that (as far as told).
    opened: u64,
    gone: u64,
}

/// One trace directory, by whatever name.
struct Piece {
    path: PathBuf,
    id: Id,
    directory: File,
    metadata: Option<Arc<Metadata>>,
    /// Which file it was read from: inode, length, when it was changed.
    read_from: Option<(u64, u64, i64, i64)>,
    /// Stream files that are, or were, read: device and inode.
    files: HashSet<(u64, u64)>,
    watch: Option<i32>,
    /// The lock is free, since when.
    free: Option<Instant>,
    /// It was, from the beginning.
    finished: bool,
    /// Its files were listed, ever; and when nobody could write or remove any.
    listed: bool,
    whole: bool,
}

struct Follow {
    bases: Vec<Base>,
    pieces: Vec<Piece>,
    seen: HashSet<Id>,
    streams: Vec<StreamReader>,
    /// Of each stream, its piece.
    owners: Vec<Id>,
    wanted: Arc<Wanted>,
    watch: Watch,
    total: Total,
}

impl Follow {
    fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut this = Self {
            bases: Vec::new(),
            pieces: Vec::new(),
            seen: HashSet::new(),
            streams: Vec::new(),
            owners: Vec::new(),
            wanted: Arc::default(),
            watch: Watch::new(),
            total: Total::default(),
        };
        for path in paths {
            // Pieces are beside the directory, not beside a link to it, or `.`.
            let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let before = pieces_of(&real).last().map_or(0, |(n, _)| *n);
            let piece = Piece::open(path)?;
            let (path, current) = (real, Some(piece.id));
            let base = Base { path, current, before, missing: None, opened: 1, gone: 0 };
            this.bases.push(base);
            this.add(piece);
        }
        for piece in &mut this.pieces {
            let shown = piece.path.display();
            match piece.is_free() {
                Some(true) => {
                    say!("rbpipe read: {shown}: nobody writes into it: what is there is all");
                    piece.finished = true;
                }
                Some(false) => {}
                None => say!(
                    "rbpipe read: {shown}: its file system has no locks, which tell when a trace \
                     is whole: interrupt to end"
                ),
            }
            if piece.finished && !piece.at("metadata").exists() {
                anyhow::bail!("{shown}: no trace here (no metadata)");
            }
        }
        Ok(this)
    }

    fn add(&mut self, mut piece: Piece) {
        if self.seen.insert(piece.id) {
            piece.watch = self.watch.add(&piece.at("."));
            self.pieces.push(piece);
        }
    }

    fn want(&mut self, wanted: &Arc<Wanted>) {
        self.wanted = Arc::clone(wanted);
        self.streams.iter_mut().for_each(|s| s.want(wanted));
    }

    fn described(&self) -> Vec<Arc<Metadata>> {
        self.pieces.iter().filter_map(|p| p.metadata.clone()).collect()
    }

    /// When the streams that are there begin and end.
    fn extents(&self) -> Vec<Option<super::Extent>> {
        let mut out = Vec::new();
        for s in &self.streams {
            out.extend(s.again().map(|mut s| s.extent()));
        }
        out
    }

    /// Looks what is new. `list`: there may be other files than before.
    fn look(&mut self, list: bool) {
        self.discover();
        for piece in &mut self.pieces {
            // First: what is there when nobody writes any more is all. Who removes old pieces
            // takes the lock, too: with it, what is listed is all.
            let free = piece.try_lock() == Some(true);
            piece.free = if free { piece.free.or_else(|| Some(Instant::now())) } else { None };
            if piece.metadata.is_none() {
                piece.read_metadata();
            }
            // Nothing may tell of files that were there before it was watched.
            if (list || !piece.listed)
                && let Some(metadata) = piece.metadata.clone()
            {
                piece.listed = true;
                piece.whole |= free && piece.is_there();
                for file in piece.new_files() {
                    match open_stream(&file, &piece.path, &metadata) {
                        Ok(mut s) => {
                            s.set_growing(true);
                            s.want(&self.wanted);
                            self.streams.push(s);
                            self.owners.push(piece.id);
                            self.watch.found();
                        }
                        Err(e) => say!("rbpipe read: {e:#}"),
                    }
                }
            }
            if free {
                piece.unlock();
            }
            let mut mine: Vec<_> = self
                .streams
                .iter_mut()
                .zip(&self.owners)
                .filter(|(_, owner)| **owner == piece.id)
                .map(|(s, _)| s)
                .collect();
            for s in &mut mine {
                if !s.grow() {
                    s.set_growing(false);
                }
            }
            // Then: what describes packets was there before them.
            if piece.read_metadata()
                && let Some(metadata) = &piece.metadata
            {
                mine.iter_mut().for_each(|s| s.describe(metadata));
            }
        }
    }

    /// New pieces: of a path where another directory is by now, and what was there in between.
    fn discover(&mut self) {
        for n in 0..self.bases.len() {
            let base = &self.bases[n];
            let now = identity(&base.path);
            if now.is_some() && now == base.current {
                self.bases[n].missing = None;
                continue;
            }
            loop {
                let (path, before) = (self.bases[n].path.clone(), self.bases[n].before);
                let finished = pieces_of(&path);
                let there: HashSet<Id> = finished.iter().filter_map(|(_, p)| identity(p)).collect();
                let now = identity(&path);
                let open: HashSet<Id> = self.pieces.iter().map(|p| p.id).collect();
                // A directory that was removed may give its inode to another.
                let others: HashSet<Id> = self.bases.iter().filter_map(|b| b.current).collect();
                self.seen
                    .retain(|id| there.contains(id) || open.contains(id) || others.contains(id));
                let highest = finished.last().map_or(before, |(n, _)| *n);
                let newer = finished.into_iter().filter(|(n, _)| *n > before).map(|(_, p)| p);
                let known = self.seen.len();
                for path in newer.chain(now.map(|_| path.clone())) {
                    if identity(&path).is_none_or(|id| self.seen.contains(&id)) {
                        continue;
                    }
                    // One that is gone again is looked for once more.
                    if let Ok(piece) = Piece::open(&path) {
                        self.add(piece);
                        self.bases[n].opened += 1;
                    }
                }
                let base = &mut self.bases[n];
                base.current = now;
                base.missing = match now {
                    Some(_) => None,
                    None => base.missing.or_else(|| Some(Instant::now())),
                };
                // Once more: the path may have moved on while it was looked at.
                if self.seen.len() > known {
                    continue;
                }
                let all = highest.saturating_sub(before) + u64::from(now.is_some());
                let gone = all.saturating_sub(base.opened);
                if gone > base.gone {
                    let more = count(gone - base.gone, "piece");
                    say!("rbpipe read: {}: {more} removed before read", path.display());
                    base.gone = gone;
                }
                break;
            }
        }
    }

    /// Whether the writer of this piece has ended, and its path has not moved on just now.
    fn has_ended(&self, piece: &Piece) -> bool {
        piece.free.is_some_and(|since| piece.finished || since.elapsed() >= FREE)
    }

    /// Pieces that nobody writes any more: their streams are not waited for. True: there are.
    fn end_pieces(&mut self) -> bool {
        let ended: HashSet<Id> =
            self.pieces.iter().filter(|p| self.has_ended(p)).map(|p| p.id).collect();
        let mine = self.streams.iter_mut().zip(&self.owners).filter(|(_, o)| ended.contains(o));
        mine.for_each(|(s, _)| s.set_growing(false));
        !ended.is_empty()
    }

    /// Says what is damaged, and takes away what has come to its end.
    fn clear(&mut self) {
        let (mut streams, mut owners) = (Vec::new(), Vec::new());
        for (mut s, owner) in self.streams.drain(..).zip(self.owners.drain(..)) {
            if s.is_growing() {
                if let Some(damage) = s.new_damage() {
                    say!("rbpipe read: {}: {damage}", s.path.display());
                }
                streams.push(s);
                owners.push(owner);
                continue;
            }
            self.total.add(&mut s);
            if let (Some(piece), Some(id)) =
                (self.pieces.iter_mut().find(|p| p.id == owner), s.identity())
            {
                // Its inode may be another file's soon.
                if !s.grow() {
                    piece.files.remove(&id);
                }
            }
        }
        (self.streams, self.owners) = (streams, owners);
        let ended: Vec<bool> = self.pieces.iter().map(|p| self.has_ended(p)).collect();
        for (piece, _) in self.pieces.iter().zip(&ended).filter(|(p, over)| **over && !p.whole) {
            let what = if piece.listed { "some of it may not be" } else { "it is not" };
            say!("rbpipe read: {}: a piece was removed, {what} printed", piece.path.display());
        }
        let mut ended = ended.into_iter();
        let watch = &self.watch;
        self.pieces.retain(|p| {
            let over = ended.next().unwrap_or(false);
            if let (true, Some(id)) = (over, p.watch) {
                watch.remove(id);
            }
            !over
        });
    }

    /// Whether nothing can come any more.
    fn is_over(&self) -> bool {
        let gone = |b: &Base| b.missing.is_none_or(|since| since.elapsed() >= GAP);
        self.pieces.is_empty() && self.bases.iter().all(gone)
    }

    /// How long it may wait.
    fn patience(&self) -> Duration {
        let soon = self.pieces.iter().any(|p| p.free.is_some())
            || self.bases.iter().any(|b| b.missing.is_some());
        if soon { TICK.min(FREE / 5) } else { TICK }
    }
}

impl Piece {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map(File::from);
        let directory = directory.map_err(|e| match e {
            Errno::NOTDIR => anyhow::anyhow!("{shown}: is no directory; a trace is one"),
            e => anyhow::Error::new(io::Error::from(e)).context(format!("{shown}: no trace here")),
        })?;
        let m = directory.metadata().with_context(|| format!("{shown}"))?;
        Ok(Self {
            path: path.to_owned(),
            id: (m.dev(), m.ino(), m.created().ok()),
            directory,
            metadata: None,
            read_from: None,
            files: HashSet::new(),
            watch: None,
            free: None,
            finished: false,
            listed: false,
            whole: false,
        })
    }

    /// Something in it, whatever it is called by now.
    fn at(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Whether nobody writes into it; `None`: that cannot be told. The lock is taken for a
    /// moment only if it is free (a pipeline that begins tries more than once).
    fn is_free(&self) -> Option<bool> {
        let free = self.try_lock();
        if free == Some(true) {
            self.unlock();
        }
        free
    }

    /// The same, and keeps the lock if it was free.
    fn try_lock(&self) -> Option<bool> {
        match flock(&self.directory, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Some(true),
            Err(Errno::WOULDBLOCK) => Some(false),
            Err(_) => None,
        }
    }

    fn unlock(&self) {
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }

    /// Whether it still has a name, this one or another.
    fn is_there(&self) -> bool {
        self.directory.metadata().is_ok_and(|m| m.nlink() > 0)
    }

    /// Reads metadata if it is another file than the last time. True: there is something new.
    fn read_metadata(&mut self) -> bool {
        let Ok(m) = fs::metadata(self.at("metadata")) else { return false };
        let from = Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        if from == self.read_from {
            return false;
        }
        self.read_from = from;
        let before = self.metadata.clone().unwrap_or_default();
        let read = rbpipe_backends::file::read_metadata(&self.at("."))
            .map_err(anyhow::Error::from)
            .and_then(|text| parse_again(&text, &before));
        match read {
            Ok(metadata) => {
                self.metadata = Some(Arc::new(metadata));
                true
            }
            Err(e) => {
                let path = self.path.join("metadata");
                say!("rbpipe read: {}: {e:#}", path.display());
                false
            }
        }
    }

    /// Stream files that have not been seen, in the order of their names.
    fn new_files(&mut self) -> Vec<PathBuf> {
        let mut files = super::stream_files(&self.at(".")).unwrap_or_default();
        files.retain(|f| {
            let id = fs::symlink_metadata(f).ok().map(|m| (m.dev(), m.ino()));
            id.is_some_and(|id| self.files.insert(id))
        });
        files
    }
}

fn open_stream(
    file: &Path,
    piece: &Path,
    metadata: &Arc<Metadata>,
) -> anyhow::Result<StreamReader> {
    let shown = piece.join(file.file_name().unwrap_or_default());
    // What became a named pipe in between would keep it waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::open(file, flags, Mode::empty()).map(File::from);
    let open = open.map_err(io::Error::from);
    let file = open.with_context(|| format!("{}: cannot be opened", shown.display()))?;
    StreamReader::of(&shown, file, metadata)
}

/// The finished pieces of a rotated trace, `PATH.000001` and so on, by their numbers.
fn pieces_of(path: &Path) -> Vec<(u64, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut out = Vec::new();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let number = found.to_str().and_then(|f| f.strip_prefix(&name)?.strip_prefix('.'));
        let digits = number.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if let Some(n) = digits.and_then(|n| n.parse().ok()) {
            out.push((n, entry.path()));
        }
    }
    out.sort();
    out
}
