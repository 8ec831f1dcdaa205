//! `kontiki-sim run`: a range of seeds on all cores.

use super::pool::{Hung, Pool};
use super::shrink::{shrink_for, size};
use super::{Cluster, Format, print, save};
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use kontiki_core::time::span;
use kontiki_sim::check::Check as _;
use kontiki_sim::check::bounded_work::BoundedWork;
use kontiki_sim::hash::StableHasher;
use kontiki_sim::report::{Counters, Failure, Report};
use kontiki_sim::story;
use serde_json::{Value, json};
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

/// How many failures are told in full.
const TOLD: usize = 10;

/// What a range of seeds has shown.
struct Summary {
    seeds: u64,
    counters: Counters,
    trace_hash: u64,
    failures: Vec<(u64, Failure)>,
    /// The seed that did not end, where there is one.
    hung: Option<Hung>,
    wall: Duration,
}

impl Run {
    pub(crate) fn run(self) -> Result<bool, String> {
        let summary = self.sweep();
        for (seed, _) in &summary.failures {
            if let Some(dir) = &self.out {
                save(&self.cluster.draw(*seed), dir)?;
            }
        }
        let told = match self.format {
            Format::Human => self.tell(&summary),
            Format::Json => format!("{}\n", self.json(&summary)),
        };
        print(&told);
        Ok(summary.failures.is_empty() && summary.hung.is_none())
    }

    fn sweep(&self) -> Summary {
        let started = Instant::now();
        let bar = self.progress_bar();
        let mut summary = Summary {
            seeds: 0,
            counters: Counters::default(),
            trace_hash: 0,
            failures: Vec::new(),
            hung: None,
            wall: Duration::ZERO,
        };
        let (cluster, twice) = (self.cluster, self.twice);
        let run = move |seed| run_seed(&cluster, seed, twice);
        summary.hung = self.pool.run(self.seeds.clone(), run, |report| {
            summary.add(report);
            bar.set_position(summary.seeds);
            bar.set_message(summary.found());
            self.max_failures.is_none_or(|max| (summary.failures.len() as u64) < max)
        });
        bar.finish_and_clear();
        summary.failures.sort_by_key(|(seed, _)| *seed);
        summary.wall = started.elapsed();
        summary
    }

    /// Shown only where a terminal watches.
    fn progress_bar(&self) -> ProgressBar {
        let watched = std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar =
            ProgressBar::with_draw_target(Some(self.seeds.end.saturating_sub(self.seeds.start)), target);
        let style =
            ProgressStyle::with_template("{bar:24} {pos}/{len} seeds, {rate} a second, {eta} left; {msg}");
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            let _ = write!(text, "{:.0}", state.per_sec());
        };
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        bar
    }

    fn tell(&self, summary: &Summary) -> String {
        let Summary { seeds, counters, failures, wall, trace_hash, .. } = summary;
        let virtual_seconds = counters.virtual_nanos / 1_000_000_000;
        let speed = u128::from(counters.virtual_nanos) / wall.as_nanos().max(1);
        let rate = u128::from(counters.steps) * 1_000 / wall.as_millis().max(1);
        let count = |number: u64| HumanCount(number).to_string();
        let members = match self.cluster.members {
            1 => "1 member".to_owned(),
            many => format!("{many} members"),
        };
        let mut text = format!(
            "{} seeds of {members}, profile {}: {}\n\n",
            count(*seeds),
            self.cluster.profile(),
            summary.found(),
        );
        let rows = [
            ("steps", format!("{}, {} a second", count(counters.steps), count(rate as u64))),
            (
                "virtual time",
                format!(
                    "{} s in {:.1?}, {} times real time",
                    count(virtual_seconds),
                    wall,
                    count(speed as u64)
                ),
            ),
            ("elections", count(counters.elections)),
            (
                "commits",
                format!(
                    "{}, {} acknowledged to clients",
                    count(counters.commits),
                    count(counters.acknowledged)
                ),
            ),
            ("messages", count(counters.messages)),
            ("undecided", format!("{} keys of histories", count(counters.undecided))),
            ("trace hash", format!("{trace_hash:016x}")),
        ];
        rows.iter().for_each(|(name, value)| text += &format!("  {name:<14}{value}\n"));
        text += &table("faults", counters.faults());
        text += &table("seen", counters.marks());
        for (seed, failure) in failures.iter().take(TOLD) {
            let command = |verb| self.cluster.command(verb, *seed);
            text += &format!(
                "\nFAILED  {failure}\n  replay: {}\n  shrink: {}\n",
                command("replay"),
                command("shrink")
            );
        }
        if let Some(hung) = &summary.hung {
            let replay = self.cluster.command("replay", hung.seed);
            text += &format!(
                "\nFAILED  {} in seed {}: {}\n  replay: {replay}\n",
                BoundedWork::NAME,
                hung.seed,
                hung.detail()
            );
        }
        if let Some((seed, _)) = failures.first() {
            text += &format!("\nThe last steps of seed {seed}:\n");
            super::replay::last_steps(&self.cluster.draw(*seed), 12)
                .iter()
                .for_each(|line| text += &format!("{line}\n"));
            text += &self.story(*seed).unwrap_or_default();
        }
        if failures.len() > TOLD {
            text += &format!("\n... and {} more failures; --format json lists all\n", failures.len() - TOLD);
        }
        text
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

    fn json(&self, summary: &Summary) -> Value {
        let Summary { seeds, counters, failures, wall, trace_hash, hung } = summary;
        let hung = hung.map(|hung| {
            json!({
                "seed": hung.seed,
                "property": BoundedWork::NAME,
                "detail": hung.detail(),
                "replay": self.cluster.command("replay", hung.seed),
            })
        });
        let failures: Vec<_> = failures
            .iter()
            .map(|(seed, failure)| {
                json!({
                    "seed": seed,
                    "property": failure.property,
                    "detail": failure.detail,
                    "step": failure.step,
                    "replay": self.cluster.command("replay", *seed),
                })
            })
            .chain(hung)
            .collect();
        json!({
            "seeds": seeds,
            "steps": counters.steps,
            "virtual_seconds": counters.virtual_nanos / 1_000_000_000,
            "wall_seconds": wall.as_secs_f64(),
            "elections": counters.elections,
            "commits": counters.commits,
            "acknowledged": counters.acknowledged,
            "messages": counters.messages,
            "undecided": counters.undecided,
            "faults": counters.faults(),
            "marks": counters.marks(),
            "trace_hash": format!("{trace_hash:016x}"),
            "failures": failures,
        })
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

impl Summary {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.counters.add(&report.counters);
        // A sum, so that the order in which seeds finish does not matter.
        self.trace_hash = self.trace_hash.wrapping_add(StableHasher::combine(report.seed, report.trace_hash));
        if let Some(failure) = report.failure {
            self.failures.push((report.seed, failure));
        }
    }

    fn found(&self) -> String {
        match &self.failures[..] {
            [] if self.hung.is_some() => format!("a failure: {}", BoundedWork::NAME),
            [] => "all properties held".to_owned(),
            [(seed, failure)] => format!("1 failure: {} in seed {seed}", failure.property),
            [(seed, failure), rest @ ..] => {
                format!("{} failures, the first: {} in seed {seed}", rest.len() + 1, failure.property)
            }
        }
    }
}

/// Names and counts, several to a line.
fn table(title: &str, counts: impl IntoIterator<Item = (&'static str, u64)>) -> String {
    let mut text = String::new();
    let cells: Vec<_> =
        counts.into_iter().map(|(name, count)| format!("{name} {}", HumanCount(count))).collect();
    for (row, cells) in cells.chunks(3).enumerate() {
        let title = if row == 0 { title } else { "" };
        let cells: String = cells.iter().map(|cell| format!("{cell:<34}")).collect();
        text += &format!("  {title:<14}{}\n", cells.trim_end());
    }
    text
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
