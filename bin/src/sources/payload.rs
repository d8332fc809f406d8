//! Payload bytes, as `rbpipe_core::class` lays fields out: packed, little-endian.

/// A payload being put together; reused from record to record.
#[derive(Debug, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// Empties it.
    pub fn clear(&mut self) -> &mut Self {
        self.0.clear();
        self
    }
    /// An unsigned 32-bit field.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// An unsigned 64-bit field.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// A binary64 field.
    pub fn f64(&mut self, v: f64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// A string; a NUL in it, which would end it, is written `\x00`.
    pub fn text(&mut self, v: &str) -> &mut Self {
        if v.contains('\0') {
            self.0.extend_from_slice(v.replace('\0', "\\x00").as_bytes());
        } else {
            self.0.extend_from_slice(v.as_bytes());
        }
        self.0.push(0);
        self
    }
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
