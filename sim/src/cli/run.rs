//! `kontiki-sim run`: a range of seeds on all cores.

use super::pool::Pool;
use super::report::{ReportError, ReportFile, Sweep};
use super::shard::Shard;
use super::shrink::{shrink_for, size};
use super::summary::Summary;
use super::{Cluster, Format, print, save};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use kontiki_core::time::span;
use kontiki_sim::report::{Failure, Report};
use kontiki_sim::story;
use std::fmt;
use std::io::IsTerminal as _;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The seeds to run: 0..1000 for a range, or one number
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Run only this part of the seeds: 3/64 for the third of 64
    #[arg(long)]
    shard: Option<Shard>,
    /// Keep what was found in this file, for `merge`; where the file is there already, go on where it ends
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    pool: Pool,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
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
    #[arg(long, default_value = "10s", value_parser = span::parse)]
    shrink_time: Duration,
}

/// How often a report is written while its shard runs.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How long a sweep has taken, and when its report is to be written again.
struct Clock {
    /// What it had taken when it went on.
    before: Duration,
    started: Instant,
    saved: Instant,
}

impl Clock {
    fn new(before: Duration) -> Self {
        let now = Instant::now();
        Self { before, started: now, saved: now }
    }

    fn wall(&self) -> Duration {
        self.before.saturating_add(self.started.elapsed())
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
        let summary = self.sweep().map_err(|error| error.to_string())?;
        for (seed, _) in &summary.failures {
            if let Some(dir) = &self.out {
                save(&self.cluster.draw(*seed), dir)?;
            }
        }
        print(&match self.format {
            Format::Human => summary.tell(&self.cluster) + &self.first_failure(&summary).unwrap_or_default(),
            Format::Json => format!("{}\n", summary.json(&self.cluster)),
        });
        Ok(summary.held())
    }

    /// Runs the seeds that are not done yet.
    fn sweep(&self) -> Result<Summary, ReportError> {
        let mut report = self.begin()?;
        let (bar, mut clock) = (self.progress_bar(&report), Clock::new(report.summary.wall));
        let (cluster, twice) = (self.cluster, self.twice);
        let run = move |seed| run_seed(&cluster, seed, twice);
        let mut saved = Ok(());
        let goes_on =
            |summary: &Summary| self.max_failures.is_none_or(|max| (summary.failures.len() as u64) < max);
        let seeds = if goes_on(&report.summary) { report.to_do() } else { Vec::new() };
        let hung = self.pool.run(seeds.into_iter().flatten(), run, |seed| {
            report.summary.add(seed);
            bar.set_position(report.summary.done.len());
            bar.set_message(report.summary.found());
            if clock.is_due() {
                report.summary.wall = clock.wall();
                saved = self.save(&report);
            }
            saved.is_ok() && goes_on(&report.summary)
        });
        bar.finish_and_clear();
        saved?;
        report.summary.hung.extend(hung);
        report.summary.sort();
        report.summary.wall = clock.wall();
        self.save(&report)?;
        Ok(report.summary)
    }

    /// The report to go on with. A file that cannot be written is an error now, not after the sweep.
    fn begin(&self) -> Result<ReportFile, ReportError> {
        let sweep = Sweep::new(self.seeds.clone(), self.cluster, self.twice);
        let shard = self.shard.unwrap_or(Shard::WHOLE);
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

    /// Shown only where a terminal watches.
    fn progress_bar(&self, report: &ReportFile) -> ProgressBar {
        let watched = std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let to_do: u64 = report.to_do().iter().map(|range| range.end - range.start).sum();
        let bar = ProgressBar::with_draw_target(Some(report.summary.done.len() + to_do), target);
        let style =
            ProgressStyle::with_template("{bar:24} {pos}/{len} seeds, {rate} a second, {eta} left; {msg}");
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            let _ = write!(text, "{:.0}", state.per_sec());
        };
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        bar
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
            report.failure = Some(Failure {
                property: "Determinism".to_owned(),
                detail: format!("trace hash {:016x}, then {:016x}", report.trace_hash, again.trace_hash),
                step: report.counters.steps,
                at: report.counters.virtual_nanos,
            });
        }
    }
    report
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
