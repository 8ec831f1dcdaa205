//! `kontiki-sim replay`: one run again, with everything to be seen.

use super::Cluster;
use clap::{Args, ValueEnum};
use kontiki_sim::report::Report;
use kontiki_sim::scenario::{Scenario, ScenarioError};
use kontiki_sim::trace::{LEGEND, Traced};
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The seed to run again
    #[arg(long, conflicts_with = "file", required_unless_present = "file")]
    seed: Option<u64>,
    /// A scenario file, as written by `scenario` or `run --out`
    file: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Show nothing after this: a time such as 1500ms or 2s, or the number of a step
    #[arg(long, value_parser = until)]
    until: Option<Until>,
    /// Show every step: one line each, or one JSON object each
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "human")]
    trace: Option<Trace>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Trace {
    /// A line for each step
    Human,
    /// A JSON object for each step; docs/trace.md names its fields
    Json,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Step(u64),
    Nanos(u64),
}

/// How many steps are shown where a property was violated and no trace was asked for.
const LAST: usize = 20;

impl Replay {
    pub(crate) fn run(self) -> Result<bool, String> {
        let scenario = self.cluster.choose(self.file.as_deref(), self.seed)?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let report =
            self.play(&scenario, &mut out).map_err(|error| format!("the scenario is wrong: {error}"))?;
        // Whoever stopped reading has seen enough: what cannot be written any more is not missed.
        let _ = self.conclude(&scenario, &report, &mut out).and_then(|()| out.flush());
        Ok(report.failure.is_none())
    }

    /// Runs the scenario, and shows its steps if that was asked for.
    fn play(&self, scenario: &Scenario, out: &mut impl Write) -> Result<Report, ScenarioError> {
        if self.trace == Some(Trace::Human) {
            let _ = writeln!(out, "{LEGEND}");
        }
        let mut reached = 0;
        kontiki_sim::run_traced(scenario, &mut |traced| {
            if let Traced::Step { step, .. } = *traced {
                reached = step;
            }
            let shown = match self.until {
                None => true,
                Some(Until::Step(last)) => reached <= last,
                Some(Until::Nanos(last)) => traced.at() <= last,
            };
            let _ = match self.trace {
                Some(Trace::Human) if shown => writeln!(out, "{}", traced.line()),
                Some(Trace::Json) if shown => writeln!(out, "{}", traced.json()),
                _ => Ok(()),
            };
        })
    }

    /// Says how it ended; beside a trace for machines, only a failure, and elsewhere.
    fn conclude(&self, scenario: &Scenario, report: &Report, out: &mut impl Write) -> std::io::Result<()> {
        let Report { seed, counters, trace_hash, failure } = report;
        match failure {
            Some(failure) if self.trace == Some(Trace::Json) => {
                eprintln!("FAILED  {failure}");
                Ok(())
            }
            Some(failure) => {
                if self.trace.is_none() {
                    writeln!(out, "{LEGEND}\n{}", last_steps(scenario, LAST).join("\n"))?;
                }
                writeln!(out, "FAILED  {failure}")
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

/// The last lines of a run's trace.
pub(super) fn last_steps(scenario: &Scenario, count: usize) -> Vec<String> {
    let mut lines = VecDeque::new();
    let mut keep = |traced: &Traced<'_>| {
        if lines.len() == count {
            lines.pop_front();
        }
        lines.push_back(traced.line());
    };
    // A scenario that cannot be run has no steps.
    let _ = kontiki_sim::run_traced(scenario, &mut keep);
    lines.into()
}

fn until(text: &str) -> Result<Until, String> {
    let wrong =
        || format!("`{text}` is neither a time nor a step; write 1500ms, 2s, or the number of a step");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let span = match &text[digits.len()..] {
        "" => return Ok(Until::Step(number)),
        "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        "us" => Duration::from_micros(number),
        _ => return Err(wrong()),
    };
    u64::try_from(span.as_nanos()).map(Until::Nanos).map_err(|_| wrong())
}
