//! A picture that the program wrote, read as pixels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Its pixels, row by row: red, green, blue.
#[derive(Debug)]
pub struct Pixels {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    bytes: Vec<u8>,
}

/// What counts are drawn in, on dark pages: lighter or darker, as there is more or less.
fn is_count(p: &[u8]) -> bool {
    p[2] > 120 && p[2] > p[0].saturating_add(60) && p[2] > p[1].saturating_add(30)
}

impl Pixels {
    /// Reads one; `None`: it is not there.
    ///
    /// # Panics
    /// If it is no picture, or half of one.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info().expect("a picture");
        let mut bytes = vec![0; reader.output_buffer_size().expect("it fits into memory")];
        let info = reader.next_frame(&mut bytes).expect("a whole picture");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        Some(Self { width: info.width, height: info.height, bytes })
    }

    /// The colour of the page: that of the first pixel.
    #[must_use]
    pub fn page(&self) -> [u8; 3] {
        [self.bytes[0], self.bytes[1], self.bytes[2]]
    }

    /// Pixels that show counts.
    #[must_use]
    pub fn counts(&self) -> usize {
        self.bytes.chunks_exact(3).filter(|p| is_count(p)).count()
    }

    /// The rows of each column in which there is the line of a value's mean.
    #[must_use]
    pub fn values(&self) -> Vec<Vec<u32>> {
        let row = self.width as usize * 3;
        let is = |x: usize, y: usize| self.bytes[y * row + x * 3..][..3] == [0x3F, 0xC1, 0xA5];
        let rows = |x: usize| (0..self.height).filter(|y| is(x, *y as usize)).collect();
        (0..self.width as usize).map(rows).collect()
    }

    /// Columns that have some.
    #[must_use]
    pub fn columns(&self) -> usize {
        let row = self.width as usize * 3;
        let has = |x: usize| self.bytes.chunks_exact(row).any(|row| is_count(&row[x..x + 3]));
        (0..row).step_by(3).filter(|x| has(*x)).count()
    }
}
