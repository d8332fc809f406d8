//! What the scheduler's events tell of a CPU: who runs there from when on, and what those do that
//! do not.
//!
//! A CPU's lane is one list of [`Transition`]s, each with the state of the CPU from then on (who
//! runs) and with what it tells of another process: who left, and how; who was woken. A switch
//! also names who ran until then: where nobody knew that it is known from there on, and where
//! somebody else was thought to have run, nobody knows who did ([`settle`]): that one came, and
//! when it left is not told.

use rbpipe_core::class::EventClass;

use super::{Entry, Field, Label, NO_CLASS, Name, Transition};

/// What a transition tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// It left the CPU, and could go on.
    LeftReady = 0,
    /// It left the CPU, and sleeps.
    LeftAsleep = 1,
    /// It left the CPU, and waits for a device or a lock: nothing interrupts it.
    LeftBlocked = 2,
    /// It left the CPU for good.
    LeftDead = 3,
    /// It can run again.
    Woken = 4,
    /// The same, told where it is woken, not where it will run.
    Waking = 5,
    /// From here on something is missing.
    Lost = 6,
    /// From here on nothing is missing, and it is not told yet who runs.
    Begins = 7,
}

/// Bits of [`Transition::told`] that are a process: its id and 1. The kernel's ids have 22.
pub const TASK: u32 = (1 << 28) - 1;
/// Who came then left untold: when, nobody knows.
const LEFT_UNTOLD: u32 = 1 << 28;

impl Transition {
    /// One that tells something of a process (its id and 1; 0: of nobody, as of an id that is
    /// too large).
    #[must_use]
    pub const fn telling(time: u64, state: u32, kind: Kind, task: u32) -> Self {
        let mut one = Self::new(time, state);
        one.told = (kind as u32) << 29 | if task > TASK { 0 } else { task };
        one
    }

    /// The state from then on; 0: it is not known, be it told that somebody came.
    #[must_use]
    pub const fn known(&self) -> u32 {
        if self.left_untold() { 0 } else { self.state }
    }

    /// Whether who came then left untold: when, nobody knows.
    #[must_use]
    pub const fn left_untold(&self) -> bool {
        self.told & LEFT_UNTOLD != 0
    }

    /// What it tells, and of which process.
    #[must_use]
    pub const fn told(&self) -> (Kind, u32) {
        let kind = match self.told >> 29 {
            0 => Kind::LeftReady,
            1 => Kind::LeftAsleep,
            2 => Kind::LeftBlocked,
            3 => Kind::LeftDead,
            4 => Kind::Woken,
            5 => Kind::Waking,
            6 => Kind::Lost,
            _ => Kind::Begins,
        };
        (kind, self.told & TASK)
    }

    fn is(&self, kind: Kind) -> bool {
        self.told().0 == kind
    }
}

/// Where the fields of `sched_switch` lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Who ran: `prev_pid`.
    pub prev: Field,
    /// Why it no longer does: `prev_state`.
    pub left: Field,
    /// Who runs: `next_pid`.
    pub next: Field,
    /// What that one is called: `next_comm`.
    pub name: Option<Label>,
}

/// Where the field of an event lies that tells that somebody is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Who: `pid`.
    pub task: Field,
    /// See [`Kind::Waking`].
    pub early: bool,
}

/// The scheduler's events, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// `sched_switch`.
    pub switch: Option<Switch>,
    /// `sched_wakeup`, `sched_wakeup_new`, `sched_waking`.
    pub wakes: [Option<Wake>; 3],
}

impl Scheduler {
    /// A class has come, with this id in record headers; gives whether it is one of these. Of
    /// several that are called alike the first one counts that has what is wanted.
    pub fn look(&mut self, id: u32, class: &EventClass) -> bool {
        let name = class.name.rsplit(':').next().unwrap_or_default();
        let field = |name| Field::of(id, class, name);
        let wakes = ["sched_wakeup", "sched_wakeup_new", "sched_waking"];
        if name == "sched_switch" && self.switch.is_none() {
            self.switch = (|| {
                let (prev, left, next) =
                    (field("prev_pid")?, field("prev_state")?, field("next_pid")?);
                Some(Switch { prev, left, next, name: Label::of(class, "next_comm") })
            })();
            return self.switch.is_some();
        }
        let Some(place) = wakes.iter().position(|w| *w == name) else { return false };
        if self.wakes[place].is_some() {
            return false;
        }
        let early = name == "sched_waking";
        self.wakes[place] = field("pid").map(|task| Wake { task, early });
        self.wakes[place].is_some()
    }

    /// Whether it is told where somebody is woken.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.wakes.iter().flatten().any(|w| w.early)
    }

    /// Whether none of them has come.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.switch.is_none() && self.wakes.iter().all(Option::is_none)
    }
}

/// How somebody left whom the kernel's `prev_state` tells of.
fn left(state: i64) -> Kind {
    match state {
        // Could go on: was preempted (0x100 and the like say so, too).
        s if s & 0xFF == 0 => Kind::LeftReady,
        // Dead, a zombie.
        s if s & 0x30 != 0 => Kind::LeftDead,
        s if s & 0x02 != 0 => Kind::LeftBlocked,
        _ => Kind::LeftAsleep,
    }
}

/// What a packet's entries tell, each by itself, whose first byte has the offset `base`: to be
/// settled. First comes what the packet's place tells: since when something is missing before it
/// (`lost`), and from when on nothing is (`begin`; `None`: its first records are not among the
/// entries). A damaged packet (entries of [`NO_CLASS`]) ends with a loss. And what processes are
/// called: each one's state and name, in order.
#[must_use]
pub fn switches(
    packet: &[u8],
    base: u32,
    entries: &[Entry],
    scheduler: &Scheduler,
    (lost, begin): (Option<u64>, Option<u64>),
) -> (Vec<Transition>, Vec<(u32, Name)>) {
    let mut all: Vec<Transition> = Vec::new();
    let mut names = Vec::new();
    all.extend(lost.map(|since| Transition::telling(since, 0, Kind::Lost, 0)));
    all.extend(begin.map(|time| Transition::telling(time, 0, Kind::Begins, 0)));
    for entry in entries {
        let time = entry.time();
        if entry.class == NO_CLASS {
            all.push(Transition::telling(time, 0, Kind::Lost, 0));
            break;
        }
        let record = packet.get(entry.offset.wrapping_sub(base) as usize..).unwrap_or_default();
        let task = |field: &Field| Some((field.value(record)? as u32).wrapping_add(1));
        if let Some(switch) = scheduler.switch.filter(|s| s.next.class == entry.class) {
            let (Some(prev), Some(state), Some(next)) =
                (task(&switch.prev), switch.left.value(record), task(&switch.next))
            else {
                continue;
            };
            all.push(Transition::telling(time, next, left(state), prev));
            if let Some(name) = switch.name.and_then(|l| l.name(record)).filter(|_| next != 0) {
                names.push((next, name));
            }
        } else if let Some(wake) =
            scheduler.wakes.iter().flatten().find(|w| w.task.class == entry.class)
            && let Some(woken) = task(&wake.task)
        {
            let kind = if wake.early { Kind::Waking } else { Kind::Woken };
            all.push(Transition::telling(time, 0, kind, woken));
        }
    }
    (all, names)
}

/// Puts what a CPU's packets tell, one after the other, together: a wake-up changes nothing of who
/// runs; a packet begins with somebody unknown only where something was missing before it; and
/// what a switch tells of the time before it is told back.
#[must_use]
pub fn settle(told: impl IntoIterator<Item = Transition>) -> Vec<Transition> {
    let mut all: Vec<Transition> = Vec::new();
    for mut one in told {
        let last = all.last();
        match one.told().0 {
            // What is missing already needs no second place.
            Kind::Lost if last.is_some_and(|l| l.is(Kind::Lost)) => continue,
            Kind::Begins if last.is_some_and(|l| !l.is(Kind::Lost)) => continue,
            Kind::Lost | Kind::Begins => {}
            Kind::Woken | Kind::Waking => one.state = last.map_or(0, |l| l.state),
            _ => tell_back(&mut all, one.told & TASK),
        }
        all.push(one);
    }
    all
}

/// Who ran until now; 0: it is not told.
fn tell_back(all: &mut [Transition], prev: u32) {
    let state = all.last().map_or(0, |l| l.state);
    if prev == 0 || state == prev {
        return;
    }
    // Nobody knew; or somebody came in between, untold: when, nobody knows.
    let known = if state == 0 { prev } else { 0 };
    for one in all.iter_mut().rev() {
        match one.told().0 {
            Kind::Lost => return,
            Kind::Woken | Kind::Waking => one.state = known,
            _ if known == 0 => return one.told |= LEFT_UNTOLD,
            _ => return one.state = known,
        }
    }
}
