//! `kontiki-sim replay`: one run again, with everything to be seen.

use super::{Cluster, load};
use clap::{Args, ValueEnum};
use kontiki_sim::scenario::Scenario;
use kontiki_sim::trace::{LEGEND, Traced};
use std::collections::VecDeque;
use std::io::Write as _;
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
        let scenario = match (&self.file, self.seed) {
            (Some(file), _) => load(file)?,
            (None, Some(seed)) => self.cluster.draw(seed),
            (None, None) => return Err("nothing to replay: name a file or --seed".to_owned()),
        };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.trace == Some(Trace::Human) {
            let _ = writeln!(out, "{LEGEND}");
        }
        let mut reached = 0;
        let mut show = |traced: &Traced<'_>| {
            let (step, at) = match *traced {
                Traced::Step { step, at, .. } => (step, at),
                Traced::World { at, .. } => (reached, at),
            };
            reached = step;
            let shown = match self.until {
                None => true,
                Some(Until::Step(last)) => step <= last,
                Some(Until::Nanos(last)) => at <= last,
            };
            // Whoever stopped reading has seen enough.
            let _ = match self.trace {
                Some(Trace::Human) if shown => writeln!(out, "{}", traced.line()),
                Some(Trace::Json) if shown => writeln!(out, "{}", traced.json()),
                _ => Ok(()),
            };
        };
        let report = kontiki_sim::run_traced(&scenario, &mut show)
            .map_err(|error| format!("the scenario is wrong: {error}"))?;
        let _ = out.flush();
        drop(out);
        if self.trace == Some(Trace::Json) {
            return Ok(report.failure.is_none());
        }
        match &report.failure {
            None => println!(
                "all properties held: seed {}, {} steps, {} elections, {} commits, trace hash {:016x}",
                report.seed,
                report.counters.steps,
                report.counters.elections,
                report.counters.commits,
                report.trace_hash
            ),
            Some(failure) => {
                if self.trace.is_none() {
                    println!("{LEGEND}");
                    last_steps(&scenario, LAST).iter().for_each(|line| println!("{line}"));
                }
                println!("FAILED  {failure}");
            }
        }
        Ok(report.failure.is_none())
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
