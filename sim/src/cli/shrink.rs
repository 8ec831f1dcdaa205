//! `kontiki-sim shrink`: the smallest scenario that still fails in the same way.

use super::{Cluster, note, pool, print, time, to_json};
use clap::{ArgGroup, Args};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kontiki_sim::scenario::Scenario;
use kontiki_sim::shrink::{STEPS, Shrunk, shrink_within};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "file"]).required(true))]
pub(crate) struct Shrink {
    /// The seed that fails
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file that fails
    file: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Stop after this time, with the smallest scenario found by then
    #[arg(long, default_value = "60s", value_parser = time::long)]
    shrink_time: Duration,
    /// Print a test that plays the smallest scenario, instead of the scenario alone
    #[arg(long)]
    test: bool,
}

impl Shrink {
    /// Prints the smallest scenario, and beside it what it violates. It still fails, so it ends like any
    /// failing run.
    pub(crate) fn run(self) -> Result<bool, String> {
        let scenario = self.cluster.choose(self.file.as_deref(), self.seed)?;
        scenario.validate().map_err(|error| format!("the scenario is wrong: {error}"))?;
        let Some(shrunk) = shrink_for(&scenario, self.shrink_time) else {
            return Err("this scenario violates nothing, so there is nothing to shrink".to_owned());
        };
        note(&format!("FAILED  {}", shrunk.failure));
        note(&format!(
            "{}, of {}, after {} runs; replay accepts what follows",
            size(&shrunk.scenario),
            size(&scenario),
            shrunk.tried
        ));
        let printed = if self.test { test(&shrunk) } else { to_json(&shrunk.scenario) };
        print(&format!("{printed}\n"));
        Ok(false)
    }
}

/// A test that plays a scenario, and asserts that it holds.
fn test(shrunk: &Shrunk) -> String {
    let Shrunk { scenario, failure, .. } = shrunk;
    let name: String = failure
        .property
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    format!(
        "/// {} was violated at step {}: {}
#[test]
fn {name}_holds_in_seed_{}() {{
    let scenario: kontiki_sim::scenario::Scenario = r#\"{}\"#.parse().expect(\"a scenario\");
    let report = kontiki_sim::run(&scenario).expect(\"it can be run\");
    assert_eq!(report.failure, None);
}}",
        failure.property,
        failure.step,
        failure.detail.replace('\n', " "),
        scenario.seed,
        to_json(scenario)
    )
}

/// How much is in a scenario.
pub(super) fn size(scenario: &Scenario) -> String {
    let Scenario { members, faults, operations, workload, .. } = scenario;
    let clients = workload.clients as usize;
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    [
        count(members.len(), "member"),
        count(faults.len(), "fault"),
        count(operations.len(), "operation"),
        count(clients, "client"),
    ]
    .join(", ")
}

/// How long after its time a single run may go on before it is left behind.
const GRACE: Duration = Duration::from_secs(10);

/// Shrinks for this time at most. A run that does not end is left behind.
pub(super) fn shrink_for(scenario: &Scenario, time: Duration) -> Option<Shrunk> {
    let end = Instant::now() + time;
    let bar = progress_bar();
    let (sender, smaller) = mpsc::channel();
    let search = {
        let (scenario, bar) = (scenario.clone(), bar.clone());
        move || {
            let mut sent: Option<Shrunk> = None;
            shrink_within(&scenario, STEPS, &mut |shrunk| {
                bar.set_position(shrunk.tried);
                if sent.as_ref().is_none_or(|sent| sent.scenario != shrunk.scenario) {
                    bar.set_message(format!(
                        "{}; step {}",
                        size(&shrunk.scenario),
                        HumanCount(shrunk.failure.step)
                    ));
                    sent = Some(shrunk.clone());
                    // None listens where the time was up.
                    let _ = sender.send(shrunk.clone());
                }
                Instant::now() < end
            })
        }
    };
    let thread = thread::Builder::new().stack_size(pool::STACK).spawn(search).expect("a thread can be had");
    let mut smallest = None;
    loop {
        match smaller.recv_timeout((end + GRACE).saturating_duration_since(Instant::now())) {
            Ok(shrunk) => smallest = Some(shrunk),
            Err(RecvTimeoutError::Disconnected) => {
                smallest = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                note("a smaller scenario does not end, and was left behind");
                break;
            }
        }
    }
    bar.finish_and_clear();
    smallest
}

/// Shown only where a terminal watches.
fn progress_bar() -> ProgressBar {
    let watched = std::io::stderr().is_terminal();
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("shrinking: {pos} runs in {elapsed}; {msg}");
    ProgressBar::with_draw_target(None, target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
