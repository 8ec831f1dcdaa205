//! `cargo planted --explore`: looks for bugs by trying every state of a small group, within the bounds that
//! the header names.

use crate::{Bug, Failure, Found, Simulator, Table, Workshop, output_of};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const BEGIN: &str = "<!-- table: written by `cargo planted --explore --write` -->\n";
const HEAD: &str = "\
| bug | property | bounds | events | states | seconds |
|---|---|---|--:|--:|--:|
";

/// Where an exploration ends that finds nothing: after about two minutes of a core.
const MAX_STATES: &str = "20000000";

/// Explores each bug's bounds. Returns whether every bug that has bounds was found within them.
pub(crate) fn explore(
    workshop: &Workshop,
    bugs: &[&Bug],
    bounds: Option<&str>,
    write: bool,
) -> Result<bool, Failure> {
    let table = Table { file: workshop.root.join("docs/exploring.md"), begin: BEGIN, head: HEAD };
    let (mut found, mut missed) = (0, Vec::new());
    print!("{HEAD}");
    for bug in bugs {
        let Some(bounds) = bounds.or(bug.explore.as_deref()) else { continue };
        match workshop.explore(bug, bounds) {
            Ok(explored) => {
                let row = explored.row(bug, bounds);
                println!("{row}");
                found += 1;
                if write {
                    table.write(bug, Some(row))?;
                }
            }
            Err(error) => {
                println!("| `{}` | NOT FOUND | {bounds} | | | |", bug.name);
                missed.push(format!("{}: {error}", bug.name));
            }
        }
    }
    println!("\n{found} of {} planted bugs found by exploration", found + missed.len());
    missed.iter().for_each(|missed| println!("MISSED  {missed}"));
    Ok(missed.is_empty())
}

/// The counterexample that an exploration has found.
struct Explored {
    property: String,
    detail: String,
    events: usize,
    states: u64,
    seconds: f64,
}

impl Explored {
    fn row(&self, bug: &Bug, bounds: &str) -> String {
        let Self { property, events, states, seconds, .. } = self;
        format!("| `{}` | {property} | `{bounds}` | {events} | {states} | {seconds:.1} |", bug.name)
    }
}

impl Workshop {
    /// What exploring the bounds of its header finds of a bug that no drawn seed finds.
    pub(crate) fn explore_instead(&self, simulator: &Simulator, bug: &Bug) -> Result<Found, Failure> {
        let bounds = bug.explore.as_deref().ok_or("`Command: explore` needs a line `Explore:`")?;
        let Explored { property, detail, .. } = self.explored(simulator, bounds)?;
        Ok(Found { property, seeds: "explored".to_owned(), detail })
    }

    /// What exploration finds of a bug, if it is what the header says.
    fn explore(&self, bug: &Bug, bounds: &str) -> Result<Explored, Failure> {
        let simulator = self.build(bug)?;
        let explored = self.explored(&simulator, bounds)?;
        let Explored { property, detail, .. } = &explored;
        if !bug.properties.contains(property) {
            return Err(format!("expected {}, got {property}: {detail}", bug.properties.join(" | ")).into());
        }
        // Nothing has happened to be told where the group leads nowhere from the beginning.
        if explored.events > 0 {
            self.told(&simulator, property, bounds)?;
        }
        Ok(explored)
    }

    /// Sees that the counterexample is told like any other failure: as a story and as a page, and can be
    /// written as a script, unless clocks differ in it or hosts wait.
    fn told(&self, simulator: &Simulator, property: &str, bounds: &str) -> Result<(), Failure> {
        let file = self.counterexample();
        let story = output_of(simulator.command().arg("replay").arg(&file).arg("--story"))?;
        let facts = story.lines().take_while(|line| !line.trim_start().starts_with(property)).count();
        if facts == 0 || facts == story.lines().count() {
            return Err(format!("no story of {property}:\n{story}").into());
        }
        let (page, script) = (file.with_extension("html"), file.with_extension("txt"));
        let explained = output_of(simulator.command().arg("explain").arg(&file).arg("-o").arg(&page))?;
        if !explained.starts_with(property) || fs::metadata(&page)?.len() == 0 {
            return Err(format!("no page of {property}: {explained}").into());
        }
        if ["--ticks", "--synchronous"].iter().any(|without| bounds.contains(without)) {
            return Ok(());
        }
        output_of(simulator.command().args(["explore", "--replay"]).arg(&file).arg("--script").arg(&script))?;
        let script = fs::read_to_string(&script)?;
        if !script.starts_with(&format!("# {property}: ")) || !script.contains("\ncluster ") {
            return Err(format!("no script of {property}: {script}").into());
        }
        Ok(())
    }

    fn counterexample(&self) -> PathBuf {
        self.root.join("target/planted/counterexample.json")
    }

    /// What the simulator finds within these bounds.
    fn explored(&self, simulator: &Simulator, bounds: &str) -> Result<Explored, Failure> {
        let mut run = simulator.command();
        run.args(["explore", "--format", "json", "--max-states", MAX_STATES]).args(bounds.split_whitespace());
        run.arg("--counterexample").arg(self.counterexample());
        let report: Value = serde_json::from_str(&output_of(&mut run)?)?;
        let states = report["states"].as_u64().unwrap_or_default();
        let violation =
            report["violation"].as_object().ok_or_else(|| format!("not found in {states} states"))?;
        let text = |field: &str| violation[field].as_str().unwrap_or_default().to_owned();
        Ok(Explored {
            property: text("property"),
            detail: text("detail"),
            events: violation["path"].as_array().map_or(0, Vec::len),
            states,
            seconds: report["seconds"].as_f64().unwrap_or_default(),
        })
    }
}
