//! The delay before another attempt. It is written by hand because a redirection must not wait, which no
//! backoff library knows.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Delays that double, each shortened at random so that clients that failed together do not retry together.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    redirections: u32,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        // The standard library's hasher is seeded with the system's entropy, which is random enough here.
        Self { min, max, failures: 0, redirections: 0, random: RandomState::new().hash_one(0) | 1 }
    }

    /// Returns the next delay: none after a redirection, except for members that redirect a client in
    /// circles.
    pub(super) fn next(&mut self, redirected: bool) -> Duration {
        if redirected && self.redirections < REDIRECTIONS {
            self.redirections += 1;
            return Duration::ZERO;
        }
        self.redirections = 0;
        let whole = self.min.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures += 1;
        // Between a half and the whole. Xorshift: its state is never zero.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random >> 48).unwrap_or_default();
        whole / 2 + whole / 2 * share / (1 << 16)
    }
}

/// How often in a row a client follows a redirection without delay.
const REDIRECTIONS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let (min, max) = (Duration::from_millis(4), Duration::from_millis(100));
        let mut backoff = Backoff::new(min, max);
        let waits: Vec<_> = (0..100).map(|_| backoff.next(false)).collect();
        assert!(waits[0] >= min / 2 && waits[0] <= min, "{waits:?}");
        assert!(waits[1] >= min && waits[1] <= 2 * min, "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= max / 2 && *wait <= max), "{waits:?}");
        assert!(waits[10..].iter().any(|wait| *wait != waits[10]), "they differ: {waits:?}");
    }

    #[test]
    fn a_client_redirected_in_circles_waits_after_every_third_time() {
        let mut backoff = Backoff::new(Duration::from_millis(4), Duration::from_millis(4));
        let waits: Vec<_> = (0..8).map(|_| backoff.next(true).is_zero()).collect();
        assert_eq!(waits, [true, true, true, false, true, true, true, false]);
    }
}
