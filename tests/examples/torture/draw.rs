//! What a round is like, drawn from its seed.

use std::time::Duration;

use rbpipe_core::channel::Streams;
use rbpipe_core::frontend::Mode;

/// One round: a channel, its writers, its output, and how it ends.
#[derive(Clone, Debug)]
pub struct Round {
    pub seed: u64,
    pub mode: Mode,
    pub streams: Streams,
    pub size: u64,
    pub count: u32,
    pub reader: u32,
    pub home: Home,
    pub temper: Temper,
    pub writers: Vec<WriterPlan>,
    /// One more thread brings records with times of their own.
    pub import: bool,
    pub block_timeout: Option<Duration>,
    pub switch_timer: Option<Duration>,
    pub read_timer: Option<Duration>,
    /// Asks for a flush this often.
    pub flush: Option<Duration>,
    /// Asks for a snapshot this often.
    pub snapshots: Option<Duration>,
    /// How long writers write.
    pub length: Duration,
    /// The channel ends while they do.
    pub ends_early: bool,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// To an output that checks them in memory; its memory is treated as ordinary, or as
    /// write-combining.
    Memory { fence: bool },
    /// Nobody takes them.
    Kept,
    /// Into files, which are read afterwards.
    File,
}

/// How an output in memory behaves: how many of 1,000 packets …
#[derive(Clone, Copy, Debug, Default)]
pub struct Temper {
    /// … it holds for a while, on another thread, and puts back in any order.
    pub held: u32,
    /// … it drops,
    pub failed: u32,
    /// or loses in a write that is cancelled between unmap and map,
    pub cancelled: u32,
    /// or writes, and leaves their memory unusable.
    pub spoilt: u32,
    /// At this packet it panics, between unmap and map.
    pub panics_at: Option<u64>,
    /// For this many of its refills in 1,000 there is no memory.
    pub no_memory: u32,
}

impl Temper {
    /// All that is taken is written.
    pub fn is_good(self) -> bool {
        self.failed + self.cancelled + self.spoilt == 0 && self.panics_at.is_none()
    }
}

/// What a writer is like.
#[derive(Clone, Copy, Debug)]
pub struct WriterPlan {
    pub place: Place,
    /// Payloads are at most this long, and go up and down.
    pub longest: usize,
    /// Of 1,000 reservations it gives up so many,
    pub aborts: u32,
    /// and rests so often between reserve and commit,
    pub rests: u32,
    /// for at most this long.
    pub rest: Duration,
    /// The reservation (by its number) that it never commits.
    pub forgets: Option<u64>,
    /// Two timers signal it about this often; their handlers trace, and interrupt each other.
    pub signals: Option<Duration>,
    /// The timers run before it has a stream of its own.
    pub signals_first: bool,
}

/// Which CPU a writer runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Anywhere,
    Pinned(usize),
    /// Moves itself to another one every so many records.
    Migrating(u64),
}

impl Round {
    pub fn draw(seed: u64) -> Self {
        let mut r = fastrand::Rng::with_seed(seed);
        let r = &mut r;
        let mode = Mode::ALL[r.usize(..3)];
        let streams = match r.u32(..3) {
            0 => Streams::Single,
            1 => Streams::PerCpu,
            _ => Streams::PerThread(r.u32(1..6)),
        };
        // Small sub-buffers more often: there a ring comes round sooner.
        let size = 4096 << [0, 0, 0, 0, 1, 2, 4, 6, 8][r.usize(..9)];
        let count = 1 << r.u32(1..5);
        let home = match r.u32(..12) {
            0 => Home::File,
            1 | 2 if mode == Mode::Overwrite => Home::Kept,
            2..=5 => Home::Memory { fence: true },
            _ => Home::Memory { fence: false },
        };
        let temper =
            if matches!(home, Home::Memory { .. }) { temper(r) } else { Temper::default() };
        let most = [2, 3, 8][r.usize(..3)];
        let number = r.usize(1..=most);
        let forgetful = (r.u32(..12) == 0).then(|| r.usize(..number));
        let writers = (0..number).map(|w| writer(r, size as usize, forgetful == Some(w))).collect();
        let ends_early = forgetful.is_some() || r.u32(..3) == 0;
        let timer = |r: &mut fastrand::Rng| {
            (r.u32(..4) > 0).then(|| Duration::from_micros([200, 1000, 5000, 20_000][r.usize(..4)]))
        };
        Self {
            seed,
            mode,
            streams,
            size,
            count,
            reader: r.u32(1..=8),
            home,
            temper,
            writers,
            import: r.u32(..3) == 0,
            // For ever only where somebody will come: writers are joined before the end.
            block_timeout: r.bool().then(|| Duration::from_micros(r.u64(0..20_000))),
            switch_timer: timer(r),
            read_timer: timer(r),
            flush: (r.u32(..3) == 0).then(|| Duration::from_micros(r.u64(0..500))),
            length: Duration::from_millis(r.u64(20..250)),
            ends_early,
            // Files are not read back. Where nobody takes, snapshots are all there is to see.
            snapshots: (home != Home::File && (home == Home::Kept || r.u32(..3) == 0))
                .then(|| Duration::from_micros(r.u64(0..2000))),
        }
    }
}

fn temper(r: &mut fastrand::Rng) -> Temper {
    let mut t = Temper::default();
    let some = |r: &mut fastrand::Rng| r.u32(1..300);
    match r.u32(..8) {
        0 => t.held = 1000,
        1 => t.held = some(r),
        2 => t.failed = some(r),
        3 => t.cancelled = some(r),
        4 => t.spoilt = some(r),
        5 => {
            (t.held, t.failed, t.cancelled, t.spoilt) = (some(r), some(r), some(r), some(r));
            // Asked again a second later: such a round is a long one.
            t.no_memory = if r.u32(..8) == 0 { 300 } else { 0 };
        }
        6 => {
            t.held = some(r);
            t.panics_at = Some(r.u64(0..100));
        }
        _ => {}
    }
    t
}

fn writer(r: &mut fastrand::Rng, size: usize, forgetful: bool) -> WriterPlan {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    WriterPlan {
        place: match r.u32(..3) {
            0 => Place::Pinned(r.usize(..cpus)),
            1 => Place::Migrating(r.u64(1..200)),
            _ => Place::Anywhere,
        },
        // Short ones, a handful in a sub-buffer, nearly a whole one, and more than that.
        longest: [24, 24, 200, size / 5, size - 150, size + 500][r.usize(..6)],
        aborts: if r.u32(..3) == 0 { r.u32(1..300) } else { 0 },
        rests: if r.u32(..3) == 0 { r.u32(1..50) } else { 0 },
        rest: Duration::from_micros([50, 1000, 10_000][r.usize(..3)]),
        forgets: forgetful.then(|| r.u64(0..500)),
        signals: r.bool().then(|| Duration::from_micros(r.u64(60..400))),
        signals_first: r.bool(),
    }
}
