//! Virtual time: the host says what time it is, the kernel says when it wants to be woken.

pub mod span;

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point of a host's monotonic clock, in nanoseconds since any origin that the host likes. Only differences
/// matter, and only within one life of one member: clocks of different members are never compared.
///
/// Leases need a clock that goes on while the host is suspended (`CLOCK_BOOTTIME` on Linux): a leader whose
/// clock stood still takes a lease for valid that has long ended. A jump forward ends every lease until a
/// fresh round of heartbeats is answered. A virtual machine that is paused, with its clock, shows the kernel
/// nothing: use no leases there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(u64);

impl Instant {
    /// The origin of the host's clock.
    pub const ZERO: Self = Self(0);
    /// A time that never comes: the deadline of a member that waits for nothing.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point this many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point this many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// Saturates at [`Instant::NEVER`].
impl Add<Nanos> for Instant {
    type Output = Self;
    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// Zero where `earlier` is the later one.
impl Sub for Instant {
    type Output = Nanos;
    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(nanos) => write!(f, "{}.{:06}ms", nanos / 1_000_000, nanos % 1_000_000),
        }
    }
}

/// A span of time in nanoseconds: [`Duration`] at the border, one plain number inside.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Nanos(u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of this many nanoseconds.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// How many nanoseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This span, `count` times; saturating.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

/// Saturating: about 584 years fit.
impl From<Duration> for Nanos {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Zero where `other` is the longer one.
impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_stays_never() {
        assert_eq!(Instant::NEVER + Nanos::new(1), Instant::NEVER);
    }

    #[test]
    fn a_difference_is_never_negative() {
        assert_eq!(Instant::from_millis(1) - Instant::from_millis(2), Nanos::ZERO);
    }
}
