//! A hash that is the same on every platform, in every build, for ever.

use std::hash::{Hash, Hasher};

/// Multiply and rotate over 64-bit words. The standard hashers may change with the library and the platform;
/// a trace hash must not. It need not withstand an adversary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StableHasher(u64);

const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

impl StableHasher {
    /// A hash of nothing yet.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The hash of one value.
    pub fn of(value: &impl Hash) -> u64 {
        let mut hasher = Self::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// A hash that depends on both, and on their order.
    pub fn combine(first: u64, second: u64) -> u64 {
        let mut hasher = Self(first);
        hasher.write_u64(second);
        hasher.finish()
    }
}

impl Default for StableHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ (x >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.write_u64(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        for &byte in chunks.remainder() {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, every golden trace hash changes with it.
    #[test]
    fn the_hash_stays() {
        assert_eq!(StableHasher::of(&(1u64, Some(2u8), "kontiki", [3u32; 3])), 0xeebe_2a37_095b_0421);
        assert_ne!(StableHasher::combine(1, 2), StableHasher::combine(2, 1));
    }
}
