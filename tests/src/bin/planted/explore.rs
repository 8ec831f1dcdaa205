//! `cargo planted --explore`: looks for bugs by trying every state of a small group, within the bounds that
//! the header names.

use crate::{Bug, Failure, Table, Workshop, output_of};
use serde_json::Value;

const BEGIN: &str = "<!-- table: written by `cargo planted --explore --write` -->\n";
const HEAD: &str = "\
| bug | property | bounds | events | states | seconds |
|---|---|---|--:|--:|--:|
";

/// Where an exploration ends that finds nothing.
const MAX_STATES: &str = "3000000";

/// Explores each bug's bounds. Returns whether every bug that has bounds was found within them.
pub(crate) fn explore(
    workshop: &Workshop,
    bugs: &[Bug],
    bounds: Option<&str>,
    write: bool,
) -> Result<bool, Failure> {
    let table = Table { file: workshop.root.join("docs/exploring.md"), begin: BEGIN, head: HEAD };
    let (mut found, mut missed) = (0, Vec::new());
    print!("{HEAD}");
    for bug in bugs {
        let Some(bounds) = bounds.or(bug.explore.as_deref()) else { continue };
        match workshop.explore(bug, bounds) {
            Ok(row) => {
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

impl Workshop {
    /// The row of a bug that exploration finds.
    fn explore(&self, bug: &Bug, bounds: &str) -> Result<String, Failure> {
        self.build(bug)?;
        let mut run = self.simulator();
        run.args(["explore", "--format", "json", "--max-states", MAX_STATES]).args(bounds.split_whitespace());
        run.arg("--counterexample").arg(self.target.join("counterexample.json"));
        let report: Value = serde_json::from_str(&output_of(&mut run)?)?;
        let states = &report["states"];
        let violation =
            report["violation"].as_object().ok_or_else(|| format!("not found in {states} states"))?;
        let property = violation["property"].as_str().unwrap_or_default();
        if !bug.properties.iter().any(|named| named == property) {
            let detail = &violation["detail"];
            return Err(format!("expected {}, got {property}: {detail}", bug.properties.join(" | ")).into());
        }
        let events = violation["path"].as_array().map_or(0, Vec::len);
        let seconds = report["seconds"].as_f64().unwrap_or_default();
        Ok(format!("| `{}` | {property} | `{bounds}` | {events} | {states} | {seconds:.1} |", bug.name))
    }
}
