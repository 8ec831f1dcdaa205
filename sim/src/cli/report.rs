//! The report of a shard as a file: what it has shown so far, and what it takes to go on or to merge it.

use super::Cluster;
use super::array::ArrayError;
use super::shard::Shard;
use super::summary::Summary;
use kontiki_sim::hash::StableHasher;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What reports that are merged have in common.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sweep {
    /// The version of the program.
    version: String,
    /// A hash of the program itself: another build may run the same seed in another way.
    program: Option<u64>,
    /// The whole range, of which a shard runs a part.
    pub(super) seeds: Range<u64>,
    pub(super) cluster: Cluster,
    twice: bool,
    /// Whether it may end before all of its seeds are run: when its time is up, or at a signal.
    pub(super) open_ended: bool,
}

impl Sweep {
    /// A sweep by this program, of which nothing is kept.
    pub(super) fn new(seeds: Range<u64>, cluster: Cluster, twice: bool, open_ended: bool) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version, program: None, seeds, cluster, twice, open_ended }
    }

    /// A sweep by this build of the program alone.
    pub(super) fn by_this_build(self) -> Result<Self, ReportError> {
        let program = std::env::current_exe().and_then(fs::read).map_err(ReportError::Program)?;
        Ok(Self { program: Some(StableHasher::of(&program)), ..self })
    }

    /// In what another sweep differs, where it does.
    fn differs_in(&self, other: &Self) -> Option<&'static str> {
        let same = [
            ("versions of the program", self.version == other.version),
            ("ranges of seeds", self.seeds == other.seeds),
            ("numbers of members", self.cluster.members == other.cluster.members),
            ("profiles", self.cluster.profile == other.cluster.profile),
            ("settings of --twice", self.twice == other.twice),
            ("ways to end, by --for or by the seeds,", self.open_ended == other.open_ended),
            ("builds of the program", self.program == other.program),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportFile {
    pub(super) sweep: Sweep,
    pub(super) shard: Shard,
    pub(super) summary: Summary,
}

/// Why a report cannot be used.
#[derive(Debug)]
pub(super) enum ReportError {
    Program(io::Error),
    Read(PathBuf, io::Error),
    Write(PathBuf, io::Error),
    NoReport(PathBuf, String),
    OtherSweep { path: PathBuf, differs: &'static str },
    OtherShard { path: PathBuf, shard: Shard },
    Doubled { path: PathBuf, seed: u64 },
    Missing(Vec<Range<u64>>),
    Interrupted { missing: u64, kept: bool },
    NoSeeds,
    Signals(io::Error),
    Array(ArrayError),
}

impl From<ArrayError> for ReportError {
    fn from(error: ArrayError) -> Self {
        Self::Array(error)
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => {
                write!(f, "cannot read the running program: {error}; run it from its file")
            }
            Self::Read(path, error) => {
                write!(
                    f,
                    "cannot read {}: {error}; name a file that `run --report` has written",
                    path.display()
                )
            }
            Self::Write(path, error) => write!(
                f,
                "cannot write {}: {error}; name a file in a directory that can be written to",
                path.display()
            ),
            Self::NoReport(path, error) => write!(
                f,
                "{} is no report: {error}; remove it, and run its shard again with --report",
                path.display()
            ),
            Self::OtherSweep { path, differs } => write!(
                f,
                "{} belongs to another sweep: {differs} differ; use the same program and options for all, or another file",
                path.display()
            ),
            Self::OtherShard { path, shard } => write!(
                f,
                "{} is the report of shard {shard}; give --shard {shard}, or another file",
                path.display()
            ),
            Self::Doubled { path, seed } => write!(
                f,
                "seed {seed} is doubled: {} holds it, and so does a report before; name each report once",
                path.display()
            ),
            Self::Missing(ranges) => write!(
                f,
                "seeds are missing: {}; run their shards again with the same --report, and merge all",
                first_of(ranges)
            ),
            Self::Interrupted { missing, kept } => {
                let then = if *kept {
                    "the same command goes on where its report ends"
                } else {
                    "with --report the same command goes on where it was"
                };
                let missing = match missing {
                    0 => "the time was not up".to_owned(),
                    missing => format!("{missing} seeds are missing"),
                };
                write!(f, "the sweep was interrupted, and {missing}; {then}")
            }
            Self::NoSeeds => f.write_str("no seed was run in this time: give a longer one, as in --for 1m"),
            Self::Signals(error) => write!(f, "cannot heed signals: {error}; try again"),
            Self::Array(error) => error.fmt(f),
        }
    }
}

/// The first of these ranges, and how many more there are.
fn first_of(ranges: &[Range<u64>]) -> String {
    let first: Vec<_> = ranges.iter().take(TOLD).map(|range| format!("{range:?}")).collect();
    match ranges.len().saturating_sub(TOLD) {
        0 => first.join(", "),
        more => format!("{} and {more} more ranges", first.join(", ")),
    }
}

/// How many ranges of missing seeds are told.
const TOLD: usize = 10;

impl ReportFile {
    pub(super) fn new(sweep: Sweep, shard: Shard) -> Self {
        Self { sweep, shard, summary: Summary::default() }
    }

    /// The report in a file, which may have been cut or edited.
    pub(super) fn load(path: &Path) -> Result<Self, ReportError> {
        let bytes = fs::read(path).map_err(|error| ReportError::Read(path.to_owned(), error))?;
        let wrong = |error: String| ReportError::NoReport(path.to_owned(), error);
        let report: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let Sweep { seeds, cluster, .. } = &report.sweep;
        if !(1..=64).contains(&cluster.members) {
            return Err(wrong(format!("{} members are not between 1 and 64", cluster.members)));
        }
        if !report.summary.is_of(&report.shard.of(seeds)) {
            return Err(wrong(format!("it holds seeds that are not of shard {}", report.shard)));
        }
        Ok(report)
    }

    /// The report to go on with: the one in the file, or a new one where there is no file.
    pub(super) fn resume(path: &Path, sweep: Sweep, shard: Shard) -> Result<Self, ReportError> {
        let mut report = match Self::load(path) {
            Err(ReportError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::new(sweep, shard));
            }
            loaded => loaded?,
        };
        report.same_sweep(&sweep, path)?;
        if report.shard != shard {
            return Err(ReportError::OtherShard { path: path.to_owned(), shard: report.shard });
        }
        // It is not done, so it runs again.
        report.summary.hung.clear();
        Ok(report)
    }

    /// The seeds of the report in a file; none where there is no file.
    pub(super) fn seeds_of(path: &Path) -> Result<Option<Range<u64>>, ReportError> {
        match Self::load(path) {
            Err(ReportError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            loaded => loaded.map(|report| Some(report.sweep.seeds)),
        }
    }

    /// Adds what another shard has shown.
    pub(super) fn merge(&mut self, other: Self, path: &Path) -> Result<(), ReportError> {
        other.same_sweep(&self.sweep, path)?;
        self.summary.merge(other.summary).map_err(|seed| ReportError::Doubled { path: path.to_owned(), seed })
    }

    fn same_sweep(&self, sweep: &Sweep, path: &Path) -> Result<(), ReportError> {
        match self.sweep.differs_in(sweep) {
            Some(differs) => Err(ReportError::OtherSweep { path: path.to_owned(), differs }),
            None => Ok(()),
        }
    }

    /// The seeds of a part of the sweep that must be run and are not done.
    pub(super) fn missing(&self, shard: Shard) -> Vec<Range<u64>> {
        if self.sweep.open_ended {
            return Vec::new();
        }
        self.summary.done.missing(&shard.of(&self.sweep.seeds))
    }

    /// The seeds that are still to be run by this shard.
    pub(super) fn to_do(&self) -> Vec<Range<u64>> {
        self.summary.done.missing(&self.shard.of(&self.sweep.seeds))
    }

    /// Writes a temporary file, then renames it: the file is always a whole report.
    pub(super) fn save(&self, path: &Path) -> Result<(), ReportError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|error| ReportError::Write(path.to_owned(), error))
    }
}
