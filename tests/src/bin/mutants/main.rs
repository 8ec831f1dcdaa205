//! `cargo mutate`: changes `core` in thousands of small ways, and sees whether a seed or a test notices each.
//!
//! All mutants are compiled into one copy of the workspace. Each place that a mutant changes becomes a call
//! of a function that does what stood there, unless the mutant is on; the environment says which is
//! (`mutant/switch.rs`). With none on, the copy runs as the workspace does: the hashes of traces are compared
//! before anything else. What does not compile that way is left out and counted.
//!
//! Each batch of seeds is first run to record which mutants would make a difference in it: a mutant that
//! makes none in a batch cannot fail it, and is not run there. Then each mutant is on in a process of its
//! own, batch by batch, until a property is violated. Those that survive the first batches are run through
//! the tests that they make a difference in, and those that survive these through all other batches.
//!
//! `docs/mutants.md` has the counts and the survivors, with the reason why each may survive.

mod find;
mod plan;
mod results;
mod source;
mod suite;
mod workshop;

use clap::Parser;
use kontiki_tests::workspace;
use plan::{Batch, Ran, Recorded};
use results::{Effect, Fate, Report, Results};
use source::{Numbered, Sources};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use suite::Suite;
use workshop::Workshop;

/// Changes `core` in many small ways, and sees whether a seed or a test notices each.
#[derive(Parser, Debug)]
struct Cli {
    /// Only mutants whose name contains this
    name: Option<String>,
    /// Mutate only files of `core/src` whose path contains this
    #[arg(long, default_value = "")]
    file: String,
    /// Only every N-th mutant, as a sample
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// How many mutants to run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Take over what was killed before the sources changed, and run only what survived
    #[arg(long)]
    keep_killed: bool,
    /// Write the counts and the survivors into docs/mutants.md
    #[arg(long)]
    write: bool,
    /// Only list the mutants
    #[arg(long, conflicts_with = "write")]
    list: bool,
    /// Only see that the mutants of one small file compile, change nothing while none is on, and are killed
    #[arg(long, conflicts_with_all = ["write", "list", "name", "file"])]
    smoke: bool,
}

/// More unexplained survivors of a hundred mutants than this are a failure.
const UNEXPLAINED_PERCENT: usize = 5;

/// What `--smoke` mutates.
const SMOKE_FILE: &str = "core/src/quorum.rs";
/// The mutants of it that must be killed.
const SMOKE: &[&str] = &[
    "majority: `voters.len() / 2 + 1` `-`",
    "tally: `yes >= majority(voters)` `<`",
    "tally: `no > voters.len() - majority(voters)` `<`",
    "reached_of: `beyond < majority(voters)` `true`",
];

/// An odd number, whose multiples are spread over all numbers.
const SCATTER: u32 = 0x9E37_79B1;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    workspace::exit_code(Cli::parse().run())
}

impl Cli {
    fn run(&self) -> Result<bool, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tests have no workspace")?;
        let sources = Sources::read(root, if self.smoke { SMOKE_FILE } else { &self.file })?;
        let mutants = sources.mutants();
        if self.list {
            mutants.iter().for_each(|mutant| println!("{:>5} {}", mutant.switch, mutant.place()));
            return Ok(true);
        }
        // A place of its own for either: their copies differ.
        let place = if self.smoke { "mutants-smoke" } else { "mutants" };
        let workshop = Workshop::open(root, place, !self.smoke)?;
        let places = workshop.build(&sources)?;
        let left_out: BTreeSet<u32> = places.into_iter().flat_map(|first| sources.switches(first)).collect();
        println!("{} mutants, of which {} do not compile", mutants.len(), left_out.len());
        same_as_without(&workshop)?;
        if self.smoke {
            return smoke(&workshop, &mutants, &left_out);
        }
        let report = Report::open(root)?;
        let file = workshop.place.join("results.json");
        let mut results = Results::open(file, sources.digest(), self.keep_killed)?;
        let compiled = mutants.iter().filter(|mutant| !left_out.contains(&mutant.switch));
        let named =
            compiled.filter(|mutant| self.name.as_ref().is_none_or(|name| mutant.name().contains(name)));
        let chosen: Vec<_> = named.step_by(usize::from(self.every)).collect();
        self.try_all(&workshop, &chosen, &mut results)?;
        let (counts, unexplained, tried) = report.counts(&mutants, &left_out, &results);
        for mutant in &chosen {
            if let Some(fate @ Fate::Survived(_)) = results.of(mutant)
                && !report.explains(mutant)
            {
                println!("{}  {}", fate.words(), mutant.place());
            }
        }
        print!("{counts}");
        if self.write {
            report.write(&counts, &mutants, &results)?;
        }
        Ok(unexplained * 100 <= tried * UNEXPLAINED_PERCENT)
    }

    /// Finds out what becomes of each mutant that nothing is known of. The tests are built meanwhile.
    fn try_all(
        &self,
        workshop: &Workshop,
        chosen: &[&Numbered],
        results: &mut Results,
    ) -> Result<(), Failure> {
        let mut open: Vec<_> = chosen.iter().filter(|mutant| results.of(mutant).is_none()).copied().collect();
        // From all files alike, so that what is known is a sample wherever this is stopped.
        open.sort_by_key(|mutant| mutant.switch.wrapping_mul(SCATTER));
        println!(
            "{} are chosen, of which {} have been tried before",
            chosen.len(),
            chosen.len() - open.len()
        );
        if open.is_empty() {
            return Ok(());
        }
        let batches = plan::batches().into_iter().map(|batch| batch.record(workshop));
        let recorded = batches.collect::<Result<Vec<_>, _>>()?;
        println!("recorded what {} batches of seeds reach", recorded.len());
        let (sooner, later) = plan::sooner_and_later(&recorded);
        let results = Mutex::new(results);
        thread::scope(|scope| {
            let suite = scope.spawn(|| Suite::record(workshop));
            let mut tries: Vec<_> = open.into_iter().map(Try::new).collect();
            self.go_on(&mut tries, &results, |one| one.killed_by_seed(workshop, sooner))?;
            let suite = suite.join().map_err(|_| "a thread has panicked")??;
            println!("recorded what {} tests reach; too slow: {}", suite.len(), suite.slow.join(", "));
            println!("not passed without a mutant: {}", suite.failing.join(", "));
            self.go_on(&mut tries, &results, |one| {
                Ok(suite.killer(one.mutant.switch)?.map(|name| Fate::Test { name }))
            })?;
            self.go_on(&mut tries, &results, |one| {
                let killed = one.killed_by_seed(workshop, later)?;
                Ok(Some(killed.unwrap_or(Fate::Survived(one.effect))))
            })
        })
    }

    /// Goes on with each mutant, some at the same time, and keeps those whose fate is still open.
    fn go_on(
        &self,
        tries: &mut Vec<Try<'_>>,
        results: &Mutex<&mut Results>,
        step: impl Fn(&mut Try<'_>) -> Result<Option<Fate>, Failure> + Sync,
    ) -> Result<(), Failure> {
        let (next, open) = (Mutex::new(std::mem::take(tries).into_iter()), Mutex::new(Vec::new()));
        let work = || -> Result<(), Failure> {
            loop {
                let Some(mut one) = next.lock().map_err(|_| "a thread has panicked")?.next() else {
                    return Ok(());
                };
                match step(&mut one)? {
                    None => open.lock().map_err(|_| "a thread has panicked")?.push(one),
                    Some(fate) => {
                        println!("{:<60}  {}", fate.words(), one.mutant.place());
                        results.lock().map_err(|_| "a thread has panicked")?.add(one.mutant, fate)?;
                    }
                }
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked")?)
        })?;
        *tries = open.into_inner().map_err(|_| "a thread has panicked")?;
        tries.sort_by_key(|one| one.mutant.switch.wrapping_mul(SCATTER));
        println!("{} are left", tries.len());
        Ok(())
    }
}

impl Numbered {
    /// Its name, with the line and the column.
    fn place(&self) -> String {
        format!("{}:{}: {}", self.mutant.line, self.mutant.column, self.name())
    }
}

/// The first batch of each kind of cluster.
fn first_batches() -> impl Iterator<Item = Batch> {
    plan::batches().into_iter().take(plan::STAGES.len()).filter(|batch| batch.stage.seeds > 0)
}

/// Sees that the copy runs as the workspace does while no mutant is on: the places themselves change nothing.
fn same_as_without(workshop: &Workshop) -> Result<(), Failure> {
    workshop.build_plain()?;
    for batch in first_batches() {
        let (plain, copy) = (batch.run_plain(workshop)?, batch.run(workshop, 0)?);
        if plain != copy || !matches!(plain, Ran::Held { .. }) {
            return Err(format!("{}: {plain:?} in the workspace, {copy:?} in the copy", batch.words()).into());
        }
    }
    println!("with none on, the traces are those of the workspace");
    Ok(())
}

/// A mutant whose fate is open.
struct Try<'m> {
    mutant: &'m Numbered,
    /// How far its difference has come in the seeds so far.
    effect: Effect,
}

impl<'m> Try<'m> {
    fn new(mutant: &'m Numbered) -> Self {
        Self { mutant, effect: Effect::NotReached }
    }

    /// The first batch with which the mutant violates a property, of those that it makes a difference in.
    fn killed_by_seed(
        &mut self,
        workshop: &Workshop,
        recorded: &[Recorded],
    ) -> Result<Option<Fate>, Failure> {
        let switch = self.mutant.switch;
        for Recorded { batch, trace: plain, .. } in
            recorded.iter().filter(|batch| batch.reached.contains(&switch))
        {
            let (property, place) = match batch.run(workshop, switch)? {
                Ran::Held { trace } => {
                    let effect = if trace == *plain { Effect::NoTrace } else { Effect::Traces };
                    self.effect = effect.max(self.effect);
                    continue;
                }
                Ran::Violated { property, seed: Some(seed) } => {
                    (property, format!("{}, seed {seed}", batch.stage.name))
                }
                Ran::Violated { property, seed: None } => (property, batch.words()),
                Ran::Died => ("the process died, or did not end".to_owned(), batch.words()),
            };
            return Ok(Some(Fate::Seed { property, place }));
        }
        Ok(None)
    }
}

/// Sees that some mutants of a small file are killed.
fn smoke(workshop: &Workshop, mutants: &[Numbered], left_out: &BTreeSet<u32>) -> Result<bool, Failure> {
    let mut all_killed = true;
    for name in SMOKE {
        let mutant = mutants.iter().find(|mutant| mutant.name().ends_with(name));
        let mutant = mutant.filter(|mutant| !left_out.contains(&mutant.switch));
        let switch = mutant.ok_or_else(|| format!("{SMOKE_FILE} has no mutant `{name}`"))?.switch;
        let mut batches = first_batches().map(|batch| batch.run(workshop, switch));
        let killed = batches.find(|ran| !matches!(ran, Ok(Ran::Held { .. }))).transpose()?;
        all_killed &= killed.is_some();
        println!("{name}: {}", killed.map_or("SURVIVED".to_owned(), |killed| format!("{killed:?}")));
    }
    Ok(all_killed)
}
