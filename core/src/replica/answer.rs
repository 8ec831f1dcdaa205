//! What requests come to, and why members end.

use crate::action;
use crate::action::Violation;
use crate::machine::{self, ApplyError, BadSnapshot};
use crate::replica::page::LogPage;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId};
use crate::wal::{Damage, DiskError};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What became of a request. Hosts that send answers on choose other forms of the refusal `R` and of the
/// entries `P`: see [`map`](Self::map).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Answer<R = ReplicaRefusal, P = LogPage> {
    /// The command is committed and applied.
    Applied {
        /// The entry that holds it.
        id: LogId,
        /// What the state machine made of it.
        answer: machine::Answer,
    },
    /// The command is committed as this entry and applied everywhere, but this member cannot say what its
    /// answer was: a snapshot took the entry's place, or the member stops. In a session, the same command
    /// again brings it.
    Unanswered(LogId),
    /// The state machine's answer to a query.
    Read {
        /// It held everything through here at least.
        index: Index,
        /// For a read by lease: see [`Outcome::Ready`](crate::action::Outcome::Ready). It is a time of this
        /// host's clock, so it is not serialized.
        #[cfg_attr(feature = "serde", serde(skip))]
        until: Option<Instant>,
        /// The answer.
        answer: Vec<u8>,
    },
    /// The new membership is committed, as this entry.
    Reconfigured(LogId),
    /// This newcomer did not catch up in time: it stays a learner. Nothing else of the request was done.
    NotCaughtUp(NodeId),
    /// The change of the membership was given up while it waited for newcomers, which stay learners; or this
    /// request has given it up.
    Cancelled,
    /// This member leads no more.
    Transferred,
    /// The chosen member did not take over in time, and this member leads on.
    NotTransferred,
    /// There is a snapshot of everything through this entry.
    Snapshot(LogId),
    /// Entries of the log.
    Entries(P),
    /// Nothing was done, and nothing will be.
    Refused(R),
    /// It may come to pass, or not. In a session, the same command again is applied once and brings the
    /// answer.
    Unknown,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaRefusal {
    /// By the kernel.
    Raft(action::Refusal),
    /// Too many requests wait already.
    TooMany,
    /// The query is longer than
    /// [`Options::max_query_bytes`](crate::replica::ReplicaOptions::max_query_bytes).
    QueryTooLarge {
        /// The longest that is taken.
        max: u64,
    },
    /// A witness has no state machine.
    Witness,
    /// A snapshot is being taken or fetched already.
    SnapshotUnderWay,
    /// There is nothing applied yet that a snapshot could hold.
    NothingToSnapshot,
    /// There is no space for a snapshot.
    DiskFull,
    /// The member's directory is damaged beyond what others can mend: this is what is missing.
    Damaged(String),
    /// These entries have left the log: a snapshot holds what they did.
    Compacted {
        /// The first entry that is still there.
        first: Index,
    },
    /// This entry is committed, and this member cannot read it.
    Unreadable {
        /// The entry.
        index: Index,
        /// The file that cannot be read; not set where the member knows already that its disk has lost the
        /// entry, and is about to get it from other members.
        damage: Option<Damage>,
    },
}

/// Why a member goes no further.
#[derive(Clone, PartialEq, Debug)]
pub enum Halt {
    /// It was shut down, and everything that was to be written is.
    Stopped,
    /// Safety is broken, here or elsewhere.
    Violation(Violation),
    /// The disk failed: what is on it is not known any more. Start the member again: it recovers from what is
    /// truly there.
    Disk(DiskError),
    /// What the disk acknowledged cannot be read back. Start the member again: recovery finds what is
    /// damaged, and gets it from the others.
    Damaged(Damage),
    /// A snapshot that is whole is none of this state machine.
    Restore(BadSnapshot),
    /// What was read back from the disk is not what follows in the log.
    Apply(ApplyError),
}

impl<R, P> Answer<R, P> {
    /// Returns the answer with its refusal and its entries in another form.
    pub fn map<S, Q>(self, refusal: impl FnOnce(R) -> S, entries: impl FnOnce(P) -> Q) -> Answer<S, Q> {
        match self {
            Self::Applied { id, answer } => Answer::Applied { id, answer },
            Self::Unanswered(id) => Answer::Unanswered(id),
            Self::Read { index, until, answer } => Answer::Read { index, until, answer },
            Self::Reconfigured(id) => Answer::Reconfigured(id),
            Self::NotCaughtUp(id) => Answer::NotCaughtUp(id),
            Self::Cancelled => Answer::Cancelled,
            Self::Transferred => Answer::Transferred,
            Self::NotTransferred => Answer::NotTransferred,
            Self::Snapshot(id) => Answer::Snapshot(id),
            Self::Entries(page) => Answer::Entries(entries(page)),
            Self::Refused(reason) => Answer::Refused(refusal(reason)),
            Self::Unknown => Answer::Unknown,
        }
    }
}

impl ReplicaRefusal {
    /// The reason as one word: the same in logs, metrics and simulations.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Raft(refusal) => refusal.code(),
            Self::TooMany => "too_many",
            Self::QueryTooLarge { .. } => "query_too_large",
            Self::Witness => "witness",
            Self::SnapshotUnderWay => "snapshot_under_way",
            Self::NothingToSnapshot => "nothing_to_snapshot",
            Self::DiskFull => "no_space_for_snapshot",
            Self::Damaged(_) => "damaged",
            Self::Compacted { .. } => "compacted",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Whether the same request may be taken a little later, or by another member. Where not, it is the
    /// request that is wrong.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Raft(refusal) => refusal.is_retryable(),
            Self::QueryTooLarge { .. } | Self::Compacted { .. } => false,
            Self::TooMany
            | Self::Witness
            | Self::SnapshotUnderWay
            | Self::NothingToSnapshot
            | Self::DiskFull
            | Self::Damaged(_)
            | Self::Unreadable { .. } => true,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { id, answer } => write!(f, "committed as {id}: {answer}"),
            Self::Unanswered(id) => {
                write!(f, "committed as {id}, but its answer is not known here: in a session, send it again")
            }
            Self::Read { index, answer, .. } => write!(f, "{} bytes, read at {index}", answer.len()),
            Self::Reconfigured(id) => write!(f, "the membership is that of entry {id}"),
            Self::NotCaughtUp(id) => {
                write!(f, "member {id} did not catch up: it stays a learner, remove it or promote it later")
            }
            Self::Cancelled => {
                f.write_str("cancelled: newcomers stay learners, remove them or promote them later")
            }
            Self::Transferred => f.write_str("transferred"),
            Self::NotTransferred => f.write_str("not transferred: no member took over in time"),
            Self::Snapshot(id) => write!(f, "there is a snapshot through {id}"),
            Self::Entries(page) => write!(f, "{} entries after {}", page.entries.len(), page.after),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Unknown => f.write_str(
                "unknown: it may commit or not; in a session, send it again under the same number",
            ),
        }
    }
}

impl fmt::Display for ReplicaRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raft(refusal) => refusal.fmt(f),
            Self::TooMany => f.write_str("too many requests wait already: try again later"),
            Self::QueryTooLarge { max } => write!(f, "the query is too large: ask with at most {max} bytes"),
            Self::Witness => f.write_str("a witness has no state machine: ask another member"),
            Self::SnapshotUnderWay => f.write_str("a snapshot is under way: try again when it is there"),
            Self::NothingToSnapshot => {
                f.write_str("there is nothing applied that a snapshot could hold: try again later")
            }
            Self::DiskFull => f.write_str("there is no space for a snapshot: make space"),
            Self::Damaged(missing) => {
                write!(
                    f,
                    "this member's directory is damaged: {missing}; replace the member, and ask another"
                )
            }
            Self::Compacted { first } => write!(
                f,
                "the log begins with entry {first}: what was before is in a snapshot, begin from the state machine"
            ),
            Self::Unreadable { index, damage: Some(Damage(file)) } => write!(
                f,
                "entry {index} cannot be read, {file} is damaged: restart this member, it then gets the entry from others; or ask another member"
            ),
            Self::Unreadable { index, damage: None } => write!(
                f,
                "this member's disk has lost entry {index} and gets it from others: try again later, or ask another member"
            ),
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped: everything that was to be written is"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Disk(error) => {
                write!(
                    f,
                    "{error}: nothing more is written; start the member again, it recovers from what is truly there"
                )
            }
            Self::Damaged(damage) => {
                write!(f, "{damage}: start the member again, it gets what is damaged from the others")
            }
            Self::Restore(error) => {
                write!(f, "{error}: is this the state machine that the snapshot was taken of?")
            }
            Self::Apply(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReplicaRefusal {}
impl core::error::Error for Halt {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_wrong_is_not_tried_again() {
        let compacted = ReplicaRefusal::Compacted { first: Index::ZERO };
        assert!(!compacted.is_retryable() && ReplicaRefusal::TooMany.is_retryable());
        let refused = |refusal| ReplicaRefusal::Raft(refusal).is_retryable();
        assert!(refused(action::Refusal::Busy) && !refused(action::Refusal::TooLarge { max: 1 }));
    }
}
