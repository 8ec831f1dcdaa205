//! A run as a page: a space-time diagram of it, and how it failed, in one file that any browser shows.
//!
//! A [`Diagram`] is data: what happened at each member, which message that arrived is which that was sent,
//! what was pending on disks, what members were asked, and the past of the failure.
//! [`Diagram::to_html`] makes a page of it that needs nothing else.
//!
//! ```
//! use kontiki_sim::explain;
//! use kontiki_sim::scenario::{Profile, Scenario};
//!
//! let mut scenario = Scenario::draw(7, 3, Profile::Swarm);
//! scenario.until_us = Some(500_000);
//! let diagram = explain::run(&scenario)?;
//! assert_eq!((diagram.members.len(), diagram.failure.is_none()), (3, true));
//! assert!(diagram.to_html().starts_with("<!doctype html>"));
//! # Ok::<(), kontiki_sim::scenario::ScenarioError>(())
//! ```

mod diagram;
mod page;
mod recording;
mod traffic;
mod watcher;

pub use diagram::{Clock, Diagram, Event, Explained, Kind, Message, Operation, Span, State, Write};
pub use recording::recordings;
pub use watcher::Watcher;

use crate::explore::{ReplayError, Schedule};
use crate::scenario::{Scenario, ScenarioError};

/// How many steps a diagram shows: the last ones.
pub const STEPS: u64 = 100_000;

/// Runs a scenario, and makes a diagram of its last [`STEPS`] steps.
///
/// # Errors
///
/// If the scenario cannot be run.
pub fn run(scenario: &Scenario) -> Result<Diagram, ScenarioError> {
    let steps = crate::run(scenario)?.counters.steps;
    let mut watcher = watch(scenario, steps);
    let report = crate::run_traced(scenario, &mut |traced| watcher.note(traced))?;
    Ok(watcher.diagram(title(scenario), report.failure))
}

/// Goes the way that an exploration has found, and makes a diagram of it.
///
/// # Errors
///
/// If the way cannot be gone.
pub fn schedule(schedule: &Schedule) -> Result<Diagram, ReplayError> {
    let mut watcher = Watcher::new(schedule.ids());
    let failure = schedule.run_traced(&mut |traced| watcher.note(traced))?;
    let title =
        format!("explored, {}, {} events", counted(schedule.ids().count(), "member"), schedule.path.len());
    Ok(Diagram { clock: Clock::Order, ..watcher.diagram(title, failure) })
}

/// Watches a run of a scenario that takes so many steps.
pub(crate) fn watch(scenario: &Scenario, steps: u64) -> Watcher {
    let slowest = scenario.members.iter().map(|member| member.link_us).max().unwrap_or_default();
    let latency_us = scenario.network.latency_max_us.saturating_add(slowest.saturating_mul(2));
    Watcher::new(scenario.ids())
        .leaving_out(steps.saturating_sub(STEPS))
        .with_latency(latency_us.saturating_add(1).saturating_mul(1_000))
}

/// Which run the one of a scenario is.
pub(crate) fn title(scenario: &Scenario) -> String {
    let Scenario { seed, members, faults, .. } = scenario;
    format!("seed {seed}, {}, {}", counted(members.len(), "member"), counted(faults.len(), "fault"))
}

fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
