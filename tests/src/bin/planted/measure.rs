//! `cargo planted --measure`: how many seeds it takes to find each bug, from many starts.

use crate::{Bug, END, Failure, Simulator, Table, Workshop, output_of};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PAGE: &str = "docs/detection-power.md";
const BEGIN: &str = "<!-- table: written by `cargo planted --measure` -->\n";
const HEAD: &str = "\
| bug | profile | found | median | interval | mean | CPU seconds | commit |
|---|---|--:|--:|--:|--:|--:|---|
";
const BEGIN_SUMMARY: &str = "<!-- summary: written by `cargo planted --measure` -->\n";
const HEAD_SUMMARY: &str = "\
| profile | bugs | found from every start | median over the bugs | most | CPU seconds, median |
|---|--:|--:|--:|--:|--:|
";

/// How far the starts are from one another: further than any budget, so that no seed is run twice.
const STRIDE: u64 = 1_000_000;

/// Of how few starts the time that they take is no limit.
const FEWEST: u64 = 6;

/// How much is measured of each bug.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// From how many starts, at most.
    pub(crate) starts: u64,
    /// After how much time of a core no other start is made, once there are a few.
    pub(crate) enough: Duration,
}

impl Effort {
    /// Whether this is all, where so many starts have taken so long.
    fn is_spent(self, starts: u64, processor: Duration) -> bool {
        starts >= self.starts || starts >= FEWEST && processor >= self.enough
    }

    /// From how many starts a bug was looked for if it was measured with this effort.
    fn least(self) -> u64 {
        if self.enough == Duration::MAX { self.starts } else { self.starts.min(FEWEST) }
    }
}

/// What a bug was seen to take.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Measured {
    starts: u64,
    /// How many seeds it took from each start from which the bug was found, the fewest first.
    found: Vec<u64>,
    /// How many seeds were run, those of starts from which the bug was not found included.
    seeds: u64,
    /// How much time of a core each start took.
    processor: Vec<Duration>,
    /// Properties that fired and that the bug does not name.
    others: Vec<String>,
}

/// What one start has shown.
struct Start {
    seeds: u64,
    property: Option<String>,
    processor: Duration,
}

/// A number that stands for `none` where so many seeds did not suffice.
struct Seeds(Option<u64>);

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seeds) => write!(f, "{seeds}"),
            None => f.write_str("none"),
        }
    }
}

/// Tenths, as a decimal fraction.
struct Tenths(u128);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Measures each bug whose row is not of this commit and of as much effort. Returns whether each was found
/// from every start.
pub(crate) fn measure(workshop: &Workshop, bugs: &[&Bug], effort: Effort) -> Result<bool, Failure> {
    let commit = commit(&workshop.root)?;
    let file = workshop.root.join(PAGE);
    let table = Table { file: file.clone(), begin: BEGIN, head: HEAD };
    let mut complete = true;
    print!("{HEAD}");
    for bug in bugs {
        let text = fs::read_to_string(&file)?;
        if rows(&text, BEGIN).any(|row| row.is_of(&bug.name, &commit, effort.least())) {
            continue;
        }
        match workshop.measure(bug, effort) {
            Ok(measured) => {
                let row = measured.row(bug, &commit);
                println!("{row}");
                measured.others.iter().for_each(|other| println!("OTHER  {}: {other}", bug.name));
                complete &= measured.found.len() as u64 == measured.starts;
                table.write(bug, Some(row))?;
                summarise(&file)?;
            }
            Err(error) => {
                complete = false;
                println!("FAILED  {}: {error}", bug.name);
            }
        }
    }
    Ok(complete)
}

impl Workshop {
    fn measure(&self, bug: &Bug, effort: Effort) -> Result<Measured, Failure> {
        if bug.scenario.is_some() || bug.command == "explore" {
            return Err("it is found by a directed scenario or by exploring, not by seeds".into());
        }
        if bug.seeds > STRIDE {
            return Err(
                format!("its budget is larger than {STRIDE} seeds, and its starts would overlap").into()
            );
        }
        let simulator = self.build(bug)?;
        let (mut starts, mut processor) = (Vec::new(), Duration::ZERO);
        while !effort.is_spent(starts.len() as u64, processor) {
            // None begins at 0: those seeds are looked at whenever the simulator is worked on.
            let start = simulator.start(bug, (starts.len() as u64 + 1) * STRIDE)?;
            processor += start.processor;
            starts.push(start);
        }
        Ok(Measured::of(bug, starts))
    }
}

impl Simulator {
    /// Runs seeds from one start, one after the other, until one fails or the budget is used up.
    fn start(&self, bug: &Bug, start: u64) -> Result<Start, Failure> {
        let mut run = self.sweep_of(bug, start);
        let report: Value = serde_json::from_str(&output_of(run.args(["--jobs", "1"]))?)
            .map_err(|error| format!("the simulator itself broke down, and reported nothing: {error}"))?;
        let first = report["failures"].as_array().ok_or("the simulator reported nothing")?.first();
        let failed = |first: &Value| Some((first["seed"].as_u64()?, first["property"].as_str()?.to_owned()));
        let processor = report["processor_seconds"].as_f64().ok_or("the simulator reported no time")?;
        let processor = Duration::try_from_secs_f64(processor)?;
        Ok(match first.and_then(failed) {
            Some((seed, property)) => Start { seeds: seed - start + 1, property: Some(property), processor },
            None => Start { seeds: bug.seeds, property: None, processor },
        })
    }
}

impl Measured {
    fn of(bug: &Bug, starts: Vec<Start>) -> Self {
        let is_named = |start: &&Start| start.property.as_ref().is_some_and(|it| bug.properties.contains(it));
        let mut found: Vec<_> = starts.iter().filter(is_named).map(|start| start.seeds).collect();
        found.sort_unstable();
        let others =
            starts.iter().filter(|start| !is_named(start)).filter_map(|start| start.property.clone());
        Self {
            starts: starts.len() as u64,
            found,
            seeds: starts.iter().map(|start| start.seeds).sum(),
            others: others.collect(),
            processor: starts.iter().map(|start| start.processor).collect(),
        }
    }

    /// The number of seeds at this rank, from 1; starts from which the bug was not found come last.
    fn at(&self, rank: u64) -> Seeds {
        Seeds(rank.checked_sub(1).and_then(|rank| self.found.get(rank as usize).copied()))
    }

    /// The middle one, of two in the middle the larger.
    fn median(&self) -> Seeds {
        self.at(self.starts / 2 + 1)
    }

    /// Where the median of all starts lies in at least 95 of 100 cases, whatever the numbers' distribution.
    fn interval(&self) -> String {
        match rank_of_bound(self.starts) {
            0 => "-".to_owned(),
            rank => format!("{} to {}", self.at(rank), self.at(self.starts + 1 - rank)),
        }
    }

    /// Seeds run for each time that the bug was found. Seeds are independent, so this is what a bug takes on
    /// average even where some starts have ended without it.
    fn mean(&self) -> Option<Tenths> {
        Some(Tenths(u128::from(self.seeds * 10).checked_div(self.found.len() as u128)?))
    }

    fn row(&self, bug: &Bug, commit: &str) -> String {
        let mean = self.mean().map_or("none".to_owned(), |mean| mean.to_string());
        let processor: Duration = self.processor.iter().sum();
        let seconds = Tenths(processor.as_millis() / 100 / u128::from(self.starts.max(1)));
        format!(
            "| `{}` | {} | {} of {} | {} | {} | {mean} | {seconds} | {commit} |",
            bug.name,
            bug.world(),
            self.found.len(),
            self.starts,
            self.median(),
            self.interval()
        )
    }
}

/// The largest rank below which the median lies in at most 1 of 40 cases; zero where there is none.
fn rank_of_bound(starts: u64) -> u64 {
    let starts = u128::from(starts.min(100));
    let all = 1u128 << starts;
    let (mut below, mut ways, mut rank) = (0, 1, 0);
    // `ways` of all outcomes have exactly `rank` numbers below the median.
    while (below + ways) * 40 <= all {
        below += ways;
        ways = ways * (starts - rank) / (rank + 1);
        rank += 1;
    }
    rank as u64
}

impl Bug {
    /// What its seeds are drawn for: the profile, and the number of members where it is not five.
    fn world(&self) -> String {
        if self.command != "run" {
            return self.command.clone();
        }
        let value = |option: &str| self.run.windows(2).find(|pair| pair[0] == option).map(|pair| &*pair[1]);
        let profile = value("--profile").unwrap_or("swarm");
        value("--members").map_or(profile.to_owned(), |members| format!("{profile}, members {members}"))
    }
}

/// A row of the table, by its cells.
struct Row<'t>(Vec<&'t str>);

impl Row<'_> {
    fn cell(&self, place: usize) -> &str {
        self.0.get(place).copied().unwrap_or_default()
    }

    fn is_of(&self, bug: &str, commit: &str, starts: u64) -> bool {
        let enough = self.starts().is_some_and(|(_, of)| of >= starts);
        self.cell(0) == format!("`{bug}`") && self.cell(7) == commit && enough
    }

    /// From how many starts the bug was found, and of how many.
    fn starts(&self) -> Option<(u64, u64)> {
        let (found, of) = self.cell(2).split_once(" of ")?;
        Some((found.parse().ok()?, of.parse().ok()?))
    }

    fn profile(&self) -> &str {
        self.cell(1).split(',').next().unwrap_or_default()
    }

    /// The median; more than any number where the bug was found too seldom.
    fn median(&self) -> u64 {
        self.cell(3).parse().unwrap_or(u64::MAX)
    }

    fn tenths(&self) -> u128 {
        self.cell(6).replace('.', "").parse().unwrap_or_default()
    }
}

fn rows<'t>(text: &'t str, begin: &str) -> impl Iterator<Item = Row<'t>> {
    let table = text.split_once(begin).and_then(|(_, rest)| rest.split_once(END)).map_or("", |it| it.0);
    let row = |line: &'t str| line.strip_prefix("| `").map(|_| line.trim_matches('|').split('|'));
    table.lines().filter_map(row).map(|cells| Row(cells.map(str::trim).collect()))
}

/// Writes what all rows say together.
fn summarise(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file)?;
    let lost = || format!("{} has lost the marks of its summary", file.display());
    let (before, rest) = text.split_once(BEGIN_SUMMARY).ok_or_else(lost)?;
    let (_, after) = rest.split_once(END).ok_or_else(lost)?;
    let rows: Vec<_> = rows(&text, BEGIN).collect();
    let mut profiles: Vec<_> = rows.iter().map(Row::profile).collect();
    profiles.sort_unstable();
    profiles.dedup();
    let of = |profile: &str| rows.iter().filter(|row| row.profile() == profile).collect::<Vec<_>>();
    let mut lines: String = profiles.iter().map(|profile| line(profile, &of(profile))).collect();
    lines += &line("all", &rows.iter().collect::<Vec<_>>());
    Ok(fs::write(file, format!("{before}{BEGIN_SUMMARY}{HEAD_SUMMARY}{lines}{END}{after}"))?)
}

/// The line of the summary for these rows.
fn line(name: &str, rows: &[&Row<'_>]) -> String {
    let always = rows.iter().filter(|row| row.starts().is_some_and(|(found, of)| found == of)).count();
    let mut medians: Vec<_> = rows.iter().map(|row| row.median()).collect();
    let mut tenths: Vec<_> = rows.iter().map(|row| row.tenths()).collect();
    medians.sort_unstable();
    tenths.sort_unstable();
    let seeds = |seeds: Option<&u64>| Seeds(seeds.copied().filter(|&seeds| seeds < u64::MAX));
    let middle = rows.len() / 2;
    format!(
        "| {name} | {} | {always} | {} | {} | {} |\n",
        rows.len(),
        seeds(medians.get(middle)),
        seeds(medians.last()),
        Tenths(tenths.get(middle).copied().unwrap_or_default())
    )
}

/// The commit that is measured; with a `+` where the simulator or the bugs have changed since.
fn commit(root: &Path) -> Result<String, Failure> {
    let git = |arguments: &[&str]| -> Result<String, Failure> {
        let output = Command::new("git").current_dir(PathBuf::from(root)).args(arguments).output()?;
        if !output.status.success() {
            return Err(
                format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into()
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--", "core", "sim", "tests/planted", "Cargo.lock"])?;
    let commit = git(&["rev-parse", "--short=8", "HEAD"])?;
    Ok(if changed.is_empty() { commit } else { commit + "+" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(starts: u64, found: &[u64], budget: u64) -> Measured {
        let missed = starts - found.len() as u64;
        Measured {
            starts,
            found: found.to_vec(),
            seeds: found.iter().sum::<u64>() + missed * budget,
            processor: vec![Duration::from_millis(250); starts as usize],
            others: Vec::new(),
        }
    }

    fn bug() -> Bug {
        Bug {
            name: "a-bug".to_owned(),
            patch: PathBuf::from("a-bug.patch"),
            what: String::new(),
            pitfall: String::new(),
            properties: vec!["Contract".to_owned()],
            command: "run".to_owned(),
            run: ["--members", "3", "--profile", "storage"].map(str::to_owned).to_vec(),
            seeds: 100,
            scenario: None,
            explore: None,
            story: Vec::new(),
            is_held_back: false,
            is_gap: false,
        }
    }

    /// As in tables of the binomial distribution.
    #[test]
    fn the_interval_of_the_median_holds_in_95_of_100_cases() {
        let ranks: Vec<_> = [1, 5, 6, 10, 20, 50, 100].map(rank_of_bound).to_vec();
        assert_eq!(ranks, [0, 0, 1, 2, 6, 18, 40]);
        let twenty: Vec<_> = (1..=20).collect();
        assert_eq!(measured(20, &twenty, 100).interval(), "6 to 15");
        assert_eq!(measured(3, &[1, 2, 3], 100).interval(), "-");
    }

    #[test]
    fn no_other_start_is_made_of_a_bug_that_takes_long() {
        let long = Duration::from_mins(1);
        let effort = Effort { starts: 20, enough: long };
        assert!(!effort.is_spent(FEWEST - 1, 9 * long) && effort.is_spent(FEWEST, long));
        assert!(!effort.is_spent(19, long / 2) && effort.is_spent(20, Duration::ZERO));
        let all = Effort { enough: Duration::MAX, ..effort };
        assert!(!all.is_spent(19, 1_000 * long));
        assert_eq!((effort.least(), all.least()), (FEWEST, 20));
    }

    #[test]
    fn starts_without_the_bug_come_last_and_their_seeds_count() {
        let half = measured(20, &(1..=12).collect::<Vec<_>>(), 100);
        assert_eq!((half.median().to_string(), half.interval()), ("11".to_owned(), "6 to none".to_owned()));
        assert_eq!(half.mean().unwrap().to_string(), "73.1", "878 seeds for 12 times");
        let never = measured(20, &[], 100);
        let row = "| `a-bug` | storage, members 3 | 0 of 20 | none | none to none | none | 0.2 | abc |";
        assert_eq!(never.row(&bug(), "abc"), row);
    }

    #[test]
    fn another_property_is_not_the_bug() {
        let start = |seeds, property: Option<&str>| Start {
            seeds,
            property: property.map(str::to_owned),
            processor: Duration::ZERO,
        };
        let starts = vec![start(9, Some("Contract")), start(4, Some("Liveness")), start(100, None)];
        let measured = Measured::of(&bug(), starts);
        assert_eq!(
            (measured.found, measured.seeds, measured.others),
            (vec![9], 113, vec!["Liveness".to_owned()])
        );
    }

    #[test]
    fn a_row_is_read_back_and_summed_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows_of = [
            "| `a` | storage, members 3 | 20 of 20 | 7 | 2 to 9 | 8.0 | 0.3 | abc |\n",
            "| `b` | storage | 19 of 20 | 70 | 20 to 90 | 80.0 | 1.5 | abc |\n",
            "| `c` | swarm | 1 of 20 | none | none to none | 1900.0 | 20.1 | abd |\n",
        ];
        let page = format!("{BEGIN_SUMMARY}{END}between\n{BEGIN}{HEAD}{}{END}", rows_of.concat());
        fs::write(file.path(), &page).unwrap();
        let done = |bug, commit, starts| rows(&page, BEGIN).any(|row| row.is_of(bug, commit, starts));
        assert!(
            done("a", "abc", 20) && !done("a", "abc", 21) && !done("a", "abd", 20) && !done("d", "abc", 20)
        );
        summarise(file.path()).unwrap();
        let written = fs::read_to_string(file.path()).unwrap();
        let lines = "| storage | 2 | 1 | 70 | 70 | 1.5 |\n| swarm | 1 | 0 | none | none | 20.1 |\n\
            | all | 3 | 1 | 70 | none | 1.5 |\n";
        assert!(
            written.contains(lines) && written.ends_with(&page[page.find("between").unwrap()..]),
            "{written}"
        );
    }
}
