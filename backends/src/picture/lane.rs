//! What is in a lane: boxes of states, bars of counts, bands of values.

use super::colour::{Ink, Rgb, Theme};
use super::image::{Image, Rect};
use super::text::Font;
use super::{Cell, Content, Share, State};

/// One lane alone, without words: `width` columns of `height` pixels. For terminals.
#[must_use]
pub fn strip(content: &Content, (width, height): (u32, u32), theme: Theme) -> Image {
    let mut image = Image::new(width, height, theme.page());
    let whole = Rect { x: 0, y: 0, w: width, h: height };
    draw(&mut image, whole, content, None, theme);
    image
}

/// Draws a lane into its place, which is as wide as it has columns; names in boxes, where there
/// is a font for them.
pub fn draw(image: &mut Image, r: Rect, content: &Content, font: Option<Font>, theme: Theme) {
    match content {
        Content::Density(counts, ink) => density(image, r, counts, *ink, theme),
        Content::States(cells, states) => boxes(image, r, cells, states, font, theme),
        Content::Values(values, ink) => {
            image.fill(r, theme.lane());
            let known = values.iter().flatten();
            let (low, high) = known
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v.min), h.max(v.max)));
            let size = high - low;
            // In 1/256 of a pixel from the lane's upper edge; one value alone is in the middle.
            let height = |v: f64| {
                let part = if size > 0.0 { (v - low) / size } else { 0.5 };
                u64::from(r.y) * 256 + ((1.0 - part) * f64::from(r.h - 1) * 256.0) as u64
            };
            let colour = theme.ink(*ink);
            for (x, value) in (r.x..r.x + r.w).zip(values) {
                let Some(value) = value else { continue };
                image.bar(x, (height(value.max), height(value.min) + 256), colour, 110);
                // A line is whole pixels: within two of them it would be pale.
                let mean = height(value.mean) / 256 * 256;
                image.bar(x, (mean, mean + 256), colour, 255);
            }
        }
    }
}

/// Bars that are as high as there are events; the fewest is still seen.
fn density(image: &mut Image, r: Rect, counts: &[u32], ink: Ink, theme: Theme) {
    image.fill(r, theme.lane());
    let most = u64::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let colour = theme.ink(ink);
    let bottom = u64::from(r.y + r.h) * 256;
    for (x, count) in (r.x..r.x + r.w).zip(counts).filter(|(_, c)| **c > 0) {
        let least = if r.h >= 8 { 256 } else { 64 };
        let height = (u64::from(*count) * u64::from(r.h) * 256 / most).max(least);
        // The square root: what is a hundredth of the peak is not a hundredth as bright.
        let bright = (f64::from(*count) / most as f64).sqrt();
        image.bar(x, (bottom - height, bottom), colour, (140.0 + 115.0 * bright) as u8);
    }
}

/// States as boxes where a column has one, as a stack where it has several.
fn boxes(
    image: &mut Image,
    r: Rect,
    cells: &[Cell],
    states: &[State],
    font: Option<Font>,
    theme: Theme,
) {
    let cells = &cells[..cells.len().min(r.w as usize)];
    let ink = |state: u16| states.get(usize::from(state)).map_or(Ink::Unknown, |s| s.ink);
    let mut at = 0;
    while at < cells.len() {
        let x = r.x + at as u32;
        let Some(state) = cells[at].pure() else {
            column(image, Rect { x, w: 1, ..r }, cells, at, &ink, theme);
            at += 1;
            continue;
        };
        let length = cells[at..].iter().take_while(|c| c.pure() == Some(state)).count();
        let place = Rect { x, w: length as u32, ..r };
        let colour = theme.ink(ink(state));
        image.fill(place, colour);
        // What is the same colour, and is not the same, has a line between.
        if at > 0 && at + length < cells.len() && is_thing(ink(state)) && length > 2 {
            let before = cells[at - 1].known().last();
            if before.is_some_and(|s| s.state != state && is_thing(ink(s.state))) {
                image.shade(Rect { w: 1, ..place }, theme.page(), 130);
            }
        }
        if let (Some(font), true) = (font, is_thing(ink(state))) {
            name(image, place, &states[usize::from(state)].name, colour, font, theme);
        }
        at += length;
    }
}

fn is_thing(ink: Ink) -> bool {
    !matches!(ink, Ink::Unknown | Ink::Idle)
}

/// A state's name in its box, whole or not at all.
fn name(image: &mut Image, r: Rect, text: &str, colour: Rgb, font: Font, theme: Theme) {
    let (w, h) = (font.width(text), font.line());
    if text.is_empty() || w + font.advance() > r.w || h > r.h + h / 4 {
        return;
    }
    let at = (r.x + (r.w - w) / 2, r.y.saturating_add_signed((r.h as i32 - h as i32) / 2));
    font.write(image, at, text, theme.on(colour));
}

/// One column with several states.
fn column(
    image: &mut Image,
    r: Rect,
    cells: &[Cell],
    at: usize,
    ink: &impl Fn(u16) -> Ink,
    theme: Theme,
) {
    let cell = cells[at];
    let known: u32 = cell.known().map(|s| u32::from(s.part)).sum();
    if known == 0 {
        return;
    }
    // State 0 is what is not known.
    let state = |c: &Cell| if c.known().next().is_none() { Some(0) } else { c.pure() };
    let side = |at: Option<usize>| at.and_then(|i| cells.get(i)).and_then(state);
    let (left, right) = (side(at.checked_sub(1)), side(Some(at + 1)));
    let whole = known >= u32::from(Cell::WHOLE / 50 * 49);
    let only = |a: u16, b: u16| {
        cell.known().all(|s| s.state == a || s.state == b) && (whole || a == 0 || b == 0)
    };
    // The edge of a box lies in this column: a part of each colour.
    if let (Some(a), Some(b)) = (left, right)
        && a != b
        && only(a, b)
    {
        let part = |state: u16| cell.known().find(|s| s.state == state).map_or(0, |s| s.part >> 8);
        let part = if b == 0 { 255 - part(a) } else { part(b) };
        image.fill(r, theme.ink(ink(a)).mix(theme.ink(ink(b)), part as u8));
        return;
    }
    let ground = |part: u32| (part * 255 / u32::from(Cell::WHOLE)).min(255) as u8;
    image.shade(r, theme.lane(), ground(known));
    let mut bottom = u64::from(r.y + r.h) * 256;
    let top = u64::from(r.y) * 256;
    for Share { state, part } in cell.known().filter(|s| is_thing(ink(s.state))) {
        let height = u64::from(part) * u64::from(r.h) * 256 / u64::from(Cell::WHOLE);
        // What happened is seen, however short it was.
        let least = if r.h >= 8 { 256 } else { 0 };
        let upper = bottom.saturating_sub(height.max(least)).max(top);
        image.bar(r.x, (upper, bottom), theme.ink(ink(state)), 255);
        bottom = upper;
    }
}
