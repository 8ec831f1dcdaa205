//! What goes into a [`Formation`](crate::replica::formation::Formation) and what comes out of it: plain data.

use crate::membership::{Change, MemberKind};
use crate::replica::formation::record::{Introduction, Record, Who};
use crate::time::Nanos;
use crate::types::{ClusterId, Index, LogId, NodeId};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How a member comes to its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plan {
    /// It is in one already; if not, it must not start.
    Resume,
    /// It is one of the first members: all of these.
    Found(Vec<(NodeId, String)>),
    /// It joins the group of the member at this address.
    Join(String),
}

/// What a formation is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// How the member comes to its group.
    pub plan: Plan,
    /// The name that the group must have, if one is given.
    pub wanted: Option<ClusterId>,
    /// The name of the group if this member founds it and none is given: drawn from the system's entropy.
    pub drawn: ClusterId,
    /// Whether the member joins as a witness.
    pub witness: bool,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time has passed. To be sent no later than
    /// [`Formation::deadline`](crate::replica::formation::Formation::deadline).
    Wake,
    /// A question was answered, or not. Each [`Output::Ask`] comes back exactly once.
    Answered {
        /// Which question.
        question: QuestionId,
        /// The answer, or why there is none.
        answer: Result<Reply, String>,
    },
    /// The record of the last [`Output::Store`] is durable.
    Stored,
    /// The member's place in its group has changed, as its replica sees it.
    Placed(Place),
}

/// A member's place in its group, as its own replica sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Whether it knows a membership at all.
    pub is_configured: bool,
    /// Whether that membership is known to be committed.
    pub is_committed: bool,
    /// What the latest membership that it knows takes it for.
    pub kind: MemberKind,
    /// The leader, if it knows one.
    pub leader: Option<NodeId>,
}

impl Place {
    /// The place of a member whose membership is that of the entry at `configured`.
    pub fn new(configured: Index, committed: Index, kind: MemberKind, leader: Option<NodeId>) -> Self {
        let is_configured = configured > Index::ZERO || kind != MemberKind::NonMember;
        Self { is_configured, is_committed: configured <= committed, kind, leader }
    }
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Ask the peer at this address, and report with [`Input::Answered`] no later than after `patience`.
    Ask {
        /// The number of the question.
        question: QuestionId,
        /// Whom: `host:port`. A name is to be resolved anew.
        address: String,
        /// What.
        ask: Question,
        /// How long an answer is waited for.
        patience: Nanos,
    },
    /// Write the record down, and report with [`Input::Stored`] when it is durable.
    Store(Record),
    /// The member has a group: start its replica. If the record has founders and the log is new, the group
    /// begins with them.
    Enter(Record),
    /// Keep connections to these members: they learn this member's address in the handshake.
    Connect(Vec<NodeId>),
    /// Tell the operator.
    Report(Report),
    /// The member cannot come to a group. The last of all outputs.
    Fail(FormationError),
}

/// The number of a question. Numbers begin anew with each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QuestionId(pub u64);

/// What a member may be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// "I am this member. Who are you?"
    Introduce(Introduction),
    /// "Change the membership like this; here is where I am to be reached."
    Change(Change, Introduction),
}

/// What may come of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The peer has identified itself.
    Who(Who),
    /// The change is committed.
    Changed(LogId),
    /// The leader has given up waiting until this member has caught up.
    NotCaughtUp,
    /// It was not done.
    Refused(ChangeRefused),
    /// Leadership was lost: the change may come to pass, or not.
    Unknown,
}

/// Why a change of the membership was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeRefused {
    /// The reason, and what to do.
    pub reason: String,
    /// Whether the same request may be taken a little later, or elsewhere.
    pub is_passing: bool,
    /// Whether this member is in the group already.
    pub is_member: bool,
    /// Who leads, and where the leader is to be reached, as far as the peer knows.
    pub leader: Option<(NodeId, Option<String>)>,
}

/// What an operator may want to know of a formation under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The group is not founded: these first members have not been found.
    FoundersMissing(Vec<MissingFounder>),
    /// All first members are there; this one, which has the lowest id, founds the group.
    FounderAwaited(NodeId),
    /// The member to join by has no group yet.
    SeedHasNoGroup {
        /// The member.
        member: NodeId,
        /// Its address.
        address: String,
    },
    /// The member to join by does not answer.
    SeedSilent {
        /// Its address.
        address: String,
        /// Why there is no answer.
        why: String,
    },
    /// The member at this address is of another group than this one.
    SeedOfOtherGroup {
        /// Its address.
        address: String,
        /// Its group.
        found: ClusterId,
    },
    /// The member is a voter or a witness of its group now.
    Joined,
    /// The member has not caught up in time. It is a learner, and asks again.
    NotCaughtUp,
    /// The member was not added. It asks again.
    NotAdded {
        /// Why.
        reason: String,
        /// Whether an operator has to do something first.
        needs_operator: bool,
    },
    /// It is not known whether the member was added. It asks again.
    AdditionUnknown {
        /// Who was asked.
        address: String,
        /// Why there is no answer.
        why: String,
    },
}

/// A first member that was not found, and what was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingFounder {
    /// The member that is waited for.
    pub id: NodeId,
    /// Where it should be.
    pub address: String,
    /// The member that answers there instead.
    pub found: Option<NodeId>,
}

impl Report {
    /// Whether the member is not in a group yet, and this says what it waits for.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self,
            Self::FoundersMissing(_)
                | Self::FounderAwaited(_)
                | Self::SeedHasNoGroup { .. }
                | Self::SeedSilent { .. }
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FoundersMissing(missing) => {
                f.write_str("waiting for member ")?;
                for (at, MissingFounder { id, address, found }) in missing.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    match found {
                        Some(found) => write!(f, "{comma}{id} (member {found} is at {address})")?,
                        None => write!(f, "{comma}{id} at {address}")?,
                    }
                }
                Ok(())
            }
            Self::FounderAwaited(id) => write!(f, "waiting for member {id} to found the group"),
            Self::SeedHasNoGroup { member, address } => {
                write!(f, "waiting for member {member} at {address}, which has no group yet")
            }
            Self::SeedSilent { address, why } => write!(f, "waiting for the member at {address}: {why}"),
            Self::SeedOfOtherGroup { address, found } => write!(
                f,
                "the member at {address} is of group {found}, not of this one: correct the address to join by"
            ),
            Self::Joined => f.write_str("joined the group"),
            Self::NotCaughtUp => {
                f.write_str("did not catch up in time: a learner, asks again to be promoted")
            }
            Self::NotAdded { reason, needs_operator: true } => write!(f, "cannot join: {reason}"),
            Self::NotAdded { reason, needs_operator: false } => write!(f, "not added yet: {reason}"),
            Self::AdditionUnknown { address, why } => {
                write!(f, "asked {address} to be added, and do not know what came of it: {why}")
            }
        }
    }
}

/// Why a member cannot come to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormationError {
    /// The directory is new, and no group is named.
    NoPlan,
    /// The list of the first members lacks this one.
    NotListed(NodeId),
    /// The group was founded without this member.
    NotFounder(ClusterId),
    /// The group has this member's id under another incarnation.
    OtherIncarnation(ClusterId),
    /// The directory is of another group than it should be.
    OtherCluster {
        /// The group that the directory is of.
        found: ClusterId,
        /// The one that it should be.
        wanted: ClusterId,
    },
}

impl fmt::Display for FormationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlan => f.write_str(
                "the directory is new and no group is named: name the first members (peers), or a member of the \
                 group to join (join)",
            ),
            Self::NotListed(id) => {
                write!(f, "the list of the first members lacks member {id}: start all of them with the same list")
            }
            Self::NotFounder(cluster) => {
                write!(f, "group {cluster} was founded without this member: join it instead")
            }
            Self::OtherIncarnation(cluster) => write!(
                f,
                "group {cluster} knows this member by another incarnation: its directory was lost or emptied; \
                 remove the member from the group, and join again"
            ),
            Self::OtherCluster { found, wanted } => {
                write!(f, "the directory is of group {found}, not of {wanted}: give the member its own")
            }
        }
    }
}

impl core::error::Error for FormationError {}
