//! A histogram of durations with logarithmic buckets: any number of them takes the same memory.

/// Durations in nanoseconds, each to one part in 64.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// The number of buckets for each power of two.
const FINE: u32 = 6;
const BUCKETS: usize = (65 - FINE as usize) << FINE;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Returns the quantile in ten thousandths, to one part in 64; zero if there are no values.
    pub(crate) fn quantile(&self, of_ten_thousand: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(of_ten_thousand)).div_ceil(10_000).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return highest(at).min(self.max);
            }
        }
        self.max
    }
}

/// Returns the bucket of a number: itself while it is small, then by its highest bits.
fn bucket(nanos: u64) -> usize {
    let shift = (64 - FINE).saturating_sub(nanos.leading_zeros() + 1);
    ((shift as usize) << FINE) + (nanos >> shift) as usize
}

/// Returns the greatest number in a bucket.
fn highest(bucket: usize) -> u64 {
    let fine = 1 << FINE;
    let shift = (bucket >> FINE).saturating_sub(1) as u32;
    let top = if bucket < 2 * fine { bucket } else { fine + bucket % fine } as u64;
    (top << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_bucket_and_buckets_rise() {
        let mut last = 0;
        for exponent in 0..64 {
            for offset in [0, 1, 3] {
                let number = (1_u64 << exponent).saturating_add((1_u64 << exponent) / 4 * offset);
                let at = bucket(number);
                assert!(at < BUCKETS && at >= last, "{number} in {at} after {last}");
                last = at;
                assert!(
                    highest(at) >= number && highest(at) - number <= number / 64,
                    "{number}: {}",
                    highest(at)
                );
                assert_eq!(bucket(highest(at)), at, "{number}");
            }
        }
        assert_eq!((bucket(u64::MAX), highest(bucket(u64::MAX))), (BUCKETS - 1, u64::MAX));
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(5_000), 0);
        (1..=1_000_000).for_each(|nanos| histogram.add(nanos));
        for (share, exact) in [(5_000, 500_000), (9_900, 990_000), (9_990, 999_000), (10_000, 1_000_000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found - exact <= exact / 64, "{share}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max()), (1_000_000, 1_000_000));
    }
}
