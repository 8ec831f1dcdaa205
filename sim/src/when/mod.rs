//! When a failure became likely, and when inevitable: the failing run is forked at points of its past, with
//! another luck from there on, and it is counted how many of the forks fail in the same way.
//!
//! A fork is the same scenario up to a step. From then on its network, disks and hosts draw from other
//! streams ([`Fork`]): latencies, losses, how long syncs take and what of them a crash leaves. Faults,
//! operations and what clients ask stay what they are, and so do the members' own chances, their election
//! timeouts.
//!
//! A fork fails if it violates the same property within [`HORIZON`] times as many steps as the run itself:
//! what comes later is another failure.
//!
//! Forks say where to look: a step after which all of them fail, and before which few do, is where the
//! failure was made, however much later it was seen.

#[cfg(test)]
mod tests;

use crate::report::{Failure, Report};
use crate::scenario::{Fork, Scenario, ScenarioError};
use crate::stream::Stream;
use std::fmt;
use std::ops::RangeInclusive;

/// How much longer than the failing run, in steps, a fork is watched.
pub const HORIZON: u64 = 2;

/// How many of the steps are shown in which a failure became inevitable, at most.
pub const SHOWN: u64 = 12;

/// How long a bar is that stands for all forks.
const TENTHS: u64 = 10;

/// How much is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// How many forks at each point.
    pub forks: u32,
    /// How many points, at most.
    pub points: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { forks: 32, points: 16 }
    }
}

/// How likely a failure was from points of its past on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct When {
    /// The failure of the run that was forked.
    pub failure: Failure,
    /// How many forks there are at each point.
    pub forks: u32,
    /// The points, in the order of their steps.
    pub points: Vec<Point>,
}

/// A point at which a run was forked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// How many steps were the same.
    pub step: u64,
    /// How many forks violated the same property in time.
    pub failed: u32,
    /// How many violated another property in that time.
    pub otherwise: u32,
}

/// Where a failure became inevitable, as far as the forks tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inevitable {
    /// The last point from which some fork did not fail; none if all forks of all points failed.
    pub before: Option<Point>,
    /// The first point from which on all forks of all points failed.
    pub from: Point,
}

impl When {
    /// Where the failure became inevitable; none where forks of the last point still escape it.
    pub fn inevitable(&self) -> Option<Inevitable> {
        let escapes = |point: &Point| point.failed < self.forks;
        let first = self.points.iter().rposition(escapes).map_or(0, |last| last + 1);
        let before = first.checked_sub(1).map(|last| self.points[last]);
        Some(Inevitable { before, from: *self.points.get(first)? })
    }

    /// The steps in which it became inevitable: the last [`SHOWN`] of those between the last point that some
    /// fork escaped and the first that none did. None where there are no two such points.
    pub fn decided(&self) -> Option<RangeInclusive<u64>> {
        let Inevitable { before, from } = self.inevitable()?;
        let (last, first) = (before?.step, from.step);
        Some(first.saturating_sub(SHOWN - 1).max(last + 1)..=first)
    }
}

/// A table with a line for each point, and where the failure became inevitable.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forks, points, .. } = self;
        writeln!(f, "{:>8}  {:<10}  forks that fail", "step", "")?;
        for Point { step, failed, otherwise } in points {
            let tenths = u64::from(*failed) * TENTHS / u64::from(*forks);
            let bar: String = (0..TENTHS).map(|tenth| if tenth < tenths { '#' } else { '.' }).collect();
            write!(f, "{step:>8}  {bar}  {failed} of {forks}")?;
            match otherwise {
                0 => writeln!(f)?,
                _ => writeln!(f, ", {otherwise} otherwise")?,
            }
        }
        match self.inevitable() {
            None => f.write_str("\nnever inevitable: forks of the last point escape it"),
            Some(Inevitable { before: None, .. }) => {
                f.write_str("\ninevitable from the beginning: luck has no part in it")
            }
            Some(Inevitable { before: Some(before), from }) => write!(
                f,
                "\ninevitable by step {}: of the forks after step {} fail {} of {forks}, of those after step {} all",
                from.step, before.step, before.failed, from.step
            ),
        }
    }
}

/// Forks a failing run: at its beginning and just before its failure, and then between the two points that
/// differ most, again and again. None where the scenario violates nothing.
///
/// The outcome depends on the scenario and the effort alone. `watch` is shown it after each point.
///
/// # Errors
///
/// Returns what is wrong with a scenario that cannot be run.
pub fn when(
    scenario: &Scenario,
    effort: Effort,
    watch: &mut dyn FnMut(&When),
) -> Result<Option<When>, ScenarioError> {
    when_run_by(scenario, &|scenario, steps| crate::run_for(scenario, steps, None), effort, watch)
}

/// Runs a scenario, and gives up after so many steps.
type Run<'r> = &'r dyn Fn(&Scenario, u64) -> Result<Report, ScenarioError>;

/// The same, where scenarios are run in another way.
pub(crate) fn when_run_by(
    scenario: &Scenario,
    run: Run<'_>,
    effort: Effort,
    watch: &mut dyn FnMut(&When),
) -> Result<Option<When>, ScenarioError> {
    let Some(failure) = run(scenario, u64::MAX)?.failure else { return Ok(None) };
    let last = failure.step.saturating_sub(1);
    let mut when = When { failure, forks: effort.forks, points: Vec::new() };
    let mut next = Some(0);
    while let Some(step) = next {
        let point = fork(scenario, run, &when, step)?;
        when.points.push(point);
        when.points.sort_unstable_by_key(|point| point.step);
        watch(&when);
        next = match when.points.len() {
            1 if last > 0 => Some(last),
            points if points < effort.points => between(&when.points),
            _ => None,
        };
    }
    Ok(Some(when))
}

/// The middle between the two neighbours that differ most, and of several such that are farthest apart.
fn between(points: &[Point]) -> Option<u64> {
    let gap = |pair: &&[Point]| pair[1].step - pair[0].step;
    let differ = |pair: &&[Point]| pair[0].failed.abs_diff(pair[1].failed);
    let gaps = points.windows(2).filter(|pair| gap(pair) > 1).rev();
    let widest = gaps.max_by_key(|pair| (differ(pair), gap(pair)))?;
    Some(widest[0].step + gap(&widest) / 2)
}

/// Forks a run after this step, as often as is asked for.
fn fork(scenario: &Scenario, run: Run<'_>, when: &When, step: u64) -> Result<Point, ScenarioError> {
    let mut seeds = Stream::named(scenario.seed, "forks", step);
    let mut forked = scenario.clone();
    forked.forks.retain(|fork| fork.after_step < step);
    forked.forks.push(Fork { after_step: step, seed: 0 });
    let mut point = Point { step, failed: 0, otherwise: 0 };
    let steps = when.failure.step.saturating_mul(HORIZON);
    for _ in 0..when.forks {
        if let Some(fork) = forked.forks.last_mut() {
            // A number that every reader of JSON reads as it is.
            fork.seed = seeds.number() >> 11;
        }
        match run(&forked, steps)?.failure {
            Some(failure) if failure.property == when.failure.property => point.failed += 1,
            Some(_) => point.otherwise += 1,
            None => {}
        }
    }
    Ok(point)
}
