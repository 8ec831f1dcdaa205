//! What a range of seeds has shown, and how it is told.

use super::pool::Hung;
use super::shard::Seeds;
use super::time;
use super::{Cluster, Format, junit, print};
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use kontiki_sim::check::Check as _;
use kontiki_sim::check::bounded_work::BoundedWork;
use kontiki_sim::hash::StableHasher;
use kontiki_sim::reach;
use kontiki_sim::report::{Counters, Failure, Mark, Report};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// How many failures are told in full.
const TOLD: usize = 10;
/// How many ranges of seeds are told; there are several where shards are missing.
const TOLD_RANGES: usize = 4;

/// What a range of seeds has shown.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Summary {
    /// The seeds that have ended.
    pub(super) done: Seeds,
    pub(super) counters: Counters,
    pub(super) trace_hash: u64,
    pub(super) failures: Vec<(u64, Failure)>,
    /// The seeds that did not end.
    pub(super) hung: Vec<Hung>,
    pub(super) wall: Duration,
    /// How much time of cores it took.
    pub(super) processor: Duration,
}

impl Summary {
    /// Adds what a seed has shown.
    pub(super) fn add(&mut self, report: Report) {
        self.done.add(report.seed..report.seed + 1).expect("each seed runs once");
        self.counters.add(&report.counters);
        // A sum, so that the order in which seeds finish does not matter.
        self.trace_hash = self.trace_hash.wrapping_add(StableHasher::combine(report.seed, report.trace_hash));
        if let Some(failure) = report.failure {
            self.failures.push((report.seed, failure));
        }
    }

    /// Adds what other seeds have shown; returns the first that is here already.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), u64> {
        for range in other.done.ranges() {
            self.done.add(range)?;
        }
        self.counters.add(&other.counters);
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
        self.failures.extend(other.failures);
        self.hung.extend(other.hung);
        self.wall = self.wall.saturating_add(other.wall);
        self.processor = self.processor.saturating_add(other.processor);
        self.sort();
        Ok(())
    }

    /// Puts failures into the order of their seeds.
    pub(super) fn sort(&mut self) {
        self.failures.sort_by_key(|(seed, _)| *seed);
        self.hung.sort_by_key(|hung| hung.seed);
    }

    pub(super) fn held(&self) -> bool {
        self.failures.is_empty() && self.hung.is_empty()
    }

    /// Whether these are seeds of a range.
    pub(super) fn is_of(&self, range: &Range<u64>) -> bool {
        self.done.is_within(range)
            && self.failures.iter().all(|(seed, _)| self.done.contains(*seed))
            && self.hung.iter().all(|hung| range.contains(&hung.seed))
    }

    /// What the properties and the marks come to: what this sweep demands of the latter.
    pub(super) fn judge<'s>(&'s self, cluster: &'s Cluster, marks: MarkDemand) -> Verdict<'s> {
        let (counters, profile, members) = (&self.counters, cluster.profile(), cluster.members);
        let missed = match marks {
            MarkDemand::Due => reach::unmet(counters, self.done.len(), profile, members),
            MarkDemand::All => reach::unreached(counters, profile, members),
            MarkDemand::None => Vec::new(),
        };
        Verdict { summary: self, cluster, missed }
    }

    pub(super) fn found(&self) -> String {
        match &self.failures[..] {
            [] if !self.hung.is_empty() => format!("a failure: {}", BoundedWork::NAME),
            [] => "all properties held".to_owned(),
            [(seed, failure)] => format!("1 failure: {} in seed {seed}", failure.property),
            [(seed, failure), rest @ ..] => {
                format!("{} failures, the first: {} in seed {seed}", rest.len() + 1, failure.property)
            }
        }
    }

    /// The seeds that were run, as `run --seeds` takes them.
    pub(super) fn ranges(&self) -> String {
        let ranges: Vec<_> = self.done.ranges().map(|range| format!("{range:?}")).collect();
        match ranges.get(..TOLD_RANGES) {
            Some(told) if ranges.len() > TOLD_RANGES => {
                format!("{}, and {} more ranges", told.join(", "), ranges.len() - TOLD_RANGES)
            }
            _ => ranges.join(", "),
        }
    }

    /// What it comes to, each with its name.
    fn rows(&self) -> [(&'static str, String); 8] {
        let Self { counters, wall, .. } = self;
        let virtual_seconds = counters.virtual_nanos / 1_000_000_000;
        let speed = u128::from(counters.virtual_nanos) / wall.as_nanos().max(1);
        let rate = time::rate(counters.steps, *wall);
        let count = |number: u64| HumanCount(number).to_string();
        [
            ("seeds", self.ranges()),
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
            ("trace hash", format!("{:016x}", self.trace_hash)),
        ]
    }
}

/// Which marks a sweep must reach.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MarkDemand {
    /// Those that so many seeds reach, but for one sweep in a million
    Due,
    /// All that the profile can reach, however few the seeds
    All,
    /// None
    None,
}

/// How the verdict on a sweep is reported.
#[derive(Args, Debug)]
pub(super) struct Reporting {
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    pub(super) format: Format,
    /// Which marks must have been reached
    #[arg(long, value_enum, default_value = "due")]
    pub(super) marks: MarkDemand,
    /// Write a JUnit report to this file as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Reporting {
    /// Prints the verdict, and writes the JUnit report if one is wanted.
    pub(super) fn report(&self, verdict: &Verdict<'_>) -> Result<(), String> {
        if let Some(path) = &self.junit {
            junit::save(verdict, path)?;
        }
        match self.format {
            Format::Human => print(&verdict.tell()),
            Format::Json => print(&format!("{}\n", verdict.json())),
        }
        Ok(())
    }
}

/// A summary, and what it falls short of.
#[derive(Debug)]
pub(super) struct Verdict<'s> {
    pub(super) summary: &'s Summary,
    pub(super) cluster: &'s Cluster,
    /// The marks that it must have reached and has not.
    pub(super) missed: Vec<Mark>,
}

impl Verdict<'_> {
    pub(super) fn held(&self) -> bool {
        self.summary.held() && self.missed.is_empty()
    }

    /// What is wrong with a mark that was missed: it was not reached.
    pub(super) fn missed(&self, mark: Mark) -> String {
        let due = reach::due(mark, self.cluster.profile(), self.cluster.members).unwrap_or_default();
        let (done, due) = (HumanCount(self.summary.done.len()), HumanCount(due));
        format!("mark `{}` was not reached in {done} seeds; it is due in {due}", mark.name())
    }

    /// For people.
    pub(super) fn tell(&self) -> String {
        let Self { summary, cluster, .. } = self;
        let members = match cluster.members {
            1 => "1 member".to_owned(),
            many => format!("{many} members"),
        };
        let mut text = format!(
            "{} seeds of {members}, profile {}: {}\n\n",
            HumanCount(summary.done.len()),
            cluster.profile(),
            summary.found(),
        );
        summary.rows().iter().for_each(|(name, value)| text += &format!("  {name:<14}{value}\n"));
        text += &table("faults", summary.counters.faults());
        text += &table("seen", summary.counters.marks());
        self.tell_failures(&mut text);
        text
    }

    fn tell_failures(&self, text: &mut String) {
        let Self { summary: Summary { failures, hung, .. }, cluster, missed } = self;
        for (seed, failure) in failures.iter().take(TOLD) {
            *text += &format!("\nFAILED  {failure:#}\n");
            for (name, command) in cluster.commands_for(*seed, failure) {
                *text += &format!("  {:<9}{command}\n", format!("{name}:"));
            }
        }
        for hung in hung {
            let replay = cluster.command("replay", hung.seed);
            *text += &format!(
                "\nFAILED  {} in seed {}: {}\n  replay:  {replay}\n",
                BoundedWork::NAME,
                hung.seed,
                hung.detail()
            );
        }
        for mark in missed {
            let (missed, by) = (self.missed(*mark), mark.brought_about_by());
            *text += &format!("\nMISSED  {missed}\n  {by}\n");
        }
        if failures.len() > TOLD {
            *text += &format!("\n... and {} more failures; --format json lists all\n", failures.len() - TOLD);
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { summary, cluster, .. } = self;
        let Summary { done, counters, failures, wall, processor, trace_hash, hung } = summary;
        let missed = self.missed.iter().map(|mark| {
            json!({ "mark": mark.name(), "detail": self.missed(*mark), "by": mark.brought_about_by() })
        });
        let missed: Vec<_> = missed.collect();
        let hung = hung.iter().map(|hung| {
            json!({
                "seed": hung.seed,
                "property": BoundedWork::NAME,
                "detail": hung.detail(),
                "replay": cluster.command("replay", hung.seed),
            })
        });
        let failures: Vec<_> = failures
            .iter()
            .map(|(seed, failure)| {
                let mut told = json!({
                    "seed": seed,
                    "property": failure.property,
                    "detail": failure.detail,
                    "step": failure.step,
                    "parts": failure.parts,
                });
                for (name, command) in cluster.commands_for(*seed, failure) {
                    told[name] = json!(command);
                }
                told
            })
            .chain(hung)
            .collect();
        json!({
            "seeds": done.len(),
            "seed_ranges": done,
            "steps": counters.steps,
            "virtual_seconds": counters.virtual_nanos / 1_000_000_000,
            "wall_seconds": wall.as_secs_f64(),
            "processor_seconds": processor.as_secs_f64(),
            "elections": counters.elections,
            "commits": counters.commits,
            "acknowledged": counters.acknowledged,
            "messages": counters.messages,
            "undecided": counters.undecided,
            "faults": counters.faults(),
            "marks": counters.marks(),
            "trace_hash": format!("{trace_hash:016x}"),
            "failures": failures,
            "marks_missed": missed,
        })
    }
}

/// Names and counts, several to a line.
fn table(title: &str, counts: impl IntoIterator<Item = (&'static str, u64)>) -> String {
    let mut text = String::new();
    let cells: Vec<_> =
        counts.into_iter().map(|(name, count)| format!("{name} {}", HumanCount(count))).collect();
    for (row, cells) in cells.chunks(3).enumerate() {
        let title = if row == 0 { title } else { "" };
        let cells: String = cells.iter().map(|cell| format!("{cell:<33} ")).collect();
        text += &format!("  {title:<14}{}\n", cells.trim_end());
    }
    text
}
