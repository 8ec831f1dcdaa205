//! The commands.

mod array;
mod explain;
mod explore;
mod formation;
mod junit;
mod merge;
mod pool;
mod progress;
mod recovery;
mod replay;
mod report;
mod run;
mod shard;
mod shrink;
mod stop;
mod summary;
mod time;
mod trace;
mod when;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kontiki_sim::report::Failure;
use kontiki_sim::scenario::{Profile, Scenario};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Runs seeded Raft clusters under faults and checks them after every step.
#[derive(Parser, Debug)]
#[command(name = "kontiki-sim", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a range of seeds and report what was found
    Run(run::Run),
    /// Put the reports of shards together, as if one program had run all their seeds
    Merge(merge::Merge),
    /// Run groups that form: first members find each other, newcomers join, addresses change
    Formation(formation::Formation),
    /// Give recovery every disk that a crash or damage can leave at the end of a log
    Recovery(recovery::Recovery),
    /// Try every state of a small group, within bounds
    Explore(explore::Explore),
    /// Run one seed, one scenario file, or a member's recorded life again, and show what happens
    Replay(replay::Replay),
    /// Print the scenario of a seed as data, which replay accepts back
    Scenario(Which),
    /// Write a run as data for another program: in TLA+, for TLC to hold it against the specification
    Trace(trace::Trace),
    /// Write a page that shows a run, or a member's recorded life, as a space-time diagram
    Explain(explain::Explain),
    /// Make a failing scenario as small as it can be, and print it as data
    Shrink(shrink::Shrink),
    /// Fork a failing run at points of its past, and show from which on it was likely to fail, and inevitable
    When(when::When),
}

/// Which cluster a seed is drawn for.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// How many members each cluster has
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    members: u32,
    /// What goes wrong
    #[arg(long, value_enum, default_value = "swarm")]
    profile: ProfileArg,
}

#[derive(Args, Debug)]
struct Which {
    /// The seed
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProfileArg {
    /// Nothing goes wrong
    Calm,
    /// The network is bad; no member crashes
    Flaky,
    /// Everything goes wrong
    Chaos,
    /// A random subset of everything goes wrong
    Swarm,
    /// The same with full replicas, whose logs are on disks that are not to be trusted
    Storage,
    /// A swarm of kernels whose hosts wait for the disk, the state machine or both
    Synchronous,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people
    Human,
    /// One JSON object
    Json,
}

impl Cli {
    /// Whether everything held; an error where the call was wrong.
    pub(crate) fn run(self) -> Result<bool, String> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Merge(merge) => merge.run(),
            Command::Formation(formation) => formation.run(),
            Command::Recovery(recovery) => recovery.run(),
            Command::Explore(explore) => explore.run(),
            Command::Replay(replay) => replay.run(),
            Command::Trace(trace) => trace.run(),
            Command::Explain(explain) => explain.run(),
            Command::Shrink(shrink) => shrink.run(),
            Command::When(when) => when.run(),
            Command::Scenario(which) => {
                print(&format!("{}\n", to_json(&which.cluster.draw(which.seed))));
                Ok(true)
            }
        }
    }
}

impl Cluster {
    pub(crate) fn draw(&self, seed: u64) -> Scenario {
        Scenario::draw(seed, self.members, self.profile())
    }

    /// The scenario in a file, or else that of a seed.
    fn choose(&self, file: Option<&Path>, seed: Option<u64>) -> Result<Scenario, String> {
        match (file, seed) {
            (Some(file), _) => load(file),
            (None, Some(seed)) => Ok(self.draw(seed)),
            (None, None) => Err("nothing to run: name a file or --seed".to_owned()),
        }
    }

    fn profile(&self) -> Profile {
        match self.profile {
            ProfileArg::Calm => Profile::Calm,
            ProfileArg::Flaky => Profile::Flaky,
            ProfileArg::Chaos => Profile::Chaos,
            ProfileArg::Swarm => Profile::Swarm,
            ProfileArg::Storage => Profile::Storage,
            ProfileArg::Synchronous => Profile::Synchronous,
        }
    }

    /// The one command that does something with a seed again.
    pub(crate) fn command(&self, verb: &str, seed: u64) -> String {
        let mut command = format!("cargo sim {verb} --seed {seed}");
        if self.members != 5 {
            command += &format!(" --members {}", self.members);
        }
        if self.profile() != Profile::Swarm {
            command += &format!(" --profile {}", self.profile());
        }
        command
    }

    /// The commands that tell more of a failure, by their names.
    fn commands_for(&self, seed: u64, failure: &Failure) -> [(&'static str, String); 5] {
        let mut trace = format!("{} --trace --from {}", self.command("replay", seed), failure.first_step());
        let members: Vec<_> = failure.members().iter().map(ToString::to_string).collect();
        if !members.is_empty() {
            trace += &format!(" --member {}", members.join(","));
        }
        let command = |verb| self.command(verb, seed);
        [
            ("replay", command("replay")),
            ("trace", trace),
            ("shrink", command("shrink")),
            ("explain", command("explain")),
            ("when", command("when")),
        ]
    }
}

/// Writes to the standard output. Its reader may have gone, which is no failure of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to the error stream, which may be closed as well.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn to_json(scenario: &Scenario) -> String {
    serde_json::to_string_pretty(scenario).expect("a scenario is plain data")
}

/// Saves a scenario where its replay can find it.
fn save(scenario: &Scenario, dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join(format!("seed-{}.json", scenario.seed));
    let wrong =
        |error| format!("cannot write {}: {error}; name a directory that can be written to", path.display());
    std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, to_json(scenario))).map_err(wrong)?;
    Ok(path)
}

/// Reads a scenario from a file, which may have been edited by hand.
fn load(path: &Path) -> Result<Scenario, String> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        format!(
            "cannot read {}: {error}; name a file that `scenario`, `run --out` or `explore` has written, or a recording",
            path.display()
        )
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Scenario, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "{} is no scenario: {error}; compare it with `cargo sim scenario --seed 1`; nor does it begin like a recording",
            path.display()
        )
    })
}
