//! The seeds that a mutant must survive.

use crate::Failure;
use crate::workshop::Workshop;
use kontiki_tests::mutant::CHOSEN;
use kontiki_tests::workspace::output_within;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

/// A kind of cluster, or a command of the simulator.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    arguments: &'static [&'static str],
    /// How many seeds of it are run; none where it has none.
    pub(crate) seeds: u64,
}

/// 2,000 seeds, and a sample of all disks that a crash can leave.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "swarm, 5 members", arguments: &["run", "--progress", "0s"], seeds: 600 },
    Stage { name: "swarm, 3 members", arguments: &["run", "--members", "3", "--progress", "0s"], seeds: 300 },
    Stage {
        name: "storage, 3 members",
        arguments: &["run", "--members", "3", "--profile", "storage", "--progress", "0s"],
        seeds: 400,
    },
    Stage { name: "formation", arguments: &["formation"], seeds: 400 },
    Stage {
        name: "synchronous, 3 members",
        arguments: &["run", "--members", "3", "--profile", "synchronous", "--progress", "0s"],
        seeds: 100,
    },
    Stage {
        name: "chaos, 3 members",
        arguments: &["run", "--members", "3", "--profile", "chaos", "--progress", "0s"],
        seeds: 100,
    },
    Stage {
        name: "storage, 5 members",
        arguments: &["run", "--profile", "storage", "--progress", "0s"],
        seeds: 100,
    },
    Stage {
        name: "recovery",
        arguments: &["recovery", "--tier", "crash", "--sample", "1/20011", "--progress", "0s"],
        seeds: 0,
    },
];

/// How many seeds are run by one process.
const BATCH: u64 = 10;
/// How many batches of each stage are run before the tests, which are quicker than all that follow.
const SOONER: usize = 3;
/// How much time of a core one seed may take: far more than any takes without a mutant.
const SEED_LIMIT: &str = "10s";
/// How long a process may last that waits and takes no time of a core, on a machine that is busy otherwise.
const LIMIT: Duration = Duration::from_secs(3600);

/// Some seeds of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) stage: &'static Stage,
    seeds: Range<u64>,
}

/// What a batch does where no mutant is on.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) batch: Batch,
    /// What tells its runs from others.
    pub(crate) trace: String,
    /// The mutants that would make a difference somewhere in it.
    pub(crate) reached: BTreeSet<u32>,
}

/// What a run has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// All properties held.
    Held { trace: String },
    /// This property was violated, with this seed.
    Violated { property: String, seed: Option<u64> },
    /// The process ended without a report, or was stopped: it had too much memory or time.
    Died,
}

/// The batches, a few of each stage before more of the first: what one stage alone can find is found soon.
pub(crate) fn batches() -> Vec<Batch> {
    let most = STAGES.iter().map(|stage| stage.seeds.div_ceil(BATCH)).max().unwrap_or_default();
    let mut batches = Vec::new();
    for number in 0..most {
        for stage in STAGES {
            let seeds = number * BATCH..((number + 1) * BATCH).min(stage.seeds);
            if !seeds.is_empty() || (stage.seeds == 0 && number == 0) {
                batches.push(Batch { stage, seeds });
            }
        }
    }
    batches
}

/// The batches that are run before the tests, and those after them.
pub(crate) fn sooner_and_later(recorded: &[Recorded]) -> (&[Recorded], &[Recorded]) {
    recorded.split_at(recorded.len().min(SOONER * STAGES.len()))
}

impl Batch {
    fn give(&self, command: &mut Command) {
        command.args(self.stage.arguments).args(["--jobs", "1", "--format", "json", "--max-failures", "1"]);
        if self.stage.seeds > 0 {
            let seeds = format!("{}..{}", self.seeds.start, self.seeds.end);
            command.args(["--seeds", &seeds, "--seed-timeout", SEED_LIMIT]);
        }
    }

    /// Runs it with a mutant on.
    pub(crate) fn run(&self, workshop: &Workshop, switch: u32) -> Result<Ran, Failure> {
        let mut simulator = workshop.simulator();
        simulator.env(CHOSEN, switch.to_string());
        self.run_by(&mut simulator)
    }

    /// Runs it without mutants, in the workspace as it is.
    pub(crate) fn run_plain(&self, workshop: &Workshop) -> Result<Ran, Failure> {
        self.run_by(&mut workshop.plain_simulator())
    }

    fn run_by(&self, simulator: &mut Command) -> Result<Ran, Failure> {
        self.give(simulator);
        simulator.stderr(std::process::Stdio::null());
        let printed = match output_within(simulator, LIMIT) {
            Ok(printed) => printed,
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Ran::Died),
            Err(error) => return Err(error.into()),
        };
        let Ok(mut report) = serde_json::from_str::<Value>(&printed) else { return Ok(Ran::Died) };
        if let Some(first) = report["failures"].as_array().and_then(|failures| failures.first()) {
            let property = first["property"].as_str().unwrap_or(self.stage.name).to_owned();
            return Ok(Ran::Violated { property, seed: first["seed"].as_u64() });
        }
        if let Some(report) = report.as_object_mut() {
            report.retain(|field, _| !field.ends_with("_seconds"));
        }
        Ok(Ran::Held { trace: report["trace_hash"].as_str().map_or(report.to_string(), str::to_owned) })
    }

    /// Runs it with no mutant on, and records which would make a difference.
    pub(crate) fn record(self, workshop: &Workshop) -> Result<Recorded, Failure> {
        let file = workshop.place.join("reached");
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut simulator = workshop.simulator();
        simulator.env(CHOSEN, "record").env("KONTIKI_MUTANT_REACHED", &file);
        let Ran::Held { trace } = self.run_by(&mut simulator)? else {
            return Err(
                format!("{}: {:?} does not hold without a mutant", self.stage.name, self.seeds).into()
            );
        };
        Ok(Recorded { reached: read_reached(&file)?, batch: self, trace })
    }

    pub(crate) fn words(&self) -> String {
        if self.stage.seeds == 0 {
            return self.stage.name.to_owned();
        }
        format!("{}, seeds {}..{}", self.stage.name, self.seeds.start, self.seeds.end)
    }
}

/// The mutants that a recording names.
pub(crate) fn read_reached(file: &std::path::Path) -> Result<BTreeSet<u32>, Failure> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(BTreeSet::new()) };
    Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
}
