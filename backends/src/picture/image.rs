//! Pixels, and how they become a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::colour::Rgb;

/// A part of an image: `x`, `y`, width, height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Its left edge.
    pub x: u32,
    /// Its upper edge.
    pub y: u32,
    /// Its width.
    pub w: u32,
    /// Its height.
    pub h: u32,
}

/// How much work a PNG is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Twice as large, in a tenth of the time: for one of many.
    Fast,
    /// For one that is kept.
    Small,
}

/// An image: RGBA, 8 bits each, without a transparent pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Image {
    /// All of one colour.
    #[must_use]
    pub fn new(width: u32, height: u32, colour: Rgb) -> Self {
        let one = [colour.0, colour.1, colour.2, 255];
        Self { width, height, pixels: one.repeat(width as usize * height as usize) }
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }
    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }
    /// Row by row, four bytes each: red, green, blue, 255.
    #[must_use]
    pub fn rgba(&self) -> &[u8] {
        &self.pixels
    }

    fn at(&self, x: u32, y: u32) -> Option<usize> {
        let inside = x < self.width && y < self.height;
        inside.then(|| (y as usize * self.width as usize + x as usize) * 4)
    }

    /// The colour of a pixel.
    ///
    /// # Panics
    /// It is outside.
    #[must_use]
    pub fn pixel(&self, x: u32, y: u32) -> Rgb {
        let at = self.at(x, y).expect("a pixel of the image");
        Rgb(self.pixels[at], self.pixels[at + 1], self.pixels[at + 2])
    }

    /// Lays `part` of 255 of a colour over a pixel; outside nothing happens.
    pub(super) fn blend(&mut self, x: u32, y: u32, colour: Rgb, part: u8) {
        if let Some(at) = self.at(x, y) {
            let Rgb(r, g, b) = self.pixel(x, y).mix(colour, part);
            self.pixels[at..at + 3].copy_from_slice(&[r, g, b]);
        }
    }

    /// Lays `part` of 255 of a colour over a rectangle.
    pub(super) fn shade(&mut self, r: Rect, colour: Rgb, part: u8) {
        for y in r.y..r.y.saturating_add(r.h).min(self.height) {
            for x in r.x..r.x.saturating_add(r.w).min(self.width) {
                self.blend(x, y, colour, part);
            }
        }
    }

    /// Fills a rectangle.
    pub(super) fn fill(&mut self, r: Rect, colour: Rgb) {
        self.shade(r, colour, 255);
    }

    /// Fills a column between two heights, in 1/256 of a pixel from the image's upper edge: edges
    /// that lie within a pixel have a part of it.
    pub(super) fn bar(&mut self, x: u32, (top, bottom): (u64, u64), colour: Rgb, part: u8) {
        for y in top / 256..bottom.div_ceil(256) {
            let covered = bottom.min((y + 1) * 256) - top.max(y * 256);
            let part = u64::from(part) * covered / 256;
            self.blend(x, y as u32, colour, part as u8);
        }
    }

    /// As a PNG: the same bytes for the same picture.
    ///
    /// # Errors
    /// `to` cannot be written.
    pub fn encode(&self, to: impl Write, effort: Effort) -> io::Result<()> {
        let mut encoder = png::Encoder::new(to, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(match effort {
            Effort::Small => png::Compression::Balanced,
            Effort::Fast => png::Compression::Fast,
        });
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        let mut writer = encoder.write_header()?;
        // Row by row: a second whole image would be as large as the first.
        let mut stream = writer.stream_writer_with_size(1 << 16)?;
        let mut row = Vec::with_capacity(self.width as usize * 3);
        for pixels in self.pixels.chunks_exact(self.width as usize * 4) {
            row.clear();
            pixels.chunks_exact(4).for_each(|p| row.extend_from_slice(&p[..3]));
            stream.write_all(&row)?;
        }
        stream.finish()?;
        writer.finish()?;
        Ok(())
    }

    /// Writes it as a PNG. What was there is replaced in one step: nobody ever sees half a
    /// picture. What is no file (`/dev/stdout`, a pipe) is written to.
    ///
    /// # Errors
    /// It cannot be written; what was there is there still.
    pub fn write_png(&self, path: &Path, effort: Effort) -> io::Result<()> {
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(path) {
            Ok(m) if m.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(m) if !m.is_file() => {
                let mut to = BufWriter::new(File::options().write(true).open(path)?);
                self.encode(&mut to, effort)?;
                return to.flush();
            }
            _ => {}
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let write = || {
            let mut to = BufWriter::new(File::create(&new)?);
            self.encode(&mut to, effort)?;
            to.flush()?;
            fs::rename(&new, path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}
