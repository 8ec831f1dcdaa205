//! `cargo fuzzing TARGET`: bytes that were made to be read, then changed at random, are read again. Nothing
//! may panic, nothing may take more memory than its bytes account for, and what is accepted must be what was
//! written.
//!
//! Unlike a fuzzer that is led by coverage it needs neither another compiler nor a corpus, and the same seed
//! makes the same bytes on every machine, so that it can run in CI for a fixed number of cases. A failure
//! names its case, and the one command that runs it again.

mod commands;
mod frames;
mod log;
mod memory;
mod mutate;
mod rng;

use clap::{Parser, ValueEnum};
use rng::Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Changes well-formed bytes at random and reads them again.
#[derive(Parser, Debug)]
struct Cli {
    /// What is read
    target: Target,
    /// How many cases
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// What they are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first case
    #[arg(long, default_value_t = 0)]
    first: u64,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Target {
    /// What members send one another
    Frames,
    /// What clients send, what they are answered, and snapshots of the applying side
    Commands,
    /// The durable log, in a directory that is damaged
    Log,
}

impl Target {
    /// Runs one case, which panics where something is wrong, and says what became of the bytes.
    fn case(self) -> fn(&mut Rng) -> &'static str {
        match self {
            Self::Frames => frames::case,
            Self::Commands => commands::case,
            Self::Log => log::case,
        }
    }
}

fn main() -> ExitCode {
    let Cli { target, cases, seed, first } = Cli::parse();
    let name = target.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let run = target.case();
    let mut ends = BTreeMap::<_, u64>::new();
    for case in first..first.saturating_add(cases) {
        match catch_unwind(AssertUnwindSafe(|| run(&mut Rng::of(seed, case)))) {
            Ok(end) => *ends.entry(end).or_default() += 1,
            Err(_) => {
                eprintln!("{name}: case {case} of seed {seed} failed; to run it again:");
                eprintln!("  cargo fuzzing {name} --seed {seed} --first {case} --cases 1");
                return ExitCode::FAILURE;
            }
        }
    }
    let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    println!("{name}: {cases} cases of seed {seed}: {}", ends.join(", "));
    ExitCode::SUCCESS
}
