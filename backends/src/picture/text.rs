//! Text in an image: one font, whose characters have one width.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::colour::Rgb;
use super::image::{Image, Rect};

/// A size of the font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Font(RasterHeight);

impl Font {
    /// One that is read well in a picture of this size.
    pub fn for_size((width, height): (u32, u32)) -> Self {
        Self(match (width / 2).min(height) {
            0..1200 => RasterHeight::Size16,
            1200..1700 => RasterHeight::Size20,
            1700..2400 => RasterHeight::Size24,
            _ => RasterHeight::Size32,
        })
    }

    /// The height of a line, pixels.
    pub fn line(self) -> u32 {
        self.0.val() as u32
    }

    /// The width of a character, pixels.
    pub fn advance(self) -> u32 {
        get_raster_width(FontWeight::Regular, self.0) as u32
    }

    /// The width of a text, pixels.
    pub fn width(self, text: &str) -> u32 {
        text.chars().count() as u32 * self.advance()
    }

    /// As much of a text as is so wide: all of it, or its beginning and `…`; nothing where that
    /// says nothing.
    pub fn fit(self, text: &str, width: u32) -> String {
        let most = (width / self.advance()) as usize;
        match text.chars().count() {
            n if n <= most => text.to_owned(),
            _ if most < 3 => String::new(),
            _ => text.chars().take(most - 1).chain(['…']).collect(),
        }
    }

    /// Writes; `at` is the upper left corner of the first character. Gives where it ends.
    pub fn write(self, image: &mut Image, (x, y): (u32, u32), text: &str, colour: Rgb) -> u32 {
        self.put(image, (x, y), text, colour, FontWeight::Regular)
    }

    /// The same, bold.
    pub fn bold(self, image: &mut Image, (x, y): (u32, u32), text: &str, colour: Rgb) -> u32 {
        self.put(image, (x, y), text, colour, FontWeight::Bold)
    }

    fn put(
        self,
        image: &mut Image,
        (mut x, y): (u32, u32),
        text: &str,
        colour: Rgb,
        weight: FontWeight,
    ) -> u32 {
        for c in text.chars() {
            match get_raster(c, weight, self.0) {
                Some(glyph) => {
                    for (dy, row) in (0..).zip(glyph.rows()) {
                        for (dx, part) in (0..).zip(row) {
                            image.blend(x + dx, y + dy, colour, *part);
                        }
                    }
                }
                None => self.unknown(image, (x, y), c, colour),
            }
            x += self.advance();
        }
        x
    }

    /// What the font has not: `…` of three dots, of others a frame.
    fn unknown(self, image: &mut Image, (x, y): (u32, u32), c: char, colour: Rgb) {
        let (line, advance) = (self.line(), self.advance());
        if c == '…' {
            let dot = (line / 12).max(1);
            for n in 0..3 {
                let x = x + advance / 6 + n * (advance / 3).max(dot + 1) - dot / 2;
                image.fill(Rect { x, y: y + line * 3 / 4 - dot, w: dot, h: dot }, colour);
            }
            return;
        }
        let (w, h) = (advance - 2, line / 2);
        let (x, y) = (x + 1, y + line / 4);
        for r in [
            Rect { x, y, w, h: 1 },
            Rect { x, y: y + h - 1, w, h: 1 },
            Rect { x, y, w: 1, h },
            Rect { x: x + w - 1, y, w: 1, h },
        ] {
            image.shade(r, colour, 160);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_whole_or_shortened_and_never_cut() {
        let font = Font::for_size((1600, 900));
        let w = font.advance();
        assert_eq!(font.fit("kworker", 7 * w), "kworker");
        assert_eq!(font.fit("kworker", 7 * w - 1), "kwork…");
        assert_eq!(font.fit("kworker", 2 * w), "");
        assert_eq!(font.fit("", 0), "");
        assert_eq!(font.width("µs"), 2 * w);
    }

    #[test]
    fn every_character_leaves_ink_in_its_own_cell() {
        for size in [(1600, 900), (2400, 1200), (4000, 1800), (8192, 8192)] {
            let font = Font::for_size(size);
            let (w, h) = (font.advance(), font.line());
            for c in "Agµ·ÄßŁ…日\u{1b}".chars() {
                let (black, white) = (Rgb(0, 0, 0), Rgb(255, 255, 255));
                let mut image = Image::new(3 * w, 3 * h, black);
                font.write(&mut image, (w, h), &c.to_string(), white);
                let (mut inside, mut outside) = (0, 0);
                for y in 0..3 * h {
                    for x in 0..3 * w {
                        let is = image.pixel(x, y) != black;
                        if (w..2 * w).contains(&x) && (h..2 * h).contains(&y) {
                            inside += u32::from(is);
                        } else {
                            outside += u32::from(is);
                        }
                    }
                }
                assert!(inside > 2 && outside == 0, "{c:?} at {h}: {inside}, {outside}");
            }
        }
    }
}
