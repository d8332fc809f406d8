//! The whole picture.

use super::axis::{moment, smaller, span, step, tick};
use super::colour::{Ink, Theme};
use super::frame::{Frame, SizeError};
use super::image::{Image, Rect};
use super::lane;
use super::text::Font;
use super::{Arrow, Content, Gap, Lane, Picture};

/// Draws a picture in this size, pixels. The same picture gives the same image.
///
/// Lanes that have no room are left out, from the last on, and it says how many.
///
/// # Errors
/// No picture has that size.
pub fn draw(picture: &Picture, size: (u32, u32), theme: Theme) -> Result<Image, SizeError> {
    let frame = Frame::new(picture, size)?;
    let mut image = Image::new(size.0, size.1, theme.page());
    head(&mut image, picture, &frame, theme);
    for (lane, (y, h)) in picture.lanes.iter().zip(&frame.lanes) {
        let place = Rect { y: *y, h: *h, ..frame.plot };
        let content = fitted(&lane.content, frame.plot.w);
        lane::draw(
            &mut image,
            place,
            content.as_ref().unwrap_or(&lane.content),
            Some(frame.font),
            theme,
        );
    }
    axis(&mut image, picture, &frame, theme);
    picture.lost.iter().for_each(|gap| hatch(&mut image, picture, &frame, gap, theme));
    picture.arrows.iter().for_each(|a| arrow(&mut image, picture, &frame, a, theme));
    names(&mut image, picture, &frame, theme);
    Ok(image)
}

/// What has another number of columns than the picture, with as many: each takes the one that
/// lies where it begins. (Who counted for another size; no count is lost by it on the way to one
/// that is as wide or wider.)
fn fitted(content: &Content, columns: u32) -> Option<Content> {
    fn spread<T: Clone>(from: &[T], columns: u32) -> Option<Vec<T>> {
        let (have, want) = (from.len(), columns as usize);
        (have != want && have > 0)
            .then(|| (0..want).map(|i| from[i * have / want].clone()).collect())
    }
    Some(match content {
        Content::Density(counts, ink) => Content::Density(spread(counts, columns)?, *ink),
        Content::States(cells, s) => Content::States(spread(cells, columns)?, s.clone()),
        Content::Values(values, ink) => Content::Values(spread(values, columns)?, *ink),
    })
}

/// Title, facts, legend.
fn head(image: &mut Image, picture: &Picture, frame: &Frame, theme: Theme) {
    let (font, pad, width) = (frame.font, frame.pad, image.width());
    let whole = picture.to.saturating_sub(picture.from);
    let when = format!("{}  ·  {}", moment(picture.from, whole), span(whole));
    let right = width - pad - font.width(&when).min(width - 2 * pad);
    let room = right.saturating_sub(3 * pad);
    let title = font.fit(&picture.title, room);
    font.bold(image, (pad, frame.title), &title, theme.text());
    font.write(image, (right, frame.title), &font.fit(&when, width - 2 * pad), theme.dim());
    if let Some(y) = frame.facts {
        let mut line = String::new();
        for fact in &picture.facts {
            let longer = if line.is_empty() { fact.clone() } else { format!("{line}  ·  {fact}") };
            if font.width(&longer) > width - 2 * pad {
                break;
            }
            line = longer;
        }
        font.write(image, (pad, y), &line, theme.dim());
    }
    for (key, (x, y)) in &frame.legend {
        let Some(key) = picture.legend.get(*key) else { continue };
        let size = font.line() * 3 / 4;
        let place = Rect { x: *x, y: y + font.line() / 8, w: size + font.line() / 4, h: size };
        match key.ink {
            Ink::Lost => stripes(image, place, theme),
            ink => {
                // The lanes' own colour is hardly seen on the page.
                image.fill(place, theme.grid());
                let inner = Rect { x: place.x + 1, y: place.y + 1, w: place.w - 2, h: place.h - 2 };
                image.fill(inner, theme.ink(ink));
            }
        }
        let at = (x + font.line() + font.advance() / 2, *y);
        font.write(image, at, &key.name, theme.text());
    }
}

/// Ticks, their words, and lines through the lanes.
fn axis(image: &mut Image, picture: &Picture, frame: &Frame, theme: Theme) {
    let (font, plot) = (frame.font, frame.plot);
    let whole = picture.to.saturating_sub(picture.from);
    let step = step(whole, (plot.w / (font.advance() * 11)).max(1));
    let small = step / smaller(step);
    let bottom = font.line() * 5 / 4 + frame.axis;
    let mut free = 0;
    let most = u64::from(plot.w);
    if small > 0 && whole / small <= most {
        for n in 0..=whole / small {
            if let Some(x) = frame.column(picture, picture.from.saturating_add(n * small)) {
                image.fill(
                    Rect { x: plot.x + x, y: bottom, w: 1, h: font.line() / 4 },
                    theme.grid(),
                );
            }
        }
    }
    for n in 0..=(whole / step).min(most) {
        let time = n * step;
        let column = frame.column(picture, picture.from.saturating_add(time));
        // The end of the axis is a tick, too.
        let Some(x) = column.or((time == whole).then_some(plot.w - 1)) else { continue };
        let x = plot.x + x;
        let high = bottom - font.line() / 8;
        image.fill(Rect { x, y: high, w: 1, h: plot.y - high }, theme.dim());
        for (lane, (y, h)) in picture.lanes.iter().zip(&frame.lanes) {
            // Over bars and boxes it is only a hint.
            let part = if matches!(lane.content, Content::States(..)) { 70 } else { 110 };
            image.shade(Rect { x, y: *y, w: 1, h: *h }, theme.grid(), part);
        }
        let words = tick(time, step, whole);
        let width = font.width(&words);
        let left = x.saturating_sub(width / 2).max(plot.x).min(image.width() - frame.pad - width);
        if left >= free {
            font.write(image, (left, frame.axis), &words, theme.text());
            free = left + width + font.advance();
        }
    }
}

/// What stands left of the lanes, and the groups' headings.
fn names(image: &mut Image, picture: &Picture, frame: &Frame, theme: Theme) {
    let (font, pad) = (frame.font, frame.pad);
    for (group, y) in &frame.heads {
        let Some(group) = picture.groups.get(*group) else { continue };
        let end = font.bold(image, (pad, *y), &group.name, theme.text());
        let room = image.width().saturating_sub(end + 3 * pad);
        if font.width(&group.note) <= room {
            let x = end + 2 * pad;
            let place = Rect { x, y: *y, w: font.width(&group.note), h: font.line() };
            // Lines of the axis, and arrows, go behind it.
            image.fill(place, theme.page());
            font.write(image, (x, *y), &group.note, theme.dim());
        }
    }
    let mut free = 0;
    for (lane, (y, h)) in picture.lanes.iter().zip(&frame.lanes) {
        let top = y.saturating_add_signed((*h as i32 - font.line() as i32) / 2);
        // Lanes that are lower than their names: as many names as there is room for.
        if top + font.line() / 8 < free {
            continue;
        }
        free = top + font.line();
        label(image, lane, (top, *h), frame, theme);
    }
    if let Some((more, y)) = frame.more {
        let words = format!("{more} more lanes have no room in this size");
        font.write(image, (pad, y), &font.fit(&words, image.width() - 2 * pad), theme.dim());
    }
}

fn label(image: &mut Image, lane: &Lane, (y, h): (u32, u32), frame: &Frame, theme: Theme) {
    let (font, pad) = (frame.font, frame.pad);
    let room = frame.plot.x - 2 * pad;
    let end = font.write(image, (pad, y), &font.fit(&lane.name, room), theme.text());
    let right = frame.plot.x - pad;
    if let Content::Values(values, _) = &lane.content
        && h >= 2 * font.line()
    {
        return scale(image, values, (y, h), right, frame, theme);
    }
    let width = font.width(&lane.detail);
    if end + font.advance() + width <= right {
        font.write(image, (right - width, y), &lane.detail, theme.dim());
    }
}

/// The largest and the smallest value, at their heights.
fn scale(
    image: &mut Image,
    values: &[Option<super::Range>],
    (middle, h): (u32, u32),
    right: u32,
    frame: &Frame,
    theme: Theme,
) {
    let font: Font = frame.font;
    let known = || values.iter().flatten();
    let top = middle.saturating_add_signed((font.line() as i32 - h as i32) / 2);
    for (value, y) in [
        (known().map(|v| v.max).reduce(f64::max), top),
        (known().map(|v| v.min).reduce(f64::min), top + h - font.line()),
    ] {
        let Some(value) = value else { continue };
        let words = if value.fract() == 0.0 && value.abs() < 1e15 {
            format!("{value}")
        } else {
            format!("{value:.3}")
        };
        let width = font.width(&words);
        if width + frame.pad <= right {
            font.write(image, (right - width, y), &words, theme.dim());
        }
    }
}

/// Stripes: something is missing.
fn stripes(image: &mut Image, r: Rect, theme: Theme) {
    let colour = theme.ink(Ink::Lost);
    image.shade(r, colour, 50);
    for y in r.y..r.y + r.h {
        for x in r.x..r.x + r.w {
            if (x + y) % 6 < 2 {
                image.blend(x, y, colour, 230);
            }
        }
    }
}

/// A gap is hatched, and wide enough to be seen.
fn hatch(image: &mut Image, picture: &Picture, frame: &Frame, gap: &Gap, theme: Theme) {
    let Some((y, h)) = frame.lanes.get(gap.lane) else { return };
    if gap.to < picture.from || gap.from >= picture.to {
        return;
    }
    let plot = frame.plot;
    let from = frame.column(picture, gap.from.max(picture.from)).unwrap_or(plot.w - 1);
    let to = frame.column(picture, gap.to).unwrap_or(plot.w);
    let width = to.saturating_sub(from).max(4).min(plot.w);
    let from = from.min(plot.w - width);
    let place = Rect { x: plot.x + from, y: *y, w: width, h: *h };
    stripes(image, place, theme);
    let font = frame.font;
    let words = font.width(&gap.text);
    if words + 2 * font.advance() <= width && font.line() <= *h {
        let x = place.x + (width - words) / 2;
        let ground = Rect { x: x - font.advance() / 2, w: words + font.advance(), ..place };
        image.shade(ground, theme.page(), 215);
        font.write(image, (x, y + (h - font.line()) / 2), &gap.text, theme.ink(Ink::Lost));
    }
}

/// A line from one lane to the other, with a point.
fn arrow(image: &mut Image, picture: &Picture, frame: &Frame, arrow: &Arrow, theme: Theme) {
    let places = (frame.lanes.get(arrow.from), frame.lanes.get(arrow.to));
    let (Some((from, from_h)), Some((to, to_h))) = places else { return };
    let Some(x) = frame.column(picture, arrow.time) else { return };
    let x = frame.plot.x + x;
    let start = from + from_h / 2;
    let down = to > from;
    let end = if down { to + to_h / 4 } else { to + to_h - to_h / 4 };
    let (top, bottom) = (start.min(end), start.max(end));
    let colour = theme.text();
    image.shade(Rect { x, y: top, w: 1, h: bottom - top }, colour, 130);
    let size = (to_h / 4).clamp(2, 5);
    for n in 0..size {
        let y = if down { end.saturating_sub(n) } else { end + n };
        image.fill(
            Rect { x: x.saturating_sub(n / 2 + n % 2), y, w: 1 + 2 * (n / 2 + n % 2), h: 1 },
            colour,
        );
    }
}
