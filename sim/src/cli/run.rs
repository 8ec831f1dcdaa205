//! `kontiki-sim run`: a range of seeds on all cores.

use super::array::ShardArg;
use super::pool::{Pool, processor_time};
use super::progress::{Goal, Progress};
use super::report::{ReportError, ReportFile, Sweep};
use super::shard::Shard;
use super::shrink::{shrink_for, size};
use super::stop::Stop;
use super::summary::{Reporting, Summary};
use super::{Cluster, Format, print, save, time};
use clap::{ArgGroup, Args};
use kontiki_sim::report::{Failure, Report};
use kontiki_sim::story;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seeds", "time"]).required(true).multiple(true))]
pub(crate) struct Run {
    /// The seeds to run: 0..1000 for a range, one number, or 1000.. for all from there on
    #[arg(long, value_parser = open_seeds)]
    seeds: Option<Range<u64>>,
    /// Run for this time, as in 8h, and end when the seeds end or the time is up. Without --seeds it begins
    /// at the present time in microseconds, behind the seeds of every run before
    #[arg(long = "for", value_name = "TIME", value_parser = time::long)]
    time: Option<Duration>,
    /// Run only this part of the seeds: 3/64 for the third of 64; auto for a task of a Slurm array, auto/64
    /// for one of 64 of a Kubernetes indexed job or an AWS Batch array job
    #[arg(long, requires = "seeds")]
    shard: Option<ShardArg>,
    /// Keep what was found in this file, for `merge`; where the file is there already, go on where it ends
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    pool: Pool,
    #[command(flatten)]
    reporting: Reporting,
    /// How often to write a line that says how far it is, where no terminal watches; 0s for never
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time::long_or_none)]
    progress: Duration,
    /// Save the scenario of each failing seed in this directory
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run each seed twice, and see that both runs are the same
    #[arg(long)]
    twice: bool,
    /// Stop after so many failures
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_failures: Option<u64>,
    /// Shrink the first failing seed for this time at most, and tell how it came to fail; 0s for not at all
    #[arg(long, default_value = "10s", value_parser = time::long_or_none)]
    shrink_time: Duration,
}

/// How often a report is written while its shard runs.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Where an open range of seeds ends: every reader of JSON reads smaller numbers as they are.
const OPEN_END: u64 = 1 << 53;

/// How long a sweep has taken, and when its report is to be written again.
struct Clock {
    /// What it had taken when it went on: on the wall, and of the cores.
    before: [Duration; 2],
    started: (Instant, Duration),
    saved: Instant,
}

impl Clock {
    fn new(before: &Summary) -> Self {
        let now = Instant::now();
        Self { before: [before.wall, before.processor], started: (now, processor_time()), saved: now }
    }

    fn show(&self, summary: &mut Summary) {
        let ([wall, processor], (started, had)) = (self.before, self.started);
        summary.wall = wall.saturating_add(started.elapsed());
        summary.processor = processor.saturating_add(processor_time().saturating_sub(had));
    }

    fn is_due(&mut self) -> bool {
        let due = self.saved.elapsed() >= SAVE_EVERY;
        if due {
            self.saved = Instant::now();
        }
        due
    }
}

impl Run {
    pub(crate) fn run(self) -> Result<bool, String> {
        let (report, stop) = self.sweep().map_err(|error| error.to_string())?;
        let summary = &report.summary;
        for (seed, _) in &summary.failures {
            if let Some(dir) = &self.out {
                save(&self.cluster.draw(*seed), dir)?;
            }
        }
        let verdict = summary.judge(&self.cluster, self.reporting.marks);
        self.reporting.report(&verdict)?;
        // To shrink a failure takes a while, which is not what a signal asks for.
        if self.reporting.format == Format::Human && !stop.was_told() {
            print(&self.first_failure(summary).unwrap_or_default());
        }
        if report.sweep.open_ended && summary.done.len() == 0 && verdict.held() {
            return Err(ReportError::NoSeeds.to_string());
        }
        match self.left(&report).filter(|_| stop.was_told() && verdict.held()) {
            Some(missing) => {
                let kept = self.report.is_some();
                Err(ReportError::Interrupted { missing, kept }.to_string())
            }
            None => Ok(verdict.held()),
        }
    }

    /// How many seeds are missing of those that were asked for; none where so many were run, or for so long.
    fn left(&self, report: &ReportFile) -> Option<u64> {
        let missing = report.missing(report.shard).iter().map(|range| range.end - range.start).sum();
        let is_time_left = self.time.is_some_and(|time| report.summary.wall < time);
        (missing > 0 || is_time_left).then_some(missing)
    }

    /// Runs the seeds that are not done yet.
    fn sweep(&self) -> Result<(ReportFile, Stop), ReportError> {
        let mut report = self.begin()?;
        let time_left = self.time.map(|time| time.saturating_sub(report.summary.wall));
        let stop = Stop::after(time_left).map_err(ReportError::Signals)?;
        let mut clock = Clock::new(&report.summary);
        let mut progress = Progress::new(self.goal(&report), &report.summary, self.progress);
        let (cluster, twice, stops) = (self.cluster, self.twice, stop.clone());
        let run = move |seed| run_seed(&cluster, seed, twice);
        let mut saved = Ok(());
        let goes_on =
            |summary: &Summary| self.max_failures.is_none_or(|max| (summary.failures.len() as u64) < max);
        let seeds = if goes_on(&report.summary) { report.to_do() } else { Vec::new() };
        let seeds = seeds.into_iter().flatten().take_while(move |_| stops.goes_on());
        let hung = self.pool.run(seeds, run, |seed| {
            report.summary.add(seed);
            progress.show(&report.summary, stop.was_told());
            if clock.is_due() {
                clock.show(&mut report.summary);
                saved = self.save(&report);
            }
            saved.is_ok() && goes_on(&report.summary)
        });
        // The last seed may have ended just before it was told to stop.
        progress.show(&report.summary, stop.was_told());
        progress.clear();
        saved?;
        report.summary.hung.extend(hung);
        report.summary.sort();
        clock.show(&mut report.summary);
        self.save(&report)?;
        Ok((report, stop))
    }

    /// The report to go on with. A file that cannot be written is an error now, not after the sweep.
    fn begin(&self) -> Result<ReportFile, ReportError> {
        let seeds = match (&self.seeds, &self.report) {
            (Some(seeds), _) => seeds.clone(),
            (None, Some(path)) => ReportFile::seeds_of(path)?.unwrap_or_else(new_seeds),
            (None, None) => new_seeds(),
        };
        let open_ended = self.time.is_some() || seeds.end == OPEN_END;
        let sweep = Sweep::new(seeds, self.cluster, self.twice, open_ended);
        let shard = self.shard.map(|shard| shard.resolve(|variable| std::env::var(variable).ok()));
        let shard = shard.transpose()?.unwrap_or(Shard::WHOLE);
        let report = match &self.report {
            Some(path) => ReportFile::resume(path, sweep.by_this_build()?, shard)?,
            None => ReportFile::new(sweep, shard),
        };
        self.save(&report)?;
        Ok(report)
    }

    fn save(&self, report: &ReportFile) -> Result<(), ReportError> {
        self.report.as_ref().map_or(Ok(()), |path| report.save(path))
    }

    fn goal(&self, report: &ReportFile) -> Goal {
        let to_do: u64 = report.to_do().iter().map(|range| range.end - range.start).sum();
        match self.time {
            Some(time) => Goal::Time(time),
            None if report.sweep.open_ended => Goal::Signal,
            None => Goal::Seeds(report.summary.done.len() + to_do),
        }
    }

    /// How the first seed that failed came to fail.
    fn first_failure(&self, summary: &Summary) -> Option<String> {
        let (seed, _) = summary.failures.first()?;
        let mut text = format!("\nThe last steps of seed {seed}:\n");
        super::replay::last_steps(&self.cluster.draw(*seed), 12)
            .iter()
            .for_each(|line| text += &format!("{line}\n"));
        Some(text + &self.story(*seed).unwrap_or_default())
    }

    /// How a seed came to fail, shrunk; nothing where it does not fail by itself.
    fn story(&self, seed: u64) -> Option<String> {
        if self.shrink_time.is_zero() {
            return None;
        }
        let shrunk = shrink_for(&self.cluster.draw(seed), self.shrink_time)?;
        let story = story::tell(&shrunk.scenario).ok()??;
        Some(format!("\nHow it fails once it is shrunk ({}):\n{story}\n", size(&shrunk.scenario)))
    }
}

fn run_seed(cluster: &Cluster, seed: u64, twice: bool) -> Report {
    let scenario = cluster.draw(seed);
    let run = || kontiki_sim::run(&scenario).expect("every drawn scenario can be run");
    let mut report = run();
    if twice && report.failure.is_none() {
        let again = run();
        if again != report {
            report.failure = Some(Failure::new(
                "Determinism",
                format!("trace hash {:016x}, then {:016x}", report.trace_hash, again.trace_hash),
                report.counters.steps,
                report.counters.virtual_nanos,
            ));
        }
    }
    report
}

/// Seeds that no run before has had: no sweep runs a million seeds a second, so one that begins at the
/// present time in microseconds begins behind them.
#[expect(clippy::disallowed_types, reason = "which seeds are new is told by no virtual time")]
fn new_seeds() -> Range<u64> {
    use std::time::SystemTime;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = u64::try_from(now.as_micros()).unwrap_or_default().min(OPEN_END - 1);
    start..OPEN_END
}

/// `A..B`, one number, or `A..`, which ends at [`OPEN_END`].
fn open_seeds(text: &str) -> Result<Range<u64>, String> {
    match text.strip_suffix("..") {
        Some(start) => seeds(&format!("{start}..{OPEN_END}")),
        None => seeds(text),
    }
}

/// `A..B`, or one number.
pub(super) fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| format!("`{text}` is no number; write 0..1000, or one seed"))
    };
    let range = match text.split_once("..") {
        Some((start, end)) => number(start)?..number(end)?,
        None => {
            let seed = number(text)?;
            seed..seed.saturating_add(1)
        }
    };
    if range.is_empty() {
        return Err(format!("{text} holds no seed; write the smaller number first, as in 0..1000"));
    }
    Ok(range)
}
