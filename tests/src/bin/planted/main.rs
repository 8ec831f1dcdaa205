//! `cargo planted [NAME]`: plants known bugs in a copy of the kernel, one at a time, and sees whether the
//! simulator finds them. A simulator that finds nothing proves nothing until it is known to find what is
//! there.
//!
//! Each `tests/planted/NAME.patch` changes a few lines of `core`, below a header that says what is wrong and
//! which property must fire:
//!
//! ```text
//! Bug: a follower acknowledges entries before they are on its disk
//! Pitfall: R10
//! Property: Contract | Durable Commit
//! Run: --members 3
//! Seeds: 2000
//! ```
//!
//! `Property` may name several, of which one must fire; `Command` (of `kontiki-sim`: `run`, unless
//! `formation` or `explore` is named), `Run` (further arguments of it) and `Seeds` (the budget) may be left
//! out, and `Scenario: FILE` replays a directed scenario instead of seeds. A patch that no longer applies, a
//! bug that is not found within its budget, one that trips another property, and one that makes the simulator
//! run on without end (longer than [`LIMIT`]; it is stopped then) are failures.
//!
//! More than a few are built together, but for those that change more than bodies of functions (`together`).
//!
//! `--check` only sees whether every patch applies and compiles: one that does not is found out long before
//! its bug is planted again.
//!
//! `--shrink` shrinks the scenario in which each bug is found, and shows what is left of it. Its story must
//! say what a line `Story:` of the header names, parts of it separated by `|`.
//!
//! `--measure` looks for each bug from many starts, and writes how many seeds that takes into
//! docs/detection-power.md.

mod explore;
mod measure;
mod rebase;
mod shrink;
mod together;

use clap::Parser;
use kontiki_tests::{mutant, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use together::Together;

/// Plants known bugs and sees whether the simulator finds them.
#[derive(Parser, Debug)]
struct Cli {
    /// Only bugs whose name contains this
    name: Option<String>,
    /// Only every N-th bug, as a sample
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    every: Option<u16>,
    /// Only bugs that were held back: their author did not know what the simulator finds
    #[arg(long)]
    held_back: bool,
    /// Those too that are known not to be found; a name chooses them as well
    #[arg(long)]
    gaps: bool,
    /// Write what is found into the table of tests/planted/README.md, bug by bug; the rows of other bugs stay
    #[arg(long)]
    write: bool,
    /// Merge each patch with the present tree, rewrite those that have moved, and list those that need a hand
    #[arg(long, conflicts_with = "write")]
    rebase: bool,
    /// Only see whether each patch applies and compiles
    #[arg(long, conflicts_with_all = ["write", "rebase"])]
    check: bool,
    /// Shrink the scenario in which each bug is found, and print what is left; with --write, write it into
    /// the table of docs/shrinking.md
    #[arg(long, conflicts_with_all = ["rebase", "check"])]
    shrink: bool,
    /// Look for each bug from many starts, and write how many seeds that takes into docs/detection-power.md;
    /// rows of this commit stay, so the command goes on where it was stopped
    #[arg(long, conflicts_with_all = ["write", "rebase", "check", "shrink"])]
    measure: bool,
    /// Try every state of a small group with each bug, within the bounds of its header's line `Explore:`;
    /// with --write, write what finds it into the table of docs/exploring.md
    #[arg(long, conflicts_with_all = ["rebase", "check", "shrink", "measure"])]
    explore: bool,
    /// Within these bounds, whatever the header says: arguments of `kontiki-sim explore`
    #[arg(long, requires = "explore", allow_hyphen_values = true)]
    bounds: Option<String>,
    /// From how many starts
    #[arg(long, default_value_t = 20, requires = "measure", value_parser = clap::value_parser!(u64).range(1..=100))]
    starts: u64,
    /// Make no other start of a bug that has taken so many seconds of a core, once there are six
    #[arg(long, requires = "measure")]
    seconds: Option<u64>,
}

/// How many seeds a bug may take to be found, where its header does not say.
const BUDGET: u64 = 4_000;

/// More bugs than these are built together.
const FEW: usize = 4;

/// How long the simulator may run for one bug. The largest budget takes a tenth of that.
const LIMIT: Duration = Duration::from_secs(900);

type Failure = Box<dyn Error>;

/// A bug, as its patch describes it.
#[derive(Debug)]
struct Bug {
    name: String,
    patch: PathBuf,
    what: String,
    pitfall: String,
    properties: Vec<String>,
    /// The simulator's command, and further arguments of it.
    command: String,
    run: Vec<String>,
    seeds: u64,
    scenario: Option<String>,
    /// The bounds within which exploration finds it: arguments of `kontiki-sim explore`.
    explore: Option<String>,
    /// What the story of its shrunk scenario says.
    story: Vec<String>,
    /// Whether its author did not know what the simulator finds.
    is_held_back: bool,
    /// Whether it is known not to be found: the header says what the simulator does not do.
    is_gap: bool,
}

/// What became of it.
#[derive(Debug)]
struct Found {
    property: String,
    seeds: String,
    detail: String,
}

fn main() -> ExitCode {
    workspace::exit_code(Cli::parse().run())
}

impl Cli {
    fn run(&self) -> Result<bool, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tests have no workspace")?;
        let all = bugs(&root.join("tests/planted"))?;
        let bugs = self.chosen(&all)?;
        if self.rebase {
            return rebase::rebase(root, &bugs);
        }
        let mut workshop = Workshop::open(root)?;
        if bugs.len() > FEW {
            workshop.gather(&all)?;
        }
        if self.check {
            Ok(check(&workshop, &bugs))
        } else if self.shrink {
            shrink::shrink(&workshop, &bugs, self.write)
        } else if self.explore {
            explore::explore(&workshop, &bugs, self.bounds.as_deref(), self.write)
        } else if self.measure {
            let enough = self.seconds.map_or(Duration::MAX, Duration::from_secs);
            measure::measure(&workshop, &bugs, measure::Effort { starts: self.starts, enough })
        } else {
            self.plant(root, &workshop, &bugs)
        }
    }

    /// Looks for each bug by drawn seeds, and tells which were found.
    fn plant(&self, root: &Path, workshop: &Workshop, bugs: &[&Bug]) -> Result<bool, Failure> {
        println!(
            "{:<34} {:<9} {:<30} {:>8} {:>8}",
            "bug", "pitfall", "property that fired", "seeds", "seconds"
        );
        let table = Table { file: root.join("tests/planted/README.md"), begin: BEGIN, head: HEAD };
        let mut missed = Vec::new();
        for bug in bugs {
            let started = Instant::now();
            let found = workshop.plant(bug);
            let seconds = started.elapsed().as_secs();
            if self.write {
                let row = found.as_ref().ok().filter(|found| bug.properties.contains(&found.property));
                table.write(bug, row.map(|found| bug.row(found)))?;
            }
            match found {
                Ok(found) if bug.properties.contains(&found.property) => {
                    let (property, seeds) = (&found.property, &found.seeds);
                    println!("{:<34} {:<9} {property:<30} {seeds:>8} {seconds:>8}", bug.name, bug.pitfall);
                }
                Ok(found) => {
                    let expected = bug.properties.join(" | ");
                    println!(
                        "{:<34} {:<9} {:<30} {:>8} {seconds:>8}",
                        bug.name, bug.pitfall, found.property, found.seeds
                    );
                    missed.push(format!(
                        "{}: expected {expected}, got {}: {}",
                        bug.name, found.property, found.detail
                    ));
                }
                Err(error) => {
                    println!(
                        "{:<34} {:<9} {:<30} {:>8} {seconds:>8}",
                        bug.name, bug.pitfall, "NOT FOUND", "-"
                    );
                    missed.push(format!("{}: {error}", bug.name));
                }
            }
        }
        println!("\n{} of {} planted bugs found", bugs.len() - missed.len(), bugs.len());
        missed.iter().for_each(|missed| println!("MISSED  {missed}"));
        Ok(missed.is_empty())
    }

    /// Whether a bug is asked for. One that is known not to be found is where it is named, or only compiled.
    fn wants(&self, bug: &Bug) -> bool {
        let is_named = self.name.as_ref().is_none_or(|name| bug.name.contains(name));
        let may_be_missed = self.gaps || self.check || self.rebase || self.name.is_some();
        is_named && (bug.is_held_back || !self.held_back) && (!bug.is_gap || may_be_missed)
    }

    fn chosen<'b>(&self, bugs: &'b [Bug]) -> Result<Vec<&'b Bug>, Failure> {
        let every = usize::from(self.every.unwrap_or(1));
        let chosen: Vec<_> = bugs.iter().filter(|bug| self.wants(bug)).step_by(every).collect();
        if chosen.is_empty() {
            return Err("no bug of that name; the names are those of tests/planted/*.patch".into());
        }
        Ok(chosen)
    }
}

/// Says which patches do not apply or do not compile. Returns whether all do.
fn check(workshop: &Workshop, bugs: &[&Bug]) -> bool {
    let broken = bugs.iter().filter_map(|bug| Some((bug, workshop.check(bug).err()?)));
    let broken = broken.inspect(|(bug, error)| println!("BROKEN  {}: {error}", bug.name)).count();
    println!("{} of {} planted bugs compile", bugs.len() - broken, bugs.len());
    broken == 0
}

/// Copies of the workspace, in which bugs are planted and built.
struct Workshop {
    root: PathBuf,
    /// For bugs that are built alone.
    alone: Copy,
    /// For those that are built together, if there are any.
    together: Option<(Together, Copy)>,
    /// Held for as long as this process works here: two that share a copy would run each other's bugs.
    _lock: File,
}

impl Workshop {
    fn open(root: &Path) -> Result<Self, Failure> {
        let place = root.join("target/planted");
        let lock = workspace::lock(&place, "cargo planted")?;
        Ok(Self { root: root.to_owned(), alone: Copy::at(&place), together: None, _lock: lock })
    }

    /// Builds the bugs that can be built together.
    fn gather(&mut self, bugs: &[Bug]) -> Result<(), Failure> {
        let mut together = Together::read(&self.root, bugs)?;
        let copy = Copy::at(&self.root.join("target/planted/together"));
        loop {
            let change = |path: &Path, bytes: Vec<u8>| {
                let file = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy();
                together.changed(&file.replace('\\', "/"), bytes)
            };
            copy.mirror(&self.root, &change)?;
            let json = ["--message-format", "json", "-p", "kontiki-core"];
            let checked = copy.cargo("check").arg("--all-features").args(json).output()?;
            if checked.status.success() {
                break;
            }
            if !together.leave_out(&String::from_utf8(checked.stdout)?)? {
                let errors = String::from_utf8_lossy(&checked.stderr);
                return Err(format!("the copy does not compile, and no bug explains why:\n{errors}").into());
            }
        }
        let simulator = copy.build()?;
        let run = ["run", "--seeds", "0..40", "--format", "json", "--progress", "0s"];
        let report: Value = serde_json::from_str(&output_of(simulator.command().args(run))?)?;
        if report["failures"].as_array().is_none_or(|failures| !failures.is_empty()) {
            return Err(format!("with no bug on, a property is violated: {report:#}").into());
        }
        eprintln!("{} of {} planted bugs are built together", together.len(), bugs.len());
        self.together = Some((together, copy));
        Ok(())
    }

    /// Plants one bug and runs the simulator until a check fires.
    fn plant(&self, bug: &Bug) -> Result<Found, Failure> {
        let simulator = self.build(bug)?;
        match &bug.scenario {
            Some(scenario) => self.replay(&simulator, scenario),
            None if bug.command == "explore" => self.explore_instead(&simulator, bug),
            None => simulator.sweep(bug),
        }
    }

    /// The number of a bug that is built together with others, and their copy.
    fn shared(&self, bug: &Bug) -> Option<(u16, &Copy)> {
        let (together, copy) = self.together.as_ref()?;
        Some((together.number(bug)?, copy))
    }

    /// Copies what has changed of the workspace, and puts the bug in.
    fn prepare(&self, bug: &Bug) -> Result<(), Failure> {
        self.alone.mirror(&self.root, &|_, bytes| bytes)?;
        apply_patch(&bug.patch, &self.alone.workspace)
    }

    /// Sees whether the crates that a bug changes compile with it.
    fn check(&self, bug: &Bug) -> Result<(), Failure> {
        if self.shared(bug).is_some() {
            return Ok(());
        }
        self.prepare(bug)?;
        let patch = fs::read_to_string(&bug.patch)?;
        let files = patch.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let crates = files.filter_map(|file| file.split('/').next());
        let packages: BTreeSet<_> = crates.map(|name| format!("--package=kontiki-{name}")).collect();
        let checked = self.alone.cargo("check").arg("--all-features").args(packages).output()?;
        if !checked.status.success() {
            return Err(String::from_utf8_lossy(&checked.stderr).into_owned().into());
        }
        Ok(())
    }

    /// The simulator with a bug in it.
    fn build(&self, bug: &Bug) -> Result<Simulator, Failure> {
        if let Some((number, copy)) = self.shared(bug) {
            return Ok(Simulator { number, ..copy.simulator() });
        }
        self.prepare(bug)?;
        self.alone.build()
    }

    fn replay(&self, simulator: &Simulator, scenario: &str) -> Result<Found, Failure> {
        let file = self.root.join("tests/planted").join(scenario);
        let shown = output_of(simulator.command().arg("replay").arg(file))?;
        let failed = shown
            .lines()
            .find_map(|line| line.strip_prefix("FAILED  "))
            .ok_or("the scenario shows nothing")?;
        let (property, detail) =
            failed.split_once(" at step ").ok_or("the simulator reported no property")?;
        Ok(Found { property: property.to_owned(), seeds: "directed".to_owned(), detail: detail.to_owned() })
    }
}

/// A copy of the workspace, and what is built of it.
struct Copy {
    workspace: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn at(place: &Path) -> Self {
        Self { workspace: place.join("workspace"), target: place.join("target") }
    }

    /// Copies what has changed of the workspace, but for what `change` changes.
    fn mirror(&self, root: &Path, change: workspace::Change<'_>) -> Result<(), Failure> {
        for part in [
            "Cargo.toml",
            "Cargo.lock",
            "core",
            "sim",
            "net-tokio",
            "tests/Cargo.toml",
            "tests/src",
            "tests/it",
        ] {
            workspace::mirror(&root.join(part), &self.workspace.join(part), change)?;
        }
        Ok(())
    }

    /// Cargo in the copy.
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([command, "--quiet"])
            .current_dir(&self.workspace)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTFLAGS", "-Awarnings");
        cargo
    }

    /// Builds the simulator.
    fn build(&self) -> Result<Simulator, Failure> {
        let built = self
            .cargo("build")
            .args(["--profile", "sweep", "-p", "kontiki-sim"])
            // The kernel's own assertions are off: what is found is found from outside.
            .env("CARGO_PROFILE_SWEEP_DEBUG_ASSERTIONS", "false")
            // Most bugs are found within seconds: what counts is how soon the next one is built.
            .env("CARGO_PROFILE_SWEEP_LTO", "off")
            .env("CARGO_PROFILE_SWEEP_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_SWEEP_INCREMENTAL", "true")
            .env("CARGO_PROFILE_SWEEP_DEBUG", "0")
            .status()?;
        if !built.success() {
            return Err("the patched workspace does not build".into());
        }
        Ok(self.simulator())
    }

    fn simulator(&self) -> Simulator {
        Simulator { program: self.target.join("sweep/kontiki-sim"), number: 0 }
    }
}

/// The simulator, with a bug in it.
struct Simulator {
    program: PathBuf,
    /// Of the bug, where several were built together.
    number: u16,
}

impl Simulator {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env(mutant::CHOSEN, self.number.to_string());
        command
    }

    fn sweep(&self, bug: &Bug) -> Result<Found, Failure> {
        let first = self.first_failure(bug)?;
        let text = |field: &str| first[field].as_str().unwrap_or_default().to_owned();
        let needed = first["seed"].as_u64().unwrap_or_default() + 1;
        Ok(Found { property: text("property"), seeds: needed.to_string(), detail: text("detail") })
    }

    /// The first failure of a sweep, as the simulator reports it.
    fn first_failure(&self, bug: &Bug) -> Result<Value, Failure> {
        let mut run = self.sweep_of(bug, 0);
        let report: Value = serde_json::from_str(&output_of(&mut run)?)
            .map_err(|error| format!("the simulator itself broke down, and reported nothing: {error}"))?;
        let failures = report["failures"].as_array().ok_or("the simulator reported nothing")?;
        Ok(failures.first().ok_or_else(|| format!("not found in {} seeds", bug.seeds))?.clone())
    }

    /// A sweep of a bug's budget, from this seed on, until one fails.
    fn sweep_of(&self, bug: &Bug, start: u64) -> Command {
        let seeds = format!("{start}..{}", start + bug.seeds);
        let mut run = self.command();
        run.args([&bug.command, "--seeds", &seeds, "--format", "json", "--max-failures", "1"]).args(&bug.run);
        if bug.command == "run" {
            // What is told meanwhile would stand between the rows.
            run.args(["--progress", "0s"]);
        }
        run
    }
}

/// Puts a patch into a copy of what it changes.
fn apply_patch(patch: &Path, copy: &Path) -> Result<(), Failure> {
    let mut apply = Command::new("git");
    // The copy may lie inside a repository, and is not part of it.
    apply.env("GIT_CEILING_DIRECTORIES", copy.parent().unwrap_or(copy)).current_dir(copy);
    let applied = apply.arg("apply").arg(patch).output()?;
    if !applied.status.success() {
        let why = String::from_utf8_lossy(&applied.stderr);
        return Err(format!("the patch no longer applies; mend it:\n{why}").into());
    }
    Ok(())
}

/// What a command prints, if it comes to an end.
fn output_of(command: &mut Command) -> Result<String, Failure> {
    Ok(workspace::output_within(command, LIMIT)?)
}

impl Bug {
    fn read(patch: PathBuf) -> Result<Self, Failure> {
        let text = fs::read_to_string(&patch)?;
        let header = text.split("diff --git").next().unwrap_or_default();
        let field = |name: &str| {
            header.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let missing = |what: &str| format!("{name}.patch has no line `{what}`");
        Ok(Self {
            what: field("Bug:").ok_or_else(|| missing("Bug:"))?,
            pitfall: field("Pitfall:").ok_or_else(|| missing("Pitfall:"))?,
            properties: field("Property:")
                .ok_or_else(|| missing("Property:"))?
                .split('|')
                .map(|property| property.trim().to_owned())
                .collect(),
            command: field("Command:").unwrap_or_else(|| "run".to_owned()),
            run: field("Run:").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            seeds: field("Seeds:").map_or(Ok(BUDGET), |seeds| seeds.parse())?,
            scenario: field("Scenario:"),
            explore: field("Explore:"),
            story: field("Story:")
                .iter()
                .flat_map(|parts| parts.split('|'))
                .map(|part| part.trim().to_owned())
                .collect(),
            is_held_back: field("Origin:").is_some_and(|origin| origin == "held back"),
            is_gap: field("Gap:").is_some(),
            name,
            patch,
        })
    }

    fn row(&self, found: &Found) -> String {
        let Found { property, seeds, .. } = found;
        format!("| `{}` | {} | {} | {property} | {seeds} |", self.name, self.pitfall, self.what)
    }
}

fn bugs(dir: &Path) -> Result<Vec<Bug>, Failure> {
    let mut patches = Vec::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    patches.into_iter().map(Bug::read).collect()
}

const BEGIN: &str = "<!-- table: written by `cargo planted --write` -->\n";
const END: &str = "<!-- end of the table -->\n";
const HEAD: &str =
    "| bug | pitfall | what is wrong | property that fired | seeds needed |\n|---|---|---|---|--:|\n";

/// A table of bugs, in a file between two marks.
struct Table {
    file: PathBuf,
    begin: &'static str,
    head: &'static str,
}

impl Table {
    /// Gives a bug its row, or none where it was not found. Rows of bugs that are there no more go.
    fn write(&self, bug: &Bug, row: Option<String>) -> Result<(), Failure> {
        let Self { file, begin, head } = self;
        let text = fs::read_to_string(file)?;
        let lost = |what: &str| format!("{} has lost the mark where its table {what}", file.display());
        let (before, rest) = text.split_once(begin).ok_or_else(|| lost("begins"))?;
        let (table, after) = rest.split_once(END).ok_or_else(|| lost("ends"))?;
        let name = |row: &str| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let named = |row: &str| name(row).map(|name| (name, row.to_owned()));
        let mut rows: BTreeMap<String, String> = table.lines().filter_map(named).collect();
        rows.retain(|name, _| bug.patch.with_file_name(name).with_extension("patch").exists());
        rows.remove(&bug.name);
        rows.extend(row.map(|row| (bug.name.clone(), row)));
        let rows: String = rows.into_values().map(|row| row + "\n").collect();
        Ok(fs::write(file, format!("{before}{begin}{head}{rows}{END}{after}"))?)
    }
}
