//! The picture in a terminal: each line of it has two rows of pixels, the upper and the lower
//! half of a block. Where there is no terminal, or no colour, bars are of eighths of blocks.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use rbpipe_backends::picture::{
    Cell, Content, Ink, Lane, Picture, Plan, Rgb, State, Theme, moment, number, span, strip,
};
use rustix::termios::tcgetwinsize;

/// Where output goes that is no terminal.
const PLAIN: (usize, usize) = (100, 50);
/// Names are not wider.
const WIDEST: usize = 30;

/// What colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// 24 bits each.
    True,
    /// The 256 that most have.
    Few,
    /// None.
    Plain,
}

/// A terminal.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
    /// Its colours.
    pub colours: Colours,
}

impl Terminal {
    /// What stdout is.
    pub fn of_stdout() -> Self {
        let out = io::stdout();
        if !out.is_terminal() {
            let columns = env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
            let columns = columns.unwrap_or(PLAIN.0).clamp(40, 1000);
            return Self { columns, rows: PLAIN.1, colours: Colours::Plain };
        }
        let size = tcgetwinsize(&out).ok().filter(|s| s.ws_col > 0 && s.ws_row > 0);
        let (columns, rows) = size.map_or((80, 24), |s| (s.ws_col.into(), s.ws_row.into()));
        let is = |name: &str, what: &[&str]| {
            env::var(name).is_ok_and(|v| what.iter().any(|w| v.contains(w)))
        };
        let colours =
            if is("TERM", &["dumb"]) || env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
                Colours::Plain
            } else if is("COLORTERM", &["truecolor", "24bit"]) || is("TERM", &["direct"]) {
                Colours::True
            } else {
                Colours::Few
            };
        Self { columns: columns.clamp(40, 1000), rows: rows.max(8), colours }
    }

    /// The width of names.
    fn margin(&self, picture: &Picture) -> usize {
        let widest = picture.lanes.iter().map(|l| l.name.chars().count()).max().unwrap_or(0);
        widest.min(WIDEST).min(self.columns / 3)
    }

    /// What it has room for: a line for each lane and each heading, four for the rest.
    pub fn plan(&self, picture: &Picture) -> Plan {
        let room = self.rows.saturating_sub(5);
        let (mut used, mut lanes, mut group) = (0, Vec::new(), None);
        for lane in &picture.lanes {
            let heading = usize::from(group.replace(lane.group) != Some(lane.group));
            let height = lines(lane, self.colours);
            if used + heading + height > room {
                break;
            }
            lanes.push(((used + heading) as u32, height as u32));
            used += heading + height;
        }
        let margin = self.margin(picture);
        Plan { columns: (self.columns - margin - 2) as u32, left: margin as u32 + 1, lanes }
    }

    /// The picture as text.
    pub fn text(&self, picture: &Picture, theme: Theme) -> String {
        let plan = self.plan(picture);
        let margin = self.margin(picture);
        let mut out = String::new();
        let whole = picture.to.saturating_sub(picture.from);
        let when = format!("{} · {}", moment(picture.from, whole), span(whole));
        self.line(&mut out, &format!("{} · {when}", picture.title));
        self.line(&mut out, &picture.facts.join(" · "));
        self.axis(&mut out, margin, plan.columns as usize, whole);
        let mut group = None;
        for (place, lane) in picture.lanes.iter().enumerate().take(plan.lanes.len()) {
            if group.replace(lane.group) != Some(lane.group)
                && let Some(group) = picture.groups.get(lane.group)
            {
                let note =
                    if group.note.is_empty() { String::new() } else { format!(": {}", group.note) };
                self.line(&mut out, &format!("{}{note}", group.name));
            }
            self.lane(&mut out, picture, place, margin, plan.columns, theme);
        }
        let shown = plan.lanes.len();
        if shown < picture.lanes.len() {
            let more = number((picture.lanes.len() - shown) as u64);
            self.line(&mut out, &format!("{more} more lanes have no room"));
        }
        out
    }

    /// A line of words, not longer than the terminal is wide.
    fn line(&self, out: &mut String, text: &str) {
        out.push_str(&fit(text, self.columns - 1));
        out.push('\n');
    }

    fn axis(&self, out: &mut String, margin: usize, columns: usize, whole: u64) {
        let mut line = vec![' '; columns];
        let every = 16.min(columns.max(1));
        for at in (0..columns).step_by(every) {
            let time = (u128::from(whole) * at as u128 / columns.max(1) as u128) as u64;
            let words = if time == 0 { "0".to_owned() } else { span(time) };
            let text = format!("╷{words}");
            // Whole, or not at all.
            if text.chars().count() < columns - at {
                line.splice(at..at + text.chars().count(), text.chars());
            }
        }
        let _ = writeln!(out, "{:margin$} {}", "", line.iter().collect::<String>().trim_end());
    }

    fn lane(
        &self,
        out: &mut String,
        picture: &Picture,
        place: usize,
        margin: usize,
        columns: u32,
        theme: Theme,
    ) {
        let lane = &picture.lanes[place];
        let name = fit(&lane.name, margin);
        if self.colours == Colours::Plain {
            let mut bars = eighths(&lane.content, columns as usize);
            for gap in picture.lost.iter().filter(|g| g.lane == place) {
                mark(picture, (gap.from, gap.to), columns, |x| bars[x] = '!');
            }
            let bars: String = bars.into_iter().collect();
            let _ = writeln!(out, "{name:<margin$} {bars}");
            return;
        }
        let lines = lines(lane, self.colours) as u32;
        let image = strip(&lane.content, (columns, 2 * lines), theme);
        let mut lost = vec![false; columns as usize];
        for gap in picture.lost.iter().filter(|g| g.lane == place) {
            mark(picture, (gap.from, gap.to), columns, |x| lost[x] = true);
        }
        for line in 0..lines {
            let shown = if line == 0 { name.as_str() } else { "" };
            let _ = write!(out, "{shown:<margin$} ");
            let mut last = None;
            for x in 0..columns {
                let mut both = (image.pixel(x, 2 * line), image.pixel(x, 2 * line + 1));
                if lost[x as usize] {
                    both.0 = theme.ink(Ink::Lost);
                }
                if last.replace(both) != Some(both) {
                    self.colour(out, 38, both.0);
                    self.colour(out, 48, both.1);
                }
                out.push('▀');
            }
            out.push_str("\x1b[0m\n");
        }
    }

    fn colour(&self, out: &mut String, what: u8, Rgb(r, g, b): Rgb) {
        let _ = match self.colours {
            Colours::True => write!(out, "\x1b[{what};2;{r};{g};{b}m"),
            // Six steps of each colour; greys have more.
            Colours::Few if r.abs_diff(g) < 12 && g.abs_diff(b) < 12 => {
                let grey = 232 + (u32::from(g).saturating_sub(3) / 10).min(23);
                write!(out, "\x1b[{what};5;{grey}m")
            }
            Colours::Few => {
                let step = |c: u8| match c {
                    0..48 => 0,
                    48..115 => 1,
                    _ => (u32::from(c) - 35) / 40,
                };
                write!(out, "\x1b[{what};5;{}m", 16 + 36 * step(r) + 6 * step(g) + step(b))
            }
            Colours::Plain => Ok(()),
        };
    }
}

/// Lines of a lane.
fn lines(lane: &Lane, colours: Colours) -> usize {
    if lane.height >= 170 && colours != Colours::Plain { 2 } else { 1 }
}

/// The columns of a time.
fn mark(picture: &Picture, (from, to): (u64, u64), columns: u32, mut each: impl FnMut(usize)) {
    let window = rbpipe_backends::timeline::Window { from: picture.from, to: picture.to, columns };
    if from >= picture.to || to < picture.from {
        return;
    }
    let first = window.column(from.max(picture.from)).unwrap_or(0);
    let last = window.column(to).unwrap_or(columns.saturating_sub(1));
    (first..=last.max(first)).for_each(|x| each(x as usize));
}

fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// How full each column is, in eighths: of the fullest one, or of its time.
fn eighths(content: &Content, columns: usize) -> Vec<char> {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // What is there is seen.
    let bar =
        |part: f64| BARS[if part > 0.0 { ((part * 8.0).round() as usize).clamp(1, 8) } else { 0 }];
    let mut out: Vec<char> = match content {
        Content::Density(counts, _) => {
            let most = counts.iter().copied().max().unwrap_or(0).max(1);
            counts.iter().map(|c| bar(f64::from(*c) / f64::from(most))).collect()
        }
        Content::States(cells, states) => cells.iter().map(|c| bar(busy(c, states))).collect(),
        Content::Values(values, _) => {
            let known = || values.iter().flatten();
            let low = known().map(|v| v.mean).fold(f64::INFINITY, f64::min);
            let high = known().map(|v| v.mean).fold(f64::NEG_INFINITY, f64::max);
            let size = if high > low { high - low } else { 1.0 };
            let one =
                |v: &rbpipe_backends::picture::Range| bar(0.06 + 0.94 * (v.mean - low) / size);
            values.iter().map(|v| v.as_ref().map_or(' ', one)).collect()
        }
    };
    out.resize(columns, ' ');
    out
}

/// The part of a column in which something ran.
fn busy(cell: &Cell, states: &[State]) -> f64 {
    let runs = |state: u16| {
        states.get(usize::from(state)).is_some_and(|s| matches!(s.ink, Ink::Named(_) | Ink::Others))
    };
    let sum: u32 = cell.shares.iter().filter(|s| runs(s.state)).map(|s| u32::from(s.part)).sum();
    f64::from(sum) / f64::from(Cell::WHOLE)
}
