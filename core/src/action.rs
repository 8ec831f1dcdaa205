//! What the kernel tells its host to do.

use crate::log::Entries;
use crate::message::Message;
use crate::types::{Ballot, Index, LogId, NodeId, RequestId, Term, WriteSeq};
use core::fmt;

/// Something for the host to do. There is nothing to get wrong about their order: whatever must wait for the disk is
/// withheld by the kernel until [`Event::Persisted`](crate::event::Event::Persisted).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Action {
    /// Send this message, at once and without waiting for anything. It may get lost.
    Send(Message),
    /// Put this on the disk. Carry writes out in the order in which they come, and report the last that is durable.
    Persist(Write),
    /// Apply the entries after the last ones named, through `through`, in order: read them with
    /// [`Log::entries`](crate::log::Log::entries). They are committed and on this member's disk. Report with
    /// [`Event::Applied`](crate::event::Event::Applied).
    Apply {
        /// The last entry to apply.
        through: Index,
    },
    /// The one answer to a request.
    Respond {
        /// Which request.
        request: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Safety is already broken, here or elsewhere: stop this member and call a human. Said once; afterwards the
    /// member answers no peer and refuses every request.
    Halt(Violation),
}

/// One atomic write: after a crash, either all of it is there or nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Write {
    /// Its number in the stream of writes.
    pub seq: WriteSeq,
    /// The term and vote to remember, whether they changed or not, so that no entry is ever durable before the term
    /// that wrote it.
    pub ballot: Ballot,
    /// Where set, first forget every entry after this index.
    pub truncate_after: Option<Index>,
    /// Then append these.
    pub append: Entries,
    /// How far the log, as it is after this write, was known to be committed. Saves a restarted member the wait for
    /// a leader's word; may be lost without harm.
    pub committed: Index,
}

/// What became of a request. Each gets exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// The proposal is committed, as this entry, and will never be lost.
    Committed(LogId),
    /// Nothing was done, and nothing will be.
    Refused(Refusal),
    /// Leadership was lost while the proposal was on its way: it may commit, or not. Ask the new leader before
    /// proposing it again, or make it harmless to apply twice.
    Unknown,
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// Only the leader takes proposals.
    NotLeader {
        /// Who leads, where this member knows; ask there.
        leader: Option<NodeId>,
    },
    /// Too much waits to be committed already; try again when some of it is.
    Busy,
    /// The payload is larger than [`Options::max_payload_bytes`](crate::config::Options::max_payload_bytes).
    TooLarge {
        /// The largest payload that is taken.
        max: u64,
    },
    /// This member has halted.
    Halted,
}

/// Proof that safety is broken, or that the host breaks its side of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Violation {
    /// Two members act as leader of one term.
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader that was known.
        known: NodeId,
        /// The other.
        other: NodeId,
    },
    /// A leader's log contradicts an entry that is committed here, or that the same leader has sent before.
    AgreedEntryContradicted {
        /// The entry here.
        ours: LogId,
        /// What the leader has in its place.
        theirs: LogId,
    },
    /// The host reported a write as durable that was never handed out.
    UnknownWrite(WriteSeq),
    /// The host reported an entry as applied that was never handed out to be.
    UnknownApply(Index),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(id) => write!(f, "committed as {id}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Unknown => f.write_str("unknown: leadership was lost, it may commit or not"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader: ask member {leader}"),
            Self::NotLeader { leader: None } => {
                f.write_str("not the leader, and none is known: try again later")
            }
            Self::Busy => f.write_str("busy: too much waits to be committed, try again later"),
            Self::TooLarge { max } => write!(f, "too large: propose at most {max} bytes at a time"),
            Self::Halted => f.write_str("halted: this member takes no further part, call its operator"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoLeaders { term, known, other } => {
                write!(f, "members {known} and {other} both lead term {term}")
            }
            Self::AgreedEntryContradicted { ours, theirs } => {
                write!(f, "entry {ours} was agreed upon, and a leader has {theirs} in its place")
            }
            Self::UnknownWrite(seq) => {
                write!(f, "the host reported write {} durable, which was never handed out", seq.get())
            }
            Self::UnknownApply(index) => {
                write!(f, "the host reported entry {index} applied, which was never handed out")
            }
        }
    }
}

impl core::error::Error for Refusal {}
impl core::error::Error for Violation {}
