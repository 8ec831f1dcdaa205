//! `kontiki-sim replay`: one run again, or a member's recorded life, with everything to be seen.

use super::{Cluster, note, parse, read};
use clap::{ArgGroup, Args, ValueEnum};
use kontiki_core::record;
use kontiki_core::types::NodeId;
use kontiki_sim::explore::{ReplayError, Schedule};
use kontiki_sim::recording::{self, Replayed};
use kontiki_sim::report::Report;
use kontiki_sim::scenario::{Scenario, ScenarioError};
use kontiki_sim::story;
use kontiki_sim::trace::{LEGEND, Traced};
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "files"]).required(true).multiple(false))]
pub(crate) struct Replay {
    /// The seed to run again
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file, as written by `scenario` or `run --out`; a counterexample of `explore`; or the
    /// recordings of a member, the oldest first
    files: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Show nothing before this: a time such as 1500ms or 2s, or the number of a step
    #[arg(long, value_parser = limit)]
    from: Option<Limit>,
    /// Show nothing after this: a time, or the number of a step
    #[arg(long, value_parser = limit)]
    until: Option<Limit>,
    /// Show only what is about these members: one, or several as in 1,3
    #[arg(long, value_name = "ID", value_parser = member, value_delimiter = ',')]
    member: Vec<NodeId>,
    /// Show every step: one line each, or one JSON object each
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "human")]
    trace: Option<Trace>,
    /// Tell how the failure came about, in about ten lines
    #[arg(long, conflicts_with = "trace")]
    story: bool,
    /// Write down what each member of the simulated cluster lives through: a recording for each in this
    /// directory
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Trace {
    /// A line for each step
    Human,
    /// A JSON object for each step; docs/trace.md names its fields
    Json,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Step(u64),
    Nanos(u64),
}

/// How many steps are shown where a property was violated and no trace was asked for.
const LAST: usize = 20;

impl Replay {
    pub(crate) fn run(self) -> Result<bool, String> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let bytes = self.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?.concat();
        if record::is_recording(&bytes) {
            return self.replay_recordings(&bytes, &mut out);
        }
        if let Some(schedule) = super::explore::schedule_of(&bytes) {
            return self.replay_schedule(&schedule, &mut out);
        }
        let scenario = match (&self.files[..], self.seed) {
            ([file], _) => parse(file, &bytes)?,
            ([], Some(seed)) => self.cluster.draw(seed),
            _ => return Err("only recordings can be replayed several at once: name one scenario".to_owned()),
        };
        if let Some(dir) = &self.record {
            write_recordings(&scenario, dir)?;
        }
        let report =
            self.play(&scenario, &mut out).map_err(|error| format!("the scenario is wrong: {error}"))?;
        // The reader of a pipe may have closed it: the rest of the trace is dropped.
        let _ = self.conclude(&scenario, &report, &mut out).and_then(|()| out.flush());
        Ok(report.failure.is_none())
    }

    /// Runs the scenario, and shows its steps if that was asked for.
    fn play(&self, scenario: &Scenario, out: &mut impl Write) -> Result<Report, ScenarioError> {
        if self.trace == Some(Trace::Human) {
            let _ = writeln!(out, "{LEGEND}");
        }
        let mut reached = 0;
        kontiki_sim::run_traced(scenario, &mut |traced| self.show(traced, &mut reached, out))
    }

    /// Lives recorded lives again. Whether they were all the same.
    fn replay_recordings(&self, bytes: &[u8], out: &mut impl Write) -> Result<bool, String> {
        if self.record.is_some() {
            return Err("what was recorded is not recorded again: leave --record out".to_owned());
        }
        if self.trace == Some(Trace::Human) {
            let _ = writeln!(out, "{LEGEND}");
        }
        let mut reached = 0;
        let replayed = recording::replay(bytes, &mut |traced| self.show(traced, &mut reached, out))
            .map_err(|error| error.to_string())?;
        let wrong = replayed.iter().filter(|one| !one.held()).count();
        for (one, number) in replayed.iter().zip(1..) {
            // Beside a trace for machines, only what is wrong, and elsewhere.
            if self.trace != Some(Trace::Json) {
                let _ = writeln!(out, "recording {number} of {}: {one}", replayed.len());
            } else if !one.held() {
                note(&format!("recording {number} of {}: {one}", replayed.len()));
            }
        }
        if self.trace != Some(Trace::Json) {
            let _ = writeln!(out, "{}", verdict(&replayed, wrong));
        }
        let _ = out.flush();
        Ok(wrong == 0)
    }

    /// Goes the way again that an exploration has found. Whether it violates nothing.
    fn replay_schedule(&self, schedule: &Schedule, out: &mut impl Write) -> Result<bool, String> {
        if self.record.is_some() {
            return Err("an exploration has no clocks to record: leave --record out".to_owned());
        }
        let wrong = |error: ReplayError| error.to_string();
        if self.trace == Some(Trace::Human) {
            let _ = writeln!(out, "{LEGEND}");
        }
        let mut reached = 0;
        let failure =
            schedule.run_traced(&mut |traced| self.show(traced, &mut reached, out)).map_err(wrong)?;
        if self.story
            && let Some(story) = schedule.story().map_err(wrong)?
        {
            let _ = writeln!(out, "{story}\n");
        }
        match &failure {
            Some(failure) if self.trace == Some(Trace::Json) => note(&format!("FAILED  {failure:#}")),
            Some(failure) => drop(writeln!(out, "FAILED  {failure:#}")),
            None if self.trace == Some(Trace::Json) => {}
            None => drop(writeln!(out, "all properties held: {} events", schedule.path.len())),
        }
        let _ = out.flush();
        Ok(failure.is_none())
    }

    /// Shows what happened, if it shall be seen. `reached` is the last step so far.
    fn show(&self, traced: &Traced<'_>, reached: &mut u64, out: &mut impl Write) {
        if let Traced::Step { step, .. } = *traced {
            *reached = step;
        }
        let has_begun = match self.from {
            None => true,
            Some(Limit::Step(first)) => *reached >= first,
            Some(Limit::Nanos(first)) => traced.at() >= first,
        };
        let is_over = match self.until {
            None => false,
            Some(Limit::Step(last)) => *reached > last,
            Some(Limit::Nanos(last)) => traced.at() > last,
        };
        let shown = has_begun
            && !is_over
            && (self.member.is_empty() || self.member.iter().any(|id| traced.concerns(*id)));
        let _ = match self.trace {
            Some(Trace::Human) if shown && !traced.is_routine() => writeln!(out, "{}", traced.line()),
            Some(Trace::Json) if shown => writeln!(out, "{}", traced.json()),
            _ => Ok(()),
        };
    }

    /// Says how it ended; beside a trace for machines, only a failure, and elsewhere.
    fn conclude(&self, scenario: &Scenario, report: &Report, out: &mut impl Write) -> std::io::Result<()> {
        let Report { seed, counters, trace_hash, failure, .. } = report;
        match failure {
            Some(failure) if self.trace == Some(Trace::Json) => {
                note(&format!("FAILED  {failure:#}"));
                Ok(())
            }
            Some(failure) => {
                if self.story
                    && let Ok(Some(story)) = story::tell(scenario)
                {
                    return writeln!(out, "{story}\nFAILED  {failure}");
                } else if self.trace.is_none() {
                    writeln!(out, "{LEGEND}\n{}", last_steps(scenario, LAST).join("\n"))?;
                }
                writeln!(out, "FAILED  {failure:#}")
            }
            None if self.trace == Some(Trace::Json) => Ok(()),
            None => writeln!(
                out,
                "all properties held: seed {seed}, {} steps, {} elections, {} commits, trace hash {trace_hash:016x}",
                counters.steps, counters.elections, counters.commits,
            ),
        }
    }
}

fn verdict(replayed: &[Replayed], wrong: usize) -> String {
    let steps: u64 = replayed.iter().map(|one| one.same).sum();
    match wrong {
        0 => format!("every action was the same: {steps} steps in {} recordings", replayed.len()),
        _ => format!("FAILED  {wrong} of {} recordings; {steps} steps were the same", replayed.len()),
    }
}

fn write_recordings(scenario: &Scenario, dir: &Path) -> Result<(), String> {
    let (_, lives) =
        kontiki_sim::run_recorded(scenario).map_err(|error| format!("the scenario is wrong: {error}"))?;
    for (bytes, number) in lives.iter().zip(1..) {
        let path = dir.join(format!("member-{number}.rec"));
        let wrong = |error| {
            format!("cannot write {}: {error}; name a directory that can be written to", path.display())
        };
        std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, bytes)).map_err(wrong)?;
    }
    Ok(())
}

/// The last lines of a run's trace.
pub(super) fn last_steps(scenario: &Scenario, count: usize) -> Vec<String> {
    let mut lines = VecDeque::new();
    let mut keep = |traced: &Traced<'_>| {
        if traced.is_routine() {
            return;
        }
        if lines.len() == count {
            lines.pop_front();
        }
        lines.push_back(traced.line());
    };
    // A scenario that cannot be run has no steps.
    let _ = kontiki_sim::run_traced(scenario, &mut keep);
    lines.into()
}

fn member(text: &str) -> Result<NodeId, String> {
    let id = text.parse().ok().and_then(NodeId::new);
    id.ok_or_else(|| format!("`{text}` is no member; members are numbered from 1"))
}

fn limit(text: &str) -> Result<Limit, String> {
    let wrong =
        || format!("`{text}` is neither a time nor a step; write 1500ms, 2s, or the number of a step");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let span = match &text[digits.len()..] {
        "" => return Ok(Limit::Step(number)),
        "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        "us" => Duration::from_micros(number),
        _ => return Err(wrong()),
    };
    u64::try_from(span.as_nanos()).map(Limit::Nanos).map_err(|_| wrong())
}
