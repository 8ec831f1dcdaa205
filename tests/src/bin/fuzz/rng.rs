//! Random numbers, from SplitMix64: a case is the same wherever it runs.

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of one case.
    pub(crate) fn of(seed: u64, case: u64) -> Self {
        let mut seeds = Self(seed);
        let base = seeds.next();
        Self(base ^ Self(case).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Any number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any position in something of this length, which is not zero.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Once in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.place(from.len())]
    }

    /// A number as protocols have them: mostly small, sometimes at an edge, seldom any at all.
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => self.pick(&[0, 1, 127, 128, 1 << 32, 1 << 62, (1 << 62) + 1, i64::MAX as u64, u64::MAX]),
            _ => self.below(20),
        }
    }

    /// Bytes, fewer than `end`.
    pub(crate) fn bytes(&mut self, end: u64) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.next() as u8).collect()
    }
}
