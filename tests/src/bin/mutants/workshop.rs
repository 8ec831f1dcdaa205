//! The copy of the workspace with all mutants in it: made, compiled and run.

use crate::Failure;
use crate::source::Sources;
use kontiki_tests::mutant::CHOSEN;
use kontiki_tests::workspace;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What of the workspace is copied.
const COPIED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "core",
    "sim",
    "net-tokio",
    "docs",
    "tests/Cargo.toml",
    "tests/src",
    "tests/it",
    "tests/data",
    "tests/golden",
    "tests/real",
    "tests/regressions",
];

pub(crate) struct Workshop {
    pub(crate) root: PathBuf,
    pub(crate) place: PathBuf,
    copy: PathBuf,
    target: PathBuf,
    /// Of the compiler: what runs but little need not run fast.
    optimised: bool,
    _lock: File,
}

impl Workshop {
    pub(crate) fn open(root: &Path, place: &str, optimised: bool) -> Result<Self, Failure> {
        let place = root.join("target").join(place);
        let lock = workspace::lock(&place, "cargo mutate")?;
        let (copy, target) = (place.join("workspace"), place.join("target"));
        Ok(Self { root: root.to_owned(), place, copy, target, optimised, _lock: lock })
    }

    /// Makes the copy, and builds the simulator with all mutants that compile. Returns the places that are
    /// left out since they do not.
    pub(crate) fn build(&self, sources: &Sources) -> Result<BTreeSet<u32>, Failure> {
        let mut left_out = self.known(sources)?;
        if left_out.is_empty() {
            self.leave_out(sources, &mut left_out)?;
            let doubtful = sources.doubtful(&left_out);
            left_out.retain(|first| !doubtful.contains(first));
        }
        self.leave_out(sources, &mut left_out)?;
        fs::write(self.notes(), json!({ "digest": sources.digest(), "left_out": left_out }).to_string())?;
        let built =
            self.cargo().args(["build", "--quiet", "--profile", "sweep", "-p", "kontiki-sim"]).output()?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned().into());
        }
        Ok(left_out)
    }

    /// Leaves out what does not compile, until the rest does.
    fn leave_out(&self, sources: &Sources, left_out: &mut BTreeSet<u32>) -> Result<(), Failure> {
        loop {
            self.mirror(sources, left_out)?;
            let blamed = self.check(sources, left_out)?;
            if blamed.is_empty() {
                return Ok(());
            }
            left_out.extend(blamed);
        }
    }

    fn notes(&self) -> PathBuf {
        self.place.join("left-out.json")
    }

    /// What a run before this one has found not to compile, of the same sources.
    fn known(&self, sources: &Sources) -> Result<BTreeSet<u32>, Failure> {
        let Ok(text) = fs::read_to_string(self.notes()) else { return Ok(BTreeSet::new()) };
        let notes: Value = serde_json::from_str(&text)?;
        if notes["digest"].as_u64() != Some(sources.digest()) {
            return Ok(BTreeSet::new());
        }
        let switches = notes["left_out"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        Ok(switches.filter_map(|switch| u32::try_from(switch).ok()).collect())
    }

    fn mirror(&self, sources: &Sources, left_out: &BTreeSet<u32>) -> Result<(), Failure> {
        let change = |path: &Path, bytes: Vec<u8>| {
            let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/");
            sources.changed(&name, bytes, left_out)
        };
        for part in COPIED {
            workspace::mirror(&self.root.join(part), &self.copy.join(part), &change)?;
        }
        Ok(())
    }

    /// The places that the compiler's errors are about.
    fn check(&self, sources: &Sources, left_out: &BTreeSet<u32>) -> Result<BTreeSet<u32>, Failure> {
        let mut check = self.cargo();
        check.args(["check", "--quiet", "--message-format", "json", "-p", "kontiki-core", "--all-features"]);
        let checked = check.output()?;
        if checked.status.success() {
            return Ok(BTreeSet::new());
        }
        let (mut blamed, mut unexplained) = (BTreeSet::new(), String::new());
        for line in String::from_utf8(checked.stdout)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let message = &line["message"];
            if message["level"] != "error" || message["spans"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            let found = blame(sources, message, left_out);
            if found.is_empty() {
                unexplained.push_str(message["rendered"].as_str().unwrap_or_default());
            }
            blamed.extend(found);
        }
        // An error elsewhere may come from one that is explained: it is seen again if it does not.
        if blamed.is_empty() {
            let errors = if unexplained.is_empty() {
                String::from_utf8_lossy(&checked.stderr)
            } else {
                unexplained.into()
            };
            return Err(format!("the copy does not compile, and no mutant explains why:\n{errors}").into());
        }
        println!("{} places do not compile", blamed.len());
        Ok(blamed)
    }

    /// Cargo in the copy.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_SWEEP_DEBUG", "0")
            .env_remove(CHOSEN);
        if !self.optimised {
            cargo.env("CARGO_PROFILE_SWEEP_OPT_LEVEL", "0");
        }
        cargo
    }

    /// The simulator of the copy.
    pub(crate) fn simulator(&self) -> Command {
        contained(&self.target.join("sweep/kontiki-sim"))
    }

    /// Builds the simulator of this workspace, without mutants.
    pub(crate) fn build_plain(&self) -> Result<(), Failure> {
        let built = self.plain("build").status()?;
        if built.success() { Ok(()) } else { Err("the workspace does not build".into()) }
    }

    /// Runs it, once it is built.
    pub(crate) fn plain_simulator(&self) -> Command {
        let mut cargo = self.plain("run");
        cargo.arg("--");
        cargo
    }

    fn plain(&self, command: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.root).args([command, "--quiet", "--profile", "sweep", "-p", "kontiki-sim"]);
        cargo
    }
}

/// A program that may not take more memory, nor more time of a core, than a mutant that runs away should
/// have: 3 GB and a minute. How busy the machine is otherwise does not count.
pub(crate) fn contained(program: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 3000000 && ulimit -t 60 && exec \"$0\" \"$@\""]).arg(program);
    shell
}

/// The places that one error is about: where it is, or where it says that it comes from, or what is in its
/// lines.
fn blame(sources: &Sources, message: &Value, left_out: &BTreeSet<u32>) -> Vec<u32> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    let mut spans: Vec<_> = message["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    let file = |span: &Value| span["file_name"].as_str().unwrap_or_default().to_owned();
    let at = |span: &&Value| {
        let bytes = number(&span["byte_start"])..number(&span["byte_end"]);
        sources.blamed(&file(span), &bytes, left_out)
    };
    if let Some(blamed) = spans.iter().find_map(at) {
        return vec![blamed];
    }
    let in_lines = |span: &&Value| {
        let lines = number(&span["line_start"])..number(&span["line_end"]) + 1;
        sources.in_lines(&file(span), &lines, left_out)
    };
    spans.iter().map(in_lines).find(|found| !found.is_empty()).unwrap_or_default()
}
