//! What is told of a seed that fails: what failed, the smallest scenario in which it does, the log there, how
//! it came about, and how to see it again.

use crate::report::Failure;
use crate::scenario::{Scenario, ScenarioError};
use crate::story::Story;
use crate::trace::LEGEND;
use crate::when::{Effort, When};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};
use thiserror::Error;

/// Names a single seed to run.
pub(super) const SEED: &str = "KONTIKI_SEED";
/// Names a file with a scenario to run.
pub(super) const SCENARIO: &str = "KONTIKI_SCENARIO";
/// Asks when a failure was decided, by so many forks at each point.
pub(super) const WHEN: &str = "KONTIKI_WHEN";

/// Why a [`Test`](super::Test) does not pass.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum TestError {
    /// A seed fails.
    #[error("{0}")]
    Failed(Box<FailedSeed>),
    /// The range of seeds is empty, so nothing was tested.
    #[error("the range of seeds is empty: give at least one, as in 0..100")]
    NoSeeds,
    /// There are no members, so nothing was tested.
    #[error("the clusters have no members: give at least one, as in .members(3)")]
    NoMembers,
    /// A scenario cannot be run, so nothing was tested.
    #[error("the scenario of seed {seed} cannot be run: {wrong}")]
    Scenario {
        /// The seed.
        seed: u64,
        /// What is wrong with it.
        #[source]
        wrong: ScenarioError,
    },
    /// An environment variable does not name what it should: which, and what is wrong.
    #[error("{0} {1}")]
    Variable(&'static str, String),
}

/// A seed that fails, and what there is to look into it with.
#[derive(Clone, PartialEq, Debug)]
pub struct FailedSeed {
    /// The first seed that fails; none where a file held the scenario.
    pub seed: Option<u64>,
    /// What fails, in the smallest scenario that was found.
    pub failure: Failure,
    /// Where the run of the seed is not the same twice, and what usually makes it so. Such a failure is not
    /// made smaller.
    pub varies: Option<String>,
    /// What stopped the search for a smaller scenario; nothing where it came to its end, or was not made.
    pub cut_short: Option<CutShort>,
    /// When the failure was decided, where that was asked.
    pub when: Option<When>,
    /// The steps in which it was, one a line.
    pub decided: Vec<String>,
    /// That scenario.
    pub scenario: Scenario,
    /// How many faults the scenario of the seed had, contests included.
    pub faults: usize,
    /// The end of the log that was applied there, in the words of the workload, one entry a line. The entry
    /// at which the run failed is marked with `>`.
    pub log: Vec<String>,
    /// How it came about there; none if that run failed no more, as one that is not the same twice may.
    pub story: Option<Story>,
    /// Where that scenario, all of its steps, and the page that shows them were written; nowhere if that
    /// failed.
    pub files: Vec<PathBuf>,
    /// The name of the test, where it is one.
    pub test: Option<String>,
}

/// What stopped the search for a smaller scenario before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutShort {
    /// It had taken so many steps.
    Steps(u64),
    /// The test told it to stop: on another machine it may get further.
    Told,
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => {
                write!(f, "Shrinking stopped after {steps} steps; `shrink_steps` of the test allows more.")
            }
            Self::Told => f.write_str(
                "Shrinking stopped when `shrink_while` of the test said so, which may depend on this machine.",
            ),
        }
    }
}

impl FailedSeed {
    /// How much is in the scenario, and how much there was.
    fn write_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, varies, when, cut_short, scenario, faults, .. } = self;
        let (left, members) = (faults_of(scenario), scenario.members.len());
        let (faults, members) = (counted(*faults, "fault"), counted(members, "member"));
        match seed {
            Some(seed) if varies.is_some() || when.is_some() => {
                writeln!(f, "Seed {seed} fails, with {faults} and {members}{}.", contested(scenario))?;
            }
            Some(seed) => {
                let (are, contests) = (if left == 1 { "is" } else { "are" }, contested(scenario));
                writeln!(
                    f,
                    "Seed {seed} fails. Its scenario has {faults}; {left} {are} left in the smallest one found"
                )?;
                writeln!(f, "that fails in the same way, with {members}{contests}.")?;
            }
            None => writeln!(f, "The scenario in the file fails, with {faults} and {members}.")?,
        }
        cut_short.iter().try_for_each(|cut_short| writeln!(f, "{cut_short}"))
    }

    /// When the failure was decided, where that was asked.
    fn write_when(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(when) = &self.when else { return Ok(()) };
        writeln!(f, "\nWhen it was decided:\n{when}")?;
        self.decided.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, failure, varies, when, log, story, files, test, .. } = self;
        if let Some(varies) = varies {
            writeln!(f, "{varies}\n")?;
        }
        writeln!(f, "{failure:#}\n")?;
        self.write_size(f)?;
        writeln!(f, "\nThe end of the log:")?;
        log.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if let Some(story) = story {
            writeln!(f, "\nHow it came about:")?;
            story.lines().iter().try_for_each(|fact| writeln!(f, "{fact}"))?;
        }
        self.write_when(f)?;
        let command = match test {
            Some(test) => format!("cargo test {test} -- --exact"),
            None => "and the same command".to_owned(),
        };
        if let Some(seed) = seed {
            writeln!(f, "\n  replay the seed:      {SEED}={seed} {command}")?;
            if varies.is_none() && when.is_none() {
                let forks = Effort::default().forks;
                writeln!(f, "  when it was decided:  {SEED}={seed} {WHEN}={forks} {command}")?;
            }
        }
        for file in files {
            let path = file.display();
            match file.extension().and_then(OsStr::to_str) {
                Some("json") if varies.is_some() || when.is_some() => {
                    writeln!(f, "  the scenario:         {SCENARIO}={path} {command}")?;
                }
                Some("json") => writeln!(f, "  replay the smallest:  {SCENARIO}={path} {command}")?,
                Some("html") => writeln!(f, "  see it in a browser:  {path}")?,
                _ => writeln!(f, "  all of its steps:     {path}")?,
            }
        }
        Ok(())
    }
}

/// How many faults a scenario has at most: those that it lists, the test's own too, and its contests.
pub(super) fn faults_of(scenario: &Scenario) -> usize {
    scenario.faults.len() + scenario.custom_faults.len() + contests(scenario)
}

fn contests(scenario: &Scenario) -> usize {
    scenario.contests.as_ref().map_or(0, |contests| contests.times as usize)
}

/// How many of the faults are aimed at moments of the run.
fn contested(scenario: &Scenario) -> String {
    match contests(scenario) {
        0 => String::new(),
        1 => "; one of the faults strikes at a chosen moment (a contest)".to_owned(),
        times => format!("; {times} of the faults strike at chosen moments (contests)"),
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What is to be run: the seeds, or what a variable names instead.
pub(super) fn scenarios(
    seeds: Range<u64>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Chosen, TestError> {
    if let Some(path) = variable(SCENARIO) {
        let wrong = |what: String| TestError::Variable(SCENARIO, what);
        let path = Path::new(&path);
        let text = fs::read_to_string(path).map_err(|error| {
            wrong(format!("names a file that cannot be read: {}: {error}", path.display()))
        })?;
        let scenario = serde_json::from_str(&text).map_err(|error| {
            wrong(format!("names a file that is no scenario: {}: {error}", path.display()))
        })?;
        return Ok(Chosen::Scenario(Box::new(scenario)));
    }
    if let Some(seed) = variable(SEED) {
        let number = seed.to_str().and_then(|seed| seed.parse().ok());
        let wrong = || {
            TestError::Variable(
                SEED,
                format!("is {seed:?}, and no number: set it to a seed, as in {SEED}=17"),
            )
        };
        let number: u64 = number.ok_or_else(wrong)?;
        return Ok(Chosen::Seeds(number..number.saturating_add(1)));
    }
    if seeds.is_empty() {
        return Err(TestError::NoSeeds);
    }
    Ok(Chosen::Seeds(seeds))
}

/// By how many forks it is asked when a failure was decided; none where it is not asked.
pub(super) fn forks(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<u32>, TestError> {
    let Some(forks) = variable(WHEN) else { return Ok(None) };
    let number =
        forks.to_str().and_then(|forks| forks.parse().ok()).filter(|forks| (1..=10_000).contains(forks));
    let wrong = || {
        let what = format!("is {forks:?}, and no number of forks from 1 to 10000: as in {WHEN}=32");
        TestError::Variable(WHEN, what)
    };
    number.ok_or_else(wrong).map(Some)
}

/// What a test runs.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Chosen {
    Seeds(Range<u64>),
    Scenario(Box<Scenario>),
}

/// Writes a scenario, all of its steps and their page to files, and returns where.
pub(super) fn save(
    scenario: &Scenario,
    steps: &[String],
    page: &str,
    name: &str,
) -> io::Result<Vec<PathBuf>> {
    let directory = env::temp_dir().join("kontiki-sim");
    fs::create_dir_all(&directory)?;
    let [json, trace, html] = ["json", "trace", "html"].map(|kind| directory.join(format!("{name}.{kind}")));
    fs::write(&json, serde_json::to_string_pretty(scenario)? + "\n")?;
    fs::write(&trace, format!("{LEGEND}\n{}\n", steps.join("\n")))?;
    fs::write(&html, page)?;
    Ok(vec![json, trace, html])
}

/// The name of the test that runs: its thread has it.
pub(super) fn test_name() -> Option<String> {
    let name = std::thread::current().name()?.to_owned();
    (name != "main").then_some(name)
}

/// A name for the files of a seed.
pub(super) fn file_name(test: Option<&str>, seed: u64) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let test: String = test.unwrap_or("test").chars().map(plain).collect();
    format!("{test}-{seed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Profile;

    fn chosen(seeds: Range<u64>, name: &str, value: &str) -> Result<Chosen, TestError> {
        scenarios(seeds, |asked| (asked == name).then(|| value.into()))
    }

    #[test]
    fn a_variable_asks_when_a_failure_was_decided() {
        let asked = |value: &str| forks(|name| (name == WHEN).then(|| value.into()));
        assert_eq!((forks(|_| None), asked("32")), (Ok(None), Ok(Some(32))));
        for wrong in ["", "many", "0", "10001"] {
            let said = asked(wrong).expect_err(wrong).to_string();
            assert!(said.starts_with(&format!("KONTIKI_WHEN is {wrong:?}")), "{said}");
        }
    }

    #[test]
    fn a_seed_or_a_scenario_is_run_instead_where_a_variable_says_so() {
        assert_eq!(chosen(0..5, "", ""), Ok(Chosen::Seeds(0..5)));
        assert_eq!(chosen(0..5, SEED, "17"), Ok(Chosen::Seeds(17..18)));
        assert_eq!(chosen(3..3, "", ""), Err(TestError::NoSeeds));
        let wrong = chosen(0..5, SEED, "many").expect_err("it is no number").to_string();
        assert!(wrong.starts_with("KONTIKI_SEED is \"many\""), "{wrong}");
        let wrong = chosen(0..5, SCENARIO, "/nowhere").expect_err("there is no file").to_string();
        assert!(wrong.contains("cannot be read"), "{wrong}");
        let scenario = Scenario::draw(3, 3, Profile::Storage);
        let files = save(&scenario, &[], "", "a-test-of-scenarios").expect("it is written");
        let path = files[0].to_str().expect("plain letters");
        assert_eq!(chosen(0..5, SCENARIO, path), Ok(Chosen::Scenario(Box::new(scenario))));
        let wrong = chosen(0..5, SCENARIO, files[1].to_str().expect("plain letters"));
        assert!(wrong.expect_err("that is a trace").to_string().contains("is no scenario"));
    }
}
