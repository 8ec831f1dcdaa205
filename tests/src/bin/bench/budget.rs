//! What the kernel may cost: `tests/golden/costs.json`, and whether it still does.
//!
//! Instructions may differ by [`TOLERANCE`] between machines, whose C libraries copy memory in different
//! ways; allocations and bytes may not differ at all.

use super::{Choice, Counter, Does, Shape, count_per_operation};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// By how many percent a count of instructions may differ from the budget.
const TOLERANCE: f64 = 2.0;

/// The costs of one workload, for each operation.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Costs {
    workload: String,
    /// How many members a group has, where the workload leaves that open.
    members: u8,
    /// How the host writes and applies.
    host: Does,
    /// How many operations are counted.
    n: u64,
    /// None where the workload counts memory alone.
    instructions: Option<f64>,
    allocations: f64,
    /// What the groups hold on the heap, where that is what is counted.
    heap_bytes: Option<f64>,
}

impl Costs {
    /// Counts anew what this budget is for. Without valgrind there are no instructions.
    fn counted(&self, valgrind: bool) -> Result<Self, String> {
        let choice = Choice::from_str(&self.workload, false)
            .map_err(|_| format!("the budget names `{}`, which is no workload", self.workload))?;
        let shape = Shape { members: self.members, host: self.host, ..Shape::default() };
        let cost = choice.run(self.n, shape);
        let instructions = match self.instructions {
            Some(_) if valgrind => Some(count_per_operation(Counter::Instructions, choice, self.n, shape)?),
            _ => None,
        };
        let allocations = super::ratio(cost.allocations, cost.operations);
        Ok(Self { instructions, allocations, heap_bytes: cost.heap_bytes_per_op, ..self.clone() })
    }

    fn name(&self) -> String {
        let reported = if self.host == Does::Reported { ", reported" } else { "" };
        format!("{} of {}{reported}", self.workload, self.members)
    }

    /// What `counted` differs in from this budget by more than it may.
    fn differences(&self, counted: &Self) -> Vec<String> {
        let change = |budget: f64, now: f64| (now - budget) * 100.0 / budget;
        let mut found = Vec::new();
        if let (Some(budget), Some(now)) = (self.instructions, counted.instructions) {
            let change = change(budget, now);
            if change.abs() > TOLERANCE {
                found.push(format!("{now} instructions, the budget has {budget} ({change:+.1} %)"));
            }
        }
        if self.allocations.to_bits() != counted.allocations.to_bits() {
            let (budget, now) = (self.allocations, counted.allocations);
            found.push(format!("{now} allocations, the budget has {budget}"));
        }
        if self.heap_bytes != counted.heap_bytes {
            let (budget, now) = (self.heap_bytes, counted.heap_bytes);
            found.push(format!("{now:?} bytes on the heap, the budget has {budget:?}"));
        }
        found
    }
}

/// Counts what the budget in `file` lists, and prints it. With `write` the file is written anew; otherwise
/// the result is whether everything is within the budget.
pub(crate) fn check(file: &Path, write: bool) -> Result<bool, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| at(&error))?;
    let budgets: Vec<Costs> = serde_json::from_str(&text).map_err(|error| at(&error))?;
    let valgrind = super::has_valgrind();
    if !valgrind {
        if write {
            return Err("instructions are counted by valgrind, which is not installed".to_owned());
        }
        println!("SKIPPED: instructions, since valgrind is not installed");
    }
    let (mut counted, mut beyond) = (Vec::new(), 0);
    for budget in &budgets {
        let now = budget.counted(valgrind)?;
        println!(
            "{:<18} {:>10} instructions {:>8} allocations {:>8} bytes held",
            budget.name(),
            now.instructions.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            now.allocations,
            now.heap_bytes.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        );
        for difference in budget.differences(&now) {
            println!("    BEYOND THE BUDGET: {difference}");
            beyond += 1;
        }
        counted.push(now);
    }
    if write {
        let text = serde_json::to_string_pretty(&counted).map_err(|error| at(&error))?;
        fs::write(file, text + "\n").map_err(|error| at(&error))?;
        return Ok(true);
    }
    if beyond > 0 {
        println!(
            "\nwhere the change is meant, add --write, and give the reason in the commit: \
             cargo run --release -p kontiki-tests --bin bench -- --budget {} --write",
            file.display()
        );
    }
    Ok(beyond == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Costs {
        let (workload, instructions, heap_bytes) = ("w1".to_owned(), Some(10_000.0), Some(7_000.0));
        Costs { workload, members: 3, host: Does::AtOnce, n: 10, instructions, allocations: 2.04, heap_bytes }
    }

    #[test]
    fn two_percent_of_the_instructions_may_differ_and_nothing_else() {
        let budget = budget();
        let with = |instructions| Costs { instructions: Some(instructions), ..budget.clone() };
        assert_eq!(budget.differences(&with(10_200.0)), [""; 0]);
        assert_eq!(budget.differences(&with(9_800.0)), [""; 0]);
        assert_eq!(
            budget.differences(&with(10_201.0)),
            ["10201 instructions, the budget has 10000 (+2.0 %)"]
        );
        assert_eq!(budget.differences(&with(9_700.0)).len(), 1, "what was gained is kept");
        let more = Costs { allocations: 2.05, heap_bytes: Some(7_001.0), ..budget.clone() };
        assert_eq!(budget.differences(&more).len(), 2);
        let uncounted = Costs { instructions: None, ..budget.clone() };
        assert_eq!(budget.differences(&uncounted), [""; 0], "there is no valgrind");
    }

    #[test]
    fn the_budget_names_workloads_and_is_what_is_written() {
        let text = include_str!("../../../golden/costs.json");
        let budgets: Vec<Costs> = serde_json::from_str(text).expect("JSON");
        assert!(budgets.iter().all(|budget| Choice::from_str(&budget.workload, false).is_ok()));
        assert_eq!(serde_json::to_string_pretty(&budgets).expect("plain data") + "\n", text);
        let named = |name: &str| budgets.iter().any(|budget| budget.workload == name);
        assert!(["w1", "w2", "w3", "w4", "w4t", "w5", "w6", "w7"].into_iter().all(named), "each has its own");
    }
}
