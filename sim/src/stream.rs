//! Independent random streams, each with a name: removing one fault does not disturb the draws of the rest.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// One named stream of a seed.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of this name, number and seed. Equal names are equal streams; different names are
    /// independent.
    pub fn named(seed: u64, name: &str, number: u64) -> Self {
        let mut id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in name.bytes() {
            id = (id ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(id);
        Self(rng)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number less than `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` through `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from `low` through `high` that is as likely to have one order of magnitude as another: most
    /// are small, a few are large.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let halvings = u64::from((high / low.max(1)).max(1).ilog2());
        let high = (high >> self.below(halvings + 1)).max(low);
        self.between(low, high)
    }

    /// True in `per_10k` of ten thousand cases.
    pub fn chance(&mut self, per_10k: u32) -> bool {
        per_10k > 0 && self.below(10_000) < u64::from(per_10k)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.number() & 1 == 1
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// `count` different ones of these, in their order.
    pub fn sample<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut left = count.min(from.len());
        let mut sample = Vec::with_capacity(left);
        for (position, item) in from.iter().enumerate() {
            if left > 0 && self.below((from.len() - position) as u64) < left as u64 {
                sample.push(item.clone());
                left -= 1;
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_tell_streams_apart() {
        let first = |name, number| Stream::named(7, name, number).number();
        assert_eq!(first("network", 1), first("network", 1));
        assert_ne!(first("network", 1), first("network", 2));
        assert_ne!(first("network", 1), first("disk", 1));
    }

    #[test]
    fn a_sample_has_the_size_that_was_asked_for_and_no_repetition() {
        let mut stream = Stream::named(1, "sample", 0);
        for count in 0..=5 {
            let sample = stream.sample(&[1, 2, 3, 4, 5], count);
            assert_eq!(sample.len(), count);
            assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn skewed_numbers_stay_in_their_range() {
        let mut stream = Stream::named(1, "skew", 0);
        assert!((0..1000).all(|_| (10..=5000).contains(&stream.skewed(10, 5000))));
        assert!((0..1000).filter(|_| stream.skewed(10, 5000) < 100).count() > 200);
    }
}
