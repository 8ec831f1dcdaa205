//! Clocks of members, each of which runs at a rate of its own. True time is in nanoseconds from zero.
//!
//! ```
//! use kontiki_core::time::Instant;
//! use kontiki_sim::clock::Clock;
//!
//! let fast = Clock::new(0, 500_000);
//! assert_eq!(fast.local(1_000), Instant::from_nanos(1_500));
//! assert_eq!(fast.when(Instant::from_nanos(1_500)), Some(1_000));
//! ```

use kontiki_core::time::Instant;

/// A clock that goes through (`true_base`, `local_base`) at a rate of `1 + ppm / 1_000_000`.
#[derive(Clone, Debug)]
pub struct Clock {
    true_base: u64,
    local_base: u64,
    ppm: i64,
}

const MILLION: u64 = 1_000_000;

impl Clock {
    /// A clock that shows `local` at true time zero.
    pub fn new(local: u64, ppm: i64) -> Self {
        Self { true_base: 0, local_base: local, ppm }
    }

    /// What it shows at a true time.
    pub fn local(&self, true_nanos: u64) -> Instant {
        let elapsed = scaled(true_nanos - self.true_base, self.rate(), MILLION, 0);
        let local = u128::from(self.local_base) + elapsed;
        Instant::from_nanos(u64::try_from(local).unwrap_or(u64::MAX))
    }

    /// The first true time at which it shows `local` or more; `None` where that is never.
    pub fn when(&self, local: Instant) -> Option<u64> {
        if local == Instant::NEVER {
            return None;
        }
        let (ahead, rate) = (local.as_nanos().saturating_sub(self.local_base), self.rate());
        let elapsed = scaled(ahead, MILLION, rate, rate - 1);
        u64::try_from(u128::from(self.true_base) + elapsed).ok()
    }

    /// How much of its time passes in a million nanoseconds.
    fn rate(&self) -> u64 {
        MILLION.saturating_add_signed(self.ppm)
    }

    /// Shows this time from now on.
    pub fn set(&mut self, true_nanos: u64, local: Instant) {
        *self = Self { true_base: true_nanos, local_base: local.as_nanos(), ppm: self.ppm };
    }

    /// Goes on at another rate.
    pub fn set_rate(&mut self, true_nanos: u64, ppm: i64) {
        *self = Self { true_base: true_nanos, local_base: self.local(true_nanos).as_nanos(), ppm };
    }
}

/// `(number * factor + extra) / divisor`, without a division of 128 bits.
fn scaled(number: u64, factor: u64, divisor: u64, extra: u64) -> u128 {
    let rest = (number % divisor * factor + extra) / divisor;
    u128::from(number / divisor) * u128::from(factor) + u128::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_says_it_will_and_not_before() {
        for ppm in [-200_000, -1, 0, 7, 50_000] {
            let mut clock = Clock::new(1_000, ppm);
            clock.set_rate(500, ppm * 2);
            for local in [1_600, 1_601, 99_999, 1_000_003] {
                let when = clock.when(Instant::from_nanos(local)).unwrap();
                assert!(clock.local(when) >= Instant::from_nanos(local));
                assert!(when == 500 || clock.local(when - 1) < Instant::from_nanos(local));
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_goes_on_from_there_at_its_rate() {
        let mut clock = Clock::new(0, 500_000);
        let stopped = clock.local(1_000);
        clock.set(9_000, stopped);
        assert_eq!(clock.local(9_000), Instant::from_nanos(1_500), "the suspension was not counted");
        assert_eq!(clock.local(11_000), Instant::from_nanos(4_500));
    }

    #[test]
    fn a_change_of_rate_is_no_jump() {
        let mut clock = Clock::new(0, 100_000);
        clock.set_rate(1_000, -100_000);
        assert_eq!(clock.local(1_000), Instant::from_nanos(1_100));
        assert_eq!(clock.local(2_000), Instant::from_nanos(2_000));
    }
}
