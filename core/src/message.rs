//! What members say to one another.

use crate::log::LogSlice;
use crate::types::{Index, LogId, NodeId, Term};
use core::fmt;

/// One message between two members. Messages may be lost, repeated, delayed and reordered at will.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// Who sent it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's term when it made this message, in every kind of message. A member that sees a later term than
    /// its own enters it; that is how all terms travel.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says. Each kind has only the fields it needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// "Would you vote for me in the term after this one?" Binds nobody (thesis 9.6).
    PreVote {
        /// The last entry of the asker's log.
        last: LogId,
    },
    /// The answer to [`Body::PreVote`].
    PreVoted {
        /// Whether a real vote would be given.
        granted: bool,
    },
    /// "Vote for me in this term" (paper §5.2).
    RequestVote {
        /// The last entry of the candidate's log.
        last: LogId,
    },
    /// The answer to [`Body::RequestVote`]. A grant leaves only once it is on the voter's disk.
    Voted {
        /// Whether the vote was given.
        granted: bool,
    },
    /// Entries, and how far the log is committed (paper §5.3).
    Append {
        /// The entries, and the one before them that must match.
        slice: LogSlice,
        /// The leader's commit index.
        commit: Index,
    },
    /// "My log matches yours through here, on my disk."
    Appended {
        /// The last index known to match.
        matched: Index,
    },
    /// "My log does not have the entry before those."
    Rejected {
        /// The index of the entry that is missing or different: [`LogSlice::prev`] of the refused append.
        prev: Index,
        /// The last entry of the follower's log that the leader could share.
        hint: LogId,
    },
    /// "I still lead"; sent at regular intervals.
    Heartbeat {
        /// Which heartbeat of this leader it is.
        round: u64,
        /// How far the follower may commit.
        commit: Index,
    },
    /// The answer to [`Body::Heartbeat`].
    HeartbeatAck {
        /// The heartbeat it answers.
        round: u64,
        /// The follower's log agrees with the leader's through here, whether on its disk or not.
        received: Index,
        /// The same, on its disk: what [`Body::Appended`] says, in case that was lost.
        matched: Index,
    },
    /// "The commit index has moved." Sent when there are no entries to carry the news; never answered, since a
    /// heartbeat repeats it.
    Commit {
        /// How far the follower may commit.
        commit: Index,
    },
    /// "Your term is over": the answer to any question asked in an earlier term. The later term stands in
    /// [`Message::term`].
    Outdated,
}

impl Message {
    /// Whether its fields agree with one another, as those of every honest sender do.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.term <= Term::MAX
            && match &self.body {
                Body::PreVote { last } | Body::RequestVote { last } => last.term <= self.term,
                Body::Append { slice, .. } => {
                    slice.last().term <= self.term && slice.last().index <= Index::MAX
                }
                Body::Rejected { prev, hint } => hint.index <= *prev && *prev <= Index::MAX,
                Body::Appended { matched } => *matched <= Index::MAX,
                Body::HeartbeatAck { received, matched, .. } => {
                    matched <= received && *received <= Index::MAX
                }
                Body::PreVoted { .. }
                | Body::Voted { .. }
                | Body::Heartbeat { .. }
                | Body::Commit { .. }
                | Body::Outdated => true,
            }
    }
}

impl Body {
    /// Whether only the leader of the message's term may say this.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Heartbeat { .. } | Self::Commit { .. })
    }

    /// Whether this asks for a vote or a promise of one.
    pub(crate) fn asks_for_vote(&self) -> bool {
        matches!(self, Self::PreVote { .. } | Self::RequestVote { .. })
    }
}

/// One line, as in the scripts of tests/data: `1→2 t3 Append prev=4:2 [5:3 "x"] commit=4`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} t{} {}", self.from, self.to, self.term, self.body)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granted = |granted| if granted { "yes" } else { "no" };
        match self {
            Self::PreVote { last } => write!(f, "PreVote last={last}"),
            Self::PreVoted { granted: g } => write!(f, "PreVoted {}", granted(*g)),
            Self::RequestVote { last } => write!(f, "RequestVote last={last}"),
            Self::Voted { granted: g } => write!(f, "Voted {}", granted(*g)),
            Self::Append { slice, commit } => {
                write!(f, "Append prev={} {} commit={commit}", slice.prev(), slice.entries())
            }
            Self::Appended { matched } => write!(f, "Appended matched={matched}"),
            Self::Rejected { prev, hint } => write!(f, "Rejected prev={prev} hint={hint}"),
            Self::Heartbeat { round, commit } => write!(f, "Heartbeat round={round} commit={commit}"),
            Self::HeartbeatAck { round, received, matched } => {
                write!(f, "HeartbeatAck round={round} received={received} matched={matched}")
            }
            Self::Commit { commit } => write!(f, "Commit commit={commit}"),
            Self::Outdated => f.write_str("Outdated"),
        }
    }
}
