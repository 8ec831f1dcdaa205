//! `cargo planted --rebase`: moves planted bugs along with the code that they change.
//!
//! A patch is bound to the text around it. Each one was made against the commit that last touched its file,
//! so that commit with the patch applied is one side of a three-way merge, and the present tree is the other.
//! Git finds renames on the way. A merge without conflicts is written back as the new patch, below the old
//! header.

use crate::{Bug, Failure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How many commits before the one that last touched a patch are tried, where the patch does not apply there:
/// a history that was itself rebased can have them in another order.
const ANCESTORS: &str = "40";

/// What became of a patch.
#[derive(PartialEq, Eq, Debug)]
enum Rebased {
    /// It applies as it is.
    Current,
    /// It was merged and written again.
    Rewritten,
    /// What it changes is in the tree already, so it plants nothing.
    Empty,
    /// These files have conflicts.
    Conflict(Vec<String>),
    /// It applies to no commit that it may have been made at.
    NoBase,
}

/// Re-applies each bug to the present tree and rewrites those that have moved. Returns whether all apply now.
pub(crate) fn rebase(root: &Path, bugs: &[&Bug]) -> Result<bool, Failure> {
    let repository = Repository::new(root)?;
    let present = repository.present()?;
    let (mut rewritten, mut stuck) = (0, Vec::new());
    for bug in bugs {
        let name = &bug.name;
        match repository.rebase(bug, &present)? {
            Rebased::Current => continue,
            Rebased::Rewritten => {
                rewritten += 1;
                println!("rewritten  {name}");
                continue;
            }
            Rebased::Empty => stuck.push(format!("{name}: the tree already contains its change")),
            Rebased::Conflict(files) => stuck.push(format!("{name}: conflicts in {}", files.join(", "))),
            Rebased::NoBase => stuck.push(format!("{name}: applies to no commit near its last change")),
        }
    }
    println!("{} patches, {rewritten} rewritten, {} need a hand", bugs.len(), stuck.len());
    stuck.iter().for_each(|stuck| println!("BY HAND  {stuck}"));
    Ok(stuck.is_empty())
}

/// The repository that holds the patches, read and written without its index or working tree.
struct Repository {
    root: PathBuf,
    index: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Repository {
    fn new(root: &Path) -> Result<Self, Failure> {
        let scratch = tempfile::tempdir()?;
        Ok(Self { root: root.to_owned(), index: scratch.path().join("index"), _scratch: scratch })
    }

    /// The working tree as a commit on top of HEAD, uncommitted changes included.
    fn present(&self) -> Result<String, Failure> {
        self.read(&["read-tree", "HEAD"])?;
        self.read(&["add", "--all"])?;
        let tree = self.read(&["write-tree"])?;
        self.commit(&tree, "HEAD")
    }

    fn rebase(&self, bug: &Bug, present: &str) -> Result<Rebased, Failure> {
        if self.applied(bug, present)?.is_some() {
            return Ok(Rebased::Current);
        }
        for base in self.bases(bug)? {
            let Some(tree) = self.applied(bug, &base)? else { continue };
            let patched = self.commit(&tree, &base)?;
            let merged =
                self.git(&["merge-tree", "--write-tree", "--name-only", "--no-messages", present, &patched])?;
            let text = String::from_utf8(merged.stdout)?;
            let mut lines = text.lines();
            let tree = lines.next().ok_or("git merge-tree printed nothing: git 2.38 or later is needed")?;
            if !merged.status.success() {
                return Ok(Rebased::Conflict(lines.map(str::to_owned).collect()));
            }
            return self.write(bug, present, tree);
        }
        Ok(Rebased::NoBase)
    }

    /// The commits that a patch may have been made at, the likeliest first.
    fn bases(&self, bug: &Bug) -> Result<Vec<String>, Failure> {
        let patch = bug.patch.to_string_lossy();
        let last = self.read(&["log", "-1", "--format=%H", "--", &patch])?;
        let last = if last.is_empty() { "HEAD" } else { &last };
        let commits = self.read(&["log", "--format=%H", "-n", ANCESTORS, last])?;
        Ok(commits.lines().map(str::to_owned).collect())
    }

    /// The tree of a commit with the patch applied, if it applies there.
    fn applied(&self, bug: &Bug, commit: &str) -> Result<Option<String>, Failure> {
        self.read(&["read-tree", commit])?;
        let applied = self.git(&["apply", "--cached", &bug.patch.to_string_lossy()])?;
        if applied.status.success() { self.read(&["write-tree"]).map(Some) } else { Ok(None) }
    }

    /// Writes what the merge changes as the new patch, below the header of the old one.
    fn write(&self, bug: &Bug, present: &str, tree: &str) -> Result<Rebased, Failure> {
        let diff = self.git(&["diff", "--no-color", "--no-ext-diff", "--no-renames", present, tree])?;
        let diff = String::from_utf8(diff.stdout)?;
        if diff.is_empty() {
            return Ok(Rebased::Empty);
        }
        let text = fs::read_to_string(&bug.patch)?;
        let header = text.split("diff --git").next().unwrap_or_default();
        // The blob ids say nothing to a reader, and would change with every edit of the file.
        let lines = diff.lines().filter(|line| !line.starts_with("index "));
        let body: String = lines.flat_map(|line| [line, "\n"]).collect();
        fs::write(&bug.patch, format!("{header}{body}"))?;
        Ok(Rebased::Rewritten)
    }

    fn commit(&self, tree: &str, parent: &str) -> Result<String, Failure> {
        self.read(&["commit-tree", tree, "-p", parent, "-m", "planted"])
    }

    /// What a git command prints; its failure is an error.
    fn read(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = self.git(arguments)?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("git {}: {}", arguments.join(" "), why.trim()).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn git(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).env("GIT_INDEX_FILE", &self.index).args(arguments);
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "planted")
                .env(format!("GIT_{who}_EMAIL"), "planted@localhost");
        }
        git.output().map_err(|error| format!("git cannot be run: {error}").into())
    }
}
