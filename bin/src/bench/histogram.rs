//! How long single records took: counts in steps of a 64th, exact below 128 ns.

/// Longer ones count as this long (18 minutes).
const LONGEST: u64 = 1 << 40;

/// Counts of times.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    n: u64,
    max: u64,
}

impl Histogram {
    /// None yet.
    pub fn new() -> Self {
        Self { counts: vec![0; place(LONGEST) + 1], n: 0, max: 0 }
    }

    /// One of so many nanoseconds.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        let ns = ns.min(LONGEST);
        self.counts[place(ns)] += 1;
        self.n += 1;
        self.max = self.max.max(ns);
    }

    /// With those of another one.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.n += other.n;
        self.max = self.max.max(other.max);
    }

    /// The longest, exact.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time that this part of them did not exceed; `None` where there are too few of them
    /// to tell: fewer than ten that are longer.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        // What is a whole number but for rounding is one.
        let wanted = (self.n as f64 * part - 1e-6).ceil() as u64;
        if self.n - wanted < 10 {
            return None;
        }
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return Some(middle(i));
            }
        }
        None
    }
}

#[inline]
fn place(ns: u64) -> usize {
    if ns < 64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - 6;
    (64 + u64::from(shift) * 64 + (ns >> shift) - 64) as usize
}

/// The middle of the times that are counted at this place.
fn middle(place: usize) -> f64 {
    if place < 64 {
        return place as f64;
    }
    let (shift, rest) = ((place - 64) / 64, (place - 64) % 64);
    let first = ((rest + 64) as u64) << shift;
    first as f64 + ((1u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every time is counted near itself, and places do not overlap.
    #[test]
    fn a_time_is_counted_within_a_64th_of_itself() {
        let mut last = 0;
        for ns in (0..100_000).chain((17..40).map(|e| (1 << e) - 1)).chain([LONGEST]) {
            let at = place(ns);
            assert!(at >= last, "{ns}");
            last = at;
            let off = (middle(at) - ns as f64).abs();
            assert!(off <= ns as f64 / 64.0, "{ns} as {}", middle(at));
            assert!(ns >= 128 || off == 0.0, "{ns}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_list() {
        let mut h = Histogram::new();
        let mut other = Histogram::new();
        (1..=100).for_each(|ns| h.add(ns));
        assert_eq!(h.quantile(0.5), Some(50.0));
        assert_eq!(h.quantile(0.9), Some(90.0));
        assert_eq!(h.quantile(0.99), None, "one of a hundred tells nothing");
        (0..9900).for_each(|_| other.add(7));
        other.add(5_000_000);
        h.merge(&other);
        assert_eq!((h.quantile(0.5), h.max()), (Some(7.0), 5_000_000));
    }
}
