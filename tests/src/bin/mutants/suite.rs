//! The tests that a mutant must survive: those of `core`, and those of `tests/it` that are quick.

use crate::Failure;
use crate::plan::read_reached;
use crate::workshop::{Workshop, contained};
use kontiki_tests::mutant::CHOSEN;
use kontiki_tests::workspace::output_within;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tests that are left out: the traces' hashes, which every change changes, and those of the text of the
/// sources, which is another in the copy.
const LEFT_OUT: &[&str] = &["golden::", "house::", "api::", "imports::"];
/// What takes longer is a sweep, and the seeds are run anyway.
const QUICK: Duration = Duration::from_secs(5);
/// How long a test may last that waits and takes no time of a core, on a machine that is busy otherwise.
const LIMIT: Duration = Duration::from_secs(600);

/// A test that passes without a mutant.
#[derive(Debug)]
struct Test {
    name: String,
    binary: PathBuf,
    package: PathBuf,
    reached: BTreeSet<u32>,
    took: Duration,
}

/// All tests that may kill a mutant, the quickest first.
#[derive(Debug)]
pub(crate) struct Suite {
    tests: Vec<Test>,
    /// Those that pass, but take too long.
    pub(crate) slow: Vec<String>,
    /// Those that do not pass in the copy, where no mutant is on.
    pub(crate) failing: Vec<String>,
}

impl Suite {
    /// Builds the tests in the copy, and runs each once to see which mutants it reaches.
    pub(crate) fn record(workshop: &Workshop) -> Result<Self, Failure> {
        let mut suite = Self { tests: Vec::new(), slow: Vec::new(), failing: Vec::new() };
        for (binary, package) in binaries(workshop)? {
            let listed = output_within(
                Command::new(&binary).current_dir(&package).args(["--list", "--format", "terse"]),
                LIMIT,
            )?;
            let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
            for name in names.filter(|name| !LEFT_OUT.iter().any(|out| name.starts_with(out))) {
                suite.record_one(workshop, name, &binary, &package)?;
            }
        }
        suite.tests.sort_by_key(|test| test.took);
        Ok(suite)
    }

    fn record_one(
        &mut self,
        workshop: &Workshop,
        name: &str,
        binary: &Path,
        package: &Path,
    ) -> Result<(), Failure> {
        let file = workshop.place.join("reached");
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut test = Test {
            name: name.to_owned(),
            binary: binary.to_owned(),
            package: package.to_owned(),
            reached: BTreeSet::new(),
            took: Duration::ZERO,
        };
        let started = Instant::now();
        let passed = test.passes(|command| {
            command.env(CHOSEN, "record").env("KONTIKI_MUTANT_REACHED", &file);
        })?;
        test.took = started.elapsed();
        test.reached = read_reached(&file)?;
        match passed {
            false => self.failing.push(test.name),
            true if test.took > QUICK => self.slow.push(test.name),
            true => self.tests.push(test),
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.tests.len()
    }

    /// The first test that fails with this mutant.
    pub(crate) fn killer(&self, switch: u32) -> Result<Option<String>, Failure> {
        for test in self.tests.iter().filter(|test| test.reached.contains(&switch)) {
            let passed = test.passes(|command| {
                command.env(CHOSEN, switch.to_string());
            })?;
            if !passed {
                return Ok(Some(test.name.clone()));
            }
        }
        Ok(None)
    }
}

impl Test {
    /// Whether it passes, with this environment. One that does not end fails.
    fn passes(&self, environment: impl FnOnce(&mut Command)) -> Result<bool, Failure> {
        let mut command = contained(&self.binary);
        command.current_dir(&self.package).args(["--exact", &self.name, "--test-threads", "1"]);
        command.env("CARGO_MANIFEST_DIR", &self.package).stderr(Stdio::null());
        environment(&mut command);
        match output_within(&mut command, LIMIT) {
            Ok(printed) => Ok(printed.contains("test result: ok. 1 passed")),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Builds the tests, and names each binary with the folder of its package.
fn binaries(workshop: &Workshop) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for (package, targets) in
        [("kontiki-core", &["--lib", "--test=schedules"][..]), ("kontiki-tests", &["--test=it"])]
    {
        let mut build = workshop.cargo();
        build.args(["test", "--no-run", "--quiet", "--profile", "sweep", "--all-features", "-p", package]);
        let built = build.args(["--message-format", "json"]).args(targets).output()?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned().into());
        }
        for line in String::from_utf8(built.stdout)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let folder = line["manifest_path"].as_str().and_then(|path| Path::new(path).parent());
            if let (Some(binary), Some(folder), true) =
                (line["executable"].as_str(), folder, line["profile"]["test"] == true)
            {
                found.push((PathBuf::from(binary), folder.to_owned()));
            }
        }
    }
    Ok(found)
}
