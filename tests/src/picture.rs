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

/// What counts are drawn in, on dark pages.
pub const COUNT: [u8; 3] = [0x4a, 0x9a, 0xe8];

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

    /// Pixels that look like this one, nearly.
    #[must_use]
    pub fn count(&self, colour: [u8; 3]) -> usize {
        let near = |p: &[u8]| p.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 24);
        self.bytes.chunks_exact(3).filter(|p| near(p)).count()
    }

    /// Columns that have some.
    #[must_use]
    pub fn columns(&self, colour: [u8; 3]) -> Vec<u32> {
        let near = |p: &[u8]| p.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 24);
        let row = self.width as usize * 3;
        let has = |x: &u32| {
            self.bytes.chunks_exact(row).any(|row| near(&row[*x as usize * 3..*x as usize * 3 + 3]))
        };
        (0..self.width).filter(has).collect()
    }
}
