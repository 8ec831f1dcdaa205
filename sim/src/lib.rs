//! Seeded, simulated Raft clusters.

mod clients;
mod clock;
mod disk;
mod host;
mod network;
mod world;

pub mod check;
pub mod contract;
pub mod hash;
pub mod ledger;
pub mod report;
pub mod scenario;
pub mod stream;
pub mod trace;

use report::Report;
use scenario::{Scenario, ScenarioError};
use world::World;
pub use world::{Tracer, quiet_kernel_panics};

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, None)?.run())
}

/// Runs a scenario and shows every step to `tracer`.
pub fn run_traced(scenario: &Scenario, tracer: Tracer<'_>) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, Some(tracer))?.run())
}
