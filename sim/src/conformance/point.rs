//! Where in a workload something happens, and what: enough to make it happen again.

use super::bench::Asked;
use super::fault::Fault;
use crate::storage::{Plan, Rot, SimDisk};
use crate::stream::Stream;
use kontiki_core::wal::FileName;
use std::fmt;

/// One point of one run of the kit: what goes wrong on the way, and how the run is cut off. Two runs to the
/// same point do the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// What goes wrong at which call to the disk, counted from zero.
    pub fault: Option<(u64, Fault)>,
    /// The run is cut off before this call to the disk.
    pub before: u64,
    /// How.
    pub crash: Crash,
}

/// How a run is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process dies and the machine does not: everything written is still read back, and what was not
    /// synced is still not durable.
    Killed,
    /// Power fails, and this is left of what was not synced.
    Power(Plan),
    /// Power fails, and chance decides, by this seed, what is left of what was not synced.
    Chance(u64),
    /// Power fails, and nothing is left of what was not synced; then these bytes, durable as they were, go
    /// bad.
    Rots {
        /// In which file.
        file: FileName,
        /// Where.
        at: u64,
        /// How many.
        length: u64,
        /// How; none where they cannot be read any more.
        how: Option<Rot>,
    },
}

impl Crash {
    pub(super) fn apply(self, disk: &mut SimDisk) {
        match self {
            Self::Killed => disk.disarm(),
            Self::Power(plan) => {
                disk.crash_at(plan);
            }
            Self::Chance(seed) => {
                disk.crash(&mut Stream::named(seed, "conformance", 0));
            }
            Self::Rots { file, at, length, how } => {
                disk.crash_at(Plan::KeepNone);
                // A file that is not there cannot rot.
                let _ = match how {
                    Some(how) => disk.rot(file, at..at + length, how),
                    None => disk.make_unreadable(file, at..at + length),
                };
            }
        }
    }

    /// The ways in which power can fail that are told apart by what there is to lose.
    pub(super) fn of(disk: &SimDisk) -> Vec<Self> {
        let unsynced = disk.unsynced();
        let mut plans = vec![Plan::KeepNone];
        if !unsynced.is_empty() {
            plans.extend([Plan::KeepAll, Plan::KeepContents, Plan::KeepNames]);
        }
        let earlier = unsynced.len().saturating_sub(LATEST);
        for (position, change) in unsynced.iter().enumerate().skip(earlier) {
            plans.extend([Plan::KeepOnly(position), Plan::LoseOnly(position)]);
            for bytes in cuts(change.length()) {
                plans.push(Plan::TearAfter(position, bytes));
                plans.push(Plan::KeepOnlyPrefix(position, bytes));
                plans.push(Plan::LoseOnlyPrefix(position, bytes));
            }
        }
        let chances = if unsynced.is_empty() { 0 } else { CHANCES };
        let chances = (0..chances).map(Self::Chance);
        std::iter::once(Self::Killed).chain(plans.into_iter().map(Self::Power)).chain(chances).collect()
    }

    /// The same for after an error, of which there are many.
    pub(super) fn few() -> [Self; 5] {
        [
            Self::Killed,
            Self::Power(Plan::KeepNone),
            Self::Power(Plan::KeepAll),
            Self::Chance(1),
            Self::Chance(2),
        ]
    }
}

/// Where a write of this length is torn: in its first, its last and a middle sector, and between two.
fn cuts(length: u64) -> Vec<u64> {
    let mut cuts: Vec<_> = [1, 512, length / 2 / 512 * 512 + 100, length.saturating_sub(1)]
        .into_iter()
        .filter(|cut| *cut > 0 && *cut < length)
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// How many of the latest changes are lost, kept and torn one by one.
const LATEST: usize = 4;
/// How many crashes at each point are left to chance.
const CHANCES: u64 = 3;

/// As Rust, to be pasted where the kit is called.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Point {{ fault: ")?;
        match self.fault {
            None => f.write_str("None")?,
            Some((at, fault)) => write!(f, "Some(({at}, Fault::{fault:?}))")?,
        }
        write!(f, ", before: {}, crash: ", self.before)?;
        match self.crash {
            Crash::Killed => f.write_str("Crash::Killed")?,
            Crash::Power(plan) => write!(f, "Crash::Power(Plan::{plan:?})")?,
            Crash::Chance(seed) => write!(f, "Crash::Chance({seed})")?,
            Crash::Rots { file, at, length, how } => {
                let file = match file {
                    FileName::Vote(slot) => format!("Vote(Slot::{slot:?})"),
                    file => format!("{file:?}"),
                };
                let how = how.map_or("None".to_owned(), |how| format!("Some(Rot::{how:?})"));
                write!(
                    f,
                    "Crash::Rots {{ file: FileName::{file}, at: {at}, length: {length}, how: {how} }}"
                )?;
            }
        }
        f.write_str(" }")
    }
}

/// Which promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// After a mere crash, or an error that is over, it opens.
    Opens,
    /// Where nothing goes wrong it reports no error, and in the end everything is acknowledged.
    Works,
    /// Nothing is acknowledged that was not written.
    AcknowledgesWhatIsWritten,
    /// What was acknowledged survives.
    KeepsWhatIsAcknowledged,
    /// The term and the vote are never older than those acknowledged.
    KeepsTheVote,
    /// No entry is durable before the term that wrote it.
    TermBeforeEntries,
    /// Beyond what was acknowledged there is only a prefix of what was written, each write wholly or not at
    /// all.
    NothingButWhatWasWritten,
    /// A mere crash is not reported as damage.
    NoFalseAlarm,
    /// What was once found when it opened is found again: the member has acted upon it.
    KeepsWhatWasFound,
    /// A full disk is reported as such, loses nothing, and is no hindrance any more once there is space.
    OutlivesAFullDisk,
    /// What was acknowledged and then damaged is reported as lost, or not opened; it is never missing, and
    /// never another.
    ReportsDamage,
    /// What was lost and is filled again is as it was.
    Repairs,
}

/// A promise that was broken, and the one call that shows it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// At which point.
    pub point: Point,
    /// What was going on: the step of the workload, and the call to the disk.
    pub during: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub found: String,
    /// The function of the kit that replays the point.
    pub(super) replay: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, point, during, expected, found, replay } = self;
        writeln!(f, "{rule:?} is violated: {during}")?;
        writeln!(f, "  expected: {expected}")?;
        writeln!(f, "  found:    {found}")?;
        write!(f, "  again:    conformance::{replay}({point}, open)")
    }
}

impl std::error::Error for Violation {}

/// What was tried, of something that breaks no promise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Passed {
    /// How often a run was cut off.
    pub points: u64,
    /// Calls to the disk in the longest run.
    pub operations: u64,
    /// How often something was damaged.
    pub damaged: u64,
    /// How often damage to what was acknowledged was reported as lost entries or as a lost snapshot.
    pub reported: u64,
    /// How often damage made it refuse to open.
    pub refused: u64,
}

pub(super) fn during(step: &str, asked: Option<Asked>) -> String {
    match asked {
        Some(asked) => format!("{step}, at {asked}"),
        None => step.to_owned(),
    }
}
