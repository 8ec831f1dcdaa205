//! What a run has shown.

use kontiki_core::types::NodeId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

pub use crate::fault::FaultKind;
pub use crate::mark::{Due, Mark};
pub use crate::part::{Involvement, LogEntry, Part, Stamp};

/// Numbers that add up over runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Kernel steps.
    pub steps: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_nanos: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Entries committed by the group.
    pub commits: u64,
    /// Requests of clients that were answered as committed.
    pub acknowledged: u64,
    /// Messages sent between members.
    pub messages: u64,
    /// Keys whose histories could not be decided: none, or the check was not made.
    pub undecided: u64,
    #[serde(serialize_with = "write_faults", deserialize_with = "read_faults")]
    faults: [u64; FaultKind::ALL.len()],
    #[serde(serialize_with = "write_marks", deserialize_with = "read_marks")]
    marks: [u64; Mark::ALL.len()],
}

/// Counts as data: a map from the name of each to its count, with neither more names nor fewer.
macro_rules! counts_by_name {
    ($write:ident, $read:ident, $Counted:ident) => {
        fn $write<S: Serializer>(counts: &[u64; $Counted::ALL.len()], to: S) -> Result<S::Ok, S::Error> {
            to.collect_map($Counted::ALL.iter().map(|one| (one.name(), counts[*one as usize])))
        }

        fn $read<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; $Counted::ALL.len()], D::Error> {
            let mut named = BTreeMap::<String, u64>::deserialize(from)?;
            let mut counts = [0; $Counted::ALL.len()];
            for one in $Counted::ALL {
                let count = named.remove(one.name());
                counts[one as usize] = count.ok_or_else(|| D::Error::missing_field(one.name()))?;
            }
            match named.keys().next() {
                Some(name) => Err(D::Error::custom(format_args!("nothing is counted as `{name}`"))),
                None => Ok(counts),
            }
        }
    };
}

counts_by_name!(write_faults, read_faults, FaultKind);
counts_by_name!(write_marks, read_marks, Mark);

impl Default for Counters {
    fn default() -> Self {
        Self {
            steps: 0,
            virtual_nanos: 0,
            elections: 0,
            commits: 0,
            acknowledged: 0,
            messages: 0,
            undecided: 0,
            faults: [0; FaultKind::ALL.len()],
            marks: [0; Mark::ALL.len()],
        }
    }
}

impl Counters {
    /// One more fault.
    pub(crate) fn fault(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
    }

    /// Several more faults.
    pub(crate) fn faults_of(&mut self, kind: FaultKind, count: u64) {
        self.faults[kind as usize] += count;
    }

    /// A mark was reached.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks[mark as usize] += 1;
    }

    /// How often a mark was reached.
    pub fn seen(&self, mark: Mark) -> u64 {
        self.marks[mark as usize]
    }

    /// How often each kind of fault happened.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        FaultKind::ALL.iter().map(|kind| (kind.name(), self.faults[*kind as usize])).collect()
    }

    /// How often each mark was reached.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        Mark::ALL.iter().map(|mark| (mark.name(), self.marks[*mark as usize])).collect()
    }

    /// Adds those of another run. A sum beyond 64 bits stays at their greatest number.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.steps, other.steps);
        add(&mut self.virtual_nanos, other.virtual_nanos);
        add(&mut self.elections, other.elections);
        add(&mut self.commits, other.commits);
        add(&mut self.acknowledged, other.acknowledged);
        add(&mut self.messages, other.messages);
        add(&mut self.undecided, other.undecided);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, more)| add(sum, more));
        self.marks.iter_mut().zip(other.marks).for_each(|(sum, more)| add(sum, more));
    }
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Its name, as in the paper where the paper has one.
    pub property: String,
    /// What was seen instead.
    pub detail: String,
    /// The step at which it was seen.
    pub step: u64,
    /// The virtual time, in nanoseconds.
    pub at: u64,
    /// Who had a part in it, since when and with what, as far as its check knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// What a run of one scenario has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How much happened.
    pub counters: Counters,
    /// Depends on every step of the run: equal hashes are equal runs.
    pub trace_hash: u64,
    /// How many commands and queries clients drew.
    pub operations: u64,
    /// The property that was violated, if one was.
    pub failure: Option<Failure>,
}

impl Failure {
    /// A failure in which no part of a member is known.
    pub fn new(property: &str, detail: String, step: u64, at: u64) -> Self {
        Self { property: property.to_owned(), detail, step, at, parts: Vec::new() }
    }

    /// The members that had a part in it, in their order.
    pub fn members(&self) -> Vec<NodeId> {
        let mut members: Vec<_> = self.parts.iter().filter_map(|part| part.member).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The parts that say more than which member acted when it was seen.
    pub fn shown_parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.what != Involvement::Acts)
    }

    /// The first of the steps at which its parts came about; the step at which it was seen, where none is
    /// known.
    pub fn first_step(&self) -> u64 {
        let steps = self.parts.iter().filter_map(|part| part.since).map(|since| since.step);
        steps.min().unwrap_or(self.step)
    }
}

/// A line; with `{:#}`, and one for each part that says more than who acted.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = Stamp { step: self.step, at: self.at };
        write!(f, "{} at {seen}: {}", self.property, self.detail)?;
        if f.alternate() {
            self.shown_parts().try_for_each(|part| write!(f, "\n  {part}"))?;
        }
        Ok(())
    }
}
