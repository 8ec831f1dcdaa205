//! Threads that run seeds, and a watch over them: a seed that does not end is told of, and ends the program.

use clap::Args;
use kontiki_core::time::span;
use serde::{Deserialize, Serialize};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How seeds are run.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Pool {
    /// How many seeds to run at the same time; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// How much time of a core one seed may take before it counts as one that does not end (property
    /// "Bounded Work"); other programs on this machine do not count
    #[arg(long, default_value = "30s", value_parser = span::parse)]
    seed_timeout: Duration,
}

/// A seed that has not ended in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Hung {
    pub(super) seed: u64,
    /// How much time of a core it had.
    pub(super) processor: Duration,
    /// How long that took, without the time for which the program was suspended.
    pub(super) wall: Duration,
}

impl Hung {
    /// What is wrong with it.
    pub(super) fn detail(&self) -> String {
        format!(
            "the seed has not ended after {:.1?} of processor time, {:.1?} in all; if its replay does not end either, --trace shows where it goes round; if it does, raise --seed-timeout",
            self.processor, self.wall
        )
    }
}

/// How many threads to use, where the command line says so or does not.
pub(super) fn threads(jobs: Option<u16>) -> usize {
    jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// What a thread is at, and since when.
type Place = Mutex<Option<(u64, Clocks)>>;

/// How long the program has been at it.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// On the wall.
    wall: Duration,
    /// How long all threads of this program have run, all cores taken together.
    processor: Duration,
}

/// How long the program was awake, in nanoseconds: the threads are looked at every so often, and a long time
/// without a look is one for which the program, or the machine, was suspended.
#[derive(Default, Debug)]
struct Awake(AtomicU64);

impl Awake {
    /// So long after the last look comes another.
    fn looks(&self, after: Duration) {
        let nanos = after.min(10 * GLANCE).as_nanos() as u64;
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    fn clocks(&self) -> Clocks {
        Clocks { wall: Duration::from_nanos(self.0.load(Ordering::Relaxed)), processor: processor_time() }
    }
}

/// How long all threads of this program have run, all cores taken together.
#[cfg(unix)]
pub(super) fn processor_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// Elsewhere the time on the wall has to do: no thread has run for longer.
#[cfg(not(unix))]
pub(super) fn processor_time() -> Duration {
    static STARTED: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed()
}

/// A seed that waits takes no processor time: after so many times as long it does not end either.
const WAITING: u32 = 20;

/// The stack of a thread that runs seeds. What a disk reads takes no time, so a member that reads a snapshot
/// back piece by piece does it all within one step, each piece inside the one before.
pub(super) const STACK: usize = 64 << 20;
/// How often the threads are looked at, at least.
const GLANCE: Duration = Duration::from_millis(100);

impl Pool {
    /// A pool of so many threads, whose pieces of work may take this long.
    pub(super) fn new(jobs: Option<u16>, seed_timeout: Duration) -> Self {
        Self { jobs, seed_timeout }
    }

    /// Runs seeds, and hands over what comes of each, until all are run or `each` says that it is enough.
    /// Returns the seed that does not end, where there is one; its thread cannot be ended, so the program is
    /// to.
    pub(super) fn run<R: Send + 'static>(
        self,
        seeds: impl Iterator<Item = u64> + Send + 'static,
        run: impl Fn(u64) -> R + Send + Sync + 'static,
        mut each: impl FnMut(R) -> bool,
    ) -> Option<Hung> {
        let jobs = threads(self.jobs);
        let seeds = Arc::new(Mutex::new(Some(seeds)));
        let places: Arc<[Place]> = (0..jobs).map(|_| Mutex::new(None)).collect();
        let awake = Arc::<Awake>::default();
        let run = Arc::new(run);
        let (sender, reports) = mpsc::channel();
        let worker = |place: usize| {
            let (sender, seeds) = (sender.clone(), Arc::clone(&seeds));
            let (places, run) = (Arc::clone(&places), Arc::clone(&run));
            let awake = Arc::clone(&awake);
            move || {
                loop {
                    let next = locked(&seeds).as_mut().and_then(Iterator::next);
                    let Some(seed) = next else { return };
                    set(&places[place], Some((seed, awake.clocks())));
                    let report = run(seed);
                    set(&places[place], None);
                    if sender.send(report).is_err() {
                        return;
                    }
                }
            }
        };
        let spawn = |place| {
            let builder = thread::Builder::new().stack_size(STACK);
            builder.spawn(worker(place)).expect("a thread for each job can be had")
        };
        let threads: Vec<_> = (0..jobs).map(spawn).collect();
        drop(sender);
        let mut looked = Instant::now();
        loop {
            match reports.recv_timeout(GLANCE) {
                Ok(report) => {
                    if !each(report) {
                        *locked(&seeds) = None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if looked.elapsed() >= GLANCE {
                awake.looks(looked.elapsed());
                looked = Instant::now();
                let hung = places.iter().find_map(|place| self.hung(place, &awake, jobs as u32));
                if hung.is_some() {
                    return hung;
                }
            }
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        None
    }

    /// Whether the seed at this place has had its time: of so many threads each gets its share.
    fn hung(&self, place: &Place, awake: &Awake, jobs: u32) -> Option<Hung> {
        let place = locked(place);
        let (seed, since) = (*place)?;
        // Not before the place is locked: it may be of a later time else.
        let now = awake.clocks();
        let (processor, wall) = ((now.processor - since.processor) / jobs, now.wall - since.wall);
        let is_hung = processor > self.seed_timeout || wall > self.seed_timeout.saturating_mul(WAITING);
        is_hung.then_some(Hung { seed, processor, wall })
    }
}

fn set(place: &Place, at: Option<(u64, Clocks)>) {
    *locked(place) = at;
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const POOL: Pool = Pool { jobs: Some(2), seed_timeout: Duration::from_millis(300) };

    #[test]
    fn every_seed_is_run_once() {
        let mut seen = Vec::new();
        let hung = POOL.run(
            5..40,
            |seed| seed,
            |seed| {
                seen.push(seed);
                true
            },
        );
        seen.sort_unstable();
        assert_eq!((hung, seen), (None, (5..40).collect()));
    }

    /// A program that was stopped for an hour and goes on has not waited for a seed that long.
    #[test]
    fn time_for_which_the_program_was_suspended_does_not_count() {
        let awake = Awake::default();
        let place = Mutex::new(Some((7, awake.clocks())));
        awake.looks(Duration::from_secs(3_600));
        assert_eq!(POOL.hung(&place, &awake, u32::MAX), None);
        (0..100).for_each(|_| awake.looks(GLANCE));
        let hung = POOL.hung(&place, &awake, u32::MAX).expect("it waits, and is looked at");
        assert_eq!((hung.seed, hung.wall), (7, Duration::from_secs(11)));
    }

    #[test]
    fn nothing_more_is_begun_when_it_is_enough() {
        let mut seen = 0;
        let hung = POOL.run(
            0..u64::MAX,
            |seed| seed,
            |_| {
                seen += 1;
                seen < 10
            },
        );
        assert!(hung.is_none() && seen >= 10);
    }

    /// Runs seeds of which one runs on until the test is over.
    fn hang(pool: Pool, go_on: impl Fn() + Send + Sync + 'static) -> (Option<u64>, Vec<u64>) {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let run = move |seed| {
            while seed == 7 && !is_over.load(Ordering::Relaxed) {
                go_on();
            }
            seed
        };
        let mut seen = Vec::new();
        let hung = pool.run(0..20, run, |seed| {
            seen.push(seed);
            true
        });
        over.store(true, Ordering::Relaxed);
        seen.sort_unstable();
        (hung.map(|hung| hung.seed), seen)
    }

    #[test]
    fn a_seed_that_does_not_end_is_told_of_and_the_others_are_run() {
        let others: Vec<_> = (0..20).filter(|seed| *seed != 7).collect();
        assert_eq!(hang(POOL, std::hint::spin_loop), (Some(7), others));
    }

    #[test]
    fn a_seed_that_waits_without_an_end_is_told_of_as_well() {
        let pool = Pool { seed_timeout: Duration::from_millis(20), ..POOL };
        assert_eq!(hang(pool, thread::yield_now).0, Some(7));
        let wait = || thread::sleep(Duration::from_millis(1));
        assert_eq!(hang(pool, wait).0, Some(7));
    }
}
