//! What members say to one another.

use crate::log::{LogSlice, Snapshot};
use crate::status::PauseReason;
use crate::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, Term};
use core::fmt;

/// One message between two members. Messages may be lost, repeated, delayed and reordered at will.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// Whose it is: no other cluster listens to it.
    pub cluster: ClusterId,
    /// Who sent it.
    pub from: Member,
    /// Whom it is for.
    pub to: Member,
    /// The sender's term when it made this message, in every kind of message. A member that sees a later term
    /// than its own enters it; that is how all terms travel.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says. Each kind has only the fields it needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// "Would you vote for me in the term after this one?" The answer is no promise (thesis 9.6).
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
        /// Whether the leader itself has bidden the candidate to stand: loyalty to that leader is then no
        /// reason to refuse (thesis 3.10).
        transfer: bool,
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
    /// "The commit index has moved." Sent when there are no entries to carry the news; never answered, since
    /// a heartbeat repeats it.
    Commit {
        /// How far the follower may commit.
        commit: Index,
    },
    /// "Stand for election now": from a leader to the one who has all of its log (thesis 3.10).
    TimeoutNow {
        /// The last entry of the leader's log.
        last: LogId,
    },
    /// "What you lack is no longer in my log. Get this snapshot instead" (paper §7). Only what it is; the
    /// bytes are the hosts' affair.
    OfferSnapshot {
        /// What it is.
        snapshot: Snapshot,
    },
    /// "I could not get the snapshot that you offered."
    SnapshotUnavailable {
        /// Its last entry.
        last: LogId,
    },
    /// "How far is the log committed?" From a follower that was asked to read.
    ReadIndex {
        /// Which question it is.
        context: ReadContext,
    },
    /// The answer to [`Body::ReadIndex`]: the leader still led when it had been asked, and this was
    /// committed.
    ReadIndexIs {
        /// The question.
        context: ReadContext,
        /// How far the asker must have applied the log before it reads.
        index: Index,
    },
    /// "You mean another incarnation of me."
    WrongIncarnation,
    /// "My group has your id under another incarnation." The answer to [`Body::WrongIncarnation`].
    StaleIncarnation {
        /// Which.
        incarnation: Incarnation,
    },
    /// "Your term is over": the answer to any question asked in an earlier term. The later term stands in
    /// [`Message::term`].
    Outdated,
    /// "My disk has damaged the entries after the one id through the other. Have you got them?" To any
    /// member: an entry of the same id is the same entry (paper §5.3).
    RepairRequest {
        /// The entry before the first.
        after: LogId,
        /// The last.
        through: LogId,
    },
    /// "My disk has damaged the snapshot with this last entry. Have you got one that goes as far?" To any
    /// member.
    RepairSnapshotRequest {
        /// The last entry in it.
        last: LogId,
    },
    /// "Here is some of what you miss." The answer to [`Body::RepairRequest`].
    RepairResponse {
        /// The entries, after the one that was named.
        slice: LogSlice,
    },
    /// "What you miss is in this snapshot: fetch it from me." The answer to [`Body::RepairRequest`] and
    /// [`Body::RepairSnapshotRequest`].
    RepairSnapshot {
        /// Which.
        snapshot: Snapshot,
    },
    /// "I follow you, and take no entries at present: send none." Takes the place of [`Body::HeartbeatAck`]
    /// for as long as that is so, and answers the first append that is dropped. The next
    /// [`Body::HeartbeatAck`] ends it, and is sent at once when it does.
    Pause {
        /// The last heartbeat that the follower has heard, or the one that this answers.
        round: u64,
        /// The follower's log agrees with the leader's through here, whether on its disk or not.
        received: Index,
        /// The same, on its disk.
        matched: Index,
        /// The last entry of the follower's log: the leader may ask whether more agrees.
        last: LogId,
        /// Why it takes none.
        reason: PauseReason,
    },
}

/// Which question of which life of its asker: an answer to a question of an earlier life must not pass for
/// one of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadContext {
    /// How often the asker has started: its disk remembers.
    pub start: u64,
    /// Which question since.
    pub number: u64,
}

impl Message {
    /// A message of the member `from`.
    pub fn new(from: Identity, to: Member, term: Term, body: Body) -> Self {
        Self { cluster: from.cluster, from: from.member, to, term, body }
    }

    /// Whether its fields agree with one another, as those of every honest sender do.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.term <= Term::MAX
            && match &self.body {
                Body::PreVote { last } | Body::RequestVote { last, .. } | Body::TimeoutNow { last } => {
                    last.term <= self.term
                }
                Body::OfferSnapshot { snapshot } | Body::RepairSnapshot { snapshot } => {
                    snapshot.last.term <= self.term
                        && snapshot.last.index <= Index::MAX
                        && snapshot.is_well_formed()
                }
                Body::ReadIndexIs { index, .. } => *index <= Index::MAX,
                Body::Append { slice, .. } | Body::RepairResponse { slice } => {
                    slice.last().term <= self.term && slice.last().index <= Index::MAX
                }
                Body::Rejected { prev, hint } => hint.index <= *prev && *prev <= Index::MAX,
                Body::Appended { matched } => *matched <= Index::MAX,
                Body::RepairRequest { after, through } => after < through && through.index <= Index::MAX,
                Body::RepairSnapshotRequest { last } => last.index <= Index::MAX,
                Body::HeartbeatAck { received, matched, .. } => {
                    matched <= received && *received <= Index::MAX
                }
                Body::Pause { received, matched, last, .. } => {
                    matched <= received
                        && *received <= last.index
                        && last.index <= Index::MAX
                        && last.term <= self.term
                }
                Body::PreVoted { .. }
                | Body::Voted { .. }
                | Body::Heartbeat { .. }
                | Body::Commit { .. }
                | Body::SnapshotUnavailable { .. }
                | Body::ReadIndex { .. }
                | Body::WrongIncarnation
                | Body::StaleIncarnation { .. }
                | Body::Outdated => true,
            }
    }
}

impl Body {
    /// Whether only the leader of the message's term may say this.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Self::Append { .. }
                | Self::Heartbeat { .. }
                | Self::Commit { .. }
                | Self::TimeoutNow { .. }
                | Self::OfferSnapshot { .. }
        )
    }

    /// Whether this is an answer: only a peer that was asked may send it.
    pub(crate) fn is_answer(&self) -> bool {
        !self.is_from_leader() && !self.asks_for_vote() && !self.asks_for_repair()
    }

    /// Whether this asks for what a disk has damaged.
    pub(crate) fn asks_for_repair(&self) -> bool {
        matches!(self, Self::RepairRequest { .. } | Self::RepairSnapshotRequest { .. })
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
            Self::RequestVote { last, transfer } => {
                write!(f, "RequestVote last={last}{}", if *transfer { " transfer" } else { "" })
            }
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
            Self::TimeoutNow { last } => write!(f, "TimeoutNow last={last}"),
            Self::OfferSnapshot { snapshot } => {
                write!(f, "OfferSnapshot {} {}", snapshot.last, snapshot.membership)
            }
            Self::SnapshotUnavailable { last } => write!(f, "SnapshotUnavailable {last}"),
            Self::ReadIndex { context } => write!(f, "ReadIndex {}.{}", context.start, context.number),
            Self::ReadIndexIs { context, index } => {
                write!(f, "ReadIndexIs {}.{} index={index}", context.start, context.number)
            }
            Self::WrongIncarnation => f.write_str("WrongIncarnation"),
            Self::StaleIncarnation { incarnation } => write!(f, "StaleIncarnation, known as {incarnation:?}"),
            Self::Outdated => f.write_str("Outdated"),
            Self::RepairRequest { after, through } => {
                write!(f, "RepairRequest after={after} through={through}")
            }
            Self::RepairSnapshotRequest { last } => write!(f, "RepairSnapshotRequest {last}"),
            Self::RepairResponse { slice } => {
                write!(f, "RepairResponse prev={} {}", slice.prev(), slice.entries())
            }
            Self::RepairSnapshot { snapshot } => {
                write!(f, "RepairSnapshot {} {}", snapshot.last, snapshot.membership)
            }
            Self::Pause { round, received, matched, last, reason } => {
                write!(f, "Pause {reason} round={round} received={received} matched={matched} last={last}")
            }
        }
    }
}
