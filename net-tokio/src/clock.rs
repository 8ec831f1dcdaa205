//! The host's clock, as the kernel reads it.

use kontiki_core::time::Instant;
use std::time::Duration;

/// Monotonic time since this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same instant as the timers of tokio know it. A time that never comes is far away.
    pub(crate) fn at(&self, when: Instant) -> tokio::time::Instant {
        let far = Duration::from_secs(24 * 60 * 60);
        let since = Duration::from_nanos(when.as_nanos()).min(self.0.elapsed() + far);
        tokio::time::Instant::from_std(self.0 + since)
    }
}
