//! `cargo planted --shrink`: shrinks the scenario in which a bug is found, and shows what is left.

use crate::{Bug, Failure, Simulator, Table, Workshop, output_of};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

const BEGIN: &str = "<!-- table: written by `cargo planted --shrink --write` -->\n";
const HEAD: &str = "\
| bug | property | members | faults | step | members | faults | operations | step | story | relevant | past | seconds |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// What is in a scenario, and at which step it fails.
struct Size {
    members: usize,
    faults: usize,
    operations: usize,
    step: u64,
}

/// What shrinking a bug's scenario has led to.
struct Row {
    property: String,
    before: Size,
    after: Size,
    highlighted: Highlighted,
    seconds: u64,
}

/// How many events the page of a scenario shows as what led to its failure.
struct Highlighted {
    /// Those that it numbers.
    story: usize,
    /// Those that it highlights: the relevant past and the story.
    relevant: usize,
    /// The full causal past.
    past: usize,
}

/// What a row must not exceed for its scenario to be read: members, faults, highlighted events and seconds.
const FEW: (usize, usize, usize, u64) = (3, 5, 30, 60);

impl Row {
    /// Whether so little is left that it can be read, in time, and of no later failure.
    fn is_small(&self) -> bool {
        let (members, faults, relevant, seconds) = FEW;
        self.after.members <= members
            && self.after.faults <= faults
            && self.highlighted.relevant <= relevant
            && self.seconds <= seconds
            && self.after.step <= self.before.step
    }

    fn line(&self, bug: &Bug) -> String {
        let Self { property, before, after, highlighted, seconds } = self;
        let Highlighted { story, relevant, past } = highlighted;
        format!(
            "| `{}` | {property} | {} | {} | {} | {} | {} | {} | {} | {story} | {relevant} | {past} | {seconds} |",
            bug.name,
            before.members,
            before.faults,
            before.step,
            after.members,
            after.faults,
            after.operations,
            after.step
        )
    }
}

/// Shrinks the scenario of each bug, on all cores. Returns whether every one became small.
pub(crate) fn shrink(workshop: &Workshop, bugs: &[&Bug], write: bool) -> Result<bool, Failure> {
    let table = Table { file: workshop.root.join("docs/shrinking.md"), begin: BEGIN, head: HEAD };
    print!("{HEAD}");
    let (next, tally, alone) = (Mutex::new(bugs.iter()), Mutex::new(Tally::default()), Mutex::new(()));
    let work = || {
        while let Some(bug) = { locked(&next).next() } {
            // There is one copy for all bugs that are not built together.
            let _alone = workshop.shared(bug).is_none().then(|| locked(&alone));
            let row = workshop.shrink(bug).map_err(|error| error.to_string());
            locked(&tally).add(bug, row, write.then_some(&table));
        }
    };
    let jobs = thread::available_parallelism().map_or(1, NonZero::get).min(bugs.len());
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let Tally { small, large, unwritten } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    let (members, faults, relevant, seconds) = FEW;
    println!(
        "\n{small} of {} have at most {members} members, {faults} faults and {relevant} highlighted events \
         within {seconds} s, and fail no later",
        bugs.len()
    );
    large.iter().for_each(|large| println!("LARGE  {large}"));
    Ok(large.is_empty())
}

/// What was shrunk so far.
#[derive(Default)]
struct Tally {
    small: usize,
    /// The bugs of which too much is left, or which were not shrunk, and why.
    large: Vec<String>,
    /// Why a row could not be written.
    unwritten: Option<String>,
}

impl Tally {
    /// Prints the row of a bug, and writes it into the `table`.
    fn add(&mut self, bug: &Bug, row: Result<Row, String>, table: Option<&Table>) {
        match row {
            Ok(row) => {
                println!("{}", row.line(bug));
                if row.is_small() {
                    self.small += 1;
                } else {
                    self.large.push(bug.name.clone());
                }
                let written = table.map(|table| table.write(bug, Some(row.line(bug))));
                let error = written.and_then(Result::err).map(|error| error.to_string());
                self.unwritten = self.unwritten.take().or(error);
            }
            Err(error) => self.large.push(format!("{}: {error}", bug.name)),
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workshop {
    fn shrink(&self, bug: &Bug) -> Result<Row, Failure> {
        if bug.command != "run" {
            return Err(format!("cargo sim {} draws no scenario that could be shrunk", bug.command).into());
        }
        let simulator = self.build(bug)?;
        let place = self.root.join("target/planted/scenarios");
        fs::create_dir_all(&place)?;
        let (drawn, smallest) =
            (place.join(format!("{}.json", bug.name)), place.join(format!("{}-small.json", bug.name)));
        match &bug.scenario {
            Some(scenario) => drop(fs::copy(self.root.join("tests/planted").join(scenario), &drawn)?),
            None => {
                let first = simulator.first_failure(bug)?;
                let seed = first["seed"].as_u64().ok_or("the failure names no seed")?.to_string();
                let mut draw = simulator.command();
                fs::write(&drawn, output_of(draw.args(["scenario", "--seed", &seed]).args(bug.cluster()))?)?;
            }
        }
        let (before, _) = simulator.size(&drawn)?;
        let started = Instant::now();
        fs::write(&smallest, output_of(simulator.command().arg("shrink").arg(&drawn))?)?;
        let seconds = started.elapsed().as_secs();
        let (after, property) = simulator.size(&smallest)?;
        simulator.check_story(bug, &smallest)?;
        let highlighted = simulator.highlighted(&smallest)?;
        Ok(Row { property, before, after, highlighted, seconds })
    }
}

impl Simulator {
    /// How many events the page of a scenario file shows as what led to its failure.
    fn highlighted(&self, file: &Path) -> Result<Highlighted, Failure> {
        let page = file.with_extension("html");
        output_of(self.command().arg("explain").arg(file).arg("-o").arg(&page))?;
        let page = fs::read_to_string(page)?;
        let data =
            page.split_once("type=\"application/json\">").and_then(|(_, rest)| rest.split_once("</script>"));
        let (data, _) = data.ok_or("the page of the scenario has no data")?;
        let diagram: Value = serde_json::from_str(data)?;
        let events = |list: &Value| {
            let numbers = list.as_array().ok_or("the page shows no failure")?;
            Ok::<BTreeSet<_>, Failure>(numbers.iter().filter_map(Value::as_u64).collect())
        };
        let (story, relevant) = (events(&diagram["story"])?, events(&diagram["failure"]["relevant"])?);
        let past = events(&diagram["failure"]["past"])?.len();
        Ok(Highlighted { story: story.len(), relevant: relevant.union(&story).count(), past })
    }

    /// The story of a scenario must hold the facts that the header names.
    fn check_story(&self, bug: &Bug, file: &Path) -> Result<(), Failure> {
        let story = output_of(self.command().args(["replay", "--story"]).arg(file))?;
        match bug.story.iter().find(|part| !story.contains(*part)) {
            Some(missing) => Err(format!("its story does not say `{missing}`:\n{story}").into()),
            None => Ok(()),
        }
    }

    /// How much is in a scenario file, and what it violates.
    fn size(&self, file: &Path) -> Result<(Size, String), Failure> {
        let scenario: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        let count = |list: &str| scenario[list].as_array().map_or(0, Vec::len);
        let shown = output_of(self.command().arg("replay").arg(file))?;
        let failed = shown.lines().find_map(|line| line.strip_prefix("FAILED  "));
        let (property, rest) =
            failed.and_then(|line| line.split_once(" at step ")).ok_or("the scenario does not fail alone")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let step = digits.parse()?;
        let (members, faults, operations) = (count("members"), count("faults"), count("operations"));
        Ok((Size { members, faults, operations, step }, property.to_owned()))
    }
}

impl Bug {
    /// The options that say for which cluster a seed is drawn.
    fn cluster(&self) -> Vec<&str> {
        let pairs = self.run.windows(2).filter(|pair| ["--members", "--profile"].contains(&&*pair[0]));
        pairs.flatten().map(String::as_str).collect()
    }
}
