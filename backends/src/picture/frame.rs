//! Where everything is: margins, rows, the lanes' heights. Computed from what is to be drawn
//! alone, so that who counts events knows the number of columns before.

use super::image::Rect;
use super::text::Font;
use super::{Lane, Picture};

/// The smallest picture: below, nothing on it can be read.
pub const SMALLEST: (u32, u32) = (320, 200);
/// The largest one.
pub const LARGEST: (u32, u32) = (8192, 8192);

/// A size that no picture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeError(pub u32, pub u32);

impl std::error::Error for SizeError {}

impl std::fmt::Display for SizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((w, h), (most_w, most_h)) = (SMALLEST, LARGEST);
        write!(
            f,
            "no picture is {}x{}: its size is from {w}x{h} to {most_w}x{most_h}",
            self.0, self.1
        )
    }
}

/// What a picture of a size has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Columns of pixels: so many values every lane has.
    pub columns: u32,
    /// Where the first one is.
    pub left: u32,
    /// The upper edge and the height of each lane that has room: the first ones have.
    pub lanes: Vec<(u32, u32)>,
}

/// Says what a picture of this size has room for. Contents are not looked at: lanes may be empty
/// yet.
///
/// # Errors
/// The size is none.
pub fn plan(picture: &Picture, size: (u32, u32)) -> Result<Plan, SizeError> {
    let frame = Frame::new(picture, size)?;
    Ok(Plan { columns: frame.plot.w, left: frame.plot.x, lanes: frame.lanes })
}

/// Where everything is.
#[derive(Debug)]
pub struct Frame {
    pub font: Font,
    /// From all edges.
    pub pad: u32,
    /// Lines of text at the top: where each begins.
    pub title: u32,
    pub facts: Option<u32>,
    /// Keys, and where they stand.
    pub legend: Vec<(usize, (u32, u32))>,
    /// The axis' words.
    pub axis: u32,
    /// Names stand left of it, lanes in it.
    pub plot: Rect,
    /// Headings of groups, by their places.
    pub heads: Vec<(usize, u32)>,
    /// Upper edges and heights.
    pub lanes: Vec<(u32, u32)>,
    /// Lanes that are left out, and where that is said.
    pub more: Option<(usize, u32)>,
}

/// Between lanes, pixels.
const BETWEEN: u32 = 2;

impl Frame {
    pub fn new(picture: &Picture, size: (u32, u32)) -> Result<Self, SizeError> {
        let (width, height) = size;
        let range = |n: u32, least: u32, most: u32| (least..=most).contains(&n);
        if !range(width, SMALLEST.0, LARGEST.0) || !range(height, SMALLEST.1, LARGEST.1) {
            return Err(SizeError(width, height));
        }
        let font = Font::for_size(size);
        let (line, pad) = (font.line(), font.advance());
        let small = height < 20 * line;
        // Names as wide as they are, but never more than a third.
        let widest = |f: &dyn Fn(&Lane) -> u32| picture.lanes.iter().map(f).max().unwrap_or(0);
        let name = |l: &Lane| l.name.chars().count() as u32;
        let both = |l: &Lane| match l.detail.chars().count() as u32 {
            0 => name(l),
            n => name(l) + 2 + n,
        };
        let third = width / 3 - pad;
        let wanted = widest(&both) * font.advance();
        let names = if wanted <= third { wanted } else { widest(&name) * font.advance() };
        let margin = pad + names.min(third) + pad;
        let plot = Rect { x: margin, y: 0, w: width - margin - pad, h: 0 };

        let title = pad;
        let mut y = title + line * 5 / 4;
        let facts = (!small && !picture.facts.is_empty()).then_some(y);
        y += if facts.is_some() { line * 5 / 4 } else { 0 };
        let legend = if small { Vec::new() } else { legend(picture, font, (pad, y), width) };
        if let Some((_, (_, last))) = legend.last() {
            y = last + line * 5 / 4;
        }
        y += if small { 0 } else { line / 4 };
        let axis = y;
        y += line * 3 / 2;
        let mut this = Self {
            font,
            pad,
            title,
            facts,
            legend,
            axis,
            plot: Rect { y, h: height - y - pad / 2, ..plot },
            heads: Vec::new(),
            lanes: Vec::new(),
            more: None,
        };
        this.place(picture, small);
        Ok(this)
    }

    /// Gives each lane its place.
    fn place(&mut self, picture: &Picture, small: bool) {
        let line = self.font.line();
        let head = if small { 0 } else { line * 3 / 2 };
        let needs = |lanes: &[Lane], scale: u32| -> u32 {
            let mut group = None;
            lanes.iter().fold(0u32, |sum, lane| {
                let new = group.replace(lane.group) != Some(lane.group);
                let height = tall(lane, line, scale) + BETWEEN;
                sum.saturating_add(height + if new { head } else { 0 })
            })
        };
        let mut room = self.plot.h;
        let mut shown = picture.lanes.len();
        // Where they are too many for their heights, the last ones are left out.
        if needs(&picture.lanes, 100) > room {
            room = room.saturating_sub(line * 5 / 4);
            // The sum grows with each lane.
            shown = (0..shown)
                .collect::<Vec<_>>()
                .partition_point(|n| needs(&picture.lanes[..=*n], 100) <= room);
        }
        // Where there is room to spare, they grow; few lanes are not blown up.
        let lanes = &picture.lanes[..shown];
        let scale = (100..=300).rev().find(|s| needs(lanes, *s) <= room).unwrap_or(100);
        let (mut y, mut group) = (self.plot.y, None);
        for lane in lanes {
            if group.replace(lane.group) != Some(lane.group) && !small {
                self.heads.push((lane.group, y + line / 4));
                y += head;
            }
            let height = tall(lane, line, scale);
            self.lanes.push((y, height));
            y += height + BETWEEN;
        }
        if shown < picture.lanes.len() {
            self.more = Some((picture.lanes.len() - shown, y + line / 8));
        }
        self.plot.h = y.saturating_sub(self.plot.y);
    }

    /// The column that a moment is in; `None`: it is not in the picture.
    pub fn column(&self, picture: &Picture, time: u64) -> Option<u32> {
        let span = u128::from(picture.to.checked_sub(picture.from).filter(|s| *s > 0)?);
        let inside = time.checked_sub(picture.from)?;
        let x = u128::from(inside) * u128::from(self.plot.w) / span;
        (x < u128::from(self.plot.w)).then_some(x as u32)
    }
}

/// A lane's height, pixels.
fn tall(lane: &Lane, line: u32, scale: u32) -> u32 {
    (lane.height * line * scale / 10_000).max(2)
}

/// Where the keys stand that have room, whole, in at most two rows.
fn legend(
    picture: &Picture,
    font: Font,
    (left, top): (u32, u32),
    width: u32,
) -> Vec<(usize, (u32, u32))> {
    let mut out = Vec::new();
    let (mut x, mut row) = (left, 0);
    for (place, key) in picture.legend.iter().enumerate() {
        let needs = font.line() + font.advance() / 2 + font.width(&key.name);
        if x + needs > width - left && x > left {
            (x, row) = (left, row + 1);
        }
        if row > 1 || x + needs > width - left {
            break;
        }
        out.push((place, (x, top + row * font.line() * 5 / 4)));
        x += needs + 2 * font.advance();
    }
    out
}
