//! Runs that were watched, and whether a scenario is the same run twice.

use super::journal::Journal;
use super::report::TestError;
use crate::explain::Watcher;
use crate::report::{Failure, Report};
use crate::story::{self, Story};
use crate::trace::Traced;
use crate::world::Tracer;
use std::ops::RangeInclusive;

/// A run, and all that was seen of it.
pub(super) struct Watched {
    pub(super) report: Report,
    /// All of its steps, and what happened between them, one a line.
    pub(super) steps: Vec<String>,
    /// The step that each line is of, or that it comes after.
    numbers: Vec<u64>,
    /// The end of the log, one entry a line.
    pub(super) log: Vec<String>,
    /// How its failure came about, if it fails.
    pub(super) story: Option<Story>,
    /// What its page shows.
    pub(super) watcher: Watcher,
}

impl Watched {
    /// The lines of these steps, and what happened after each.
    pub(super) fn lines_of(&self, steps: RangeInclusive<u64>) -> Vec<String> {
        let lines = self.steps.iter().zip(&self.numbers);
        lines.filter(|(_, number)| steps.contains(number)).map(|(line, _)| line.clone()).collect()
    }

    /// Whether the run violates the same property.
    pub(super) fn fails_as(&self, failure: &Failure) -> bool {
        self.report.failure.as_ref().is_some_and(|it| it.property == failure.property)
    }

    /// Watches a run, which notes what it applies in this journal.
    pub(super) fn of(
        journal: &Journal,
        mut watcher: Watcher,
        run: impl FnOnce(Tracer<'_>) -> Result<Report, TestError>,
    ) -> Result<Self, TestError> {
        let (mut steps, mut numbers, mut reached, mut report) = (Vec::new(), Vec::new(), 0, None);
        let story = story::tell_of(|tell| {
            let mut tracer = |traced: &Traced<'_>| {
                if let Traced::Step { step, .. } = *traced {
                    reached = step;
                }
                if !traced.is_routine() {
                    steps.push(traced.line());
                    numbers.push(reached);
                }
                watcher.note(traced);
                tell(traced);
            };
            let ran = report.insert(run(&mut tracer)?);
            Ok(ran.failure.clone())
        })?;
        let report = report.expect("it was run");
        Ok(Self { report, steps, numbers, log: journal.lines(), story, watcher })
    }
}

/// What usually makes a run another one each time.
const CAUSES: &str = "\
Something in the state machine, the workload or a property depends on more than it is given: the order of a
hash map, a clock, random numbers of another source than `stream`, or what runs share (a static, an Rc). The
scenario was not made smaller, since what fails by chance cannot be told from what holds.";

/// How the runs of a scenario differ, where they do: the first that was run, and two that were watched.
pub(super) fn difference(unwatched: &Report, first: &Watched, second: &Watched) -> Option<String> {
    let is_same =
        |report: &Report| (report.trace_hash, &report.failure) == (unwatched.trace_hash, &unwatched.failure);
    if is_same(&first.report) && is_same(&second.report) {
        return None;
    }
    let how = first_difference(&first.steps, &second.steps).unwrap_or_else(|| {
        let other = if is_same(&first.report) { second } else { first };
        let [one, two] = [unwatched, &other.report].map(end);
        format!("its steps are the same, and what comes of them is not:\n  {one}\nand the next time\n  {two}")
    });
    Some(format!("Seed {} is not the same run twice: {how}\n{CAUSES}", unwatched.seed))
}

/// The first step that is another one in the second run.
fn first_difference(first: &[String], second: &[String]) -> Option<String> {
    let number = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at))?;
    let line =
        |steps: &[String]| steps.get(number).map_or("(the run is over)", |line| line.trim_end()).to_owned();
    Some(format!("the first step that differs is\n  {}\nand the next time\n  {}", line(first), line(second)))
}

/// How a run ended.
fn end(report: &Report) -> String {
    match &report.failure {
        Some(failure) => failure.to_string(),
        None => "nothing fails".to_owned(),
    }
}
