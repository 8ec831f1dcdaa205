//! Seeded, simulated Raft clusters: run under faults, checked after every step, and replayed from a number.
//!
//! A [`Scenario`] is drawn from a seed, or written by hand: who is in the cluster, what the network and the
//! disks are like, what clients do, and a list of what goes wrong when. [`run`] plays it in virtual time on
//! one thread, with the kernel of `kontiki-core`, unchanged, in the middle: its messages encoded and decoded
//! as on a real wire, its writes lost in crashes, its clocks drifting. Every property of [`check`] is checked
//! after every step, and when the chaos is over the cluster must make progress.
//!
//! What clients asked and were told makes a [`history`], which is checked by itself, of simulated clusters or
//! real ones.
//!
//! ```
//! use kontiki_sim::scenario::{Fault, Profile, Scenario, Target, TimedFault};
//! use kontiki_core::types::NodeId;
//!
//! // What seed 7 holds for three members, and a crash of our own.
//! let mut scenario = Scenario::draw(7, 3, Profile::Swarm);
//! let member = Target::Member(NodeId::new(1).expect("not zero"));
//! scenario.faults.push(TimedFault {
//!     at_us: 200_000,
//!     for_us: 50_000,
//!     fault: Fault::Crash { member, after_actions: 2 },
//! });
//!
//! let report = kontiki_sim::run(&scenario)?;
//! assert_eq!(report.failure, None);
//! assert!(report.counters.commits > 0);
//! // The same scenario is the same run, step by step, wherever and whenever it is played.
//! assert_eq!(kontiki_sim::run(&scenario)?.trace_hash, report.trace_hash);
//! # Ok::<(), kontiki_sim::scenario::ScenarioError>(())
//! ```
//!
//! [`Test`] brings a state machine of your own into these worlds. A host of your own, around the kernel
//! alone, is driven through the parts of them: [`contract`], [`network`], [`storage`] and [`clock`].
//!
//! The program `kontiki-sim` runs ranges of seeds on all cores: `cargo sim run --seeds 0..1000`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod application;
mod clients;
mod contests;
mod counted;
mod disk;
mod fate;
mod fault;
mod happened;
mod host;
mod late_commands;
mod log_reader;
mod mark;
mod old_messages;
mod operator;
mod part;
mod queue;
mod quiet;
mod registers;
mod store;
mod watched;
mod world;

pub mod check;
pub mod clock;
pub mod conformance;
pub mod contract;
pub mod explain;
pub mod explore;
pub mod formation;
pub mod hash;
pub mod history;
pub mod ledger;
pub mod network;
pub mod reach;
pub mod recording;
pub mod recovery;
pub mod report;
pub mod scenario;
pub mod shrink;
pub mod storage;
pub mod story;
#[cfg(feature = "proptest")]
#[cfg_attr(docsrs, doc(cfg(feature = "proptest")))]
pub mod strategy;
pub mod stream;
pub mod test;
pub mod tla;
pub mod trace;
pub mod when;

pub use quiet::quiet_kernel_panics;
use registers::Registers;
use report::Report;
use scenario::{Scenario, ScenarioError};
pub use test::Test;
pub use world::Tracer;
use world::World;

/// Runs a scenario until its cluster is at rest, or a property is violated.
pub fn run(scenario: &Scenario) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, Registers::new(scenario), None)?.run())
}

/// Runs a scenario and shows every step to `tracer`.
pub fn run_traced(scenario: &Scenario, tracer: Tracer<'_>) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, Registers::new(scenario), Some(tracer))?.run())
}

/// Runs a scenario, and gives up after so many steps: what is violated later is not seen.
pub(crate) fn run_for(
    scenario: &Scenario,
    steps: u64,
    tracer: Option<Tracer<'_>>,
) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, Registers::new(scenario), tracer)?.run_for(steps))
}

/// Runs a scenario, and records what every member lives through: for each, in the order of their ids, its
/// lives one after the other, as [`kontiki_core::record`] keeps them.
pub fn run_recorded(scenario: &Scenario) -> Result<(Report, Vec<Vec<u8>>), ScenarioError> {
    Ok(World::new(scenario, Registers::new(scenario), None)?.run_recorded())
}
