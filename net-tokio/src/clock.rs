//! The host's clock, as the kernel reads it.
//!
//! It counts the time for which the machine was suspended, because the other members' clocks went on
//! meanwhile: a lease measured with a stopped clock would outlive the promise it rests on. It is
//! `CLOCK_BOOTTIME` on Linux, Android, Fuchsia and OpenBSD, and `CLOCK_MONOTONIC` on other Unix systems. That
//! clock counts suspension on Apple's systems; on FreeBSD, NetBSD and others it may stop, and lease reads
//! should be off.
//!
//! **Limit.** No guest clock counts the time for which the hypervisor has paused the guest, unless the
//! hypervisor adjusts it before the guest resumes.

use kontiki_core::time::Instant;
use std::time::Duration;

/// A source of time since some origin. It never goes back.
pub(crate) trait Source {
    fn read(&self) -> Duration;
}

/// The system clock that counts suspension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

#[cfg(unix)]
impl Source for System {
    fn read(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia", target_os = "openbsd"))]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(any(
            target_os = "linux",
            target_os = "android",
            target_os = "fuchsia",
            target_os = "openbsd"
        )))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let read = clock_gettime(CLOCK);
        let nanos = u32::try_from(read.tv_nsec).unwrap_or_default();
        Duration::new(u64::try_from(read.tv_sec).unwrap_or_default(), nanos)
    }
}

#[cfg(not(unix))]
impl Source for System {
    fn read(&self) -> Duration {
        use std::sync::LazyLock;
        static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        ORIGIN.elapsed()
    }
}

/// The longest duration of a timer. tokio's timers stop while the machine is suspended: after a suspension,
/// deadlines are checked within this time. In a running group, heartbeats wake a follower more often.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// The duration of a timer when there is no deadline.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Monotonic time since this was made, including suspensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock<S = System> {
    source: S,
    origin: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self::of(System)
    }
}

impl<S: Source> Clock<S> {
    fn of(source: S) -> Self {
        let origin = source.read();
        Self { source, origin }
    }

    pub(crate) fn now(&self) -> Instant {
        let since = self.source.read().saturating_sub(self.origin);
        Instant::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Returns how long to sleep, so that the deadline is checked when it is due, or soon after the machine
    /// resumes.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> Duration {
        if deadline == Instant::NEVER {
            return FAR;
        }
        Duration::from_nanos((deadline - self.now()).get()).min(LONGEST_SLEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    impl Source for &Cell<Duration> {
        fn read(&self) -> Duration {
            self.get()
        }
    }

    #[test]
    fn it_begins_at_zero_and_counts_what_its_source_counts() {
        let source = Cell::new(Duration::from_secs(1_000));
        let clock = Clock::of(&source);
        assert_eq!(clock.now(), Instant::ZERO);
        source.set(source.get() + Duration::from_millis(7));
        assert_eq!(clock.now(), Instant::from_millis(7));
        // An hour of suspension counts as an hour.
        source.set(source.get() + Duration::from_secs(3_600));
        assert_eq!(clock.now(), Instant::from_millis(3_600_007));
        // A source that goes back does not take the kernel before its origin.
        source.set(Duration::ZERO);
        assert_eq!(clock.now(), Instant::ZERO);
    }

    #[test]
    fn a_timer_rings_at_the_deadline_and_soon_after_a_suspension() {
        let source = Cell::new(Duration::from_secs(5));
        let clock = Clock::of(&source);
        let (near, distant) = (Instant::from_millis(40), Instant::from_millis(10_000));
        assert_eq!(clock.sleep_until(near), Duration::from_millis(40));
        assert_eq!(clock.sleep_until(distant), LONGEST_SLEEP, "it may have been suspended when that rings");
        source.set(source.get() + Duration::from_secs(60));
        assert_eq!([near, distant].map(|deadline| clock.sleep_until(deadline)), [Duration::ZERO; 2]);
        assert_eq!(clock.sleep_until(Instant::NEVER), FAR);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_of_the_system_counts_suspension() {
        let now = || {
            let uptime = std::fs::read_to_string("/proc/uptime").expect("it is there");
            let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
            Duration::from_secs_f64(seconds)
        };
        // The kernel gives its uptime by CLOCK_BOOTTIME, to a hundredth of a second.
        let (before, read, after) = (now(), System.read(), now());
        let slack = Duration::from_millis(20);
        assert!(before <= read + slack && read <= after + slack, "{before:?} {read:?} {after:?}");
    }
}
