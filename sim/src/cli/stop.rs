//! When a sweep ends before all of its seeds are run: its time is up, or the program was told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether another seed is to be begun. Seeds that run are finished.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// When the time is up.
    at: Option<Instant>,
    /// Set by the first signal.
    told: Arc<AtomicBool>,
}

impl Stop {
    /// Stops after this time, and at a signal: the first lets the seeds that run be finished, the second ends
    /// the program as it would have without us.
    pub(super) fn after(time: Option<Duration>) -> io::Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        heed_signals(&told)?;
        Ok(Self { at: time.and_then(|time| Instant::now().checked_add(time)), told })
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.was_told() && self.at.is_none_or(|at| Instant::now() < at)
    }

    /// Whether a signal told the program to stop.
    pub(super) fn was_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

/// Ctrl-C, and what schedulers send before they kill a job.
#[cfg(unix)]
fn heed_signals(told: &Arc<AtomicBool>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;
    for signal in [SIGINT, SIGTERM] {
        // In this order: at the first signal the flag is not set yet.
        flag::register_conditional_default(signal, Arc::clone(told))?;
        flag::register(signal, Arc::clone(told))?;
    }
    Ok(())
}

/// Elsewhere a signal ends the program at once.
#[cfg(not(unix))]
fn heed_signals(_told: &Arc<AtomicBool>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_goes_on_until_its_time_is_up_or_it_is_told_to_stop() {
        let stop = |at| Stop { at, told: Arc::default() };
        assert!(stop(None).goes_on() && stop(Some(Instant::now() + Duration::from_secs(3_600))).goes_on());
        assert!(!stop(Some(Instant::now())).goes_on());
        let told = stop(None);
        told.told.store(true, Ordering::Relaxed);
        assert!(!told.goes_on() && told.was_told());
    }
}
