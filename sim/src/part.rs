//! Who had a part in a failure: which member or client, since which step, and with what.

use crate::fault::FaultKind;
use kontiki_core::log::EntryBody;
use kontiki_core::types::{Index, LogId, NodeId, Payload, Term};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment of a run.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The number of the step, or of the last one before.
    pub step: u64,
    /// The virtual time, in nanoseconds.
    pub at: u64,
}

/// What a member or a client has to do with a failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The member, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<NodeId>,
    /// When it came about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Stamp>,
    /// What it did, or holds.
    pub what: Involvement,
}

/// What a member or a client did that has to do with a failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Involvement {
    /// It took the step at which the failure was seen, or was told something then.
    Acts,
    /// It was elected.
    Leads {
        /// The leader of this term.
        term: Term,
    },
    /// It voted.
    Votes {
        /// For whom.
        candidate: NodeId,
        /// In which term.
        term: Term,
    },
    /// It was the first to append an entry.
    Appends(LogEntry),
    /// Its log has this entry.
    Holds(LogEntry),
    /// Its log has no entry at this index.
    HoldsNothing(Index),
    /// Its disk says that this entry was there, and is lost.
    HasLost(LogId),
    /// It knows an entry to be committed.
    Commits(LogEntry),
    /// It told a client that an entry is committed.
    Acknowledges(LogEntry),
    /// It reported an entry as durable.
    Persists(LogEntry),
    /// Its state machine has applied all through this entry, and then has this digest.
    Applies {
        /// The entry.
        through: Index,
        /// The digest of the state.
        digest: u64,
    },
    /// It serves a read as of this entry.
    Serves(Index),
    /// It crashed.
    Crashes {
        /// How many writes its disk lost.
        lost: u64,
    },
    /// Its disk was damaged.
    Damaged {
        /// By which fault.
        by: FaultKind,
    },
    /// What a client asked and was told.
    Operation(String),
}

/// An entry of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Its index and term.
    pub id: LogId,
    /// What it holds, for people; none where no log has it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The hash of that, until it is known.
    #[serde(skip)]
    pub(crate) content: u64,
}

impl LogEntry {
    /// An entry of which no more is known than the [hash](crate::hash) of what it holds.
    pub fn new(id: LogId, content: u64) -> Self {
        Self { id, text: None, content }
    }
}

impl Part {
    /// What a member did or has since a moment.
    pub fn of(member: NodeId, since: Stamp, what: Involvement) -> Self {
        Self { member: Some(member), since: Some(since), what }
    }

    /// The entry that it is about.
    pub(crate) fn entry(&self) -> Option<&LogEntry> {
        match &self.what {
            Involvement::Appends(entry)
            | Involvement::Holds(entry)
            | Involvement::Commits(entry)
            | Involvement::Acknowledges(entry)
            | Involvement::Persists(entry) => Some(entry),
            _ => None,
        }
    }

    /// The same, to be told more of.
    pub(crate) fn entry_mut(&mut self) -> Option<&mut LogEntry> {
        match &mut self.what {
            Involvement::Appends(entry)
            | Involvement::Holds(entry)
            | Involvement::Commits(entry)
            | Involvement::Acknowledges(entry)
            | Involvement::Persists(entry) => Some(entry),
            _ => None,
        }
    }

    /// Whether what it tells of lasts.
    fn lasts(&self) -> bool {
        matches!(
            self.what,
            Involvement::Leads { .. }
                | Involvement::Holds(_)
                | Involvement::HoldsNothing(_)
                | Involvement::Commits(_)
                | Involvement::Damaged { .. }
        )
    }
}

/// What an entry holds, for people.
pub(crate) fn shown(body: &EntryBody, show: impl FnOnce(&Payload) -> String) -> String {
    match body {
        EntryBody::Blank => "a blank entry".to_owned(),
        EntryBody::Data(payload) => show(payload),
        EntryBody::Config(membership) => format!("the membership {membership}"),
        EntryBody::Withheld => "an entry without its payload".to_owned(),
        EntryBody::Lost => "a lost entry".to_owned(),
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.at / 1_000_000, self.at / 1_000 % 1_000);
        write!(f, "step {} ({ms}.{us:03} ms)", self.step)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({text})", self.id),
            None => self.id.fmt(f),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.member, &self.what) {
            (_, Involvement::Operation(_)) => {}
            (Some(member), Involvement::Damaged { .. }) => write!(f, "the disk of member {member} ")?,
            (Some(member), _) => write!(f, "member {member} ")?,
            (None, _) => f.write_str("the group ")?,
        }
        match &self.what {
            Involvement::Acts => f.write_str("acts")?,
            Involvement::Leads { term } => write!(f, "leads term {term}")?,
            Involvement::Votes { candidate, term } => write!(f, "votes for {candidate} in term {term}")?,
            Involvement::Appends(entry) => write!(f, "is the first to append {entry}")?,
            Involvement::Holds(entry) => write!(f, "holds {entry}")?,
            Involvement::HoldsNothing(index) => write!(f, "holds no entry {index}")?,
            Involvement::HasLost(id) => write!(f, "finds that {id} is lost")?,
            Involvement::Commits(entry) => write!(f, "knows {entry} to be committed")?,
            Involvement::Acknowledges(entry) => write!(f, "tells a client that {entry} is committed")?,
            Involvement::Persists(entry) => write!(f, "reports {entry} as durable")?,
            Involvement::Applies { through, digest } => {
                write!(f, "has applied all through {through}, to the state {digest:016x}")?;
            }
            Involvement::Serves(index) => write!(f, "serves a read as of {index}")?,
            Involvement::Crashes { lost: 0 } => f.write_str("crashes, and loses no write")?,
            Involvement::Crashes { lost: 1 } => f.write_str("crashes, and loses a write")?,
            Involvement::Crashes { lost } => write!(f, "crashes, and loses {lost} writes")?,
            Involvement::Damaged { by } => write!(f, "is damaged by {}", by.name())?,
            Involvement::Operation(text) => f.write_str(text)?,
        }
        match self.since {
            Some(since) if self.lasts() => write!(f, ", since {since}"),
            Some(since) => write!(f, ", at {since}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_and_read_by_its_name() {
        let damaged = Involvement::Damaged { by: FaultKind::RotLog };
        let text = serde_json::to_string(&damaged).expect("plain data");
        assert_eq!(text, r#"{"damaged":{"by":"rot_log"}}"#);
        assert_eq!(serde_json::from_str::<Involvement>(&text).expect("just written"), damaged);
        let wrong = serde_json::from_str::<Involvement>(&text.replace("rot_log", "rust_log"));
        assert!(wrong.expect_err("there is none").to_string().starts_with("there is no fault `rust_log`"));
    }
}
