//! The least, greatest and mean value of a numeric field in each column.
//!
//! All values are integers, so that sums are exact and come out the same in whatever order
//! they are made; a float is made a fixed-point number first ([`quantise`]).

use super::{Window, halves, whole};

/// Bits behind the point of a float that was made an integer.
pub const FRACTION_BITS: u32 = 16;

/// A float as a fixed-point number with [`FRACTION_BITS`] behind the point, rounded towards 0:
/// what is beyond becomes the least or the greatest, and what is no number becomes 0.
#[must_use]
pub fn quantise(float: f64) -> i64 {
    // A multiplication by a power of two is exact; the conversion does the rest.
    (float * f64::from(1u32 << FRACTION_BITS)) as i64
}

/// The value of a field at some time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The low half of the time.
    pub low: u32,
    /// The high half of the time.
    pub high: u32,
    /// The low half of the value, an `i64`.
    pub value_low: u32,
    /// The high half of the value.
    pub value_high: u32,
}

impl Value {
    /// This value at this time.
    #[must_use]
    pub const fn new(time: u64, value: i64) -> Self {
        let (low, high) = halves(time);
        let (value_low, value_high) = halves(value as u64);
        Self { low, high, value_low, value_high }
    }
    /// Its time in nanoseconds.
    #[inline]
    #[must_use]
    pub const fn time(&self) -> u64 {
        whole(self.low, self.high)
    }
    /// The value.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> i64 {
        whole(self.value_low, self.value_high) as i64
    }
}

/// What the values in a column have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// The least; `i64::MAX` of none.
    pub min: i64,
    /// The greatest; `i64::MIN` of none.
    pub max: i64,
    /// All of them, added up: exact.
    pub sum: i128,
    /// How many they are.
    pub count: u32,
}

impl Aggregate {
    /// Of no value.
    pub const NONE: Self = Self { min: i64::MAX, max: i64::MIN, sum: 0, count: 0 };

    /// Their mean; `None` of none.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / f64::from(self.count))
    }
    /// Of these and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            count: self.count.wrapping_add(other.count),
        }
    }
}

/// What the values in each column have in common. They are sorted by time.
#[must_use]
pub fn aggregate(values: &[Value], window: &Window) -> Vec<Aggregate> {
    let mut rest = &values[values.partition_point(|v| v.time() < window.from)..];
    let mut out = Vec::with_capacity(window.columns as usize);
    for i in 0..window.columns {
        let edge = window.edge(i + 1);
        let (mine, later) = rest.split_at(rest.partition_point(|v| v.time() < edge));
        rest = later;
        out.push(mine.iter().fold(Aggregate::NONE, |all, v| {
            let v = v.value();
            all.and(Aggregate { min: v, max: v, sum: v.into(), count: 1 })
        }));
    }
    out
}
